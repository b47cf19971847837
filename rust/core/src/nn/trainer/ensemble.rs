//! Several runs side by side: the same data and settings, layers of other seeds.
//!
//! Each member learns, stops and keeps its checkpoints as it would alone, on one thread of the pool, or on more where fewer
//! members are left than threads: its weights are those of a run alone, bit for bit. What they read is in memory once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use super::baseline;
use super::checkpoint::Folder;
use super::report::{EpochMetrics, FinalMetrics, Report};
use super::run::{TrainingRun, ended};
use super::settings::TrainerSettings;
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::nn::ensemble::MOST_MEMBERS;
use crate::nn::{DecisionLayer, Experience, LayerSettings};
use crate::pool::Pool;

/// How often the caller is asked whether to go on.
const PATIENCE: Duration = Duration::from_millis(5);

/// The runs of an ensemble's members; of one alone it is that run.
pub struct EnsembleRun {
    layer: Arc<RwLock<DecisionLayer>>,
    runs: Vec<TrainingRun>,
    /// Where the whole ensemble is written in the end.
    folder: Option<Folder>,
    /// Whether an epoch ended with an error: the members are then not all as far as each other.
    failed: bool,
}

impl EnsembleRun {
    /// Starts, or resumes, a run for each of `members` layers. A layer that never learned becomes the first; the others
    /// are drawn by the seeds after its own. One that has as many members learns on. In a `save_path` each keeps the
    /// folder `member-0`, `member-1`, ...; one member alone uses it itself.
    ///
    /// # Errors
    ///
    /// Those of [`TrainingRun::start`], and [`Error::Invalid`] where the layer learned with another number of members.
    pub fn start(
        experience: Arc<dyn Experience + Send + Sync>,
        layer: Arc<RwLock<DecisionLayer>>,
        settings: TrainerSettings,
        members: usize,
        filter: &Filter,
        resume: bool,
    ) -> Result<Self> {
        let given = layer.read().unwrap_or_else(PoisonError::into_inner).clone();
        let layers = members_of(&given, members)?;
        if members == 1 {
            let run = TrainingRun::start(experience, layer.clone(), settings, filter, resume)?;
            return Ok(Self { layer, runs: vec![run], folder: None, failed: false });
        }
        let folder = settings.save_path.as_deref().map(Folder::open).transpose()?;
        let mut runs: Vec<TrainingRun> = Vec::with_capacity(members);
        for (at, member) in layers.into_iter().enumerate() {
            let save_path = settings.save_path.as_ref().map(|path| path.join(member_folder(at)));
            let settings = TrainerSettings { save_path, ..settings.clone() };
            let member = Arc::new(RwLock::new(member));
            let run = if let Some(first) = runs.first() {
                first.beside(member, settings, resume)?
            } else {
                TrainingRun::start(Arc::clone(&experience), member, settings, filter, resume)?
            };
            runs.push(run);
        }
        Ok(Self { layer, runs, folder, failed: false })
    }

    /// The epochs so far: over the members that went so far, the means of their metrics and the longest duration.
    pub fn history(&self) -> Vec<EpochMetrics> {
        let epochs = self.runs.iter().map(|run| run.history().len()).max().unwrap_or_default();
        (0..epochs).map(|at| self.epoch(at)).collect()
    }

    fn epoch(&self, at: usize) -> EpochMetrics {
        let found: Vec<_> = self.runs.iter().filter_map(|run| run.history().get(at)).collect();
        if let [one] = found[..] {
            return one.clone();
        }
        let n = found.len() as f64;
        let mean = |of: &dyn Fn(&EpochMetrics) -> f64| found.iter().map(|m| of(m)).sum::<f64>() / n;
        let validation: Option<f64> = found.iter().map(|metrics| metrics.val_loss).sum();
        EpochMetrics {
            epoch: at as u64 + 1,
            train_loss: mean(&|metrics| metrics.train_loss),
            val_loss: validation.map(|sum| sum / n),
            gradient_norm: mean(&|metrics| metrics.gradient_norm),
            duration: found.iter().map(|metrics| metrics.duration).fold(0.0, f64::max),
        }
    }

