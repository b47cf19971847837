//! From what is seen of an answer to the cosine similarity to expect of it, and how far it may be off.
//!
//! The signs (see [`SIGNS`]) become one score by ridge regression. Isotonic regression (pool adjacent violators, Ayer et
//! al. 1955) then says what a score is worth. The interval is conformal (Vovk et al. 2005): the residuals come from
//! curves that were fitted without them, one half by the other, and are kept apart by score, since sure answers err less.

use serde::{Deserialize, Serialize};

use super::Confidence;

/// How many signs an answer gives of its worth, in this order: the norm of the action, the distance of the state to what
/// was learned from, and how far the members of an ensemble are apart.
pub(in crate::nn) const SIGNS: usize = 3;
/// What is seen of one answer.
pub(in crate::nn) type Signs = [f64; SIGNS];

/// Knots of the stored curve, at the most.
const KNOTS: usize = 128;
/// From fewer samples no quantile can be told; the interval is then all of [0, 1].
const FEWEST: usize = 20;
/// Residuals are kept apart by score in as many groups, of at least [`MEMBERS`] each.
const GROUPS: usize = 10;
const MEMBERS: usize = 80;
/// Order statistics kept of a group's residuals, at the most.
const LEVELS: usize = 129;
/// The ridge, as a share of each sign's variance: next to nothing where there are data.
const RIDGE: f64 = 1e-3;

/// The fitted curve: between two knots it is straight, beyond the last ones level.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::nn) struct Curve {
    /// The score is the sum of `weights` times the signs.
    weights: Signs,
    /// By rising score.
    knots: Vec<Knot>,
    /// By rising score; none where there were too few samples.
    spreads: Vec<Spread>,
}

/// A score and what it is worth.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Knot(f64, f64);

/// The residuals of the scores from `from` on, up to the next group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spread {
    from: f64,
    /// How many residuals there were.
    count: u32,
    /// Their order statistics, the first and the last among them, at even distances.
    levels: Vec<f64>,
}

impl Curve {
    /// Fits the curve to the signs of answers and their similarities, at least one. The two halves are taken to be of
    /// different episodes.
    pub(super) fn fit(signs: &[Signs], similarities: &[f64]) -> Self {
        let n = signs.len();
        let mut curve = Self::without_spreads(signs, similarities);
        if n < FEWEST {
            return curve;
        }
        let (first, second) = (0..n / 2, n / 2..n);
        let mut residuals = Vec::with_capacity(n);
        for (fitted, judged) in [(first.clone(), second.clone()), (second, first)] {
            let half = Self::without_spreads(&signs[fitted.clone()], &similarities[fitted]);
            residuals.extend(judged.map(|i| {
                let told = half.expected(half.score(&signs[i]));
                (curve.score(&signs[i]), similarities[i].clamp(0.0, 1.0) - told)
            }));
        }
        residuals.sort_by(|a, b| a.0.total_cmp(&b.0));
        let groups = (n / MEMBERS).clamp(1, GROUPS);
        curve.spreads = (0..groups)
            .map(|group| {
                let members = &residuals[group * n / groups..(group + 1) * n / groups];
                let mut sorted: Vec<f64> = members.iter().map(|(_, residual)| *residual).collect();
                sorted.sort_by(f64::total_cmp);
                let levels = LEVELS.min(sorted.len());
                Spread {
                    from: members[0].0,
                    count: sorted.len() as u32,
                    levels: (0..levels).map(|at| sorted[rank(at, levels, sorted.len())]).collect(),
                }
            })
            .collect();
        curve
    }

    fn without_spreads(signs: &[Signs], similarities: &[f64]) -> Self {
        let weights = ridge(signs, similarities);
        let score = |signs: &Signs| weights.iter().zip(signs).map(|(w, x)| w * x).sum::<f64>();
        let mut pairs: Vec<(f64, f64)> =
            signs.iter().map(score).zip(similarities.iter().copied()).collect();
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let fitted = isotonic(&pairs);
        let (n, kept) = (pairs.len(), pairs.len().min(KNOTS));
        let knots = (0..kept).map(|at| {
            let at = rank(at, kept, n);
            Knot(pairs[at].0, fitted[at].clamp(0.0, 1.0))
        });
        Self { weights, knots: knots.collect(), spreads: Vec::new() }
    }

