//! The connections of an open store: one that writes and a pool that reads, or one for everything in memory.
//!
//! Locking: the writer is behind a mutex, and a write transaction begins as IMMEDIATE, so it waits for other processes
//! up to the busy timeout and never fails half way. A reader is taken out of the pool for one snapshot and put back.
//! Whoever holds the writer takes no other lock of the store.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{CachedStatement, Connection, OpenFlags};

use super::options::Durability;
use super::patience::Halt;
use super::sync::Seen;
use super::watch::Watched;
use crate::error::{During, Error, Result};

const UNPOISONED: &str = "no holder of this lock panics";

/// Kibibytes of pages that the writer keeps. Bulk inserts append: the tail of each table is all they touch.
const WRITER_CACHE: i64 = 16_384;
/// Kibibytes of pages that one reader keeps.
const READER_CACHE: i64 = 4_096;
/// Bytes of the file that a reader maps at the most. A record lies on three or four pages far apart: to copy those through
/// system calls took half of the time of reading it.
const MAPPED: i64 = 1 << 40;
/// Idle readers that stay open.
const IDLE_READERS: usize = 4;
/// Bytes that the log is cut back to after it was copied into the file.
const LOG_LIMIT: i64 = 64 << 20;

/// What is needed to open one more connection.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// The file; `None` is memory.
    pub(super) path: Option<PathBuf>,
    pub(super) read_only: bool,
    /// Nobody can write to the file, not even its owner: it is read without locks.
    pub(super) immutable: bool,
    pub(super) durability: Durability,
    pub(super) busy_timeout: Duration,
}

impl Target {
    /// A connection with the pragmas that do not touch the file.
    pub(super) fn connect(&self, writing: bool) -> rusqlite::Result<Connection> {
        let connection = match &self.path {
            None => Connection::open_in_memory()?,
            Some(path) if self.immutable => {
                let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
                    | OpenFlags::SQLITE_OPEN_URI
                    | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                Connection::open_with_flags(immutable_uri(path), flags)?
            }
            Some(path) => {
                let access = if self.read_only {
                    OpenFlags::SQLITE_OPEN_READ_ONLY
                } else {
                    OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE
                };
                Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?
            }
        };
        connection.busy_timeout(self.busy_timeout)?;
        connection.set_prepared_statement_cache_capacity(64);
        // Without this, SQLite peeks at bound values to plan with, and compiles a statement anew at every new value.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        let synchronous = match self.durability {
            Durability::Normal => "NORMAL",
            Durability::Full => "FULL",
        };
        connection.pragma_update(None, "synchronous", synchronous)?;
        if writing {
            connection.pragma_update(None, "journal_size_limit", LOG_LIMIT)?;
        } else if self.path.is_some() {
            connection.pragma_update(None, "query_only", true)?;
        }
        bound_cache(&connection, writing)?;
        if !writing {
            connection.pragma_update(None, "mmap_size", MAPPED)?;
        }
        Ok(connection)
    }
}

/// Bounds the memory that a connection keeps pages in.
///
/// SQLite works out how many pages that is at once, from the size of a page as it knows it then, and keeps to the number
/// when it learns of another size. So it has to look into the file first.
pub(super) fn bound_cache(connection: &Connection, writing: bool) -> rusqlite::Result<()> {
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    let cache = if writing { WRITER_CACHE } else { READER_CACHE };
    connection.pragma_update(None, "cache_size", -cache)
}

/// The file as SQLite's URI for "this never changes".
fn immutable_uri(path: &Path) -> String {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                uri.push(char::from(*byte));
            }
            other => {
                let _ = write!(uri, "%{other:02X}"); // writing to a string does not fail
            }
        }
    }
    uri + "?immutable=1"
}

/// What tells a connection that the file changed since it last looked: its `data_version`, which moves with every
/// commit of another connection, and its own count of changed rows.
pub(super) type Stamp = (i64, u64);

/// A connection, and what it saw when it last looked whether the file changed.
pub(super) struct Reader {
    pub(super) connection: Watched,
    pub(super) seen: Option<Seen>,
}

impl Reader {
    /// One that reads what `target` says.
    fn of(connection: Connection, target: &Target) -> Self {
        // to ask for the shared memory of what is read without locks would make some
        let watched = if target.immutable { Watched::unwatched } else { Watched::new };
        Self { connection: watched(connection), seen: None }
    }

