//! Every kernel of this machine beside the sums in f64, at every shape around its tiles.

use super::{Bf16, Gemm, Left, Start};
use crate::kernel::Isa;
use crate::rng::Rng;

fn numbers(seed: u64, n: usize) -> Vec<f32> {
    let rng = Rng::new(seed, 0);
    (0..n as u64).map(|i| rng.normal(i) as f32).collect()
}

fn kernels() -> impl Iterator<Item = Gemm> {
    Isa::available().into_iter().filter_map(Gemm::on)
}

/// Element (i, j) of `a b` in f64, and the sum of the absolute terms, by which rounding is judged.
fn exact(a: impl Fn(usize, usize) -> f32, b: &[f32], n: usize, i: usize, j: usize) -> (f64, f64) {
    let terms =
        b.chunks_exact(n).enumerate().map(|(k, row)| f64::from(a(i, k)) * f64::from(row[j]));
    terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()))
}

fn check(gemm: Gemm, (m, n, k): (usize, usize, usize)) {
    let (a, b, before) = (numbers(1, m * k), numbers(2, k * n), numbers(3, m * n));
    let mut at: Vec<f32> = vec![0.0; m * k];
    for i in 0..m {
        for l in 0..k {
            at[l * m + i] = a[i * k + l];
        }
    }
    for left in [Left::rows(&a, k), Left::transposed(&at, m, 0)] {
        let mut zeroed = vec![f32::NAN; m * n];
        gemm.multiply(left, &b, n, &mut zeroed, Start::Zero);
        let mut added = before.clone();
        gemm.multiply(left, &b, n, &mut added, Start::Kept);
        for i in 0..m {
            for j in 0..n {
                let (sum, size) = exact(|i, l| a[i * k + l], &b, n, i, j);
                let at = i * n + j;
                let start = f64::from(before[at]);
                let (isa, bound) = (gemm.isa(), 1e-6 * (size + 1.0));
                let wrong = (f64::from(zeroed[at]) - sum).abs();
                assert!(wrong <= bound, "{isa:?} {m}x{n}x{k} at ({i}, {j}): off by {wrong}");
                let wrong = (f64::from(added[at]) - start - sum).abs();
                let bound = bound + 1e-6 * start.abs();
                assert!(wrong <= bound, "{isa:?} {m}x{n}x{k} at ({i}, {j}), added: off by {wrong}");
            }
        }
    }
}

#[test]
fn every_kernel_agrees_with_f64_at_every_small_shape() {
    for gemm in kernels() {
        for m in 1..=18 {
            for n in (1..=65).filter(|n| *n < 36 || n % 16 < 2) {
                check(gemm, (m, n, (m * 7 + n * 3) % 66));
            }
        }
        for k in 0..=65 {
            check(gemm, (5, 17, k));
            check(gemm, (k.max(1), 33, 9));
        }
    }
}

/// Small whole numbers: their products and sums are exact in f32, in any order.
fn whole_numbers(seed: u64, n: usize) -> Vec<f32> {
    let rng = Rng::new(seed, 1);
    (0..n as u64).map(|i| rng.below(i, 9) as f32 - 4.0).collect()
}

#[test]
fn every_kernel_is_exact_on_whole_numbers_at_every_shape_up_to_65_and_writes_nothing_else() {
    const SIDE: usize = 65;
    const MARK: f32 = 12_345.0;
    const EDGE: usize = 16;
    let (a, b) = (whole_numbers(8, SIDE * SIDE), whole_numbers(9, SIDE * SIDE));
    let mut turned = vec![0.0; SIDE * SIDE];
    for (at, x) in a.iter().enumerate() {
        turned[at % SIDE * SIDE + at / SIDE] = *x;
    }
    for gemm in kernels() {
        // The product of the first `k` columns of A and rows of B, and the same added to threes.
        let (mut sums, mut added) = (vec![0.0; SIDE * SIDE], vec![3.0; SIDE * SIDE]);
        let mut target = vec![0.0; SIDE * SIDE + EDGE];
        for k in 0..=SIDE {
            for n in 1..=SIDE {
                let b: Vec<f32> =
                    b.chunks_exact(SIDE).take(k).flat_map(|row| &row[..n]).copied().collect();
                for m in 1..=SIDE {
                    let (start, fill, want) = if (m + k) % 2 == 0 {
                        (Start::Zero, f32::NAN, &sums)
                    } else {
                        (Start::Kept, 3.0, &added)
                    };
                    let left = if (n + k) % 2 == 0 {
                        Left::rows(&a, SIDE)
                    } else {
                        Left::transposed(&turned, SIDE, 0)
                    };
                    target[..m * n].fill(fill);
                    target[m * n..][..EDGE].fill(MARK);
                    gemm.multiply(left, &b, n, &mut target[..m * n], start);
                    let mut rows = target.chunks_exact(n).zip(want.chunks_exact(SIDE)).take(m);
                    let right = rows.all(|(got, want)| got == &want[..n]);
                    assert!(right, "{:?} {m}x{n}x{k}, {start:?}", gemm.isa());
                    assert_eq!(target[m * n..][..EDGE], [MARK; EDGE], "{m}x{n}x{k}: beyond C");
                }
            }
            if k < SIDE {
                for (i, (sums, added)) in
                    sums.chunks_exact_mut(SIDE).zip(added.chunks_exact_mut(SIDE)).enumerate()
                {
                    for (j, (sum, added)) in sums.iter_mut().zip(added).enumerate() {
                        *sum += a[i * SIDE + k] * b[k * SIDE + j];
                        *added = *sum + 3.0;
                    }
                }
            }
        }
    }
}

