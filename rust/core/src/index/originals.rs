//! Full-precision states that are at hand: the copy in the mapped sidecar, by slot.

use std::sync::Arc;

use crate::bits::Bits;

use super::columns::Slot;
use super::sidecar::Copy;

/// Marks a row that the copy does not have.
const NOWHERE: u32 = u32::MAX;

/// A copy of the states as they were when the index was saved, and where in it each row is.
#[derive(Clone, Debug)]
pub(super) struct Copied {
    copy: Arc<Copy>,
    /// The place of each slot; `None` while places are slots, which they are until rows are compacted away.
    places: Option<Vec<u32>>,
}

impl Copied {
    /// A copy whose places are slots.
    pub(super) fn new(copy: Arc<Copy>) -> Self {
        Self { copy, places: None }
    }

    /// The place of a row in the copy.
    fn place(&self, slot: Slot) -> Option<usize> {
        match &self.places {
            None => Some(slot.at()),
            Some(places) => {
                places.get(slot.at()).filter(|at| **at != NOWHERE).map(|at| *at as usize)
            }
        }
    }

    /// Reads a row's state; false if it has to be read from the database.
    pub(super) fn state(&self, slot: Slot, state: &mut [f32]) -> bool {
        self.place(slot).is_some_and(|at| self.copy.state(at, state))
    }

    /// Asks for the stored bytes of a row ahead of their use.
    pub(super) fn fetch(&self, slot: Slot) {
        if let Some(at) = self.place(slot) {
            self.copy.fetch(at);
        }
    }

    /// The stored bytes of a row's state, if the copy has them.
    pub(super) fn stored(&self, slot: Slot) -> Option<&[u8]> {
        self.place(slot).and_then(|at| self.copy.stored(at))
    }

    /// Follows a compaction that keeps these slots.
    pub(super) fn keep(&mut self, kept: &Bits) {
        let rows = self.copy.rows();
        let moved = |at: usize| {
            let place = self.place(Slot(at as u32)).filter(|at| *at < rows);
            place.map_or(NOWHERE, |at| at as u32)
        };
        self.places = Some(kept.iter().map(moved).collect());
    }

    pub(super) fn copy(&self) -> &Arc<Copy> {
        &self.copy
    }

    /// Anonymous bytes held; the copy itself the system can drop at any time.
    pub(super) fn bytes(&self) -> usize {
        self.places.as_ref().map_or(0, |places| 4 * places.capacity()) + self.copy.bytes()
    }
}
