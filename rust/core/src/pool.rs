//! The threads of this library: one pool that stores and trainers share while they are open, one of layers that were given
//! large batches. Each is gone, joined, when the last holder lets go.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, Weak};

use crate::error::{Error, Result};

/// A pool of worker threads. Dropping the last handle waits until every thread has ended.
pub struct Pool {
    workers: Option<rayon::ThreadPool>,
    alive: Arc<Alive>,
    process: u32,
}

#[derive(Default)]
struct Alive {
    count: Mutex<usize>,
    changed: Condvar,
}

impl Pool {
    /// A pool of its own with exactly `threads` threads.
    pub fn new(threads: usize) -> Result<Self> {
        let alive = Arc::new(Alive { count: Mutex::new(threads), changed: Condvar::new() });
        let ending = Arc::clone(&alive);
        let workers = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("precedent-{i}"))
            .exit_handler(move |_| {
                *ending.count.lock().expect("no holder panics") -= 1;
                ending.changed.notify_all();
            })
            .build()
            .map_err(|why| Error::Training(format!("no worker threads could be started: {why}")))?;
        Ok(Self { workers: Some(workers), alive, process: std::process::id() })
    }

    /// The pool of this process's stores and trainers, as wide as the machine; made when nobody holds one. After a fork the
    /// child makes its own: threads do not survive a fork.
    pub fn shared() -> Result<Arc<Self>> {
        static SHARED: Mutex<Weak<Pool>> = Mutex::new(Weak::new());
        Self::kept_in(&SHARED)
    }

    /// That of its layers where they are asked and taught directly. It is their own because work from outside a pool begins
    /// when a thread of it has nothing else to do: a step of a millisecond would wait for whatever a store links.
    pub fn of_layers() -> Result<Arc<Self>> {
        static OF_LAYERS: Mutex<Weak<Pool>> = Mutex::new(Weak::new());
        Self::kept_in(&OF_LAYERS)
    }

    fn kept_in(place: &Mutex<Weak<Self>>) -> Result<Arc<Self>> {
        let mut kept = place.lock().expect("making a pool does not panic");
        if let Some(pool) = kept.upgrade().filter(|pool| pool.runs_here()) {
            return Ok(pool);
        }
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let pool = Arc::new(Self::new(threads)?);
        *kept = Arc::downgrade(&pool);
        Ok(pool)
    }

    /// Whether its threads are this process's: those of a parent stayed there.
    pub fn runs_here(&self) -> bool {
        self.process == std::process::id()
    }

    /// How many threads work.
    pub fn threads(&self) -> usize {
        self.rayon().current_num_threads()
    }

    /// Runs `work` on the pool; what it forks with rayon runs here too.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.rayon().install(work)
    }

    /// Runs `work` on the caller's thread; what it spawns on the scope runs here, and has ended when this returns.
    pub fn beside<'scope, T>(&self, work: impl FnOnce(&rayon::Scope<'scope>) -> T) -> T {
        self.rayon().in_place_scope(work)
    }

    fn rayon(&self) -> &rayon::ThreadPool {
        self.workers.as_ref().expect("present until the drop")
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let pool = self.workers.take();
        if !self.runs_here() {
            std::mem::forget(pool); // the threads stayed in the parent
            return;
        }
        let inside = pool.as_ref().is_some_and(|pool| pool.current_thread_index().is_some());
        drop(pool);
        if !inside {
            let count = self.alive.count.lock().expect("no holder panics");
            drop(self.alive.changed.wait_while(count, |count| *count > 0));
        }
    }
}

/// Does `work` for every number below `count`, on every core, until one fails. Threads of its own and not a pool's:
/// whoever reads a sidecar holds the store's mirror, and a thread of the pool may be waiting for that.
pub(crate) fn on_every_core<E: Send>(
    count: usize,
    work: impl Fn(usize) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(count);
    let (next, failure) = (AtomicUsize::new(0), Mutex::new(None));
    let part = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                return;
            }
            if let Err(why) = work(at) {
                next.store(count, Ordering::Relaxed);
                *failure.lock().expect("no holder panics") = Some(why);
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(part);
        }
        part();
    });
    failure.into_inner().expect("no holder panics").map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::Pool;

    #[test]
    fn handles_share_one_pool() {
        let (first, second) = (Pool::shared().unwrap(), Pool::shared().unwrap());
        assert!(std::sync::Arc::ptr_eq(&first, &second));
        assert_eq!(first.run(|| 6 * 7), 42);
    }

    // Of a pool of its own: the shared one may be held by other tests of this process.
    #[test]
    fn the_last_handle_ends_every_thread() {
        let first = std::sync::Arc::new(Pool::new(3).unwrap());
        let second = std::sync::Arc::clone(&first);
        let alive = std::sync::Arc::clone(&first.alive);
        drop(first);
        assert_eq!(*alive.count.lock().unwrap(), 3);
        drop(second);
        assert_eq!(*alive.count.lock().unwrap(), 0);
    }
}
