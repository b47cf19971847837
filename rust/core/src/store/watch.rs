//! Whether anybody committed, seen without asking SQLite: the only unsafe code of the store.
//!
//! Every commit to a file with a write-ahead log rewrites a header in memory that all connections to the file share: a
//! count of transactions, the end of the log, checksums (<https://sqlite.org/walformat.html>). SQLite itself compares these
//! 48 bytes with those it saw last to know whether its snapshot is the newest, but takes and drops a lock of the system to
//! be sure that they stay: a tenth of a search of 100,000 rows. To know that nothing changed, the bytes alone are enough.
#![expect(unsafe_code, reason = "the shared memory is reached through SQLite's methods of a file")]

use std::ffi::{c_int, c_void};
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering, fence};

use rusqlite::{Connection, ffi};

/// The header's words: its first copy, which a commit writes last.
const WORDS: usize = 12;
/// Bytes of one piece of the shared memory, as SQLite's log asks for them.
const PIECE: c_int = 32_768;

/// The header as it stood at one moment. One that was read while it was written equals none that was written whole, and
/// is at worst a reason to ask SQLite once more.
pub(super) type Header = [u32; WORDS];

/// A connection, and the shared header of the log behind it.
pub(super) struct Watched {
    connection: Connection,
    words: Option<NonNull<[AtomicU32; WORDS]>>,
}

// SAFETY: a connection may move between threads; the words are in memory that any thread may read, as atomics only.
unsafe impl Send for Watched {}

impl Watched {
    /// A connection whose header nobody will ask for.
    pub(super) fn unwatched(connection: Connection) -> Self {
        Self { connection, words: None }
    }

    /// A connection whose header is read where there is one: where the file has a log, and memory that is shared with
    /// other processes. From here on the mode of its journal must not change.
    pub(super) fn new(connection: Connection) -> Self {
        let words = header_of(&connection);
        Self { connection, words }
    }

    /// The header as it is now, whatever the running snapshot is of.
    pub(super) fn header(&self) -> Option<Header> {
        // SAFETY: the mapping lasts until the connection closes the log. That is when it is closed itself, which a
        // borrow of it rules out, or changes the mode of its journal, which nothing does. Any bits are a word.
        let words = unsafe { self.words?.as_ref() };
        let header = words.each_ref().map(|word| word.load(Ordering::Relaxed));
        fence(Ordering::Acquire); // what is read after it is at least as new
        Some(header)
    }

    /// Has its statements ask, every so many steps, whether to end: `true` ends them, `None` is nobody to ask.
    pub(super) fn progress_handler(
        &mut self,
        steps: c_int,
        ended: Option<impl FnMut() -> bool + Send + 'static>,
    ) -> rusqlite::Result<()> {
        self.connection.progress_handler(steps, ended)
    }

    pub(super) fn into_connection(self) -> Connection {
        self.connection
    }
}

impl Deref for Watched {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

fn header_of(connection: &Connection) -> Option<NonNull<[AtomicU32; WORDS]>> {
    let mode: String =
        connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).ok()?;
    if mode != "wal" {
        return None; // to ask such a file for shared memory would make some
    }
    // The log is only opened, and its memory shared, by a transaction.
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).ok()?;
    let mut file = ptr::null_mut::<ffi::sqlite3_file>();
    let mut words = ptr::null_mut::<c_void>();
    // SAFETY: the handle is that of an open connection, which nobody else uses meanwhile. The file and its methods are
    // SQLite's own and valid as long as the connection is; the first piece of the shared memory is mapped already, at the
    // size that is given here, and stays where it is until the log is closed.
    let mapped = unsafe {
        let out = (&raw mut file).cast();
        let (handle, main) = (connection.handle(), c"main".as_ptr());
        let told = ffi::sqlite3_file_control(handle, main, ffi::SQLITE_FCNTL_FILE_POINTER, out);
        let methods = file.as_ref().and_then(|file| file.pMethods.as_ref());
        match methods {
            Some(methods) if told == ffi::SQLITE_OK && methods.iVersion >= 2 => {
                methods.xShmMap?(file, 0, PIECE, 0, &raw mut words)
            }
            _ => return None,
        }
    };
    NonNull::new(words.cast()).filter(|_| mapped == ffi::SQLITE_OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(folder: &tempfile::TempDir, mode: &str) -> Connection {
        let connection = Connection::open(folder.path().join("a.db")).unwrap();
        connection.pragma_update(None, "journal_mode", mode).unwrap();
        connection.execute_batch("CREATE TABLE IF NOT EXISTS t (x)").unwrap();
        connection
    }

    #[test]
    fn the_header_moves_with_every_commit_and_not_with_what_is_not_committed() {
        let folder = tempfile::tempdir().unwrap();
        let writer = file(&folder, "WAL");
        let reader = Watched::new(file(&folder, "WAL"));
        let mut seen = vec![reader.header().unwrap()];
        let moved = |seen: &mut Vec<Header>| {
            let new = !seen.contains(&reader.header().unwrap());
            seen.push(reader.header().unwrap());
            new
        };
        for _ in 0..3 {
            writer.execute_batch("BEGIN; INSERT INTO t VALUES (1)").unwrap();
            assert!(!moved(&mut seen), "nothing is committed yet");
            writer.execute_batch("COMMIT").unwrap();
            assert!(moved(&mut seen));
        }
        let count: i64 = reader.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
        writer.execute_batch("BEGIN; INSERT INTO t VALUES (1); ROLLBACK").unwrap();
        writer.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
        assert!(count == 3 && !moved(&mut seen));
        writer.execute_batch("INSERT INTO t VALUES (1)").unwrap();
        assert!(moved(&mut seen), "a commit to a log that begins anew");
    }

    #[test]
    fn a_file_without_a_log_has_none_and_is_given_none() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Watched::new(file(&folder, "DELETE")).header().is_none());
        assert!(Watched::new(Connection::open_in_memory().unwrap()).header().is_none());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
