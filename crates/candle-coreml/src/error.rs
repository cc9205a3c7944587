//! The crate's error.

use std::path::PathBuf;

use coreml_format::FormatError;
use coreml_format::mil::Opset;

use crate::words::list;

/// Result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong. Messages name the place, what was expected, what was found, and where it is
/// known what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The model's files can't be read, or are not what they claim to be.
    #[error(transparent)]
    Format(#[from] FormatError),

    /// The model is of a kind that the backend does not run.
    #[error(
        "`{}` is a {kind}; the {backend} backend runs ML Programs: convert the original model again \
         with coremltools' `convert_to=\"mlprogram\"`",
        path.display()
    )]
    UnsupportedModel {
        /// The model.
        path: PathBuf,
        /// Its kind in words, e.g. `neural network classifier`.
        kind: String,
        /// The backend.
        backend: &'static str,
    },

    /// The program has an operation that the backend does not compute.
    #[error(
        "function `{function}`: operation `{operation}` is a `{operator}` of opset {opset}, which \
         the backend does not compute{hint}; convert the model without it, or run it with another \
         backend"
    )]
    UnsupportedOperation {
        /// Function of the program.
        function: String,
        /// Name of the operation.
        operation: String,
        /// Its operator, e.g. `conv`.
        operator: String,
        /// The function's opset.
        opset: Opset,
        /// What else is known; begins with a semicolon if it is not empty.
        hint: String,
    },

    /// An operation is wrong or failed.
    #[error("function `{function}`, operation `{operation}` ({operator}): {message}")]
    Operation {
        /// Function of the program.
        function: String,
        /// Name of the operation.
        operation: String,
        /// Its operator.
        operator: String,
        /// What is wrong with it.
        message: String,
    },

    /// The program is wrong in another way than in one of its operations.
    #[error("function `{function}`: {message}")]
    Program {
        /// Function of the program.
        function: String,
        /// What is wrong.
        message: String,
    },

    /// The model has no function of that name.
    #[error("the model has no function `{name}`; it has {}", list(available))]
    UnknownFunction {
        /// The name asked for.
        name: String,
        /// The model's functions.
        available: Vec<String>,
    },

    /// An input is missing, unknown, or has a wrong shape or dtype.
    #[error("input `{name}`: {message}")]
    Input {
        /// The input.
        name: String,
        /// What is wrong with it: what was expected and what was given.
        message: String,
    },

    /// A state is missing, unknown, or has a wrong shape or dtype.
    #[error("state `{name}`: {message}")]
    State {
        /// The state.
        name: String,
        /// What is wrong with it.
        message: String,
    },

    /// The backend can't run on this machine.
    #[error("the {name} backend is not available: {reason}")]
    BackendUnavailable {
        /// The backend asked for.
        name: &'static str,
        /// Why, and what to use instead.
        reason: String,
    },

    /// Threads to compute on can't be had.
    #[error("{0}")]
    Threads(String),

    /// A language model's directory lacks something or is inconsistent.
    #[error("{}: {message}", path.display())]
    LanguageModel {
        /// The directory or file.
        path: PathBuf,
        /// What is wrong and what to do.
        message: String,
    },

    /// Text can't be generated with this prompt or these options.
    #[error("{0}")]
    Generation(String),

    /// A model can't be had from the hub or the cache.
    #[cfg(feature = "hub")]
    #[error(transparent)]
    Hub(#[from] crate::hub::HubError),

    /// A file can't be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },

    /// Candle refused a tensor.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl From<coreml_engine::Error> for Error {
    fn from(error: coreml_engine::Error) -> Self {
        use coreml_engine::Error as Engine;
        match error {
            Engine::Format(error) => Error::Format(error),
            Engine::UnsupportedOperation { function, operation, operator, opset, hint } => {
                Error::UnsupportedOperation { function, operation, operator, opset, hint }
            }
            Engine::Operation { function, operation, operator, source } => {
                Error::Operation { function, operation, operator, message: source.to_string() }
            }
            Engine::Program { function, message } => Error::Program { function, message },
            Engine::UnknownFunction { name, available } => {
                Error::UnknownFunction { name, available }
            }
            other => Error::Program { function: String::new(), message: other.to_string() },
        }
    }
}
