//! File names from untrusted files, resolved inside a package only.

use std::io;
use std::path::{Component, Path, PathBuf};

use crate::FormatError;
use crate::files;

const MODEL_PATH: &str = "@model_path/";

/// The part of a blob file's name behind `@model_path/`.
pub(crate) fn blob_path(name: &str) -> Result<&str, FormatError> {
    name.strip_prefix(MODEL_PATH).ok_or_else(|| FormatError::FileName {
        name: name.to_owned(),
        message: format!("blob file names start with `{MODEL_PATH}`"),
    })
}

/// Joins a relative name to a directory; the result, links followed, must lie below `root`, which
/// is canonical, as [`files::inside`] has it.
pub(super) fn resolve(root: &Path, dir: &Path, relative: &str) -> Result<PathBuf, FormatError> {
    let refuse = |message: &str| FormatError::FileName {
        name: relative.to_owned(),
        message: message.to_owned(),
    };
    let plain = |component| matches!(component, Component::Normal(_) | Component::CurDir);
    // A backslash separates on Windows only, and no writer of models uses one.
    if relative.is_empty() || relative.contains('\\') || relative.contains('\0') {
        return Err(refuse("expected a relative path with `/` between its parts"));
    }
    if !Path::new(relative).components().all(plain) {
        return Err(refuse("absolute paths and `..` are not allowed in a model"));
    }
    let path = dir.join(relative);
    files::inside(root, &path)?
        .ok_or_else(|| FormatError::io(&path)(io::ErrorKind::NotFound.into()))
}