    /// Refuses what cannot come from a fit; says why.
    pub(in crate::nn) fn checked(self) -> Result<Self, &'static str> {
        let Self { weights, knots, spreads } = &self;
        let numbers = weights.iter().all(|weight| weight.is_finite())
            && knots.iter().all(|knot| knot.0.is_finite() && (0.0..=1.0).contains(&knot.1))
            && spreads.iter().all(|s| s.from.is_finite() && s.levels.iter().all(|x| x.is_finite()));
        let rising = knots.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1)
            && spreads.is_sorted_by(|a, b| a.from <= b.from)
            && spreads.iter().all(|spread| spread.levels.is_sorted());
        let sizes = (1..=KNOTS).contains(&knots.len())
            && spreads.len() <= GROUPS
            && spreads.iter().all(|s| {
                (1..=LEVELS).contains(&s.levels.len()) && s.levels.len() <= s.count as usize
            });
        if numbers && rising && sizes {
            Ok(self)
        } else {
            Err("its calibration contradicts itself")
        }
    }

    /// What signs are worth, with an interval that holds at least the share `coverage` of the similarities (0 where they
    /// are negative) of answers like those it was fitted on.
    pub(super) fn at(&self, signs: &Signs, coverage: f64) -> Confidence {
        let score = self.score(signs);
        let value = self.expected(score);
        let (low, high) = self.spread(score, coverage);
        Confidence {
            value,
            low: (value + low).clamp(0.0, value),
            high: (value + high).clamp(value, 1.0),
        }
    }

    fn score(&self, signs: &Signs) -> f64 {
        self.weights.iter().zip(signs).map(|(weight, sign)| weight * sign).sum()
    }

    fn expected(&self, score: f64) -> f64 {
        let above = self.knots.partition_point(|knot| knot.0 < score);
        let right = self.knots[above.min(self.knots.len() - 1)];
        let left = self.knots[above.saturating_sub(1)];
        let width = right.0 - left.0;
        let part = if width > 0.0 { ((score - left.0) / width).clamp(0.0, 1.0) } else { 1.0 };
        left.1 + (right.1 - left.1) * part
    }

    /// How far off an answer of this score is, but for half of what `coverage` leaves out on either side. Of n residuals
    /// the ranks are those of n + 1, so that a new one is among them as likely as promised; what no rank stands for has
    /// no end.
    fn spread(&self, score: f64, coverage: f64) -> (f64, f64) {
        let after = self.spreads.partition_point(|spread| spread.from <= score);
        let Some(spread) = self.spreads.get(after.saturating_sub(1)) else {
            return (f64::NEG_INFINITY, f64::INFINITY);
        };
        let (count, kept) = (spread.count as usize, spread.levels.len());
        let tail = (1.0 - coverage) / 2.0 * (count + 1) as f64;
        // Ranks from 1; outwards to the next that was kept.
        let (lowest, highest) = (tail.floor(), (count + 1) as f64 - tail.floor());
        let low = (0..kept).rev().find(|&at| (rank(at, kept, count) + 1) as f64 <= lowest);
        let high = (0..kept).find(|&at| (rank(at, kept, count) + 1) as f64 >= highest);
        (
            low.map_or(f64::NEG_INFINITY, |at| spread.levels[at]),
            high.map_or(f64::INFINITY, |at| spread.levels[at]),
        )
    }
}

/// The position of the `at`-th of `kept` things spread evenly over `n`.
fn rank(at: usize, kept: usize, n: usize) -> usize {
    if kept < 2 { 0 } else { at * (n - 1) / (kept - 1) }
}

/// The weights of the signs that foretell the similarities best. With too few samples it is the first sign alone.
fn ridge(signs: &[Signs], similarities: &[f64]) -> Signs {
    let mut alone = [0.0; SIGNS];
    alone[0] = 1.0;
    let n = signs.len() as f64;
    if signs.len() < FEWEST {
        return alone;
    }
    let mean = |values: &dyn Fn(usize) -> f64| (0..signs.len()).map(values).sum::<f64>() / n;
    let means: Signs = std::array::from_fn(|a| mean(&|i| signs[i][a]));
    let goal = mean(&|i| similarities[i]);
    let mut moments: [[f64; SIGNS]; SIGNS] = std::array::from_fn(|a| {
        std::array::from_fn(|b| mean(&|i| (signs[i][a] - means[a]) * (signs[i][b] - means[b])))
    });
    let mut targets: Signs =
        std::array::from_fn(|a| mean(&|i| (signs[i][a] - means[a]) * (similarities[i] - goal)));
    for a in 0..SIGNS {
        if moments[a][a] > 1e-12 * means[a].powi(2) {
            moments[a][a] *= 1.0 + RIDGE;
        } else {
            // A sign that never varies says nothing.
            for row in &mut moments {
                row[a] = 0.0;
            }
            moments[a] = [0.0; SIGNS];
            (moments[a][a], targets[a]) = (1.0, 0.0);
        }
    }
    // Gaussian elimination; the ridge keeps the pivots away from zero.
    for a in 0..SIGNS {
        let (pivot, target) = (moments[a], targets[a]);
        for (row, goal) in moments.iter_mut().zip(&mut targets).skip(a + 1) {
            let factor = row[a] / pivot[a];
            row.iter_mut().zip(&pivot).for_each(|(x, above)| *x -= factor * above);
            *goal -= factor * target;
        }
    }
    let mut weights = [0.0; SIGNS];
    for a in (0..SIGNS).rev() {
        let known: f64 = (a + 1..SIGNS).map(|b| moments[a][b] * weights[b]).sum();
        weights[a] = (targets[a] - known) / moments[a][a];
    }
    let told = weights.iter().all(|w| w.is_finite()) && weights.iter().any(|w| *w != 0.0);
    if told { weights } else { alone }
}

