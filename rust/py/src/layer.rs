//! The decision layer.

use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};

use numpy::prelude::*;
use numpy::{PyArray1, PyArray2};
use precedent_core::Error;
use precedent_core::nn::trainer::members_of;
use precedent_core::nn::{Batch, DecisionLayer, Inference, Questions, StepMetrics};
use precedent_core::pool::Pool;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::arrays::{matrix, vector};
use crate::raise::Raised;
use crate::settings::{layer_mapping, layer_settings};

type Result<T> = std::result::Result<T, Raised>;
type Vector<'py, T = f32> = Bound<'py, PyArray1<T>>;
type Matrix<'py> = Bound<'py, PyArray2<f32>>;

const UNPOISONED: &str = "no holder of the layer panics";

/// Products of numbers from which on work is shared among threads: about a millisecond of one.
const FOR_THREADS: usize = 1 << 25;
/// What learning takes, beside answering, at the most: the way back through the layers, and the gradient by their weights.
const LEARNING: usize = 3;

/// A network that maps a state, a desired return and a context to an action.
#[pyclass(frozen, module = "precedent._core")]
pub(crate) struct Layer {
    core: Arc<RwLock<DecisionLayer>>,
    sizes: Sizes,
    /// From the first need on: threads take as long to begin and end as a step of a training loop.
    pool: Mutex<Option<Arc<Pool>>>,
}

/// What a layer is for its whole life, known without its lock: a trainer puts only layers of these sizes there.
#[derive(Clone, Copy)]
struct Sizes {
    state: usize,
    action: usize,
    hidden: usize,
    input: usize,
}

/// Questions that own their numbers.
struct Asked {
    states: Vec<f32>,
    returns: Vec<f64>,
    contexts: Option<Vec<f32>>,
    timesteps: Option<Vec<i64>>,
}

#[pymethods]
impl Layer {
    #[new]
    fn new(settings: &Bound<'_, PyDict>) -> Result<Self> {
        let core = DecisionLayer::new(layer_settings(settings)?)?;
        Ok(core.into())
    }

    #[getter]
    fn settings<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyDict>> {
        let settings = py.detach(|| self.read(|layer| layer.settings().clone()));
        layer_mapping(py, &settings)
    }

    #[getter]
    fn trained(&self, py: Python<'_>) -> bool {
        py.detach(|| self.read(DecisionLayer::trained))
    }

    #[getter]
    fn calibrated(&self, py: Python<'_>) -> bool {
        py.detach(|| self.read(DecisionLayer::calibrated))
    }

    #[getter]
    fn timesteps(&self, py: Python<'_>) -> bool {
        py.detach(|| self.read(DecisionLayer::timesteps))
    }

    #[getter]
    fn return_range(&self, py: Python<'_>) -> (f64, f64) {
        py.detach(|| self.read(DecisionLayer::return_range))
    }

    #[getter]
    fn encoder(&self, py: Python<'_>) -> Option<String> {
        py.detach(|| self.read(|layer| layer.encoder().map(str::to_owned)))
    }

    #[pyo3(signature = (fingerprint))]
    fn set_encoder(&self, py: Python<'_>, fingerprint: Option<String>) {
        py.detach(|| self.write(|layer| layer.set_encoder(fingerprint)));
    }

