//! A filter from the mapping that `precedent.filters` has checked.

use precedent_core::Filter;
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

/// Reads a normalised filter; `None` matches everything.
pub(crate) fn filter(mapping: Option<&Bound<'_, PyDict>>) -> PyResult<Filter> {
    let mut filter = Filter::default();
    for (key, value) in mapping.into_iter().flatten() {
        match key.cast::<PyString>()?.to_str()? {
            "task_type" => filter.task_types = value.extract()?,
            "episode_id" => filter.episodes = value.extract()?,
            "pattern_id" => filter.patterns = value.extract()?,
            "agent_type" => filter.agent_type = value.extract()?,
            "min_return" => filter.min_return = value.extract()?,
            "min_reward" => filter.min_reward = value.extract()?,
            "min_episode_reward" => filter.min_episode_reward = value.extract()?,
            "after_timestamp" => filter.after_timestamp = value.extract()?,
            "before_timestamp" => filter.before_timestamp = value.extract()?,
            "success" => filter.success = value.extract()?,
            other => return Err(PyKeyError::new_err(format!("a filter has no {other:?}"))),
        }
    }
    Ok(filter)
}
