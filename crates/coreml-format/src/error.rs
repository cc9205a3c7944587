//! What can go wrong while a model is read or written.

use std::path::{Path, PathBuf};

use crate::model::KindInWords;
use crate::package::PackageKind;
use crate::printable::{printable_message, printable_name, printable_path};

/// The error behind an error, of whatever type.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What kind of thing went wrong, for those who have to act on it: a server that picks a status code,
/// a binding that picks an exception. Errors of every layer have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// What the caller gave does not fit: an input's name, shape or value, an option, a prompt.
    InvalidInput,
    /// What the caller named is not there: a file, a function, a model of the hub.
    NotFound,
    /// The caller may not have it.
    Denied,
    /// The model is sound, but has something that is not computed here.
    Unsupported,
    /// The model's files are damaged, contradict each other, or say what can't be.
    BrokenModel,
    /// More memory, disk, context or threads would be needed than there are.
    Limit,
    /// It was stopped before its end.
    Cancelled,
    /// The system or the network failed; another try may succeed.
    Unavailable,
    /// Anything else: a fault of this library, or an error of the caller's own code that it passes on.
    Other,
}

impl ErrorKind {
    /// The kind of an error of the operating system.
    pub fn of_io(error: &std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        match error.kind() {
            Io::NotFound | Io::NotADirectory | Io::IsADirectory => ErrorKind::NotFound,
            Io::PermissionDenied | Io::ReadOnlyFilesystem => ErrorKind::Denied,
            Io::InvalidInput | Io::InvalidFilename => ErrorKind::InvalidInput,
            Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge | Io::OutOfMemory => {
                ErrorKind::Limit
            }
            _ => ErrorKind::Unavailable,
        }
    }
}

/// Why a model could not be read or written. The text names the file, the field or the place, what was
/// expected and what was found.
/// Text from files in it is [`printable`](crate::printable) and cut where it is long; fields have it whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The operating system refused.
    #[error("cannot read `{}`: {source}{}", printable_path(path), remedy(source))]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The operating system refused to write.
    #[error("cannot write `{}`: {source}{}", printable_path(path), writing_remedy(source))]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Nothing may be written to the path that was given.
    #[error("`{}` {}", printable_path(path), printable_message(message))]
    Output {
        /// The path.
        path: PathBuf,
        /// Why not, and what to do, as the rest of a sentence that starts with the path.
        message: String,
    },
    /// There is something already at the path that was to be written.
    #[error(
        "`{}` already exists; choose another path, or have it replaced (`--force`, \
         `IfExists::Replace`, `overwrite=True`)",
        printable_path(path)
    )]
    OutputExists {
        /// The path.
        path: PathBuf,
    },
    /// A model in another form than the one that is needed.
    #[error("`{}` is a {found}, not {expected}", printable_path(path))]
    WrongForm {
        /// The model.
        path: PathBuf,
        /// Its form.
        found: PackageKind,
        /// What it should be.
        expected: &'static str,
    },
    /// The path leads to something that is not a Core ML model, or to a damaged container.
    #[error("`{}` {}", printable_path(path), printable_message(message))]
    Container {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong, as the rest of a sentence that starts with the path.
        message: String,
        /// The error behind it, if there is one.
        source: Option<Cause>,
    },
    /// A Git LFS pointer lies where the file's content is expected.
    #[error(
        "`{}` is a Git LFS pointer, not the file itself: run `git lfs pull`, or download the model \
         again with its large files",
        printable_path(path)
    )]
    GitLfsPointer {
        /// The pointer file.
        path: PathBuf,
    },
    /// A model of Core AI, not of Core ML.
    #[error(
        "`{}` is a Core AI model (.aimodel: MLIR bytecode), Apple's format beside Core ML since \
         2026; export the model to Core ML instead, with coremltools' `convert_to=\"mlprogram\"`",
        printable_path(path)
    )]
    CoreAi {
        /// The model.
        path: PathBuf,
    },
    /// A program is asked of a model of another kind.
    #[error("`{}` is a {kind}, not an ML Program: {}", printable_path(path), kind.remedy())]
    NotAProgram {
        /// The model.
        path: PathBuf,
        /// What it is.
        kind: KindInWords,
    },
    /// The bytes are not the protobuf message that they should be.
    #[error("not a valid Core ML protobuf message: {0}")]
    Protobuf(#[from] prost::DecodeError),
    /// A message decodes but a field of it makes no sense.
    #[error("{}: {}", printable_message(field), printable_message(message))]
    Field {
        /// Path to the field, e.g. `function main, operation conv_1, attribute val`.
        field: String,
        /// What was expected and what was found.
        message: String,
        /// The error behind it, if there is one.
        source: Option<Cause>,
    },
    /// MIL text is malformed.
    #[error("line {line}, column {column}: {}", printable_message(message))]
    Text {
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What was expected and what was found.
        message: String,
    },
    /// A weight blob file or a record in it is malformed, or is not what the program says.
    #[error("blob at offset {offset}: {}", printable_message(message))]
    Blob {
        /// Offset of the metadata record in the file; 0 for the file's header.
        offset: u64,
        /// What was expected and what was found.
        message: String,
    },
    /// The program refers to a file that it has no business with.
    #[error("file name `{}`: {}", printable_name(name), printable_message(message))]
    FileName {
        /// The name as the program or the manifest spells it.
        name: String,
        /// Why it is refused.
        message: String,
    },
    /// The program is readable but not well formed.
    #[error(
        "function `{}`, operation `{}`: {}",
        printable_name(function),
        printable_name(operation),
        printable_message(message)
    )]
    InvalidProgram {
        /// The function.
        function: String,
        /// The operation's name; `outputs` for the block's results.
        operation: String,
        /// What is wrong.
        message: String,
    },
    /// An error inside a file.
    #[error(transparent)]
    InFile(Box<InFile>),
}