/// The rising values nearest to the similarities of `pairs`, which are sorted by score; equal scores share a value.
fn isotonic(pairs: &[(f64, f64)]) -> Vec<f64> {
    /// Neighbours that were pooled, with their mean.
    struct Pool {
        mean: f64,
        count: usize,
    }
    let mut pools: Vec<Pool> = Vec::new();
    for equal in pairs.chunk_by(|a, b| a.0 == b.0) {
        let count = equal.len();
        let mut pool = Pool { mean: equal.iter().map(|p| p.1).sum::<f64>() / count as f64, count };
        while let Some(before) = pools.pop_if(|before| before.mean >= pool.mean) {
            let (a, b) = (before.count as f64, pool.count as f64);
            pool.mean = (before.mean * a + pool.mean * b) / (a + b);
            pool.count += before.count;
        }
        pools.push(pool);
    }
    pools.iter().flat_map(|pool| std::iter::repeat_n(pool.mean, pool.count)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn pooling_gives_the_nearest_rising_values() {
        let pairs = [1.0, 3.0, 2.0, 4.0, 0.5, 5.0].map(|y| (0.0, y));
        let rising: Vec<_> = (0..6).map(|i| (f64::from(i), pairs[i as usize].1)).collect();
        let third = 9.5 / 4.0;
        assert_eq!(isotonic(&rising), [1.0, third, third, third, third, 5.0]);
        let mean = pairs.iter().map(|p| p.1).sum::<f64>() / 6.0;
        assert_eq!(isotonic(&pairs), [mean; 6]);
    }

    /// Norms up to 3 and distances up to 1. The similarity rises with the one, falls with the other, and is the noisier
    /// the smaller the norm. Nobody disagrees.
    fn noisy(seed: u64, n: u64) -> (Vec<Signs>, Vec<f64>) {
        let rng = Rng::new(seed, 9);
        (0..n)
            .map(|i| {
                let (norm, distance) = (rng.uniform(4 * i) * 3.0, rng.uniform(4 * i + 1));
                let mean = 0.9 * (1.0 - (-norm).exp()) - 0.5 * distance;
                let spread = 0.05 + 0.1 * (3.0 - norm);
                let similarity = mean + spread * (rng.uniform(4 * i + 2) - 0.5);
                ([norm, distance, 0.0], similarity.clamp(-1.0, 1.0))
            })
            .unzip()
    }

    fn fitted(seed: u64, n: u64) -> Curve {
        let (signs, similarities) = noisy(seed, n);
        Curve::fit(&signs, &similarities)
    }

    #[test]
    fn on_fresh_data_confidence_is_right_on_average() {
        let curve = fitted(1, 4_000);
        let (signs, similarities) = noisy(2, 20_000);
        let mut bins = [(0.0, 0.0); 15];
        for (signs, similarity) in signs.iter().zip(&similarities) {
            let told = curve.at(signs, 0.8);
            assert!(0.0 <= told.low && told.low <= told.value, "{told:?}");
            assert!(told.value <= told.high && told.high <= 1.0, "{told:?}");
            let bin = &mut bins[((told.value * 15.0) as usize).min(14)];
            *bin = (bin.0 + told.value, bin.1 + similarity.max(0.0));
        }
        let error: f64 = bins.iter().map(|(told, seen)| (told - seen).abs()).sum();
        let error = error / 20_000.0;
        assert!(error < 0.03, "expected calibration error {error}");
    }

    #[test]
    fn intervals_hold_what_they_promise_overall_and_for_sure_and_unsure_answers() {
        for (n, coverage) in [(4_000, 0.8), (4_000, 0.95), (400, 0.9), (4_000, 0.5)] {
            let curve = fitted(1, n);
            let (signs, similarities) = noisy(2, 20_000);
            let mut halves = [(0.0, 0.0); 2];
            for (signs, similarity) in signs.iter().zip(&similarities) {
                let told = curve.at(signs, coverage);
                let inside = (told.low..=told.high).contains(&similarity.clamp(0.0, 1.0));
                let half = &mut halves[usize::from(told.value > 0.3)];
                *half = (half.0 + f64::from(inside), half.1 + 1.0);
            }
            for (inside, all) in halves {
                let share = inside / all;
                assert!(share > coverage - 0.04, "{share} of {coverage} with {n} samples");
                assert!(share < coverage + 0.1, "{share} of {coverage} with {n} samples");
            }
        }
    }

    #[test]
    fn a_wider_coverage_never_gives_a_narrower_interval() {
        let curve = fitted(3, 1_000);
        for signs in [[0.1, 0.9, 0.0], [1.0, 0.5, 0.0], [2.9, 0.0, 0.0]] {
            let told: Vec<_> = (1..100).map(|c| curve.at(&signs, f64::from(c) / 100.0)).collect();
            assert!(told.is_sorted_by(|a, b| a.low >= b.low && a.high <= b.high));
        }
    }

    #[test]
    fn both_signs_count_and_in_their_own_direction() {
        let curve = fitted(4, 2_000);
        let value = |norm, distance| curve.at(&[norm, distance, 0.0], 0.8).value;
        assert!(value(2.5, 0.1) > value(0.5, 0.1) + 0.1);
        assert!(value(2.5, 0.1) > value(2.5, 0.9) + 0.1);
        let values: Vec<_> = (0..40).map(|i| value(1.0, f64::from(i) * 0.05)).collect();
        assert!(values.is_sorted_by(|a, b| a >= b), "the farther the less sure: {values:?}");
    }

    #[test]
    fn disagreement_counts_where_it_foretells_errors_and_only_there() {
        let rng = Rng::new(5, 9);
        let weights = |of: &dyn Fn(f64, f64) -> f64| {
            let draw = |i: u64| {
                let (norm, apart) = (rng.uniform(3 * i), rng.uniform(3 * i + 1));
                let noise = 0.05 * (rng.uniform(3 * i + 2) - 0.5);
                ([norm, 0.0, apart], of(norm, apart) + noise)
            };
            let (signs, similarities): (Vec<Signs>, Vec<f64>) = (0..2000).map(draw).unzip();
            Curve::fit(&signs, &similarities).weights
        };
        let [norm, distance, apart] = weights(&|norm, apart| 0.6 * norm - 0.3 * apart);
        assert!((norm - 0.6).abs() < 0.02 && distance == 0.0 && (apart + 0.3).abs() < 0.02);
        let [norm, _, apart] = weights(&|norm, _| norm);
        assert!((norm - 1.0).abs() < 0.02 && apart.abs() < 0.02);
    }

    #[test]
    fn a_sign_that_never_varies_is_no_harm() {
        let (mut signs, similarities) = noisy(5, 500);
        for signs in &mut signs {
            signs[1] = 0.25;
        }
        let curve = Curve::fit(&signs, &similarities);
        assert_eq!(curve.weights[1], 0.0);
        let constant = Curve::fit(&[[1.0, 0.0, 0.0]; 50], &[0.5; 50]);
        assert_eq!(constant.at(&[3.0, 9.0, 1.0], 0.8).value, 0.5);
    }

    #[test]
    fn a_handful_of_samples_gives_an_open_interval() {
        let told = fitted(4, 5).at(&[1.0, 0.0, 0.0], 0.8);
        assert_eq!((told.low, told.high), (0.0, 1.0));
        let one = Curve::fit(&[[2.0, 0.0, 0.0]], &[0.5]);
        assert_eq!(one.at(&[-1.0, 0.0, 0.0], 0.8), Confidence { value: 0.5, low: 0.0, high: 1.0 });
        assert_eq!(one.at(&[9.0, 0.0, 0.0], 0.8).value, 0.5);
        let told = fitted(6, 40).at(&[1.0, 0.0, 0.0], 0.99);
        assert_eq!(
            (told.low, told.high),
            (0.0, 1.0),
            "forty cannot tell what one in a hundred does"
        );
    }

    #[test]
    fn a_fit_passes_its_own_check() {
        for n in [1, 5, 20, 300, 5_000] {
            let curve = fitted(7, n);
            assert_eq!(curve.clone().checked(), Ok(curve));
        }
    }

    #[test]
    fn a_curve_that_contradicts_itself_is_refused() {
        let lies: [&dyn Fn(&mut Curve); 8] = [
            &|c| c.knots.clear(),
            &|c| c.knots.reverse(),
            &|c| c.knots[0].1 = -0.1,
            &|c| c.knots[0].0 = f64::NAN,
            &|c| c.weights[1] = f64::INFINITY,
            &|c| c.spreads[0].levels.reverse(),
            &|c| c.spreads[0].levels.clear(),
            &|c| c.spreads[0].count = 1,
        ];
        for lie in lies {
            let mut curve = fitted(8, 300);
            lie(&mut curve);
            assert!(curve.checked().is_err());
        }
    }
}
