//! What a training run is made with, checked once, where it is made.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::nn::settings::choice;

choice! {
    /// How the samples of an epoch are drawn.
    Replay, "replay", {
        /// Each training sample once an epoch, in random order.
        Uniform = "uniform",
        /// By the last loss of each sample, importance-weighted: what the layer does not know yet comes more often.
        Prioritized = "prioritized",
        /// Rare patterns more often: see [`TrainerSettings::diversity_weight`].
        Diverse = "diverse",
    }
}

choice! {
    /// What becomes of the step size over a run.
    Schedule, "schedule", {
        /// It stays.
        Constant = "constant",
        /// It falls along half a cosine to 0 at the end of the last epoch.
        Cosine = "cosine",
    }
}

/// Easy episodes first, as in the seed: short ones, then all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Curriculum {
    /// How many epochs see the easy episodes only. They count among the run's epochs.
    pub easy_epochs: u64,
    /// An episode is easy if the durations of its steps sum to less than this, in ms; an unknown duration is 0.
    pub max_duration_ms: i64,
}

impl Default for Curriculum {
    fn default() -> Self {
        Self { easy_epochs: 5, max_duration_ms: 30 * 60_000 }
    }
}

/// The settings of a [`TrainingRun`](super::TrainingRun).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainerSettings {
    /// Samples in an optimizer step.
    pub batch_size: usize,
    /// Passes over the data at most.
    pub epochs: u64,
    /// The share of the episodes that validate, in [0, 1). 0 = train on all.
    pub validation_split: f64,
    /// Stop after this many epochs in a row that were no better than the best.
    pub early_stopping_patience: u64,
    /// Refuse to train on fewer matching steps.
    pub min_trajectories: usize,
    /// Keep a checkpoint of its own every so many epochs.
    pub save_interval: u64,
    /// The folder of the checkpoints. `None` = keep none.
    pub save_path: Option<PathBuf>,
    /// Discount of the returns that no one stored, in [0, 1].
    pub gamma: f64,
    /// Easy episodes first. `None` = all from the start.
    pub curriculum: Option<Curriculum>,
    /// How the samples of an epoch are drawn.
    pub replay: Replay,
    /// Under `diverse`, w in [0, 1]: an epoch of N samples draws each with probability w from a pattern that is chosen
    /// evenly among the P patterns of the training samples, and else takes the next of the shuffled samples. A pattern
    /// with c samples so gets, on average, the share (1 - w) c / N + w / P: 0 is uniform, 1 shows all patterns equally.
    pub diversity_weight: f64,
    /// How much the steps of good episodes count, in [0, 500]: each sample is weighted by exp(emphasis (q - 1)), where q is
    /// the quantile of its episode's total reward among the episodes that match. 0 = all alike.
    pub emphasis: f64,
    /// What becomes of the step size.
    pub schedule: Schedule,
    /// Over how many optimizer steps the step size rises to its full value, evenly. 0 = none.
    pub warmup_steps: u64,
    /// Stop once an epoch's training loss is below this.
    pub convergence_threshold: Option<f64>,
    /// Tell the layer each step's position in its episode.
    pub timesteps: bool,
    /// Keys the split and every order of samples.
    pub seed: u64,
}

impl Default for TrainerSettings {
    fn default() -> Self {
        Self {
            batch_size: 32,
            epochs: 10,
            validation_split: 0.2,
            early_stopping_patience: 3,
            min_trajectories: 100,
            save_interval: 5,
            save_path: None,
            gamma: 0.99,
            curriculum: None,
            replay: Replay::Uniform,
            diversity_weight: 0.3,
            emphasis: 0.0,
            schedule: Schedule::Constant,
            warmup_steps: 0,
            convergence_threshold: None,
            timesteps: false,
            seed: 0,
        }
    }
}

impl TrainerSettings {
    /// These settings, if every one of them is in its range.
    pub fn checked(self) -> Result<Self> {
        let check = |field: &str, right: bool, expected: &str, got: String| {
            if right { Ok(()) } else { Err(Error::invalid(field, expected, got)) }
        };
        let batch = self.batch_size;
        check("batch_size", (1..=1 << 20).contains(&batch), "1 to 1048576", batch.to_string())?;
        check("epochs", self.epochs >= 1, "at least 1", self.epochs.to_string())?;
        let split = self.validation_split;
        check("validation_split", (0.0..1.0).contains(&split), "in [0, 1)", split.to_string())?;
        let patience = self.early_stopping_patience;
        check("early_stopping_patience", patience >= 1, "at least 1", patience.to_string())?;
        let interval = self.save_interval;
        check("save_interval", interval >= 1, "at least 1", interval.to_string())?;
        check("gamma", (0.0..=1.0).contains(&self.gamma), "in [0, 1]", self.gamma.to_string())?;
        let weight = self.diversity_weight;
        check("diversity_weight", (0.0..=1.0).contains(&weight), "in [0, 1]", weight.to_string())?;
        let emphasis = self.emphasis;
        check("emphasis", (0.0..=500.0).contains(&emphasis), "0 to 500", emphasis.to_string())?;
        if let Some(Curriculum { easy_epochs, max_duration_ms }) = self.curriculum {
            let epochs = easy_epochs.to_string();
            check("curriculum.easy_epochs", easy_epochs >= 1, "at least 1", epochs)?;
            let most = max_duration_ms.to_string();
            check("curriculum.max_duration", max_duration_ms >= 1, "at least 1 ms", most)?;
        }
        if let Some(threshold) = self.convergence_threshold {
            let right = threshold.is_finite() && threshold >= 0.0;
            check("convergence_threshold", right, "0 or more, or None", threshold.to_string())?;
        }
        Ok(self)
    }

