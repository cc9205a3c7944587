//! Directories that models can be loaded from, where packages come in archives.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::file_list::HubFile;
use super::snapshot::Snapshot;
use super::{HubError, ModelId, archive, files};

/// Ending of archives.
const ARCHIVE: &str = ".zip";
/// A temporary directory of this age was left by a process that was killed.
const FORGOTTEN: Duration = Duration::from_secs(24 * 3600);

/// Where assembled models and temporary files lie in this crate's cache.
pub(super) fn models(own: &Path) -> PathBuf {
    own.join("models")
}

pub(super) fn temporary(own: &Path) -> PathBuf {
    own.join("temp")
}

/// Where the assembled model of a commit lies, if it needs to be assembled.
pub(super) fn directory(own: &Path, id: &ModelId, commit: &str) -> PathBuf {
    models(own).join(id.directory_name()).join(commit)
}

/// The directory of the snapshot's model. If packages of it are archives, it is one in this crate's
/// cache with the packages unpacked and links to all else.
pub(super) fn model_directory(own: &Path, snapshot: &Snapshot) -> Result<PathBuf, HubError> {
    let selection = &snapshot.selection;
    if !selection.files.iter().any(is_archive) {
        return Ok(selection.directory_in(&snapshot.path));
    }
    let target = directory(own, &snapshot.id, &snapshot.commit);
    if !is_complete(&target, snapshot) {
        assemble(own, snapshot, &target)?;
    }
    Ok(selection.directory_in(&target))
}

fn is_archive(file: &HubFile) -> bool {
    file.path.ends_with(ARCHIVE)
}

/// Name in the assembled directory: an archive's is that of the package in it.
fn assembled_name(file: &HubFile) -> &str {
    file.path.strip_suffix(ARCHIVE).unwrap_or(&file.path)
}

fn is_complete(target: &Path, snapshot: &Snapshot) -> bool {
    snapshot.selection.files.iter().all(|file| target.join(assembled_name(file)).exists())
}

/// Assembles elsewhere and renames: what lies at `target` is whole.
fn assemble(own: &Path, snapshot: &Snapshot, target: &Path) -> Result<(), HubError> {
    let parent = target.parent().unwrap_or(own);
    files::create_directory(parent)?;
    let _held = files::lock(&parent.join(format!("{}.lock", snapshot.commit)))?;
    if is_complete(target, snapshot) {
        return Ok(());
    }
    let temporary = temporary(own);
    remove_forgotten(&temporary);
    files::create_directory(&temporary)?;
    let fresh = tempfile::tempdir_in(&temporary).map_err(HubError::io(&temporary))?;
    let root = fresh.path().join("model");
    files::create_directory(&root)?;
    for file in &snapshot.selection.files {
        let source = snapshot.path.join(&file.path);
        let path = root.join(assembled_name(file));
        if is_archive(file) {
            unpack(&source, &path, fresh.path())?;
        } else {
            link_package(snapshot, file, &root)?;
        }
    }
    if target.exists() {
        // Incomplete: assembled from fewer files. Someone may be reading it, so it goes away whole.
        let old = fresh.path().join("old");
        fs::rename(target, &old).map_err(HubError::io(target))?;
    }
    fs::rename(&root, target).map_err(HubError::io(target))
}

/// Links to a file of the snapshot, or to the package that it belongs to: packages refuse links out
/// of themselves but may lie behind one.
fn link_package(snapshot: &Snapshot, file: &HubFile, root: &Path) -> Result<(), HubError> {
    let is_package = |part: &str| part.ends_with(".mlpackage") || part.ends_with(".mlmodelc");
    let mut name = PathBuf::new();
    for part in file.path.split('/') {
        name.push(part);
        if is_package(part) {
            break;
        }
    }
    let path = root.join(&name);
    if path.exists() {
        return Ok(());
    }
    let source = snapshot.path.join(&name);
    let source = std::path::absolute(&source).map_err(HubError::io(&source))?;
    files::link_new(&source, &path)
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

fn remove_forgotten(temporary: &Path) {
    for path in files::entries(temporary).unwrap_or_default() {
        if files::is_older(&path, FORGOTTEN) {
            fs::remove_dir_all(&path).ok();
        }
    }
}
