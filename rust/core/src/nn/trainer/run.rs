//! A run from its start, or its resumption, to its report.

use std::sync::{Arc, PoisonError, RwLock};

use super::baseline;
use super::checkpoint::{Checkpoint, Folder};
use super::data::Data;
use super::prioritized::Prioritized;
use super::report::{Course, EpochMetrics, FinalMetrics, Report};
use super::settings::{Replay, TrainerSettings};
use super::study::{Study, check_fit};
use super::vectors::{BUDGET, Vectors};
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::nn::{DecisionLayer, Experience};
use crate::pool::Pool;

/// One training run, epoch by epoch.
///
/// The layer is trained on a copy. At the end of each epoch the caller's layer is given that epoch's weights, so other
/// threads always see a finished epoch, and an error or an interruption leaves the last one.
pub struct TrainingRun {
    layer: Arc<RwLock<DecisionLayer>>,
    pub(super) work: DecisionLayer,
    best: Option<DecisionLayer>,
    /// Shared by the members of an ensemble.
    pub(super) study: Arc<Study>,
    pub(super) settings: TrainerSettings,
    pub(super) course: Course,
    /// The training steps of the curriculum's easy episodes.
    pub(super) easy: Option<Vec<u32>>,
    /// The losses by which samples are drawn, under prioritized replay; none before the first epoch.
    pub(super) prioritized: Option<Prioritized>,
    pub(super) history: Vec<EpochMetrics>,
    folder: Option<Folder>,
    /// Tells this run's data from others in a checkpoint.
    fingerprint: u64,
    pub(super) warm: bool,
    failed: bool,
}

impl TrainingRun {
    /// Chooses and splits the data, and restores the last checkpoint if `resume`. No vector is read yet.
    ///
    /// # Errors
    ///
    /// [`Error::InsufficientData`] where fewer steps match than `min_trajectories`, [`Error::Dimension`] or
    /// [`Error::EncoderMismatch`] where layer and store do not fit, [`Error::Training`] where a return is not finite.
    /// Resuming: [`Error::Io`] where there is no checkpoint, [`Error::Corrupt`] where it is damaged,
    /// [`Error::Invalid`] where settings, layer or data are not those of the run that is resumed.
    pub fn start(
        experience: Arc<dyn Experience + Send + Sync>,
        layer: Arc<RwLock<DecisionLayer>>,
        settings: TrainerSettings,
        filter: &Filter,
        resume: bool,
    ) -> Result<Self> {
        let settings = settings.checked()?;
        let work = layer.read().unwrap_or_else(PoisonError::into_inner).clone();
        check_fit(&*experience, &work)?;
        let data = Data::load(&*experience, filter, &settings, work.settings().return_scale)?;
        if data.selected() < settings.min_trajectories.max(1) {
            return Err(Error::InsufficientData {
                required: settings.min_trajectories.max(1),
                available: data.selected(),
            });
        }
        let easy = settings.curriculum.map(|curriculum| data.easy(&curriculum));
        if let (Some(easy), Some(curriculum)) = (&easy, settings.curriculum)
            && easy.is_empty()
        {
            return Err(Error::invalid(
                "curriculum.max_duration",
                "more milliseconds than the shortest training episode took",
                curriculum.max_duration_ms,
            ));
        }
        let vectors = Vectors::new(&data, work.settings());
        let (timesteps, emphasis) = (settings.timesteps, settings.emphasis);
        let study = Study { experience, data, vectors, timesteps, emphasis };
        Self::on((Arc::new(study), easy), (layer, work), settings, resume)
    }

    /// A run of another layer on the same data. Only the seed of its weights and the folder may differ.
    pub(super) fn beside(
        &self,
        layer: Arc<RwLock<DecisionLayer>>,
        settings: TrainerSettings,
        resume: bool,
    ) -> Result<Self> {
        let work = layer.read().unwrap_or_else(PoisonError::into_inner).clone();
        Self::on((Arc::clone(&self.study), self.easy.clone()), (layer, work), settings, resume)
    }

