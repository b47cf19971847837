//! What a store holds, in numbers.

use rusqlite::Row;

use super::Store;
use super::UNPOISONED;
use super::open::log_of;
use crate::error::{During, Result};

const DOING: &str = "counting what the store holds";

/// The numbers of one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Steps.
    pub total_trajectories: usize,
    /// Episodes.
    pub total_episodes: usize,
    /// Steps an episode; `None` on an empty store, as all averages.
    pub avg_episode_length: Option<f64>,
    /// Mean reward of a step.
    pub avg_reward: Option<f64>,
    /// Mean of the computed returns; `None` also where none is.
    pub avg_return: Option<f64>,
    /// Share of steps that succeeded.
    pub success_rate: Option<f64>,
    /// Steps of each task type, by name.
    pub task_types: Vec<(String, usize)>,
    /// Bytes of the file and its log on disk; in memory, of its pages.
    pub storage_size: u64,
    /// Bytes of anonymous memory that the index holds.
    pub index_size: usize,
    /// The least timestamp.
    pub oldest_timestamp: Option<i64>,
    /// The greatest timestamp.
    pub newest_timestamp: Option<i64>,
    /// Rows that searches find by scan although a graph exists.
    pub unindexed: usize,
    /// "scan": every search scans; "building": rows are being linked into a graph; "graph": all are.
    pub index_state: &'static str,
    /// Bytes of the saved index on disk.
    pub sidecar_size: u64,
    /// Searches that the cache answered.
    pub cache_hits: u64,
    /// Searches that it could not answer.
    pub cache_misses: u64,
}

impl Store {
    /// Counts and averages of one moment.
    pub fn stats(&self) -> Result<Stats> {
        let open = self.enter()?;
        let mut stats = open.connections.read(|reader| {
            let sql = "SELECT count(*), avg(reward), avg(return_to_go),
                       avg(CASE WHEN success IS NULL THEN reward > 0.5 ELSE success END),
                       min(timestamp_ms), max(timestamp_ms), (SELECT count(*) FROM episode),
                       (SELECT page_count * page_size FROM pragma_page_count, pragma_page_size)
                       FROM trajectory";
            let mut statement = reader.statement(sql)?;
            let mut stats = statement.query_row([], totals).during(DOING)?;
            let sql = "SELECT l.text, c.steps FROM
                       (SELECT task_type, count(*) AS steps FROM trajectory GROUP BY task_type) c
                       JOIN label l ON l.id = c.task_type ORDER BY l.text";
            let mut statement = reader.statement(sql)?;
            let types =
                statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as usize)));
            stats.task_types =
                types.during(DOING)?.collect::<rusqlite::Result<_>>().during(DOING)?;
            Ok(stats)
        })?;
        if let Some(file) = open.connections.file() {
            let size = |path: &std::path::Path| path.metadata().map_or(0, |found| found.len());
            stats.storage_size = size(file) + size(&log_of(file));
        }
        stats.sidecar_size = open.sidecar_size();
        let linked = {
            let mirror = open.mirror.read().expect(UNPOISONED);
            stats.index_size = mirror.index.bytes();
            mirror.index.linked()
        };
        if linked > 0 || open.due(stats.total_trajectories) {
            stats.unindexed = stats.total_trajectories.saturating_sub(linked);
            stats.index_state = if stats.unindexed == 0 { "graph" } else { "building" };
        }
        let cache = open.cache.lock().expect(UNPOISONED);
        (stats.cache_hits, stats.cache_misses) = (cache.hits, cache.misses);
        Ok(stats)
    }
}

fn totals(row: &Row<'_>) -> rusqlite::Result<Stats> {
    let (steps, episodes): (i64, i64) = (row.get(0)?, row.get(6)?);
    Ok(Stats {
        total_trajectories: steps as usize,
        total_episodes: episodes as usize,
        avg_episode_length: (episodes > 0).then(|| steps as f64 / episodes as f64),
        avg_reward: row.get(1)?,
        avg_return: row.get(2)?,
        success_rate: row.get(3)?,
        oldest_timestamp: row.get(4)?,
        newest_timestamp: row.get(5)?,
        storage_size: row.get::<_, i64>(7)? as u64,
        index_state: "scan",
        ..Stats::default()
    })
}
