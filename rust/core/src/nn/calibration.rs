//! What a layer's confidence means: the expected cosine similarity of its action to the right one.
//!
//! A network trained on squared error answers with the mean of the actions it has seen in such a situation, which is the
//! shorter the more they disagree; for unit actions its norm *is* the expected cosine, if the network is right. It is
//! right where it has learned: the distance of the state to what was learned from ([`familiar`]) is the second sign, and
//! with an ensemble the distance of its members from their mean the third.
//! What the signs are worth is for held-out data to say ([`curve`]).

pub(super) mod curve;
pub(super) mod familiar;

use super::layer::DecisionLayer;
use super::questions::Batch;
use super::sums;
use crate::error::{Error, Result};
use crate::pool::Pool;
use curve::{Curve, Signs};
use familiar::Familiar;

/// The share of the similarities that an interval holds where nothing else is said.
pub const COVERAGE: f64 = 0.8;

/// The expected cosine similarity of a predicted action to the right one, all three in [0, 1].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Confidence {
    /// The expectation.
    pub value: f64,
    /// As many similarities are below this as above `high`.
    pub low: f64,
    /// Between `low` and this lies at least the share of the similarities that was asked for.
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
        let states = batch.questions.states.chunks_exact(self.settings.state_size);
        let answers = states.zip(outputs.chunks_exact(width)).zip(apart);
        let signs: Vec<Signs> = answers.map(|((s, a), apart)| self.signs(s, a, apart)).collect();
        let pairs = outputs.chunks_exact(width).zip(batch.actions.chunks_exact(width));
        let similarities: Vec<f64> = pairs.map(|(output, action)| cosine(output, action)).collect();
        self.calibration = Some(Curve::fit(&signs, &similarities));
        Ok(())
    }

    /// Keeps the centroids of states that it learned from, `[n, state_size]`; they count once it is calibrated. What it
    /// kept before, and the calibration that went with it, are forgotten.
    pub(super) fn remember(&mut self, states: &[f32]) {
        self.calibration = None;
        self.desk.forget(); // whether copies of the weights will do is asked of what is kept
        self.familiar = Familiar::of(states, self.settings.state_size);
    }

    /// The expected similarities of answers by their signs, for judging them by what came of them. `halves` tells those
    /// that the calibration may have been fitted to, in two halves: each is told what a curve says that was fitted to the
    /// other half. The rest are told what the layer would say. Empty before [`Self::calibrate`].
    pub(super) fn promises(
        &self,
        signs: &[Signs],
        similarities: &[f64],
        halves: &[Option<bool>],
    ) -> Vec<f64> {
        let Some(curve) = &self.calibration else { return Vec::new() };
        let fitted = |half: bool| {
            let of = (0..signs.len()).filter(|&i| halves[i] == Some(half));
            let (signs, similarities): (Vec<_>, Vec<_>) =
                of.map(|i| (signs[i], similarities[i])).unzip();
            (!signs.is_empty()).then(|| Curve::fit(&signs, &similarities))
        };
        let (first, second) = (fitted(false), fitted(true));
        let told = signs.iter().zip(halves).map(|(signs, half)| {
            let other = half.and_then(|half| if half { first.as_ref() } else { second.as_ref() });
            other.unwrap_or(curve).at(signs, COVERAGE).value
        });
        told.collect()
    }

    /// What an answer shows of its worth.
    pub(super) fn signs(&self, state: &[f32], action: &[f32], apart: f64) -> Signs {
        let distance = self.familiar.as_ref().map_or(0.0, |kept| kept.distance(state));
        [sums::squares(action).sqrt(), distance, apart]
    }

    /// Whether it was calibrated since it last learned.
    pub fn calibrated(&self) -> bool {
        self.calibration.is_some()
    }

    /// How far to trust an action that this layer predicted for a state, and whose members were so far `apart` from it,
    /// with an interval that holds at least the share `coverage`, in (0, 1), of the similarities. `None` before
    /// [`Self::calibrate`].
    pub fn confidence_of(
        &self,
        state: &[f32],
        action: &[f32],
        apart: f64,
        coverage: f64,
    ) -> Option<Confidence> {
        self.calibration.as_ref().map(|curve| curve.at(&self.signs(state, action, apart), coverage))
    }

    /// The action for one situation and how far to trust it, with an interval that holds at least the share `coverage`
    /// of the similarities, on average over situations like those it was calibrated on (0 where a similarity is
    /// negative).
    ///
    /// # Errors
    ///
    /// As [`Self::predict`]; a coverage outside (0, 1).
    pub fn predict_with_confidence(
        &self,
        state: &[f32],
        desired_return: f64,
        context: Option<&[f32]>,
        timestep: Option<i64>,
        coverage: f64,
    ) -> Result<Prediction> {
        if !(coverage > 0.0 && coverage < 1.0) {
            return Err(Error::invalid("coverage", "a number between 0 and 1", coverage));
        }
        let mut action = vec![0.0; self.shape.output];
        let (_, apart) = self.answer(state, desired_return, context, timestep, &mut action)?;
        let confidence = self.confidence_of(state, &action, apart, coverage);
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
    use super::super::LayerSettings;
    use super::*;

    #[test]
    fn an_answer_is_not_judged_by_a_curve_that_was_fitted_to_it() {
        let mut layer = DecisionLayer::new(LayerSettings::new(2, 2)).unwrap();
        let signs: Vec<Signs> = (0..60).map(|i| [f64::from(i % 30), 0.0, 0.0]).collect();
        // One half of the answers was right, the other wrong, whatever they showed.
        let similarities: Vec<f64> = (0..60).map(|i| f64::from(u8::from(i < 30))).collect();
        let halves: Vec<_> = (0..60).map(|i| Some(i >= 30)).collect();
        assert!(layer.promises(&signs, &similarities, &halves).is_empty(), "it is not calibrated");
        layer.calibration = Some(Curve::fit(&signs, &similarities));
        let told = layer.promises(&signs, &similarities, &halves);
        assert!(told[..30].iter().all(|told| *told < 1e-9), "{told:?}");
        assert!(told[30..].iter().all(|told| *told > 1.0 - 1e-9), "{told:?}");
        let fresh = layer.promises(&signs, &similarities, &[None; 60]);
        assert!(fresh.iter().all(|told| (told - 0.5).abs() < 1e-9), "{fresh:?}");
        let alone = layer.promises(&signs[..1], &similarities[..1], &[Some(false)]);
        assert_eq!(alone, fresh[..1], "there is no other half");
    }
}
