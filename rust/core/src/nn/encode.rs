//! Codes of numbers: the desired return and the time step as vectors as wide as a state.

#![expect(clippy::inline_always, reason = "loops that are compiled for several vector widths")]

use super::settings::Encoding;
use super::waves::{LARGEST, sine_and_cosine};
use crate::kernel::wide::{self, Loop};

/// How strongly a time step is added to the context block.
const TIMESTEP_WEIGHT: f64 = 0.1;
/// How many times its range a return is told apart from the range.
const FARTHEST: f64 = 1e15;

/// Turns returns and time steps into codes; its frequencies are computed once.
#[derive(Clone, Debug)]
pub struct Encoder {
    encoding: Encoding,
    width: usize,
    /// The highest first: one a pair of a sine and its cosine, which are neighbours, or with the seed's code one an entry.
    returns: Vec<f64>,
    /// One a pair.
    timesteps: Vec<f64>,
}

impl Encoder {
    /// Codes of `width` numbers.
    pub fn new(encoding: Encoding, width: usize) -> Self {
        let d = width as f64;
        let pairs = |base: f64, scale: f64| {
            let frequency = |i| scale * base.powf(-2.0 * i as f64 / d);
            (0..width / 2).map(frequency).collect() // an odd last entry stays zero
        };
        let returns = match encoding {
            Encoding::Compact => pairs(100.0, 8.0),
            // One frequency an entry, not a pair: the seed's formula.
            Encoding::Seed => {
                (0..width).map(|i| (-(i as f64) * 10_000_f64.ln() / d).exp()).collect()
            }
        };
        Self { encoding, width, returns, timesteps: pairs(10_000.0, 1.0) }
    }

    /// Writes the code of a desired return. `range` is mapped linearly to [0, 1] first, and what lies outside it goes
    /// on outside, unclipped.
    pub fn encode_return(&self, value: f64, range: (f64, f64), code: &mut [f32]) {
        debug_assert_eq!(code.len(), self.width);
        // so far out that it says nothing more; beyond, waves would end in no number
        let mapped = ((value - range.0) / (range.1 - range.0)).clamp(-FARTHEST, FARTHEST);
        code.fill(0.0);
        let frequencies = &self.returns[..];
        match self.encoding {
            Encoding::Compact => {
                let scale = norm_one(frequencies);
                Waves::<true> { frequencies, position: mapped, scale, target: code }.add();
            }
            Encoding::Seed => {
                let position = mapped * 10_000.0;
                Waves::<false> { frequencies, position, scale: 1.0, target: code }.add();
            }
        }
    }

    /// Adds a time step's code, of norm 0.1, to a context.
    pub fn add_timestep(&self, timestep: i64, context: &mut [f32]) {
        let (frequencies, position) = (&self.timesteps[..], timestep as f64);
        let scale = TIMESTEP_WEIGHT * norm_one(frequencies);
        Waves::<true> { frequencies, position, scale, target: context }.add();
    }
}

/// What gives pairs of sines and cosines the norm 1.
fn norm_one(frequencies: &[f64]) -> f64 {
    1.0 / (frequencies.len() as f64).sqrt()
}

/// Adds a sine to even and a cosine to odd entries. In `PAIRS` a sine and the cosine after it have one frequency; else
/// each entry has its own.
struct Waves<'a, const PAIRS: bool> {
    frequencies: &'a [f64],
    position: f64,
    scale: f64,
    target: &'a mut [f32],
}

impl<const PAIRS: bool> Loop for Waves<'_, PAIRS> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        self.add_by(sine_and_cosine);
    }
}

