//! The codes of a store's graph.

use std::sync::Arc;

use numpy::prelude::*;
use numpy::{PyArray1, PyArray2};
use precedent_core::hnsw::Role;
use precedent_core::store::Store as Core;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrays::matrix;
use crate::filter;
use crate::raise::Raised;
use crate::search::{Ids, Table};
use crate::settings::at_least;
use crate::training::interruptible;

type Result<T> = std::result::Result<T, Raised>;

/// States as codes and back, and searches by codes alone.
#[pyclass(frozen, module = "precedent._core")]
pub(crate) struct Quantizer {
    pub(crate) core: Arc<Core>,
}

#[pymethods]
impl Quantizer {
    fn bytes_per_vector(&self, query: bool) -> Result<usize> {
        Ok(self.core.code_bytes(role(query))?)
    }

    fn encode<'py>(
        &self,
        py: Python<'py>,
        states: &Bound<'py, PyArray2<f32>>,
        query: bool,
    ) -> Result<Bound<'py, PyArray2<u8>>> {
        let (states, _) = matrix(states)?;
        let rows = states.len() / self.core.dimension();
        let codes = py.detach(|| self.core.encode(&states, role(query)))?;
        let bytes = self.core.code_bytes(role(query))?;
        Ok(PyArray1::from_vec(py, codes).reshape([rows, bytes])?)
    }

    fn decode<'py>(
        &self,
        py: Python<'py>,
        codes: &Bound<'py, PyArray2<u8>>,
    ) -> Result<Bound<'py, PyArray2<f32>>> {
        let (codes, _) = matrix(codes)?;
        let states = py.detach(|| self.core.decode(&codes))?;
        let wide = self.core.dimension();
        let rows = states.len() / wide;
        Ok(PyArray1::from_vec(py, states).reshape([rows, wide])?)
    }

    #[pyo3(signature = (codes, k, filter))]
    fn search<'py>(
        &self,
        py: Python<'py>,
        codes: &Bound<'py, PyArray2<u8>>,
        k: i64,
        filter: Option<&Bound<'py, PyDict>>,
    ) -> Result<Ids<'py>> {
        let (codes, _) = matrix(codes)?;
        let (k, filter) = (at_least("k", k, 1)?, filter::filter(filter)?);
        let answers = interruptible(py, |poll| {
            let table = Table::new(codes.len() / self.core.code_bytes(Role::Query)?, k)?;
            let found = self.core.search_quantized(&codes, k, &filter, poll)?;
            Ok(table.fill(&found, |estimate| *estimate))
        })?;
        Ok(answers.into_arrays(py)?)
    }
}

fn role(query: bool) -> Role {
    if query { Role::Query } else { Role::Row }
}