    #[getter]
    fn inference(&self, py: Python<'_>) -> &'static str {
        py.detach(|| self.read(|layer| layer.inference().name()))
    }

    fn set_inference(&self, py: Python<'_>, name: &str) -> Result<()> {
        let inference = Inference::parse(name)?;
        py.detach(|| self.write(|layer| layer.set_inference(inference)));
        Ok(())
    }

    #[getter]
    fn inference_error(&self, py: Python<'_>) -> f64 {
        py.detach(|| self.read(DecisionLayer::inference_error))
    }

    #[pyo3(signature = (state, desired_return, context, timestep))]
    fn predict<'py>(
        &self,
        py: Python<'py>,
        state: &Vector<'py>,
        desired_return: f64,
        context: Option<&Vector<'py>>,
        timestep: Option<i64>,
    ) -> Result<Bound<'py, PyArray1<f32>>> {
        let (state, context) = (vector(state)?, context.map(vector).transpose()?);
        let action = py.detach(|| {
            self.read(|layer| layer.predict(&state, desired_return, context.as_deref(), timestep))
        })?;
        Ok(PyArray1::from_vec(py, action))
    }

    #[pyo3(signature = (states, returns, contexts, timesteps))]
    fn predict_many<'py>(
        &self,
        py: Python<'py>,
        states: &Matrix<'py>,
        returns: &Vector<'py, f64>,
        contexts: Option<&Matrix<'py>>,
        timesteps: Option<&Vector<'py, i64>>,
    ) -> Result<Bound<'py, PyArray2<f32>>> {
        let asked = self.asked(states, returns, contexts, timesteps)?;
        let actions = py.detach(|| {
            let pool = self.pool_for(&asked, 1)?;
            self.read(|layer| layer.predict_many_on(&asked.questions(), pool.as_deref()))
        })?;
        self.rows(py, actions)
    }

    #[pyo3(signature = (state, desired_return, context, timestep, coverage))]
    #[expect(clippy::type_complexity, reason = "the tuple that `precedent.layer` unpacks")]
    fn predict_with_confidence<'py>(
        &self,
        py: Python<'py>,
        state: &Vector<'py>,
        desired_return: f64,
        context: Option<&Vector<'py>>,
        timestep: Option<i64>,
        coverage: f64,
    ) -> Result<(Bound<'py, PyArray1<f32>>, Option<f64>, Option<f64>, Option<f64>)> {
        let (state, context) = (vector(state)?, context.map(vector).transpose()?);
        let made = py.detach(|| {
            self.read(|layer| {
                let context = context.as_deref();
                layer.predict_with_confidence(&state, desired_return, context, timestep, coverage)
            })
        })?;
        let action = made.action;
        let (confidence, low, high) = made
            .confidence
            .map_or((None, None, None), |c| (Some(c.value), Some(c.low), Some(c.high)));
        Ok((PyArray1::from_vec(py, action), confidence, low, high))
    }

    #[pyo3(signature = (states, returns, contexts, timesteps))]
    fn inputs<'py>(
        &self,
        py: Python<'py>,
        states: &Matrix<'py>,
        returns: &Vector<'py, f64>,
        contexts: Option<&Matrix<'py>>,
        timesteps: Option<&Vector<'py, i64>>,
    ) -> Result<Bound<'py, PyArray2<f32>>> {
        let asked = self.asked(states, returns, contexts, timesteps)?;
        let inputs = py.detach(|| self.read(|layer| layer.inputs(&asked.questions())))?;
        shaped(py, inputs, self.sizes.input)
    }

    #[pyo3(signature = (states, actions, returns, contexts, timesteps))]
    fn calibrate(
        &self,
        py: Python<'_>,
        states: &Matrix<'_>,
        actions: &Matrix<'_>,
        returns: &Vector<'_, f64>,
        contexts: Option<&Matrix<'_>>,
        timesteps: Option<&Vector<'_, i64>>,
    ) -> Result<()> {
        let asked = self.asked(states, returns, contexts, timesteps)?;
        let actions = self.actions(actions)?;
        Ok(py.detach(|| {
            let (questions, pool) = (asked.questions(), self.pool_for(&asked, 1)?);
            let batch = Batch { questions, actions: &actions, weights: None };
            self.write(|layer| layer.calibrate_on(&batch, pool.as_deref()))
        })?)
    }

    #[pyo3(signature = (state, desired_return, context, timestep))]
    fn seed_confidence(
        &self,
        py: Python<'_>,
        state: &Vector<'_>,
        desired_return: f64,
        context: Option<&Vector<'_>>,
        timestep: Option<i64>,
    ) -> Result<f64> {
        let (state, context) = (vector(state)?, context.map(vector).transpose()?);
        Ok(py.detach(|| {
            self.read(|layer| {
                layer.seed_confidence(&state, desired_return, context.as_deref(), timestep)
            })
        })?)
    }

    #[pyo3(signature = (states, actions, returns, contexts, timesteps, weights))]
    #[expect(clippy::too_many_arguments, reason = "the arguments of the Python method, one by one")]
    fn train(
        &self,
        py: Python<'_>,
        states: &Matrix<'_>,
        actions: &Matrix<'_>,
        returns: &Vector<'_, f64>,
        contexts: Option<&Matrix<'_>>,
        timesteps: Option<&Vector<'_, i64>>,
        weights: Option<&Vector<'_>>,
    ) -> Result<(f64, f64, f64, u64)> {
        let asked = self.asked(states, returns, contexts, timesteps)?;
        let actions = self.actions(actions)?;
        let weights = weights.map(vector).transpose()?;
        let metrics = py.detach(|| {
            let batch = Batch {
                questions: asked.questions(),
                actions: &actions,
                weights: weights.as_deref(),
            };
            let pool = self.pool_for(&asked, LEARNING)?;
            self.write(|layer| layer.train_on(&batch, pool.as_deref()))
        })?;
        Ok(told(metrics))
    }

    #[pyo3(signature = (states, actions, returns, contexts, timesteps, weights))]
    #[expect(clippy::too_many_arguments, reason = "the arguments of the Python method, one by one")]
    fn gradient<'py>(
        &self,
        py: Python<'py>,
        states: &Matrix<'_>,
        actions: &Matrix<'_>,
        returns: &Vector<'_, f64>,
        contexts: Option<&Matrix<'_>>,
        timesteps: Option<&Vector<'_, i64>>,
        weights: Option<&Vector<'_>>,
    ) -> Result<(Bound<'py, PyArray1<f32>>, f64, f64)> {
        let asked = self.asked(states, returns, contexts, timesteps)?;
        let actions = self.actions(actions)?;
        let weights = weights.map(vector).transpose()?;
        let mut gradient = Vec::new();
        let told = py.detach(|| {
            let (questions, weights) = (asked.questions(), weights.as_deref());
            let batch = Batch { questions, actions: &actions, weights };
            let pool = self.pool_for(&asked, LEARNING)?;
            self.write(|layer| layer.gradient_on(&batch, &mut gradient, pool.as_deref()))
        })?;
        Ok((PyArray1::from_vec(py, gradient), told.loss, told.weight))
    }

    fn apply(
        &self,
        py: Python<'_>,
        gradient: &Vector<'_>,
        loss: f64,
    ) -> Result<(f64, f64, f64, u64)> {
        let gradient = vector(gradient)?;
        let metrics = py.detach(|| self.write(|layer| layer.apply(&gradient, loss)))?;
        Ok(told(metrics))
    }

    #[expect(clippy::type_complexity, reason = "the tuple that `precedent.layer` unpacks")]
    fn weights<'py>(
        &self,
        py: Python<'py>,
    ) -> Result<(
        Bound<'py, PyArray2<f32>>,
        Bound<'py, PyArray1<f32>>,
        Bound<'py, PyArray2<f32>>,
        Bound<'py, PyArray1<f32>>,
    )> {
        let [w1, b1, w2, b2] =
            py.detach(|| self.read(|layer| layer.weights().map(<[f32]>::to_vec)));
        Ok((
            shaped(py, w1, self.sizes.hidden)?,
            PyArray1::from_vec(py, b1),
            shaped(py, w2, self.sizes.action)?,
            PyArray1::from_vec(py, b2),
        ))
    }

    fn set_weights(
        &self,
        py: Python<'_>,
        w1: &Matrix<'_>,
        b1: &Vector<'_>,
        w2: &Matrix<'_>,
        b2: &Vector<'_>,
    ) -> Result<()> {
        let ((w1, w1_width), (w2, w2_width)) = (matrix(w1)?, matrix(w2)?);
        width("W1", w1_width, self.sizes.hidden)?;
        width("W2", w2_width, self.sizes.action)?;
        let (b1, b2) = (vector(b1)?, vector(b2)?);
        Ok(py.detach(|| self.write(|layer| layer.set_weights([&w1, &b1, &w2, &b2])))?)
    }

    fn context_of<'py>(
        &self,
        py: Python<'py>,
        states: &Matrix<'py>,
        actions: &Matrix<'py>,
    ) -> Result<Bound<'py, PyArray2<f32>>> {
        let states = self.states("states", states)?;
        let actions = self.actions(actions)?;
        let contexts = py.detach(|| self.read(|layer| layer.context_of(&states, &actions)))?;
        shaped(py, contexts, self.sizes.state)
    }

    fn save(&self, py: Python<'_>, path: &str) -> Result<()> {
        Ok(py.detach(|| self.read(|layer| layer.save(Path::new(path))))?)
    }

    #[staticmethod]
    fn load(py: Python<'_>, path: &str) -> Result<Self> {
        Ok(py.detach(|| DecisionLayer::load(Path::new(path)))?.into())
    }

    /// What `save` writes.
    fn to_bytes<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyBytes>> {
        let bytes = py.detach(|| self.read(DecisionLayer::to_bytes))?;
        Ok(PyBytes::new(py, &bytes))
    }

    #[staticmethod]
    fn from_bytes(py: Python<'_>, saved: &[u8]) -> Result<Self> {
        Ok(py.detach(|| DecisionLayer::from_bytes(saved))?.into())
    }

    /// The networks whose mean answers, each as a layer of its own.
    #[getter]
    fn members(&self, py: Python<'_>) -> Vec<Self> {
        py.detach(|| {
            self.read(|layer| {
                (0..layer.members()).filter_map(|at| layer.member(at)).map(Self::from).collect()
            })
        })
    }

    /// The layers with which a run of `members` begins.
    fn members_for(&self, py: Python<'_>, members: usize) -> Result<Vec<Self>> {
        let layers = py.detach(|| self.read(|layer| members_of(layer, members)))?;
        Ok(layers.into_iter().map(Self::from).collect())
    }

    fn export_safetensors(&self, py: Python<'_>, path: &str) -> Result<()> {
        Ok(py.detach(|| self.read(|layer| layer.export_safetensors(Path::new(path))))?)
    }

    #[staticmethod]
    fn from_safetensors(py: Python<'_>, path: &str) -> Result<Self> {
        Ok(py.detach(|| DecisionLayer::from_safetensors(Path::new(path)))?.into())
    }
}