#[test]
fn every_kernel_agrees_with_f64_beyond_one_block_of_k() {
    for gemm in kernels() {
        check(gemm, (9, 40, 256));
        check(gemm, (9, 40, 257));
        check(gemm, (17, 33, 700));
    }
}

// From 96 rows on the right factor is packed.
#[test]
fn every_kernel_agrees_with_f64_beyond_one_group_of_columns() {
    for gemm in kernels() {
        for columns in [255, 256, 257, 300, 530] {
            check(gemm, (9, columns, 20));
            check(gemm, (97, columns, 20));
        }
        check(gemm, (9, 300, 400));
        check(gemm, (99, 35, 260));
        check(gemm, (120, 289, 400));
        for depth in [383, 384, 385, 800] {
            check(gemm, (97, 35, depth));
        }
    }
}

#[test]
fn a_product_has_the_same_bits_however_its_rows_are_cut() {
    for (m, n) in [(37, 50), (120, 50), (101, 300)] {
        same_bits_however_cut(m, n, 400);
    }
}

fn same_bits_however_cut(m: usize, n: usize, k: usize) {
    let (a, b) = (numbers(4, m * k), numbers(5, k * n));
    for gemm in kernels() {
        let mut whole = vec![0.0; m * n];
        gemm.multiply(Left::rows(&a, k), &b, n, &mut whole, Start::Zero);
        for cut in 1..m {
            let mut parts = vec![0.0; m * n];
            let (above, below) = parts.split_at_mut(cut * n);
            gemm.multiply(Left::rows(&a, k), &b, n, above, Start::Zero);
            gemm.multiply(Left::rows(&a[cut * k..], k), &b, n, below, Start::Zero);
            assert_eq!(parts, whole, "{:?} cut at {cut}", gemm.isa());
        }
    }
}

#[test]
fn a_sparse_vector_times_a_matrix_agrees_with_f64_at_every_width() {
    let rows = numbers(6, 40 * 330);
    for gemm in kernels() {
        for width in 1..=330 {
            let terms: Vec<_> = (0..13u32).map(|i| (i * 3 % 40, i as f32 - 6.5)).collect();
            let before = numbers(7, width);
            let mut target = before.clone();
            gemm.combine(&terms, &rows[..40 * width], &mut target);
            for (j, (got, before)) in target.iter().zip(&before).enumerate() {
                let sum: f64 = terms
                    .iter()
                    .map(|(i, v)| f64::from(*v) * f64::from(rows[*i as usize * width + j]))
                    .sum();
                let wrong = (f64::from(*got) - f64::from(*before) - sum).abs();
                assert!(wrong < 1e-4, "{:?} width {width} at {j}: off by {wrong}", gemm.isa());
            }
        }
    }
}

#[test]
fn rounded_rows_are_summed_to_the_bits_of_the_same_rows_made_wide_at_every_width() {
    let rows: Vec<Bf16> = numbers(8, 40 * 330).into_iter().map(Bf16::nearest).collect();
    let wide: Vec<f32> = rows.iter().map(|x| x.wide()).collect();
    for gemm in kernels() {
        for width in 1..=330 {
            let terms: Vec<_> = (0..13u32).map(|i| (i * 3 % 40, i as f32 - 6.5)).collect();
            let mut want = numbers(7, width);
            let mut got = want.clone();
            gemm.combine(&terms, &wide[..40 * width], &mut want);
            gemm.combine_rounded(&terms, &rows[..40 * width], &mut got);
            assert_eq!(got, want, "{:?} width {width}", gemm.isa());
        }
    }
}

#[test]
#[should_panic(expected = "there is no row 3")]
fn a_term_that_names_no_rounded_row_is_refused() {
    Gemm::best().combine_rounded(&[(3, 1.0)], &[Bf16::default(); 6], &mut [0.0; 2]);
}

#[test]
#[should_panic(expected = "there is no row 3")]
fn a_term_that_names_no_row_is_refused() {
    Gemm::best().combine(&[(3, 1.0)], &[0.0; 6], &mut [0.0; 2]);
}

#[test]
#[should_panic(expected = "the left factor is too small")]
fn a_left_factor_whose_extent_overflows_is_refused() {
    Gemm::best().multiply(Left::rows(&[0.0; 5], 1 << 61), &[0.0; 1], 1, &mut [0.0; 9], Start::Zero);
}

#[test]
#[should_panic(expected = "the left factor is too small")]
fn a_left_factor_that_is_too_small_is_refused() {
    Gemm::best().multiply(Left::rows(&[0.0; 5], 3), &[0.0; 6], 2, &mut [0.0; 4], Start::Zero);
}
