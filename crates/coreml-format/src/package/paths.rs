//! File names from untrusted files, resolved inside a package only.

use std::path::{Component, Path, PathBuf};

use crate::FormatError;

const MODEL_PATH: &str = "@model_path/";

/// The part of a blob file's name behind `@model_path/`.
pub(super) fn blob_path(name: &str) -> Result<&str, FormatError> {
    name.strip_prefix(MODEL_PATH).ok_or_else(|| FormatError::FileName {
        name: name.to_owned(),
        message: format!("blob file names start with `{MODEL_PATH}`"),
    })
}

/// Joins a relative name to a directory; the result, links followed, must lie below `root`, which
/// is canonical. A package in a Hugging Face cache is made of links to blobs of the same model:
/// these are followed, too.
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
    let resolved = path.canonicalize().map_err(FormatError::io(&path))?;
    if !resolved.starts_with(root) && !is_hub_blob(root, &resolved) {
        return Err(refuse(
            "the file is a symbolic link that leads out of the model; copy the model with its \
             links resolved (`cp -RL`)",
        ));
    }
    Ok(resolved)
}

/// Whether a place in a snapshot of a Hugging Face cache (`models--org--name/snapshots/COMMIT`) may
/// link to a file: one in the `blobs` of the same model. Both paths are canonical.
pub(super) fn is_hub_blob(place: &Path, file: &Path) -> bool {
    let Some(blobs) = file.parent().filter(|blobs| blobs.ends_with("blobs")) else { return false };
    let Some(model) = blobs.parent() else { return false };
    let name = model.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let in_snapshot = |rest: &Path| rest.components().next().is_some();
    name.starts_with("models--")
        && place.strip_prefix(model.join("snapshots")).is_ok_and(in_snapshot)
}
