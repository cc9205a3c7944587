//! What can go wrong while a model is read.

use std::path::{Path, PathBuf};

use crate::model::KindInWords;

/// Why a model could not be read. The text names the file, the field or the place, what was
/// expected and what was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The operating system refused.
    #[error("cannot read `{}`: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The path leads to something that is not a Core ML model, or to a damaged container.
    #[error("`{}` {message}", path.display())]
    Container {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong, as the rest of a sentence that starts with the path.
        message: String,
    },
    /// A Git LFS pointer lies where the file's content is expected.
    #[error(
        "`{}` is a Git LFS pointer, not the file itself: run `git lfs pull`, or download the model \
         with `candle-coreml download ORG/NAME`",
        path.display()
    )]
    GitLfsPointer {
        /// The pointer file.
        path: PathBuf,
    },
    /// A model of Core AI, not of Core ML.
    #[error(
        "`{}` is a Core AI model (.aimodel: MLIR bytecode), Apple's format beside Core ML since \
         2026; export the model to Core ML instead, with coremltools' `convert_to=\"mlprogram\"`",
        path.display()
    )]
    CoreAi {
        /// The model.
        path: PathBuf,
    },
    /// A program is asked of a model of another kind.
    #[error("`{}` is a {kind}, not an ML Program", path.display())]
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
    #[error("{field}: {message}")]
    Field {
        /// Path to the field, e.g. `function main, operation conv_1, attribute val`.
        field: String,
        /// What was expected and what was found.
        message: String,
    },
    /// MIL text is malformed.
    #[error("line {line}, column {column}: {message}")]
    Text {
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What was expected and what was found.
        message: String,
    },
    /// A weight blob file or a record in it is malformed, or is not what the program says.
    #[error("blob at offset {offset}: {message}")]
    Blob {
        /// Offset of the metadata record in the file; 0 for the file's header.
        offset: u64,
        /// What was expected and what was found.
        message: String,
    },
    /// The program refers to a file that it has no business with.
    #[error("file name `{name}`: {message}")]
    FileName {
        /// The name as the program or the manifest spells it.
        name: String,
        /// Why it is refused.
        message: String,
    },
    /// The program is readable but not well formed.
    #[error("function `{function}`, operation `{operation}`: {message}")]
    InvalidProgram {
        /// The function.
        function: String,
        /// The operation's name; `outputs` for the block's results.
        operation: String,
        /// What is wrong.
        message: String,
    },
    /// An error inside a file.
    #[error("in `{}`: {source}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// The error.
        source: Box<FormatError>,
    },
}

impl FormatError {
    pub(crate) fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        FormatError::Field { field: field.into(), message: message.into() }
    }

    pub(crate) fn container(path: &Path, message: impl Into<String>) -> Self {
        FormatError::Container { path: path.to_owned(), message: message.into() }
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        |source| FormatError::Io { path: path.to_owned(), source }
    }

    /// Says in which file the error is, unless it says so already.
    pub(crate) fn in_file(self, path: &Path) -> Self {
        use FormatError::*;
        match self {
            Io { .. }
            | Container { .. }
            | GitLfsPointer { .. }
            | CoreAi { .. }
            | NotAProgram { .. }
            | InFile { .. } => self,
            Protobuf(_)
            | Field { .. }
            | Text { .. }
            | Blob { .. }
            | FileName { .. }
            | InvalidProgram { .. } => InFile { path: path.to_owned(), source: Box::new(self) },
        }
    }

    /// Puts an outer place before the field's own: `inner` becomes `outer, inner`.
    pub(crate) fn within(self, outer: &str) -> Self {
        match self {
            FormatError::Field { field, message } => {
                FormatError::Field { field: format!("{outer}, {field}"), message }
            }
            other => other,
        }
    }
}
