//! `Manifest.json` of a `.mlpackage`: which item is the model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::paths;
use crate::FormatError;
use crate::blob::refuse_lfs_pointer;
use crate::files::{self, FileKind};

const MANIFEST: &str = "Manifest.json";
const DATA: &str = "Data";
/// Where the model lies in packages without a manifest.
const DEFAULT_MODEL: &str = "com.apple.CoreML/model.mlmodel";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    item_info_entries: BTreeMap<String, Item>,
    root_model_identifier: String,
}

#[derive(Deserialize)]
struct Item {
    path: String,
}

/// The model file of a package.
pub(super) struct ModelFile {
    /// The file itself, links followed.
    pub(super) file: PathBuf,
    /// The directory in the package that it lies in, which weights are named from.
    pub(super) dir: PathBuf,
}

/// Whether a directory looks like a package.
pub(crate) fn is_package(root: &Path) -> bool {
    [MANIFEST, DATA].iter().all(|name| root.join(name).symlink_metadata().is_ok())
}

/// The model file of the package in `root` (canonical); `None` when it is no package at all.
pub(super) fn model_file(root: &Path) -> Result<Option<ModelFile>, FormatError> {
    let data = root.join(DATA);
    let manifest = root.join(MANIFEST);
    let item = match files::inside(root, &manifest)? {
        Some(file) => root_item(&file).map_err(|error| error.in_file(&manifest))?,
        None if data.join(DEFAULT_MODEL).symlink_metadata().is_ok() => DEFAULT_MODEL.to_owned(),
        None => return Ok(None),
    };
    let file = paths::resolve(root, &data, &item).map_err(|error| error.in_file(&manifest))?;
    if file.is_dir() {
        return Err(FormatError::container(&file, "is the package's root model but not a file"));
    }
    let dir = data.join(item).parent().unwrap_or(&data).to_owned();
    Ok(Some(ModelFile { file, dir }))
}

/// Path of the root model's item, relative to `Data`.
fn root_item(file: &Path) -> Result<String, FormatError> {
    let bytes = files::read(file, FileKind::Settings)?;
    refuse_lfs_pointer(file, &bytes)?;
    let mut manifest: Manifest = serde_json::from_slice(&bytes)
        .map_err(|error| FormatError::field("manifest", error.to_string()).caused_by(error))?;
    let root = manifest.root_model_identifier;
    manifest.item_info_entries.remove(&root).map(|item| item.path).ok_or_else(|| {
        FormatError::field(
            "rootModelIdentifier",
            format!("`{root}` is not among the keys of `itemInfoEntries`"),
        )
    })
}