impl Layer {
    /// The layer itself, for a trainer that shares it.
    pub(crate) fn shared(&self) -> Arc<RwLock<DecisionLayer>> {
        Arc::clone(&self.core)
    }

    /// Call it detached: another thread may hold the lock and wait for the interpreter.
    fn read<T>(&self, look: impl FnOnce(&DecisionLayer) -> T) -> T {
        look(&self.core.read().expect(UNPOISONED))
    }

    /// Call it detached, like [`Self::read`].
    fn write<T>(&self, change: impl FnOnce(&mut DecisionLayer) -> T) -> T {
        change(&mut self.core.write().expect(UNPOISONED))
    }

    /// The threads for something that takes so many times what answering takes; none where waking them would take longer
    /// than they save.
    fn pool_for(&self, asked: &Asked, times: usize) -> precedent_core::Result<Option<Arc<Pool>>> {
        let Sizes { state, action, hidden, .. } = self.sizes;
        let products = asked.states.len() / state * (2 * state + action) * hidden;
        if products * times < FOR_THREADS {
            return Ok(None);
        }
        let mut pool = self.pool.lock().expect("making a pool does not panic");
        if !pool.as_ref().is_some_and(|pool| pool.runs_here()) {
            *pool = Some(Pool::of_layers()?);
        }
        Ok(pool.clone())
    }

