//! What a decision layer is made with, checked once, where it is made.

use serde::{Deserialize, Serialize};

use super::mlp::Shape;
use crate::error::{Error, Result};

/// A setting with a few named values: the enum, its names in the API and in files, and its parser.
macro_rules! choice {
    ($(#[$doc:meta])* $name:ident, $field:literal, { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $text)] $variant,)+
        }

        impl $name {
            /// Every value.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The value called `text` in the API.
            pub fn parse(text: &str) -> Result<Self> {
                let found = Self::ALL.iter().copied().find(|choice| choice.name() == text);
                found.ok_or_else(|| {
                    let names: Vec<_> =
                        Self::ALL.iter().map(|choice| format!("{:?}", choice.name())).collect();
                    Error::invalid($field, format!("one of {}", names.join(", ")), format!("{text:?}"))
                })
            }

            /// Its name in the API.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text),+
                }
            }
        }
    };
}

pub(super) use choice;

choice! {
    /// How a gradient becomes a step.
    Optimizer, "optimizer", {
        /// Adam with decoupled weight decay (Loshchilov and Hutter 2019); biases do not decay.
        AdamW = "adamw",
        /// Adam (Kingma and Ba 2015), decay added to the gradient.
        Adam = "adam",
        /// Momentum, decay added to the gradient.
        Sgd = "sgd",
    }
}

choice! {
    /// The code of the desired return.
    Encoding, "encoding", {
        /// Low frequencies and norm 1: near returns have near codes.
        Compact = "compact",
        /// The seed's: high frequencies, norm sqrt(d / 2).
        Seed = "seed",
    }
}

choice! {
    /// What the third block of the input holds.
    ContextKind, "context", {
        /// Zeros.
        None = "none",
        /// The mean of the last states before this one.
        History = "history",
        /// The action before this one.
        PreviousAction = "previous_action",
    }
}

choice! {
    /// What a desired return is measured in.
    ReturnScale, "return_scale", {
        /// The return to go.
        Raw = "raw",
        /// Its quantile among the rows that match.
        Quantile = "quantile",
        /// The quantile of the episode's total reward among the episodes that match.
        Episode = "episode",
    }
}

/// The settings of a [`DecisionLayer`](super::DecisionLayer).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerSettings {
    /// Dimensions of a state.
    pub state_size: usize,
    /// Dimensions of an action.
    pub action_size: usize,
    /// Hidden units.
    pub hidden_size: usize,
    /// Step size.
    pub learning_rate: f64,
    /// Momentum of `sgd`.
    pub momentum: f64,
    /// Weight decay; see [`Optimizer`] for how it is applied.
    pub weight_decay: f64,
    /// How a gradient becomes a step.
    pub optimizer: Optimizer,
    /// The largest global norm of a gradient; larger ones are scaled down to it. `None` = no clipping.
    pub clip_norm: Option<f64>,
    /// The code of the desired return.
    pub encoding: Encoding,
    /// What the trainer and a rollout put into the context block.
    pub context: ContextKind,
    /// How many states the `history` context averages.
    pub history_length: usize,
    /// What a desired return is measured in.
    pub return_scale: ReturnScale,
    /// The returns that are mapped to 0 and 1. `None` = (0, 1), until a trainer sets it from its data.
    pub return_range: Option<(f64, f64)>,
    /// Keys the initial weights.
    pub seed: u64,
}

impl LayerSettings {
    /// The defaults at these sizes.
    pub fn new(state_size: usize, action_size: usize) -> Self {
        Self {
            state_size,
            action_size,
            hidden_size: 256,
            learning_rate: 1e-3,
            momentum: 0.9,
            weight_decay: 1e-4,
            optimizer: Optimizer::AdamW,
            clip_norm: Some(1.0),
            encoding: Encoding::Compact,
            context: ContextKind::None,
            history_length: 5,
            return_scale: ReturnScale::Raw,
            return_range: None,
            seed: 0,
        }
    }

    /// The width of the first layer's input: state, return code and context.
    pub fn input_size(&self) -> usize {
        3 * self.state_size
    }

    /// The sizes of the network.
    pub(super) fn shape(&self) -> Shape {
        Shape { input: self.input_size(), hidden: self.hidden_size, output: self.action_size }
    }

