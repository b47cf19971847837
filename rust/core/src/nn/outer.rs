//! The gradient by a matrix of weights: sums over the samples of what enters it times the loss's derivative by what leaves.

use super::crew::{Crew, Cut, Grid};
use super::mlp;
use super::optimizer::Part;
use super::sums;
use crate::kernel::gemm::Gemm;

/// Rows that are computed at once.
const ROWS: usize = 32;
/// Rows that a thread beside others takes at the most: enough to use the same memory again, few enough that nobody waits.
const SHARE: usize = 4 * ROWS;

/// A product of two matrices with a row a sample, the first one turned. Nobody holds it whole who does not want to.
#[derive(Clone, Copy)]
pub(super) struct Outer<'a> {
    gemm: Gemm,
    input: (&'a [f32], usize),
    delta: (&'a [f32], usize),
    top: usize,
}

impl<'a> Outer<'a> {
    /// That of rows of numbers, each with their width.
    pub(super) fn new(gemm: Gemm, input: (&'a [f32], usize), delta: (&'a [f32], usize)) -> Self {
        Self { gemm, input, delta, top: 0 }
    }

    /// The same from row `top` on.
    pub(super) fn below(self, top: usize) -> Self {
        Self { top: self.top + top, ..self }
    }

    /// Fills `gradient` with it, and `norms` with the squared norms of its rows.
    pub(super) fn fill(self, crew: Crew, gradient: &mut [f32], norms: &mut [f64]) {
        let whole = (Grid::new(gradient, self.delta.1), Grid::new(norms, 1));
        crew.each(whole, ROWS, &|first, (gradient, norms)| {
            self.below(first).rows(gradient.values, norms.values);
        });
    }

    /// Moves weights down it as it comes. Of `room`, as large as the weights, a thread uses the same few rows again and again:
    /// they stay in its cache.
    pub(super) fn descend(
        self,
        crew: Crew,
        weights: Part<'_>,
        room: &mut [f32],
        norms: &mut [f64],
    ) {
        let width = self.delta.1;
        let most = if crew.is_alone() { norms.len() } else { SHARE };
        let at_once = crew.share(norms.len(), ROWS, most);
        let whole = (weights.in_rows(width), Grid::new(room, width), Grid::new(norms, 1));
        crew.each(whole, at_once, &|first, (mut weights, room, norms)| {
            for (nth, norms) in norms.values.chunks_mut(ROWS).enumerate() {
                let gradient = &mut room.values[..norms.len() * width];
                self.below(first + nth * ROWS).rows(gradient, norms);
                let (part, rest) = weights.cut(norms.len());
                part.move_down(gradient);
                weights = rest;
            }
        });
    }

    /// Fills some rows from the top on.
    fn rows(self, gradient: &mut [f32], norms: &mut [f64]) {
        mlp::weight_rows(self.gemm, self.top, self.input, self.delta, gradient);
        for (norm, row) in norms.iter_mut().zip(gradient.chunks_exact(self.delta.1)) {
            *norm = sums::squares(row);
        }
    }
}
