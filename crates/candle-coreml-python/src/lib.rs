//! The native module of the Python package `candle_coreml`.
//!
//! [`model`] has the model and its predictions, with values on their way in ([`inputs`]) and out
//! ([`outputs`]); [`errors`] makes exceptions of the library's errors. `language_model` generates text;
//! `tools` inspects, compiles, compares and downloads.

mod errors;
mod inputs;
mod language_model;
mod model;
mod outputs;
mod tools;

/// What Python sees of the library; the package `candle_coreml` gives it to its users.
#[pyo3::pymodule]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::model::MLModel;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::language_model::register(module)?;
        crate::tools::register(module)
    }
}
