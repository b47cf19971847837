//! Between which two values a row's distance lies, judged by its code.
//!
//! A row is `x = s c + e`, the query `q = q' + f`, with the lengths of `e` and `f` known. Then
//! `q.x = q'.(s c) + q'.e + f.x`, so by Cauchy and Schwarz the product of the codes misses `q.x` by at most
//! `|q'| |e| + |f| |x|`. That holds for every row: it is a proof, not an estimate.
//!
//! Bounds are on a *cost* that orders rows as the distance does: the distance itself, except for Euclid, where it is
//! squared.

use crate::kernel::distance::Fine;
use crate::metric::Metric;

/// What rounding may add, as a part of `|q| |x|`. The stored norm is right to 2^-22, all else to some 2^-40; a
/// residual is at least a thousand times this.
const SLACK: f64 = 1e-6;

/// Keeps a division by the length of a zero vector finite; shorter than any f32 but zero.
const TINY: f64 = 1e-60;

/// What the codes of a query say about rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    metric: Metric,
    step: f64,
    norm: f64,
    residual: f64,
}

/// The facts of some rows, by columns of one length.
pub(super) struct Facts<'a> {
    /// The products of the rows' codes and the query's.
    pub(super) dot: &'a [f64],
    pub(super) scale: &'a [f32],
    pub(super) norm: &'a [f32],
    pub(super) residual: &'a [f32],
}

impl Bounds {
    pub(super) fn new(metric: Metric, query: &Fine) -> Self {
        Self { metric, step: query.step, norm: query.norm, residual: query.residual }
    }

    /// The cost of an exact distance.
    pub(super) fn cost(&self, distance: f64) -> f64 {
        match self.metric {
            Metric::Cosine | Metric::Dot => distance,
            Metric::Euclidean => distance * distance,
        }
    }

    /// Sets `least` and `most` to the bounds of every row's cost. Where f32 overflowed they are NaN or infinite, and
    /// whoever reads them takes NaN for "could be anything".
    pub(super) fn judge(&self, rows: &Facts<'_>, least: &mut [f64], most: &mut [f64]) {
        let Self { metric, step, norm, residual } = *self;
        let per_row_norm = residual + SLACK * norm;
        let coded = norm + residual; // |q'| is at most this
        match metric {
            Metric::Cosine => {
                let inverse = 1.0 / norm.max(TINY);
                fill(rows, least, most, |dot, scale, length, left_out| {
                    let inverse = inverse / length.max(TINY);
                    let miss = coded * left_out + per_row_norm * length;
                    (1.0 - step * scale * dot * inverse, miss * inverse)
                });
            }
            Metric::Euclidean => {
                let square = norm * norm;
                fill(rows, least, most, |dot, scale, length, left_out| {
                    let miss = coded * left_out + per_row_norm * length;
                    let squares = square + length * length;
                    (squares - 2.0 * step * scale * dot, 2.0 * miss + SLACK * squares)
                });
            }
            Metric::Dot => fill(rows, least, most, |dot, scale, length, left_out| {
                (-step * scale * dot, coded * left_out + per_row_norm * length)
            }),
        }
    }
}

/// Written so that it vectorises: no branch, one pass over columns of one length.
fn fill(
    rows: &Facts<'_>,
    least: &mut [f64],
    most: &mut [f64],
    judge: impl Fn(f64, f64, f64, f64) -> (f64, f64),
) {
    let n = rows.dot.len();
    let (scale, norm, residual) = (&rows.scale[..n], &rows.norm[..n], &rows.residual[..n]);
    let (least, most) = (&mut least[..n], &mut most[..n]);
    for i in 0..n {
        let [scale, norm, residual] = [scale[i], norm[i], residual[i]].map(f64::from);
        let (cost, miss) = judge(rows.dot[i], scale, norm, residual);
        least[i] = cost - miss;
        most[i] = cost + miss;
    }
}
