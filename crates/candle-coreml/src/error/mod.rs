//! The crate's errors.

#[cfg(feature = "llm")]
mod generation;
mod value;

use std::path::PathBuf;
use std::sync::Arc;

use coreml_engine::{EngineError, KernelError};
use coreml_format::{
    Cause, ErrorKind, FormatError, printable_message, printable_name, printable_path,
};

use crate::words::list;

#[cfg(feature = "llm")]
pub use self::generation::GenerationError;
pub use self::value::ValueError;

/// Result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong. Messages name the place, what was expected, what was found, and where it is
/// known what to do; [`kind`](Self::kind) sorts errors for programs, and
/// [`source`](std::error::Error::source) leads to the cause.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The model's files can't be read, or are not what they claim to be.
    #[error(transparent)]
    Format(#[from] FormatError),

    /// The portable backend can't compute the model, or failed to.
    #[error(transparent)]
    Engine(EngineError),

    /// The model is of a kind that the backend does not run.
    #[error(
        "`{}` is a {kind}; the {backend} backend runs ML Programs, {}",
        printable_path(path),
        advice(kind)
    )]
    UnsupportedModel {
        /// The model.
        path: PathBuf,
        /// Its kind in words, e.g. `neural network classifier`.
        kind: String,
        /// The backend.
        backend: &'static str,
    },

    /// The model has no function of that name.
    #[error("the model has no function `{}`; it has {}", printable_name(name), list(available))]
    UnknownFunction {
        /// The name asked for.
        name: String,
        /// The model's functions.
        available: Vec<String>,
    },

    /// The model does not say which shapes a function is made for.
    #[error("function `{}` states no shapes to plan for", printable_name(function))]
    NoDefaultShapes {
        /// The function.
        function: String,
    },

    /// An input is missing, unknown, or not what the function takes.
    #[error("input `{}`: {source}", printable_name(name))]
    Input {
        /// The input.
        name: String,
        /// What is wrong with it.
        source: ValueError,
    },

    /// An output is not there, or not what is asked for.
    #[error("output `{}`: {source}", printable_name(name))]
    Output {
        /// The output.
        name: String,
        /// What is wrong with it.
        source: ValueError,
    },

    /// A state is missing, unknown, or not what the function takes.
    #[error("state `{}`: {source}", printable_name(name))]
    State {
        /// The state.
        name: String,
        /// What is wrong with it.
        source: ValueError,
    },

    /// A value is not what it is asked for; of which input or output, whoever asks knows.
    #[error(transparent)]
    Value(#[from] ValueError),

    /// The backend can't run on this machine.
    #[error("the {name} backend is not available: {reason}")]
    BackendUnavailable {
        /// The backend asked for.
        name: &'static str,
        /// Why, and what to use instead.
        reason: String,
    },

    /// The backend has no such ability.
    #[error("this backend {0}")]
    NotByBackend(&'static str),

    /// Threads to compute on can't be had.
    #[error("{source}")]
    Threads {
        /// Why not.
        #[from]
        source: KernelError,
    },

    /// A variable of the environment is not what it should be.
    #[error("{name}={value}: {message}")]
    Variable {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// What was expected.
        message: String,
        /// The error behind it, if there is one.
        source: Option<Cause>,
    },

    /// A language model's directory lacks something or is inconsistent.
    #[error("{}: {}", printable_path(path), printable_message(message))]
    LanguageModel {
        /// The directory or file.
        path: PathBuf,
        /// What is wrong and what to do.
        message: String,
        /// The error behind it, if there is one.
        source: Option<Cause>,
    },

    /// Text can't be generated with this prompt, these options, or by this model.
    #[cfg(feature = "llm")]
    #[error(transparent)]
    Generation(#[from] GenerationError),

    /// A model can't be had from the hub or the cache.
    #[cfg(feature = "hub")]
    #[error(transparent)]
    Hub(#[from] crate::hub::HubError),

    /// A file can't be read or written.
    #[error("{}: {source}", printable_path(path))]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },

    /// Candle refused a tensor.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),

    /// An error that is reported each time something is asked for.
    #[error(transparent)]
    Shared(Arc<Error>),

    /// An error of the caller's own code, e.g. of a sampler; see [`Error::other`].
    #[error(transparent)]
    Other(Cause),
}

impl Error {
    /// An error of one's own, of any type or a text, for code that this crate calls.
    pub fn other(error: impl Into<Cause>) -> Self {
        Error::Other(error.into())
    }

    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Format(error) => error.kind(),
            Error::Engine(error) => error.kind(),
            Error::UnsupportedModel { .. }
            | Error::NoDefaultShapes { .. }
            | Error::BackendUnavailable { .. }
            | Error::NotByBackend(_) => ErrorKind::Unsupported,
            Error::UnknownFunction { .. } => ErrorKind::NotFound,
            Error::Input { source, .. }
            | Error::Output { source, .. }
            | Error::State { source, .. }
            | Error::Value(source) => source.kind(),
            Error::Threads { source: KernelError::Threads { .. } } => ErrorKind::Limit,
            Error::Threads { .. } | Error::Variable { .. } => ErrorKind::InvalidInput,
            Error::LanguageModel { .. } => ErrorKind::BrokenModel,
            #[cfg(feature = "llm")]
            Error::Generation(error) => error.kind(),
            #[cfg(feature = "hub")]
            Error::Hub(error) => error.kind(),
            Error::Io { source, .. } => ErrorKind::of_io(source),
            Error::Shared(error) => error.kind(),
            Error::Candle(_) | Error::Other(_) => ErrorKind::Other,
        }
    }

    /// A file or directory of a language model is wrong.
    #[cfg(feature = "llm")]
    pub(crate) fn language_model(path: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Error::LanguageModel { path: path.into(), message: message.into(), source: None }
    }

    /// Names the error behind this one, a [`LanguageModel`](Self::LanguageModel).
    #[cfg(feature = "llm")]
    pub(crate) fn caused_by(mut self, cause: impl Into<Cause>) -> Self {
        if let Error::LanguageModel { source, .. } = &mut self {
            *source = Some(cause.into());
        }
        self
    }
}

/// What can be done about a model of another kind than ML Program.
fn advice(kind: &str) -> &'static str {
    match kind {
        _ if kind.starts_with("neural network") => {
            "and networks of layers not yet: convert the original model again with coremltools' \
             `convert_to=\"mlprogram\"`"
        }
        _ if kind.starts_with("model of an unknown kind") => {
            "and the file names no kind of model: it is damaged, or newer than this program"
        }
        _ => "and models of this kind not yet",
    }
}

impl From<EngineError> for Error {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Format(error) => Error::Format(error),
            EngineError::UnknownFunction { name, available } => {
                Error::UnknownFunction { name, available }
            }
            other => Error::Engine(other),
        }
    }
}
