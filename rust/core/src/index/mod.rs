//! What the store asks about its rows without touching the file: which rows match a filter, which are nearest to a
//! query, where a return ranks. No SQL, no strings: the store resolves names to numbers before it comes here.
//!
//! Everything in here is derived from the file and lives in memory only. Rows have dense places in order of their keys;
//! removed rows keep theirs until a fifth of all are dead, then the storage is compacted.

mod bounds;
mod chains;
mod codes;
mod columns;
mod exact;
mod filter;
mod order;
mod quantile;
mod scan;

use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard};

pub use filter::Resolved;
pub use quantile::Scale;

use crate::error::Result;
use crate::ids::{EpisodeId, LabelId, PatternId, RowKey};
use crate::kernel::distance::Kernel;
use crate::metric::Metric;

use crate::bits::Bits;
use codes::Codes;
use columns::{Columns, Slot};
use filter::Criteria;
use quantile::Quantiles;
use scan::{Scan, Workspace};

/// One row as the index needs it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry {
    /// Its key; greater than that of every row before it.
    pub key: RowKey,
    /// The episode it is a step of.
    pub episode: EpisodeId,
    /// The pattern of its action.
    pub pattern: PatternId,
    /// Its task type.
    pub task_type: LabelId,
    /// Its agent type, if it has one.
    pub agent_type: Option<LabelId>,
    /// Its reward.
    pub reward: f64,
    /// Its return, if computed.
    pub ret: Option<f64>,
    /// When it happened, in ms since 1970.
    pub timestamp: i64,
    /// What it said of its success, else whether its reward is above 0.5.
    pub succeeded: bool,
    /// The hash of its stored state's bytes.
    pub state_hash: u64,
}

/// Full-precision states by key: the store reads them from SQLite.
pub trait Originals {
    /// Calls `visit(position, state)` for every key, in any order. A key that is gone is [`crate::Error::NotFound`]:
    /// the search ends with it, and whoever asked catches up and tries again.
    fn read(&mut self, keys: &[RowKey], visit: &mut dyn FnMut(usize, &[f32])) -> Result<()>;
}

/// One row of an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// The row.
    pub key: RowKey,
    /// How far: 1 - cos, L2 or minus the dot product, from the full-precision state.
    pub distance: f64,
    /// [`Metric::similarity`] of the distance.
    pub similarity: f64,
}

/// The memory that searches work in; give each thread its own and keep it, then searching allocates next to nothing.
#[derive(Debug, Default)]
pub struct Scratch {
    rows: Bits,
    space: Workspace,
}

/// The rows of one store, in memory.
#[derive(Debug)]
pub struct Index {
    dimension: usize,
    kernel: Kernel,
    columns: Columns,
    codes: Codes,
    quantiles: Mutex<Quantiles>,
}

impl Index {
    /// An index without rows, for states of `dimension` numbers.
    pub fn new(dimension: usize) -> Self {
        Self {
            dimension,
            kernel: Kernel::best(),
            columns: Columns::default(),
            codes: Codes::new(dimension),
            quantiles: Mutex::default(),
        }
    }

    /// Adds a row with its full-precision state (finite numbers). Keys must rise strictly from call to call.
    pub fn append(&mut self, entry: &Entry, state: &[f32]) {
        assert_eq!(state.len(), self.dimension, "a state of the index's dimension");
        let slot = self.columns.push(entry);
        self.codes.push(self.kernel, state);
        quantiles(&mut self.quantiles).enter(&self.columns, slot);
    }

    /// Takes rows out; keys that are not there are ignored. Storage is compacted when a fifth of it is dead.
    pub fn remove(&mut self, keys: &[RowKey]) {
        for &key in keys {
            if let Some(slot) = self.columns.slot(key) {
                quantiles(&mut self.quantiles).leave(&self.columns, slot);
                self.columns.bury(slot);
            }
        }
        if self.columns.dead > 0 && self.columns.dead * 5 >= self.columns.len() {
            self.codes.compact(&self.columns.live);
            self.columns.compact();
            quantiles(&mut self.quantiles).forget();
        }
    }

    /// Sets a row's return; a key that is not there is ignored.
    pub fn set_return(&mut self, key: RowKey, ret: Option<f64>) {
        if let Some(slot) = self.columns.slot(key) {
            let quantiles = quantiles(&mut self.quantiles);
            quantiles.leave(&self.columns, slot);
            self.columns.ret[slot.at()] = ret.unwrap_or(f64::NAN);
            quantiles.enter(&self.columns, slot);
        }
    }

