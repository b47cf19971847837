//! The network itself: two matrices with a `ReLU` between them, forwards and backwards.

use std::ops::Range;

use crate::kernel::gemm::{Aligned, Gemm, Left, Start};
use crate::rng::Rng;

/// The sizes of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Width of the input.
    pub input: usize,
    /// Hidden units.
    pub hidden: usize,
    /// Width of the output.
    pub output: usize,
}

impl Shape {
    /// How many numbers the network learns.
    pub fn parameters(self) -> usize {
        (self.input + 1) * self.hidden + (self.hidden + 1) * self.output
    }

    /// Where W1, b1, W2 and b2 end in a flat buffer that holds them in this order.
    fn ends(self) -> [usize; 4] {
        let w1 = self.input * self.hidden;
        let b1 = w1 + self.hidden;
        let w2 = b1 + self.hidden * self.output;
        [w1, b1, w2, w2 + self.output]
    }

    /// The runs of a flat buffer that an optimizer tells apart, in order.
    pub(super) fn segments(self) -> [(Range<usize>, Kind); 5] {
        let [w1, b1, w2, b2] = self.ends();
        let context = self.input / 3 * 2 * self.hidden;
        [
            (0..context, Kind::Weights),
            (context..w1, Kind::Context),
            (w1..b1, Kind::Biases),
            (b1..w2, Kind::Weights),
            (w2..b2, Kind::Biases),
        ]
    }

    /// Takes a flat buffer apart into W1 `[input, hidden]`, b1, W2 `[hidden, output]` and b2.
    pub fn split(self, flat: &[f32]) -> [&[f32]; 4] {
        let [w1, b1, w2, b2] = self.ends();
        [&flat[..w1], &flat[w1..b1], &flat[b1..w2], &flat[w2..b2]]
    }

    /// [`Self::split`], to write into.
    pub fn split_mut(self, flat: &mut [f32]) -> [&mut [f32]; 4] {
        let [w1_end, b1_end, w2_end, _] = self.ends();
        let (w1, rest) = flat.split_at_mut(w1_end);
        let (b1, rest) = rest.split_at_mut(b1_end - w1_end);
        let (w2, b2) = rest.split_at_mut(w2_end - b1_end);
        [w1, b1, w2, b2]
    }
}

/// What a run of parameters is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Weights.
    Weights,
    /// Weights of the context block, which many layers never use.
    Context,
    /// Biases.
    Biases,
}

/// The initial weights of `seed`: normal with variance 2 / fan-in (He et al. 2015), biases zero.
pub fn initial(shape: Shape, seed: u64) -> Aligned {
    let mut flat = Aligned::zeros(shape.parameters());
    let [w1, _, w2, _] = shape.split_mut(&mut flat);
    for (stream, weights, fan_in) in [(0, w1, shape.input), (1, w2, shape.hidden)] {
        let (rng, deviation) = (Rng::new(seed, stream), (2.0 / fan_in as f64).sqrt());
        for (position, weight) in weights.iter_mut().enumerate() {
            *weight = (rng.normal(position as u64) * deviation) as f32;
        }
    }
    flat
}

/// The sums that enter the hidden units, ReLU included. `x` has rows of `active` numbers: two or three blocks, the third
/// left out where it is zero everywhere. `start` is what the sums start from: b1, or with `coded` b1 and the return
/// code's part, one row for all.
///
/// The order of the sums is code, state, context, so that the shares of a code can be kept from question to question.
pub(super) fn hidden_rows(
    gemm: Gemm,
    shape: Shape,
    w1: &[f32],
    (x, active): (&[f32], usize),
    (start, coded): (&[f32], bool),
    hidden: &mut [f32],
) {
    let (block, h) = (shape.input / 3, shape.hidden);
    for hidden in hidden.chunks_exact_mut(h) {
        hidden.copy_from_slice(start);
    }
    let order = [1, 0, 2];
    for part in
        order.into_iter().skip(usize::from(coded)).take_while(|part| (part + 1) * block <= active)
    {
        let left = Left::columns(x, active, part * block);
        gemm.multiply(left, &w1[part * block * h..][..block * h], h, hidden, Start::Kept);
    }
    for h in hidden.iter_mut() {
        *h = h.max(0.0);
    }
}

/// The outputs for rows of hidden units.
pub(super) fn output_rows(
    gemm: Gemm,
    shape: Shape,
    (w2, b2): (&[f32], &[f32]),
    hidden: &[f32],
    output: &mut [f32],
) {
    for output in output.chunks_exact_mut(shape.output) {
        output.copy_from_slice(b2);
    }
    gemm.multiply(Left::rows(hidden, shape.hidden), w2, shape.output, output, Start::Kept);
}

/// The loss's derivative by what enters the hidden units, from that by the outputs. W2 is read as it lies, so the product
/// is made transposed; `turned` is scratch for both transposes, `hidden + output` numbers a row.
pub(super) fn d_hidden_rows(
    gemm: Gemm,
    shape: Shape,
    w2: &[f32],
    (hidden, d_output): (&[f32], &[f32]),
    d_hidden: &mut [f32],
    turned: &mut [f32],
) {
    let rows = hidden.len() / shape.hidden;
    let (d_output_turned, d_hidden_turned) = turned.split_at_mut(rows * shape.output);
    transpose(d_output, shape.output, d_output_turned);
    let left = Left::rows(w2, shape.output);
    gemm.multiply(left, d_output_turned, rows, d_hidden_turned, Start::Zero);
    transpose(d_hidden_turned, rows, d_hidden);
    for (d, h) in d_hidden.iter_mut().zip(hidden) {
        *d = if *h > 0.0 { *d } else { 0.0 };
    }
}

/// Sums over the samples `x^T d`, rows `first..` of it: the gradient by those rows of a weight matrix.
pub(super) fn weight_rows(
    gemm: Gemm,
    first: usize,
    (x, width): (&[f32], usize),
    (d, d_width): (&[f32], usize),
    gradient: &mut [f32],
) {
    gemm.multiply(Left::transposed(x, width, first), d, d_width, gradient, Start::Zero);
}

/// Turns rows of `width` numbers into columns.
fn transpose(rows: &[f32], width: usize, turned: &mut [f32]) {
    const TILE: usize = 16;
    let height = rows.len() / width;
    for top in (0..height).step_by(TILE) {
        for left in (0..width).step_by(TILE) {
            for i in top..(top + TILE).min(height) {
                for j in left..(left + TILE).min(width) {
                    turned[j * height + i] = rows[i * width + j];
                }
            }
        }
    }
}
