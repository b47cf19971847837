//! Offline training: epochs over what a store remembers, until the layer answers as good as it will.
//!
//! [`TrainingRun`] goes epoch by epoch, so that its caller can show progress, stop, or be interrupted; [`evaluate`]
//! measures a layer on episodes it did not learn from, [`Assessment`] part by part. What is learned from is in `data`, in which order in `sampling` and
//! `prioritized`, how fast in `schedule`, where vectors come from in `vectors`, when to stop in `report`, what outlives the process in `checkpoint`. The steps that
//! need a layer and data are in `study`, an epoch of them is in `epoch`, the whole in `run`, several side by side in
//! `ensemble`.
//!
//! Everything that chance decides is a function of the seed, the epoch and a position, so a run that resumes ends in
//! the same bits as one that never stopped, on any number of threads.

mod baseline;
mod checkpoint;
mod data;
mod ensemble;
mod epoch;
mod evaluate;
mod findings;
mod nearest;
mod prioritized;
mod report;
mod run;
mod sampling;
mod schedule;
mod settings;
mod study;
mod trust;
mod vectors;

#[cfg(test)]
mod tests;

pub use data::validating;
pub use ensemble::{EnsembleRun, member_folder, members_of};
pub use evaluate::{Assessment, Evaluation, Predictions, Scope, TaskScore, evaluate};
pub use findings::Findings;
pub use report::{Baseline, DataStats, EpochMetrics, FinalMetrics, Report};
pub use run::TrainingRun;
pub use settings::{Curriculum, Replay, Schedule, TrainerSettings};
pub use trust::ReliabilityBin;
