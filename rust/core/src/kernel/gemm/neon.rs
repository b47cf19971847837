//! Tiles of C in registers, 8 x 8: each step of k loads one row of B's tile and multiplies it by eight numbers of A.
//! Columns beyond the last whole vector are summed one by one, with the same fused operation.

#![expect(
    unsafe_code,
    reason = "vector loads and stores, and calls of functions that need a CPU feature"
)]

use std::arch::aarch64::{
    float32x4_t, vdupq_n_f32, vfmaq_n_f32, vld1_u16, vld1q_f32, vmovl_u16, vreinterpretq_f32_u32,
    vshlq_n_u32, vst1q_f32,
};

use super::{Bf16, Combination, Gemm, Isa, Product, Start};

pub(super) fn neon() -> Option<Gemm> {
    Isa::Neon.runs().then_some(Gemm {
        isa: Isa::Neon,
        // SAFETY: the closures are handed out only when this CPU has the features.
        product: |product| unsafe { product_of(product) },
        // SAFETY: as above.
        combination: |combination| unsafe { combination_of(combination) },
        // SAFETY: as above.
        rounded: |combination| unsafe { rounded_of(combination) },
    })
}

const LANES: usize = 4;
/// Rows of B that a pass over C reads, as many as stay in the second-level cache.
const BLOCK: usize = 256;

#[target_feature(enable = "neon")]
fn load(x: &[f32; LANES]) -> float32x4_t {
    // SAFETY: `x` is four readable floats.
    unsafe { vld1q_f32(x.as_ptr()) }
}

/// Numbers of 16 bits become wide by a shift.
#[target_feature(enable = "neon")]
fn widen(x: &[Bf16; LANES]) -> float32x4_t {
    // SAFETY: `x` is four readable numbers of 16 bits.
    let halves = unsafe { vld1_u16(x.as_ptr().cast()) };
    vreinterpretq_f32_u32(vshlq_n_u32::<16>(vmovl_u16(halves)))
}

#[target_feature(enable = "neon")]
fn store(x: &mut [f32; LANES], values: float32x4_t) {
    // SAFETY: `x` is four writable floats.
    unsafe { vst1q_f32(x.as_mut_ptr(), values) }
}

#[target_feature(enable = "neon")]
fn product_of(product: Product<'_>) {
    let Product { rows, columns, depth, left, right, target, start } = product;
    if start == Start::Zero {
        target.fill(0.0);
    }
    let whole = columns / LANES;
    for from in (0..depth).step_by(BLOCK) {
        let to = depth.min(from + BLOCK);
        let right = &right[from * columns..to * columns];
        let factor = |i: usize, k: usize| left.values[i * left.row + (from + k) * left.step];
        let mut i = 0;
        while i < rows {
            let high = if rows - i >= 8 { 8 } else { (rows - i).min(4) };
            let target = &mut target[i * columns..(i + high) * columns];
            for v in (0..whole).step_by(2) {
                let pair = v + 1 < whole;
                let at = v * LANES;
                match (high, pair) {
                    (8, true) => tile::<8, 2>(columns, at, right, target, |r, k| factor(i + r, k)),
                    (8, false) => tile::<8, 1>(columns, at, right, target, |r, k| factor(i + r, k)),
                    (4, true) => tile::<4, 2>(columns, at, right, target, |r, k| factor(i + r, k)),
                    (4, false) => tile::<4, 1>(columns, at, right, target, |r, k| factor(i + r, k)),
                    (3, true) => tile::<3, 2>(columns, at, right, target, |r, k| factor(i + r, k)),
                    (3, false) => tile::<3, 1>(columns, at, right, target, |r, k| factor(i + r, k)),
                    (2, true) => tile::<2, 2>(columns, at, right, target, |r, k| factor(i + r, k)),
                    (2, false) => tile::<2, 1>(columns, at, right, target, |r, k| factor(i + r, k)),
                    (_, true) => tile::<1, 2>(columns, at, right, target, |r, k| factor(i + r, k)),
                    (_, false) => tile::<1, 1>(columns, at, right, target, |r, k| factor(i + r, k)),
                }
            }
            for (r, target) in target.chunks_exact_mut(columns).enumerate() {
                for (j, sum) in target.iter_mut().enumerate().skip(whole * LANES) {
                    for (k, right) in right.chunks_exact(columns).enumerate() {
                        *sum = factor(i + r, k).mul_add(right[j], *sum);
                    }
                }
            }
            i += high;
        }
    }
}

