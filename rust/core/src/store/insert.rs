//! The way of a write: what repeats within a batch (episodes, patterns, actions, labels) is settled once, then each row
//! is two appends.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rusqlite::{Connection, OptionalExtension};

use super::append::{Batch, append};
use super::open::Facts;
use super::{Naming, Store, encode, span, validate};
use crate::error::{During, Error, Result};
use crate::ids::{MAX_ROW_KEY, TrajectoryId};
use crate::rows::{Labels, Rows};

const DOING: &str = "inserting trajectories";

impl Store {
    /// Inserts rows in one transaction: all or nothing. When it returns, they are durable. The ids are in the order of
    /// the rows.
    pub fn insert(&self, rows: &Rows, naming: Naming) -> Result<Vec<TrajectoryId>> {
        let open = self.enter_to_write(DOING)?;
        validate::rows(rows, &self.facts, naming)?;
        if rows.len == 0 {
            return Ok(Vec::new());
        }
        let now = self.clock.now_ms();
        open.connections.write(DOING, |connection| insert(connection, rows, &self.facts, now))
    }
}

/// The stored rows of what a batch names; one entry for each code of the batch's dictionaries.
pub(super) struct Named {
    pub(super) episodes: Vec<i64>,
    pub(super) task_types: Vec<i64>,
    pub(super) agent_types: HashMap<String, i64>,
}

fn insert(
    connection: &Connection,
    rows: &Rows,
    facts: &Facts,
    now: i64,
) -> Result<Vec<TrajectoryId>> {
    let first = reserve_keys(connection, rows.len)?;
    let named = Named {
        episodes: count_episodes(connection, rows)?,
        task_types: task_types(connection, rows)?,
        agent_types: agent_types(connection, rows)?,
    };
    let episodes = rows.episodes.codes.iter().map(|&code| named.episodes[code as usize]);
    span::add(connection, first, episodes)?;
    let patterns = count_patterns(connection, rows)?;
    let actions = store_actions(connection, rows, facts, &patterns)?;
    append(connection, &Batch { rows, facts, now, first, named, actions })
}

/// Moves the counter of row keys past `count` new ones and gives the first.
fn reserve_keys(connection: &Connection, count: usize) -> Result<i64> {
    let sql = "UPDATE meta SET value = value + ? WHERE key = 'next_row' RETURNING value";
    let mut statement = connection.prepare_cached(sql).during(DOING)?;
    let next: i64 = statement.query_row([count as i64], |row| row.get(0)).during(DOING)?;
    if next > MAX_ROW_KEY {
        return Err(Error::invalid(
            "trajectories",
            "fewer than 2^40 rows in the life of a store",
            next,
        ));
    }
    Ok(next - count as i64)
}

/// What one name of a dictionary gathers in a batch.
#[derive(Clone, Copy, Default)]
struct Tally {
    rows: i64,
    successes: i64,
    reward: f64,
}

fn tally(labels: &Labels, rows: &Rows) -> Vec<Tally> {
    let mut tallies = vec![Tally::default(); labels.names.len()];
    for (row, &code) in labels.codes.iter().enumerate() {
        let tally = &mut tallies[code as usize];
        tally.rows += 1;
        tally.successes +=
            i64::from(succeeded(rows.successes.as_ref().and_then(|s| s[row]), rows.rewards[row]));
        tally.reward += rows.rewards[row];
    }
    tallies
}

/// A step succeeded if it was said so, else if its reward is above one half.
pub(super) fn succeeded(said: Option<bool>, reward: f64) -> bool {
    said.unwrap_or(reward > 0.5)
}

/// Adds the batch to its episodes; the row of each code.
fn count_episodes(connection: &Connection, rows: &Rows) -> Result<Vec<i64>> {
    let sql = "INSERT INTO episode (name, steps, total_reward) VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE
               SET steps = steps + excluded.steps, total_reward = total_reward + excluded.total_reward
               RETURNING id, total_reward";
    let mut statement = connection.prepare_cached(sql).during(DOING)?;
    let tallies = tally(&rows.episodes, rows);
    let add = |(name, tally): (&String, &Tally)| {
        if tally.rows == 0 {
            return Ok(0);
        }
        let added = statement.query_row((name, tally.rows, finite(tally.reward)?), |row| {
            Ok((row.get(0)?, row.get(1)?))
        });
        let (id, total): (i64, f64) = added.during(DOING)?;
        finite(total).map(|_| id)
    };
    rows.episodes.names.iter().zip(&tallies).map(add).collect()
}

/// Adds the batch to its patterns; the row of each code.
fn count_patterns(connection: &Connection, rows: &Rows) -> Result<Vec<i64>> {
    let sql = "INSERT INTO pattern (key, uses, successes, reward_sum) VALUES (?, ?, ?, ?)
               ON CONFLICT (key) DO UPDATE SET uses = uses + excluded.uses,
               successes = successes + excluded.successes, reward_sum = reward_sum + excluded.reward_sum
               RETURNING id, reward_sum";
    let mut statement = connection.prepare_cached(sql).during(DOING)?;
    let tallies = tally(&rows.patterns, rows);
    let add = |(key, tally): (&String, &Tally)| {
        let Tally { rows, successes, reward } = *tally;
        if rows == 0 {
            return Ok(0);
        }
        let added = statement.query_row((key, rows, successes, finite(reward)?), |row| {
            Ok((row.get(0)?, row.get(1)?))
        });
        let (id, total): (i64, f64) = added.during(DOING)?;
        finite(total).map(|_| id)
    };
    rows.patterns.names.iter().zip(&tallies).map(add).collect()
}

