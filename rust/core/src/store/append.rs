//! The rows of a batch, appended: sixteen to a statement, because starting a statement costs as much as a row.
//!
//! Only the first row names its key, and each later one takes the next: naming a key makes SQLite look for it in the
//! table, and keep what it needs to undo a statement that names several.

use std::fmt::Write;
use std::ops::Range;

use rusqlite::{CachedStatement, Connection, Statement, ToSql};

use super::encode;
use super::insert::Named;
use super::open::Facts;
use crate::error::{During, Error, Result};
use crate::ids::{RowKey, TrajectoryId};
use crate::rows::Rows;

const DOING: &str = "inserting trajectories";

/// Rows that one statement takes.
pub(super) const GROUP: usize = 16;

/// A batch whose names were settled.
pub(super) struct Batch<'a> {
    pub(super) rows: &'a Rows,
    pub(super) facts: &'a Facts,
    /// The moment of the insert.
    pub(super) now: i64,
    /// The key of the first row.
    pub(super) first: i64,
    pub(super) named: Named,
    /// The action row of each row.
    pub(super) actions: Vec<i64>,
}

/// The columns that every row fills, after its key.
const ALWAYS: [&str; 8] =
    ["uuid", "episode", "action", "task_type", "reward", "state_hash", "timestamp_ms", "ended"];

