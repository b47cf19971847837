//! Options of a search, from Python, and its answers, to it.

use numpy::ndarray::Array2;
use numpy::{Element, PyArray2};
use precedent_core::Error;
use precedent_core::ids::RowKey;
use precedent_core::store::{Answer, SearchOptions, Store};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrays::matrix;
use crate::filter;
use crate::raise::Raised;
use crate::records::{self, Records};
use crate::settings::at_least;

type Result<T> = std::result::Result<T, Raised>;

/// Similarities, distances and the trajectories of one answer.
pub(crate) type Found<'py> = (Vec<f64>, Vec<f64>, Records<'py>);
/// Row keys and distances, `[q, k]` each.
pub(crate) type Ids<'py> = (Bound<'py, PyArray2<i64>>, Bound<'py, PyArray2<f32>>);

/// The options, ranges of integers checked.
pub(crate) fn options(
    k: i64,
    metric: Option<&str>,
    threshold: Option<f64>,
    filter: Option<&Bound<'_, PyDict>>,
    exact: bool,
    ef_search: Option<i64>,
) -> Result<SearchOptions> {
    Ok(SearchOptions {
        k: at_least("k", k, 1)?,
        metric: metric.map(str::parse).transpose()?,
        threshold,
        filter: filter::filter(filter)?,
        exact,
        ef_search: ef_search.map(|ef| at_least("ef_search", ef, 1)).transpose()?,
    })
}

/// The queries of a matrix, whose width must be the store's: a flat slice could no longer tell.
pub(crate) fn queries(store: &Store, queries: &Bound<'_, PyArray2<f32>>) -> Result<Vec<f32>> {
    let (queries, width) = matrix(queries)?;
    if width == store.dimension() {
        return Ok(queries);
    }
    Err(Error::Dimension { field: "states".into(), expected: store.dimension(), got: width }.into())
}

/// An answer with its records.
pub(crate) fn found<'py>(py: Python<'py>, store: &Store, answer: &Answer) -> Result<Found<'py>> {
    Ok((
        answer.hits.iter().map(|hit| hit.similarity).collect(),
        answer.hits.iter().map(|hit| hit.distance).collect(),
        records::write(py, &answer.rows, store.dimension(), store.action_dimension())?,
    ))
}

/// Answers without records, `k` for each query: -1 and infinity where there are fewer. Made before the search, so that
/// memory that is not there is told of before the work; filled without the interpreter.
pub(crate) struct Table {
    keys: Vec<i64>,
    distances: Vec<f32>,
    k: usize,
}

impl Table {
    pub(crate) fn new(queries: usize, k: usize) -> precedent_core::Result<Self> {
        let too_many =
            || Error::invalid("k", format!("so few that {queries} times as many fit in memory"), k);
        let len = queries.checked_mul(k).ok_or_else(too_many)?;
        let (mut keys, mut distances) = (Vec::new(), Vec::new());
        keys.try_reserve_exact(len).map_err(|_| too_many())?;
        distances.try_reserve_exact(len).map_err(|_| too_many())?;
        Ok(Self { keys, distances, k })
    }

    pub(crate) fn fill<T>(
        mut self,
        answers: &[Vec<T>],
        facts: impl Fn(&T) -> (RowKey, f32),
    ) -> Self {
        for (hits, end) in answers.iter().zip((1..).map(|rows| rows * self.k)) {
            for (key, distance) in hits.iter().map(&facts) {
                self.keys.push(key.0);
                self.distances.push(distance);
            }
            self.keys.resize(end, -1);
            self.distances.resize(end, f32::INFINITY);
        }
        self
    }

    pub(crate) fn into_arrays(self, py: Python<'_>) -> PyResult<Ids<'_>> {
        let shape = (self.keys.len() / self.k, self.k);
        Ok((shaped(py, shape, self.keys)?, shaped(py, shape, self.distances)?))
    }
}

/// One array object, where a vector that is reshaped would be two.
fn shaped<T: Element>(
    py: Python<'_>,
    shape: (usize, usize),
    numbers: Vec<T>,
) -> PyResult<Bound<'_, PyArray2<T>>> {
    let array = Array2::from_shape_vec(shape, numbers)
        .map_err(|why| PyRuntimeError::new_err(why.to_string()))?;
    Ok(PyArray2::from_owned_array(py, array))
}
