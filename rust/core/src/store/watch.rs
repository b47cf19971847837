//! Whether anybody committed, seen without asking SQLite: the only unsafe code of the store.
//!
//! Every commit to a file with a write-ahead log rewrites a header in memory that all connections to the file share: a
//! count of transactions, the end of the log, checksums (<https://sqlite.org/walformat.html>). SQLite itself compares these
//! 48 bytes with those it saw last to know whether its snapshot is the newest, but takes two locks of the system to do so:
//! a tenth of a search of 100,000 rows. To know that nothing changed, the bytes alone are enough.
#![expect(unsafe_code, reason = "the shared memory is reached through SQLite's methods of a file")]

use std::ffi::{c_int, c_void};
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

/// The shared header of the log behind one connection, which has to be open while it is read.
pub(super) struct Watch(NonNull<[AtomicU32; WORDS]>);

// SAFETY: the words are in memory that any thread may read, and are only read as atomics.
unsafe impl Send for Watch {}

impl Watch {
    /// That of a connection's file; `None` where it has no log, or no memory that is shared with other processes.
    pub(super) fn of(connection: &Connection) -> Option<Self> {
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
        // SQLite's own and valid as long as the connection is; the first piece of the shared memory is mapped already, at
        // the size that is given here, and stays where it is until the log is closed.
        let mapped = unsafe {
            let out = (&raw mut file).cast();
            let main = c"main".as_ptr();
            let told = ffi::sqlite3_file_control(
                connection.handle(),
                main,
                ffi::SQLITE_FCNTL_FILE_POINTER,
                out,
            );
            let methods = file.as_ref().and_then(|file| file.pMethods.as_ref());
            match methods {
                Some(methods) if told == ffi::SQLITE_OK && methods.iVersion >= 2 => {
                    methods.xShmMap?(file, 0, PIECE, 0, &raw mut words)
                }
                _ => return None,
            }
        };
        let words = NonNull::new(words.cast()).filter(|_| mapped == ffi::SQLITE_OK)?;
        Some(Self(words))
    }

    /// The header as it is now.
    pub(super) fn header(&self) -> Header {
        // SAFETY: whoever calls keeps the connection open, and with it the mapping; any bits are a word.
        let words = unsafe { self.0.as_ref() };
        let header = words.each_ref().map(|word| word.load(Ordering::Relaxed));
        fence(Ordering::Acquire); // what is read after it is at least as new
        header
    }
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
    fn the_header_moves_with_every_commit_and_with_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let (writer, reader) = (file(&folder, "WAL"), file(&folder, "WAL"));
        let watch = Watch::of(&reader).unwrap();
        let mut seen = vec![watch.header()];
        for _ in 0..3 {
            writer.execute_batch("BEGIN; INSERT INTO t VALUES (1)").unwrap();
            assert_eq!(watch.header(), seen[seen.len() - 1], "nothing is committed yet");
            writer.execute_batch("COMMIT").unwrap();
            assert!(!seen.contains(&watch.header()));
            seen.push(watch.header());
        }
        let count: i64 = reader.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
        writer.execute_batch("BEGIN; INSERT INTO t VALUES (1); ROLLBACK").unwrap();
        assert_eq!((count, watch.header()), (3, seen[3]));
        writer.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); INSERT INTO t VALUES (1)").unwrap();
        assert!(!seen.contains(&watch.header()), "a log that begins anew");
    }

    #[test]
    fn a_file_without_a_log_has_none_and_is_given_none() {
        let folder = tempfile::tempdir().unwrap();
        let connection = file(&folder, "DELETE");
        assert!(Watch::of(&connection).is_none());
        assert!(Watch::of(&Connection::open_in_memory().unwrap()).is_none());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
