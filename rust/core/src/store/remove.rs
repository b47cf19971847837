//! Rows on their way out, for `delete` and `prune`: the rows themselves, and everything that counts them.

use std::collections::{BTreeMap, HashMap, HashSet};

use rusqlite::{Connection, OptionalExtension};

use super::Store;
use super::change::{Change, log};
use super::insert::succeeded;
use super::read::unknown;
use super::span::{self, ROWS_OF};
use crate::error::{During, Error, Result};
use crate::ids::TrajectoryId;

const DOING: &str = "deleting trajectories";

/// A row that is to go, with what its counters need to know.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doomed {
    pub(super) key: i64,
    pub(super) episode: i64,
    pub(super) action: i64,
    pub(super) reward: f64,
    pub(super) succeeded: bool,
}

impl Store {
    /// Deletes trajectories, all or nothing, and says how many. An unknown id: [`Error::NotFound`]; one that is given
    /// twice: [`Error::Invalid`].
    pub fn delete(&self, ids: &[TrajectoryId]) -> Result<usize> {
        let open = self.enter_to_write(DOING)?;
        let mut given = HashSet::with_capacity(ids.len());
        if let Some(at) = ids.iter().position(|id| !given.insert(*id)) {
            return Err(Error::invalid(format!("ids[{at}]"), "each id once", ids[at]));
        }
        if ids.is_empty() {
            return Ok(0);
        }
        open.connections.write(DOING, |connection| {
            let mut doomed =
                ids.iter().map(|id| look_up(connection, *id)).collect::<Result<Vec<_>>>()?;
            remove(connection, &mut doomed, None)?;
            Ok(ids.len())
        })
    }
}

fn look_up(connection: &Connection, id: TrajectoryId) -> Result<Doomed> {
    let sql = "SELECT uuid, episode, action, reward, success FROM trajectory WHERE id = ?";
    let mut find = connection.prepare_cached(sql).during(DOING)?;
    let key = id.row_key().0;
    let found = find.query_row([key], |row| {
        let reward = row.get(3)?;
        let succeeded = succeeded(row.get(4)?, reward);
        let doomed = Doomed { key, episode: row.get(1)?, action: row.get(2)?, reward, succeeded };
        Ok((row.get::<_, [u8; 16]>(0)?, doomed))
    });
    match found.optional().during(DOING)? {
        Some((uuid, doomed)) if uuid == id.to_bytes() => Ok(doomed),
        _ => Err(unknown(id)),
    }
}

/// What leaves one counter.
#[derive(Clone, Copy, Default)]
struct Tally {
    rows: i64,
    successes: i64,
    reward: f64,
    /// The magnitudes of the rewards, added up.
    size: f64,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.rows += other.rows;
        self.successes += other.successes;
        self.reward += other.reward;
        self.size += other.size;
    }
}

/// Removes the rows and what they alone kept alive: their actions, patterns and episodes.
///
/// `totals` has the rewards that are left in the episodes, where the caller summed them anyway.
pub(super) fn remove(
    connection: &Connection,
    doomed: &mut [Doomed],
    totals: Option<&HashMap<i64, f64>>,
) -> Result<()> {
    doomed.sort_unstable_by_key(|row| row.key);
    let (mut episodes, mut actions) = (BTreeMap::<i64, i64>::new(), BTreeMap::<i64, Tally>::new());
    for row in doomed.iter() {
        *episodes.entry(row.episode).or_default() += 1;
        let (successes, size) = (i64::from(row.succeeded), row.reward.abs());
        let tally = Tally { rows: 1, successes, reward: row.reward, size };
        actions.entry(row.action).or_default().add(tally);
    }
    let runs = doomed.chunk_by(|a, b| a.key + 1 == b.key);
    let runs: Vec<_> = runs.map(|run| (run[0].key, run[run.len() - 1].key)).collect();
    remove_rows(connection, &runs)?;
    let patterns = release_actions(connection, &actions)?;
    for (pattern, tally) in &patterns {
        release_pattern(connection, *pattern, *tally)?;
    }
    for (episode, steps) in &episodes {
        let total = totals.and_then(|totals| totals.get(episode)).copied();
        shorten_episode(connection, *episode, *steps, total)?;
    }
    let removed = runs.into_iter().map(|(first, last)| Change::Removed(first, last));
    let patterns = patterns.into_keys().map(Change::Pattern);
    let episodes = episodes.into_keys().map(Change::Episode);
    log(connection, removed.chain(patterns).chain(episodes))
}

