//! One set of data in the hands of one run: what the steps of training, validating and comparing share.

use std::sync::Arc;

use super::data::Data;
use super::vectors::{Columns, Vectors};
use crate::error::{Error, Result};
use crate::nn::calibration::familiar;
use crate::nn::{DecisionLayer, Experience, LayerSettings};
use crate::pool::Pool;

/// Samples taken at a time where nothing is learned from them.
pub(super) const GLANCE: usize = 512;
/// Validating steps that calibrate at most, evenly drawn.
const CALIBRATION: usize = 8_192;

pub(super) struct Study {
    pub(super) experience: Arc<dyn Experience + Send + Sync>,
    pub(super) data: Data,
    pub(super) vectors: Vectors,
    /// Whether the layer is told each step's position.
    pub(super) timesteps: bool,
    /// How much the steps of good episodes count.
    pub(super) emphasis: f64,
}

impl Study {
    /// Works as long as the store is open: where everything is in memory, nothing else would notice that it was closed.
    pub(super) fn while_open<T>(
        &self,
        poll: &mut dyn FnMut() -> Result<()>,
        work: impl FnOnce(&mut dyn FnMut() -> Result<()>) -> Result<T>,
    ) -> Result<T> {
        self.experience.check_open()?;
        let done = work(&mut || {
            self.experience.check_open()?;
            poll()
        })?;
        self.experience.check_open()?;
        Ok(done)
    }

    /// Fills the columns for `samples`, each with its context.
    pub(super) fn fill(
        &self,
        layer: &LayerSettings,
        samples: &[u32],
        columns: &mut Columns,
    ) -> Result<()> {
        self.fill_without(layer, samples, &|_| false, columns)
    }

    /// Fills the columns for `samples`; those at the positions that are `dropped` go without their context.
    pub(super) fn fill_without(
        &self,
        layer: &LayerSettings,
        samples: &[u32],
        dropped: &dyn Fn(usize) -> bool,
        columns: &mut Columns,
    ) -> Result<()> {
        let wish = (samples, self.timesteps);
        self.vectors.fill(&*self.experience, &self.data, layer, wish, dropped, columns)
    }

    /// How much a step counts by its episode: exp(emphasis (q - 1)). Never 0, since the emphasis is at most 500.
    pub(super) fn claim(&self, step: u32) -> f64 {
        let quality = self.data.quality[self.data.episode_of[step as usize] as usize];
        (self.emphasis * (quality - 1.0)).exp()
    }

    /// Sets the weights of the samples in `columns`: their claims times what they are given. None where all are alike.
    pub(super) fn weigh(&self, steps: &[u32], given: Option<&[f32]>, columns: &mut Columns) {
        if let Some(weights) = given {
            let pairs = steps.iter().zip(weights);
            columns.weigh(pairs.map(|(step, weight)| self.claim(*step) * f64::from(*weight)));
        } else if self.emphasis > 0.0 {
            columns.weigh(steps.iter().map(|step| self.claim(*step)));
        }
    }

    /// The mean loss of the steps that validate, each counted by its claim. `None` where none do.
    pub(super) fn validation_loss(
        &self,
        layer: &DecisionLayer,
        epoch: u64,
        pool: &Pool,
        poll: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Option<f64>> {
        let steps = &self.data.validate;
        if steps.is_empty() {
            return Ok(None);
        }
        let mut columns = Columns::default();
        let (mut sum, mut claimed) = (0.0, 0.0);
        for samples in steps.chunks(GLANCE) {
            poll()?;
            self.fill(layer.settings(), samples, &mut columns)?;
            self.weigh(samples, None, &mut columns);
            let claim: f64 = samples.iter().map(|step| self.claim(*step)).sum();
            let loss = layer
                .loss_on(&columns.batch(), Some(pool))
                .map_err(|why| unlearnable(epoch, why))?;
            sum += loss * claim;
            claimed += claim;
        }
        let loss = sum / claimed;
        if !loss.is_finite() {
            return Err(Error::Training(format!(
                "the validation loss of epoch {epoch} is {loss}; the weights before it were kept"
            )));
        }
        Ok(Some(loss))
    }

    /// Lets `layer` keep the centroids of states it learned from, and calibrates it on the steps that validate, where
    /// there are any.
    pub(super) fn calibrate(
        &self,
        layer: &mut DecisionLayer,
        pool: &Pool,
        poll: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let steps = evenly(&self.data.validate, CALIBRATION);
        if steps.is_empty() {
            return Ok(());
        }
        poll()?;
        let learned = evenly(&self.data.train, familiar::SAMPLE);
        let mut states = vec![0.0; learned.len() * layer.settings().state_size];
        self.vectors.read(&*self.experience, &learned, Some(&mut states), None)?;
        layer.remember(&states);
        poll()?;
        let mut columns = Columns::default();
        self.fill(layer.settings(), &steps, &mut columns)?;
        layer.calibrate_on(&columns.batch(), Some(pool))
    }
}

/// At most `most` of `items`, at even distances.
pub(super) fn evenly(items: &[u32], most: usize) -> Vec<u32> {
    let kept = items.len().min(most);
    (0..kept).map(|i| items[i * items.len() / kept]).collect()
}

/// What a layer refuses inside a run came out of the store: that is a failure of training, not of an argument.
pub(super) fn unlearnable(epoch: u64, why: Error) -> Error {
    match why {
        Error::Invalid { .. } | Error::Training(_) => Error::Training(format!(
            "epoch {epoch} cannot go on: {why}; the weights before it were kept"
        )),
        other => other,
    }
}

/// Refuses a layer whose sizes or encoder are not those of the data.
pub(super) fn check_fit(experience: &dyn Experience, layer: &DecisionLayer) -> Result<()> {
    let settings = layer.settings();
    for (field, expected, got) in [
        ("layer.state_size", experience.state_size(), settings.state_size),
        ("layer.action_size", experience.action_size(), settings.action_size),
    ] {
        if expected != got {
            return Err(Error::Dimension { field: field.into(), expected, got });
        }
    }
    match (experience.encoder(), layer.encoder()) {
        (Some(stored), Some(given)) if stored != given => {
            Err(Error::EncoderMismatch { stored, given: given.to_owned() })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::evenly;

    #[test]
    fn an_even_draw_spans_all_and_repeats_nothing() {
        let items: Vec<u32> = (0..1003).collect();
        let drawn = evenly(&items, 100);
        assert_eq!((drawn.len(), drawn[0]), (100, 0));
        assert!(drawn.windows(2).all(|pair| (10..=11).contains(&(pair[1] - pair[0]))));
        assert_eq!(evenly(&items[..7], 100), items[..7]);
        assert!(evenly(&[], 5).is_empty());
    }
}
