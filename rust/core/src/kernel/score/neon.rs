//! 128-bit ARM: the bytes, which walks are made of. Bits and floats are left to the compiler.
#![expect(unsafe_code, reason = "vector loads")]

use std::arch::aarch64::{
    int8x16_t, vaddvq_s32, vdupq_n_s32, vget_low_s8, vld1q_s8, vmlal_high_s8, vmull_s8, vpadalq_s16,
};

use super::super::distance::Line;
use super::{Kernel, scalar};

pub(super) const KERNEL: Kernel = Kernel {
    // SAFETY: every 64-bit ARM CPU that Rust's targets name has NEON.
    bytes: |rows, query, out| unsafe { bytes(rows, query, out) },
    signs: scalar::signs,
    products: scalar::products,
    squares: scalar::squares,
};

#[target_feature(enable = "neon")]
fn bytes(rows: &[&[Line]], query: &[Line], out: &mut [i32]) {
    for (row, out) in rows.iter().zip(out) {
        let mut sums = [vdupq_n_s32(0); 4];
        for (line, q) in row.iter().zip(query) {
            for part in 0..4 {
                let (x, q) = (load(line, part), load(q, part));
                // two products of bytes above -128 fit sixteen bits
                let pairs = vmlal_high_s8(vmull_s8(vget_low_s8(x), vget_low_s8(q)), x, q);
                sums[part] = vpadalq_s16(sums[part], pairs);
            }
        }
        *out = sums.map(|sum| vaddvq_s32(sum)).iter().sum();
    }
}

/// A quarter of a line.
#[target_feature(enable = "neon")]
fn load(line: &Line, part: usize) -> int8x16_t {
    let quarter = &line.0.as_chunks::<16>().0[part];
    // SAFETY: sixteen readable bytes.
    unsafe { vld1q_s8(quarter.as_ptr()) }
}
