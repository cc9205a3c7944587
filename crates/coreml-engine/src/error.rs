//! What can go wrong: in one operation ([`OpError`]), and in a program that is planned or run
//! ([`Error`]).

use std::time::Duration;

use coreml_format::mil::Opset;
use coreml_format::{ErrorKind, FormatError, printable_list, printable_message, printable_name};
use coreml_kernels::KernelError;

/// Result of the engine's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A program can't be planned or run. Messages name the place, what was expected and what was found; text
/// from the model's files is printable in them, and cut where it is long.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The model's files can't be read, or are not what they claim to be.
    #[error(transparent)]
    Format(#[from] FormatError),

    /// The program has an operation that the engine does not compute.
    #[error(
        "function `{}`: operation `{}` is a `{}` of opset {opset}, which the engine does not \
         compute{hint}; convert the model without it",
        printable_name(function),
        printable_name(operation),
        printable_name(operator)
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
        /// What else is known, or nothing: begins with a semicolon.
        hint: String,
    },

    /// An operation of the program is wrong, whatever it is run on.
    #[error(transparent)]
    Operation(Box<OperationError>),

    /// An operation can't be run on the inputs of a call: on their shapes or on their values.
    #[error(transparent)]
    Run(Box<OperationError>),

    /// The memory or the results of a function can't be had.
    #[error("function `{}`: {source}", printable_name(function))]
    Function {
        /// Function of the program.
        function: String,
        /// Why not.
        source: OpError,
    },

    /// A rewrite of the engine's own is wrong.
    #[error(
        "function `{}`: the rewrite `{rule}` {}; please report this model",
        printable_name(function),
        printable_message(message)
    )]
    Rewrite {
        /// Function of the program.
        function: String,
        /// Name of the rewrite.
        rule: &'static str,
        /// What it does, as the rest of a sentence.
        message: String,
    },

    /// The program is wrong in another way than in one of its operations.
    #[error("function `{}`: {}", printable_name(function), printable_message(message))]
    Program {
        /// Function of the program.
        function: String,
        /// What is wrong.
        message: String,
    },

    /// The model has no function of that name.
    #[error(
        "the model has no function `{}`; it has {}",
        printable_name(name),
        printable_list(available.iter().map(String::as_str))
    )]
    UnknownFunction {
        /// The name asked for.
        name: String,
        /// The model's functions.
        available: Vec<String>,
    },
}

impl Error {
    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Format(error) => error.kind(),
            Error::UnsupportedOperation { .. } => ErrorKind::Unsupported,
            Error::Operation(error) => error.source.kind(),
            Error::Function { source, .. } => source.kind(),
            Error::Run(error) => match error.source.kind() {
                ErrorKind::BrokenModel => ErrorKind::InvalidInput,
                other => other,
            },
            Error::Rewrite { .. } => ErrorKind::Other,
            Error::Program { .. } => ErrorKind::BrokenModel,
            Error::UnknownFunction { .. } => ErrorKind::NotFound,
        }
    }

    /// The same error of a function that runs on other inputs.
    pub(crate) fn of_these_inputs(self) -> Self {
        match self {
            Error::Operation(error) => Error::Run(error),
            other => other,
        }
    }
}

/// What went wrong in an operation of a program.
#[derive(Debug, thiserror::Error)]
#[error(
    "function `{}`, operation `{}` ({}): {source}",
    printable_name(function),
    printable_name(operation),
    printable_name(operator)
)]
#[non_exhaustive]
pub struct OperationError {
    /// Function of the program.
    pub function: String,
    /// Name of the operation.
    pub operation: String,
    /// Its operator.
    pub operator: String,
    /// What is wrong with it.
    pub source: OpError,
}

/// What went wrong in an operation, which does not know its own name: whoever binds or runs it adds
/// it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpError {
    /// The result's shape depends on a value that is known only when the operation runs.
    #[error("the shape is known only at run time")]
    NotYetKnown,
    /// A required argument is not there.
    #[error("argument `{}` is missing", printable_name(.0))]
    Missing(String),
    /// An argument is not what the operation takes.
    #[error(
        "argument `{}`: expected {}, got {}",
        printable_name(argument),
        printable_message(expected),
        printable_message(got)
    )]
    Argument {
        /// The argument's name.
        argument: String,
        /// What would do.
        expected: String,
        /// What is there.
        got: String,
    },
    /// The operation's rules do not allow these inputs.
    #[error("{}", printable_message(.0))]
    Invalid(String),
    /// A case of the operation that the engine does not compute.
    #[error("the engine does not compute {}", printable_message(.0))]
    Unsupported(String),
    /// A kernel refused its input.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// No memory.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    /// More memory would be needed than a prediction [may take](crate::Limits::memory).
    #[error(
        "{needed} bytes are needed for values, more than the memory limit of {limit} bytes; allow \
         more, or give smaller inputs"
    )]
    MemoryLimit {
        /// Bytes needed.
        needed: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// A prediction has taken as much time as it [may](crate::Limits::time).
    #[error(
        "stopped here at the time limit of {} seconds; allow more, if the program is not endless",
        limit.as_secs_f64()
    )]
    TimeLimit {
        /// The time allowed.
        limit: Duration,
    },
    /// The prediction's [`CancelToken`](crate::CancelToken) was cancelled.
    #[error("cancelled here")]
    Cancelled,
}

/// Memory for a buffer could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not enough memory for a buffer of {bytes} bytes")]
pub struct OutOfMemory {
    /// The buffer's size.
    pub bytes: usize,
}

impl OpError {
    /// What kind of error it is, if it is the program that asks for the operation.
    pub fn kind(&self) -> ErrorKind {
        match self {
            OpError::NotYetKnown => ErrorKind::Other,
            OpError::Missing(_) | OpError::Argument { .. } | OpError::Invalid(_) => {
                ErrorKind::BrokenModel
            }
            OpError::Unsupported(_) => ErrorKind::Unsupported,
            OpError::Kernel(KernelError::Memory { .. } | KernelError::Overflow { .. })
            | OpError::OutOfMemory(_)
            | OpError::MemoryLimit { .. }
            | OpError::TimeLimit { .. } => ErrorKind::Limit,
            OpError::Cancelled => ErrorKind::Cancelled,
            OpError::Kernel(KernelError::Threads { .. } | KernelError::Entropy { .. }) => {
                ErrorKind::Unavailable
            }
            OpError::Kernel(_) => ErrorKind::BrokenModel,
        }
    }

    /// A broken rule.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        OpError::Invalid(message.into())
    }

    /// A case that is left out.
    pub(crate) fn unsupported(what: impl Into<String>) -> Self {
        OpError::Unsupported(what.into())
    }

    /// An argument that is not what it has to be.
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

    /// A size beyond what memory can address.
    pub(crate) fn too_large() -> Self {
        OpError::invalid("the result's size overflows")
    }
}
