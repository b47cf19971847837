//! Where returns rank, kept in order for the filters that were asked about lately.

use std::collections::HashMap;

use super::columns::{Columns, Slot};
use super::filter::{Criteria, Resolved};
use super::order::Ranked;
use crate::bits::Bits;

/// Questions whose numbers are kept in order.
const KEPT: usize = 8;

/// What is ranked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scale {
    /// The computed returns of the matching rows.
    Return,
    /// The total rewards of the episodes that have a matching row, each once.
    Episode,
}

/// The numbers of the questions asked lately, the latest last. Whoever changes a row tells it before and after.
#[derive(Debug, Default)]
pub(super) struct Quantiles {
    kept: Vec<Kept>,
}

/// The numbers that answer one question.
#[derive(Debug)]
struct Kept {
    scale: Scale,
    filter: Resolved,
    criteria: Criteria,
    ranked: Ranked,
    /// For [`Scale::Episode`]: how many matching rows an episode has, by its place.
    rows: HashMap<u32, u32>,
    /// Changes since it was asked.
    changes: usize,
}

impl Quantiles {
    /// The quantile as [`super::Index::quantile`] promises it.
    pub(super) fn ask(
        &mut self,
        columns: &Columns,
        scale: Scale,
        filter: &Resolved,
        q: f64,
    ) -> Option<f64> {
        let asked = |kept: &Kept| kept.scale == scale && kept.filter == *filter;
        if let Some(at) = self.kept.iter().position(asked) {
            self.kept[at..].rotate_left(1);
        } else {
            if self.kept.len() == KEPT {
                self.kept.remove(0);
            }
            self.kept.push(Kept::new(columns, scale, filter));
        }
        let kept = self.kept.last_mut()?;
        kept.changes = 0;
        interpolate(kept.ranked.len(), q, |rank| kept.ranked.select(rank))
    }

    /// The row at `slot` is there now.
    pub(super) fn enter(&mut self, columns: &Columns, slot: Slot) {
        self.each(|kept| kept.enter(columns, slot));
    }

    /// The row at `slot` is about to go or to change.
    pub(super) fn leave(&mut self, columns: &Columns, slot: Slot) {
        self.each(|kept| kept.leave(columns, slot));
    }

    /// The total reward of the episode at `place` went from `old` to `new`.
    pub(super) fn retotal(&mut self, place: u32, old: f64, new: f64) {
        self.kept.retain(|kept| !kept.criteria.crossed(old, new));
        self.each(|kept| kept.scale == Scale::Return || kept.retotal(place, old, new));
    }

    /// Places and slots have changed.
    pub(super) fn forget(&mut self) {
        self.kept.clear();
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        let one =
            |kept: &Kept| kept.ranked.bytes() + kept.rows.capacity() * size_of::<(u32, u32)>();
        self.kept.iter().map(one).sum()
    }

    /// Tells every question of a change. One that misses a number is wrong, one that is told more than it is asked
    /// costs more than sorting anew: both are dropped.
    fn each(&mut self, change: impl Fn(&mut Kept) -> bool) {
        self.kept.retain_mut(|kept| {
            kept.changes += 1;
            kept.changes <= 256 + kept.ranked.len() / 4 && change(kept)
        });
    }
}

/// Methods that change return false if the numbers turn out to be wrong.
impl Kept {
    fn new(columns: &Columns, scale: Scale, filter: &Resolved) -> Self {
        let criteria = Criteria::new(filter);
        let mut matches = Bits::default();
        criteria.select(columns, &mut matches);
        let mut rows = HashMap::new();
        let mut values: Vec<f64> = match scale {
            Scale::Return => matches.iter().map(|at| columns.ret[at]).collect(),
            Scale::Episode => {
                for at in matches.iter() {
                    *rows.entry(columns.episode[at]).or_default() += 1;
                }
                rows.keys().map(|&place| columns.episodes.total(place)).collect()
            }
        };
        values.retain(|value| !value.is_nan());
        let ranked = Ranked::new(values);
        Self { scale, filter: filter.clone(), criteria, ranked, rows, changes: 0 }
    }

    fn enter(&mut self, columns: &Columns, slot: Slot) -> bool {
        if !self.criteria.admits(columns, slot) {
            return true;
        }
        match self.scale {
            Scale::Return => self.insert(columns.ret[slot.at()]),
            Scale::Episode => {
                let place = columns.episode[slot.at()];
                let rows = self.rows.entry(place).or_default();
                *rows += 1;
                if *rows == 1 {
                    self.insert(columns.episodes.total(place));
                }
            }
        }
        true
    }

    fn leave(&mut self, columns: &Columns, slot: Slot) -> bool {
        if !self.criteria.admits(columns, slot) {
            return true;
        }
        match self.scale {
            Scale::Return => self.remove(columns.ret[slot.at()]),
            Scale::Episode => {
                let place = columns.episode[slot.at()];
                let Some(rows) = self.rows.get_mut(&place) else { return false };
                *rows -= 1;
                if *rows > 0 {
                    return true;
                }
                self.rows.remove(&place);
                self.remove(columns.episodes.total(place))
            }
        }
    }

    fn retotal(&mut self, place: u32, old: f64, new: f64) -> bool {
        if !self.rows.contains_key(&place) {
            return true;
        }
        self.insert(new);
        self.remove(old)
    }

    fn insert(&mut self, value: f64) {
        if !value.is_nan() {
            self.ranked.insert(value);
        }
    }

    fn remove(&mut self, value: f64) -> bool {
        value.is_nan() || self.ranked.remove(value)
    }
}

/// The value at `q * (n - 1)`, linear between ranks, from the nearer one as numpy does.
fn interpolate(n: usize, q: f64, at: impl Fn(usize) -> f64) -> Option<f64> {
    let last = n.checked_sub(1)?;
    let position = q.clamp(0.0, 1.0) * last as f64;
    let below = (position as usize).min(last);
    let (low, high) = (at(below), at((below + 1).min(last)));
    let share = position - below as f64;
    Some(if share < 0.5 { low + (high - low) * share } else { high - (high - low) * (1.0 - share) })
}
