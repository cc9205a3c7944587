//! Text generation.

use pyo3::prelude::*;

/// Adds the classes of this file to the module.
pub(crate) fn register(_module: &Bound<'_, PyModule>) -> PyResult<()> {
    Ok(())
}
