//! What happens behind the commits: one thread of an open store that catches up, links rows into the graph, rebuilds it
//! when a fifth of it is dead, makes cells of it when filters need them, and keeps the sidecar.
//!
//! It is started when a graph is first due and ends with `close`. Readers and writers never wait for it: it links on a
//! graph that is shared without a lock and takes the mirror's lock only to read its size and to hand over a rebuilt graph
//! or cells.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::open::Facts;
use super::sidecar::Occasion;
use super::{Open, Store, UNPOISONED};
use crate::error::{During, Error, Result};
use crate::hnsw::{Cells, Graph};
use crate::index::{Index, worth};
use crate::pool::Pool;

/// How often those who wait look whether they still should.
const PATIENCE: Duration = Duration::from_millis(50);

/// What the thread and those who wait for it tell each other.
#[derive(Default)]
pub(super) struct Linker {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    thread: Option<JoinHandle<()>>,
    /// No thread is started any more.
    closed: bool,
    /// There may be something to do.
    woken: bool,
    /// Flushes that were asked for, and those of them that are done.
    asked: u64,
    done: u64,
    /// Why the last round ended early.
    failure: Option<Error>,
    /// The thread is gone, other than by `close`.
    ended: bool,
}

impl Linker {
    /// Tells the thread that rows came or went; starts it if there is none.
    fn wake(&self, open: &Open, flush: bool) -> Result<u64> {
        let mut state = self.state.lock().expect(UNPOISONED);
        state.woken = true;
        state.asked += u64::from(flush);
        let ticket = state.asked;
        if state.thread.is_none() && !state.closed {
            let open = open.me.upgrade().expect("somebody holds what is asked");
            let named = std::thread::Builder::new().name("precedent-linker".to_owned());
            let thread = named.spawn(move || work(&open)).map_err(|why| Error::Io {
                doing: "starting the thread that links",
                path: std::path::PathBuf::new(),
                source: why,
            })?;
            state.thread = Some(thread);
        }
        self.changed.notify_all();
        Ok(ticket)
    }

    /// Lets everybody who waits look at the stop flag.
    pub(super) fn hush(&self) {
        drop(self.state.lock().expect(UNPOISONED));
        self.changed.notify_all();
    }

    /// Waits until the thread has ended; the stop flag is up.
    pub(super) fn join(&self) {
        let thread = {
            let mut state = self.state.lock().expect(UNPOISONED);
            state.closed = true;
            self.changed.notify_all();
            state.thread.take()
        };
        if let Some(thread) = thread {
            // a thread that panicked has said so; the file is untouched by it
            let _ = thread.join();
        }
    }

    /// Waits until the flush with this ticket is done.
    fn wait(
        &self,
        ticket: u64,
        stop: &AtomicBool,
        poll: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let mut state = self.state.lock().expect(UNPOISONED);
        while state.done < ticket {
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Closed("the store was closed".to_owned()));
            }
            if state.ended {
                let what = "the thread that links has ended before its time".to_owned();
                return Err(Error::Corrupt { what });
            }
            drop(state);
            poll()?;
            state = self.state.lock().expect(UNPOISONED);
            if state.done < ticket {
                state = self.changed.wait_timeout(state, PATIENCE).expect(UNPOISONED).0;
            }
        }
        state.failure.take().map_or(Ok(()), Err)
    }
}

/// Says that the thread is gone, whatever ended it.
struct Ending<'a>(&'a Linker);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if let Ok(mut state) = self.0.state.lock() {
            state.ended = true;
        }
        self.0.changed.notify_all();
    }
}

/// The thread: round after round, until the stop flag is up.
fn work(open: &Open) {
    let linker = &open.linker;
    let _ending = Ending(linker);
    let stopped = || open.stop.load(Ordering::Relaxed);
    loop {
        let asked = {
            let mut state = linker.state.lock().expect(UNPOISONED);
            while !state.woken && !stopped() {
                state = linker.changed.wait_timeout(state, 20 * PATIENCE).expect(UNPOISONED).0;
            }
            state.woken = false;
            state.asked
        };
        if stopped() {
            return;
        }
        let flushing = asked > linker.state.lock().expect(UNPOISONED).done;
        let outcome = open.link_all(if flushing { Occasion::Flush } else { Occasion::Behind });
        if stopped() {
            return;
        }
        let mut state = linker.state.lock().expect(UNPOISONED);
        // A failure is told to who waits; if nobody does, no call failed, and the next round tries again.
        state.failure = outcome.err().filter(|_| asked > state.done);
        state.done = asked;
        linker.changed.notify_all();
    }
}

