//! What a layer's confidence means: the expected cosine similarity of its action to the right one.
//!
//! A network trained on squared error answers with the mean of the actions it has seen in such a situation, which is the
//! shorter the more they disagree; for unit actions its norm *is* the expected cosine, if the network is right. The norm
//! is therefore the raw score, less what the disagreement of an ensemble's members is found to say beyond it, and held-out data say what it is worth: isotonic regression (pool adjacent violators,
//! Ayer et al. 1955) from score to cosine, and for the interval the spread of what remains among the neighbouring scores.

use super::layer::DecisionLayer;
use super::questions::Batch;
use super::sums;
use crate::error::Result;
use crate::pool::Pool;

/// The expected cosine similarity of a predicted action to the right one, all three in [0, 1].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Confidence {
    /// The expectation.
    pub value: f64,
    /// Nine in ten similarities are above this.
    pub low: f64,
    /// Nine in ten similarities are below this.
    pub high: f64,
}

/// An action and how far to trust it.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// `[action_size]`.
    pub action: Vec<f32>,
    /// `None` before [`DecisionLayer::calibrate`].
    pub confidence: Option<Confidence>,
}

/// The fitted curve: between two knots it is straight, beyond the last ones level.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Calibration {
    knots: Vec<Knot>,
    /// How much an ensemble's disagreement takes from the norm in the score, 0 or more.
    doubt: f64,
}

/// What is known of a prediction whose similarity to the right action is known too.
#[derive(Clone, Copy, Debug)]
struct Sample {
    norm: f64,
    apart: f64,
    similarity: f64,
}

/// A score and what was seen near it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Knot {
    pub(super) score: f64,
    pub(super) value: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

/// Knots of the stored curve, at the most.
const KNOTS: usize = 128;
/// The part of the similarities that is left out of the interval on either side.
const TAIL: f64 = 0.1;
/// Disagreement counts at most so many times as much as the norm.
const MOST_DOUBT: f64 = 10.0;
/// From fewer samples no quantile at [`TAIL`] can be told; the interval is then all of [0, 1].
const FEWEST: usize = 20;

impl Calibration {
    /// The curve that a file claims; none where there are no knots. The error says why it cannot come from a fit.
    pub(super) fn checked(knots: Vec<Knot>, doubt: f64) -> Result<Option<Self>, &'static str> {
        let sound = |knot: &Knot| {
            let Knot { score, value, low, high } = *knot;
            score.is_finite() && 0.0 <= low && low <= value && value <= high && high <= 1.0
        };
        let rising = knots.is_sorted_by(|a, b| a.score <= b.score && a.value <= b.value);
        let doubtful = (0.0..=MOST_DOUBT).contains(&doubt);
        if !rising || !doubtful || knots.len() > KNOTS || !knots.iter().all(sound) {
            return Err("its calibration contradicts itself");
        }
        Ok((!knots.is_empty()).then_some(Self { knots, doubt }))
    }

    /// The knots, by rising score.
    pub(super) fn knots(&self) -> &[Knot] {
        &self.knots
    }

    /// How much an ensemble's disagreement takes from the norm.
    pub(super) fn doubt(&self) -> f64 {
        self.doubt
    }

    /// Fits score and curve to samples, at least one.
    fn of(samples: &[Sample]) -> Self {
        let doubt = doubt(samples);
        let score = |sample: &Sample| sample.norm - doubt * sample.apart;
        let pairs = samples.iter().map(|sample| (score(sample), sample.similarity));
        Self { doubt, ..Self::fit(pairs.collect()) }
    }

    /// Fits the curve to pairs of score and similarity, at least one.
    fn fit(mut pairs: Vec<(f64, f64)>) -> Self {
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let fitted = isotonic(&pairs);
        let n = pairs.len();
        let near = (n / 10).clamp(FEWEST, 400).min(n);
        let mut spread = Vec::with_capacity(near);
        let knots = (0..n.min(KNOTS)).map(|knot| {
            let at = if n <= KNOTS { knot } else { knot * (n - 1) / (KNOTS - 1) };
            let value = fitted[at].clamp(0.0, 1.0);
            let score = pairs[at].0;
            if n < FEWEST {
                return Knot { score, value, low: 0.0, high: 1.0 };
            }
            let from = at.saturating_sub(near / 2).min(n - near);
            spread.clear();
            spread.extend((from..from + near).map(|i| pairs[i].1 - fitted[i]));
            spread.sort_by(f64::total_cmp);
            Knot {
                score,
                value,
                low: (fitted[at] + quantile(&spread, TAIL)).clamp(0.0, value),
                high: (fitted[at] + quantile(&spread, 1.0 - TAIL)).clamp(value, 1.0),
            }
        });
        Self { knots: knots.collect(), doubt: 0.0 }
    }

    /// What a score is worth.
    fn at(&self, score: f64) -> Confidence {
        let above = self.knots.partition_point(|knot| knot.score < score);
        let right = self.knots[above.min(self.knots.len() - 1)];
        let left = self.knots[above.saturating_sub(1)];
        let width = right.score - left.score;
        let part = if width > 0.0 { ((score - left.score) / width).clamp(0.0, 1.0) } else { 1.0 };
        let between = |a: f64, b: f64| a + (b - a) * part;
        let value = between(left.value, right.value);
        Confidence {
            value,
            low: between(left.low, right.low).min(value),
            high: between(left.high, right.high).max(value),
        }
    }
}