    /// One that writes, or does one thing and goes.
    fn unwatched(connection: Connection) -> Self {
        Self { connection: Watched::unwatched(connection), seen: None }
    }

    /// The stamp of the running snapshot.
    pub(super) fn stamp(&self) -> Result<Stamp> {
        let doing = "asking whether the file changed";
        let mut statement = self.statement("PRAGMA data_version")?;
        let version = statement.query_row([], |row| row.get(0)).during(doing)?;
        Ok((version, self.connection.total_changes()))
    }

    /// Ends the running snapshot and begins a newer one.
    pub(super) fn renew(&self) -> Result<()> {
        run(&self.connection, "COMMIT", "reading the store")?;
        run(&self.connection, "BEGIN", "reading the store")
    }

    /// A prepared statement from this connection's cache.
    pub(super) fn statement(&self, sql: &str) -> Result<CachedStatement<'_>> {
        self.connection.prepare_cached(sql).during("preparing a statement")
    }
}

/// Every connection of one open store.
pub(super) struct Connections {
    target: Target,
    /// The writer; in memory the only connection. `None` where nothing is written.
    writer: Option<Mutex<Reader>>,
    idle: Mutex<Vec<Reader>>,
}

impl Connections {
    /// Takes over the connection that prepared the file.
    pub(super) fn new(target: Target, first: Connection) -> Self {
        if target.read_only {
            let idle = Mutex::new(vec![Reader::of(first, &target)]);
            return Self { target, writer: None, idle };
        }
        let writer = Some(Mutex::new(Reader::unwatched(first)));
        Self { target, writer, idle: Mutex::new(Vec::new()) }
    }

    /// The file; `None` is memory.
    pub(super) fn file(&self) -> Option<&Path> {
        self.target.path.as_deref()
    }

    /// Runs `work` on one snapshot of the file.
    pub(super) fn read<T>(&self, work: impl FnOnce(&mut Reader) -> Result<T>) -> Result<T> {
        self.read_until(None, work)
    }

    /// [`Self::read`], ended by the halt if there is one.
    pub(super) fn read_until<T>(
        &self,
        halt: Option<&Halt>,
        work: impl FnOnce(&mut Reader) -> Result<T>,
    ) -> Result<T> {
        let work = |reader: &mut Reader| match halt {
            Some(halt) => halt.within(reader, work),
            None => work(reader),
        };
        if let (None, Some(only)) = (&self.target.path, &self.writer) {
            return snapshot(&mut only.lock().expect(UNPOISONED), work);
        }
        let idle = self.idle.lock().expect(UNPOISONED).pop();
        let mut reader = if let Some(reader) = idle {
            reader
        } else {
            let connection = self.target.connect(false).during("opening the store once more")?;
            Reader::of(connection, &self.target)
        };
        let result = snapshot(&mut reader, work);
        self.put_back(reader);
        result
    }

    /// Runs `look` on a connection that reads a file, outside of any snapshot; `None` where there is only one connection,
    /// or none is idle.
    pub(super) fn peek<T>(&self, look: impl FnOnce(&mut Reader) -> Result<T>) -> Result<Option<T>> {
        if self.target.path.is_none() {
            return Ok(None);
        }
        let idle = self.idle.lock().expect(UNPOISONED).pop();
        let Some(mut reader) = idle else { return Ok(None) };
        let found = look(&mut reader);
        self.put_back(reader);
        found.map(Some)
    }

    /// Keeps a reader for the next who reads, unless enough are idle.
    fn put_back(&self, reader: Reader) {
        let mut idle = self.idle.lock().expect(UNPOISONED);
        if idle.len() < IDLE_READERS {
            idle.push(reader);
        }
    }

    /// Whether nothing is written.
    pub(super) fn read_only(&self) -> bool {
        self.target.read_only
    }

    /// Runs `work` on a connection that is in no transaction, until it is done or the halt ends it.
    pub(super) fn bare<T>(
        &self,
        halt: &Halt,
        work: impl FnOnce(&Connection) -> Result<T>,
    ) -> Result<T> {
        let work = |reader: &mut Reader| work(&reader.connection);
        match &self.writer {
            Some(writer) if self.target.path.is_none() => {
                halt.within(&mut writer.lock().expect(UNPOISONED), work)
            }
            _ => {
                let connection = self.target.connect(true).during("opening the store once more")?;
                halt.within(&mut Reader::unwatched(connection), work)
            }
        }
    }