    /// Refuses to go on from a run with `before` where these settings would have led to other weights. Settings that
    /// only say when to stop and what to keep may change.
    pub(super) fn continues(&self, before: &Self) -> Result<()> {
        let Self {
            batch_size,
            epochs,
            validation_split,
            early_stopping_patience: _,
            min_trajectories: _,
            save_interval: _,
            save_path: _,
            gamma,
            curriculum,
            replay,
            diversity_weight,
            emphasis,
            schedule,
            warmup_steps,
            convergence_threshold: _,
            timesteps,
            seed,
        } = before;
        let same = |field: &str, same: bool, before: String, now: String| {
            let expected = || format!("{before}, as in the run that is resumed");
            if same { Ok(()) } else { Err(Error::invalid(field, expected(), now)) }
        };
        macro_rules! compare {
            ($($field:ident),+) => {
                $(same(
                    stringify!($field),
                    *$field == self.$field,
                    format!("{:?}", $field),
                    format!("{:?}", self.$field),
                )?;)+
            };
        }
        compare!(batch_size, validation_split, gamma, curriculum, replay, timesteps, seed);
        compare!(emphasis, schedule, warmup_steps);
        if *schedule == Schedule::Cosine {
            compare!(epochs); // the cosine's length
        }
        if *replay == Replay::Diverse {
            compare!(diversity_weight);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_outside_its_range_is_refused_by_name() {
        let curriculum =
            |easy_epochs, max_duration_ms| Some(Curriculum { easy_epochs, max_duration_ms });
        let base = TrainerSettings::default;
        let wrong = [
            ("batch_size", TrainerSettings { batch_size: 0, ..base() }),
            ("epochs", TrainerSettings { epochs: 0, ..base() }),
            ("validation_split", TrainerSettings { validation_split: 1.0, ..base() }),
            ("validation_split", TrainerSettings { validation_split: f64::NAN, ..base() }),
            ("early_stopping_patience", TrainerSettings { early_stopping_patience: 0, ..base() }),
            ("save_interval", TrainerSettings { save_interval: 0, ..base() }),
            ("gamma", TrainerSettings { gamma: 1.01, ..base() }),
            ("diversity_weight", TrainerSettings { diversity_weight: -0.1, ..base() }),
            ("emphasis", TrainerSettings { emphasis: -0.1, ..base() }),
            ("emphasis", TrainerSettings { emphasis: f64::NAN, ..base() }),
            ("emphasis", TrainerSettings { emphasis: 501.0, ..base() }),
            ("curriculum.easy_epochs", TrainerSettings { curriculum: curriculum(0, 9), ..base() }),
            ("curriculum.max_duration", TrainerSettings { curriculum: curriculum(1, 0), ..base() }),
            (
                "convergence_threshold",
                TrainerSettings { convergence_threshold: Some(f64::NAN), ..base() },
            ),
        ];
        for (name, settings) in wrong {
            let error = settings.checked().unwrap_err();
            assert!(matches!(&error, Error::Invalid { field, .. } if field == name), "{error}");
        }
        assert!(base().checked().is_ok());
    }

    #[test]
    fn a_run_may_go_on_longer_but_not_otherwise() {
        let before = TrainerSettings::default();
        let longer = TrainerSettings { epochs: 99, save_interval: 1, ..before.clone() };
        assert!(longer.continues(&before).is_ok());
        let unused = TrainerSettings { diversity_weight: 0.9, ..before.clone() };
        assert!(unused.continues(&before).is_ok(), "without diverse replay the weight is not read");
        let error = TrainerSettings { batch_size: 64, ..before.clone() }.continues(&before);
        let text = error.unwrap_err().to_string();
        assert_eq!(text, "batch_size: expected 32, as in the run that is resumed, got 64");
        for other in [
            TrainerSettings { seed: 1, ..before.clone() },
            TrainerSettings { replay: Replay::Diverse, ..before.clone() },
            TrainerSettings { timesteps: true, ..before.clone() },
            TrainerSettings { curriculum: Some(Curriculum::default()), ..before.clone() },
            TrainerSettings { emphasis: 1.0, ..before.clone() },
            TrainerSettings { schedule: Schedule::Cosine, ..before.clone() },
            TrainerSettings { warmup_steps: 1, ..before.clone() },
        ] {
            assert!(other.continues(&before).is_err());
        }
        let cosine = TrainerSettings { schedule: Schedule::Cosine, ..before };
        let longer = TrainerSettings { epochs: 99, ..cosine.clone() };
        let error = longer.continues(&cosine).unwrap_err().to_string();
        assert!(error.starts_with("epochs: expected 10"), "{error}");
        assert!(TrainerSettings { save_interval: 1, ..cosine.clone() }.continues(&cosine).is_ok());
    }
}
