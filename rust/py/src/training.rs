//! Training runs.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use precedent_core::Error;
use precedent_core::nn::DecisionLayer;
use precedent_core::nn::trainer::{
    self, Curriculum, EnsembleRun as Run, EpochMetrics, Replay, Schedule, TrainerSettings,
};
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

use crate::filter;
use crate::layer::Layer;
use crate::raise::Raised;
use crate::settings::{get, size};
use crate::store::Store;

type Result<T> = std::result::Result<T, Raised>;

/// How often long work asks the interpreter whether Ctrl-C was pressed.
const PATIENCE: Duration = Duration::from_millis(50);

/// A training under way, epoch by epoch.
#[pyclass(frozen, module = "precedent._core")]
pub(crate) struct TrainingRun {
    run: Mutex<Run>,
    /// Set from any thread, read wherever the run asks whether to go on.
    stopped: AtomicBool,
}

#[pymethods]
impl TrainingRun {
    #[new]
    #[pyo3(signature = (store, layer, settings, members, filter, resume))]
    fn new(
        py: Python<'_>,
        store: &Store,
        layer: &Layer,
        settings: &Bound<'_, PyDict>,
        members: usize,
        filter: Option<&Bound<'_, PyDict>>,
        resume: bool,
    ) -> Result<Self> {
        let (settings, filter) = (trainer_settings(settings)?, filter::filter(filter)?);
        let (store, layer) = (Arc::clone(&store.core), layer.shared());
        let run = py.detach(|| Run::start(store, layer, settings, members, &filter, resume))?;
        Ok(Self { run: Mutex::new(run), stopped: AtomicBool::new(false) })
    }

    /// Ends the run within a batch, with a `KeyboardInterrupt` where it goes on; for other threads than that one.
    fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    fn next_epoch<'py>(&self, py: Python<'py>) -> Result<Option<Bound<'py, PyDict>>> {
        let epoch = interruptible(py, |poll| {
            self.run.lock().expect(UNPOISONED).next_epoch(&mut || {
                if self.stopped.load(Ordering::Relaxed) {
                    return Err(Error::Interrupted);
                }
                poll()
            })
        })?;
        Ok(epoch.map(|epoch| epoch_dict(py, &epoch)).transpose()?)
    }

    /// The epochs so far, and the layer of the best one as bytes; of a run of one member.
    fn outcome<'py>(
        &self,
        py: Python<'py>,
    ) -> Result<(Vec<Bound<'py, PyDict>>, Bound<'py, PyBytes>)> {
        let (history, best) = py.detach(|| {
            let run = self.run.lock().expect(UNPOISONED);
            let best = run.best().map(|(_, best)| best.to_bytes());
            let best = best.ok_or_else(|| Error::Training("no epoch was finished".into()));
            Ok::<_, Error>((run.history(), best??))
        })?;
        let history = history.iter().map(|epoch| epoch_dict(py, epoch)).collect::<PyResult<_>>()?;
        Ok((history, PyBytes::new(py, &best)))
    }

    /// Takes over what `outcome` told of a member whose run went on elsewhere.
    fn adopt(
        &self,
        py: Python<'_>,
        member: usize,
        history: &Bound<'_, PyList>,
        best: &[u8],
    ) -> Result<()> {
        let epoch = |told: Bound<'_, PyAny>| -> PyResult<EpochMetrics> {
            let told = told.cast::<PyDict>()?;
            Ok(EpochMetrics {
                epoch: get(told, "epoch")?,
                train_loss: get(told, "train_loss")?,
                val_loss: get(told, "val_loss")?,
                gradient_norm: get(told, "gradient_norm")?,
                duration: get(told, "duration")?,
            })
        };
        let history = history.iter().map(epoch).collect::<PyResult<_>>()?;
        Ok(py.detach(|| {
            let best = DecisionLayer::from_bytes(best)?;
            self.run.lock().expect(UNPOISONED).adopt(member, history, best)
        })?)
    }

    fn finish<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyDict>> {
        let report = interruptible(py, |poll| self.run.lock().expect(UNPOISONED).finish(poll))?;
        let epochs = report.epochs.iter().map(|epoch| epoch_dict(py, epoch));
        let epochs = epochs.collect::<PyResult<Vec<_>>>()?;
        let best = PyDict::new(py);
        best.set_item("train_loss", report.best.train_loss)?;
        best.set_item("val_loss", report.best.val_loss)?;
        best.set_item("best_epoch", report.best.best_epoch)?;
        let data = PyDict::new(py);
        data.set_item("total_trajectories", report.data.total_trajectories)?;
        data.set_item("train_size", report.data.train_size)?;
        data.set_item("val_size", report.data.val_size)?;
        data.set_item("avg_return", report.data.avg_return)?;
        let whole = PyDict::new(py);
        whole.set_item("epochs", epochs)?;
        whole.set_item("final", best)?;
        whole.set_item("data", data)?;
        let baseline = report.baseline.map(|baseline| -> PyResult<_> {
            let mapping = PyDict::new(py);
            mapping.set_item("neighbor_similarity", baseline.neighbor_similarity)?;
            mapping.set_item("layer_similarity", baseline.layer_similarity)?;
            mapping.set_item("train_size", baseline.training_size)?;
            mapping.set_item("val_size", baseline.validation_size)?;
            Ok(mapping)
        });
        whole.set_item("baseline", baseline.transpose()?)?;
        Ok(whole)
    }
}