    /// Runs `work` in one write transaction, committed if it succeeds and undone if not.
    pub(super) fn write<T>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Connection) -> Result<T>,
    ) -> Result<T> {
        self.write_until(None, doing, work)
    }

    /// [`Self::write`], undone as a whole if the halt ends it.
    pub(super) fn write_until<T>(
        &self,
        halt: Option<&Halt>,
        doing: &'static str,
        work: impl FnOnce(&Connection) -> Result<T>,
    ) -> Result<T> {
        let mut writer = self.lock_writer(doing)?;
        run(&writer.connection, "BEGIN IMMEDIATE", doing)?;
        let result = match halt {
            Some(halt) => halt.within(&mut writer, |writer| work(&writer.connection)),
            None => work(&writer.connection),
        };
        let connection = &writer.connection;
        let result = result.and_then(|value| {
            run(connection, "COMMIT", doing)?;
            Ok(value)
        });
        if result.is_err() && !connection.is_autocommit() {
            // SQLite may have rolled back by itself; if it cannot now, the next BEGIN will say so.
            let _ = run(connection, "ROLLBACK", doing);
        }
        result.map_err(|why| why.of_file(self.file()))
    }

    /// Copies the log into the file and closes everything.
    pub(super) fn close(self) -> Result<()> {
        drop(self.idle);
        let Some(writer) = self.writer else { return Ok(()) };
        let connection = writer.into_inner().expect(UNPOISONED).connection.into_connection();
        connection.flush_prepared_statement_cache();
        if self.target.path.is_some() {
            // A reader of another process may be in the way: then the log stays, and nothing is lost.
            let _ = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        }
        connection.close().map_err(|(_, why)| why).during("closing the store")
    }

    fn lock_writer(&self, doing: &'static str) -> Result<MutexGuard<'_, Reader>> {
        let writer = self.writer.as_ref().ok_or(Error::ReadOnly { doing })?;
        Ok(writer.lock().expect(UNPOISONED))
    }
}

/// Runs `work` between BEGIN and its end; what it read is one state of the file.
fn snapshot<T>(reader: &mut Reader, work: impl FnOnce(&mut Reader) -> Result<T>) -> Result<T> {
    let doing = "reading the store";
    run(&reader.connection, "BEGIN", doing)?;
    let result = work(reader);
    let ended = run(&reader.connection, "COMMIT", doing);
    result.and_then(|value| ended.map(|()| value))
}

fn run(connection: &Connection, sql: &str, doing: &'static str) -> Result<()> {
    let mut statement = connection.prepare_cached(sql).during(doing)?;
    statement.execute([]).map(drop).during(doing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Options, Store};

    fn mapped(connection: &Connection) -> i64 {
        connection.pragma_query_value(None, "mmap_size", |row| row.get(0)).unwrap()
    }

    #[test]
    fn readers_may_map_a_file_of_any_size_and_the_writer_none_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("a.db"), Options::default()).unwrap();
        let open = store.enter().unwrap();
        let reading = open.connections.read(|reader| Ok(mapped(&reader.connection))).unwrap();
        assert_eq!(reading, MAPPED, "SQLite was compiled with less: see .cargo/config.toml");
        let writer = open.connections.writer.as_ref().unwrap().lock().unwrap();
        assert_eq!(mapped(&writer.connection), 0);
    }

    #[test]
    fn the_first_connection_of_a_store_for_reading_is_a_reader() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        drop(Store::open(&path, Options::default()).unwrap());
        let store = Store::open(&path, Options { read_only: true, ..Options::default() }).unwrap();
        let open = store.enter().unwrap();
        let told = |connection: &Connection| {
            let number =
                |name| connection.pragma_query_value(None, name, |row| row.get(0)).unwrap();
            [number("query_only"), number("cache_size"), mapped(connection)]
        };
        let told = open.connections.read(|reader| Ok(told(&reader.connection))).unwrap();
        assert_eq!(told, [1, -READER_CACHE, MAPPED]);
    }
}
