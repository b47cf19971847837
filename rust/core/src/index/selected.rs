//! The rows that match the filters asked about lately, kept up to date: a condition that many queries share (a return to
//! reach, a kind of task) is held to every row once, and from then on to the rows that change.

use std::sync::{Arc, OnceLock};

use super::columns::{Columns, Slot};
use super::filter::{Criteria, Resolved};
use crate::bits::Bits;
use crate::hnsw::{Arranged, Cells};

/// Filters whose rows are kept, each a bit a row.
const KEPT: usize = 8;

/// Of the newest rows, those among which the steps of an episode are looked for.
const NEWEST: usize = 4096;

/// The rows that match a filter.
#[derive(Clone, Debug, Default)]
pub(super) struct Selected {
    pub(super) rows: Bits,
    /// How many they are.
    pub(super) count: usize,
    /// The same as the index's cells have them, if they were asked.
    arranged: OnceLock<Arranged>,
    /// There once the filter was asked again.
    again: OnceLock<()>,
}

impl Selected {
    /// The rows in the cells of the index, worked out once.
    pub(super) fn arranged(&self, cells: &Cells) -> &Arranged {
        self.arranged.get_or_init(|| cells.arrange(&self.rows))
    }

    /// Whether the filter is asked again and again, so that it is worth arranging its rows.
    pub(super) fn is_asked_again(&self) -> bool {
        self.again.get().is_some()
    }

    /// Forgets how the rows lay in cells.
    pub(super) fn disarrange(&mut self) {
        self.arranged.take();
    }

    fn judge(&mut self, columns: &Columns, criteria: &Criteria, slot: Slot) {
        let (at, old) = (slot.at(), self.rows.get(slot.at()));
        let new = columns.live.get(at) && criteria.admits(columns, slot);
        self.rows.set(at, new);
        self.count = self.count + usize::from(new) - usize::from(old);
        if new != old && self.arranged.get().is_some_and(|arranged| at < arranged.rows()) {
            self.disarrange();
        }
    }
}

/// The rows of the filters asked about lately, the latest last. Whoever changes a row tells it afterwards.
#[derive(Debug, Default)]
pub(super) struct Selections {
    kept: Vec<Kept>,
}

#[derive(Debug)]
struct Kept {
    filter: Resolved,
    criteria: Criteria,
    selected: Arc<Selected>,
    /// Rows judged since it was asked for.
    changes: usize,
}

impl Selections {
    /// The rows that match, if they are kept.
    pub(super) fn find(&mut self, filter: &Resolved) -> Option<Arc<Selected>> {
        let at = self.kept.iter().position(|kept| kept.filter == *filter)?;
        self.kept[at..].rotate_left(1);
        let kept = self.kept.last_mut()?;
        kept.changes = 0;
        kept.selected.again.get_or_init(|| ());
        Some(Arc::clone(&kept.selected))
    }

    /// Keeps the rows that match; `selected` has the memory of a forgotten answer afterwards.
    pub(super) fn keep(&mut self, filter: &Resolved, selected: &mut Selected) -> Arc<Selected> {
        if let Some(found) = self.find(filter) {
            return found; // another thread was faster
        }
        let oldest = (self.kept.len() == KEPT).then(|| self.kept.remove(0));
        let spare = oldest.and_then(|oldest| Arc::into_inner(oldest.selected));
        let mut spare = spare.unwrap_or_default();
        (spare.arranged, spare.again) = Default::default();
        let selected = Arc::new(std::mem::replace(selected, spare));
        self.kept.push(Kept {
            filter: filter.clone(),
            criteria: Criteria::new(filter),
            selected: Arc::clone(&selected),
            changes: 0,
        });
        selected
    }

    /// The row at `slot`, the last one, was appended.
    pub(super) fn append(&mut self, columns: &Columns, slot: Slot) {
        self.each(columns, |kept| {
            Arc::make_mut(&mut kept.selected).rows.push(false);
            kept.judge(columns, slot);
        });
    }

    /// The row at `slot` went or changed.
    pub(super) fn change(&mut self, columns: &Columns, slot: Slot) {
        self.each(columns, |kept| kept.judge(columns, slot));
    }

    /// The total reward of the episode at `place` went from `old` to `new`.
    pub(super) fn retotal(&mut self, columns: &Columns, place: u32, old: f64, new: f64) {
        if !self.kept.iter().any(|kept| kept.criteria.crossed(old, new)) {
            return;
        }
        let Some(steps) = columns.newest_steps(place, NEWEST) else {
            self.kept.retain(|kept| !kept.criteria.crossed(old, new));
            return;
        };
        self.each(columns, |kept| {
            if kept.criteria.crossed(old, new) {
                for &slot in &steps {
                    kept.judge(columns, slot);
                }
            }
        });
    }

    /// The index has other cells.
    pub(super) fn disarrange(&mut self) {
        self.kept.iter_mut().for_each(|kept| Arc::make_mut(&mut kept.selected).disarrange());
    }

    /// Slots have changed.
    pub(super) fn forget(&mut self) {
        self.kept.clear();
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        let held = |selected: &Selected| {
            selected.rows.bytes() + selected.arranged.get().map_or(0, Arranged::bytes)
        };
        self.kept.iter().map(|kept| held(&kept.selected)).sum()
    }

    /// Tells every set of a change. One for which more rows were judged than it is worth is dropped: all rows at once take
    /// a thirtieth of the time.
    fn each(&mut self, columns: &Columns, change: impl Fn(&mut Kept)) {
        self.kept.retain_mut(|kept| {
            change(kept);
            kept.changes <= 256 + columns.len() / 32
        });
    }
}

impl Kept {
    fn judge(&mut self, columns: &Columns, slot: Slot) {
        // nobody searches while rows change, so the set is not copied
        Arc::make_mut(&mut self.selected).judge(columns, &self.criteria, slot);
        self.changes += 1;
    }
}