    /// Sets the total reward of an episode, before or after its rows are appended. Until then it has none: no
    /// `min_episode_reward` matches it and [`Scale::Episode`] leaves it out.
    pub fn set_episode_total(&mut self, episode: EpisodeId, total_reward: f64) {
        let (place, old) = self.columns.episodes.set_total(episode, total_reward);
        quantiles(&mut self.quantiles).retotal(place, old, total_reward);
    }

    /// Rows in the index.
    pub fn len(&self) -> usize {
        self.columns.len() - self.columns.dead
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The newest key that was ever appended and is not compacted away.
    pub fn last_key(&self) -> Option<RowKey> {
        self.columns.key.last().copied()
    }

    /// Anonymous bytes held.
    pub fn bytes(&self) -> usize {
        self.columns.bytes() + self.codes.bytes() + self.asked().bytes()
    }

    /// Facts of one row, for those who vote over neighbours.
    pub fn entry(&self, key: RowKey) -> Option<Entry> {
        self.columns.slot(key).map(|slot| self.columns.entry(slot))
    }

    /// The matching rows, in order of insertion.
    pub fn keys_matching(&self, filter: &Resolved) -> Vec<RowKey> {
        self.matching(filter).iter().map(|at| self.columns.key[at]).collect()
    }

    /// How many rows match.
    pub fn count_matching(&self, filter: &Resolved) -> usize {
        if filter.is_empty() { self.len() } else { self.matching(filter).count() }
    }

    /// The matching rows whose state has this hash, in order of insertion.
    pub fn by_state_hash(&self, hash: u64, filter: &Resolved) -> Vec<RowKey> {
        let criteria = Criteria::new(filter);
        let mut keys: Vec<RowKey> = self
            .columns
            .by_hash
            .bucket_of(hash)
            .map(Slot)
            .filter(|slot| self.columns.live.get(slot.at()))
            .filter(|slot| self.columns.state_hash[slot.at()] == hash)
            .filter(|&slot| criteria.admits(&self.columns, slot))
            .map(|slot| self.columns.key[slot.at()])
            .collect();
        keys.reverse();
        keys
    }

    /// The episodes with a matching row, in order of their ids.
    pub fn episodes_matching(&self, filter: &Resolved) -> Vec<EpisodeId> {
        let mut seen = vec![false; self.columns.episodes.len()];
        let rows = self.matching(filter);
        rows.iter().for_each(|at| seen[self.columns.episode[at] as usize] = true);
        let mut ids: Vec<EpisodeId> = (0..seen.len() as u32)
            .filter(|&place| seen[place as usize])
            .map(|place| self.columns.episodes.id(place))
            .collect();
        ids.sort_unstable();
        ids
    }

    /// The `k` nearest among the matches, nearest first, ties to the smaller key: exactly what measuring every match
    /// at full precision would answer. `stop` is polled every few thousand rows; once true the search ends with
    /// [`crate::Error::Closed`].
    #[expect(
        clippy::too_many_arguments,
        reason = "the question, the places it is answered from, and its end"
    )]
    pub fn search(
        &self,
        query: &[f32],
        metric: Metric,
        k: usize,
        filter: &Resolved,
        originals: &mut dyn Originals,
        scratch: &mut Scratch,
        stop: &AtomicBool,
    ) -> Result<Vec<Hit>> {
        assert_eq!(query.len(), self.dimension, "a query of the index's dimension");
        let Scratch { rows, space } = scratch;
        Criteria::new(filter).select(&self.columns, rows);
        let Self { kernel, columns, codes, .. } = self;
        let scan = Scan { kernel: *kernel, columns, codes, query, metric, k, stop };
        scan.run(rows, originals, space)
    }

    /// The number below which a share `q` (0 to 1) of the matches lies, interpolated linearly at `q * (n - 1)` as
    /// numpy does by default; None if nothing matches.
    pub fn quantile(&self, scale: Scale, filter: &Resolved, q: f64) -> Option<f64> {
        self.asked().ask(&self.columns, scale, filter, q)
    }

    fn asked(&self) -> MutexGuard<'_, Quantiles> {
        self.quantiles.lock().expect(UNPOISONED)
    }

    fn matching(&self, filter: &Resolved) -> Bits {
        let mut rows = Bits::default();
        Criteria::new(filter).select(&self.columns, &mut rows);
        rows
    }
}

const UNPOISONED: &str = "nothing panics while it ranks";

/// Without a lock: whoever writes is alone.
fn quantiles(kept: &mut Mutex<Quantiles>) -> &mut Quantiles {
    kept.get_mut().expect(UNPOISONED)
}

#[cfg(test)]
mod tests;
