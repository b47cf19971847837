//! Which rows may answer: a filter whose names are numbers, and how it becomes a set of rows.

use crate::ids::{EpisodeId, LabelId, PatternId};

use super::columns::{Columns, Slot};
use crate::bits::Bits;

/// A [`crate::Filter`] whose names are numbers. The store looks the names up; a name that it does not know matches
/// nothing, so it is left out of its list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resolved {
    /// Any of these task types; an empty list matches nothing.
    pub task_types: Option<Vec<LabelId>>,
    /// Any of these episodes; an empty list matches nothing.
    pub episodes: Option<Vec<EpisodeId>>,
    /// Any of these patterns; an empty list matches nothing.
    pub patterns: Option<Vec<PatternId>>,
    /// This agent type; `Some(None)` is a name that the store does not know, and matches nothing.
    pub agent_type: Option<Option<LabelId>>,
    /// A computed return of at least this; a row without one never matches.
    pub min_return: Option<f64>,
    /// A reward of at least this.
    pub min_reward: Option<f64>,
    /// An episode whose total reward is at least this.
    pub min_episode_reward: Option<f64>,
    /// At this time (ms) or later.
    pub after_timestamp: Option<i64>,
    /// Before this time (ms).
    pub before_timestamp: Option<i64>,
    /// Whether the step succeeded.
    pub success: Option<bool>,
}

impl Resolved {
    /// Whether every row matches.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A [`Resolved`] made ready for asking: its lists are sorted.
#[derive(Clone, Debug)]
pub(super) struct Criteria {
    asked: Resolved,
}

impl Criteria {
    pub(super) fn new(filter: &Resolved) -> Self {
        let mut asked = filter.clone();
        asked.task_types.iter_mut().for_each(|list| list.sort_unstable());
        asked.episodes.iter_mut().for_each(|list| list.sort_unstable());
        asked.patterns.iter_mut().for_each(|list| list.sort_unstable());
        Self { asked }
    }

    /// Whether one row matches, dead or alive.
    pub(super) fn admits(&self, columns: &Columns, slot: Slot) -> bool {
        let Resolved {
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
        } = &self.asked;
        let at = slot.at();
        listed(task_types.as_deref(), columns.task_type[at])
            && listed(episodes.as_deref(), columns.episodes.id(columns.episode[at]))
            && listed(patterns.as_deref(), columns.pattern[at])
            && agent_type.is_none_or(|agent| agent.is_some() && agent == columns.agent(slot))
            && min_return.is_none_or(|least| columns.ret[at] >= least)
            && min_reward.is_none_or(|least| columns.reward[at] >= least)
            && min_episode_reward
                .is_none_or(|least| columns.episodes.total(columns.episode[at]) >= least)
            && after_timestamp.is_none_or(|first| columns.timestamp[at] >= first)
            && before_timestamp.is_none_or(|end| columns.timestamp[at] < end)
            && success.is_none_or(|wanted| columns.succeeded.get(at) == wanted)
    }

    /// Whether a change of an episode's total from `old` to `new` changes which rows match.
    pub(super) fn crossed(&self, old: f64, new: f64) -> bool {
        self.asked.min_episode_reward.is_some_and(|least| (old >= least) != (new >= least))
    }

    /// Puts the living rows that match into `rows`.
    pub(super) fn select(&self, columns: &Columns, rows: &mut Bits) {
        let Resolved {
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
        } = &self.asked;
        rows.copy_from(&columns.live);
        if let Some(wanted) = *success {
            rows.narrow_to(&columns.succeeded, wanted);
        }
        match agent_type {
            None => {}
            Some(None) => rows.clear(),
            Some(Some(agent)) => rows.narrow(&columns.agent_type, |one| one == Some(*agent).into()),
        }
        narrow_to_listed(rows, &columns.task_type, task_types.as_deref());
        narrow_to_listed(rows, &columns.pattern, patterns.as_deref());
        if episodes.is_some() || min_episode_reward.is_some() {
            let wanted = columns.episodes.choose(|id, total| {
                listed(episodes.as_deref(), id)
                    && min_episode_reward.is_none_or(|least| total >= least)
            });
            rows.narrow(&columns.episode, |episode| wanted.get(episode as usize));
        }
        if let Some(least) = *min_return {
            rows.narrow(&columns.ret, |ret| ret >= least);
        }
        if let Some(least) = *min_reward {
            rows.narrow(&columns.reward, |reward| reward >= least);
        }
        if let Some(first) = *after_timestamp {
            rows.narrow(&columns.timestamp, |time| time >= first);
        }
        if let Some(end) = *before_timestamp {
            rows.narrow(&columns.timestamp, |time| time < end);
        }
    }
}

/// Whether a sorted list, if there is one, has `value`.
fn listed<T: Copy + Ord>(list: Option<&[T]>, value: T) -> bool {
    list.is_none_or(|list| list.binary_search(&value).is_ok())
}

fn narrow_to_listed<T: Copy + Ord>(rows: &mut Bits, column: &[T], list: Option<&[T]>) {
    match list {
        None => {}
        Some([]) => rows.clear(),
        Some([one]) => rows.narrow(column, |value| value == *one), // a loop that vectorises
        Some(list) => rows.narrow(column, |value| list.binary_search(&value).is_ok()),
    }
}
