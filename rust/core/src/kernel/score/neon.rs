//! 128-bit ARM: the bytes, which walks are made of. Bits and floats are left to the compiler.
#![expect(unsafe_code, reason = "vector loads")]

use std::arch::aarch64::{
    int8x16_t, int32x4_t, vaddvq_s32, vandq_u8, vdupq_n_s8, vdupq_n_s32, vdupq_n_u8, vget_low_s8,
    vld1q_s8, vmlal_high_s8, vmull_s8, vpadalq_s16, vreinterpretq_s8_u8, vreinterpretq_u8_s8,
    vshrq_n_u8,
};

use super::super::distance::Line;
use super::super::distance::neon::joined;
use super::super::halves;
use super::{Kernel, LIFT, scalar};

pub(super) const KERNEL: Kernel = Kernel {
    join: halves::join,
    // SAFETY: every 64-bit ARM CPU that Rust's targets name has NEON.
    bytes: |rows, query, out| unsafe { bytes(rows, query, out) },
    // SAFETY: as above.
    uppers: |rows, query, out| unsafe { uppers(rows, query, out) },
    signs: scalar::signs,
    products: scalar::products,
    squares: scalar::squares,
};

#[target_feature(enable = "neon")]
fn bytes(rows: &[&[Line]], query: &[Line], out: &mut [i32]) {
    let (pairs, upper) = (halves::pairs(query.len()), halves::upper(query.len()));
    for (row, out) in rows.iter().zip(out) {
        let mut sums = [vdupq_n_s32(0); 4];
        for part in 0..4 {
            for (at, asked) in query[..2 * pairs].as_chunks::<2>().0.iter().enumerate() {
                let codes = joined(load(&row[at], part), load(&row[upper + at], part));
                for (codes, q) in codes.into_iter().zip(asked) {
                    sums[part] = add(sums[part], codes, load(q, part));
                }
            }
            for (line, q) in row[pairs..upper].iter().zip(&query[2 * pairs..]) {
                sums[part] = add(sums[part], load(line, part), load(q, part));
            }
        }
        *out = sums.map(|sum| vaddvq_s32(sum)).iter().sum();
    }
}

#[target_feature(enable = "neon")]
fn uppers(rows: &[&[Line]], query: &[Line], out: &mut [i32]) {
    let pairs = halves::pairs(query.len());
    let (split, whole) = query.split_at(2 * pairs);
    let mut lift = vdupq_n_s32(0);
    for line in split {
        for part in 0..4 {
            lift = add(lift, vdupq_n_s8(1), load(line, part));
        }
    }
    let lift = LIFT * vaddvq_s32(lift);
    for (row, out) in rows.iter().zip(out) {
        let (mut sums, mut rest) = ([vdupq_n_s32(0); 4], vdupq_n_s32(0));
        for part in 0..4 {
            for (line, asked) in row[..pairs].iter().zip(split.as_chunks::<2>().0) {
                let both = vreinterpretq_u8_s8(load(line, part));
                let halves = [vandq_u8(both, vdupq_n_u8(15)), vshrq_n_u8::<4>(both)];
                for (half, q) in halves.into_iter().zip(asked) {
                    sums[part] = add(sums[part], vreinterpretq_s8_u8(half), load(q, part));
                }
            }
            for (line, q) in row[pairs..].iter().zip(whole) {
                rest = add(rest, load(line, part), load(q, part));
            }
        }
        let sum: i32 = sums.map(|sum| vaddvq_s32(sum)).iter().sum();
        *out = 32 * sum - lift + 2 * vaddvq_s32(rest);
    }
}

/// Adds the products of bytes above -128: two fit sixteen bits.
#[target_feature(enable = "neon")]
fn add(sums: int32x4_t, x: int8x16_t, q: int8x16_t) -> int32x4_t {
    vpadalq_s16(sums, vmlal_high_s8(vmull_s8(vget_low_s8(x), vget_low_s8(q)), x, q))
}

/// A quarter of a line.
#[target_feature(enable = "neon")]
fn load(line: &Line, part: usize) -> int8x16_t {
    let quarter = &line.0.as_chunks::<16>().0[part];
    // SAFETY: sixteen readable bytes.
    unsafe { vld1q_s8(quarter.as_ptr()) }
}
