//! What a layer is asked and what it learns from, checked before anything is computed.

use super::settings::LayerSettings;
use super::sums::all_finite;
use crate::error::{Error, Result};

/// What a layer is asked about: `n` situations.
#[derive(Clone, Copy, Debug)]
pub struct Questions<'a> {
    /// `[n, state_size]`.
    pub states: &'a [f32],
    /// Desired returns; `n`, or one for all.
    pub returns: &'a [f64],
    /// `[n, state_size]`; zeros where there are none.
    pub contexts: Option<&'a [f32]>,
    /// Positions within the episodes, from 0; `n`.
    pub timesteps: Option<&'a [i64]>,
}

/// What a layer learns from: `n` situations and the right actions.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// The situations.
    pub questions: Questions<'a>,
    /// `[n, action_size]`.
    pub actions: &'a [f32],
    /// How much each sample counts; `n`, not negative, not all zero. They are normalised to sum 1. `None` = equally.
    pub weights: Option<&'a [f32]>,
}

/// What the arguments are called where the questions came from, for errors.
pub(super) struct Names {
    states: &'static str,
    returns: &'static str,
    contexts: &'static str,
    timesteps: &'static str,
    /// Whether there is one of each, so that a position would say nothing.
    one: bool,
}

impl Names {
    /// Those of `predict`.
    pub(super) const ONE: Self = Self {
        states: "state",
        returns: "desired_return",
        contexts: "context",
        timesteps: "timestep",
        one: true,
    };
    /// Those of `predict_many`.
    pub(super) const ASKED: Self = Self { returns: "desired_returns", ..Self::LEARNED };
    /// Those of `train`, `calibrate` and `inputs`.
    pub(super) const LEARNED: Self = Self {
        states: "states",
        returns: "returns",
        contexts: "contexts",
        timesteps: "timesteps",
        one: false,
    };

    fn at(&self, field: &str, position: usize) -> String {
        if self.one { field.to_owned() } else { format!("{field}[{position}]") }
    }
}

impl Questions<'_> {
    /// How many situations these are, if they fit the layer and every number is finite.
    pub(super) fn checked(&self, settings: &LayerSettings, names: &Names) -> Result<usize> {
        let d = settings.state_size;
        let n = if names.one { 1 } else { rows(names.states, self.states, d)? };
        length(names.states, self.states.len(), n * d)?;
        finite(names.states, self.states)?;
        if self.returns.len() != 1 {
            length(names.returns, self.returns.len(), n)?;
        }
        if let Some(bad) = self.returns.iter().position(|r| !r.is_finite()) {
            let got = self.returns[bad];
            return Err(Error::invalid(names.at(names.returns, bad), "a finite number", got));
        }
        if let Some(contexts) = self.contexts {
            length(names.contexts, contexts.len(), n * d)?;
            finite(names.contexts, contexts)?;
        }
        if let Some(timesteps) = self.timesteps {
            length(names.timesteps, timesteps.len(), n)?;
            if let Some(bad) = timesteps.iter().position(|t| *t < 0) {
                let got = timesteps[bad];
                return Err(Error::invalid(names.at(names.timesteps, bad), "0 or more", got));
            }
        }
        Ok(n)
    }
}

impl Batch<'_> {
    /// How many samples these are, if they fit the layer and can be learned from.
    pub(super) fn checked(&self, settings: &LayerSettings) -> Result<usize> {
        let n = self.questions.checked(settings, &Names::LEARNED)?;
        if n == 0 {
            return Err(Error::invalid("states", "at least one row", "none"));
        }
        length("actions", self.actions.len(), n * settings.action_size)?;
        finite("actions", self.actions)?;
        if let Some(weights) = self.weights {
            length("weights", weights.len(), n)?;
            finite("weights", weights)?;
            if let Some(bad) = weights.iter().position(|w| *w < 0.0) {
                return Err(Error::invalid(format!("weights[{bad}]"), "0 or more", weights[bad]));
            }
            if weights.iter().all(|w| *w == 0.0) {
                return Err(Error::invalid("weights", "at least one above 0", "zeros"));
            }
        }
        Ok(n)
    }

    /// The sum of the weights of its `n` samples; each counts 1 where they have none.
    pub(super) fn weight(&self, n: usize) -> f64 {
        self.weights.map_or(n as f64, |w| w.iter().map(|w| f64::from(*w)).sum())
    }

    /// The share of each sample in the loss; all together 1.
    pub(super) fn shares(&self, n: usize) -> impl Fn(usize) -> f64 + Sync {
        let (weights, total) = (self.weights, self.weight(n));
        move |i| weights.map_or(1.0, |w| f64::from(w[i])) / total
    }
}

/// How many rows of `width` numbers these are.
pub(super) fn rows(field: &str, values: &[f32], width: usize) -> Result<usize> {
    if values.len().is_multiple_of(width) {
        return Ok(values.len() / width);
    }
    Err(Error::Dimension { field: field.into(), expected: width, got: values.len() })
}

/// Refuses another length than the expected one.
pub(super) fn length(field: &str, got: usize, expected: usize) -> Result<()> {
    if got == expected {
        return Ok(());
    }
    Err(Error::Dimension { field: field.into(), expected, got })
}

/// Refuses what is not a number or infinite.
pub(super) fn finite(field: &str, values: &[f32]) -> Result<()> {
    if all_finite(values) {
        return Ok(());
    }
    let at = values.iter().position(|x| !x.is_finite()).unwrap_or_default();
    Err(Error::invalid(format!("{field}[{at}]"), "a finite number", values[at]))
}
