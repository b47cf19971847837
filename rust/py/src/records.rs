//! Trajectories one by one: the two matrices and a tuple a row, in the order that `precedent.records` unpacks.

use numpy::PyArray2;
use precedent_core::Rows;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use crate::arrays::frozen_matrix;

/// States, actions, one tuple a row.
pub(crate) type Records<'py> =
    (Bound<'py, PyArray2<f32>>, Bound<'py, PyArray2<f32>>, Bound<'py, PyList>);

/// Writes rows as records; `dimension` and `action_dimension` are the widths of the matrices.
pub(crate) fn write<'py>(
    py: Python<'py>,
    rows: &Rows,
    dimension: usize,
    action_dimension: usize,
) -> PyResult<Records<'py>> {
    let tuples = (0..rows.len).map(|i| tuple(py, rows, i)).collect::<PyResult<Vec<_>>>()?;
    Ok((
        frozen_matrix(py, rows.states.clone(), dimension)?,
        frozen_matrix(py, rows.actions.clone(), action_dimension)?,
        PyList::new(py, tuples)?,
    ))
}

fn tuple<'py>(py: Python<'py>, rows: &Rows, i: usize) -> PyResult<Bound<'py, PyTuple>> {
    let flag = |column: Option<&Vec<bool>>| column.is_some_and(|flags| flags[i]);
    let number = |column: Option<&Vec<Option<i64>>>| column.and_then(|values| values[i]);
    let fields: [Bound<'py, PyAny>; 19] = [
        rows.ids[i].to_string().into_pyobject(py)?.into_any(),
        rows.patterns.get(i).into_pyobject(py)?.into_any(),
        text(rows.action_metadata.as_ref(), i).into_pyobject(py)?,
        rows.rewards[i].into_pyobject(py)?.into_any(),
        Some(rows.returns[i]).filter(|value| !value.is_nan()).into_pyobject(py)?,
        rows.task_types.get(i).into_pyobject(py)?.into_any(),
        rows.episodes.get(i).into_pyobject(py)?.into_any(),
        number(rows.timestamps.as_ref()).into_pyobject(py)?,
        text(rows.task_ids.as_ref(), i).into_pyobject(py)?,
        number(rows.durations.as_ref()).into_pyobject(py)?,
        number(rows.tokens_used.as_ref()).into_pyobject(py)?,
        text(rows.agent_types.as_ref(), i).into_pyobject(py)?,
        number(rows.context_lengths.as_ref()).into_pyobject(py)?,
        number(rows.step_indices.as_ref()).into_pyobject(py)?,
        rows.successes.as_ref().and_then(|values| values[i]).into_pyobject(py)?,
        rows.qualities.as_ref().and_then(|values| values[i]).into_pyobject(py)?,
        flag(rows.terminated.as_ref()).into_pyobject(py)?.to_owned().into_any(),
        flag(rows.truncated.as_ref()).into_pyobject(py)?.to_owned().into_any(),
        text(rows.extras.as_ref(), i).into_pyobject(py)?,
    ];
    PyTuple::new(py, fields)
}

fn text(column: Option<&Vec<Option<String>>>, i: usize) -> Option<&str> {
    column.and_then(|values| values[i].as_deref())
}
