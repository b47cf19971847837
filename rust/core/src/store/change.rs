//! The log of what happened to rows that others may already have in memory. New rows need no entry: their keys rise.

use rusqlite::Connection;

use super::connections::Reader;
use crate::error::{During, Result};

const DOING: &str = "logging a change";

/// Entries that are kept. A reader that is further behind loads everything again.
const KEPT: i64 = 100_000;

/// Something that readers have to learn of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Rows from the first key to the last are gone.
    Removed(i64, i64),
    /// The returns of an episode were computed.
    Returns(i64),
    /// The returns of many episodes were computed.
    AllReturns,
    /// An episode has another total, or is said to be a success, or is gone.
    Episode(i64),
    /// A pattern lost uses, or its entry changed.
    Pattern(i64),
}

impl Change {
    fn to_row(self) -> (i64, i64, i64) {
        match self {
            Self::Removed(first, last) => (0, first, last),
            Self::Returns(episode) => (1, episode, 0),
            Self::AllReturns => (2, 0, 0),
            Self::Episode(id) => (3, id, 0),
            Self::Pattern(id) => (4, id, 0),
        }
    }

    /// `None` for a kind that a later version of the same format may add: it is none of our business.
    fn from_row(kind: i64, id: i64, last: i64) -> Option<Self> {
        match kind {
            0 => Some(Self::Removed(id, last)),
            1 => Some(Self::Returns(id)),
            2 => Some(Self::AllReturns),
            3 => Some(Self::Episode(id)),
            4 => Some(Self::Pattern(id)),
            _ => None,
        }
    }
}

/// Appends to the log, inside the transaction of the change itself.
pub(super) fn log(
    connection: &Connection,
    changes: impl IntoIterator<Item = Change>,
) -> Result<()> {
    let sql = "INSERT INTO change (kind, id, last) VALUES (?, ?, ?)";
    let mut append = connection.prepare_cached(sql).during(DOING)?;
    for change in changes {
        append.execute(change.to_row()).during(DOING)?;
    }
    let sql = "SELECT (SELECT min(seq) FROM change), (SELECT max(seq) FROM change)";
    let mut ends = connection.prepare_cached(sql).during(DOING)?;
    let ends = ends.query_row([], |row| Ok((row.get(0)?, row.get(1)?))).during(DOING)?;
    if let (Some(first), Some(last)) = ends
        && last - first > KEPT + KEPT / 8
    {
        let (_, last): (i64, i64) = (first, last);
        let mut trim =
            connection.prepare_cached("DELETE FROM change WHERE seq <= ?").during(DOING)?;
        trim.execute([last - KEPT]).during(DOING)?;
    }
    Ok(())
}

/// How much of a file something in memory has seen. Both numbers only rise, and together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    /// The key that the next row will get.
    pub(super) row: i64,
    /// The newest entry of the log.
    pub(super) change: i64,
}

impl Position {
    /// Where the reader's snapshot stands.
    pub(super) fn of(reader: &Reader) -> Result<Self> {
        let doing = "asking how far the store has come";
        let sql = "SELECT (SELECT value FROM meta WHERE key = 'next_row'),
                   ifnull((SELECT max(seq) FROM change), 0)";
        let mut statement = reader.statement(sql)?;
        statement
            .query_row([], |row| Ok(Self { row: row.get(0)?, change: row.get(1)? }))
            .during(doing)
    }

    /// What was logged after this position, in order; `None` if the log no longer reaches back that far.
    pub(super) fn changes_since(self, reader: &Reader) -> Result<Option<Vec<Change>>> {
        let doing = "reading the log of changes";
        let sql = "SELECT seq, kind, id, last FROM change WHERE seq > ? ORDER BY seq";
        let mut statement = reader.statement(sql)?;
        let mut found = statement.query([self.change]).during(doing)?;
        let mut changes = Vec::new();
        let mut expected = self.change + 1;
        while let Some(row) = found.next().during(doing)? {
            let entry = (row.get(0), row.get(1), row.get(2), row.get(3));
            let (seq, kind, id, last): (i64, i64, i64, i64) = (
                entry.0.during(doing)?,
                entry.1.during(doing)?,
                entry.2.during(doing)?,
                entry.3.during(doing)?,
            );
            if seq != expected {
                return Ok(None);
            }
            expected += 1;
            changes.extend(Change::from_row(kind, id, last));
        }
        Ok(Some(changes))
    }
}
