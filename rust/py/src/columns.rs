//! Trajectories by columns, from Python and to it: a dict with one entry a field.

use std::collections::HashMap;

use numpy::prelude::*;
use numpy::{PyArray1, PyArray2};
use precedent_core::{Labels, Rows};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};

use crate::arrays::{frozen, frozen_matrix, matrix, vector};

/// Reads the columns that `precedent.columns` has checked.
pub(crate) fn read(columns: &Bound<'_, PyDict>) -> PyResult<Rows> {
    let states: Bound<'_, PyArray2<f32>> = required(columns, "states")?.extract()?;
    let actions: Bound<'_, PyArray2<f32>> = required(columns, "actions")?.extract()?;
    let len = states.shape()[0];
    let rewards: Bound<'_, PyArray1<f64>> = required(columns, "rewards")?.extract()?;
    let returns = match optional(columns, "returns_to_go")? {
        Some(given) => vector(given.cast()?)?,
        None => vec![f64::NAN; len],
    };
    Ok(Rows {
        len,
        states: matrix(&states)?.0,
        actions: matrix(&actions)?.0,
        rewards: vector(&rewards)?,
        returns,
        patterns: labels(&required(columns, "pattern_ids")?, len)?,
        episodes: labels(&required(columns, "episode_ids")?, len)?,
        task_types: labels(&required(columns, "task_types")?, len)?,
        timestamps: maybe(columns, "timestamps")?,
        step_indices: maybe(columns, "step_indices")?,
        terminated: flags(columns, "terminated")?,
        truncated: flags(columns, "truncated")?,
        durations: maybe(columns, "durations")?,
        tokens_used: maybe(columns, "tokens_used")?,
        context_lengths: maybe(columns, "context_lengths")?,
        agent_types: match optional(columns, "agent_types")? {
            Some(one) if one.is_instance_of::<PyString>() => Some(vec![Some(one.extract()?); len]),
            Some(each) => Some(each.extract()?),
            None => None,
        },
        task_ids: extracted(columns, "task_ids")?,
        successes: maybe(columns, "successes")?,
        qualities: maybe(columns, "qualities")?,
        extras: extracted(columns, "extras")?,
        action_metadata: extracted(columns, "action_metadata")?,
        ids: Vec::new(),
        keys: Vec::new(),
    })
}

/// The width of a matrix column, which [`Rows`] does not keep.
pub(crate) fn width(columns: &Bound<'_, PyDict>, name: &str) -> PyResult<usize> {
    let column = required(columns, name)?;
    Ok(column.cast::<PyArray2<f32>>()?.shape()[1])
}

/// Writes columns as read-only arrays and lists; `dimension` and `action_dimension` are the widths of the matrices.
pub(crate) fn write(
    py: Python<'_>,
    rows: Rows,
    dimension: usize,
    action_dimension: usize,
) -> PyResult<Bound<'_, PyDict>> {
    let columns = PyDict::new(py);
    columns.set_item("states", frozen_matrix(py, rows.states, dimension)?)?;
    columns.set_item("actions", frozen_matrix(py, rows.actions, action_dimension)?)?;
    columns.set_item("rewards", frozen(py, rows.rewards))?;
    columns.set_item("returns_to_go", frozen(py, rows.returns))?;
    columns.set_item("pattern_ids", names(py, &rows.patterns)?)?;
    columns.set_item("episode_ids", names(py, &rows.episodes)?)?;
    columns.set_item("task_types", names(py, &rows.task_types)?)?;
    columns.set_item("timestamps", dense(py, rows.timestamps)?)?;
    columns.set_item("step_indices", dense(py, rows.step_indices)?)?;
    columns.set_item("terminated", rows.terminated.map(|flags| frozen(py, flags)))?;
    columns.set_item("truncated", rows.truncated.map(|flags| frozen(py, flags)))?;
    columns.set_item("durations", dense(py, rows.durations)?)?;
    columns.set_item("tokens_used", dense(py, rows.tokens_used)?)?;
    columns.set_item("context_lengths", dense(py, rows.context_lengths)?)?;
    columns.set_item("agent_types", present(rows.agent_types))?;
    columns.set_item("task_ids", present(rows.task_ids))?;
    columns.set_item("successes", dense(py, rows.successes)?)?;
    columns.set_item("qualities", dense(py, rows.qualities)?)?;
    columns.set_item("extras", present(rows.extras))?;
    columns.set_item("action_metadata", present(rows.action_metadata))?;
    columns.set_item("ids", rows.ids.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    columns.set_item("keys", frozen(py, rows.keys.iter().map(|key| key.0).collect()))?;
    Ok(columns)
}

