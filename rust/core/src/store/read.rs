//! Rows out of the file, by key. What repeats (episodes, patterns, actions, labels) is read once a call.

use std::collections::HashMap;
use std::hash::Hash;

use rusqlite::{OptionalExtension, Row};

use super::connections::Reader;
use super::open::Facts;
use super::{Store, encode};
use crate::error::{During, Error, Result};
use crate::ids::{RowKey, TrajectoryId};
use crate::rows::{Labels, Rows};

const DOING: &str = "reading trajectories";

const SELECT: &str = "SELECT t.uuid, t.episode, t.action, t.task_type, t.reward, t.return_to_go, t.timestamp_ms, t.ended,
    t.step_index, t.success, t.quality, t.duration_ms, t.tokens_used, t.context_length, t.agent_type,
    t.task_id, t.action_metadata, t.extra, v.state
    FROM trajectory t LEFT JOIN vector v ON v.id = t.id WHERE t.id = ?";

/// What a key that is gone does to a read of many.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// It ends the read with "not found".
    Refused,
    /// The others are read.
    Skipped,
}

impl Store {
    /// Trajectories by id, in the order of the ids. An unknown one: [`Error::NotFound`].
    pub fn get(&self, ids: &[TrajectoryId]) -> Result<Rows> {
        let open = self.enter()?;
        open.connections.read(|reader| {
            let keys: Vec<RowKey> = ids.iter().map(|id| id.row_key()).collect();
            // Another trajectory may have the key of an id that was made up: the whole ids must agree.
            let rows = rows(reader, &self.facts, &keys, Missing::Skipped)?;
            match ids.iter().enumerate().find(|(at, id)| rows.ids.get(*at) != Some(id)) {
                Some((_, id)) => Err(unknown(*id)),
                None => Ok(rows),
            }
        })
    }

    /// Trajectories by row key, in the order of the keys. An unknown or deleted one: [`Error::NotFound`].
    pub fn get_keys(&self, keys: &[RowKey]) -> Result<Rows> {
        let open = self.enter()?;
        open.connections.read(|reader| rows(reader, &self.facts, keys, Missing::Refused))
    }

    /// Trajectories by row key without those that are gone.
    pub fn get_keys_present(&self, keys: &[RowKey]) -> Result<Rows> {
        let open = self.enter()?;
        open.connections.read(|reader| rows(reader, &self.facts, keys, Missing::Skipped))
    }
}

/// No trajectory has this id.
pub(super) fn unknown(id: TrajectoryId) -> Error {
    Error::NotFound { what: "trajectory", id: id.to_string() }
}

/// A dictionary that grows while rows are read: numbers in the file become codes of the answer.
struct Dictionary<K> {
    codes: HashMap<K, u32>,
    labels: Labels,
}

impl<K: Hash + Eq> Dictionary<K> {
    fn with_capacity(rows: usize) -> Self {
        let labels = Labels { names: Vec::new(), codes: Vec::with_capacity(rows) };
        Self { codes: HashMap::new(), labels }
    }

    fn push(&mut self, id: K, name: impl FnOnce() -> Result<String>) -> Result<()> {
        let known = self.codes.get(&id).copied();
        let code = known.unwrap_or(self.labels.names.len() as u32);
        if known.is_none() {
            self.labels.names.push(name()?);
            self.codes.insert(id, code);
        }
        self.labels.codes.push(code);
        Ok(())
    }
}

/// An optional column that begins with the first row that has a value.
fn push<T>(column: &mut Option<Vec<Option<T>>>, before: usize, value: Option<T>) {
    match (column.as_mut(), value) {
        (Some(column), value) => column.push(value),
        (None, Some(value)) => {
            let mut begun: Vec<Option<T>> = Vec::with_capacity(before + 1);
            begun.resize_with(before, || None);
            begun.push(Some(value));
            *column = Some(begun);
        }
        (None, None) => {}
    }
}

/// Reads whole rows within the reader's snapshot.
pub(super) fn rows(
    reader: &Reader,
    facts: &Facts,
    keys: &[RowKey],
    missing: Missing,
) -> Result<Rows> {
    let n = keys.len();
    let mut reading = Reading {
        reader,
        facts,
        out: Rows {
            states: vec![0.0; n * facts.dimension],
            actions: vec![0.0; n * facts.action_dimension],
            terminated: Some(Vec::with_capacity(n)),
            truncated: Some(Vec::with_capacity(n)),
            timestamps: Some(Vec::with_capacity(n)),
            ..Rows::default()
        },
        episodes: Dictionary::with_capacity(n),
        patterns: Dictionary::with_capacity(n),
        task_types: Dictionary::with_capacity(n),
        agent_types: HashMap::new(),
        actions: HashMap::new(),
    };
    let mut statement = reader.statement(SELECT)?;
    for key in keys {
        let mut found = statement.query([key.0]).during(DOING)?;
        match found.next().during(DOING)? {
            Some(row) => reading.push(*key, row)?,
            None if missing == Missing::Skipped => {}
            None => return Err(Error::NotFound { what: "trajectory", id: key.0.to_string() }),
        }
    }
    let Reading { mut out, episodes, patterns, task_types, .. } = reading;
    out.states.truncate(out.len * facts.dimension);
    out.actions.truncate(out.len * facts.action_dimension);
    (out.episodes, out.patterns, out.task_types) =
        (episodes.labels, patterns.labels, task_types.labels);
    Ok(out)
}

