//! Filters as the index understands them: names become numbers.

use std::collections::VecDeque;

use rusqlite::OptionalExtension;

use super::change::Position;
use super::connections::Reader;
use super::{Open, Store, UNPOISONED, validate};
use crate::error::{During, Result};
use crate::filter::Filter;
use crate::ids::{EpisodeId, LabelId, PatternId, RowKey};
use crate::index::{Resolved, Scale};

/// Filters whose numbers are kept.
const KEPT: usize = 8;
/// Names of such a filter, at the most: of many more, comparing them takes as long as looking them up.
const NAMES: usize = 64;

/// Refuses numbers that compare with nothing.
pub(super) fn check(filter: &Filter) -> Result<()> {
    validate::not_nan("filter.min_return", filter.min_return)?;
    validate::not_nan("filter.min_reward", filter.min_reward)?;
    validate::not_nan("filter.min_episode_reward", filter.min_episode_reward)
}

/// A checked filter with numbers for names. A name that nobody used matches nothing.
pub(super) fn resolve(reader: &Reader, filter: &Filter) -> Result<Resolved> {
    let label = "SELECT id FROM label WHERE text = ?";
    let episode = "SELECT id FROM episode WHERE name = ?";
    let pattern = "SELECT id FROM pattern WHERE key = ?";
    let agent_type = match &filter.agent_type {
        Some(name) => Some(number(reader, label, name)?.map(LabelId)),
        None => None,
    };
    Ok(Resolved {
        task_types: numbers(reader, label, filter.task_types.as_deref(), LabelId)?,
        episodes: numbers(reader, episode, filter.episodes.as_deref(), EpisodeId)?,
        patterns: numbers(reader, pattern, filter.patterns.as_deref(), PatternId)?,
        agent_type,
        ..unnamed(filter)
    })
}

/// What a filter says without names.
fn unnamed(filter: &Filter) -> Resolved {
    let &Filter {
        task_types: _,
        episodes: _,
        patterns: _,
        agent_type: _,
        min_return,
        min_reward,
        min_episode_reward,
        after_timestamp,
        before_timestamp,
        success,
    } = filter;
    Resolved {
        min_return,
        min_reward,
        min_episode_reward,
        after_timestamp,
        before_timestamp,
        success,
        ..Resolved::default()
    }
}

/// How many names a filter asks for; `None` where it asks for none, not even for one of no names.
fn names(filter: &Filter) -> Option<usize> {
    let lists = [&filter.task_types, &filter.episodes, &filter.patterns].into_iter().flatten();
    lists.map(Vec::len).chain(filter.agent_type.as_ref().map(|_| 1)).reduce(|sum, more| sum + more)
}

/// What the filters with names that were looked up last came to. A name gets its number by a write, so it holds until
/// the next.
#[derive(Default)]
pub(super) struct Resolutions {
    at: Option<Position>,
    kept: VecDeque<(Filter, Resolved)>,
}

impl Resolutions {
    /// The filter with numbers for its names, if they were looked up at this position.
    fn known(&self, filter: &Filter, at: Option<Position>) -> Option<Resolved> {
        let mut kept = self.kept.iter().filter(|_| at.is_some() && self.at == at);
        kept.find(|(of, _)| of == filter).map(|(_, resolved)| resolved.clone())
    }

    fn keep(&mut self, filter: &Filter, at: Option<Position>, resolved: &Resolved) {
        if names(filter).is_none_or(|names| names > NAMES) || self.known(filter, at).is_some() {
            return;
        }
        if self.at != at {
            self.at = at;
            self.kept.clear();
        }
        self.kept.truncate(KEPT - 1);
        self.kept.push_front((filter.clone(), resolved.clone()));
    }
}

impl Open {
    /// [`resolve`] where that takes no look into the file; `at` is where the mirror stands.
    pub(super) fn resolved(&self, filter: &Filter, at: Option<Position>) -> Option<Resolved> {
        if names(filter).is_none() {
            return Some(unnamed(filter)); // most filters, and no lock for them
        }
        self.resolutions.lock().expect(UNPOISONED).known(filter, at)
    }

    /// [`resolve`], kept for the next who ask.
    pub(super) fn resolve(
        &self,
        reader: &Reader,
        filter: &Filter,
        at: Option<Position>,
    ) -> Result<Resolved> {
        if let Some(known) = self.resolved(filter, at) {
            return Ok(known);
        }
        let resolved = resolve(reader, filter)?;
        self.resolutions.lock().expect(UNPOISONED).keep(filter, at, &resolved);
        Ok(resolved)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn of(task: &str) -> Filter {
        Filter { task_types: Some(vec![task.to_owned()]), ..Filter::default() }
    }

    #[test]
    fn what_names_came_to_is_known_until_something_is_written() {
        let mut resolutions = Resolutions::default();
        let at = |row| Some(Position { row, change: 0 });
        let one = Resolved { task_types: Some(vec![LabelId(1)]), ..Resolved::default() };
        resolutions.keep(&of("a"), at(1), &one);
        assert_eq!(resolutions.known(&of("a"), at(1)), Some(one.clone()));
        assert_eq!(resolutions.known(&of("b"), at(1)), None);
        assert_eq!(resolutions.known(&of("a"), at(2)), None, "\"a\" may have a number now");
        assert_eq!(resolutions.known(&of("a"), None), None);
        for name in 0..2 * KEPT {
            resolutions.keep(&of(&name.to_string()), at(2), &one);
        }
        assert_eq!(resolutions.kept.len(), KEPT);
        assert_eq!(resolutions.known(&of("a"), at(1)), None);
    }

    #[test]
    fn a_list_of_no_names_is_one_with_names() {
        let none = Filter { episodes: Some(Vec::new()), ..Filter::default() };
        assert_eq!(names(&none), Some(0), "it matches nothing");
        assert_eq!(names(&Filter { min_reward: Some(0.5), ..Filter::default() }), None);
    }
}