/// A column that some rows fill.
enum Column<'a> {
    Integer(&'a [Option<i64>]),
    Real(&'a [Option<f64>]),
    Flag(&'a [Option<bool>]),
    Text(&'a [Option<String>]),
    /// Of labels.
    Label(&'a [Option<String>]),
    /// NaN is none.
    Return(&'a [f64]),
}

impl Column<'_> {
    /// Whether any row of the batch fills it.
    fn is_filled(&self) -> bool {
        match self {
            Self::Integer(values) => values.iter().any(Option::is_some),
            Self::Real(values) => values.iter().any(Option::is_some),
            Self::Flag(values) => values.iter().any(Option::is_some),
            Self::Text(values) | Self::Label(values) => values.iter().any(Option::is_some),
            Self::Return(values) => values.iter().any(|value| !value.is_nan()),
        }
    }
}

/// The columns that some row of the batch fills, by name. What none fills is not in the statement either.
fn optional(rows: &Rows) -> Vec<(&'static str, Column<'_>)> {
    let mut columns = vec![("return_to_go", Column::Return(&rows.returns))];
    for (name, values) in [
        ("step_index", &rows.step_indices),
        ("duration_ms", &rows.durations),
        ("tokens_used", &rows.tokens_used),
        ("context_length", &rows.context_lengths),
    ] {
        columns.extend(values.as_deref().map(|values| (name, Column::Integer(values))));
    }
    for (name, values) in [
        ("task_id", &rows.task_ids),
        ("action_metadata", &rows.action_metadata),
        ("extra", &rows.extras),
    ] {
        columns.extend(values.as_deref().map(|values| (name, Column::Text(values))));
    }
    columns.extend(rows.successes.as_deref().map(|values| ("success", Column::Flag(values))));
    columns.extend(rows.qualities.as_deref().map(|values| ("quality", Column::Real(values))));
    columns.extend(rows.agent_types.as_deref().map(|values| ("agent_type", Column::Label(values))));
    columns.retain(|(_, column)| column.is_filled());
    columns
}

/// OR ROLLBACK: should a row fail, the transaction is undone as a whole, so SQLite need not prepare to undo the
/// statement alone.
pub(super) fn insert_into(table: &str, columns: &[&str], rows: usize) -> String {
    let row = format!("({})", vec!["?"; columns.len()].join(", "));
    let mut sql = format!("INSERT OR ROLLBACK INTO {table} ({}) VALUES {row}", columns.join(", "));
    for _ in 1..rows {
        let _ = write!(sql, ", {row}"); // writing to a string does not fail
    }
    sql
}

/// Appends every row and its state; the new ids.
pub(super) fn append(connection: &Connection, batch: &Batch<'_>) -> Result<Vec<TrajectoryId>> {
    let optional = optional(batch.rows);
    let mut columns: Vec<_> = ["id"].into_iter().chain(ALWAYS).collect();
    columns.extend(optional.iter().map(|(name, _)| *name));
    let optional: Vec<_> = optional.into_iter().map(|(_, column)| column).collect();
    let mut ids = Vec::with_capacity(batch.rows.len);
    let mut one = Appender::prepare(connection, &columns, &["id", "state"], 1)?;
    let grouped = 1 + (batch.rows.len - 1) / GROUP * GROUP;
    one.append(batch, &optional, 0..1, &mut ids)?;
    if grouped > 1 {
        let mut group = Appender::prepare(connection, &columns[1..], &["state"], GROUP)?;
        for first in (1..grouped).step_by(GROUP) {
            group.append(batch, &optional, first..first + GROUP, &mut ids)?;
        }
    }
    for row in grouped..batch.rows.len {
        one.append(batch, &optional, row..row + 1, &mut ids)?;
    }
    Ok(ids)
}

/// The two statements that append a number of rows.
struct Appender<'c> {
    connection: &'c Connection,
    rows: CachedStatement<'c>,
    states: CachedStatement<'c>,
    /// Whether the statements name the keys of the rows.
    names_keys: bool,
    /// The stored form of a state.
    bytes: Vec<u8>,
}

impl<'c> Appender<'c> {
    fn prepare(
        connection: &'c Connection,
        row: &[&str],
        state: &[&str],
        rows: usize,
    ) -> Result<Self> {
        let prepare = |table, columns| {
            connection.prepare_cached(&insert_into(table, columns, rows)).during(DOING)
        };
        let (rows, states) = (prepare("trajectory", row)?, prepare("vector", state)?);
        let names_keys = row[0] == "id";
        Ok(Self { connection, rows, states, names_keys, bytes: Vec::new() })
    }

    fn append(
        &mut self,
        batch: &Batch<'_>,
        optional: &[Column<'_>],
        range: Range<usize>,
        ids: &mut Vec<TrajectoryId>,
    ) -> Result<()> {
        let bytes = &mut self.bytes;
        let mut row_binder = Binder { statement: &mut self.rows, next: 1 };
        let mut state_binder = Binder { statement: &mut self.states, next: 1 };
        let last = batch.first + range.end as i64 - 1;
        for row in range {
            let key = batch.first + row as i64;
            let id = TrajectoryId::next(RowKey(key), batch.now);
            let wide = batch.facts.dimension;
            batch.facts.storage.encode(&batch.rows.states[row * wide..][..wide], bytes);
            if self.names_keys {
                row_binder.value(key)?;
                state_binder.value(key)?;
            }
            row_binder.row(batch, row, id, encode::hash(bytes))?;
            row_binder.optional(optional, row, &batch.named)?;
            state_binder.value(&bytes[..])?;
            ids.push(id);
        }
        self.execute(last)
    }

    /// Runs both statements, whose last row has the key `last`.
    fn execute(&mut self, last: i64) -> Result<()> {
        for statement in [&mut self.rows, &mut self.states] {
            statement.raw_execute().during(DOING)?;
            if self.connection.last_insert_rowid() != last {
                let what = "a table holds rows beyond the newest".to_owned();
                return Err(Error::Corrupt { what });
            }
        }
        Ok(())
    }
}

/// Binds one value after the other.
struct Binder<'a, 'c> {
    statement: &'a mut Statement<'c>,
    next: usize,
}

impl Binder<'_, '_> {
    /// The values of [`ALWAYS`].
    fn row(
        &mut self,
        batch: &Batch<'_>,
        row: usize,
        id: TrajectoryId,
        state_hash: u64,
    ) -> Result<()> {
        let Batch { rows, now, named, actions, .. } = batch;
        let (episode, task_type) = (rows.episodes.codes[row], rows.task_types.codes[row]);
        let timestamp = rows.timestamps.as_ref().and_then(|column| column[row]).unwrap_or(*now);
        let flag = |column: &Option<Vec<bool>>| column.as_ref().is_some_and(|column| column[row]);
        let ended = i64::from(flag(&rows.terminated)) | i64::from(flag(&rows.truncated)) << 1;
        self.value(&id.to_bytes()[..])?;
        self.value(named.episodes[episode as usize])?;
        self.value(actions[row])?;
        self.value(named.task_types[task_type as usize])?;
        self.value(rows.rewards[row])?;
        self.value(encode::signed(state_hash))?;
        self.value(timestamp)?;
        self.value(ended)
    }

    fn optional(&mut self, columns: &[Column<'_>], row: usize, named: &Named) -> Result<()> {
        for column in columns {
            match column {
                Column::Integer(values) => self.value(values[row]),
                Column::Real(values) => self.value(values[row]),
                Column::Flag(values) => self.value(values[row]),
                Column::Text(values) => self.value(values[row].as_deref()),
                Column::Label(values) => {
                    self.value(values[row].as_ref().map(|name| named.agent_types[name]))
                }
                Column::Return(values) => self.value(Some(values[row]).filter(|x| !x.is_nan())),
            }?;
        }
        Ok(())
    }

    fn value(&mut self, value: impl ToSql) -> Result<()> {
        self.statement.raw_bind_parameter(self.next, value).during(DOING)?;
        self.next += 1;
        Ok(())
    }
}
