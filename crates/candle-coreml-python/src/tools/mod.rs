//! What is done with models besides running them: inspecting, compiling, comparing, downloading.

mod compare;
mod difference;
pub(crate) mod download;

use std::path::PathBuf;

use candle_coreml::{IfExists, Package};
use pyo3::prelude::*;
use pyo3::wrap_pyfunction;

use crate::{errors, json};

/// Adds the functions and classes of this module to the package's.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(inspect, module)?)?;
    module.add_function(wrap_pyfunction!(compile, module)?)?;
    module.add_function(wrap_pyfunction!(decompile, module)?)?;
    module.add_function(wrap_pyfunction!(compare::compare, module)?)?;
    module.add_function(wrap_pyfunction!(download::download, module)?)?;
    module.add_class::<compare::Comparison>()?;
    module.add_class::<difference::Difference>()
}

/// Says what a model of any kind is made of, as `candle-coreml inspect --json` does: a dictionary with `kind`,
/// `runs` and, where it does not run here, `reason`, `functions` with their inputs, outputs and states,
/// `metadata`, `operations`, `weights`, and `layers`, `stages` and `labels` where there are some.
///
/// Raises `ModelError` where the file can't be decoded, and `ModelNotFoundError` (a FileNotFoundError).
#[pyfunction]
fn inspect<'py>(py: Python<'py>, path: PathBuf) -> PyResult<Bound<'py, PyAny>> {
    let inspect = || candle_coreml::inspect(Package::open(path)?);
    let inspection = py.detach(inspect).map_err(errors::to_py)?;
    json::to_py(py, &json::value(&inspection)?)
}

/// Compiles an ML Program, `.mlpackage` or `.mlmodel`, to the directory `destination`, a `.mlmodelc` as
/// Apple's compiler makes it. It is written whole or not at all; `overwrite` replaces a compiled model that
/// is there, and nothing else.
///
/// Raises `UnsupportedError` for models of other kinds, `FileError` (an OSError) where `destination` is there
/// or can't be written, and what `inspect` does.
#[pyfunction]
#[pyo3(signature = (source, destination, *, overwrite = false))]
fn compile(py: Python<'_>, source: PathBuf, destination: PathBuf, overwrite: bool) -> PyResult<()> {
    let compile = || {
        candle_coreml::compile(&Package::open(source)?, destination, if_exists(overwrite))?;
        candle_coreml::Result::Ok(())
    };
    py.detach(compile).map_err(errors::to_py)
}

/// Makes the directory `destination`, a `.mlpackage`, of a compiled ML Program, `.mlmodelc`. It is written
/// whole or not at all; `overwrite` replaces a package that is there, and nothing else.
///
/// Raises what `compile` does.
#[pyfunction]
#[pyo3(signature = (source, destination, *, overwrite = false))]
fn decompile(
    py: Python<'_>,
    source: PathBuf,
    destination: PathBuf,
    overwrite: bool,
) -> PyResult<()> {
    let decompile = || {
        candle_coreml::decompile(&Package::open(source)?, destination, if_exists(overwrite))?;
        candle_coreml::Result::Ok(())
    };
    py.detach(decompile).map_err(errors::to_py)
}

fn if_exists(overwrite: bool) -> IfExists {
    if overwrite { IfExists::Replace } else { IfExists::Refuse }
}
