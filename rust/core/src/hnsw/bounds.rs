//! Between which two values a row's distance lies, judged by its code.
//!
//! A row is `x = s c + e`, the query `q = q' + f`, with the lengths of `e` and `f` known. Then
//! `q.x = q'.(s c) + q'.e + f.x`, so by Cauchy and Schwarz the product of the codes misses `q.x` by at most
//! `|q'| |e| + |f| |x|`. That holds for every row: it is a proof, not an estimate.
//!
//! It takes `e` to lie along the query, which what rounding leaves out does not do: its components are at most half a
//! step long, each its own way, so by Hoeffding `q'.e` is beyond `t s |q'|` once in `exp(2 t²) / 2` rows at most. Where a
//! walk chose the rows, nothing is proven anyway, and that is bound enough: it is several times tighter.

use std::sync::atomic::AtomicU32;

use crate::kernel::distance::Line;
use crate::kernel::score::fetch;
use crate::metric::Metric;

use super::codec::{CHUNK, Codec, Prepared};
use super::memory::floats;
use super::params::Quantization;
use super::shape_of;

/// What rounding may add, as a part of `|q| |x|`. The stored length is right to 2^-22, all else to some 2^-40.
const SLACK: f64 = 1e-6;

/// The same where the query was rotated in f32 first.
const TURNED: f64 = 1e-5;

/// The same for a distance summed in f64, whose square root was squared again.
const EXACT: f64 = 1e-12;

/// How many steps of a row's code, times the query's length, its rounding is likely to miss at most: one row in 1,500 goes
/// beyond by the bound; of errors that are spread evenly, one in 10^11.
const LIKELY: f64 = 2.0;

/// Keeps a division by the length of a zero vector finite; shorter than any f32 but zero.
const TINY: f64 = 1e-60;

/// Sets `least` and `most` to the bounds of the cost of the first rows, one for each of `facts`, at most [`CHUNK`]. Rows
/// beyond are fetched only. Facts are read last: they may still be on their way from memory. `likely` makes the bounds of
/// int8 codes tighter, and right for nearly all rows only.
pub(super) fn judge(
    codec: &Codec,
    query: &Prepared,
    likely: bool,
    rows: &[&[Line]],
    facts: &[&[AtomicU32]],
    least: &mut [f64],
    most: &mut [f64],
) {
    assert!(query.exact, "bounds are for queries that came as states");
    let mut products = [0.0; CHUNK];
    let products = &mut products[..facts.len()];
    let (asked, coming) = rows.split_at(facts.len());
    let slack = match codec.quantization() {
        Quantization::None => {
            coming.iter().copied().for_each(fetch);
            for (i, row) in asked.iter().enumerate() {
                let cost = exact(codec, query, &floats(row)[..codec.dimension()]);
                (least[i], most[i]) = (cost - EXACT * cost.abs(), cost + EXACT * cost.abs());
            }
            return;
        }
        Quantization::Int8 => {
            codec.kernel.dots(rows, &query.fine, products);
            SLACK
        }
        Quantization::Binary => {
            let (mut high, mut low) = ([0; CHUNK], [0; CHUNK]);
            coming.iter().copied().for_each(fetch);
            codec.score.signs(asked, query.fine.high(), &mut high[..asked.len()]);
            codec.score.signs(asked, query.fine.low(), &mut low[..asked.len()]);
            for (product, (high, low)) in products.iter_mut().zip(high.iter().zip(&low)) {
                *product = 256.0 * f64::from(*high) + f64::from(*low);
            }
            TURNED
        }
    };
    let (step, norm, residual) = (query.fine.step, query.fine.norm, query.fine.residual);
    let per_norm = residual + slack * norm;
    let coded = norm + residual; // |q'| is at most this
    let likely = likely && codec.quantization() == Quantization::Int8;
    let rows = products.iter().zip(facts).zip(least.iter_mut().zip(most));
    for ((&product, facts), (least, most)) in rows {
        let shape = shape_of(facts);
        let [scale, length, left_out] = [shape.scale, shape.norm, shape.residual].map(f64::from);
        let left_out = if likely { left_out.min(LIKELY * scale) } else { left_out };
        let (product, miss) = (step * scale * product, coded * left_out + per_norm * length);
        let (cost, miss) = match query.metric {
            Metric::Cosine => {
                let inverse = 1.0 / (norm.max(TINY) * length.max(TINY));
                (1.0 - product * inverse, miss * inverse)
            }
            Metric::Euclidean => {
                let squares = norm * norm + length * length;
                (squares - 2.0 * product, 2.0 * miss + slack * squares)
            }
            Metric::Dot => (-product, miss),
        };
        (*least, *most) = (cost - miss, cost + miss);
    }
}

/// The cost at full precision, summed as answers are.
fn exact(codec: &Codec, query: &Prepared, row: &[f32]) -> f64 {
    match query.metric {
        Metric::Cosine => {
            let (dot, square) = codec.kernel.products(&query.state, row);
            let lengths = (query.square * square).sqrt();
            if lengths == 0.0 { 1.0 } else { 1.0 - (dot / lengths).clamp(-1.0, 1.0) }
        }
        Metric::Euclidean => codec.kernel.squared_distance(&query.state, row),
        Metric::Dot => -codec.kernel.products(&query.state, row).0,
    }
}