    /// One more epoch of every member whose run is not over, and of the shortest first where they differ, as after an
    /// interruption. See [`TrainingRun::next_epoch`]; the layer then answers with all members as they are now.
    ///
    /// # Errors
    ///
    /// Those of [`TrainingRun::next_epoch`]. An error of one member ends all, and the layer keeps the last epoch that
    /// all had finished.
    pub fn next_epoch(
        &mut self,
        poll: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Option<EpochMetrics>> {
        if let [run] = &mut self.runs[..] {
            return run.next_epoch(poll);
        }
        self.check_alive()?;
        let Some(done) =
            self.runs.iter().filter(|run| !run.is_over()).map(|run| run.history().len()).min()
        else {
            return Ok(None);
        };
        let study = Arc::clone(&self.runs[0].study);
        let outcome = study.while_open(poll, |poll| self.side_by_side(done, poll));
        self.failed = outcome.is_err();
        outcome?;
        let now = self.runs.iter().map(|run| run.work.clone()).collect();
        self.publish(DecisionLayer::of_members(now)?);
        Ok(Some(self.epoch(done)))
    }

    /// Trains an epoch of each member that has `done` so many, as long as `poll` says nothing against it.
    fn side_by_side(&mut self, done: usize, poll: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        poll()?; // an epoch may be over before the caller is asked again
        self.runs[0].warm_up(poll)?;
        self.runs.iter_mut().for_each(|run| run.warm = true);
        let pool = &*Pool::shared()?;
        let turn = |run: &&mut TrainingRun| !run.is_over() && run.history().len() == done;
        let due = Mutex::new(self.runs.iter_mut().filter(turn).collect::<Vec<_>>());
        let next = || due.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let stop = AtomicBool::new(false);
        let ask = || if stop.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) };
        pool.beside(|scope| {
            let (sender, outcomes) = mpsc::channel();
            // One job a thread, not one a member: a thread that waits inside a step would begin another's epoch.
            for _ in 0..pool.threads() {
                let sender = sender.clone();
                scope.spawn(|_| {
                    let sender = sender;
                    while let Some(run) = next() {
                        // The caller listens until all have told; it is gone only if it panicked.
                        let _ = sender.send(run.next_epoch_on(pool, &mut || ask()).map(|_| ()));
                    }
                });
            }
            drop(sender);
            let mut failure = Ok(());
            loop {
                let outcome = match outcomes.recv_timeout(PATIENCE) {
                    Ok(outcome) => outcome,
                    Err(RecvTimeoutError::Timeout) if failure.is_ok() => poll(),
                    Err(RecvTimeoutError::Timeout) => Ok(()),
                    Err(RecvTimeoutError::Disconnected) => return failure,
                };
                if let (Ok(()), Err(why)) = (&failure, outcome) {
                    stop.store(true, Ordering::Relaxed);
                    failure = Err(why);
                }
            }
        })
    }

    /// The best epoch so far and the layer as it was then, of the only member.
    pub fn best(&self) -> Option<(&EpochMetrics, &DecisionLayer)> {
        if let [run] = &self.runs[..] { run.best() } else { None }
    }

    /// Takes over a member's run that went on elsewhere: see [`TrainingRun::adopt`].
    pub fn adopt(
        &mut self,
        member: usize,
        history: Vec<EpochMetrics>,
        best: DecisionLayer,
    ) -> Result<()> {
        let count = self.runs.len();
        let run = self
            .runs
            .get_mut(member)
            .ok_or_else(|| Error::invalid("member", format!("less than {count}"), member))?;
        run.adopt(history, best)
    }

    /// Gives the layer the best epoch of each member, calibrated as the ensemble they are. See [`TrainingRun::finish`];
    /// the best losses in the report are the mean of the members' training losses and the validation loss of their
    /// mean answers, the best epoch is the first member's.
    ///
    /// # Errors
    ///
    /// Those of [`TrainingRun::finish`].
    pub fn finish(&mut self, poll: &mut dyn FnMut() -> Result<()>) -> Result<Report> {
        if let [run] = &mut self.runs[..] {
            return run.finish(poll);
        }
        self.check_alive()?;
        let best: Option<Vec<_>> = self.runs.iter().map(TrainingRun::best).collect();
        let best = best.ok_or_else(|| Error::Training("no epoch was finished".into()))?;
        let n = best.len() as f64;
        let train_loss = best.iter().map(|(metrics, _)| metrics.train_loss).sum::<f64>() / n;
        let best_epoch = best[0].0.epoch;
        let mut layer =
            DecisionLayer::of_members(best.into_iter().map(|(_, best)| best.clone()).collect())?;
        let (study, pool) = (&*self.runs[0].study, &*Pool::shared()?);
        let (val_loss, baseline) = study.while_open(poll, |poll| {
            let val_loss = study.validation_loss(&layer, best_epoch, pool, poll)?;
            study.calibrate(&mut layer, pool, poll)?;
            Ok((val_loss, baseline::measure(study, &layer, pool, poll)?))
        })?;
        let report = Report {
            epochs: self.history(),
            best: FinalMetrics { train_loss, val_loss, best_epoch },
            data: study.data.stats(),
            baseline,
        };
        if let Some(folder) = &self.folder {
            folder.save_best(&layer)?;
        }
        self.publish(layer);
        Ok(report)
    }

    fn check_alive(&self) -> Result<()> {
        if self.failed {
            return Err(ended());
        }
        self.runs.iter().try_for_each(TrainingRun::check_alive)
    }

    fn publish(&self, mut layer: DecisionLayer) {
        let mut shared = self.layer.write().unwrap_or_else(PoisonError::into_inner);
        if layer.inference() != shared.inference() {
            layer.set_inference(shared.inference()); // a checkpoint does not say
        }
        *shared = layer;
    }
}

/// The layers of an ensemble's members, as their runs begin.
///
/// # Errors
///
/// [`Error::Invalid`] where `given` learned with another number of members.
pub fn members_of(given: &DecisionLayer, members: usize) -> Result<Vec<DecisionLayer>> {
    if !(1..=MOST_MEMBERS).contains(&members) {
        return Err(Error::invalid("ensemble", "1 to 64", members));
    }
    let known = given.members();
    if known == members {
        return Ok((0..members).filter_map(|at| given.member(at)).collect());
    }
    if given.trained() || known > 1 {
        let expected = format!("{known}, as many networks as the layer that learned already has");
        return Err(Error::invalid("ensemble", expected, members));
    }
    let settings = given.settings();
    let member = |at: usize| {
        let mut member = DecisionLayer::new(LayerSettings {
            seed: settings.seed.wrapping_add(at as u64),
            ..settings.clone()
        })?;
        member.set_encoder(given.encoder().map(str::to_owned));
        member.set_timesteps(given.timesteps());
        Ok(member)
    };
    (0..members).map(member).collect()
}

/// The folder of a member's checkpoints, within that of the ensemble's.
pub fn member_folder(at: usize) -> String {
    format!("member-{at}")
}
