//! Arrays in and out. What comes in is copied, so that the interpreter may run while the core works; what goes out is
//! moved, not copied, and read-only.

use numpy::prelude::*;
use numpy::{Element, PyArray1, PyArray2};
use pyo3::prelude::*;

/// The numbers of a vector.
pub(crate) fn vector<T: Element + Copy>(array: &Bound<'_, PyArray1<T>>) -> PyResult<Vec<T>> {
    let array = array.try_readonly()?;
    Ok(match array.as_slice() {
        Ok(slice) => slice.to_vec(),
        Err(_) => array.as_array().iter().copied().collect(),
    })
}

/// The numbers of a matrix, row by row, with the row's width.
pub(crate) fn matrix<T: Element + Copy>(
    array: &Bound<'_, PyArray2<T>>,
) -> PyResult<(Vec<T>, usize)> {
    let array = array.try_readonly()?;
    let numbers = match array.as_slice() {
        Ok(slice) => slice.to_vec(),
        Err(_) => array.as_array().iter().copied().collect(),
    };
    Ok((numbers, array.shape()[1]))
}

/// A read-only vector.
pub(crate) fn frozen<T: Element>(py: Python<'_>, numbers: Vec<T>) -> Bound<'_, PyArray1<T>> {
    let array = PyArray1::from_vec(py, numbers);
    array.readwrite().make_nonwriteable();
    array
}

/// A read-only matrix of rows as wide as `width`.
pub(crate) fn frozen_matrix<T: Element>(
    py: Python<'_>,
    numbers: Vec<T>,
    width: usize,
) -> PyResult<Bound<'_, PyArray2<T>>> {
    let rows = numbers.len().checked_div(width).unwrap_or(0);
    let array = PyArray1::from_vec(py, numbers).reshape([rows, width])?;
    array.readwrite().make_nonwriteable();
    Ok(array)
}