    fn asked(
        &self,
        states: &Matrix<'_>,
        returns: &Vector<'_, f64>,
        contexts: Option<&Matrix<'_>>,
        timesteps: Option<&Vector<'_, i64>>,
    ) -> Result<Asked> {
        Ok(Asked {
            states: self.states("states", states)?,
            returns: vector(returns)?,
            contexts: contexts.map(|contexts| self.states("contexts", contexts)).transpose()?,
            timesteps: timesteps.map(vector).transpose()?,
        })
    }

    fn states(&self, name: &str, states: &Matrix<'_>) -> Result<Vec<f32>> {
        let (numbers, got) = matrix(states)?;
        width(name, got, self.sizes.state)?;
        Ok(numbers)
    }

    fn actions(&self, actions: &Matrix<'_>) -> Result<Vec<f32>> {
        let (numbers, got) = matrix(actions)?;
        width("actions", got, self.sizes.action)?;
        Ok(numbers)
    }

    fn rows<'py>(&self, py: Python<'py>, actions: Vec<f32>) -> Result<Bound<'py, PyArray2<f32>>> {
        shaped(py, actions, self.sizes.action)
    }
}

impl From<DecisionLayer> for Layer {
    fn from(layer: DecisionLayer) -> Self {
        let settings = layer.settings();
        let sizes = Sizes {
            state: settings.state_size,
            action: settings.action_size,
            hidden: settings.hidden_size,
            input: settings.input_size(),
        };
        Self { core: Arc::new(RwLock::new(layer)), sizes, pool: Mutex::default() }
    }
}

impl Asked {
    fn questions(&self) -> Questions<'_> {
        Questions {
            states: &self.states,
            returns: &self.returns,
            contexts: self.contexts.as_deref(),
            timesteps: self.timesteps.as_deref(),
        }
    }
}

/// The metrics of a step as the tuple that `precedent.layer` unpacks.
fn told(metrics: StepMetrics) -> (f64, f64, f64, u64) {
    let StepMetrics { loss, gradient_norm, learning_rate, epoch } = metrics;
    (loss, gradient_norm, learning_rate, epoch)
}

/// A matrix is as wide as the layer is made for; once flattened, nobody could tell.
fn width(name: &str, got: usize, expected: usize) -> Result<()> {
    if got == expected {
        return Ok(());
    }
    Err(Error::Dimension { field: name.to_owned(), expected, got }.into())
}

fn shaped(py: Python<'_>, numbers: Vec<f32>, width: usize) -> Result<Bound<'_, PyArray2<f32>>> {
    let rows = numbers.len() / width;
    Ok(PyArray1::from_vec(py, numbers).reshape([rows, width])?)
}
