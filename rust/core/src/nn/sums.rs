//! Sums in f64 over f32 numbers, in an order that no vector width changes.

#![expect(clippy::inline_always, reason = "loops that are compiled for several vector widths")]

use crate::kernel::wide::{self, Loop};

/// Sums that are kept apart and added at the end, in this order on every machine.
const LANES: usize = 16;

/// The sum of squares.
pub(super) fn squares(values: &[f32]) -> f64 {
    wide::run(Squares(values))
}

/// Whether every number is finite.
pub(super) fn all_finite(values: &[f32]) -> bool {
    wide::run(Finite(values))
}

/// The squared distance of `output` and `target`; `output` becomes its derivative times `share`.
pub(super) fn differentiate(output: &mut [f32], target: &[f32], share: f32) -> f64 {
    wide::run(Distance { output, target, twice: 2.0 * share })
}

/// The squared distance of two vectors.
pub(super) fn distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum()
}

/// The sum of the rows of a matrix.
pub(super) fn of_rows(rows: &[f32], sum: &mut [f32]) {
    sum.fill(0.0);
    for row in rows.chunks_exact(sum.len()) {
        sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
    }
}

struct Squares<'a>(&'a [f32]);

impl Loop for Squares<'_> {
    type Output = f64;

    #[inline(always)]
    fn run(self) -> f64 {
        let mut lanes = [0.0; LANES];
        let (whole, rest) = self.0.as_chunks::<LANES>();
        for chunk in whole {
            for (sum, x) in lanes.iter_mut().zip(chunk) {
                let x = f64::from(*x);
                *sum += x * x;
            }
        }
        for (sum, x) in lanes.iter_mut().zip(rest) {
            *sum += f64::from(*x) * f64::from(*x);
        }
        lanes.iter().sum()
    }
}

struct Finite<'a>(&'a [f32]);

impl Loop for Finite<'_> {
    type Output = bool;

    #[inline(always)]
    fn run(self) -> bool {
        // Both infinities and every NaN have all exponent bits set, and nothing else does.
        let largest = self.0.iter().fold(0, |most, x| (x.to_bits() & 0x7FFF_FFFF).max(most));
        largest < f32::INFINITY.to_bits()
    }
}

struct Distance<'a> {
    output: &'a mut [f32],
    target: &'a [f32],
    twice: f32,
}

impl Loop for Distance<'_> {
    type Output = f64;

    #[inline(always)]
    fn run(self) -> f64 {
        let Self { output, target, twice } = self;
        let mut lanes = [0.0; LANES];
        for (output, target) in output.chunks_mut(LANES).zip(target.chunks(LANES)) {
            for ((sum, o), t) in lanes.iter_mut().zip(output).zip(target) {
                let difference = *o - t;
                *sum += f64::from(difference) * f64::from(difference);
                *o = twice * difference;
            }
        }
        lanes.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_agree_with_plain_ones_at_every_length() {
        for n in 0..70 {
            let a: Vec<f32> = (0..n).map(|i| (i as f32 * 0.7).sin()).collect();
            let b: Vec<f32> = (0..n).map(|i| (i as f32 * 1.3).cos()).collect();
            let plain: f64 = a.iter().map(|x| f64::from(*x).powi(2)).sum();
            assert!((squares(&a) - plain).abs() < 1e-12);
            let mut output = a.clone();
            assert!((differentiate(&mut output, &b, 0.25) - distance(&a, &b)).abs() < 1e-12);
            assert!(output.iter().zip(a.iter().zip(&b)).all(|(d, (a, b))| *d == 0.5 * (a - b)));
            assert!(all_finite(&a));
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -f32::NAN] {
                for at in 0..n {
                    let mut spoiled = a.clone();
                    spoiled[at] = bad;
                    assert!(!all_finite(&spoiled), "{bad} at {at} of {n}");
                }
            }
        }
        assert!(all_finite(&[f32::MAX, f32::MIN, -0.0, f32::MIN_POSITIVE]));
    }
}
