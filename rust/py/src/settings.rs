//! Settings from the mappings that `precedent.config` and the classes' constructors make. A number that is no size (a
//! negative one) is refused by name here, since the core's types could not hold it; everything else the core checks.

use precedent_core::Error;
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::raise::Raised;

/// The value under `name`, of the kind that is asked for.
pub(crate) fn get<T: for<'a> FromPyObjectOwned<'a, Error: Into<PyErr>>>(
    mapping: &Bound<'_, PyDict>,
    name: &str,
) -> PyResult<T> {
    let value = mapping
        .get_item(name)?
        .ok_or_else(|| PyKeyError::new_err(format!("the setting {name} is missing")))?;
    value.extract().map_err(Into::into)
}

/// The count under `name`.
pub(crate) fn size(mapping: &Bound<'_, PyDict>, name: &str) -> Result<usize, Raised> {
    at_least(name, get(mapping, name)?, 0)
}

/// The count under `name`, or `None`.
pub(crate) fn optional_size(
    mapping: &Bound<'_, PyDict>,
    name: &str,
) -> Result<Option<usize>, Raised> {
    get::<Option<i64>>(mapping, name)?.map(|value| at_least(name, value, 0)).transpose()
}

/// A count that is at least `least`.
pub(crate) fn at_least(name: &str, value: i64, least: usize) -> Result<usize, Raised> {
    usize::try_from(value).ok().filter(|value| *value >= least).ok_or_else(|| {
        Error::invalid(name, format!("an integer of at least {least}"), value).into()
    })
}
