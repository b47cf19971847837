//! Forgetting by rule: what is old, what was poor, and the worst beyond a number of rows.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::str::FromStr;

use rusqlite::Connection;

use super::insert::succeeded;
use super::patience::Halt;
use super::remove::{Doomed, remove};
use super::{Store, validate};
use crate::error::{During, Error, Result};

const DOING: &str = "pruning trajectories";
const DAY_MS: f64 = 86_400_000.0;

/// What goes as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Unit {
    /// Each step by itself.
    #[default]
    Step,
    /// An episode, if every one of its steps would go.
    Episode,
}

impl FromStr for Unit {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "step" => Ok(Self::Step),
            "episode" => Ok(Self::Episode),
            other => Err(Error::invalid("unit", "\"step\" or \"episode\"", format!("{other:?}"))),
        }
    }
}

/// The rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prune {
    /// Steps older than this go.
    pub keep_days: Option<f64>,
    /// Steps with a computed return below this go.
    pub min_return: Option<f64>,
    /// Beyond this many steps the worst go.
    pub max_size: Option<usize>,
    /// Whether successful steps are spared by the first two and ranked first by the third.
    pub keep_successful: bool,
    /// What goes as a whole.
    pub unit: Unit,
    /// Whether to count only.
    pub dry_run: bool,
}

impl Default for Prune {
    fn default() -> Self {
        Self {
            keep_days: Some(30.0),
            min_return: None,
            max_size: None,
            keep_successful: true,
            unit: Unit::Step,
            dry_run: false,
        }
    }
}

/// A step, as the rule looks at it.
struct Step {
    row: Doomed,
    return_to_go: Option<f64>,
    timestamp: i64,
    goes: bool,
}

impl Store {
    /// Deletes the steps that the rule condemns, in one transaction; how many that were, or would be.
    ///
    /// `poll` is asked whether to go on; an error from it ends the pruning, and everything stays.
    pub fn prune(&self, rule: &Prune, poll: &mut dyn FnMut() -> Result<()>) -> Result<usize> {
        self.patiently(poll, |halt| self.prune_until(halt, rule))
    }

    fn prune_until(&self, halt: &Halt, rule: &Prune) -> Result<usize> {
        let open = if rule.dry_run { self.enter()? } else { self.enter_to_write(DOING)? };
        if let Some(days) = rule.keep_days {
            validate::finite("keep_days", days)?;
            if days < 0.0 {
                return Err(Error::invalid("keep_days", "0 or more", days));
            }
        }
        validate::not_nan("min_return", rule.min_return)?;
        let now = self.clock.now_ms();
        if rule.dry_run {
            return open.connections.read_until(Some(halt), |reader| {
                let steps = judged(&reader.connection, rule, now)?;
                Ok(steps.iter().filter(|step| step.goes).count())
            });
        }
        open.connections.write_until(Some(halt), DOING, |connection| {
            let steps = judged(connection, rule, now)?;
            let (mut doomed, mut totals) = (Vec::new(), HashMap::new());
            for Step { row, goes, .. } in steps {
                if goes {
                    doomed.push(row);
                } else {
                    *totals.entry(row.episode).or_insert(0.0) += row.reward;
                }
            }
            if !doomed.is_empty() {
                remove(connection, &mut doomed, Some(&totals))?;
            }
            Ok(doomed.len())
        })
    }
}

/// Every step, with the rule's verdict.
fn judged(connection: &Connection, rule: &Prune, now: i64) -> Result<Vec<Step>> {
    let mut steps = steps(connection, rule, now)?;
    match rule.unit {
        Unit::Step => cut_steps(&mut steps, rule),
        Unit::Episode => cut_episodes(connection, &mut steps, rule)?,
    }
    Ok(steps)
}

/// Every step, marked by age and return alone.
fn steps(connection: &Connection, rule: &Prune, now: i64) -> Result<Vec<Step>> {
    let sql =
        "SELECT id, episode, action, reward, success, return_to_go, timestamp_ms FROM trajectory";
    let mut statement = connection.prepare_cached(sql).during(DOING)?;
    let oldest = rule.keep_days.map(|days| now as f64 - days * DAY_MS);
    let found = statement.query_map([], |row| {
        let (reward, return_to_go, timestamp) = (row.get(3)?, row.get(5)?, row.get::<_, i64>(6)?);
        let succeeded = succeeded(row.get(4)?, reward);
        let old = oldest.is_some_and(|oldest| (timestamp as f64) < oldest);
        let poor =
            matches!((return_to_go, rule.min_return), (Some(value), Some(least)) if value < least);
        let goes = (old || poor) && !(rule.keep_successful && succeeded);
        let (key, episode, action) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let row = Doomed { key, episode, action, reward, succeeded };
        Ok(Step { row, return_to_go, timestamp, goes })
    });
    found.during(DOING)?.collect::<rusqlite::Result<_>>().during(DOING)
}

