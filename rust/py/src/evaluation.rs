//! Evaluations, whole or part by part.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use numpy::{PyArray1, PyArray2};
use precedent_core::Error;
use precedent_core::nn::Experience;
use precedent_core::nn::trainer::{Assessment, Findings, Predictions, Scope};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::arrays::{frozen, frozen_matrix, matrix, vector};
use crate::filter;
use crate::layer::Layer;
use crate::raise::Raised;
use crate::store::Store;
use crate::training::{interruptible, trainer_settings};

type Result<T> = std::result::Result<T, Raised>;

/// What `measure` found, by columns: fingerprint, similarities, right, signs, and the actions taken and predicted.
type Found<'py> = (
    u64,
    Bound<'py, PyArray1<f64>>,
    Bound<'py, PyArray1<bool>>,
    Bound<'py, PyArray2<f64>>,
    Option<(Bound<'py, PyArray2<f32>>, Bound<'py, PyArray2<f32>>)>,
);

/// The signs of an answer's worth that the core tells.
const SIGNS: usize = 3;

/// An evaluation of a layer on held-out episodes. Its parts may be measured anywhere, and are joined here.
#[pyclass(frozen, module = "precedent._core")]
pub(crate) struct Evaluation {
    assessment: Assessment,
    action_size: usize,
    /// Set from any thread, read wherever a part asks whether to go on.
    stopped: AtomicBool,
}

#[pymethods]
impl Evaluation {
    #[new]
    #[expect(
        clippy::too_many_arguments,
        reason = "the arguments of `OfflineTrainer.evaluate`, and what it keeps"
    )]
    #[pyo3(signature = (store, layer, settings, filter, trained_on, include_training, keep_predictions))]
    fn new(
        py: Python<'_>,
        store: &Store,
        layer: &Layer,
        settings: &Bound<'_, PyDict>,
        filter: Option<&Bound<'_, PyDict>>,
        trained_on: &Bound<'_, PyList>,
        include_training: bool,
        keep_predictions: bool,
    ) -> Result<Self> {
        let settings = trainer_settings(settings)?;
        let trained_on = trained_on
            .iter()
            .map(|given| filter::filter(given.cast::<PyDict>().ok()))
            .collect::<std::result::Result<Vec<_>, _>>()?;
        let scope = Scope {
            filter: filter::filter(filter)?,
            trained_on,
            include_training,
            keep_predictions,
        };
        let (experience, layer) =
            (Arc::clone(&store.core) as Arc<dyn Experience + Send + Sync>, layer.shared());
        let action_size = experience.action_size();
        let assessment = py.detach(|| {
            let layer = layer.read().expect("no holder of the layer panics").clone();
            Assessment::start(experience, layer, &settings, &scope)
        })?;
        Ok(Self { assessment, action_size, stopped: AtomicBool::new(false) })
    }

    /// At most `parts` parts of whole episodes: from which step on, and up to which.
    fn parts(&self, py: Python<'_>, parts: usize) -> Vec<(usize, usize)> {
        let parts = py.detach(|| self.assessment.parts(parts));
        parts.into_iter().map(|part| (part.start, part.end)).collect()
    }

    /// Ends every part that is being measured, within a batch, with a `KeyboardInterrupt`; for other threads than that one.
    fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    fn measure<'py>(&self, py: Python<'py>, start: usize, end: usize) -> Result<Found<'py>> {
        let found = interruptible(py, |poll| {
            self.assessment.measure(start..end, &mut || {
                if self.stopped.load(Ordering::Relaxed) {
                    return Err(Error::Interrupted);
                }
                poll()
            })
        })?;
        let signs = found.signs.into_flattened();
        let kept = found.kept.map(|kept| -> PyResult<_> {
            let actions = |numbers| frozen_matrix(py, numbers, self.action_size);
            Ok((actions(kept.true_actions)?, actions(kept.predicted_actions)?))
        });
        Ok((
            found.of,
            frozen(py, found.similarities),
            frozen(py, found.right),
            frozen_matrix(py, signs, SIGNS)?,
            kept.transpose()?,
        ))
    }

    /// The report on what `measure` found in all parts, in their order.
    fn conclude<'py>(&self, py: Python<'py>, parts: Vec<Found<'py>>) -> Result<Bound<'py, PyDict>> {
        let found = parts.into_iter().map(|(of, similarities, right, signs, kept)| {
            let (signs, _) = matrix(&signs)?;
            let kept = kept.map(|(taken, predicted)| -> PyResult<_> {
                let similarities = Vec::new();
                let (true_actions, predicted_actions) = (matrix(&taken)?.0, matrix(&predicted)?.0);
                Ok(Predictions { true_actions, predicted_actions, similarities })
            });
            Ok(Findings {
                of,
                similarities: vector(&similarities)?,
                right: vector(&right)?,
                signs: signs.as_chunks::<SIGNS>().0.to_vec(),
                kept: kept.transpose()?,
            })
        });
        let found = found.collect::<PyResult<Vec<_>>>()?;
        let report = py.detach(|| self.assessment.conclude(found))?;
        let whole = PyDict::new(py);
        whole.set_item("accuracy", report.overall.accuracy)?;
        whole.set_item("avg_similarity", report.overall.avg_similarity)?;
        let types = PyDict::new(py);
        for (name, part) in report.per_task_type {
            types.set_item(name, (part.accuracy, part.avg_similarity, part.count))?;
        }
        whole.set_item("per_task_type", types)?;
        whole.set_item("calibration_error", report.calibration_error)?;
        let bins: Vec<_> =
            report.reliability.iter().map(|b| (b.confidence, b.similarity, b.count)).collect();
        whole.set_item("reliability", bins)?;
        whole.set_item("risk_coverage", report.risk_coverage)?;
        let predictions = report.predictions.map(|kept| -> PyResult<_> {
            Ok((
                frozen_matrix(py, kept.true_actions, self.action_size)?,
                frozen_matrix(py, kept.predicted_actions, self.action_size)?,
                frozen(py, kept.similarities),
            ))
        });
        whole.set_item("predictions", predictions.transpose()?)?;
        Ok(whole)
    }
}
