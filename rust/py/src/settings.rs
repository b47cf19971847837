//! Settings from the mappings that `precedent.config` and the classes' constructors make. A number that is no size (a
//! negative one) is refused by name here, since the core's types could not hold it; everything else the core checks.

use precedent_core::Error;
use precedent_core::nn::{ContextKind, Encoding, LayerSettings, Optimizer, ReturnScale};
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

/// The settings of a layer.
pub(crate) fn layer_settings(settings: &Bound<'_, PyDict>) -> Result<LayerSettings, Raised> {
    Ok(LayerSettings {
        state_size: size(settings, "state_size")?,
        action_size: size(settings, "action_size")?,
        hidden_size: size(settings, "hidden_size")?,
        learning_rate: get(settings, "learning_rate")?,
        momentum: get(settings, "momentum")?,
        weight_decay: get(settings, "weight_decay")?,
        optimizer: Optimizer::parse(&get::<String>(settings, "optimizer")?)?,
        clip_norm: get(settings, "clip_norm")?,
        encoding: Encoding::parse(&get::<String>(settings, "encoding")?)?,
        context: ContextKind::parse(&get::<String>(settings, "context")?)?,
        history_length: size(settings, "history_length")?,
        return_scale: ReturnScale::parse(&get::<String>(settings, "return_scale")?)?,
        return_range: get(settings, "return_range")?,
        seed: get(settings, "seed")?,
    })
}

/// What [`layer_settings`] reads.
pub(crate) fn layer_mapping<'py>(
    py: Python<'py>,
    settings: &LayerSettings,
) -> Result<Bound<'py, PyDict>, Raised> {
    let mapping = PyDict::new(py);
    mapping.set_item("state_size", settings.state_size)?;
    mapping.set_item("action_size", settings.action_size)?;
    mapping.set_item("hidden_size", settings.hidden_size)?;
    mapping.set_item("learning_rate", settings.learning_rate)?;
    mapping.set_item("momentum", settings.momentum)?;
    mapping.set_item("weight_decay", settings.weight_decay)?;
    mapping.set_item("optimizer", settings.optimizer.name())?;
    mapping.set_item("clip_norm", settings.clip_norm)?;
    mapping.set_item("encoding", settings.encoding.name())?;
    mapping.set_item("context", settings.context.name())?;
    mapping.set_item("history_length", settings.history_length)?;
    mapping.set_item("return_scale", settings.return_scale.name())?;
    mapping.set_item("return_range", settings.return_range)?;
    mapping.set_item("seed", settings.seed)?;
    Ok(mapping)
}