impl Facts {
    /// The number of rows from which there is a graph.
    fn worth(&self) -> usize {
        let by_cost = || worth(self.dimension, &self.hnsw.params());
        self.hnsw.build_above.unwrap_or_else(by_cost)
    }
}

impl Open {
    /// Whether so many rows are worth a graph.
    pub(super) fn due(&self, rows: usize) -> bool {
        let hnsw = &self.facts.hnsw;
        hnsw.enabled && rows > 0 && rows >= self.facts.worth()
    }

    /// Whether somebody has to look after a graph: one is due, or there is one, whose rows may have become fewer since.
    pub(super) fn is_tended(&self, index: &Index) -> bool {
        self.due(index.len()) || self.facts.hnsw.enabled && index.graph().linked() > 0
    }

    /// Starts the thread if what lies in the file is worth a graph.
    pub(super) fn link_what_is_there(&self) -> Result<()> {
        let enough = self.facts.worth().max(1);
        if !self.facts.hnsw.enabled {
            return Ok(());
        }
        let counted = self.connections.read(|reader| {
            let sql = "SELECT count(*) FROM (SELECT 1 FROM trajectory LIMIT ?)";
            let mut count = reader.statement(sql)?;
            count.query_row([enough as i64], |row| row.get::<_, i64>(0)).during("counting rows")
        });
        // A damaged file is told by what reads it, not by its opening.
        let Ok(rows) = counted else { return Ok(()) };
        self.rows.store(rows as usize, Ordering::Relaxed);
        if self.due(rows as usize) { self.linker.wake(self, false).map(drop) } else { Ok(()) }
    }

    /// Tells the thread that rows came, if a graph is due.
    pub(super) fn rows_came(&self, rows: usize) {
        if self.due(self.rows.fetch_add(rows, Ordering::Relaxed) + rows) {
            self.look_after();
        }
    }

    /// Wakes the thread.
    pub(super) fn look_after(&self) {
        // without a thread everything is found by scan: slower, but found
        let _ = self.linker.wake(self, false);
    }

    /// Links until nothing is left, makes the cells that were missed, and saves what is worth it.
    fn link_all(&self, occasion: Occasion) -> Result<()> {
        let pool = self.pool()?;
        loop {
            let (graph, dead) = self.in_sync(|_, mirror| {
                let index = &mirror.index;
                if !self.is_tended(index) {
                    return Ok((None, None));
                }
                Ok((Some(Arc::clone(index.graph())), index.worth_compacting()))
            })?;
            let Some(graph) = graph else { return Ok(()) };
            if let Some(live) = dead {
                let Some(kept) = graph.consolidated(&live, &pool, &self.stop) else {
                    return Ok(());
                };
                let mut mirror = self.mirror_to_change();
                mirror.index.swap(&graph, kept, &live);
            } else if graph.linked() < graph.len() {
                graph.link(usize::MAX, &pool, &self.stop);
            } else if !self.fill_cells(&graph, &pool)? {
                break;
            }
            if self.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
        self.save_the_index(occasion);
        Ok(())
    }

    /// Makes cells of the graph, if somebody asked what they would have answered. Whether there was something to do.
    fn fill_cells(&self, graph: &Arc<Graph>, pool: &Pool) -> Result<bool> {
        let old = self.in_sync(|_, mirror| {
            let index = &mirror.index;
            Ok(index.lacks_cells().then(|| index.cells().cloned()))
        })?;
        let Some(old) = old else { return Ok(false) };
        if let Some(cells) = Cells::of(graph, old.as_deref(), pool, &self.stop) {
            self.mirror_to_change().index.take_cells(graph, cells);
        }
        Ok(true)
    }
}

impl Store {
    /// Waits until every committed row is in the index and, where there is a graph, linked into it, and until there are
    /// cells if a filter would have needed them; the index is saved if enough of it changed. `poll` is asked now and
    /// then; an error from it ends the waiting, not the work.
    pub fn flush(&self, poll: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        let open = self.enter()?;
        let tended = open.in_sync(|_, mirror| Ok(open.is_tended(&mirror.index)))?;
        if !tended {
            return Ok(());
        }
        let ticket = open.linker.wake(&open, true)?;
        open.linker.wait(ticket, &self.stop, poll)
    }

    /// Throws away what is derived and derives it anew.
    pub fn rebuild_index(&self, poll: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        let open = self.enter()?;
        {
            let mut mirror = open.mirror_to_change();
            *mirror = super::Mirror::anew(&self.facts);
        }
        drop(open);
        self.flush(poll)
    }
}
