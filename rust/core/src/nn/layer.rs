//! The public type of this module.

use super::calibration::curve::Curve;
use super::calibration::familiar::Familiar;
use super::context;
use super::encode::Encoder;
use super::learn::Workshop;
use super::mlp::{self, Shape};
use super::optimizer::Memory;
use super::predict::Desk;
use super::questions::{finite, length, rows};
use super::rounded::Inference;
use super::settings::LayerSettings;
use crate::error::Result;
use crate::kernel::gemm::{Aligned, Gemm};

/// A network that maps a state, a desired return and a context to an action; or several that answer with their mean.
#[derive(Clone, Debug)]
pub struct DecisionLayer {
    pub(super) settings: LayerSettings,
    pub(super) shape: Shape,
    pub(super) gemm: Gemm,
    pub(super) encoder: Encoder,
    /// W1, b1, W2 and b2, one after the other.
    pub(super) params: Aligned,
    pub(super) memory: Memory,
    pub(super) calibration: Option<Curve>,
    /// What it keeps of the states it learned from.
    pub(super) familiar: Option<Familiar>,
    pub(super) trained: bool,
    /// Whether a trainer told it step numbers.
    pub(super) timesteps: bool,
    pub(super) epoch: u64,
    pub(super) fingerprint: Option<String>,
    /// The other members of an ensemble, in order. This network is the first; they have no others of their own.
    pub(super) others: Vec<Self>,
    /// With what it answers; no file keeps it.
    pub(super) inference: Inference,
    pub(super) desk: Desk,
    pub(super) workshop: Workshop,
}

impl DecisionLayer {
    /// A layer that has learned nothing yet, its weights drawn by `settings.seed`.
    pub fn new(settings: LayerSettings) -> Result<Self> {
        let settings = settings.checked()?;
        let shape = settings.shape();
        let params = mlp::initial(shape, settings.seed);
        let memory = Memory::new(settings.optimizer, shape);
        Ok(Self::from_parts(settings, params, memory, (None, None), (false, false), None))
    }

    /// A layer of parts that were checked to fit each other; `learned` is whether it was trained, and with time steps.
    pub(super) fn from_parts(
        settings: LayerSettings,
        params: Aligned,
        memory: Memory,
        (calibration, familiar): (Option<Curve>, Option<Familiar>),
        learned: (bool, bool),
        fingerprint: Option<String>,
    ) -> Self {
        let (trained, timesteps) = learned;
        Self {
            shape: settings.shape(),
            gemm: Gemm::best(),
            encoder: Encoder::new(settings.encoding, settings.state_size),
            settings,
            params,
            memory,
            calibration,
            familiar,
            trained,
            timesteps,
            epoch: 0,
            fingerprint,
            others: Vec::new(),
            inference: Inference::default(),
            desk: Desk::default(),
            workshop: Workshop::default(),
        }
    }

    /// The settings, with the return range as it is now.
    pub fn settings(&self) -> &LayerSettings {
        &self.settings
    }

    /// Whether it ever learned or was given weights.
    pub fn trained(&self) -> bool {
        self.trained
    }

    /// Whether a trainer told it the steps' positions in their episodes; only then is it to be asked with them.
    pub fn timesteps(&self) -> bool {
        self.timesteps
    }

    /// Notes whether it learns from the steps' positions.
    pub fn set_timesteps(&mut self, told: bool) {
        self.timesteps = told;
        self.others.iter_mut().for_each(|other| other.timesteps = told);
    }

    /// The returns that are mapped to 0 and 1.
    pub fn return_range(&self) -> (f64, f64) {
        self.settings.return_range.unwrap_or((0.0, 1.0))
    }

    /// Sets what returns are mapped to 0 and 1.
    pub fn set_return_range(&mut self, range: (f64, f64)) -> Result<()> {
        let settings = LayerSettings { return_range: Some(range), ..self.settings.clone() };
        self.settings = settings.checked()?;
        for other in &mut self.others {
            other.set_return_range(range)?;
        }
        self.changed();
        Ok(())
    }

    /// The fingerprint of the encoder whose states it learned from.
    pub fn encoder(&self) -> Option<&str> {
        self.fingerprint.as_deref()
    }

    /// Notes the fingerprint of the encoder whose states it learns from.
    pub fn set_encoder(&mut self, fingerprint: Option<String>) {
        self.others.iter_mut().for_each(|other| other.fingerprint.clone_from(&fingerprint));
        self.fingerprint = fingerprint;
    }

    /// Sets the epoch that the next steps report.
    pub fn set_epoch(&mut self, epoch: u64) {
        self.epoch = epoch;
        self.others.iter_mut().for_each(|other| other.epoch = epoch);
    }

    /// The contexts of an episode's steps, `[n, state_size]`, from its states and actions in order. The first is zero,
    /// and none sees its own step's action.
    pub fn context_of(&self, states: &[f32], actions: &[f32]) -> Result<Vec<f32>> {
        let n = rows("states", states, self.settings.state_size)?;
        length("actions", actions.len(), n * self.settings.action_size)?;
        Ok(context::contexts(&self.settings, states, actions))
    }

    /// W1 `[3 state_size, hidden_size]`, b1, W2 `[hidden_size, action_size]` and b2; of an ensemble those of its first
    /// member.
    pub fn weights(&self) -> [&[f32]; 4] {
        self.shape.split(&self.params)
    }

    /// Replaces the weights, in the order of [`Self::weights`], and forgets what the optimizer remembered, and the other
    /// members of an ensemble.
    pub fn set_weights(&mut self, weights: [&[f32]; 4]) -> Result<()> {
        let mut params = Aligned::zeros(self.shape.parameters());
        let parts = self.shape.split_mut(&mut params);
        for ((name, given), part) in ["W1", "b1", "W2", "b2"].into_iter().zip(weights).zip(parts) {
            length(name, given.len(), part.len())?;
            finite(name, given)?;
            part.copy_from_slice(given);
        }
        self.params = params;
        self.others.clear();
        self.memory = Memory::new(self.settings.optimizer, self.shape);
        self.trained = true;
        self.changed();
        Ok(())
    }

    /// What was derived from the weights no longer holds.
    pub(super) fn changed(&mut self) {
        self.desk.forget();
        self.calibration = None;
        self.familiar = None;
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use crate::error::Error;

    #[test]
    fn a_layer_learns_to_answer_by_the_desired_return() {
        let settings =
            LayerSettings { hidden_size: 32, learning_rate: 3e-3, ..LayerSettings::new(4, 2) };
        let mut layer = DecisionLayer::new(settings).unwrap();
        let states = [1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0].repeat(2);
        let questions = Questions {
            states: &states,
            returns: &[0.0, 0.0, 1.0, 1.0],
            contexts: None,
            timesteps: None,
        };
        assert!(matches!(layer.predict_many(&questions), Err(Error::NotTrained)));
        let actions = [1.0, 0.0, 0.0, 1.0, -1.0, 0.0, 0.0, -1.0];
        let batch = Batch { questions, actions: &actions, weights: None };
        let first = layer.train(&batch).unwrap().loss;
        for _ in 0..600 {
            layer.train(&batch).unwrap();
        }
        let last = layer.loss(&batch).unwrap();
        assert!(last < first / 100.0, "{first} to {last}");
        let action = layer.predict(&[0.0, 1.0, 0.0, 0.0], 1.0, None, None).unwrap();
        assert!(action[0].abs() < 0.1 && (action[1] + 1.0).abs() < 0.1, "{action:?}");
    }
}