impl<const PAIRS: bool> Waves<'_, PAIRS> {
    /// Adds the waves. Positions so far out that only the system's functions can tell their phase are slower.
    fn add(self) {
        let largest =
            self.frequencies.first().map_or(0.0, |highest| (self.position * highest).abs());
        if largest <= LARGEST {
            return wide::run(self);
        }
        self.add_by(f64::sin_cos);
    }

    #[inline(always)]
    fn add_by(self, waves: impl Fn(f64) -> (f64, f64)) {
        let Self { frequencies, position, scale, target } = self;
        if PAIRS {
            for ([even, odd], frequency) in target.as_chunks_mut().0.iter_mut().zip(frequencies) {
                let (sine, cosine) = waves(position * frequency);
                *even += (scale * sine) as f32;
                *odd += (scale * cosine) as f32;
            }
        } else {
            for (i, (entry, frequency)) in target.iter_mut().zip(frequencies).enumerate() {
                let (sine, cosine) = waves(position * frequency);
                *entry += (scale * if i % 2 == 0 { sine } else { cosine }) as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(encoding: Encoding, width: usize, value: f64, range: (f64, f64)) -> Vec<f32> {
        let mut code = vec![7.0; width];
        Encoder::new(encoding, width).encode_return(value, range, &mut code);
        code
    }

    fn norm(x: &[f32]) -> f64 {
        x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt()
    }

    fn cosine(a: &[f32], b: &[f32]) -> f64 {
        let dot: f64 = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        dot / norm(a) / norm(b)
    }

    #[test]
    fn a_compact_code_has_norm_one_and_near_returns_are_near() {
        for width in [2, 3, 7, 768] {
            assert!((norm(&code(Encoding::Compact, width, 0.9, (0.0, 1.0))) - 1.0).abs() < 1e-6);
        }
        let at = |r| code(Encoding::Compact, 768, r, (0.0, 1.0));
        assert!(cosine(&at(0.9), &at(1.0)) > 0.9);
        assert!(cosine(&at(0.0), &at(1.0)) < 0.5);
        assert_eq!(code(Encoding::Compact, 3, 0.4, (0.0, 1.0))[2], 0.0);
        assert_eq!(code(Encoding::Compact, 1, 0.4, (0.0, 1.0)), [0.0]);
    }

    #[test]
    fn a_return_far_beyond_its_range_has_a_code_of_numbers() {
        for encoding in [Encoding::Compact, Encoding::Seed] {
            for value in [f64::MAX, f64::MIN, 1e200] {
                let code = code(encoding, 8, value, (0.0, 1e-6));
                assert!(code.iter().all(|x| x.is_finite()) && norm(&code) > 0.5, "{code:?}");
            }
        }
    }

    #[test]
    fn the_seed_s_code_is_a_hash_with_the_figures_it_is_known_for() {
        let at = |r| code(Encoding::Seed, 768, r, (0.0, 1.0));
        assert!((norm(&at(0.9)) - 19.6).abs() < 0.5, "norm {}", norm(&at(0.9)));
        assert!((cosine(&at(0.9), &at(1.0)) - 0.20).abs() < 0.01, "{}", cosine(&at(0.9), &at(1.0)));
        assert_eq!(at(0.0)[..4], [0.0, 1.0, 0.0, 1.0]);
    }

    #[test]
    fn returns_are_mapped_by_the_range_and_not_clipped() {
        for encoding in [Encoding::Compact, Encoding::Seed] {
            let plain = code(encoding, 16, 1.5, (0.0, 1.0));
            assert_eq!(plain, code(encoding, 16, 400.0, (100.0, 300.0)));
        }
    }

    #[test]
    fn the_compact_code_is_its_formula() {
        let (d, u) = (6_usize, 0.3_f64);
        for (i, pair) in code(Encoding::Compact, d, u, (0.0, 1.0)).chunks(2).enumerate() {
            let f = 8.0 * 100_f64.powf(-2.0 * i as f64 / d as f64);
            let scale = (d as f64 / 2.0).sqrt();
            assert!((f64::from(pair[0]) - (f * u).sin() / scale).abs() < 1e-7);
            assert!((f64::from(pair[1]) - (f * u).cos() / scale).abs() < 1e-7);
        }
    }

    #[test]
    fn returns_far_out_of_the_range_are_coded_all_the_same() {
        for (i, entry) in code(Encoding::Compact, 6, 1e9, (0.0, 1.0)).iter().enumerate() {
            let angle = 1e9 * 8.0 * 100_f64.powf(-2.0 * (i / 2) as f64 / 6.0);
            let wave = if i % 2 == 0 { angle.sin() } else { angle.cos() };
            assert!((f64::from(*entry) - wave / 3_f64.sqrt()).abs() < 1e-6);
        }
    }

    #[test]
    fn a_timestep_is_added_with_norm_a_tenth() {
        let encoder = Encoder::new(Encoding::Compact, 768);
        let mut context = vec![0.0; 768];
        encoder.add_timestep(17, &mut context);
        assert!((norm(&context) - 0.1).abs() < 1e-6);
        let f = 10_000_f64.powf(-2.0 / 768.0);
        assert!((f64::from(context[3]) - 0.1 * (17.0 * f).cos() / 384_f64.sqrt()).abs() < 1e-8);
        let before = context.clone();
        encoder.add_timestep(17, &mut context);
        assert!(context.iter().zip(&before).all(|(twice, once)| *twice == 2.0 * once));
    }
}
