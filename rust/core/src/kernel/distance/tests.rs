use super::*;
use crate::kernel::halves::split;
use crate::rng::Rng;

/// Lengths across every border of lanes, lines and rows of four, and one that overflows a lane of AVX2 at once.
fn lengths() -> impl Iterator<Item = usize> {
    (1..=67).chain([127, 128, 129, 384, 767, 768, 1536, 4095, 4097, 16_384])
}

fn vector(length: usize, stream: u64, size: f32) -> Vec<f32> {
    (0..length).map(|i| Rng::new(5, stream).normal(i as u64) as f32 * size).collect()
}

fn every_kernel() -> impl Iterator<Item = (Isa, Kernel)> {
    Isa::available().into_iter().map(|isa| (isa, Kernel::of(isa).unwrap()))
}

fn coded(kernel: Kernel, vector: &[f32]) -> (Vec<Line>, Shape) {
    let mut codes = vec![Line([99; 64]); Line::needed(vector.len())];
    let shape = kernel.encode(vector, &mut codes);
    (codes, shape)
}

fn length(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|x| x * x).sum::<f64>().sqrt()
}

#[test]
fn full_precision_sums_agree_with_the_plain_sum_and_have_the_same_bits_everywhere() {
    for n in lengths().chain([0]) {
        let (a, b) = (vector(n, 1, 3.0), vector(n, 2, 0.5));
        let pairs = || a.iter().zip(&b).map(|(x, y)| (f64::from(*x), f64::from(*y)));
        let dot: f64 = pairs().map(|(x, y)| x * y).sum();
        let square: f64 = pairs().map(|(_, y)| y * y).sum();
        let apart: f64 = pairs().map(|(x, y)| (x - y).powi(2)).sum();
        let reference = (scalar::products(&a, &b), scalar::squared_distance(&a, &b));
        for (isa, kernel) in every_kernel() {
            let got = (kernel.products(&a, &b), kernel.squared_distance(&a, &b));
            assert_eq!(got, reference, "{isa:?}, length {n}");
            assert!((got.0.0 - dot).abs() <= 1e-12 * (1.0 + square + dot.abs()), "{isa:?} {n}");
            assert!((got.0.1 - square).abs() <= 1e-12 * square, "{isa:?} {n}");
            assert!((got.1 - apart).abs() <= 1e-12 * apart, "{isa:?} {n}");
        }
    }
}

#[test]
fn code_dots_are_the_exact_integer_sums_on_every_set() {
    for n in lengths() {
        let mut query = Fine::default();
        for (stream, rows) in [(1, 1), (2, 4), (3, 6), (4, 11)] {
            // the greatest values everywhere, too: sums must not overflow
            let full = stream == 3;
            let pick = |i: u64| if full { 1.0 } else { vector(n, i, 1.0)[n / 2] };
            let make = |i| if full { vec![pick(i); n] } else { vector(n, i, 1.0) };
            Kernel::SCALAR.refine(&make(stream), &mut query);
            let codes: Vec<Vec<Line>> =
                (0..rows).map(|row| coded(Kernel::SCALAR, &make(10 + row)).0).collect();
            let mut halves = codes.clone();
            for row in &mut halves {
                split(row);
            }
            let rows: Vec<&[Line]> = halves.iter().map(Vec::as_slice).collect();
            let exact: Vec<f64> = codes
                .iter()
                .map(|row| {
                    let codes = row.iter().flat_map(|line| line.0).map(i128::from);
                    let wide = query.wide.iter().flatten().copied().map(i128::from);
                    codes.zip(wide).map(|(code, q)| code * q).sum::<i128>() as f64
                })
                .collect();
            for (isa, kernel) in every_kernel() {
                let mut got = vec![f64::NAN; rows.len()];
                kernel.dots(&rows, &query, &mut got);
                assert_eq!(got, exact, "{isa:?}, length {n}, {} rows", rows.len());
                // rows that are there only to be fetched change nothing
                let fewer = rows.len() / 2;
                got.fill(f64::NAN);
                kernel.dots(&rows, &query, &mut got[..fewer]);
                assert_eq!(got[..fewer], exact[..fewer], "{isa:?}, length {n}");
            }
        }
    }
}

#[test]
fn a_code_and_its_residual_account_for_the_whole_vector() {
    for n in lengths() {
        for size in [1.0, 1e-20, 1e-29, 1e-31, 1e-42, 1e18, 1e37] {
            let x = vector(n, 7, size);
            let reference = coded(Kernel::SCALAR, &x);
            let (codes, shape) = &reference;
            let back = codes.iter().flat_map(|line| line.0);
            let missed = x
                .iter()
                .zip(back.clone())
                .map(|(x, code)| f64::from(*x) - f64::from(shape.scale) * f64::from(code));
            let residual = length(missed);
            let norm = length(x.iter().map(|x| f64::from(*x)));
            assert!(f64::from(shape.residual) >= residual, "{n} {size}: {shape:?}, {residual}");
            assert!(f64::from(shape.residual) <= 0.06 * norm || size < 1e-29, "{n} {size}");
            let rounding = norm * 2_f64.powi(-22) + 3e-45;
            let known =
                norm > f64::from(f32::MAX) || (f64::from(shape.norm) - norm).abs() <= rounding;
            assert!(known, "{n} {size}: {shape:?}, {norm}");
            assert!(back.skip(n).all(|code| code == 0), "padding of length {n}");
            for (isa, kernel) in every_kernel() {
                assert_eq!(coded(kernel, &x), reference, "{isa:?}, length {n}, size {size}");
            }
        }
    }
    for (_, kernel) in every_kernel() {
        assert_eq!(coded(kernel, &[0.0; 5]), (vec![Line::ZERO], Shape::default()));
    }
}

#[test]
fn a_query_is_coded_a_hundred_times_finer_than_a_row() {
    let x = vector(768, 3, 1.0);
    let mut query = Fine::default();
    Kernel::SCALAR.refine(&x, &mut query);
    let parts = query.high.iter().flat_map(|l| l.0).zip(query.low.iter().flat_map(|l| l.0));
    let whole = query.wide.iter().flatten();
    assert!(parts.zip(whole).all(|((h, l), &w)| 256 * i32::from(h) + i32::from(l) == i32::from(w)));
    let missed = x.iter().zip(query.wide.iter().flatten());
    let residual = length(missed.map(|(x, &w)| f64::from(*x) - query.step * f64::from(w)));
    assert!(
        (query.residual - residual).abs() <= 1e-12
            && (query.norm - length(x.iter().map(|x| f64::from(*x)))).abs() < 1e-9
    );
    assert!(100.0 * query.residual < f64::from(coded(Kernel::SCALAR, &x).1.residual));
    Kernel::SCALAR.refine(&[0.0; 3], &mut query);
    assert_eq!((query.step, query.norm, query.residual), (0.0, 0.0, 0.0));
}

#[test]
fn every_set_codes_a_query_alike_and_forgets_the_one_before() {
    for n in lengths() {
        for size in [1.0, 1e-31, 1e-42, 1e37] {
            let x = vector(n, 9, size);
            let mut reference = Fine::default();
            Kernel::SCALAR.refine(&x, &mut reference);
            assert!(reference.wide.iter().flatten().skip(n).all(|&q| q == 0), "length {n}");
            for (isa, kernel) in every_kernel() {
                let mut query = Fine::default();
                kernel.refine(&vector(n / 2 + 70, 10, 2.0), &mut query);
                kernel.refine(&x, &mut query);
                assert_eq!(query, reference, "{isa:?}, length {n}, size {size}");
            }
        }
    }
}
