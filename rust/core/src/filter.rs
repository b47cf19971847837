//! Which rows a search, a scan or a training run may see, as the caller says it.

/// Conditions joined by "and"; `None` asks nothing. Names are resolved to row numbers by the store.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// Any of these task types.
    pub task_types: Option<Vec<String>>,
    /// Any of these episodes.
    pub episodes: Option<Vec<String>>,
    /// Any of these patterns.
    pub patterns: Option<Vec<String>>,
    /// This agent type.
    pub agent_type: Option<String>,
    /// A computed return of at least this; a row without one never matches.
    pub min_return: Option<f64>,
    /// A reward of at least this.
    pub min_reward: Option<f64>,
    /// An episode whose total reward is at least this.
    pub min_episode_reward: Option<f64>,
    /// At this time (ms) or later.
    pub after_timestamp: Option<i64>,
    /// Before this time (ms).
    pub before_timestamp: Option<i64>,
    /// Whether the step succeeded: its own `success` if it says, else reward > 0.5.
    pub success: Option<bool>,
}

impl Filter {
    /// Whether every row matches.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
