//! Whether walks need no more of the codes than their upper halves.
//!
//! A walk has to tell the rows that it keeps from those a little farther away. What the lower halves add, spread over
//! hundreds of components, is mostly nothing beside such differences; where all rows are much alike, it is not. So every
//! row that is linked says, by the candidates that its walk left, how far the costs of the upper halves were off, and a
//! graph goes over to whole codes where too many were off too far. What decides is counted batch by batch, so it depends
//! on the rows, not on the threads.

use std::sync::atomic::{AtomicU32, Ordering};

use super::codec::Codec;
use super::scratch::Near;

/// What rows said of the upper halves.
#[derive(Debug, Default)]
pub(super) struct Glances {
    asked: AtomicU32,
    misled: AtomicU32,
}

/// Fewest candidates that tell anything.
const CANDIDATES: usize = 40;

/// The share of rows, one in so many, that may be misled,
const FEW: u32 = 8;

/// and how many more: the first rows of all say little.
const FIRST: u32 = 64;

/// How many standard deviations of the error have to fit between the candidates that a walk must tell apart.
const APART: f64 = 3.0;

impl Glances {
    /// Whether walks read upper halves only.
    pub(super) fn suffice(&self, codec: &Codec) -> bool {
        let [asked, misled] = self.counts();
        codec.splits() && misled <= asked / FEW + FIRST
    }

    /// Takes the word of many rows, `misled` of those that were `asked`.
    pub(super) fn count(&self, asked: u32, misled: u32) {
        self.asked.fetch_add(asked, Ordering::Relaxed);
        self.misled.fetch_add(misled, Ordering::Relaxed);
    }

    /// How many were asked, and how many of them were misled.
    pub(super) fn counts(&self) -> [u32; 2] {
        [&self.asked, &self.misled].map(|count| count.load(Ordering::Relaxed))
    }
}

/// Whether the costs of the upper halves are off so far that the tenth and the fiftieth of two hundred candidates could
/// change places. `whole` are the costs of the same rows, in the same order, by whole codes. None: too few to tell.
pub(super) fn misled(upper: &[Near], whole: &[f32]) -> Option<bool> {
    if upper.len() < CANDIDATES {
        return None;
    }
    let count = upper.len() as f64;
    let errors = upper.iter().zip(whole).map(|(near, whole)| f64::from(whole - near.cost()));
    let (sum, squares) = errors.fold((0.0, 0.0), |(sum, squares), x| (sum + x, squares + x * x));
    let deviation = (squares / count - (sum / count).powi(2)).max(0.0).sqrt();
    let [near, far] = [upper.len() / 20, upper.len() / 4].map(|at| f64::from(upper[at].cost()));
    Some(APART * deviation > far - near)
}
