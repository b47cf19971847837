//! What a layer keeps of the states it learned from, to tell whether a new one is like them.

use std::sync::Arc;

use crate::kernel::distance::Kernel;
use crate::nn::sums::all_finite;
use crate::rng::Rng;

/// Centroids kept at most: so many that a decision still costs microseconds.
const MOST: usize = 256;
/// What a file may hold: more than [`MOST`], so that a later version can keep more.
const MOST_READ: usize = 1_024;
/// Training states for each centroid.
const MEMBERS: usize = 8;
/// States to take the centroids of, at the most; more of them change little.
pub(in crate::nn) const SAMPLE: usize = MOST * MEMBERS;
/// Passes of Lloyd's algorithm. More of them move the centroids but hardly the distances.
const PASSES: usize = 3;

/// Centroids of the states that were learned from (k-means, Lloyd 1982), in rows.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::nn) struct Familiar {
    centroids: Arc<[f32]>,
    width: usize,
}

impl Familiar {
    /// Of `states` in rows of `width`; `None` where there are none. The same for the same states, on any machine.
    pub(in crate::nn) fn of(states: &[f32], width: usize) -> Option<Self> {
        let n = states.len() / width;
        if n == 0 {
            return None;
        }
        let k = (n / MEMBERS).clamp(1, MOST);
        let mut order: Vec<u32> = (0..n as u32).collect();
        Rng::new(0, 0x6661_6d69).shuffle(&mut order);
        let mut centroids: Vec<f32> = order[..k]
            .iter()
            .flat_map(|&row| &states[row as usize * width..][..width])
            .copied()
            .collect();
        for _ in 0..PASSES {
            let kept = Self { centroids: centroids.as_slice().into(), width };
            let (mut sums, mut counts) = (vec![0.0_f64; centroids.len()], vec![0_u32; k]);
            for state in states.chunks_exact(width) {
                let (nearest, _) = kept.nearest(state);
                counts[nearest] += 1;
                let sum = &mut sums[nearest * width..][..width];
                for (sum, x) in sum.iter_mut().zip(state) {
                    *sum += f64::from(*x);
                }
            }
            for (at, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                let sum = &sums[at * width..][..width];
                for (x, sum) in centroids[at * width..][..width].iter_mut().zip(sum) {
                    *x = (sum / f64::from(count)) as f32;
                }
            }
        }
        Some(Self { centroids: centroids.into(), width })
    }

    /// The centroids that a file claims; none where there are none. The error says why they cannot be ours.
    pub(in crate::nn) fn checked(
        centroids: Vec<f32>,
        width: usize,
    ) -> Result<Option<Self>, &'static str> {
        if !centroids.len().is_multiple_of(width) || centroids.len() / width > MOST_READ {
            return Err("its centroids are cut");
        }
        if !all_finite(&centroids) {
            return Err("its centroids are not all numbers");
        }
        Ok((!centroids.is_empty()).then(|| Self { centroids: centroids.into(), width }))
    }

    /// The centroids, `[k, state_size]`.
    pub(in crate::nn) fn centroids(&self) -> &[f32] {
        &self.centroids
    }

    /// The distance of a state to the nearest centroid.
    pub(super) fn distance(&self, state: &[f32]) -> f64 {
        self.nearest(state).1
    }

    /// The nearest centroid, the first of equals, and how far it is.
    fn nearest(&self, state: &[f32]) -> (usize, f64) {
        let kernel = Kernel::best();
        let mut best = (0, f64::INFINITY);
        for (at, centroid) in self.centroids.chunks_exact(self.width).enumerate() {
            let squared = kernel.squared_distance(state, centroid);
            if squared < best.1 {
                best = (at, squared);
            }
        }
        (best.0, best.1.sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clouds(seed: u64, n: u64) -> Vec<f32> {
        let rng = Rng::new(seed, 1);
        (0..n)
            .flat_map(|i| {
                let middle = [0.0, 10.0, -7.0][(i % 3) as usize];
                (0..4).map(move |k| (middle + 0.1 * rng.normal(4 * i + k)) as f32)
            })
            .collect()
    }

    #[test]
    fn what_was_learned_from_is_near_and_what_was_not_is_as_far_as_it_is() {
        let kept = Familiar::of(&clouds(1, 600), 4).unwrap();
        assert_eq!(kept.centroids().len(), 75 * 4);
        for state in clouds(2, 300).chunks_exact(4) {
            assert!(kept.distance(state) < 0.6, "{}", kept.distance(state));
        }
        let between = kept.distance(&[5.0; 4]);
        assert!((between - 10.0).abs() < 0.6, "{between}");
    }

    #[test]
    fn the_distance_is_to_the_nearest_of_all_centroids() {
        let kept = Familiar::of(&clouds(1, 90), 4).unwrap();
        for state in clouds(5, 30).chunks_exact(4) {
            let plain = kept.centroids().chunks_exact(4).map(|centroid| {
                let squares = state.iter().zip(centroid).map(|(a, b)| f64::from(a - b).powi(2));
                squares.sum::<f64>().sqrt()
            });
            let plain = plain.fold(f64::INFINITY, f64::min);
            assert!((kept.distance(state) - plain).abs() < 1e-6);
        }
    }

    #[test]
    fn no_more_is_kept_than_a_decision_can_afford_and_nothing_of_nothing() {
        assert_eq!(Familiar::of(&clouds(1, 9_000), 4).unwrap().centroids().len(), MOST * 4);
        assert_eq!(Familiar::of(&[1.0, 2.0], 2).unwrap().centroids(), [1.0, 2.0]);
        assert!(Familiar::of(&[], 4).is_none());
    }

    #[test]
    fn the_same_states_give_the_same_centroids() {
        assert_eq!(Familiar::of(&clouds(1, 500), 4), Familiar::of(&clouds(1, 500), 4));
    }
}
