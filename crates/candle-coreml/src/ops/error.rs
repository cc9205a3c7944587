//! Errors of operations. They do not know the operation's name: whoever binds or runs it adds it.

use crate::value::OutOfMemory;

/// What went wrong in an operation.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpError {
    /// The result's shape depends on a value that is known only when the operation runs.
    #[error("the shape is known only at run time")]
    NotYetKnown,
    /// A required argument is not there.
    #[error("argument `{0}` is missing")]
    Missing(String),
    /// An argument is not what the operation takes.
    #[error("argument `{argument}`: expected {expected}, got {got}")]
    Argument { argument: String, expected: String, got: String },
    /// The operation's rules do not allow these inputs.
    #[error("{0}")]
    Invalid(String),
    /// A case of the operation that the engine does not compute.
    #[error("the portable backend does not support {0}")]
    Unsupported(String),
    /// A kernel refused its input.
    #[error(transparent)]
    Kernel(#[from] coreml_kernels::KernelError),
    /// No memory.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

impl OpError {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        OpError::Invalid(message.into())
    }

    pub(crate) fn unsupported(what: impl Into<String>) -> Self {
        OpError::Unsupported(what.into())
    }

    pub(crate) fn argument(
        argument: &str,
        expected: impl Into<String>,
        got: impl Into<String>,
    ) -> Self {
        OpError::Argument {
            argument: argument.to_owned(),
            expected: expected.into(),
            got: got.into(),
        }
    }
}