struct Reading<'a> {
    reader: &'a Reader,
    facts: &'a Facts,
    out: Rows,
    episodes: Dictionary<i64>,
    patterns: Dictionary<i64>,
    task_types: Dictionary<i64>,
    agent_types: HashMap<i64, String>,
    /// The pattern of an action, and the first row of the answer that has it.
    actions: HashMap<i64, (i64, usize)>,
}

impl Reading<'_> {
    fn push(&mut self, key: RowKey, row: &Row<'_>) -> Result<()> {
        let at = self.out.len;
        let wide = self.facts.dimension;
        let bytes = row.get_ref(18).during(DOING)?.as_blob_or_null().ok().flatten();
        let bytes =
            bytes.ok_or_else(|| Error::Corrupt { what: format!("row {} has no state", key.0) })?;
        self.facts.storage.decode(bytes, &mut self.out.states[at * wide..][..wide])?;
        self.fields(at, row).during(DOING)?;
        self.names(row)?;
        self.action(at, get(row, 2)?)?;
        self.out.keys.push(key);
        self.out.len += 1;
        Ok(())
    }

    /// The columns that are what they are in the file.
    fn fields(&mut self, at: usize, row: &Row<'_>) -> rusqlite::Result<()> {
        let out = &mut self.out;
        out.ids.push(TrajectoryId::from_bytes(row.get(0)?));
        out.rewards.push(row.get(4)?);
        out.returns.push(row.get::<_, Option<f64>>(5)?.unwrap_or(f64::NAN));
        let ended: i64 = row.get(7)?;
        out.timestamps.get_or_insert_default().push(Some(row.get(6)?));
        out.terminated.get_or_insert_default().push(ended & 1 != 0);
        out.truncated.get_or_insert_default().push(ended & 2 != 0);
        push(&mut out.step_indices, at, row.get(8)?);
        push(&mut out.successes, at, row.get(9)?);
        push(&mut out.qualities, at, row.get(10)?);
        push(&mut out.durations, at, row.get(11)?);
        push(&mut out.tokens_used, at, row.get(12)?);
        push(&mut out.context_lengths, at, row.get(13)?);
        push(&mut out.task_ids, at, row.get(15)?);
        push(&mut out.action_metadata, at, row.get(16)?);
        push(&mut out.extras, at, row.get(17)?);
        Ok(())
    }

    fn names(&mut self, row: &Row<'_>) -> Result<()> {
        let reader = self.reader;
        let episode: i64 = get(row, 1)?;
        self.episodes.push(episode, || episode_name(reader, episode))?;
        let task_type: i64 = get(row, 3)?;
        self.task_types.push(task_type, || label(reader, task_type))?;
        let agent_type = get::<Option<i64>>(row, 14)?;
        if let Some(id) = agent_type
            && !self.agent_types.contains_key(&id)
        {
            self.agent_types.insert(id, label(reader, id)?);
        }
        let agent_type = agent_type.map(|id| self.agent_types[&id].clone());
        push(&mut self.out.agent_types, self.out.len, agent_type);
        Ok(())
    }

    fn action(&mut self, at: usize, id: i64) -> Result<()> {
        let wide = self.facts.action_dimension;
        let (pattern, first) = if let Some(known) = self.actions.get(&id) {
            *known
        } else {
            let sql =
                "SELECT a.pattern, v.embedding FROM action a JOIN action_vector v ON v.id = a.id
                       WHERE a.id = ?";
            let mut statement = self.reader.statement(sql)?;
            let mut found = statement.query([id]).during(DOING)?;
            let row = found.next().during(DOING)?.ok_or_else(|| gone("action", id))?;
            let embedding = &mut self.out.actions[at * wide..][..wide];
            self.facts.storage.decode(encode::blob(row, 1)?, embedding)?;
            let pattern = get(row, 0)?;
            self.actions.insert(id, (pattern, at));
            (pattern, at)
        };
        if first < at {
            self.out.actions.copy_within(first * wide..(first + 1) * wide, at * wide);
        }
        let reader = self.reader;
        self.patterns.push(pattern, || pattern_name(reader, pattern))
    }
}

fn get<T: rusqlite::types::FromSql>(row: &Row<'_>, column: usize) -> Result<T> {
    row.get(column).during(DOING)
}

fn gone(what: &str, id: i64) -> Error {
    Error::Corrupt { what: format!("a row names the {what} {id}, which is not there") }
}

fn name(reader: &Reader, sql: &'static str, what: &str, id: i64) -> Result<String> {
    let mut statement = reader.statement(sql)?;
    let name = statement.query_row([id], |row| row.get(0)).optional().during(DOING)?;
    name.ok_or_else(|| gone(what, id))
}

/// The text of a task type or agent type.
pub(super) fn label(reader: &Reader, id: i64) -> Result<String> {
    name(reader, "SELECT text FROM label WHERE id = ?", "label", id)
}

/// The name of an episode.
pub(super) fn episode_name(reader: &Reader, id: i64) -> Result<String> {
    name(reader, "SELECT name FROM episode WHERE id = ?", "episode", id)
}

/// The name of a pattern.
pub(super) fn pattern_name(reader: &Reader, id: i64) -> Result<String> {
    name(reader, "SELECT key FROM pattern WHERE id = ?", "pattern", id)
}
