//! What a trainer asks of a store.

use crate::error::Result;
use crate::filter::Filter;
use crate::ids::RowKey;

/// Episodes by columns, whole and in order: step `i` of episode `e` is at `bounds[e] + i`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Episodes {
    /// The episodes' names.
    pub names: Vec<String>,
    /// Where each episode's steps begin, and where the last one's end: one longer than `names`.
    pub bounds: Vec<usize>,
    /// Sums of rewards, one an episode.
    pub total_rewards: Vec<f64>,
    /// Whether the last step was truncated and not terminated, one an episode.
    pub cut_off: Vec<bool>,
    /// Row keys, one a step, as all below.
    pub keys: Vec<RowKey>,
    /// Rewards.
    pub rewards: Vec<f64>,
    /// Stored returns to go; NaN = not computed.
    pub returns: Vec<f64>,
    /// Positions in `pattern_names`.
    pub patterns: Vec<u32>,
    /// The distinct patterns.
    pub pattern_names: Vec<String>,
    /// Positions in `task_type_names`.
    pub task_types: Vec<u32>,
    /// The distinct task types.
    pub task_type_names: Vec<String>,
    /// Durations in ms; 0 = unknown.
    pub durations: Vec<i64>,
    /// Whether the step matches the filter.
    pub selected: Vec<bool>,
}

/// Recorded episodes, wherever they are kept. The store is one; tests bring their own.
pub trait Experience: Sync {
    /// An error once nothing more can be read: what was read before is then not to be worked on either.
    fn check_open(&self) -> Result<()>;

    /// The dimensions of a state.
    fn state_size(&self) -> usize;

    /// The dimensions of an action.
    fn action_size(&self) -> usize;

    /// The episodes with at least one step that matches, whole.
    fn episodes(&self, filter: &Filter) -> Result<Episodes>;

    /// Reads the states and the actions of `keys` into the slices that are given, row after row in the order of
    /// `keys`. Any order is allowed, rising keys are fastest. A key that is gone is an error.
    fn read_vectors(
        &self,
        keys: &[RowKey],
        states: Option<&mut [f32]>,
        actions: Option<&mut [f32]>,
    ) -> Result<()>;

    /// The patterns that have an embedding, and those embeddings, one after the other.
    fn pattern_embeddings(&self) -> Result<(Vec<String>, Vec<f32>)>;

    /// The fingerprint of the encoder that made the states, if one is known.
    fn encoder(&self) -> Option<String>;
}
