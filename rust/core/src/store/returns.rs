//! Returns to go, computed from an episode's rewards and written back.

use rusqlite::Connection;

use super::Store;
use super::change::{Change, log};
use super::episode::{STEP_ORDER, id_of};
use super::patience::Halt;
use super::span::ROWS_OF;
use super::validate;
use crate::error::{During, Error, Result};
use crate::returns;

const DOING: &str = "computing returns";

/// Beyond this many episodes one entry of the log stands for all.
const LOGGED_APART: usize = 256;

impl Store {
    /// Computes and stores the returns of one episode, and gives them in the order of its steps. `tail` is what comes
    /// after the last step; `None` is the rule of [`returns::tail`].
    pub fn compute_returns(
        &self,
        episode: &str,
        gamma: f64,
        tail: Option<f64>,
    ) -> Result<Vec<f64>> {
        let open = self.enter_to_write(DOING)?;
        validate::gamma(gamma)?;
        if let Some(tail) = tail {
            validate::finite("tail", tail)?;
        }
        open.connections.write(DOING, |connection| {
            let id = id_of(connection, episode)?;
            let values = compute(connection, id, gamma, tail)?;
            log(connection, [Change::Returns(id)])?;
            Ok(values)
        })
    }

    /// Computes the returns of every episode, or of those that have a step without one; how many episodes that were.
    ///
    /// `poll` is asked whether to go on; an error from it ends that, and no return is changed.
    pub fn compute_all_returns(
        &self,
        gamma: f64,
        missing_only: bool,
        poll: &mut dyn FnMut() -> Result<()>,
    ) -> Result<usize> {
        self.patiently(poll, |halt| self.compute_until(halt, gamma, missing_only))
    }

    fn compute_until(&self, halt: &Halt, gamma: f64, missing_only: bool) -> Result<usize> {
        let open = self.enter_to_write(DOING)?;
        validate::gamma(gamma)?;
        open.connections.write_until(Some(halt), DOING, |connection| {
            let sql = if missing_only {
                "SELECT DISTINCT episode FROM trajectory WHERE return_to_go IS NULL"
            } else {
                "SELECT id FROM episode"
            };
            let mut statement = connection.prepare_cached(sql).during(DOING)?;
            let episodes = statement.query_map([], |row| row.get(0)).during(DOING)?;
            let mut episodes = episodes.collect::<rusqlite::Result<Vec<i64>>>().during(DOING)?;
            episodes.sort_unstable();
            for episode in &episodes {
                compute(connection, *episode, gamma, None)?;
            }
            if episodes.len() > LOGGED_APART {
                log(connection, [Change::AllReturns])?;
            } else if !episodes.is_empty() {
                log(connection, episodes.iter().map(|id| Change::Returns(*id)))?;
            }
            Ok(episodes.len())
        })
    }
}

/// The rewards of an episode in order, their rows, and whether it was cut off.
struct Steps {
    keys: Vec<i64>,
    rewards: Vec<f64>,
    cut_off: bool,
}

fn steps(connection: &Connection, episode: i64) -> Result<Steps> {
    let sql = format!("SELECT t.id, t.reward, t.ended FROM {ROWS_OF} {STEP_ORDER}");
    let mut statement = connection.prepare_cached(&sql).during(DOING)?;
    let mut found = statement.query([episode]).during(DOING)?;
    let mut steps = Steps { keys: Vec::new(), rewards: Vec::new(), cut_off: false };
    while let Some(row) = found.next().during(DOING)? {
        steps.keys.push(row.get(0).during(DOING)?);
        steps.rewards.push(row.get(1).during(DOING)?);
        let ended: i64 = row.get(2).during(DOING)?;
        steps.cut_off = ended == 2; // truncated, and not terminated
    }
    Ok(steps)
}

fn compute(
    connection: &Connection,
    episode: i64,
    gamma: f64,
    tail: Option<f64>,
) -> Result<Vec<f64>> {
    let Steps { keys, rewards, cut_off } = steps(connection, episode)?;
    let tail = tail.unwrap_or_else(|| returns::tail(&rewards, gamma, cut_off));
    let values = returns::discounted(&rewards, gamma, tail);
    if let Some(value) = values.iter().find(|value| !value.is_finite()) {
        return Err(Error::invalid(
            "reward",
            "rewards whose discounted sum is within float64",
            value,
        ));
    }
    let sql = "UPDATE trajectory SET return_to_go = ? WHERE id = ?";
    let mut update = connection.prepare_cached(sql).during(DOING)?;
    for (value, key) in values.iter().zip(&keys) {
        update.execute((value, key)).during(DOING)?;
    }
    Ok(values)
}
