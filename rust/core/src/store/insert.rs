//! The way of a write: what repeats within a batch (episodes, patterns, actions, labels) is settled once, then each row
//! is two appends.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, Statement};

use super::append::{Batch, append};
use super::open::Facts;
use super::patience::Halt;
use super::{Naming, Store, action, span, validate};
use crate::error::{During, Error, Result};
use crate::ids::{MAX_ROW_KEY, TrajectoryId};
use crate::rows::{Labels, Rows};

const DOING: &str = "inserting trajectories";

/// A batch of fewer rows and numbers is over before anyone could want to end it.
const MANY: usize = 1024;
const MANY_NUMBERS: usize = 1 << 20;

impl Store {
    /// Inserts rows in one transaction: all or nothing. When it returns, they are durable. The ids are in the order of
    /// the rows.
    pub fn insert(&self, rows: &Rows, naming: Naming) -> Result<Vec<TrajectoryId>> {
        self.insert_until(None, rows, naming)
    }

    /// [`Self::insert`] of rows that may be many; `poll` is asked whether to go on, and an error from it undoes the whole
    /// batch.
    pub fn insert_many(
        &self,
        rows: &Rows,
        naming: Naming,
        poll: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Vec<TrajectoryId>> {
        if rows.len < MANY && rows.states.len() + rows.actions.len() < MANY_NUMBERS {
            return self.insert(rows, naming);
        }
        self.patiently(poll, |halt| self.insert_until(Some(halt), rows, naming))
    }

    fn insert_until(
        &self,
        halt: Option<&Halt>,
        rows: &Rows,
        naming: Naming,
    ) -> Result<Vec<TrajectoryId>> {
        let open = self.enter_to_write(DOING)?;
        validate::rows(rows, &self.facts, naming)?;
        if rows.len == 0 {
            return Ok(Vec::new());
        }
        let now = self.clock.now_ms();
        let insert = |connection: &Connection| insert(connection, rows, &self.facts, now);
        let ids = open.connections.write_until(halt, DOING, insert)?;
        open.rows_came(rows.len);
        Ok(ids)
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
    let actions = action::store(connection, rows, facts, &patterns)?;
    append(connection, &Batch { rows, facts, now, first, named, actions })
}

/// Moves the counter of row keys past `count` new ones and gives the first.
fn reserve_keys(connection: &Connection, count: usize) -> Result<i64> {
    let sql = "SELECT value FROM meta WHERE key = 'next_row'";
    let mut ask = connection.prepare_cached(sql).during(DOING)?;
    let first: i64 = ask.query_row([], |row| row.get(0)).during(DOING)?;
    let next = first + count as i64;
    if next > MAX_ROW_KEY {
        return Err(Error::invalid(
            "trajectories",
            "fewer than 2^40 rows in the life of a store",
            next,
        ));
    }
    let sql = "UPDATE OR ROLLBACK meta SET value = ? WHERE key = 'next_row'";
    let mut move_on = connection.prepare_cached(sql).during(DOING)?;
    move_on.execute([next]).during(DOING)?;
    Ok(first)
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
    let prepare = |sql| connection.prepare_cached(sql).during(DOING);
    let mut find = prepare("SELECT id, total_reward FROM episode WHERE name = ?")?;
    let mut count =
        prepare("UPDATE OR ROLLBACK episode SET steps = steps + ?, total_reward = ? WHERE id = ?")?;
    let mut add = prepare("INSERT INTO episode (name, steps, total_reward) VALUES (?, ?, ?)")?;
    settle(&rows.episodes, rows, |name, Tally { rows, reward, .. }| {
        let Some((id, total)) = found(&mut find, name)? else {
            return add.insert((name, rows, finite(reward)?)).during(DOING);
        };
        count.execute((rows, finite(total + reward)?, id)).during(DOING)?;
        Ok(id)
    })
}

/// Adds the batch to its patterns; the row of each code.
fn count_patterns(connection: &Connection, rows: &Rows) -> Result<Vec<i64>> {
    let prepare = |sql| connection.prepare_cached(sql).during(DOING);
    let mut find = prepare("SELECT id, reward_sum FROM pattern WHERE key = ?")?;
    let mut count = prepare(
        "UPDATE OR ROLLBACK pattern SET uses = uses + ?, successes = successes + ?, reward_sum = ?
         WHERE id = ?",
    )?;
    let mut add =
        prepare("INSERT INTO pattern (key, uses, successes, reward_sum) VALUES (?, ?, ?, ?)")?;
    settle(&rows.patterns, rows, |key, Tally { rows, successes, reward }| {
        let Some((id, total)) = found(&mut find, key)? else {
            return add.insert((key, rows, successes, finite(reward)?)).during(DOING);
        };
        count.execute((rows, successes, finite(total + reward)?, id)).during(DOING)?;
        Ok(id)
    })
}

/// Does something to each name that the batch uses, and gives the row of each code.
fn settle(
    labels: &Labels,
    rows: &Rows,
    mut add: impl FnMut(&String, Tally) -> Result<i64>,
) -> Result<Vec<i64>> {
    let named = labels.names.iter().zip(tally(labels, rows));
    named.map(|(name, tally)| if tally.rows == 0 { Ok(0) } else { add(name, tally) }).collect()
}

/// The row of a name and the rewards it has gathered. Asked apart from the change: an UPSERT that returns what it did
/// costs ten times as much, because it keeps what it returns in a table of its own.
fn found(find: &mut Statement<'_>, name: &str) -> Result<Option<(i64, f64)>> {
    find.query_row([name], |row| Ok((row.get(0)?, row.get(1)?))).optional().during(DOING)
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

#[cfg(test)]
mod tests {
    use super::{Naming, Rows, Store};
    use crate::error::{During, Error};
    use crate::store::Options;

    fn rows(n: usize) -> Rows {
        Rows {
            len: n,
            states: vec![1.0; 8 * n],
            actions: vec![1.0; 8 * n],
            rewards: vec![1.0; n],
            returns: vec![f64::NAN; n],
            patterns: std::iter::repeat_n("p", n).collect(),
            episodes: std::iter::repeat_n("e", n).collect(),
            task_types: std::iter::repeat_n("t", n).collect(),
            ..Rows::default()
        }
    }

    #[test]
    fn a_full_disk_is_told_with_the_file_and_the_store_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let options = Options { dimension: Some(8), ..Options::default() };
        let store = Store::open(&path, options).unwrap();
        store.insert(&rows(3), Naming::Columns).unwrap();
        let limit = |pages: i64| {
            let open = store.enter().unwrap();
            let set = |connection: &rusqlite::Connection| {
                let told =
                    connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()));
                told.during("limiting the file")
            };
            open.connections.write("limiting the file", set).unwrap();
        };
        limit(1); // SQLite takes as many as there are
        let refused = store.insert(&rows(5000), Naming::Columns);
        let Err(Error::DiskFull { path: Some(told), .. }) = &refused else { panic!("{refused:?}") };
        assert_eq!(told, &path);
        let text = refused.unwrap_err().to_string();
        assert_eq!(text, format!("inserting trajectories: the disk of {} is full", path.display()));
        assert_eq!(store.stats().unwrap().total_trajectories, 3);
        limit(1_000_000);
        store.insert(&rows(5000), Naming::Columns).unwrap();
        assert_eq!(store.verify(true, &mut || Ok(())).unwrap().problems, [] as [&str; 0]);
    }
}