const UNPOISONED: &str = "no holder of the run panics";

/// Which of these episodes a trainer with this split and seed holds out.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "the strings of a list can only be taken over")]
pub(crate) fn held_out(
    py: Python<'_>,
    names: Vec<String>,
    validation_split: f64,
    seed: u64,
) -> Vec<bool> {
    py.detach(|| trainer::validating(&names, validation_split, seed))
}

/// Runs `work` detached; it polls, and a signal that came in ends it with that signal's exception.
pub(crate) fn interruptible<T: Send>(
    py: Python<'_>,
    work: impl FnOnce(&mut dyn FnMut() -> precedent_core::Result<()>) -> precedent_core::Result<T>
    + Send,
) -> Result<T> {
    let mut signal = None;
    let mut asked = Instant::now();
    let outcome = py.detach(|| {
        work(&mut || {
            if asked.elapsed() < PATIENCE {
                return Ok(());
            }
            asked = Instant::now();
            Python::attach(|py| {
                py.check_signals().map_err(|raised| {
                    signal = Some(raised);
                    Error::Interrupted
                })
            })
        })
    });
    match (outcome, signal) {
        (Ok(done), Some(raised)) if raised.is_instance_of::<PyKeyboardInterrupt>(py) => {
            // It came when there was nothing left to end: what was done is told first, then it is raised again.
            py.import("_thread")?.call_method0("interrupt_main")?;
            Ok(done)
        }
        // that of an alarm, for example, is not lost where there was nothing left to end either
        (_, Some(raised)) => Err(raised.into()),
        (outcome, None) => Ok(outcome?),
    }
}

pub(crate) fn trainer_settings(settings: &Bound<'_, PyDict>) -> Result<TrainerSettings> {
    let curriculum: Option<(i64, i64)> = get(settings, "curriculum")?;
    let curriculum = curriculum.map(|(epochs, duration)| Curriculum {
        easy_epochs: epochs as u64,
        max_duration_ms: duration,
    });
    Ok(TrainerSettings {
        batch_size: size(settings, "batch_size")?,
        epochs: size(settings, "epochs")? as u64,
        validation_split: get(settings, "validation_split")?,
        early_stopping_patience: size(settings, "early_stopping_patience")? as u64,
        min_trajectories: size(settings, "min_trajectories")?,
        save_interval: size(settings, "save_interval")? as u64,
        save_path: get::<Option<PathBuf>>(settings, "save_path")?,
        gamma: get(settings, "gamma")?,
        curriculum,
        replay: Replay::parse(&get::<String>(settings, "replay")?)?,
        diversity_weight: get(settings, "diversity_weight")?,
        emphasis: get(settings, "emphasis")?,
        schedule: Schedule::parse(&get::<String>(settings, "schedule")?)?,
        warmup_steps: size(settings, "warmup_steps")? as u64,
        convergence_threshold: get(settings, "convergence_threshold")?,
        timesteps: get(settings, "timesteps")?,
        seed: get(settings, "seed")?,
    })
}

fn epoch_dict<'py>(py: Python<'py>, epoch: &EpochMetrics) -> PyResult<Bound<'py, PyDict>> {
    let mapping = PyDict::new(py);
    mapping.set_item("epoch", epoch.epoch)?;
    mapping.set_item("train_loss", epoch.train_loss)?;
    mapping.set_item("val_loss", epoch.val_loss)?;
    mapping.set_item("gradient_norm", epoch.gradient_norm)?;
    mapping.set_item("duration", epoch.duration)?;
    Ok(mapping)
}
