//! Errors of the core as exceptions of `precedent.errors`: one match, without a wildcard.

use std::error::Error as _;

use precedent_core::Error;
use pyo3::exceptions::{PyKeyboardInterrupt, PyOSError, PyRuntimeError};
use pyo3::prelude::*;

/// The classes, as Python defines them.
mod classes {
    pyo3::import_exception!(precedent.errors, AccessError);
    pyo3::import_exception!(precedent.errors, BusyError);
    pyo3::import_exception!(precedent.errors, ClosedError);
    pyo3::import_exception!(precedent.errors, CorruptionError);
    pyo3::import_exception!(precedent.errors, DimensionError);
    pyo3::import_exception!(precedent.errors, DiskFullError);
    pyo3::import_exception!(precedent.errors, EncoderMismatchError);
    pyo3::import_exception!(precedent.errors, FormatError);
    pyo3::import_exception!(precedent.errors, InsufficientDataError);
    pyo3::import_exception!(precedent.errors, NotFoundError);
    pyo3::import_exception!(precedent.errors, NotTrainedError);
    pyo3::import_exception!(precedent.errors, ReadOnlyError);
    pyo3::import_exception!(precedent.errors, StorageError);
    pyo3::import_exception!(precedent.errors, TrainingError);
    pyo3::import_exception!(precedent.errors, ValidationError);
    pyo3::import_exception!(precedent.errors, VersionError);
}

/// What a binding may fail with; `?` makes one of either kind of error.
pub(crate) enum Raised {
    /// From the core.
    Core(Error),
    /// From Python: a wrong type, a signal.
    Python(PyErr),
}

impl From<Error> for Raised {
    fn from(err: Error) -> Self {
        Self::Core(err)
    }
}

impl From<PyErr> for Raised {
    fn from(err: PyErr) -> Self {
        Self::Python(err)
    }
}

impl From<Raised> for PyErr {
    fn from(raised: Raised) -> Self {
        match raised {
            Raised::Python(err) => err,
            Raised::Core(err) => {
                let cause = cause(&err);
                let exception = exception(err);
                if cause.is_some() {
                    Python::attach(|py| exception.set_cause(py, cause));
                }
                exception
            }
        }
    }
}

fn exception(err: Error) -> PyErr {
    let text = err.to_string();
    match err {
        Error::Invalid { .. } => classes::ValidationError::new_err(text),
        Error::Dimension { expected, got, .. } => {
            classes::DimensionError::new_err((text, expected, got))
        }
        Error::EncoderMismatch { stored, given } => {
            classes::EncoderMismatchError::new_err((text, stored, given))
        }
        Error::NotFound { .. } => classes::NotFoundError::new_err(text),
        Error::ReadOnly { .. } => classes::ReadOnlyError::new_err(text),
        Error::Closed(_) => classes::ClosedError::new_err(text),
        Error::Busy { .. } => classes::BusyError::new_err(text),
        Error::DiskFull { .. } => classes::DiskFullError::new_err(text),
        Error::Access { .. } => classes::AccessError::new_err(text),
        Error::Format { .. } => classes::FormatError::new_err(text),
        Error::Version { .. } => classes::VersionError::new_err(text),
        Error::Corrupt { .. } => classes::CorruptionError::new_err(text),
        Error::Sqlite { .. } | Error::Io { .. } => classes::StorageError::new_err(text),
        Error::Training(_) => classes::TrainingError::new_err(text),
        Error::NotTrained => classes::NotTrainedError::new_err(text),
        Error::InsufficientData { required, available } => {
            classes::InsufficientDataError::new_err((text, required, available))
        }
        Error::Interrupted => PyKeyboardInterrupt::new_err(()),
    }
}

/// What stood behind the error, for `__cause__`: the system's word as an `OSError` with its number, any other as text.
fn cause(err: &Error) -> Option<PyErr> {
    let source = err.source()?;
    let text = source.to_string();
    let Some(said) = source.downcast_ref::<std::io::Error>() else {
        return Some(PyRuntimeError::new_err(text));
    };
    // OSError makes of a number the class that Python has for it, as open() does.
    Some(match said.raw_os_error() {
        Some(number) => PyOSError::new_err((number, text)),
        None => PyOSError::new_err(text),
    })
}
