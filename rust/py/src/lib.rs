//! The seam between Precedent's core and Python: one class a file, methods that read, detach and wrap.

use pyo3::prelude::*;

mod arrays;
mod columns;
mod evaluation;
mod filter;
mod layer;
mod patterns;
mod quantizer;
mod raise;
mod records;
mod replay;
mod search;
mod settings;
mod store;
mod text;
mod training;

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<store::Store>()?;
    module.add_class::<patterns::Patterns>()?;
    module.add_class::<quantizer::Quantizer>()?;
    module.add_class::<layer::Layer>()?;
    module.add_class::<training::TrainingRun>()?;
    module.add_class::<evaluation::Evaluation>()?;
    module.add_class::<replay::Replay>()?;
    module.add_function(wrap_pyfunction!(training::held_out, module)?)?;
    module.add_function(wrap_pyfunction!(text::hashing_encode, module)?)?;
    module.add_function(wrap_pyfunction!(text::fourier_frequencies, module)?)?;
    Ok(())
}
