//! 128-bit ARM, with plain widening multiplications that every such CPU has.
//!
//! Kernels are safe functions over whole blocks; unsafe are only the loads and the stores.
#![expect(unsafe_code, reason = "vector loads and stores")]

use std::arch::aarch64::{
    float64x2_t, int8x16_t, vaddq_f64, vaddvq_s32, vcvt_f64_f32, vcvt_high_f64_f32, vdupq_n_f64,
    vdupq_n_s32, vdupq_n_u8, veorq_u8, vfmaq_f64, vget_low_f32, vget_low_s8, vld1q_f32, vld1q_s8,
    vmlal_high_s8, vmull_s8, vmulq_f64, vpadalq_s16, vreinterpretq_s8_u8, vreinterpretq_u8_s8,
    vsliq_n_u8, vsriq_n_u8, vst1q_f64, vsubq_f64,
};

use super::super::halves;
use super::scalar::{self, LANES, fold, padded};
use super::{Fine, Kernel, Line};

pub(super) const KERNEL: Kernel = Kernel {
    // SAFETY: every 64-bit ARM CPU that Rust's targets name has NEON; so for the next two.
    dots: |rows, query, out| unsafe { dots(rows, query, out) },
    // SAFETY: as above.
    products: |a, b| unsafe { products(a, b) },
    // SAFETY: as above.
    squared_distance: |a, b| unsafe { squared_distance(a, b) },
    encode: scalar::encode,
    refine: scalar::refine,
};

#[target_feature(enable = "neon")]
fn dots(rows: &[&[Line]], query: &Fine, out: &mut [f64]) {
    let lines = query.high.len();
    let (pairs, upper) = (halves::pairs(lines), halves::upper(lines));
    for (row, out) in rows.iter().zip(out) {
        let row = &row[..lines];
        let (mut highs, mut lows) = ([vdupq_n_s32(0); 4], [vdupq_n_s32(0); 4]);
        let mut add = |line: usize, part: usize, codes: int8x16_t| {
            let (high, low) = (load_i8(&query.high[line], part), load_i8(&query.low[line], part));
            // two products of a code (at most 127) and a byte (at least -128) fit sixteen bits
            highs[part] = vpadalq_s16(
                highs[part],
                vmlal_high_s8(vmull_s8(vget_low_s8(codes), vget_low_s8(high)), codes, high),
            );
            lows[part] = vpadalq_s16(
                lows[part],
                vmlal_high_s8(vmull_s8(vget_low_s8(codes), vget_low_s8(low)), codes, low),
            );
        };
        for part in 0..4 {
            for at in 0..pairs {
                let [first, second] =
                    joined(load_i8(&row[at], part), load_i8(&row[upper + at], part));
                add(2 * at, part, first);
                add(2 * at + 1, part, second);
            }
            for at in pairs..upper {
                add(pairs + at, part, load_i8(&row[at], part));
            }
        }
        let sum = |parts: [_; 4]| parts.map(|part| i64::from(vaddvq_s32(part))).iter().sum::<i64>();
        *out = (256 * sum(highs) + sum(lows)) as f64;
    }
}

/// The sixteen components, twice, with these halves.
#[target_feature(enable = "neon")]
pub(in super::super) fn joined(upper: int8x16_t, lower: int8x16_t) -> [int8x16_t; 2] {
    let (upper, lower) = (vreinterpretq_u8_s8(upper), vreinterpretq_u8_s8(lower));
    // shifted in beside the four bits that stay
    [vsliq_n_u8::<4>(lower, upper), vsriq_n_u8::<4>(upper, lower)]
        .map(|lifted| vreinterpretq_s8_u8(veorq_u8(lifted, vdupq_n_u8(128))))
}

/// A quarter of a line.
#[target_feature(enable = "neon")]
fn load_i8(line: &Line, part: usize) -> int8x16_t {
    let quarter = &line.0.as_chunks::<16>().0[part];
    // SAFETY: sixteen readable bytes.
    unsafe { vld1q_s8(quarter.as_ptr()) }
}

#[target_feature(enable = "neon")]
fn products(a: &[f32], b: &[f32]) -> (f64, f64) {
    let (mut dot, mut square) = ([vdupq_n_f64(0.0); 8], [vdupq_n_f64(0.0); 8]);
    let mut take = |a: &[f32; LANES], b: &[f32; LANES]| {
        let (a, b) = (eighths(a), eighths(b));
        for i in 0..8 {
            // the products are exact, so fusing changes no bit
            dot[i] = vfmaq_f64(dot[i], a[i], b[i]);
            square[i] = vfmaq_f64(square[i], b[i], b[i]);
        }
    };
    let ((a, a_tail), (b, b_tail)) = (a.as_chunks(), b.as_chunks());
    a.iter().zip(b).for_each(|(a, b)| take(a, b));
    take(&padded(a_tail), &padded(b_tail));
    (fold(store(dot)), fold(store(square)))
}

#[target_feature(enable = "neon")]
fn squared_distance(a: &[f32], b: &[f32]) -> f64 {
    let mut sum = [vdupq_n_f64(0.0); 8];
    let mut take = |a: &[f32; LANES], b: &[f32; LANES]| {
        let (a, b) = (eighths(a), eighths(b));
        for i in 0..8 {
            let apart = vsubq_f64(a[i], b[i]);
            // not fused: the square is rounded, as in every other set
            sum[i] = vaddq_f64(sum[i], vmulq_f64(apart, apart));
        }
    };
    let ((a, a_tail), (b, b_tail)) = (a.as_chunks(), b.as_chunks());
    a.iter().zip(b).for_each(|(a, b)| take(a, b));
    take(&padded(a_tail), &padded(b_tail));
    fold(store(sum))
}

/// Sixteen f32 as eight times two f64.
#[target_feature(enable = "neon")]
fn eighths(x: &[f32; LANES]) -> [float64x2_t; 8] {
    let mut out = [vdupq_n_f64(0.0); 8];
    for (pair, four) in out.as_chunks_mut::<2>().0.iter_mut().zip(x.as_chunks::<4>().0) {
        // SAFETY: four readable floats.
        let four = unsafe { vld1q_f32(four.as_ptr()) };
        *pair = [vcvt_f64_f32(vget_low_f32(four)), vcvt_high_f64_f32(four)];
    }
    out
}

#[target_feature(enable = "neon")]
fn store(x: [float64x2_t; 8]) -> [f64; LANES] {
    let mut out = [0.0; LANES];
    for (part, x) in out.as_chunks_mut::<2>().0.iter_mut().zip(x) {
        // SAFETY: two writable f64.
        unsafe { vst1q_f64(part.as_mut_ptr(), x) };
    }
    out
}
