//! Encoders that need no model.

use numpy::PyArray2;
use precedent_core::rng::Rng;
use precedent_core::text;
use pyo3::prelude::*;

use crate::arrays::frozen_matrix;
use crate::raise::Raised;

/// Hashed word and character n-grams, one unit vector a text.
#[pyfunction]
pub(crate) fn hashing_encode(
    py: Python<'_>,
    texts: Vec<String>,
    dimension: usize,
) -> Result<Bound<'_, PyArray2<f32>>, Raised> {
    let vectors =
        py.detach(move || text::HashingEncoder::new(dimension).map(|e| e.encode(&texts)))?;
    Ok(frozen_matrix(py, vectors, dimension)?)
}

/// Standard normal numbers `[inputs, pairs]`, the same on every machine for one seed.
#[pyfunction]
pub(crate) fn fourier_frequencies(
    py: Python<'_>,
    inputs: usize,
    pairs: usize,
    seed: u64,
) -> PyResult<Bound<'_, PyArray2<f64>>> {
    let numbers = py.detach(|| {
        let rng = Rng::new(seed, 0);
        (0..(inputs * pairs) as u64).map(|position| rng.normal(position)).collect()
    });
    frozen_matrix(py, numbers, pairs)
}
