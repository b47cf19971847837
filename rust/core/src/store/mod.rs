//! The store: one SQLite file with everything a user ever gave us, and in memory what is derived from it.
//!
//! One public method is one transaction. Locking: a method holds `gate` for reading while it runs; `close` takes it for
//! writing, so it waits for them, and raises `stop`, so that it does not wait long. Below the gate come the connection
//! (see `connections.rs`), then the mirror, then the book of patterns, then the cache or the resolutions of filters; each
//! is taken in that order. The linker's thread goes by the same order from the connection on and never touches the gate.

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
mod linker;
mod model;
mod news;
mod open;
mod options;
mod originals;
mod patience;
mod pattern;
mod promises;
mod prune;
mod quantized;
mod read;
mod remove;
mod resolve;
mod returns;
mod schema;
mod search;
mod sidecar;
mod span;
mod stats;
mod sync;
mod validate;
mod verify;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard, Weak};

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::index::Scratch;
use crate::metric::Metric;
use crate::pool::Pool;

pub use episode::EpisodeRecord;
pub use options::{CacheSettings, Durability, Hnsw, HnswSettings, Options, Storage};
pub use pattern::{PatternMatch, PatternRecord};
pub use prune::{Prune, Unit};
pub use quantized::Estimate;
pub use search::{Answer, Neighbor, Query, SearchOptions};
pub use stats::Stats;
pub use validate::Naming;
pub use verify::VerifyReport;

use book::Book;
use cache::Cache;
use connections::Connections;
use linker::Linker;
use news::News;
use open::Facts;
use resolve::Resolutions;
use sync::Mirror;

const UNPOISONED: &str = "no holder of this lock panics";

/// Trajectories in one file, open for any number of threads.
pub struct Store {
    path: PathBuf,
    read_only: bool,
    facts: Arc<Facts>,
    clock: Arc<dyn Clock>,
    /// The process that opened it: connections must not be used on the other side of a fork.
    process: u32,
    stop: Arc<AtomicBool>,
    news: Arc<News>,
    /// Whether the mirror has seen the file: from then on catching up is quick.
    awake: Arc<AtomicBool>,
    gate: RwLock<Option<Arc<Open>>>,
}

/// What is there until the store is closed. The store holds it, and beside the store only the linker's thread.
struct Open {
    facts: Arc<Facts>,
    stop: Arc<AtomicBool>,
    news: Arc<News>,
    linker: Linker,
    /// Where the index lies on disk; `None` if it is neither read nor written.
    sidecar: Option<PathBuf>,
    /// How many rows there are, about: what tells that a graph is due before anything was read.
    rows: AtomicUsize,
    /// Itself, for the thread it starts.
    me: Weak<Open>,
    connections: Connections,
    mirror: RwLock<Mirror>,
    awake: Arc<AtomicBool>,
    book: Mutex<Book>,
    cache: Mutex<Cache>,
    /// Whether the cache is asked at all.
    cached: bool,
    resolutions: Mutex<Resolutions>,
    scratch: Mutex<Vec<Scratch>>,
    pool: Mutex<Option<Arc<Pool>>>,
}

/// Proof that the store stays open while it is held.
struct Guard<'a>(RwLockReadGuard<'a, Option<Arc<Open>>>);

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
        let (facts, stop) = (Arc::new(facts), Arc::new(AtomicBool::new(false)));
        let (news, awake) = (Arc::new(News::default()), Arc::new(AtomicBool::new(false)));
        if facts.graph_changed {
            news.tell(format!("the index is built anew under {}", facts.hnsw));
        }
        let cache = Cache::new(options.cache);
        let open = Arc::new_cyclic(|me| Open {
            facts: Arc::clone(&facts),
            stop: Arc::clone(&stop),
            news: Arc::clone(&news),
            linker: Linker::default(),
            sidecar: sidecar::place(&target, &facts),
            rows: AtomicUsize::new(0),
            me: Weak::clone(me),
            connections: Connections::new(target, connection),
            mirror: RwLock::new(Mirror::new(&facts)),
            awake: Arc::clone(&awake),
            book: Mutex::new(Book::default()),
            cached: cache.enabled(),
            cache: Mutex::new(cache),
            resolutions: Mutex::default(),
            scratch: Mutex::new(Vec::new()),
            pool: Mutex::new(None),
        });
        open.link_what_is_there()?;
        Ok(Self {
            path: path.to_owned(),
            read_only: options.read_only,
            facts,
            clock: options.clock,
            process: std::process::id(),
            stop,
            news,
            awake,
            gate: RwLock::new(Some(open)),
        })
    }

    /// Ends running searches and other long work with [`Error::Closed`] (a write among it is undone), waits for the rest,
    /// lets go of the file and ends every thread of this store. Rows that are not linked yet are linked after the next
    /// opening. A second call does nothing.
    pub fn close(&self) -> Result<()> {
        if self.forked() {
            return Ok(());
        }
        self.stop.store(true, Ordering::Relaxed);
        if let Some(open) = &*self.gate.read().expect(UNPOISONED) {
            open.linker.hush();
        }
        let Some(open) = self.gate.write().expect(UNPOISONED).take() else { return Ok(()) };
        open.linker.join();
        if !self.read_only {
            open.save_the_index(sidecar::Occasion::Closing);
        }
        let open = Arc::into_inner(open).expect("its thread has ended, and nobody else holds it");
        open.connections.close()
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

    /// Whether [`Self::news`] has something; costs next to nothing.
    pub fn has_news(&self) -> bool {
        self.news.any()
    }

    /// What happened to the index that is no error but worth a line in a log, since this was last asked: that it is built
    /// anew, and why. Also of a store that was closed.
    pub fn news(&self) -> Vec<String> {
        self.news.take()
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
