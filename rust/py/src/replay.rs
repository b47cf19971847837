//! Prioritized replay.

use std::path::Path;
use std::sync::Mutex;

use numpy::PyArray1;
use precedent_core::replay::{Draws, PrioritizedReplay, ReplaySettings};
use pyo3::prelude::*;

use crate::arrays::{frozen, vector};
use crate::raise::Raised;

type Result<T> = std::result::Result<T, Raised>;

const UNPOISONED: &str = "no holder of the replay panics";

/// Priorities of the caller's items, and draws by them.
#[pyclass(frozen, module = "precedent._core")]
pub(crate) struct Replay {
    core: Mutex<PrioritizedReplay>,
}

type Drawn<'py> = (Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<f32>>, Bound<'py, PyArray1<f64>>);

#[pymethods]
impl Replay {
    #[new]
    #[pyo3(signature = (capacity, alpha, eps, beta_steps, seed))]
    fn new(
        capacity: usize,
        alpha: f64,
        eps: f64,
        beta_steps: Option<u64>,
        seed: u64,
    ) -> Result<Self> {
        Ok(PrioritizedReplay::new(ReplaySettings { capacity, alpha, eps, beta_steps, seed })?
            .into())
    }

    /// Capacity, alpha, eps, `beta_steps` and seed.
    #[getter]
    fn settings(&self, py: Python<'_>) -> (usize, f64, f64, Option<u64>, u64) {
        let ReplaySettings { capacity, alpha, eps, beta_steps, seed } =
            py.detach(|| self.read(|replay| replay.settings().clone()));
        (capacity, alpha, eps, beta_steps, seed)
    }

    #[getter]
    fn size(&self, py: Python<'_>) -> usize {
        py.detach(|| self.read(PrioritizedReplay::len))
    }

    #[getter]
    fn beta(&self, py: Python<'_>) -> f64 {
        py.detach(|| self.read(PrioritizedReplay::beta))
    }

    #[pyo3(signature = (n, priorities))]
    fn add<'py>(
        &self,
        py: Python<'py>,
        n: usize,
        priorities: Option<&Bound<'py, PyArray1<f64>>>,
    ) -> Result<Bound<'py, PyArray1<i64>>> {
        let priorities = priorities.map(vector).transpose()?;
        let places = py.detach(|| self.write(|replay| replay.add(n, priorities.as_deref())))?;
        Ok(frozen(py, places))
    }

    #[pyo3(signature = (n, beta, replace))]
    fn sample<'py>(
        &self,
        py: Python<'py>,
        n: usize,
        beta: Option<f64>,
        replace: bool,
    ) -> Result<Drawn<'py>> {
        let mut draws = Draws::default();
        py.detach(|| self.write(|replay| replay.sample(n, beta, replace, &mut draws)))?;
        let Draws { indices, weights, priorities, .. } = draws;
        Ok((frozen(py, indices), frozen(py, weights), frozen(py, priorities)))
    }

    #[pyo3(signature = (indices, td_errors))]
    fn update(
        &self,
        py: Python<'_>,
        indices: &Bound<'_, PyArray1<i64>>,
        td_errors: &Bound<'_, PyArray1<f64>>,
    ) -> Result<()> {
        let (indices, errors) = (vector(indices)?, vector(td_errors)?);
        Ok(py.detach(|| self.write(|replay| replay.update(&indices, &errors)))?)
    }

    fn save(&self, py: Python<'_>, path: &str) -> Result<()> {
        Ok(py.detach(|| self.read(|replay| replay.save(Path::new(path))))?)
    }

    #[staticmethod]
    fn load(py: Python<'_>, path: &str) -> Result<Self> {
        Ok(py.detach(|| PrioritizedReplay::load(Path::new(path)))?.into())
    }
}

impl Replay {
    fn read<T>(&self, work: impl FnOnce(&PrioritizedReplay) -> T) -> T {
        work(&self.core.lock().expect(UNPOISONED))
    }

    fn write<T>(&self, work: impl FnOnce(&mut PrioritizedReplay) -> T) -> T {
        work(&mut self.core.lock().expect(UNPOISONED))
    }
}

impl From<PrioritizedReplay> for Replay {
    fn from(core: PrioritizedReplay) -> Self {
        Self { core: Mutex::new(core) }
    }
}
