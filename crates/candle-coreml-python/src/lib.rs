//! The native module of the Python package `candle_coreml`.
//!
//! [`model`] has the model and its predictions, with values on their way in ([`inputs`]) and out
//! ([`outputs`]); [`errors`] makes exceptions of the library's errors. `language_model` generates text;
//! `tools` inspects, compiles, compares and downloads.

mod arrays;
mod errors;
mod feature;
mod images;
mod inputs;
mod interrupt;
mod json;
mod language_model;
mod model;
mod outputs;
mod precision;
mod predict;
mod state;
mod tools;

/// What Python sees of the library; the package `candle_coreml` gives it to its users.
#[pyo3::pymodule]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::feature::Feature;
    #[pymodule_export]
    use crate::interrupt::CancelToken;
    #[pymodule_export]
    use crate::model::MLModel;
    #[pymodule_export]
    use crate::state::{MLState, restored};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::language_model::register(module)?;
        crate::tools::register(module)
    }
}
