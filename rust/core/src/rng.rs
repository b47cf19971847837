//! Counter-based random numbers: every draw is a function of (seed, stream, position), so a run that resumes in
//! the middle sees the same numbers as one that never stopped, and threads cannot change them.

/// A source of random numbers keyed by a seed and a stream. `Copy`, stateless: `at(i)` is the i-th number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rng {
    key: u64,
}

impl Rng {
    /// The numbers of `seed` on `stream`. Different streams of one seed are independent.
    pub fn new(seed: u64, stream: u64) -> Self {
        Self {
            key: mix(mix(seed ^ 0x9E37_79B9_7F4A_7C15)
                .wrapping_add(mix(stream.wrapping_add(0xD1B5_4A32_D192_ED03)))),
        }
    }

    /// A child source, itself keyed by `stream`: per epoch, per batch.
    #[must_use]
    pub fn child(self, stream: u64) -> Self {
        Self { key: mix(self.key.wrapping_add(mix(stream.wrapping_add(0xA24B_AED4_963E_E407)))) }
    }

    /// The number at `position`, uniform over all of `u64`.
    pub fn at(self, position: u64) -> u64 {
        mix(self.key.wrapping_add(position.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
    }

    /// Uniform in [0, 1), 53 bits.
    pub fn uniform(self, position: u64) -> f64 {
        (self.at(position) >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in `0..n`, without bias that could be seen below 2^32 values (multiply-shift). `n` is at least 1.
    pub fn below(self, position: u64, n: u64) -> u64 {
        ((u128::from(self.at(position)) * u128::from(n)) >> 64) as u64
    }

    /// Standard normal (Box and Muller); positions 2p and 2p + 1 are consumed.
    pub fn normal(self, position: u64) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform(2 * position)).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform(2 * position + 1)).cos()
    }

    /// Puts `items` into a random order (Fisher and Yates).
    pub fn shuffle<T>(self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64, last as u64 + 1) as usize);
        }
    }
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014).
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::Rng;

    #[test]
    fn uniform_numbers_fill_the_unit_interval_evenly() {
        let rng = Rng::new(7, 0);
        let mut bins = [0u32; 16];
        for i in 0..160_000 {
            bins[(rng.uniform(i) * 16.0) as usize] += 1;
        }
        let chi2: f64 = bins.iter().map(|&n| (f64::from(n) - 10_000.0).powi(2) / 10_000.0).sum();
        assert!(chi2 < 37.7, "chi-squared {chi2} with 15 degrees of freedom"); // p = 0.001
    }

    #[test]
    fn normal_numbers_have_mean_zero_and_variance_one() {
        let rng = Rng::new(7, 1);
        let draws: Vec<f64> = (0..100_000).map(|i| rng.normal(i)).collect();
        let mean = draws.iter().sum::<f64>() / 1e5;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 1e5;
        assert!(
            mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02,
            "mean {mean}, variance {variance}"
        );
    }

    #[test]
    fn streams_of_one_seed_differ_and_the_same_stream_repeats() {
        assert_eq!(Rng::new(1, 2).at(3), Rng::new(1, 2).at(3));
        assert_ne!(Rng::new(1, 2).at(3), Rng::new(1, 3).at(3));
        assert_ne!(Rng::new(1, 2).child(0).at(3), Rng::new(1, 2).child(1).at(3));
    }

    #[test]
    fn a_shuffle_keeps_every_item() {
        let mut items: Vec<u32> = (0..1000).collect();
        Rng::new(3, 0).shuffle(&mut items);
        assert_ne!(items, (0..1000).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..1000).collect::<Vec<_>>());
    }
}
