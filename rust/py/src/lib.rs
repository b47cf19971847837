//! The seam between Precedent's core and Python: one class a file, methods that read, detach and wrap.

use pyo3::prelude::*;

#[pymodule]
fn _core(_module: &Bound<'_, PyModule>) -> PyResult<()> {
    Ok(())
}
