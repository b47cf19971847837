//! The rows of a batch, appended: sixteen to a statement, because starting a statement costs as much as a row.

use std::fmt::Write;
use std::sync::LazyLock;

use rusqlite::{CachedStatement, Connection, Statement, ToSql};

use super::encode;
use super::insert::Named;
use super::open::Facts;
use crate::error::{During, Result};
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

const ROW: &str = "trajectory (id, uuid, episode, action, task_type, reward, state_hash, timestamp_ms, ended,
    return_to_go, step_index, success, quality, duration_ms, tokens_used, context_length, agent_type, task_id,
    action_metadata, extra)";
const ROW_COLUMNS: usize = 20;
const STATE: &str = "vector (id, state)";

/// OR ROLLBACK: should a row fail, the transaction is undone as a whole, so SQLite need not prepare to undo the
/// statement alone.
pub(super) fn insert_into(table: &str, columns: usize, rows: usize) -> String {
    let row = format!("({})", vec!["?"; columns].join(", "));
    let mut sql = format!("INSERT OR ROLLBACK INTO {table} VALUES {row}");
    for _ in 1..rows {
        let _ = write!(sql, ", {row}"); // writing to a string does not fail
    }
    sql
}

/// The two statements that append a number of rows.
struct Appender<'c> {
    rows: CachedStatement<'c>,
    states: CachedStatement<'c>,
}

impl<'c> Appender<'c> {
    fn one(connection: &'c Connection) -> Result<Self> {
        static SQL: LazyLock<[String; 2]> =
            LazyLock::new(|| [insert_into(ROW, ROW_COLUMNS, 1), insert_into(STATE, 2, 1)]);
        Self::prepare(connection, &SQL)
    }

    fn group(connection: &'c Connection) -> Result<Self> {
        static SQL: LazyLock<[String; 2]> =
            LazyLock::new(|| [insert_into(ROW, ROW_COLUMNS, GROUP), insert_into(STATE, 2, GROUP)]);
        Self::prepare(connection, &SQL)
    }

    fn prepare(connection: &'c Connection, [rows, states]: &[String; 2]) -> Result<Self> {
        let prepare = |sql| connection.prepare_cached(sql).during(DOING);
        Ok(Self { rows: prepare(rows)?, states: prepare(states)? })
    }

    fn append(
        &mut self,
        batch: &Batch<'_>,
        range: std::ops::Range<usize>,
        ids: &mut Vec<TrajectoryId>,
        bytes: &mut Vec<u8>,
    ) -> Result<()> {
        let mut row_binder = Binder { statement: &mut self.rows, next: 1 };
        let mut state_binder = Binder { statement: &mut self.states, next: 1 };
        for row in range {
            let key = batch.first + row as i64;
            let id = TrajectoryId::next(RowKey(key), batch.now);
            let wide = batch.facts.dimension;
            batch.facts.storage.encode(&batch.rows.states[row * wide..][..wide], bytes);
            state_binder.value(key)?;
            state_binder.value(&bytes[..])?;
            row_binder.row(batch, row, id, encode::hash(bytes))?;
            ids.push(id);
        }
        self.rows.raw_execute().during(DOING)?;
        self.states.raw_execute().map(drop).during(DOING)
    }
}

/// Appends every row and its state; the new ids.
pub(super) fn append(connection: &Connection, batch: &Batch<'_>) -> Result<Vec<TrajectoryId>> {
    let (mut ids, mut bytes) = (Vec::with_capacity(batch.rows.len), Vec::new());
    let grouped = batch.rows.len / GROUP * GROUP;
    if grouped > 0 {
        let mut group = Appender::group(connection)?;
        for first in (0..grouped).step_by(GROUP) {
            group.append(batch, first..first + GROUP, &mut ids, &mut bytes)?;
        }
    }
    let mut one = Appender::one(connection)?;
    for row in grouped..batch.rows.len {
        one.append(batch, row..row + 1, &mut ids, &mut bytes)?;
    }
    Ok(ids)
}

/// Binds one value after the other.
struct Binder<'a, 'c> {
    statement: &'a mut Statement<'c>,
    next: usize,
}

impl Binder<'_, '_> {
    /// The values of [`ROW`].
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
        let return_to_go = rows.returns.get(row).copied().filter(|value| !value.is_nan());
        self.value(id.row_key().0)?;
        self.value(&id.to_bytes()[..])?;
        self.value(named.episodes[episode as usize])?;
        self.value(actions[row])?;
        self.value(named.task_types[task_type as usize])?;
        self.value(rows.rewards[row])?;
        self.value(encode::signed(state_hash))?;
        self.value(timestamp)?;
        self.value(ended)?;
        self.value(return_to_go)?;
        self.column(rows.step_indices.as_ref(), row)?;
        self.column(rows.successes.as_ref(), row)?;
        self.column(rows.qualities.as_ref(), row)?;
        self.column(rows.durations.as_ref(), row)?;
        self.column(rows.tokens_used.as_ref(), row)?;
        self.column(rows.context_lengths.as_ref(), row)?;
        match rows.agent_types.as_ref().and_then(|column| column[row].as_deref()) {
            Some(name) => self.value(named.agent_types[name])?,
            None => self.value(None::<i64>)?,
        }
        self.column(rows.task_ids.as_ref(), row)?;
        self.column(rows.action_metadata.as_ref(), row)?;
        self.column(rows.extras.as_ref(), row)
    }

    fn value(&mut self, value: impl ToSql) -> Result<()> {
        self.statement.raw_bind_parameter(self.next, value).during(DOING)?;
        self.next += 1;
        Ok(())
    }

    /// An optional column; where there is none at all, the parameter stays unbound, which is NULL.
    fn column<T: ToSql>(&mut self, column: Option<&Vec<Option<T>>>, row: usize) -> Result<()> {
        if let Some(column) = column {
            return self.value(&column[row]);
        }
        self.next += 1;
        Ok(())
    }
}