    /// These settings, if every one of them is in its range.
    pub fn checked(self) -> Result<Self> {
        let sizes = [
            ("state_size", self.state_size),
            ("action_size", self.action_size),
            ("hidden_size", self.hidden_size),
        ];
        for (field, size) in sizes {
            check(field, (1..=MAX_SIZE).contains(&size), "an integer between 1 and 65536", size)?;
        }
        let Shape { input, hidden, output } = self.shape();
        let weights = hidden as u64 * (input + output) as u64;
        check(
            "hidden_size",
            weights <= MOST_WEIGHTS,
            "a network of at most 2^30 weights",
            weights,
        )?;
        let rate = self.learning_rate;
        check("learning_rate", rate.is_finite() && rate > 0.0, "a positive number", rate)?;
        check("momentum", (0.0..1.0).contains(&self.momentum), "in [0, 1)", self.momentum)?;
        let decay = self.weight_decay;
        check("weight_decay", decay.is_finite() && decay >= 0.0, "0 or a positive number", decay)?;
        if let Some(norm) = self.clip_norm {
            check("clip_norm", norm.is_finite() && norm > 0.0, "a positive number or None", norm)?;
        }
        let length = self.history_length;
        check("history_length", (1..=MAX_SIZE).contains(&length), "between 1 and 65536", length)?;
        if let Some((low, high)) = self.return_range {
            let rising = low < high && (high - low).is_finite();
            check(
                "return_range",
                rising,
                "(low, high) with low < high",
                format!("({low}, {high})"),
            )?;
        }
        let sizes_agree = self.state_size == self.action_size;
        let previous = self.context == ContextKind::PreviousAction;
        check(
            "context",
            !previous || sizes_agree,
            "another context than \"previous_action\" where states and actions differ in size",
            format!("states of {} and actions of {}", self.state_size, self.action_size),
        )?;
        Ok(self)
    }
}

/// No side of a matrix is larger, so no product of two sides can overflow.
const MAX_SIZE: usize = 1 << 16;

/// Four GB of weights, and twice as much again for the optimizer: beyond is a slip, and would end the process.
const MOST_WEIGHTS: u64 = 1 << 30;

fn check(field: &str, right: bool, expected: &str, got: impl ToString) -> Result<()> {
    if right { Ok(()) } else { Err(Error::invalid(field, expected, got)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_outside_its_range_is_refused_by_name() {
        type Spoil = fn(&mut LayerSettings);
        let spoil: [(&str, Spoil); 14] = [
            ("state_size", |s| s.state_size = 0),
            ("action_size", |s| s.action_size = 65_537),
            ("hidden_size", |s| s.hidden_size = 0),
            ("learning_rate", |s| s.learning_rate = 0.0),
            ("learning_rate", |s| s.learning_rate = f64::NAN),
            ("momentum", |s| s.momentum = 1.0),
            ("weight_decay", |s| s.weight_decay = -1e-9),
            ("weight_decay", |s| s.weight_decay = f64::INFINITY),
            ("clip_norm", |s| s.clip_norm = Some(0.0)),
            ("history_length", |s| s.history_length = 0),
            ("return_range", |s| s.return_range = Some((1.0, 1.0))),
            ("return_range", |s| s.return_range = Some((f64::NAN, 1.0))),
            ("return_range", |s| s.return_range = Some((f64::MIN, f64::MAX))),
            ("context", |s| s.context = ContextKind::PreviousAction),
        ];
        for (name, spoil) in spoil {
            let mut settings = LayerSettings::new(4, 3);
            spoil(&mut settings);
            let error = settings.checked().unwrap_err();
            assert!(matches!(&error, Error::Invalid { field, .. } if field == name), "{error}");
        }
        assert!(LayerSettings::new(4, 3).checked().is_ok());
    }

    #[test]
    fn a_choice_is_parsed_from_the_name_it_shows() {
        for &optimizer in Optimizer::ALL {
            assert_eq!(Optimizer::parse(optimizer.name()).unwrap(), optimizer);
        }
        let error = ContextKind::parse("memory").unwrap_err().to_string();
        assert_eq!(
            error,
            "context: expected one of \"none\", \"history\", \"previous_action\", got \"memory\""
        );
    }
}
