//! A step whose samples lie apart: each shard's gradient in one flat buffer, and a step down their mean.
//!
//! The mean of the shards' gradients by their weights is the gradient of all samples together, up to rounding: sums over
//! samples are in f32, and the sum of two halves is not rounded like the sum of the whole. From the same shards come the
//! same bits, wherever and on however many threads each was computed; of one shard, those of [`DecisionLayer::train`].

use super::crew::Crew;
use super::layer::DecisionLayer;
use super::learn::{Slope, StepMetrics, norm_of};
use super::questions::{Batch, finite, length};
use super::sums;
use crate::error::{Error, Result};
use crate::pool::Pool;

/// What a shard's gradient is, beside its numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ShardLoss {
    /// The loss of the shard: squared error, mean over dimensions, weighted mean over samples.
    pub loss: f64,
    /// What the shard counts beside others: the sum of its samples' weights, their number where they have none.
    pub weight: f64,
}

impl DecisionLayer {
    /// Makes `gradient` the one of a batch, flat: by W1, b1, W2 and b2, one after the other. No weight changes.
    ///
    /// # Errors
    ///
    /// As [`Self::train`]; a layer of several members, whose gradients are several.
    pub fn gradient(&mut self, batch: &Batch<'_>, gradient: &mut Vec<f32>) -> Result<ShardLoss> {
        self.gradient_on(batch, gradient, None)
    }

    /// [`Self::gradient`] on the threads of a pool, to the same bits.
    pub fn gradient_on(
        &mut self,
        batch: &Batch<'_>,
        gradient: &mut Vec<f32>,
        pool: Option<&Pool>,
    ) -> Result<ShardLoss> {
        self.require_one()?;
        let n = batch.checked(&self.settings)?;
        let slope = Crew::gather(pool, |crew| {
            // The caller's memory serves as the workshop's: nothing is copied.
            std::mem::swap(&mut self.workshop.gradient, gradient);
            let outlook = self.pass_samples(crew, batch, n);
            let slope = self.pass_weights(crew, outlook);
            std::mem::swap(&mut self.workshop.gradient, gradient);
            slope
        })?;
        Ok(ShardLoss { loss: slope.loss, weight: batch.weight(n) })
    }

    /// One optimizer step down a gradient as [`Self::gradient`] makes them, where the loss was `loss`; clipped like any.
    ///
    /// # Errors
    ///
    /// Another length, what is not finite, a layer of several members; it then stays as it was.
    pub fn apply(&mut self, gradient: &[f32], loss: f64) -> Result<StepMetrics> {
        self.apply_on(gradient, loss, None)
    }

    /// [`Self::apply`] on the threads of a pool, to the same bits.
    pub fn apply_on(
        &mut self,
        gradient: &[f32],
        loss: f64,
        pool: Option<&Pool>,
    ) -> Result<StepMetrics> {
        self.require_one()?;
        length("gradient", gradient.len(), self.shape.parameters())?;
        finite("gradient", gradient)?;
        if !loss.is_finite() {
            return Err(Error::invalid("loss", "a finite number", loss));
        }
        let [w1, b1, w2, b2] = self.shape.split(gradient);
        let context = &w1[self.shape.input / 3 * 2 * self.shape.hidden..];
        let with_context = context.iter().any(|x| *x != 0.0);
        // As a step of its own sums it: row by row.
        let rows = w1.chunks_exact(self.shape.hidden).chain(w2.chunks_exact(self.shape.output));
        let norm = norm_of(rows.map(sums::squares).sum(), [b1, b2]);
        let slope = Slope { loss, norm, with_context };
        let rate = self.settings.learning_rate;
        Ok(Crew::gather(pool, |crew| self.descend(crew, rate, slope, gradient)))
    }

    fn require_one(&self) -> Result<()> {
        if self.others.is_empty() {
            return Ok(());
        }
        let got = format!("an ensemble of {}", self.members());
        Err(Error::invalid("layer", "one network: the members of an ensemble learn apart", got))
    }
}
