//! A random rotation: it spreads what a vector says evenly over its components, so that their signs alone say where it
//! points (the condition of `RaBitQ`, Gao and Long 2024).

use crate::rng::Rng;

/// Rounds of random signs and mixing. Three mix a power of two; the fourth is for the other lengths, whose two ends are
/// mixed in turns.
const ROUNDS: usize = 4;

/// An orthogonal map of vectors of one length.
#[derive(Debug)]
pub(super) struct Rotation {
    /// One or minus one, `ROUNDS` times.
    signs: Vec<f32>,
    length: usize,
    /// The greatest power of two that fits.
    span: usize,
}

impl Rotation {
    pub(super) fn new(length: usize, seed: u64) -> Self {
        let rng = Rng::new(seed, 0x0020_7a7e);
        let sign = |at| if rng.at(at) & 1 == 0 { 1.0 } else { -1.0 };
        let signs = (0..(ROUNDS * length) as u64).map(sign).collect();
        Self { signs, length, span: 1 << length.ilog2() }
    }

    /// Components of the vectors that it rotates.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Rotates `x` in place.
    pub(super) fn turn(&self, x: &mut [f32]) {
        for (round, signs) in self.signs.chunks(self.length).enumerate() {
            x.iter_mut().zip(signs).for_each(|(x, sign)| *x *= sign);
            mix(self.part(round, x));
        }
    }

    /// Undoes [`Self::turn`].
    pub(super) fn turn_back(&self, x: &mut [f32]) {
        for (round, signs) in self.signs.chunks(self.length).enumerate().rev() {
            mix(self.part(round, x));
            x.iter_mut().zip(signs).for_each(|(x, sign)| *x *= sign);
        }
    }

    /// The first or the last components, in turns.
    fn part<'x>(&self, round: usize, x: &'x mut [f32]) -> &'x mut [f32] {
        let start = if round.is_multiple_of(2) { 0 } else { self.length - self.span };
        &mut x[start..start + self.span]
    }
}

/// The Walsh-Hadamard transform, scaled to keep lengths; it is its own inverse.
fn mix(x: &mut [f32]) {
    let mut half = 1;
    while half < x.len() {
        for pair in x.chunks_mut(2 * half) {
            let (low, high) = pair.split_at_mut(half);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
    let scale = 1.0 / (x.len() as f32).sqrt();
    for x in x {
        *x *= scale;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_keeps_products_and_is_undone() {
        for length in [64, 128, 192, 768, 832] {
            let rotation = Rotation::new(length, 5);
            let make = |stream| -> Vec<f32> {
                (0..length as u64).map(|i| Rng::new(1, stream).normal(i) as f32).collect()
            };
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
            let (a, b) = (make(1), make(2));
            let (mut turned_a, mut turned_b) = (a.clone(), b.clone());
            rotation.turn(&mut turned_a);
            rotation.turn(&mut turned_b);
            assert!((dot(&a, &b) - dot(&turned_a, &turned_b)).abs() < 1e-3, "{length}");
            rotation.turn_back(&mut turned_a);
            assert!(a.iter().zip(&turned_a).all(|(x, y)| (x - y).abs() < 1e-4), "{length}");
        }
    }

    #[test]
    fn one_component_is_spread_over_all() {
        for length in [64, 192, 768] {
            let mut x = vec![0.0; length];
            x[3] = 1.0;
            Rotation::new(length, 5).turn(&mut x);
            let peak = x.iter().fold(0.0_f32, |peak, x| peak.max(x.abs()));
            assert!(peak < 6.0 / (length as f32).sqrt(), "{length}: {peak}");
        }
    }
}