/// An error with the file that it is in.
#[derive(Debug, thiserror::Error)]
#[error("in `{}`: {source}", printable_path(path))]
#[non_exhaustive]
pub struct InFile {
    /// The file.
    pub path: PathBuf,
    /// The error.
    pub source: FormatError,
}

fn remedy(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            "; it takes the right to read the file (`chmod u+r`) and to enter its directories \
             (`chmod u+x`)"
        }
        _ => "",
    }
}

fn writing_remedy(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::NotFound => "; its directory has to be there",
        std::io::ErrorKind::PermissionDenied => {
            "; it takes the right to write to the directory (`chmod u+wx`)"
        }
        _ => "",
    }
}

impl FormatError {
    pub(crate) fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        FormatError::Field { field: field.into(), message: message.into(), source: None }
    }

    pub(crate) fn container(path: &Path, message: impl Into<String>) -> Self {
        FormatError::Container { path: path.to_owned(), message: message.into(), source: None }
    }

    /// Names the error behind this one, a [`Field`](Self::Field) or a [`Container`](Self::Container).
    pub(crate) fn caused_by(mut self, cause: impl Into<Cause>) -> Self {
        if let FormatError::Container { source, .. } | FormatError::Field { source, .. } = &mut self
        {
            *source = Some(cause.into());
        }
        self
    }

    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        use FormatError::*;
        match self {
            Io { source, .. } | Write { source, .. } => ErrorKind::of_io(source),
            Output { .. } | OutputExists { .. } | WrongForm { .. } => ErrorKind::InvalidInput,
            FormatError::InFile(error) => error.source.kind(),
            CoreAi { .. } | NotAProgram { .. } => ErrorKind::Unsupported,
            Container { .. }
            | GitLfsPointer { .. }
            | Protobuf(_)
            | Field { .. }
            | Text { .. }
            | Blob { .. }
            | FileName { .. }
            | InvalidProgram { .. } => ErrorKind::BrokenModel,
        }
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        |source| FormatError::Io { path: path.to_owned(), source }
    }

    pub(crate) fn write(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        |source| FormatError::Write { path: path.to_owned(), source }
    }

    pub(crate) fn output(path: &Path, message: impl Into<String>) -> Self {
        FormatError::Output { path: path.to_owned(), message: message.into() }
    }

    /// Says in which file the error is, unless it says so already.
    pub(crate) fn in_file(self, path: &Path) -> Self {
        use FormatError::*;
        match self {
            Io { .. }
            | Write { .. }
            | Output { .. }
            | OutputExists { .. }
            | WrongForm { .. }
            | Container { .. }
            | GitLfsPointer { .. }
            | CoreAi { .. }
            | NotAProgram { .. }
            | FormatError::InFile(_) => self,
            Protobuf(_)
            | Field { .. }
            | Text { .. }
            | Blob { .. }
            | FileName { .. }
            | InvalidProgram { .. } => {
                let path = path.to_owned();
                FormatError::InFile(Box::new(self::InFile { path, source: self }))
            }
        }
    }

    /// Puts an outer place before the field's own: `inner` becomes `outer, inner`.
    pub(crate) fn within(self, outer: &str) -> Self {
        match self {
            FormatError::Field { field, message, source } => {
                FormatError::Field { field: format!("{outer}, {field}"), message, source }
            }
            other => other,
        }
    }
}