    fn on(
        (study, easy): (Arc<Study>, Option<Vec<u32>>),
        (layer, mut work): (Arc<RwLock<DecisionLayer>>, DecisionLayer),
        settings: TrainerSettings,
        resume: bool,
    ) -> Result<Self> {
        let folder = settings.save_path.as_deref().map(Folder::open).transpose()?;
        let course = Course {
            epochs: settings.epochs,
            patience: settings.early_stopping_patience,
            convergence_threshold: settings.convergence_threshold,
            easy_epochs: settings.curriculum.map_or(0, |curriculum| curriculum.easy_epochs),
        };
        if !work.trained() && work.settings().return_range.is_none() {
            work.set_return_range(study.data.return_range())?;
        }
        if let Some(encoder) = study.experience.encoder() {
            work.set_encoder(Some(encoder));
        }
        work.set_timesteps(study.timesteps);
        let mut run = Self {
            layer,
            work,
            best: None,
            fingerprint: study.data.fingerprint(),
            study,
            settings,
            course,
            easy,
            prioritized: None,
            history: Vec::new(),
            folder,
            warm: false,
            failed: false,
        };
        if resume {
            run.resume()?;
        }
        Ok(run)
    }

    /// Takes up the last checkpoint.
    fn resume(&mut self) -> Result<()> {
        let Some(folder) = &self.folder else {
            return Err(Error::invalid("resume", "a save_path that holds a checkpoint", "none"));
        };
        let Checkpoint { settings, fingerprint, history, layer, best, priorities } =
            folder.last()?;
        self.settings.continues(&settings)?;
        if fingerprint != self.fingerprint {
            return Err(Error::invalid(
                "resume",
                "the trajectories of the run that is resumed",
                "others: rows were added, changed or deleted, or the filter is another one",
            ));
        }
        let given = self.layer.read().unwrap_or_else(PoisonError::into_inner).settings().clone();
        let mut kept = layer.settings().clone();
        kept.return_range = given.return_range.and(kept.return_range); // None stands for the run's choice
        if given != kept {
            return Err(Error::invalid(
                "layer",
                format!("the settings of the run that is resumed, {kept:?}"),
                format!("{given:?}"),
            ));
        }
        if self.settings.replay == Replay::Prioritized {
            let easy = self.easy.as_deref();
            self.prioritized = Some(Prioritized::resumed(&self.study, easy, &priorities)?);
        }
        self.history = history;
        self.best = Some(best);
        self.work = layer;
        self.publish(self.work.clone());
        Ok(())
    }

    /// Batches in an epoch, once the curriculum is over.
    pub fn batches(&self) -> usize {
        self.study.data.train.len().div_ceil(self.settings.batch_size)
    }

    /// The epochs so far, those before a resumption too.
    pub fn history(&self) -> &[EpochMetrics] {
        &self.history
    }