/// How much a unit of disagreement counts beside a unit of norm, by least squares of the similarity on both. 0 where
/// nothing disagrees, where the samples cannot tell, and where disagreement would raise the score.
fn doubt(samples: &[Sample]) -> f64 {
    if samples.len() < FEWEST {
        return 0.0;
    }
    let n = samples.len() as f64;
    let mean = |of: &dyn Fn(&Sample) -> f64| samples.iter().map(of).sum::<f64>() / n;
    let (norm, apart, similarity) =
        (mean(&|s| s.norm), mean(&|s| s.apart), mean(&|s| s.similarity));
    let covariance = |a: &dyn Fn(&Sample) -> f64, b: &dyn Fn(&Sample) -> f64| {
        samples.iter().map(|s| a(s) * b(s)).sum::<f64>() / n
    };
    let (x, z, y) = (
        |s: &Sample| s.norm - norm,
        |s: &Sample| s.apart - apart,
        |s: &Sample| s.similarity - similarity,
    );
    let (xx, zz, xz) = (covariance(&x, &x), covariance(&z, &z), covariance(&x, &z));
    let (xy, zy) = (covariance(&x, &y), covariance(&z, &y));
    // The slopes times the determinant, which is 0 where one feature follows from the other.
    let (by_norm, by_apart) = (zz * xy - xz * zy, xx * zy - xz * xy);
    if xx * zz - xz * xz <= 1e-9 * xx * zz || by_norm <= 0.0 {
        return 0.0;
    }
    (-by_apart / by_norm).clamp(0.0, MOST_DOUBT)
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

/// The value at `q (n - 1)` of sorted numbers, interpolated.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = q * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    below + (above - below) * at.fract()
}

/// The cosine similarity of two vectors; 0 where one of them is zero.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot: f64 = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    let norms = (sums::squares(a) * sums::squares(b)).sqrt();
    if norms > 0.0 { (dot / norms).clamp(-1.0, 1.0) } else { 0.0 }
}

impl DecisionLayer {
    /// Fits the confidence on actions that were right and were not trained on; weights in the batch are not looked at.
    ///
    /// # Errors
    ///
    /// A layer that never learned, or a batch that does not fit; the calibration then stays as it was.
    pub fn calibrate(&mut self, batch: &Batch<'_>) -> Result<()> {
        self.calibrate_on(batch, None)
    }

    /// [`Self::calibrate`] on the threads of a pool.
    pub fn calibrate_on(&mut self, batch: &Batch<'_>, pool: Option<&Pool>) -> Result<()> {
        batch.checked(&self.settings)?;
        let (outputs, apart) = self.predict_many_apart_on(&batch.questions, pool)?;
        let width = self.shape.output;
        let samples =
            outputs.chunks_exact(width).zip(batch.actions.chunks_exact(width)).zip(apart).map(
                |((output, action), apart)| Sample {
                    norm: sums::squares(output).sqrt(),
                    apart,
                    similarity: cosine(output, action),
                },
            );
        self.calibration = Some(Calibration::of(&samples.collect::<Vec<_>>()));
        Ok(())
    }

    /// Whether it was calibrated since it last learned.
    pub fn calibrated(&self) -> bool {
        self.calibration.is_some()
    }

    /// How far to trust an action that this layer predicted, and whose members were so far `apart` from it. `None` before
    /// [`Self::calibrate`].
    pub fn confidence_of(&self, action: &[f32], apart: f64) -> Option<Confidence> {
        let curve = self.calibration.as_ref()?;
        Some(curve.at(sums::squares(action).sqrt() - curve.doubt * apart))
    }

    /// The action for one situation and how far to trust it.
    pub fn predict_with_confidence(
        &self,
        state: &[f32],
        desired_return: f64,
        context: Option<&[f32]>,
        timestep: Option<i64>,
    ) -> Result<Prediction> {
        let mut action = vec![0.0; self.shape.output];
        let (_, apart) = self.answer(state, desired_return, context, timestep, &mut action)?;
        let confidence = self.confidence_of(&action, apart);
        Ok(Prediction { action, confidence })
    }

