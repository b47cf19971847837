//! Long work that can be ended: by whoever asked for it, and by closing the store.
//!
//! The work runs on a thread of its own, while the one that asked for it asks in turn whether to go on. So it may be
//! anywhere, deep in SQLite too, and whatever is called by asking (a handler of signals may close the store) finds the
//! asking thread without a lock. SQLite asks the [`Halt`] every so many steps; loops of ours ask it by themselves. A write
//! that ends that way is undone as a whole, like any other that fails.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, TryLockError, TryLockResult};
use std::time::Duration;

use super::connections::Reader;
use super::{Store, UNPOISONED};
use crate::error::{During, Error, Result};

/// How long the work is left alone between two questions whether to go on.
const QUIET: Duration = Duration::from_millis(20);

/// How long whoever wants a lock without standing in line waits before the next attempt: about as long as a search takes.
/// A few microseconds of a processor every time, which is little even where a lock is held for seconds.
const BREATH: Duration = Duration::from_micros(50);

/// Steps of SQLite's machine between two looks: well below a millisecond.
const STEPS: i32 = 10_000;

/// Whether long work is to end.
#[derive(Clone)]
pub(super) struct Halt {
    /// The store is being closed.
    closing: Arc<AtomicBool>,
    /// The caller has had enough.
    enough: Arc<AtomicBool>,
}

impl Halt {
    /// An error if the work is to end.
    pub(super) fn check(&self) -> Result<()> {
        if self.enough.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        if self.closing.load(Ordering::Relaxed) {
            return Err(Error::Closed("the store was closed".to_owned()));
        }
        Ok(())
    }

    /// Runs `work` on a connection whose statements end when the work is to end.
    pub(super) fn within<T>(
        &self,
        reader: &mut Reader,
        work: impl FnOnce(&mut Reader) -> Result<T>,
    ) -> Result<T> {
        let doing = "watching whether to go on";
        let halt = self.clone();
        let look = move || halt.check().is_err();
        reader.connection.progress_handler(STEPS, Some(look)).during(doing)?;
        let result = work(reader);
        // What undoes the work must not be ended as well.
        reader.connection.progress_handler(0, None::<fn() -> bool>).during(doing)?;
        match result {
            // SQLite only says that it was stopped; the halt knows why.
            Err(Error::Interrupted) => self.check().and(Err(Error::Interrupted)),
            Err(why) => Err(why),
            // A wish to end it that SQLite had no time to hear of.
            Ok(value) => self.check().map(|()| value),
        }
    }

    /// Takes a lock that `attempt` tries to take, unless the work is to end before.
    pub(super) fn take<G>(&self, attempt: impl Fn() -> TryLockResult<G>) -> Result<G> {
        take(attempt, || self.check())
    }
}

/// Takes a lock that `attempt` tries to take without standing in line for it, as long as `go_on` says so.
pub(super) fn take<G, E>(
    attempt: impl Fn() -> TryLockResult<G>,
    go_on: impl Fn() -> Result<(), E>,
) -> Result<G, E> {
    loop {
        match attempt() {
            Ok(guard) => return Ok(guard),
            Err(TryLockError::WouldBlock) => go_on()?,
            Err(TryLockError::Poisoned(_)) => unreachable!("{UNPOISONED}"),
        }
        std::thread::sleep(BREATH);
    }
}

impl Store {
    /// Whether the rows were read into the index once: from then on a search is quick.
    pub fn is_awake(&self) -> bool {
        self.awake.load(Ordering::Relaxed)
    }

    /// Reads the rows into the index, as the first search does by itself, while `poll` is asked whether to go on; an error
    /// from it ends that.
    pub fn awaken(&self, poll: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        if self.is_awake() {
            return Ok(());
        }
        self.patiently(poll, |halt| self.enter()?.in_sync_until(Some(halt), |_, _| Ok(())))
    }

    /// Runs `work` while `poll` is asked whether to go on; an error from it, or closing the store, ends the work.
    pub(super) fn patiently<T: Send>(
        &self,
        poll: &mut dyn FnMut() -> Result<()>,
        work: impl FnOnce(&Halt) -> Result<T> + Send,
    ) -> Result<T> {
        let enough = Arc::new(AtomicBool::new(false));
        let halt = Halt { closing: Arc::clone(&self.stop), enough: Arc::clone(&enough) };
        std::thread::scope(|scope| {
            let (tell, told) = sync_channel(1);
            let spawned = std::thread::Builder::new()
                .name("precedent-work".to_owned())
                .spawn_scoped(scope, move || {
                    let result = work(&halt);
                    let _ = tell.send(()); // whoever is no longer listening joins
                    result
                });
            let worker =
                spawned.map_err(|why| Error::io("starting a thread for", &self.path, why))?;
            let mut asked = Ok(());
            while asked.is_ok() && told.recv_timeout(QUIET) == Err(RecvTimeoutError::Timeout) {
                asked = poll();
            }
            if asked.is_err() {
                enough.store(true, Ordering::Relaxed);
            }
            let result = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            match (result, asked) {
                // What was done in spite of the wish to end it is done.
                (Err(Error::Interrupted), Err(why)) => Err(why),
                (result, _) => result,
            }
        })
    }
}
