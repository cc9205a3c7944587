//! The library's errors as exceptions. The classes are Python's, in `candle_coreml/errors.py`: each is
//! also of the builtin that a user of NumPy expects.

use std::io;

use candle_coreml::{EngineError, Error, ErrorKind, FormatError, OperationError, ValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The exception of an error.
pub(crate) fn to_py(error: Error) -> PyErr {
    Python::attach(|py| exception(py, &error).unwrap_or_else(|failed| failed))
}

fn exception(py: Python<'_>, error: &Error) -> PyResult<PyErr> {
    let details = PyDict::new(py);
    details.set_item("kind", format!("{:?}", error.kind()))?;
    let class = describe(error, &details)?;
    raise(py, class, &error.to_string(), &details)
}

/// An exception of one of the classes of `candle_coreml.errors`, with attributes.
pub(crate) fn raise(
    py: Python<'_>,
    class: &str,
    message: &str,
    attributes: &Bound<'_, PyDict>,
) -> PyResult<PyErr> {
    let class = py.import("candle_coreml.errors")?.getattr(class)?;
    Ok(PyErr::from_value(class.call((message,), Some(attributes))?))
}

/// An exception of one of the classes of `candle_coreml.errors`, for a thing that the library does not
/// know: that a model is closed, say.
pub(crate) fn new(class: &str, kind: ErrorKind, message: &str) -> PyErr {
    Python::attach(|py| {
        let details = PyDict::new(py);
        details.set_item("kind", format!("{kind:?}"))?;
        raise(py, class, message, &details)
    })
    .unwrap_or_else(|failed| failed)
}

/// The class of an error's exception, and what else it tells.
fn describe(error: &Error, details: &Bound<'_, PyDict>) -> PyResult<&'static str> {
    match error {
        Error::Shared(error) => return describe(error, details),
        Error::Input { name, source }
        | Error::Output { name, source }
        | Error::State { name, source } => {
            if let Some(class) = describe_value(name, source, details)? {
                return Ok(class);
            }
        }
        Error::UnknownFunction { .. } => return Ok("UnknownNameError"),
        Error::Hub(_) => return Ok("DownloadError"),
        Error::Format(error) => {
            if let Some((path, source)) = file(error) {
                details.set_item("filename", path)?;
                return describe_file(source, details);
            }
        }
        Error::Io { path, source } => {
            details.set_item("filename", path)?;
            return describe_file(source, details);
        }
        Error::Engine(EngineError::Run(operation)) if error.kind() == ErrorKind::InvalidInput => {
            describe_operation(operation, details)?;
            return Ok("PredictionError");
        }
        _ => {}
    }
    Ok(class_of(error.kind()))
}

/// The class of errors of a kind.
fn class_of(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidInput => "InputError",
        ErrorKind::BrokenModel => "ModelError",
        ErrorKind::Unsupported => "UnsupportedError",
        ErrorKind::Limit => "LimitError",
        ErrorKind::Cancelled => "CancelledError",
        ErrorKind::NotFound => "ModelNotFoundError",
        ErrorKind::Denied => "ModelPermissionError",
        _ => "Error",
    }
}

/// The class of an error of a value.
fn describe_value(
    name: &str,
    error: &ValueError,
    details: &Bound<'_, PyDict>,
) -> PyResult<Option<&'static str>> {
    if matches!(error, ValueError::Unknown { .. }) {
        return Ok(Some("UnknownNameError"));
    }
    if error.kind() == ErrorKind::InvalidInput {
        details.set_item("name", name)?;
        return Ok(Some("InputError"));
    }
    Ok(None)
}

fn describe_operation(error: &OperationError, details: &Bound<'_, PyDict>) -> PyResult<()> {
    details.set_item("function", &error.function)?;
    details.set_item("operation", &error.operation)?;
    details.set_item("operator", &error.operator)
}

/// The file that an error of the system is about.
fn file(error: &FormatError) -> Option<(&std::path::Path, &io::Error)> {
    match error {
        FormatError::Io { path, source } | FormatError::Write { path, source } => {
            Some((path, source))
        }
        FormatError::InFile(error) => file(&error.source),
        _ => None,
    }
}

fn describe_file(error: &io::Error, details: &Bound<'_, PyDict>) -> PyResult<&'static str> {
    details.set_item("errno", error.raw_os_error())?;
    Ok(match ErrorKind::of_io(error) {
        ErrorKind::NotFound => "ModelNotFoundError",
        ErrorKind::Denied => "ModelPermissionError",
        _ => "FileError",
    })
}