/// Rewards are finite, but their sum need not be; a total that is not a number could not be compared any more.
fn finite(total: f64) -> Result<f64> {
    if total.is_finite() {
        return Ok(total);
    }
    Err(Error::invalid("reward", "rewards whose sum is within float64", total))
}

fn task_types(connection: &Connection, rows: &Rows) -> Result<Vec<i64>> {
    let mut used = vec![false; rows.task_types.names.len()];
    rows.task_types.codes.iter().for_each(|&code| used[code as usize] = true);
    let names = rows.task_types.names.iter().zip(used);
    names.map(|(name, used)| if used { label(connection, name) } else { Ok(0) }).collect()
}

fn agent_types(connection: &Connection, rows: &Rows) -> Result<HashMap<String, i64>> {
    let mut known = HashMap::new();
    for name in rows.agent_types.iter().flatten().flatten() {
        if !known.contains_key(name) {
            known.insert(name.clone(), label(connection, name)?);
        }
    }
    Ok(known)
}

/// The number of a task type or agent type, given to it at its first use.
fn label(connection: &Connection, text: &str) -> Result<i64> {
    let mut find =
        connection.prepare_cached("SELECT id FROM label WHERE text = ?").during(DOING)?;
    if let Some(id) = find.query_row([text], |row| row.get(0)).optional().during(DOING)? {
        return Ok(id);
    }
    let mut add = connection.prepare_cached("INSERT INTO label (text) VALUES (?)").during(DOING)?;
    add.insert([text]).during(DOING)
}

/// A distinct action of a batch.
struct Distinct {
    pattern: u32,
    bytes: Vec<u8>,
    hash: i64,
    uses: i64,
}

/// Stores each distinct action of the batch once and counts its uses; the action row of each row.
fn store_actions(
    connection: &Connection,
    rows: &Rows,
    facts: &Facts,
    patterns: &[i64],
) -> Result<Vec<i64>> {
    let (positions, distinct) = distinct_actions(rows, facts);
    let mut ids = Vec::with_capacity(distinct.len());
    for action in &distinct {
        ids.push(store_action(connection, action, patterns[action.pattern as usize])?);
    }
    Ok(positions.into_iter().map(|at| ids[at as usize]).collect())
}

/// For each row the position of its action among the distinct ones.
fn distinct_actions(rows: &Rows, facts: &Facts) -> (Vec<u32>, Vec<Distinct>) {
    let mut known: HashMap<(u32, i64), u32> = HashMap::new();
    let mut distinct: Vec<Distinct> = Vec::new();
    let mut bytes = Vec::new();
    let mut positions = Vec::with_capacity(rows.len);
    for (row, &pattern) in rows.patterns.codes.iter().enumerate() {
        let numbers = &rows.actions[row * facts.action_dimension..][..facts.action_dimension];
        facts.storage.encode(numbers, &mut bytes);
        let mut hash = encode::signed(encode::hash(&bytes));
        let at = loop {
            match known.entry((pattern, hash)) {
                Entry::Vacant(free) => {
                    let at = distinct.len() as u32;
                    free.insert(at);
                    distinct.push(Distinct { pattern, bytes: bytes.clone(), hash, uses: 0 });
                    break at;
                }
                Entry::Occupied(found) if distinct[*found.get() as usize].bytes == bytes => {
                    break *found.get();
                }
                Entry::Occupied(_) => hash = hash.wrapping_add(1), // another action with this hash
            }
        };
        distinct[at as usize].uses += 1;
        positions.push(at);
    }
    (positions, distinct)
}

fn store_action(connection: &Connection, action: &Distinct, pattern: i64) -> Result<i64> {
    let find = "SELECT a.id, v.embedding = ?3 FROM action a JOIN action_vector v ON v.id = a.id
                WHERE a.pattern = ?1 AND a.hash = ?2";
    let mut find = connection.prepare_cached(find).during(DOING)?;
    let mut hash = action.hash;
    loop {
        let found =
            find.query_row((pattern, hash, &action.bytes), |row| Ok((row.get(0)?, row.get(1)?)));
        match found.optional().during(DOING)? {
            Some((id, true)) => {
                let sql = "UPDATE action SET uses = uses + ? WHERE id = ?";
                let mut count = connection.prepare_cached(sql).during(DOING)?;
                count.execute((action.uses, id)).during(DOING)?;
                return Ok(id);
            }
            Some((_, false)) => hash = hash.wrapping_add(1), // another action with this hash
            None => break,
        }
    }
    let sql = "INSERT INTO action (pattern, hash, uses) VALUES (?, ?, ?)";
    let mut add = connection.prepare_cached(sql).during(DOING)?;
    let id = add.insert((pattern, hash, action.uses)).during(DOING)?;
    let sql = "INSERT INTO action_vector (id, embedding) VALUES (?, ?)";
    let mut add = connection.prepare_cached(sql).during(DOING)?;
    add.execute((id, &action.bytes)).during(DOING)?;
    Ok(id)
}