/// What decides who stays, the greater first to stay: success, where it counts, return (none is lowest), newness.
type Rank = (bool, Option<f64>, i64, i64);

fn by_rank(a: &Rank, b: &Rank) -> Ordering {
    let value = |rank: &Rank| rank.1.unwrap_or(f64::NEG_INFINITY);
    let known = |rank: &Rank| rank.1.is_some();
    a.0.cmp(&b.0)
        .then(known(a).cmp(&known(b)))
        .then(value(a).total_cmp(&value(b)))
        .then(a.2.cmp(&b.2))
        .then(a.3.cmp(&b.3))
}

fn cut_steps(steps: &mut [Step], rule: &Prune) {
    let Some(max_size) = rule.max_size else { return };
    let mut left: Vec<&mut Step> = steps.iter_mut().filter(|step| !step.goes).collect();
    let excess = left.len().saturating_sub(max_size);
    let rank = |step: &Step| {
        let success = rule.keep_successful && step.row.succeeded;
        (success, step.return_to_go, step.timestamp, step.row.key)
    };
    left.sort_unstable_by(|a, b| by_rank(&rank(a), &rank(b)));
    left.into_iter().take(excess).for_each(|step| step.goes = true);
}

/// An episode, as the rule looks at it.
#[derive(Default)]
struct Whole {
    steps: usize,
    going: usize,
    returns: (f64, usize),
    newest: (i64, i64),
    succeeded: bool,
}

impl Whole {
    fn rank(&self) -> Rank {
        let (sum, count) = self.returns;
        let mean = (count > 0).then(|| sum / count as f64);
        (self.succeeded, mean, self.newest.0, self.newest.1)
    }
}

fn cut_episodes(connection: &Connection, steps: &mut [Step], rule: &Prune) -> Result<()> {
    let mut episodes = BTreeMap::<i64, Whole>::new();
    for step in steps.iter() {
        let new = Whole { newest: (i64::MIN, i64::MIN), ..Whole::default() };
        let whole = episodes.entry(step.row.episode).or_insert(new);
        whole.steps += 1;
        whole.going += usize::from(step.goes);
        if let Some(value) = step.return_to_go {
            whole.returns = (whole.returns.0 + value, whole.returns.1 + 1);
        }
        whole.newest = whole.newest.max((step.timestamp, step.row.key));
    }
    if rule.keep_successful && rule.max_size.is_some() {
        mark_successes(connection, &mut episodes)?;
    }
    let mut left: Vec<_> = episodes.iter().filter(|(_, whole)| whole.going < whole.steps).collect();
    let mut size: usize = left.iter().map(|(_, whole)| whole.steps).sum();
    left.sort_unstable_by(|(_, a), (_, b)| by_rank(&a.rank(), &b.rank()));
    let mut kept = left.into_iter();
    while rule.max_size.is_some_and(|max_size| size > max_size)
        && let Some((_, whole)) = kept.next()
    {
        size -= whole.steps;
    }
    let kept: HashSet<i64> = kept.map(|(id, _)| *id).collect();
    for step in steps {
        step.goes = !kept.contains(&step.row.episode);
    }
    Ok(())
}

/// An episode succeeded if it was said so, else if its last step did.
fn mark_successes(connection: &Connection, episodes: &mut BTreeMap<i64, Whole>) -> Result<()> {
    let sql = "SELECT t.episode, e.success, t.success, t.reward FROM trajectory t JOIN episode e ON e.id = t.episode
               ORDER BY t.episode, t.step_index IS NULL, t.step_index, t.timestamp_ms, t.id";
    let mut statement = connection.prepare_cached(sql).during(DOING)?;
    let mut found = statement.query([]).during(DOING)?;
    while let Some(row) = found.next().during(DOING)? {
        let episode: i64 = row.get(0).during(DOING)?;
        let said: Option<bool> = row.get(1).during(DOING)?;
        let step = succeeded(row.get(2).during(DOING)?, row.get(3).during(DOING)?);
        if let Some(whole) = episodes.get_mut(&episode) {
            whole.succeeded = said.unwrap_or(step); // the last row of an episode decides
        }
    }
    Ok(())
}
