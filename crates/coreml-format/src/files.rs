//! The one way to the files of a model, which come from strangers.
//!
//! The path that a user gives is trusted, be it a link. What lies below it is not: a file must be a
//! regular one, of a size that such a file can have, in the same directory or below it, links
//! followed. One kind of link may leave: that of a snapshot in a Hugging Face cache
//! (`models--org--name/snapshots/COMMIT`) to the `blobs` of the same model, which is how such caches
//! are made.

use std::fs::{File, FileType, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::FormatError;

/// What a file is for, which says how large it can be. Each limit is a multiple of the largest file
/// of its kind that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileKind {
    /// Settings, manifests, metadata, chat templates: up to 32 MiB.
    Settings,
    /// A tokenizer with its vocabulary: up to 128 MiB.
    Tokenizer,
    /// A program as MIL text: up to 256 MiB.
    ProgramText,
    /// A protobuf message: up to 2 GiB, as protobuf itself has it.
    Message,
    /// Weights, which are mapped and not read: of any size.
    Weights,
}

impl FileKind {
    pub(crate) fn largest(self) -> u64 {
        match self {
            FileKind::Settings => 32 << 20,
            FileKind::Tokenizer => 128 << 20,
            FileKind::ProgramText => 256 << 20,
            FileKind::Message => 2 << 30,
            FileKind::Weights => u64::MAX,
        }
    }
}

/// More entries than the directory of any model has.
const MOST_ENTRIES: usize = 10_000;

/// Reads a file of a model's directory, which is the one that the path names; `None` when there is
/// no file of this name.
///
/// # Errors
/// When it is no regular file, too large for its kind, a link that leads out of the directory, or
/// the system refuses.
pub fn read_file(path: &Path, kind: FileKind) -> Result<Option<Vec<u8>>, FormatError> {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let root = match directory.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        root => root.map_err(FormatError::io(directory))?,
    };
    inside(&root, path)?.map(|file| read(&file, kind)).transpose()
}

/// Paths in a directory.
///
/// # Errors
/// When it is no directory, has more entries than any model's, or the system refuses.
pub fn entries(directory: &Path) -> Result<Vec<PathBuf>, FormatError> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(FormatError::io(directory))? {
        if paths.len() == MOST_ENTRIES {
            let message = format!(
                "has more than {MOST_ENTRIES} entries, far more than a model; give the model a \
                 directory of its own"
            );
            return Err(FormatError::container(directory, message));
        }
        paths.push(entry.map_err(FormatError::io(directory))?.path());
    }
    Ok(paths)
}

/// What kind of thing lies in the file system, as people call it.
pub fn name_of(kind: FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return "a named pipe";
        } else if kind.is_socket() {
            return "a socket";
        } else if kind.is_char_device() || kind.is_block_device() {
            return "a device";
        }
    }
    if kind.is_dir() {
        "a directory"
    } else if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_file() {
        "a regular file"
    } else {
        "no regular file"
    }
}

/// Where a path below `root`, which is canonical, leads; `None` when nothing is there. No links are
/// left in the result.
pub(crate) fn inside(root: &Path, path: &Path) -> Result<Option<PathBuf>, FormatError> {
    let kind = match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        metadata => metadata.map_err(FormatError::io(path))?.file_type(),
    };
    let resolved = match path.canonicalize() {
        Err(error) if kind.is_symlink() => return Err(broken_link(path, error)),
        resolved => resolved.map_err(FormatError::io(path))?,
    };
    if resolved.starts_with(root) || is_hub_blob(root, &resolved) {
        return Ok(Some(resolved));
    }
    let message = format!(
        "is a symbolic link that leads out of the model, to `{}`; put the file itself there, or \
         copy the model with its links resolved (`cp -RL`)",
        resolved.display()
    );
    Err(FormatError::container(path, message))
}

fn broken_link(path: &Path, error: io::Error) -> FormatError {
    let target = path.read_link().unwrap_or_default();
    let message = format!(
        "is a symbolic link to `{}`, which leads nowhere ({error}); download or copy the model \
         again, with the files that its links stand for",
        target.display()
    );
    FormatError::container(path, message).caused_by(error)
}

/// Whether a place in a snapshot of a Hugging Face cache may link to a file: one in the `blobs` of
/// the same model. Both paths are canonical.
pub(crate) fn is_hub_blob(place: &Path, file: &Path) -> bool {
    let Some(blobs) = file.parent().filter(|blobs| blobs.ends_with("blobs")) else { return false };
    let Some(model) = blobs.parent() else { return false };
    let name = model.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let in_snapshot = |rest: &Path| rest.components().next().is_some();
    name.starts_with("models--")
        && place.strip_prefix(model.join("snapshots")).is_ok_and(in_snapshot)
}

/// Reads a file whose path is canonical.
pub(crate) fn read(path: &Path, kind: FileKind) -> Result<Vec<u8>, FormatError> {
    let mut bytes = Vec::new();
    // The file may grow while it is read, and some say of themselves that they are empty.
    let limit = kind.largest().saturating_add(1);
    let file = open(path, kind)?;
    file.take(limit).read_to_end(&mut bytes).map_err(FormatError::io(path))?;
    check_size(path, bytes.len() as u64, kind)?;
    Ok(bytes)
}

/// Opens a regular file whose path is canonical, so that a link in its place is one that was put
/// there since. What it is and how large is asked of the open file: nothing can take its place.
pub(crate) fn open(path: &Path, kind: FileKind) -> Result<File, FormatError> {
    // Before it is opened, too, since to open a device may have effects.
    let before = path.symlink_metadata().map_err(FormatError::io(path))?;
    check_type(path, before.file_type())?;
    let file = open_at_once(path).map_err(FormatError::io(path))?;
    let metadata = file.metadata().map_err(FormatError::io(path))?;
    check_type(path, metadata.file_type())?;
    check_size(path, metadata.len(), kind)?;
    Ok(file)
}

/// Opens a file without waiting for another end, as of a pipe, and without following a link.
fn open_at_once(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;

        use rustix::fs::OFlags;
        let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY;
        options.custom_flags(flags.bits() as i32);
    }
    options.read(true).open(path)
}

pub(crate) fn check_type(path: &Path, kind: FileType) -> Result<(), FormatError> {
    if kind.is_file() {
        return Ok(());
    }
    let message = format!(
        "is {}, where a model has a regular file; put the file itself there, or download the model \
         again",
        name_of(kind)
    );
    Err(FormatError::container(path, message))
}

fn check_size(path: &Path, size: u64, kind: FileKind) -> Result<(), FormatError> {
    let largest = kind.largest();
    if size <= largest {
        return Ok(());
    }
    let message = format!(
        "is larger than {} MiB, which no such file is; download the model again",
        largest >> 20
    );
    Err(FormatError::container(path, message))
}
