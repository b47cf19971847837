//! Whether walks need no more of the codes than their upper halves.
//!
//! A walk has to tell the rows that it keeps from those a little farther away. What the lower halves add, spread over
//! hundreds of components, is mostly nothing beside such differences; where all rows are much alike, it is not. So rows
//! that are linked by such walks say, by the candidates that were left, how far the costs of the upper halves were off, and
//! a graph goes over to whole codes, for good, where too many were off too far. What decides is counted batch by batch, so
//! it depends on the rows, not on the threads.

use std::sync::atomic::{AtomicU32, Ordering};

use super::codec::Codec;
use super::params::Params;
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
    /// Whether walks read upper halves only. Linking must leave candidates enough to tell.
    pub(super) fn suffice(&self, codec: &Codec, params: &Params) -> bool {
        let [asked, misled] = self.counts();
        let told = params.ef_construction >= CANDIDATES;
        codec.splits() && told && misled <= asked / FEW + FIRST
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

/// Whether the costs of the upper halves are off so far that candidates a twentieth and a quarter down the list (the tenth
/// and the fiftieth of two hundred) could change places. `whole` are the costs of the same rows, in the same order, by
/// whole codes. None: they are too few to tell, or twins.
pub(super) fn misled(upper: &[Near], whole: &[f32]) -> Option<bool> {
    if upper.len() < CANDIDATES {
        return None;
    }
    let count = upper.len() as f64;
    let errors = upper.iter().zip(whole).map(|(near, whole)| f64::from(whole - near.cost()));
    let mean = errors.clone().sum::<f64>() / count;
    let deviation = (errors.map(|x| (x - mean).powi(2)).sum::<f64>() / count).sqrt();
    let [near, far] = [upper.len() / 20, upper.len() / 4].map(|at| f64::from(upper[at].cost()));
    (far > near).then_some(APART * deviation > far - near)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Candidates a hundredth apart by upper halves, and by whole codes as far off as `error` says.
    fn told(count: u32, apart: f32, error: impl Fn(u32) -> f32) -> Option<bool> {
        let cost = |at: u32| 0.2 + apart * at as f32;
        let upper: Vec<Near> = (0..count).map(|at| Near::new(cost(at), at)).collect();
        let whole: Vec<f32> = (0..count).map(|at| cost(at) + error(at)).collect();
        misled(&upper, &whole)
    }

    #[test]
    fn halves_mislead_where_their_errors_come_near_what_they_have_to_tell_apart() {
        let by_turns = |size: f32| move |at: u32| if at.is_multiple_of(2) { size } else { -size };
        // from the tenth to the fiftieth it is 0.4
        assert_eq!(told(200, 0.01, by_turns(0.1)), Some(false));
        assert_eq!(told(200, 0.01, by_turns(0.2)), Some(true));
        assert_eq!(told(200, 0.01, |_| 5.0), Some(false), "what is off alike changes no order");
        assert_eq!(told(39, 0.01, by_turns(0.2)), None, "too few");
        assert_eq!(told(200, 0.0, by_turns(0.2)), None, "twins by their upper halves");
    }
}