/// Neighbouring keys go in one statement.
fn remove_rows(connection: &Connection, runs: &[(i64, i64)]) -> Result<()> {
    let mut tables = vec![
        "DELETE FROM trajectory WHERE id BETWEEN ? AND ?",
        "DELETE FROM vector WHERE id BETWEEN ? AND ?",
    ];
    // Most stores have no priorities, and to look for each row's would take as long as to delete it.
    if any_priority(connection)? {
        tables.push("DELETE FROM priority WHERE id BETWEEN ? AND ?");
    }
    for sql in tables {
        let mut delete = connection.prepare_cached(sql).during(DOING)?;
        for run in runs {
            delete.execute(*run).during(DOING)?;
        }
    }
    Ok(())
}

fn any_priority(connection: &Connection) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM priority)";
    let mut any = connection.prepare_cached(sql).during(DOING)?;
    any.query_row([], |row| row.get(0)).during(DOING)
}

/// Takes the uses off the actions; what leaves each pattern.
fn release_actions(
    connection: &Connection,
    actions: &BTreeMap<i64, Tally>,
) -> Result<BTreeMap<i64, Tally>> {
    let prepare = |sql| connection.prepare_cached(sql).during(DOING);
    let mut find = prepare("SELECT pattern, uses FROM action WHERE id = ?")?;
    let mut release = prepare("UPDATE OR ROLLBACK action SET uses = ? WHERE id = ?")?;
    let mut delete = prepare("DELETE FROM action WHERE id = ?")?;
    let mut delete_vector = prepare("DELETE FROM action_vector WHERE id = ?")?;
    let mut patterns = BTreeMap::<i64, Tally>::new();
    for (action, tally) in actions {
        let found = find.query_row([action], |row| Ok((row.get(0)?, row.get(1)?)));
        let (pattern, uses): (i64, i64) = found.during(DOING)?;
        patterns.entry(pattern).or_default().add(*tally);
        if uses > tally.rows {
            release.execute((uses - tally.rows, action)).during(DOING)?;
        } else {
            delete.execute([action]).during(DOING)?;
            delete_vector.execute([action]).during(DOING)?;
        }
    }
    Ok(patterns)
}

/// The rewards are subtracted, unless what leaves is so large beside what is left that rounding took that with it: then
/// those that are left are added up anew. No index leads from a pattern to its rows, so that reads them all.
fn release_pattern(connection: &Connection, pattern: i64, tally: Tally) -> Result<()> {
    let sql = "UPDATE pattern SET uses = uses - ?2, successes = successes - ?3, reward_sum = CASE
               WHEN uses <= ?2 THEN 0.0
               WHEN max(abs(reward_sum), ?5) <= 1e9 * (1 + abs(reward_sum - ?4)) THEN reward_sum - ?4
               ELSE (SELECT total(t.reward) FROM action a JOIN trajectory t ON t.action = a.id
                     WHERE a.pattern = ?1) END
               WHERE id = ?1";
    let mut release = connection.prepare_cached(sql).during(DOING)?;
    let Tally { rows, successes, reward, size } = tally;
    release.execute((pattern, rows, successes, reward, size)).during(DOING)?;
    drop_unused_pattern(connection, pattern)
}

/// A pattern that nothing uses and that nobody described is gone.
pub(super) fn drop_unused_pattern(connection: &Connection, pattern: i64) -> Result<()> {
    let sql = "DELETE FROM pattern WHERE id = ?1 AND uses <= 0
               AND NOT EXISTS (SELECT 1 FROM pattern_entry WHERE pattern = ?1)";
    let mut delete = connection.prepare_cached(sql).during(DOING)?;
    delete.execute([pattern]).map(drop).during(DOING)
}

/// An episode is gone with its last step. The total of what is left is summed anew, so that rounding cannot pile up,
/// unless the caller did that on the way.
fn shorten_episode(
    connection: &Connection,
    episode: i64,
    steps: i64,
    total: Option<f64>,
) -> Result<()> {
    let mut find =
        connection.prepare_cached("SELECT steps FROM episode WHERE id = ?").during(DOING)?;
    let before: i64 = find.query_row([episode], |row| row.get(0)).during(DOING)?;
    if before <= steps {
        for sql in ["DELETE FROM episode WHERE id = ?", "DELETE FROM span WHERE episode = ?"] {
            let mut delete = connection.prepare_cached(sql).during(DOING)?;
            delete.execute([episode]).during(DOING)?;
        }
        return Ok(());
    }
    let total = total.map_or_else(|| sum_rewards(connection, episode), Ok)?;
    let sql = "UPDATE OR ROLLBACK episode SET steps = ?, total_reward = ? WHERE id = ?";
    let mut settle = connection.prepare_cached(sql).during(DOING)?;
    settle.execute((before - steps, total, episode)).during(DOING)?;
    span::drop_empty(connection, episode)
}

fn sum_rewards(connection: &Connection, episode: i64) -> Result<f64> {
    let sql = format!("SELECT total(t.reward) FROM {ROWS_OF}");
    let mut sum = connection.prepare_cached(&sql).during(DOING)?;
    sum.query_row([episode], |row| row.get(0)).during(DOING)
}