/// Adds to `R` rows of the target, at `V` vectors from column `at` on.
#[target_feature(enable = "neon")]
fn tile<const R: usize, const V: usize>(
    columns: usize,
    at: usize,
    right: &[f32],
    target: &mut [f32],
    factor: impl Fn(usize, usize) -> f32,
) {
    let mut sums = [[vdupq_n_f32(0.0); V]; R];
    for (row, sums) in target.chunks_exact(columns).zip(&mut sums) {
        for (x, sum) in row[at..].as_chunks::<LANES>().0.iter().zip(sums) {
            *sum = load(x);
        }
    }
    for (k, right) in right.chunks_exact(columns).enumerate() {
        let mut vectors = [vdupq_n_f32(0.0); V];
        for (x, vector) in right[at..].as_chunks::<LANES>().0.iter().zip(&mut vectors) {
            *vector = load(x);
        }
        for (r, sums) in sums.iter_mut().enumerate() {
            let factor = factor(r, k);
            for (sum, vector) in sums.iter_mut().zip(vectors) {
                *sum = vfmaq_n_f32(*sum, vector, factor);
            }
        }
    }
    for (row, sums) in target.chunks_exact_mut(columns).zip(&sums) {
        for (x, sum) in row[at..].as_chunks_mut::<LANES>().0.iter_mut().zip(sums) {
            store(x, *sum);
        }
    }
}

#[target_feature(enable = "neon")]
fn combination_of(combination: Combination<'_, f32>) {
    combined(combination, |x| load(x), |x| *x);
}

#[target_feature(enable = "neon")]
fn rounded_of(combination: Combination<'_, Bf16>) {
    combined(combination, |x| widen(x), |x| x.wide());
}

/// `load` makes a vector of numbers, `wide` one number of one.
#[target_feature(enable = "neon")]
fn combined<T>(
    combination: Combination<'_, T>,
    load_row: impl Fn(&[T; LANES]) -> float32x4_t + Copy,
    wide: impl Fn(&T) -> f32,
) {
    let Combination { terms, rows, target } = combination;
    let columns = target.len();
    let mut at = 0;
    while at < columns {
        let left = columns - at;
        at += match left / LANES {
            16.. => strip::<16, T>(terms, rows, (columns, at), target, load_row),
            4.. => strip::<4, T>(terms, rows, (columns, at), target, load_row),
            1.. => strip::<1, T>(terms, rows, (columns, at), target, load_row),
            0 => {
                for (j, sum) in target.iter_mut().enumerate().skip(at) {
                    for &(index, value) in terms {
                        *sum = value.mul_add(wide(&rows[index as usize * columns + j]), *sum);
                    }
                }
                left
            }
        };
    }
}

/// Sums `V` vectors of the rows that `terms` names, from column `at` on; says how many columns that were.
#[target_feature(enable = "neon")]
fn strip<const V: usize, T>(
    terms: &[(u32, f32)],
    rows: &[T],
    (columns, at): (usize, usize),
    target: &mut [f32],
    load_row: impl Fn(&[T; LANES]) -> float32x4_t,
) -> usize {
    let mut sums = [vdupq_n_f32(0.0); V];
    for (x, sum) in target[at..].as_chunks::<LANES>().0.iter().zip(&mut sums) {
        *sum = load(x);
    }
    for &(index, value) in terms {
        let row = &rows[index as usize * columns + at..][..V * LANES];
        for (x, sum) in row.as_chunks::<LANES>().0.iter().zip(&mut sums) {
            *sum = vfmaq_n_f32(*sum, load_row(x), value);
        }
    }
    for (x, sum) in target[at..].as_chunks_mut::<LANES>().0.iter_mut().zip(&sums) {
        store(x, *sum);
    }
    V * LANES
}
