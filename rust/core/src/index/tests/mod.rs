//! The index against a plain list of rows.

mod answers;
mod brute;
mod cells;
mod life;
mod quantiles;
mod saving;
mod searches;
mod selected;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use super::*;
use crate::error::Error;
use crate::hnsw::Quantization;
use crate::kernel::Isa;

/// The file that a store would read, as a map; counts what is read.
#[derive(Default)]
pub(super) struct Shelf {
    states: BTreeMap<RowKey, Vec<f32>>,
    read: usize,
}

impl Originals for Shelf {
    fn read(&mut self, keys: &[RowKey], visit: &mut dyn FnMut(usize, &[f32])) -> Result<()> {
        for (at, key) in keys.iter().enumerate().rev() {
            let gone = || Error::NotFound { what: "trajectory", id: key.0.to_string() };
            visit(at, self.states.get(key).ok_or_else(gone)?);
        }
        self.read += keys.len();
        Ok(())
    }
}

/// A row whose facts follow from its number.
pub(super) fn entry(number: i64) -> Entry {
    Entry {
        key: RowKey(number * 3),
        episode: EpisodeId(100 + number / 4),
        pattern: PatternId(number % 5),
        task_type: LabelId(number % 3),
        agent_type: (number % 2 == 0).then_some(LabelId(50 + number % 4)),
        reward: (number as f64 * 0.7).sin(),
        ret: (number % 6 != 0).then(|| (number as f64 * 0.3).cos()),
        timestamp: 1000 - number,
        succeeded: number % 4 == 1,
        state_hash: (number % 7) as u64 * 64,
    }
}

pub(super) static GO_ON: AtomicBool = AtomicBool::new(false);

/// A graph's parameters.
pub(super) fn params(metric: Metric, quantization: Quantization) -> Params {
    Params { m: 8, ef_construction: 60, metric, quantization, seed: 3 }
}

/// Asks for the exact answer, however far.
pub(super) fn exactly<'a>(
    query: &'a [f32],
    metric: Metric,
    k: usize,
    filter: &'a Resolved,
) -> Question<'a> {
    Question { query, metric, k, filter, ef: None, threshold: None }
}

/// An index over the rows `0..rows` with its file.
pub(super) fn filled(rows: i64, state: impl Fn(i64) -> Vec<f32>) -> (Index, Shelf) {
    filled_under(params(Metric::Cosine, Quantization::Int8), rows, state)
}

/// [`filled`], with a graph of these parameters.
pub(super) fn filled_under(
    params: Params,
    rows: i64,
    state: impl Fn(i64) -> Vec<f32>,
) -> (Index, Shelf) {
    let mut index = Index::new(state(0).len(), params);
    let mut shelf = Shelf::default();
    for number in 0..rows {
        let entry = entry(number);
        index.append(&entry, &state(number));
        index.set_episode_total(entry.episode, (entry.episode.0 % 10) as f64);
        shelf.states.insert(entry.key, state(number));
    }
    (index, shelf)
}
