//! Episodes: their steps in order, and what is known of them as a whole.

use rusqlite::{Connection, OptionalExtension};

use super::Store;
use super::change::{Change, log};
use super::insert::succeeded;
use super::read::{Missing, episode_name, rows};
use super::resolve::{self, resolve};
use super::span::ROWS_OF;
use crate::error::{During, Error, Result};
use crate::filter::Filter;
use crate::ids::RowKey;
use crate::rows::Rows;

const DOING: &str = "reading an episode";

/// An episode and its steps.
#[derive(Clone, Debug, PartialEq)]
pub struct EpisodeRecord {
    /// The caller's name for it.
    pub name: String,
    /// The sum of its rewards.
    pub total_reward: f64,
    /// What `set_episode` said, else whether its last step succeeded.
    pub success: bool,
    /// What `set_episode` said: a JSON text.
    pub metadata: Option<String>,
    /// Its steps: by step index (those without one last), then time, then insertion.
    pub rows: Rows,
}

/// The order of steps `t` within an episode.
pub(super) const STEP_ORDER: &str =
    "ORDER BY t.step_index IS NULL, t.step_index, t.timestamp_ms, t.id";

struct Head {
    id: i64,
    total_reward: f64,
    said: Option<bool>,
    metadata: Option<String>,
}

impl Store {
    /// One episode. An unknown name: [`Error::NotFound`].
    pub fn episode(&self, name: &str) -> Result<EpisodeRecord> {
        let open = self.enter()?;
        open.connections.read(|reader| {
            let head = find(&reader.connection, name)?;
            let sql = format!("SELECT t.id FROM {ROWS_OF} {STEP_ORDER}");
            let mut statement = reader.statement(&sql)?;
            let keys =
                statement.query_map([head.id], |row| row.get(0).map(RowKey)).during(DOING)?;
            let keys = keys.collect::<rusqlite::Result<Vec<_>>>().during(DOING)?;
            let rows = rows(reader, &self.facts, &keys, Missing::Refused)?;
            let last = rows.len.checked_sub(1);
            let last = last.is_some_and(|at| {
                succeeded(rows.successes.as_ref().and_then(|said| said[at]), rows.rewards[at])
            });
            Ok(EpisodeRecord {
                name: name.to_owned(),
                total_reward: head.total_reward,
                success: head.said.unwrap_or(last),
                metadata: head.metadata,
                rows,
            })
        })
    }

    /// The names of the episodes that have a matching step, in the order of their creation.
    pub fn episode_names(&self, filter: &Filter) -> Result<Vec<String>> {
        let open = self.enter()?;
        resolve::check(filter)?;
        if filter.is_empty() {
            return open.connections.read(|reader| {
                let mut statement = reader.statement("SELECT name FROM episode ORDER BY id")?;
                let names = statement.query_map([], |row| row.get(0)).during(DOING)?;
                names.collect::<rusqlite::Result<_>>().during(DOING)
            });
        }
        open.in_sync(|reader, mirror| {
            let mut episodes = mirror.index.episodes_matching(&resolve(reader, filter)?);
            episodes.sort_unstable();
            episodes.into_iter().map(|id| episode_name(reader, id.0)).collect()
        })
    }

    /// Notes what only the caller knows of an episode; what is `None` stays as it was. An unknown name:
    /// [`Error::NotFound`].
    pub fn set_episode(
        &self,
        name: &str,
        success: Option<bool>,
        metadata: Option<&str>,
    ) -> Result<()> {
        let doing = "describing an episode";
        let open = self.enter_to_write(doing)?;
        open.connections.write(doing, |connection| {
            let id = find(connection, name)?.id;
            let sql =
                "UPDATE episode SET success = ifnull(?, success), metadata = ifnull(?, metadata)
                       WHERE id = ?";
            let mut update = connection.prepare_cached(sql).during(doing)?;
            update.execute((success, metadata, id)).during(doing)?;
            log(connection, [Change::Episode(id)])
        })
    }
}

fn find(connection: &Connection, name: &str) -> Result<Head> {
    let sql = "SELECT id, total_reward, success, metadata FROM episode WHERE name = ?";
    let mut statement = connection.prepare_cached(sql).during(DOING)?;
    let found = statement.query_row([name], |row| {
        Ok(Head {
            id: row.get(0)?,
            total_reward: row.get(1)?,
            said: row.get(2)?,
            metadata: row.get(3)?,
        })
    });
    let found = found.optional().during(DOING)?;
    found.ok_or_else(|| Error::NotFound { what: "episode", id: name.to_owned() })
}

/// The row of an episode.
pub(super) fn id_of(connection: &Connection, name: &str) -> Result<i64> {
    find(connection, name).map(|head| head.id)
}
