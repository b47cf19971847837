//! The store: one SQLite file with everything a user ever gave us, and in memory what is derived from it.
//!
//! One public method is one transaction. Locking: a method holds `gate` for reading while it runs; `close` takes it for
//! writing, so it waits for them, and raises `stop`, so that it does not wait long. Below the gate come the connection
//! (see `connections.rs`), then the mirror, then the book of patterns, then the cache; each is taken in that order.

mod action;
mod append;
mod backup;
mod book;
mod cache;
mod change;
mod connections;
mod encode;
mod episode;
mod experience;
mod insert;
mod model;
mod open;
mod options;
mod pattern;
mod prune;
mod read;
mod remove;
mod resolve;
mod returns;
mod schema;
mod search;
mod span;
mod stats;
mod sync;
mod validate;
mod verify;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard};

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::index::Scratch;
use crate::metric::Metric;
use crate::pool::Pool;

pub use episode::EpisodeRecord;
pub use options::{CacheSettings, Durability, Hnsw, HnswSettings, Options, Storage};
pub use pattern::{PatternMatch, PatternRecord};
pub use prune::{Prune, Unit};
pub use search::{Answer, Neighbor, Query, SearchOptions};
pub use stats::Stats;
pub use validate::Naming;
pub use verify::VerifyReport;

use book::Book;
use cache::Cache;
use connections::Connections;
use open::Facts;
use sync::Mirror;

const UNPOISONED: &str = "no holder of this lock panics";

/// Trajectories in one file, open for any number of threads.
pub struct Store {
    path: PathBuf,
    read_only: bool,
    facts: Facts,
    clock: Arc<dyn Clock>,
    /// The process that opened it: connections must not be used on the other side of a fork.
    process: u32,
    stop: AtomicBool,
    gate: RwLock<Option<Open>>,
}

/// What is there until the store is closed.
struct Open {
    connections: Connections,
    mirror: RwLock<Mirror>,
    book: Mutex<Book>,
    cache: Mutex<Cache>,
    /// Whether the cache is asked at all.
    cached: bool,
    scratch: Mutex<Vec<Scratch>>,
    pool: Mutex<Option<Arc<Pool>>>,
}

/// Proof that the store stays open while it is held.
struct Guard<'a>(RwLockReadGuard<'a, Option<Open>>);

impl std::ops::Deref for Guard<'_> {
    type Target = Open;

    fn deref(&self) -> &Open {
        self.0.as_ref().expect("a guard is made of an open store only")
    }
}

impl Store {
    /// Opens the store at `path`, or makes one; `:memory:` is a store of its own that is gone when it is closed.
    pub fn open(path: &Path, options: Options) -> Result<Self> {
        let (target, connection, facts) = open::open(path, &options)?;
        let cache = Cache::new(options.cache);
        let open = Open {
            connections: Connections::new(target, connection),
            mirror: RwLock::new(Mirror::new(facts.dimension)),
            book: Mutex::new(Book::default()),
            cached: cache.enabled(),
            cache: Mutex::new(cache),
            scratch: Mutex::new(Vec::new()),
            pool: Mutex::new(None),
        };
        Ok(Self {
            path: path.to_owned(),
            read_only: options.read_only,
            facts,
            clock: options.clock,
            process: std::process::id(),
            stop: AtomicBool::new(false),
            gate: RwLock::new(Some(open)),
        })
    }

    /// Ends running searches with [`Error::Closed`], waits for other work, and lets go of the file. A second call does
    /// nothing.
    pub fn close(&self) -> Result<()> {
        if self.forked() {
            return Ok(());
        }
        self.stop.store(true, Ordering::Relaxed);
        let open = self.gate.write().expect(UNPOISONED).take();
        open.map_or(Ok(()), |open| open.connections.close())
    }

    /// Whether the store was closed.
    pub fn is_closed(&self) -> bool {
        self.forked() || self.stop.load(Ordering::Relaxed)
    }

    /// Numbers a state has.
    pub fn dimension(&self) -> usize {
        self.facts.dimension
    }

    /// Numbers an action has.
    pub fn action_dimension(&self) -> usize {
        self.facts.action_dimension
    }

    /// How numbers are kept in the file.
    pub fn storage(&self) -> Storage {
        self.facts.storage
    }

    /// What nearness means where a search does not say.
    pub fn metric(&self) -> Metric {
        self.facts.hnsw.metric
    }

    /// The settings of the graph that hold.
    pub fn hnsw(&self) -> &Hnsw {
        &self.facts.hnsw
    }

    /// Whether opening it changed the graph's settings in the file, so that the graph is built anew.
    pub fn graph_changed(&self) -> bool {
        self.facts.graph_changed
    }

    /// The fingerprint of the encoder that makes the states.
    pub fn encoder(&self) -> Option<&str> {
        self.facts.encoder.as_deref()
    }

    /// The path as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether every writing method is refused.
    pub fn read_only(&self) -> bool {
        self.read_only
    }

    fn forked(&self) -> bool {
        self.process != std::process::id()
    }

    /// The store, if it is open. Asked once a method: a second guard in the same thread could wait for ever.
    fn enter(&self) -> Result<Guard<'_>> {
        if self.forked() {
            let why = "the store was opened before a fork; open it again in the child";
            return Err(Error::Closed(why.to_owned()));
        }
        let gate = self.gate.read().expect(UNPOISONED);
        if gate.is_none() || self.stop.load(Ordering::Relaxed) {
            return Err(Error::Closed("the store is closed".to_owned()));
        }
        Ok(Guard(gate))
    }

    fn enter_to_write(&self, doing: &'static str) -> Result<Guard<'_>> {
        let open = self.enter()?;
        if self.read_only { Err(Error::ReadOnly { doing }) } else { Ok(open) }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if self.forked() {
            // Closing here would drop the locks and the log of the parent.
            let gate = std::mem::replace(&mut self.gate, RwLock::new(None));
            std::mem::forget(gate);
            return;
        }
        // Whoever wants to hear of a failure calls `close`.
        let _ = self.close();
    }
}
