//! What a training run tells when it is over.

use serde::{Deserialize, Serialize};

/// One pass over the training samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochMetrics {
    /// From 1.
    pub epoch: u64,
    /// The mean over the samples of the loss each had when its batch came, weighted by their emphasis. Under prioritized
    /// replay the mean over the draws, each over how much more often than others its sample is drawn.
    pub train_loss: f64,
    /// The mean loss of the validating steps after the epoch, weighted by their emphasis. `None` where nothing validates.
    pub val_loss: Option<f64>,
    /// The mean over the batches of the gradient's norm before clipping.
    pub gradient_norm: f64,
    /// Seconds.
    pub duration: f64,
}

impl EpochMetrics {
    /// The loss that chooses the best epoch and ends a run: the validation's, where there is one.
    pub(super) fn steering_loss(&self) -> f64 {
        self.val_loss.unwrap_or(self.train_loss)
    }
}

/// The best epoch, whose weights the layer now has.
#[derive(Clone, Debug, PartialEq)]
pub struct FinalMetrics {
    /// Its training loss.
    pub train_loss: f64,
    /// Its validation loss.
    pub val_loss: Option<f64>,
    /// Which it was, from 1.
    pub best_epoch: u64,
}

/// What the run learned from.
#[derive(Clone, Debug, PartialEq)]
pub struct DataStats {
    /// Steps that matched: `train_size + val_size`.
    pub total_trajectories: usize,
    /// Steps that trained.
    pub train_size: usize,
    /// Steps that validated.
    pub val_size: usize,
    /// Mean return to go of the steps that matched, whatever the layer's scale.
    pub avg_return: f64,
}

/// The layer beside the action of the nearest training state, on the same validating steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Baseline {
    /// Mean cosine similarity of the nearest training state's action to the action taken.
    pub neighbor_similarity: f64,
    /// Mean cosine similarity of the layer's prediction to the action taken.
    pub layer_similarity: f64,
    /// Validating steps that were compared, evenly drawn: at most 2,000.
    pub validation_size: usize,
    /// Training steps that were searched, evenly drawn: at most 20,000.
    pub training_size: usize,
}

/// The whole run.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Every epoch, in order, those before a resumption too.
    pub epochs: Vec<EpochMetrics>,
    /// The best one.
    pub best: FinalMetrics,
    /// What it learned from.
    pub data: DataStats,
    /// `None` where nothing validates.
    pub baseline: Option<Baseline>,
}

/// When a run ends and which of its epochs counts, from its history alone: a resumed run decides as one that never
/// stopped would have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Course {
    pub(super) epochs: u64,
    pub(super) patience: u64,
    pub(super) convergence_threshold: Option<f64>,
    /// Epochs of the curriculum; they never end a run.
    pub(super) easy_epochs: u64,
}

impl Course {
    /// The best epoch so far, the earlier of equals. Training losses of easy epochs and of all data do not compare, so
    /// without validation the easy ones drop out once there are others.
    pub(super) fn best<'a>(&self, history: &'a [EpochMetrics]) -> Option<&'a EpochMetrics> {
        let easy = self.easy_epochs as usize;
        let validates = history.first().is_some_and(|first| first.val_loss.is_some());
        let skip = if validates || history.len() <= easy { 0 } else { easy };
        history[skip..].iter().min_by(|a, b| a.steering_loss().total_cmp(&b.steering_loss()))
    }

    /// Whether no further epoch follows.
    pub(super) fn is_over(&self, history: &[EpochMetrics]) -> bool {
        let done = history.len() as u64;
        if done >= self.epochs {
            return true;
        }
        let (Some(best), Some(last)) = (self.best(history), history.last()) else { return false };
        if done <= self.easy_epochs {
            return false;
        }
        let waited = done - best.epoch.max(self.easy_epochs);
        waited >= self.patience
            || self.convergence_threshold.is_some_and(|enough| last.train_loss < enough)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(losses: &[(f64, Option<f64>)]) -> Vec<EpochMetrics> {
        (1..)
            .zip(losses)
            .map(|(epoch, &(train_loss, val_loss))| EpochMetrics {
                epoch,
                train_loss,
                val_loss,
                gradient_norm: 1.0,
                duration: 0.0,
            })
            .collect()
    }

    const COURSE: Course =
        Course { epochs: 10, patience: 2, convergence_threshold: None, easy_epochs: 0 };

    #[test]
    fn a_run_ends_when_validation_did_not_improve_for_patience_epochs() {
        let falling_train =
            [(5.0, Some(3.0)), (4.0, Some(2.0)), (3.0, Some(2.0)), (2.0, Some(2.5))];
        let all = history(&falling_train);
        assert_eq!(
            (1..=4).map(|n| COURSE.is_over(&all[..n])).collect::<Vec<_>>(),
            [false, false, false, true]
        );
        assert_eq!(COURSE.best(&all).unwrap().epoch, 2);
    }

    #[test]
    fn without_validation_the_training_loss_steers() {
        let all = history(&[(5.0, None), (1.0, None), (2.0, None), (3.0, None)]);
        assert!(!COURSE.is_over(&all[..3]) && COURSE.is_over(&all));
        assert_eq!(COURSE.best(&all).unwrap().epoch, 2);
    }

    #[test]
    fn a_run_ends_below_its_threshold_and_at_its_last_epoch() {
        let all = history(&[(5.0, Some(9.0)), (0.9, Some(8.0))]);
        let converges = Course { convergence_threshold: Some(1.0), ..COURSE };
        assert!(!converges.is_over(&all[..1]) && converges.is_over(&all));
        assert!(Course { epochs: 2, ..COURSE }.is_over(&all) && !COURSE.is_over(&all));
    }

    #[test]
    fn easy_epochs_neither_end_a_run_nor_stay_its_best_by_training_loss() {
        let course = Course { easy_epochs: 3, convergence_threshold: Some(1.0), ..COURSE };
        let all = history(&[(0.1, None), (0.2, None), (0.3, None), (5.0, None), (6.0, None)]);
        assert!((1..=4).all(|n| !course.is_over(&all[..n])));
        assert_eq!(course.best(&all[..3]).unwrap().epoch, 1);
        assert_eq!(course.best(&all).unwrap().epoch, 4);
        let validated =
            history(&[(1.0, Some(0.1)), (1.0, Some(0.2)), (1.0, Some(0.3)), (5.0, Some(0.4))]);
        assert_eq!(course.best(&validated).unwrap().epoch, 1);
        let course = Course { convergence_threshold: None, ..course };
        assert!(!course.is_over(&validated), "patience begins when the easy epochs are over");
    }
}
