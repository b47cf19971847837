//! The tables, as an append-only list of steps: the length of the list is the version of the file.
//!
//! `trajectory` is narrow and holds all that is filtered on; the wide `vector` lies apart, so that a scan of facts does
//! not drag the states along. Both are keyed by the row key, which only rises, so inserts append to both. An action
//! embedding is stored once for each pattern that uses it. Rows of `trajectory` name their episode, action and labels
//! without REFERENCES: that is four more lookups an insert, and `Store::verify` proves the same.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use crate::error::{During, Error, Result};

/// Marks the file as ours: "PRCD".
pub(super) const APPLICATION_ID: i32 = 0x5052_4344;

/// The newest version this library writes and reads.
pub(super) const NEWEST: u32 = STEPS.len() as u32;

const STEPS: [&str; 1] = ["
CREATE TABLE meta (key TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE label (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE episode (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    steps INTEGER NOT NULL,
    total_reward REAL NOT NULL,
    success INTEGER,
    metadata TEXT
) STRICT;
CREATE TABLE pattern (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    uses INTEGER NOT NULL,
    successes INTEGER NOT NULL,
    reward_sum REAL NOT NULL
) STRICT;
CREATE TABLE pattern_entry (
    pattern INTEGER PRIMARY KEY REFERENCES pattern (id),
    name TEXT,
    payload TEXT,
    embedding BLOB
) STRICT;
CREATE TABLE action (
    id INTEGER PRIMARY KEY,
    pattern INTEGER NOT NULL,
    hash INTEGER NOT NULL,
    uses INTEGER NOT NULL,
    UNIQUE (pattern, hash)
) STRICT;
CREATE TABLE action_vector (id INTEGER PRIMARY KEY, embedding BLOB NOT NULL) STRICT;
CREATE TABLE trajectory (
    id INTEGER PRIMARY KEY,
    uuid BLOB NOT NULL,
    episode INTEGER NOT NULL,
    action INTEGER NOT NULL,
    task_type INTEGER NOT NULL,
    reward REAL NOT NULL,
    state_hash INTEGER NOT NULL,
    timestamp_ms INTEGER NOT NULL,
    step_index INTEGER,
    ended INTEGER NOT NULL,
    success INTEGER,
    quality REAL,
    duration_ms INTEGER,
    tokens_used INTEGER,
    context_length INTEGER,
    agent_type INTEGER,
    task_id TEXT,
    action_metadata TEXT,
    extra TEXT,
    return_to_go REAL
) STRICT;
CREATE TABLE span (
    episode INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    PRIMARY KEY (episode, first)
) STRICT, WITHOUT ROWID;
CREATE TABLE vector (id INTEGER PRIMARY KEY, state BLOB NOT NULL) STRICT;
CREATE TABLE priority (id INTEGER PRIMARY KEY, value REAL NOT NULL) STRICT;
CREATE TABLE model (
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (name, version)
) STRICT;
CREATE TABLE change (
    seq INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL,
    id INTEGER NOT NULL,
    last INTEGER NOT NULL
) STRICT;
INSERT INTO meta (key, value) VALUES ('next_row', 1);
"];

/// The version of a file.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<u32> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Refuses a file that lacks tables of the newest version: whoever only reads cannot make them.
pub(super) fn check_newest(connection: &Connection, path: &Path) -> Result<()> {
    let found = version(connection).during("asking for the version of the store")?;
    if found >= NEWEST {
        return Ok(());
    }
    let why = format!(
        "it has format version {found}, this library reads {NEWEST}; open it once for writing, \
         which brings it there"
    );
    Err(Error::Access { path: path.to_owned(), why, source: None })
}

/// Brings the file to the newest version in one transaction; another process may do the same at the same time.
pub(super) fn migrate(connection: &Connection) -> Result<()> {
    let doing = "preparing the tables of the store";
    if version(connection).during(doing)? == NEWEST {
        return Ok(());
    }
    let write = rusqlite::Transaction::new_unchecked(connection, TransactionBehavior::Immediate)
        .during(doing)?;
    let applied = version(&write).during(doing)?;
    for (step, version) in STEPS.iter().zip(1..).skip(applied as usize) {
        write.execute_batch(step).during(doing)?;
        write.pragma_update(None, "user_version", version).during(doing)?;
    }
    write.pragma_update(None, "application_id", APPLICATION_ID).during(doing)?;
    write.commit().during(doing)
}

/// The page size in bytes that wastes least on vectors of `bytes` bytes; the smaller one where two come close, because
/// a page is the least that is read, written and logged. Vectors that no page can hold get the largest.
pub(super) fn page_size(bytes: usize) -> usize {
    let waste = |page: usize| {
        let cell = bytes + 12; // the record's header, the row key, the cell's pointer
        let fitting = (page - 8) / cell;
        if fitting == 0 { 1.0 } else { 1.0 - (fitting * cell) as f64 / page as f64 }
    };
    let sizes = [8192, 16_384, 32_768];
    let least = sizes.map(waste).into_iter().fold(1.0, f64::min);
    sizes.into_iter().find(|&page| waste(page) < (least + 0.04).min(1.0)).unwrap_or(32_768)
}

#[cfg(test)]
mod tests {
    use super::{NEWEST, migrate, page_size, version};
    use rusqlite::Connection;

    #[test]
    fn a_new_file_gets_every_step_once() {
        let connection = Connection::open_in_memory().unwrap();
        migrate(&connection).unwrap();
        migrate(&connection).unwrap();
        assert_eq!(version(&connection).unwrap(), NEWEST);
        let tables: i64 = connection
            .query_row("SELECT count(*) FROM sqlite_schema WHERE type = 'table'", [], |r| r.get(0))
            .unwrap();
        assert_eq!(tables, 13);
    }

    #[test]
    fn pages_fit_the_vectors() {
        assert_eq!(page_size(128 * 4), 8192);
        assert_eq!(page_size(768 * 4), 16_384);
        assert_eq!(page_size(16_384 * 4), 32_768);
    }
}
