//! Directories that models can be loaded from, where packages come in archives.

use std::fs;
use std::path::{Path, PathBuf};

use super::file_list::HubFile;
use super::snapshot::Snapshot;
use super::{HubError, ModelId, archive, files, making};

/// Ending of archives.
const ARCHIVE: &str = ".zip";

/// Where assembled models lie in this crate's cache.
pub(super) fn models(own: &Path) -> PathBuf {
    own.join("models")
}

/// Where the assembled model of a commit lies, if it needs to be assembled.
pub(super) fn directory(own: &Path, id: &ModelId, commit: &str) -> PathBuf {
    models(own).join(id.directory_name()).join(commit)
}

/// The directory of the snapshot's model. If packages of it are archives, it is one in this crate's
/// cache with the packages unpacked, which shares all other files.
pub(super) fn model_directory(own: &Path, snapshot: &Snapshot) -> Result<PathBuf, HubError> {
    let selection = &snapshot.selection;
    if !selection.files.iter().any(is_archive) {
        return Ok(selection.directory_in(&snapshot.path));
    }
    let target = directory(own, &snapshot.id, &snapshot.commit);
    let is_complete = |target: &Path| is_complete(target, snapshot);
    making::make(own, &target, &is_complete, |root| assemble(snapshot, root))?;
    Ok(selection.directory_in(&target))
}

fn is_archive(file: &HubFile) -> bool {
    file.path.ends_with(ARCHIVE)
}

/// Name in the assembled directory: an archive's is that of the package in it.
fn assembled_name(file: &HubFile) -> &str {
    file.path.strip_suffix(ARCHIVE).unwrap_or(&file.path)
}

/// Whether all files are there, and not as links, which models must not be made of.
fn is_complete(target: &Path, snapshot: &Snapshot) -> bool {
    let is_there = |path: &Path| path.symlink_metadata().is_ok_and(|there| !there.is_symlink());
    snapshot.selection.files.iter().all(|file| is_there(&target.join(assembled_name(file))))
}

fn assemble(snapshot: &Snapshot, root: &Path) -> Result<(), HubError> {
    for file in &snapshot.selection.files {
        let source = snapshot.path.join(&file.path);
        let path = root.join(assembled_name(file));
        if is_archive(file) {
            unpack(&source, &path, root.parent().unwrap_or(root))?;
        } else {
            files::share(&source, &path)?;
        }
    }
    Ok(())
}

/// Unpacks an archive to a package, which appears when it is whole. `scratch` is a directory on
/// the same disk.
fn unpack(source: &Path, path: &Path, scratch: &Path) -> Result<(), HubError> {
    let directory = tempfile::tempdir_in(scratch).map_err(HubError::io(scratch))?;
    let package = archive::unpack(source, directory.path())?;
    files::create_parent(path)?;
    fs::rename(&package, path).map_err(HubError::io(path))
}

/// Unpacks a directory's archives beside themselves, except where the package is there.
pub(super) fn unpack_beside(
    directory: &Path,
    selected: &[HubFile],
    scratch: &Path,
) -> Result<(), HubError> {
    for file in selected.iter().filter(|file| is_archive(file)) {
        let path = directory.join(assembled_name(file));
        if !path.exists() {
            unpack(&directory.join(&file.path), &path, scratch)?;
        }
    }
    Ok(())
}
