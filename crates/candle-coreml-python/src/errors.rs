//! The library's errors as exceptions. The classes are Python's, in `candle_coreml/errors.py`: each is
//! also of the builtin that a user of NumPy expects.

use std::io;

use candle_coreml::description::ShapeMismatch;
use candle_coreml::{EngineError, Error, ErrorKind, FormatError, OperationError, ValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// The exception of an error.
pub(crate) fn to_py(error: Error) -> PyErr {
    Python::attach(|py| exception(py, &error).unwrap_or_else(|failed| failed))
}

fn exception(py: Python<'_>, error: &Error) -> PyResult<PyErr> {
    // What Python raised within a call goes through the library.
    if let Error::Other(cause) = error
        && let Some(raised) = cause.downcast_ref::<PyErr>()
    {
        return Ok(raised.clone_ref(py));
    }
    let details = PyDict::new(py);
    details.set_item("kind", format!("{:?}", error.kind()))?;
    let class = describe(error, &details)?;
    raise(py, class, &message(error), &details)
}

/// The library's message, in Python's words where it says what to call.
fn message(error: &Error) -> String {
    match error {
        Error::Shared(error) => message(error),
        Error::State { name, source: ValueError::NoState { function } } => format!(
            "state `{name}`: function `{function}` has states; call `make_state` once and give what it \
             makes to each prediction"
        ),
        other => other.to_string(),
    }
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

/// An exception of `candle_coreml.errors` about an input, or about the inputs, that the library does not
/// come to see.
pub(crate) fn input(class: &str, name: Option<&str>, message: &str) -> PyErr {
    match name {
        Some(name) => named(class, name, &format!("input `{name}`: {message}")),
        None => new(class, ErrorKind::InvalidInput, message),
    }
}

/// An exception of `candle_coreml.errors` about what is given to a state.
pub(crate) fn state(class: &str, name: &str, message: &str) -> PyErr {
    named(class, name, &format!("state `{name}`: {message}"))
}

fn named(class: &str, name: &str, message: &str) -> PyErr {
    Python::attach(|py| {
        let details = PyDict::new(py);
        details.set_item("kind", format!("{:?}", ErrorKind::InvalidInput))?;
        details.set_item("name", name)?;
        raise(py, class, message, &details)
    })
    .unwrap_or_else(|failed| failed)
}

/// An exception about a value of a sort that this package does not know.
pub(crate) fn unsupported(what: &str) -> PyErr {
    new("UnsupportedError", ErrorKind::Unsupported, &format!("{what} has no counterpart in Python"))
}

/// The same exception with its place in a list of inputs, if it is one of this package: a signal's is not.
pub(crate) fn with_index(py: Python<'_>, index: usize, error: PyErr) -> PyErr {
    let added = || -> PyResult<()> {
        let class = py.import("candle_coreml.errors")?.getattr("Error")?;
        if error.value(py).is_instance(&class)? {
            error.value(py).call_method1("at", (index,))?;
        }
        Ok(())
    };
    match added() {
        Ok(()) => error,
        Err(failed) => failed,
    }
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
        Error::Hub(error) if error.kind() != ErrorKind::Cancelled => return Ok("DownloadError"),
        Error::Format(FormatError::OutputExists { path }) => {
            details.set_item("filename", path.as_os_str())?;
            return Ok("OutputExistsError");
        }
        Error::Format(error) => {
            if let Some((path, source)) = file(error) {
                details.set_item("filename", path.as_os_str())?;
                return describe_file(source, details);
            }
        }
        Error::Io { path, source } => {
            details.set_item("filename", path.as_os_str())?;
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
    if error.kind() != ErrorKind::InvalidInput {
        return Ok(None);
    }
    details.set_item("name", name)?;
    if let ValueError::Shape { mismatch: Some(mismatch), .. } = error {
        details.set_item("mismatch", self::mismatch(details.py(), mismatch)?)?;
    }
    Ok(Some(match error {
        ValueError::Unknown { .. } => "UnknownNameError",
        ValueError::Dtype { .. } => "DtypeError",
        _ => "InputError",
    }))
}

/// Why a shape does not fit.
fn mismatch<'py>(py: Python<'py>, mismatch: &ShapeMismatch) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    match mismatch {
        ShapeMismatch::Rank { expected, got } => {
            dict.set_item("kind", "rank")?;
            dict.set_item("expected", expected)?;
            dict.set_item("got", got)?;
        }
        ShapeMismatch::OutOfRange { dimension, size, allowed } => {
            dict.set_item("kind", "out_of_range")?;
            dict.set_item("dimension", dimension)?;
            dict.set_item("size", size)?;
            dict.set_item("allowed", allowed)?;
        }
        ShapeMismatch::NotEnumerated { shape, allowed } => {
            dict.set_item("kind", "not_enumerated")?;
            dict.set_item("shape", PyTuple::new(py, shape)?)?;
            let allowed = allowed.iter().map(|shape| PyTuple::new(py, shape));
            let allowed: Vec<_> = allowed.collect::<PyResult<_>>()?;
            dict.set_item("allowed", PyTuple::new(py, allowed)?)?;
        }
        other => dict.set_item("kind", other.to_string())?,
    }
    Ok(dict)
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