    /// Trains one more epoch and gives its weights to the layer. `None` once the run is over: all epochs done, no
    /// improvement for the time of the patience, or converged. `poll` is called at least once a batch.
    ///
    /// # Errors
    ///
    /// What `poll` returns, [`Error::Closed`] where the store was closed, [`Error::Training`] where a loss is not finite,
    /// or what the store or a checkpoint's file cannot do. Each ends the run and leaves the last finished epoch's
    /// weights in the layer.
    pub fn next_epoch(
        &mut self,
        poll: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Option<EpochMetrics>> {
        self.next_epoch_on(&*Pool::shared()?, poll)
    }

    /// [`Self::next_epoch`] on these threads. No run keeps any: one that is paused lets them end.
    pub(super) fn next_epoch_on(
        &mut self,
        pool: &Pool,
        poll: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Option<EpochMetrics>> {
        self.check_alive()?;
        if self.is_over() {
            return Ok(None);
        }
        let study = Arc::clone(&self.study);
        let outcome = study
            .while_open(poll, |poll| self.train_epoch(pool, poll))
            .and_then(|metrics| self.keep_epoch(metrics));
        self.failed = outcome.is_err();
        outcome.map(Some)
    }

    /// Gives a finished epoch to the layer and to the folder.
    fn keep_epoch(&mut self, metrics: EpochMetrics) -> Result<EpochMetrics> {
        let epoch = metrics.epoch;
        self.history.push(metrics.clone());
        self.work.set_epoch(0);
        self.publish(self.work.clone());
        let improved = self.course.best(&self.history).is_some_and(|best| best.epoch == epoch);
        if improved {
            self.best = Some(self.work.clone());
        }
        if let (Some(folder), Some(best)) = (&self.folder, &self.best) {
            let own_file = epoch.is_multiple_of(self.settings.save_interval).then_some(epoch);
            if improved {
                folder.save_best(best)?;
            }
            let priorities = self.prioritized.as_ref().map_or_else(Vec::new, Prioritized::to_bytes);
            folder.save(
                &self.settings,
                self.fingerprint,
                &self.history,
                (&self.work, (!improved).then_some(best), &priorities),
                own_file,
            )?;
        }
        Ok(metrics)
    }

    /// Gives the layer the best epoch's weights, calibrated on what validates, and compares them with a nearest
    /// neighbour. May be called before the run is over.
    ///
    /// # Errors
    ///
    /// [`Error::Training`] where no epoch was finished or one failed, [`Error::Closed`] where the store was closed; what
    /// `poll` returns, with the last epoch's weights left in the layer.
    pub fn finish(&mut self, poll: &mut dyn FnMut() -> Result<()>) -> Result<Report> {
        self.finish_on(&*Pool::shared()?, poll)
    }

    /// [`Self::finish`] on these threads.
    pub(super) fn finish_on(
        &self,
        pool: &Pool,
        poll: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Report> {
        self.check_alive()?;
        self.study.while_open(poll, |poll| self.conclude(pool, poll))
    }

    fn conclude(&self, pool: &Pool, poll: &mut dyn FnMut() -> Result<()>) -> Result<Report> {
        let (Some(best), Some(metrics)) = (&self.best, self.course.best(&self.history)) else {
            return Err(Error::Training("no epoch was finished".into()));
        };
        let mut layer = best.clone();
        self.study.calibrate(&mut layer, pool, poll)?;
        let report = Report {
            epochs: self.history.clone(),
            best: FinalMetrics {
                train_loss: metrics.train_loss,
                val_loss: metrics.val_loss,
                best_epoch: metrics.epoch,
            },
            data: self.study.data.stats(),
            baseline: baseline::measure(&self.study, &layer, pool, poll)?,
        };
        if let Some(folder) = &self.folder {
            folder.save_best(&layer)?;
        }
        self.publish(layer);
        Ok(report)
    }

    /// The best epoch so far and the layer as it was then, not calibrated.
    pub fn best(&self) -> Option<(&EpochMetrics, &DecisionLayer)> {
        self.course.best(&self.history).zip(self.best.as_ref())
    }

    /// Takes over the epochs and the best layer of a run of the same settings that went on elsewhere.
    pub fn adopt(&mut self, history: Vec<EpochMetrics>, best: DecisionLayer) -> Result<()> {
        check_fit(&*self.study.experience, &best)?;
        self.history = history;
        self.work = best.clone();
        self.best = Some(best);
        Ok(())
    }

    /// Whether no further epoch follows.
    pub(super) fn is_over(&self) -> bool {
        self.course.is_over(&self.history)
    }

    /// Reads into memory what fits, once.
    pub(super) fn warm_up(&mut self, poll: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        if !self.warm {
            self.study.vectors.warm(BUDGET, &*self.study.experience, poll)?;
            self.warm = true;
        }
        Ok(())
    }

    fn publish(&self, mut layer: DecisionLayer) {
        let mut shared = self.layer.write().unwrap_or_else(PoisonError::into_inner);
        if layer.inference() != shared.inference() {
            layer.set_inference(shared.inference()); // a checkpoint does not say
        }
        *shared = layer;
    }

    pub(super) fn check_alive(&self) -> Result<()> {
        if self.failed {
            return Err(ended());
        }
        Ok(())
    }
}

/// What is said of a run that goes on no further.
pub(super) fn ended() -> Error {
    Error::Training("the run ended with an error; start or resume one".into())
}
