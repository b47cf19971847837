//! Between which two values a row's distance lies, judged by its code.
//!
//! A row is `x = s c + e`, the query `q = q' + f`, with the lengths of `e` and `f` known. Then
//! `q.x = q'.(s c) + q'.e + f.x`, so by Cauchy and Schwarz the product of the codes misses `q.x` by at most
//! `|q'| |e| + |f| |x|`. That holds for every row: it is a proof, not an estimate.
//!
//! It takes `e` to lie along the query, which what rounding leaves out does not do: its components are at most half a
//! step long, each its own way, so by Hoeffding `q'.e` is beyond `t s |q'|` once in `exp(2 t²) / 2` rows at most. Where a
//! walk chose the rows, nothing is proven anyway, and that is bound enough: it is several times tighter.
//!
//! The upper halves of a code prove something, too. What they leave out of a component is at most 7.5 steps, so of the
//! product with a query at most `7.5 s` times the sum of the query's magnitudes. Most rows of a scan are farther than
//! that, and their lower halves are never read.

use std::sync::atomic::AtomicU32;

use crate::kernel::distance::{Line, Shape};
use crate::kernel::halves;
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

/// A query as skimming asks it: eight bits a component.
#[derive(Clone, Copy, Debug)]
pub struct Skim {
    /// The worth of a unit.
    unit: f64,
    /// The coded query is at most this long.
    coded: f64,
    /// What the code leaves out of the query is at most this long.
    left_out: f64,
    /// What the halves of a code of scale 1 can leave out of the product, at most.
    halves: f64,
}

impl Skim {
    pub(super) fn new(codec: &Codec, query: &Prepared) -> Option<Self> {
        if !codec.splits() || !query.exact {
            return None;
        }
        let fine = &query.fine;
        let split = 2 * halves::pairs(fine.high().len());
        let sum: i64 = magnitudes(&fine.high()[..split]).map(i64::from).sum();
        let squares: i64 = magnitudes(fine.low()).map(|x| i64::from(x * x)).sum();
        let left_out = fine.residual + fine.step * (squares as f64).sqrt();
        let unit = 256.0 * fine.step;
        Some(Self { unit, coded: fine.norm + left_out, left_out, halves: 7.5 * unit * sum as f64 })
    }
}

fn magnitudes(lines: &[Line]) -> impl Iterator<Item = i32> {
    lines.iter().flat_map(|line| line.0).map(|x| i32::from(x).abs())
}

/// Sets `least` to a lower bound of the cost of each row, at most [`CHUNK`], by its upper half alone.
pub(super) fn skim(
    codec: &Codec,
    query: &Prepared,
    skim: &Skim,
    rows: &[&[Line]],
    facts: &[&[AtomicU32]],
    least: &mut [f64],
) {
    let mut products = [0; CHUNK];
    let products = &mut products[..rows.len()];
    codec.score.uppers(rows, query.fine.high(), products);
    let per_norm = skim.left_out + SLACK * query.fine.norm;
    for ((&twice, facts), least) in products.iter().zip(facts).zip(least) {
        let Shape { scale, norm, residual } = shape_of(facts);
        let [scale, length, left_out] = [scale, norm, residual].map(f64::from);
        let product = 0.5 * skim.unit * scale * f64::from(twice);
        let miss = skim.coded * left_out + skim.halves * scale + per_norm * length;
        let (cost, miss) = cost(query, length, product, miss, SLACK);
        *least = cost - miss;
    }
}

/// The cost at a product, and by how much it may be off if the product is off by `miss`.
fn cost(query: &Prepared, length: f64, product: f64, miss: f64, slack: f64) -> (f64, f64) {
    let norm = query.fine.norm;
    match query.metric {
        Metric::Cosine => {
            let inverse = 1.0 / (norm.max(TINY) * length.max(TINY));
            (1.0 - product * inverse, miss * inverse)
        }
        Metric::Euclidean => {
            let squares = norm * norm + length * length;
            (squares - 2.0 * product, 2.0 * miss + slack * squares)
        }
        Metric::Dot => (-product, miss),
    }
}

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
        let (cost, miss) = cost(query, length, product, miss, slack);
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
