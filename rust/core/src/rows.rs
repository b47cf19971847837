//! Trajectories by columns: what goes into a store in bulk and what comes out of it.

use std::collections::HashMap;

/// Strings that repeat, as a dictionary and one code a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// The distinct strings.
    pub names: Vec<String>,
    /// For each row, a position in `names`.
    pub codes: Vec<u32>,
}

impl Labels {
    /// The string of row `row`.
    pub fn get(&self, row: usize) -> &str {
        &self.names[self.codes[row] as usize]
    }

    /// Every row has the same string.
    pub fn repeated(name: impl Into<String>, rows: usize) -> Self {
        Self { names: vec![name.into()], codes: vec![0; rows] }
    }
}

impl<S: Into<String>> FromIterator<S> for Labels {
    fn from_iter<I: IntoIterator<Item = S>>(strings: I) -> Self {
        let mut labels = Self::default();
        let mut known = HashMap::new();
        for text in strings {
            let text = text.into();
            let code = *known.entry(text).or_insert_with_key(|text: &String| {
                labels.names.push(text.clone());
                labels.names.len() as u32 - 1
            });
            labels.codes.push(code);
        }
        labels
    }
}

/// Many trajectories, a column a field, all of `len` rows. An absent optional column is `None`; an absent value in a
/// present one is `None` there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// How many.
    pub len: usize,
    /// `[len, dimension]`.
    pub states: Vec<f32>,
    /// `[len, action_dimension]`.
    pub actions: Vec<f32>,
    /// Rewards.
    pub rewards: Vec<f64>,
    /// Returns to go; NaN = not computed.
    pub returns: Vec<f64>,
    /// The pattern each action belongs to.
    pub patterns: Labels,
    /// The episode of each step.
    pub episodes: Labels,
    /// The kind of task.
    pub task_types: Labels,
    /// Milliseconds since 1970. `None` = the moment of the insert.
    pub timestamps: Option<Vec<Option<i64>>>,
    /// Positions within the episode.
    pub step_indices: Option<Vec<Option<i64>>>,
    /// The environment ended the episode here.
    pub terminated: Option<Vec<bool>>,
    /// The episode was cut off here.
    pub truncated: Option<Vec<bool>>,
    /// Durations in ms.
    pub durations: Option<Vec<Option<i64>>>,
    /// Tokens used.
    pub tokens_used: Option<Vec<Option<i64>>>,
    /// Context lengths.
    pub context_lengths: Option<Vec<Option<i64>>>,
    /// Agent types; the inner `None` is a row without one.
    pub agent_types: Option<Vec<Option<String>>>,
    /// Task ids.
    pub task_ids: Option<Vec<Option<String>>>,
    /// What the caller said of the step's success.
    pub successes: Option<Vec<Option<bool>>>,
    /// Qualities in [0, 1].
    pub qualities: Option<Vec<Option<f64>>>,
    /// JSON objects.
    pub extras: Option<Vec<Option<String>>>,
    /// JSON objects.
    pub action_metadata: Option<Vec<Option<String>>>,
    /// Public ids, when read back.
    pub ids: Vec<crate::ids::TrajectoryId>,
    /// Row keys, when read back.
    pub keys: Vec<crate::ids::RowKey>,
}
