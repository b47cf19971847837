//! The patterns of a store.

use std::sync::Arc;

use numpy::PyArray1;
use precedent_core::store::{PatternRecord, Store as Core};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrays::{frozen, vector};
use crate::filter;
use crate::raise::Raised;
use crate::settings::at_least;
use crate::store::Store;
use crate::store::awaken;

type Result<T> = std::result::Result<T, Raised>;

/// `pattern_id`, name, payload as JSON, embedding, uses, successes, mean reward.
type Row<'py> = (
    String,
    Option<String>,
    Option<String>,
    Option<Bound<'py, PyArray1<f32>>>,
    u64,
    u64,
    Option<f64>,
);

/// What actions are called and what becomes of them, as long as the store is open.
#[pyclass(frozen, module = "precedent._core")]
pub(crate) struct Patterns {
    core: Arc<Core>,
}

#[pymethods]
impl Patterns {
    #[new]
    fn new(store: &Store) -> Self {
        Self { core: Arc::clone(&store.core) }
    }

    #[pyo3(signature = (pattern_id, embedding, name, payload))]
    fn upsert(
        &self,
        py: Python<'_>,
        pattern_id: &str,
        embedding: Option<&Bound<'_, PyArray1<f32>>>,
        name: Option<&str>,
        payload: Option<&str>,
    ) -> Result<()> {
        let embedding = embedding.map(vector).transpose()?;
        Ok(py
            .detach(|| self.core.upsert_pattern(pattern_id, embedding.as_deref(), name, payload))?)
    }

    fn get<'py>(&self, py: Python<'py>, pattern_id: &str) -> Result<Row<'py>> {
        let pattern = py.detach(|| self.core.get_pattern(pattern_id))?;
        Ok(tuple(py, pattern))
    }

    fn delete(&self, py: Python<'_>, pattern_id: &str) -> Result<()> {
        Ok(py.detach(|| self.core.delete_pattern(pattern_id))?)
    }

    fn count(&self, py: Python<'_>) -> Result<usize> {
        Ok(py.detach(|| self.core.pattern_count())?)
    }

    fn ids(&self, py: Python<'_>) -> Result<Vec<String>> {
        Ok(py.detach(|| self.core.pattern_ids())?)
    }

    fn search<'py>(
        &self,
        py: Python<'py>,
        embedding: &Bound<'py, PyArray1<f32>>,
        k: i64,
    ) -> Result<Vec<(f64, Row<'py>)>> {
        let (embedding, k) = (vector(embedding)?, at_least("k", k, 1)?);
        let found = py.detach(|| self.core.search_patterns(&embedding, k))?;
        Ok(found
            .into_iter()
            .map(|(pattern, similarity)| (similarity, tuple(py, pattern)))
            .collect())
    }

    #[pyo3(signature = (state, k, neighbors, min_similarity, filter))]
    #[expect(clippy::type_complexity, reason = "the tuple that `precedent.patterns` unpacks")]
    fn matching<'py>(
        &self,
        py: Python<'py>,
        state: &Bound<'py, PyArray1<f32>>,
        k: i64,
        neighbors: i64,
        min_similarity: f64,
        filter: Option<&Bound<'py, PyDict>>,
    ) -> Result<Vec<(f64, f64, f64, f64, Row<'py>)>> {
        let (state, filter) = (vector(state)?, filter::filter(filter)?);
        let (k, neighbors) = (at_least("k", k, 1)?, at_least("neighbors", neighbors, 1)?);
        awaken(py, &self.core)?;
        let found =
            py.detach(|| self.core.match_patterns(&state, k, neighbors, min_similarity, &filter))?;
        Ok(found
            .into_iter()
            .map(|m| (m.similarity, m.score, m.low, m.high, tuple(py, m.pattern)))
            .collect())
    }
}

fn tuple(py: Python<'_>, pattern: PatternRecord) -> Row<'_> {
    (
        pattern.pattern_id,
        pattern.name,
        pattern.payload,
        pattern.embedding.map(|embedding| frozen(py, embedding)),
        pattern.uses as u64,
        pattern.successes as u64,
        pattern.mean_reward,
    )
}