    /// The seed's confidence, for comparison: how near the norms of the hidden units and of the output are to 50 and 10.
    /// It knows nothing of right or wrong, and is not clipped.
    pub fn seed_confidence(
        &self,
        state: &[f32],
        desired_return: f64,
        context: Option<&[f32]>,
        timestep: Option<i64>,
    ) -> Result<f64> {
        let mut action = vec![0.0; self.shape.output];
        let (hidden_norm, _) =
            self.answer(state, desired_return, context, timestep, &mut action)?;
        let hidden_score = 1.0 - (hidden_norm - 50.0).abs() / 100.0;
        let output_score = 1.0 - (sums::squares(&action).sqrt() - 10.0).abs() / 20.0;
        Ok(f64::midpoint(hidden_score, output_score))
    }
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

    /// Scores and similarities whose mean and spread both depend on the score.
    fn noisy(seed: u64, n: u64) -> Vec<(f64, f64)> {
        let rng = Rng::new(seed, 9);
        let draw = |i: u64| {
            let score = rng.uniform(4 * i) * 3.0;
            let mean = 0.9 * (1.0 - (-score).exp());
            let spread = 0.05 + 0.1 * (3.0 - score);
            (score, (mean + spread * (rng.uniform(4 * i + 1) - 0.5)).clamp(-1.0, 1.0))
        };
        (0..n).map(draw).collect()
    }

    #[test]
    fn on_fresh_data_confidence_is_right_on_average_and_its_interval_holds_eight_in_ten() {
        let curve = Calibration::fit(noisy(1, 4000));
        let fresh = noisy(2, 20_000);
        let mut bins = [(0.0, 0.0, 0.0); 15];
        let mut inside = 0;
        for (score, similarity) in &fresh {
            let told = curve.at(*score);
            assert!(0.0 <= told.low && told.low <= told.value, "{told:?}");
            assert!(told.value <= told.high && told.high <= 1.0, "{told:?}");
            inside += usize::from(told.low <= *similarity && *similarity <= told.high);
            let bin = &mut bins[((told.value * 15.0) as usize).min(14)];
            *bin = (bin.0 + 1.0, bin.1 + told.value, bin.2 + similarity);
        }
        let error: f64 = bins.iter().map(|(_, told, seen)| (told - seen).abs()).sum();
        let error = error / fresh.len() as f64;
        assert!(error < 0.02, "expected calibration error {error}");
        let share = inside as f64 / fresh.len() as f64;
        assert!((0.76..0.84).contains(&share), "{share} of the similarities lie in the interval");
    }

    #[test]
    fn disagreement_counts_where_it_foretells_errors_and_only_there() {
        let rng = Rng::new(5, 9);
        let samples = |of: &dyn Fn(f64, f64) -> f64| -> Vec<Sample> {
            let draw = |i: u64| {
                let (norm, apart) = (rng.uniform(3 * i), rng.uniform(3 * i + 1));
                let noise = 0.05 * (rng.uniform(3 * i + 2) - 0.5);
                Sample { norm, apart, similarity: of(norm, apart) + noise }
            };
            (0..2000).map(draw).collect()
        };
        assert!((doubt(&samples(&|norm, apart| 0.6 * norm - 0.3 * apart)) - 0.5).abs() < 0.02);
        assert!(doubt(&samples(&|norm, _| norm)) < 0.02);
        assert_eq!(doubt(&samples(&|norm, apart| norm + apart)), 0.0, "it never adds confidence");
        let mut agreeing = samples(&|norm, _| norm);
        for sample in &mut agreeing {
            sample.apart = 0.0;
        }
        assert_eq!(doubt(&agreeing), 0.0);
        assert_eq!(doubt(&samples(&|norm, apart| norm - apart)[..FEWEST - 1]), 0.0);
    }

    #[test]
    fn confidence_never_falls_as_the_score_rises() {
        let curve = Calibration::fit(noisy(3, 500));
        let values: Vec<_> = (-10..400).map(|i| curve.at(f64::from(i) * 0.01).value).collect();
        assert!(values.is_sorted(), "{values:?}");
        assert!(curve.knots().len() <= KNOTS);
    }

    #[test]
    fn a_handful_of_samples_gives_an_open_interval() {
        let told = Calibration::fit(noisy(4, 5)).at(1.0);
        assert_eq!((told.low, told.high), (0.0, 1.0));
        let one = Calibration::fit(vec![(2.0, 0.5)]);
        assert_eq!(one.at(-1.0), Confidence { value: 0.5, low: 0.0, high: 1.0 });
        assert_eq!(one.at(9.0).value, 0.5);
    }
}
