//! Stores to test on, and rows to put into them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use precedent_core::clock::Clock;
use precedent_core::ids::TrajectoryId;
use precedent_core::rng::Rng;
use precedent_core::store::{CacheSettings, Naming, Options, Query, SearchOptions, Store};
use precedent_core::{Filter, Rows};

pub(crate) const WIDE: usize = 8;
pub(crate) const ACTION: usize = 3;
/// A moment in 2025, in ms.
pub(crate) const NOW: i64 = 1_750_000_000_000;
pub(crate) const DAY: i64 = 86_400_000;

/// A clock that stands until it is told to move.
pub(crate) struct Hand(pub(crate) AtomicI64);

impl Clock for Hand {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

pub(crate) fn options() -> Options {
    Options { dimension: Some(WIDE), action_dimension: Some(ACTION), ..Options::default() }
}

/// A folder that is removed with everything in it.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn store(&self) -> Store {
        Store::open(&self.path("store.db"), options()).unwrap()
    }
}

pub(crate) fn memory() -> Store {
    Store::open(":memory:".as_ref(), options()).unwrap()
}

/// A store in memory whose clock stands at `NOW`.
pub(crate) fn at_noon() -> (Store, Arc<Hand>) {
    let clock = Arc::new(Hand(AtomicI64::new(NOW)));
    let cache = CacheSettings::default();
    let options = Options { clock: Arc::clone(&clock) as Arc<dyn Clock>, cache, ..options() };
    (Store::open(":memory:".as_ref(), options).unwrap(), clock)
}

pub(crate) fn state(seed: u64) -> Vec<f32> {
    (0..WIDE as u64).map(|i| Rng::new(seed, 1).normal(i) as f32).collect()
}

/// The action that goes with a pattern: "p0", "p1", ...
pub(crate) fn action(pattern: u64) -> Vec<f32> {
    (0..ACTION as u64).map(|i| Rng::new(pattern, 2).normal(i) as f32).collect()
}

/// `n` steps of one episode; step `i` has the state `state(seed + i)`, the pattern `p{i % 3}` and the reward `i / 10`.
pub(crate) fn steps(episode: &str, n: usize, seed: u64) -> Rows {
    Rows {
        len: n,
        states: (0..n as u64).flat_map(|i| state(seed + i)).collect(),
        actions: (0..n as u64).flat_map(|i| action(i % 3)).collect(),
        rewards: (0..n).map(|i| i as f64 / 10.0).collect(),
        returns: vec![f64::NAN; n],
        patterns: (0..n).map(|i| format!("p{}", i % 3)).collect(),
        episodes: std::iter::repeat_n(episode, n).collect(),
        task_types: (0..n).map(|i| ["plan", "act"][i % 2]).collect(),
        timestamps: Some((0..n as i64).map(|i| Some(NOW + i)).collect()),
        step_indices: Some((0..n as i64).map(Some).collect()),
        ..Rows::default()
    }
}

pub(crate) fn insert(store: &Store, rows: &Rows) -> Vec<TrajectoryId> {
    store.insert(rows, Naming::Columns).unwrap()
}

/// The question for the `k` nearest rows, however far.
pub(crate) fn nearest(vector: Vec<f32>, k: usize) -> Query {
    Query { vector, options: SearchOptions { k, threshold: None, ..SearchOptions::default() } }
}

pub(crate) fn all() -> Filter {
    Filter::default()
}

/// How many rows a store has.
pub(crate) fn size(store: &Store) -> usize {
    store.stats().unwrap().total_trajectories
}