fn optional<'py>(columns: &Bound<'py, PyDict>, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
    Ok(columns.get_item(name)?.filter(|value| !value.is_none()))
}

fn required<'py>(columns: &Bound<'py, PyDict>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    optional(columns, name)?
        .ok_or_else(|| PyTypeError::new_err(format!("the column {name} is missing")))
}

fn extracted<T: for<'a> FromPyObjectOwned<'a, Error: Into<PyErr>>>(
    columns: &Bound<'_, PyDict>,
    name: &str,
) -> PyResult<Option<T>> {
    optional(columns, name)?.map(|value| value.extract::<T>().map_err(Into::into)).transpose()
}

/// A column in which a row may have no value: an array where all have one, else a list.
fn maybe<T: numpy::Element + Copy + for<'a> FromPyObjectOwned<'a, Error: Into<PyErr>>>(
    columns: &Bound<'_, PyDict>,
    name: &str,
) -> PyResult<Option<Vec<Option<T>>>> {
    let Some(given) = optional(columns, name)? else { return Ok(None) };
    Ok(Some(match given.cast::<PyArray1<T>>() {
        Ok(array) => vector(array)?.into_iter().map(Some).collect(),
        Err(_) => given.extract()?,
    }))
}

fn flags(columns: &Bound<'_, PyDict>, name: &str) -> PyResult<Option<Vec<bool>>> {
    let Some(given) = optional(columns, name)? else { return Ok(None) };
    Ok(Some(vector(given.cast()?)?))
}

/// One string for all rows, or a list of strings that mostly repeat: each distinct one is copied once.
fn labels(given: &Bound<'_, PyAny>, len: usize) -> PyResult<Labels> {
    if let Ok(one) = given.cast::<PyString>() {
        return Ok(Labels::repeated(one.to_str()?, len));
    }
    let list = given.cast::<PyList>()?;
    let mut labels = Labels { names: Vec::new(), codes: Vec::with_capacity(list.len()) };
    let mut known: HashMap<String, u32> = HashMap::new();
    for item in list {
        let text = item.cast::<PyString>()?.to_str()?;
        let code = if let Some(&code) = known.get(text) {
            code
        } else {
            let code = labels.names.len() as u32;
            labels.names.push(text.to_owned());
            known.insert(text.to_owned(), code);
            code
        };
        labels.codes.push(code);
    }
    Ok(labels)
}

/// A list in which equal names are one object.
fn names<'py>(py: Python<'py>, labels: &Labels) -> PyResult<Bound<'py, PyList>> {
    let distinct: Vec<_> = labels.names.iter().map(|name| PyString::new(py, name)).collect();
    PyList::new(py, labels.codes.iter().map(|&code| &distinct[code as usize]))
}

/// An array where every row has a value, a list with None where some have, None where none has.
fn dense<'py, T: numpy::Element + Copy + IntoPyObject<'py>>(
    py: Python<'py>,
    column: Option<Vec<Option<T>>>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Some(column) = present(column) else { return Ok(None) };
    if column.iter().all(Option::is_some) {
        return Ok(Some(frozen(py, column.into_iter().flatten().collect::<Vec<T>>()).into_any()));
    }
    Ok(Some(PyList::new(py, column)?.into_any()))
}

/// None where no row has a value.
fn present<T>(column: Option<Vec<Option<T>>>) -> Option<Vec<Option<T>>> {
    column.filter(|values| values.iter().any(Option::is_some))
}
