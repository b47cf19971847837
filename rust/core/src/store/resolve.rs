//! Filters as the index understands them: names become numbers.

use rusqlite::OptionalExtension;

use super::connections::Reader;
use super::{Store, validate};
use crate::error::{During, Result};
use crate::filter::Filter;
use crate::ids::{EpisodeId, LabelId, PatternId, RowKey};
use crate::index::{Resolved, Scale};

/// Refuses numbers that compare with nothing.
pub(super) fn check(filter: &Filter) -> Result<()> {
    validate::not_nan("filter.min_return", filter.min_return)?;
    validate::not_nan("filter.min_reward", filter.min_reward)?;
    validate::not_nan("filter.min_episode_reward", filter.min_episode_reward)
}

/// A checked filter with numbers for names. A name that nobody used matches nothing.
pub(super) fn resolve(reader: &Reader, filter: &Filter) -> Result<Resolved> {
    let Filter {
        task_types,
        episodes,
        patterns,
        agent_type,
        min_return,
        min_reward,
        min_episode_reward,
        after_timestamp,
        before_timestamp,
        success,
    } = filter;
    let label = "SELECT id FROM label WHERE text = ?";
    let episode = "SELECT id FROM episode WHERE name = ?";
    let pattern = "SELECT id FROM pattern WHERE key = ?";
    let agent_type = match agent_type {
        Some(name) => Some(number(reader, label, name)?.map(LabelId)),
        None => None,
    };
    Ok(Resolved {
        task_types: numbers(reader, label, task_types.as_deref(), LabelId)?,
        episodes: numbers(reader, episode, episodes.as_deref(), EpisodeId)?,
        patterns: numbers(reader, pattern, patterns.as_deref(), PatternId)?,
        agent_type,
        min_return: *min_return,
        min_reward: *min_reward,
        min_episode_reward: *min_episode_reward,
        after_timestamp: *after_timestamp,
        before_timestamp: *before_timestamp,
        success: *success,
    })
}

impl Store {
    /// The keys of the matching rows, in the order of their insertion.
    pub fn keys_matching(&self, filter: &Filter) -> Result<Vec<RowKey>> {
        let open = self.enter()?;
        check(filter)?;
        open.in_sync(|reader, mirror| Ok(mirror.index.keys_matching(&resolve(reader, filter)?)))
    }

    /// Quantiles of the matching rows' returns or of their episodes' totals, interpolated linearly; `None` where
    /// nothing matches. `qs` are in [0, 1].
    pub fn quantiles(&self, scale: Scale, qs: &[f64], filter: &Filter) -> Result<Vec<Option<f64>>> {
        let open = self.enter()?;
        check(filter)?;
        if let Some(q) = qs.iter().find(|q| !(0.0..=1.0).contains(*q)) {
            return Err(crate::Error::invalid("quantile", "a number in [0, 1]", q));
        }
        open.in_sync(|reader, mirror| {
            let resolved = resolve(reader, filter)?;
            Ok(qs.iter().map(|q| mirror.index.quantile(scale, &resolved, *q)).collect())
        })
    }
}

fn number(reader: &Reader, sql: &'static str, name: &str) -> Result<Option<i64>> {
    let mut statement = reader.statement(sql)?;
    statement.query_row([name], |row| row.get(0)).optional().during("resolving a filter")
}

fn numbers<T: Ord>(
    reader: &Reader,
    sql: &'static str,
    names: Option<&[String]>,
    wrap: impl Fn(i64) -> T,
) -> Result<Option<Vec<T>>> {
    let Some(names) = names else { return Ok(None) };
    let mut found = Vec::with_capacity(names.len());
    for name in names {
        found.extend(number(reader, sql, name)?.map(&wrap));
    }
    found.sort_unstable();
    found.dedup();
    Ok(Some(found))
}
