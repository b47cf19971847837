//! The reference: portable Rust that the other instruction sets must agree with, bit by bit.

use super::super::halves;
use super::{Fine, Line, Shape};

/// Lanes of a sum in f64.
pub(super) const LANES: usize = 16;

/// Below this greatest component a row is coded as zeros and left out entirely: f32 gets coarse there.
const FAINT: f32 = 1e-30;

/// Adding it rounds a small f32 to an integer, to even between two, and leaves that integer in the lowest bits.
const ROUNDER: f32 = 12_582_912.0;

/// Adds the lanes up in the order that all instruction sets share.
pub(super) fn fold(mut lanes: [f64; LANES]) -> f64 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// The last components of a vector, padded: zeros change no sum.
pub(super) fn padded<const N: usize>(tail: &[f32]) -> [f32; N] {
    let mut block = [0.0; N];
    block[..tail.len()].copy_from_slice(tail);
    block
}

pub(super) fn products(a: &[f32], b: &[f32]) -> (f64, f64) {
    let (mut dot, mut square) = ([0.0; LANES], [0.0; LANES]);
    for (a, b) in a.chunks(LANES).zip(b.chunks(LANES)) {
        for (lane, (&x, &y)) in a.iter().zip(b).enumerate() {
            dot[lane] += f64::from(x) * f64::from(y);
            square[lane] += f64::from(y) * f64::from(y);
        }
    }
    (fold(dot), fold(square))
}

pub(super) fn squared_distance(a: &[f32], b: &[f32]) -> f64 {
    let mut sum = [0.0; LANES];
    for (a, b) in a.chunks(LANES).zip(b.chunks(LANES)) {
        for (lane, (&x, &y)) in a.iter().zip(b).enumerate() {
            let apart = f64::from(x) - f64::from(y);
            sum[lane] += apart * apart;
        }
    }
    fold(sum)
}

pub(super) fn dots(rows: &[&[Line]], query: &Fine, out: &mut [f64]) {
    for (row, out) in rows.iter().zip(out) {
        assert_eq!(row.len(), query.wide.len(), "as many lines as the query");
        let sum: i64 = halves::lines(row)
            .zip(&query.wide)
            .map(|(line, wide)| {
                // 64 * 127 * 32,639 stays below 2^31
                let pairs = line.0.iter().zip(wide);
                i64::from(pairs.map(|(&code, &q)| i32::from(code) * i32::from(q)).sum::<i32>())
            })
            .sum();
        *out = sum as f64;
    }
}

/// The greatest magnitude; NaN counts for nothing.
#[expect(clippy::inline_always, reason = "a copy for every instruction set is the point")]
#[inline(always)]
fn peak<'a>(blocks: impl Iterator<Item = &'a [f32; Line::LEN]>) -> f32 {
    let mut peaks = [0.0_f32; LANES];
    for part in blocks.flat_map(|block| block.as_chunks::<LANES>().0) {
        for (peak, x) in peaks.iter_mut().zip(part) {
            let x = x.abs();
            *peak = if x > *peak { x } else { *peak };
        }
    }
    peaks.into_iter().fold(0.0, f32::max)
}

/// The body of every set's `encode`: each compiles it for its own registers.
#[expect(clippy::inline_always, reason = "a copy for every instruction set is the point")]
#[inline(always)]
pub(super) fn encode(vector: &[f32], codes: &mut [Line]) -> Shape {
    let (blocks, tail) = vector.as_chunks::<{ Line::LEN }>();
    let last = padded::<{ Line::LEN }>(tail);
    let blocks = || blocks.iter().chain((!tail.is_empty()).then_some(&last));

    let peak = peak(blocks());
    let faint = peak < FAINT;
    let (scale, per_scale) = if faint { (0.0, 0.0) } else { (peak / 127.0, 127.0 / peak) };

    let (mut square, mut left_out) = ([0.0_f64; LANES], [0.0_f64; LANES]);
    for (block, line) in blocks().zip(codes) {
        let parts = block.as_chunks::<LANES>().0.iter().zip(line.0.as_chunks_mut::<LANES>().0);
        for (part, codes) in parts {
            for lane in 0..LANES {
                let x = part[lane];
                let shifted = x * per_scale + ROUNDER;
                codes[lane] = shifted.to_bits() as i8;
                let miss = f64::from(x) - f64::from(scale) * f64::from(shifted - ROUNDER);
                square[lane] += f64::from(x) * f64::from(x);
                left_out[lane] += miss * miss;
            }
        }
    }
    let norm = fold(square).sqrt();
    if faint {
        let norm = up(norm);
        return Shape { scale, norm, residual: norm };
    }
    Shape { scale, norm: norm as f32, residual: up(fold(left_out).sqrt()) }
}

/// The body of every set's `refine`.
#[expect(clippy::inline_always, reason = "a copy for every instruction set is the point")]
#[inline(always)]
pub(super) fn refine(query: &[f32], into: &mut Fine) {
    let (blocks, tail) = query.as_chunks::<{ Line::LEN }>();
    let last = padded::<{ Line::LEN }>(tail);
    let blocks = || blocks.iter().chain((!tail.is_empty()).then_some(&last));

    let peak = f64::from(peak(blocks()));
    let step = peak / Fine::PEAK;
    let per_step = if peak > 0.0 { Fine::PEAK / peak } else { 0.0 };

    let Fine { high, low, wide, high_sum, low_sum, .. } = into;
    let lines = Line::needed(query.len());
    high.resize(lines, Line::ZERO);
    low.resize(lines, Line::ZERO);
    wide.resize(lines, [0; Line::LEN]);
    let (mut square, mut left_out) = ([0.0_f64; LANES], [0.0_f64; LANES]);
    let (mut highs, mut lows) = ([0_i32; LANES], [0_i32; LANES]);
    for (block, ((high, low), wide)) in blocks().zip(high.iter_mut().zip(low).zip(wide)) {
        for at in (0..Line::LEN).step_by(LANES) {
            for lane in 0..LANES {
                let x = f64::from(block[at + lane]);
                let shifted = x * per_step + Fine::ROUNDER;
                let miss = x - step * (shifted - Fine::ROUNDER);
                square[lane] += x * x;
                left_out[lane] += miss * miss;
                let code = shifted.to_bits() as i32; // the rounded number is in the lowest bits
                let top = (code + 128) >> 8;
                let rest = code - 256 * top;
                (high.0[at + lane], low.0[at + lane]) = (top as i8, rest as i8);
                wide[at + lane] = code as i16;
                highs[lane] += top;
                lows[lane] += rest;
            }
        }
    }
    *high_sum = highs.into_iter().map(i64::from).sum();
    *low_sum = lows.into_iter().map(i64::from).sum();
    into.step = step;
    into.norm = fold(square).sqrt();
    into.residual = fold(left_out).sqrt();
}

/// The next f32 above, except for zero, which is exact.
fn up(x: f64) -> f32 {
    if x == 0.0 { 0.0 } else { (x as f32).next_up() }
}
