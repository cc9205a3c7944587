//! Directories of this crate's cache that are made whole or not at all.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use super::{HubError, files};

/// A temporary directory of this age was left by a process that was killed.
const FORGOTTEN: Duration = Duration::from_secs(24 * 3600);

/// Where directories are made before they are renamed.
pub(super) fn temporary(own: &Path) -> PathBuf {
    own.join("temp")
}

/// Held by who makes a directory: while another holds it, what lies in [`temporary`] was left.
pub(super) fn lock(own: &Path) -> PathBuf {
    own.join("making.lock")
}

/// Makes a directory unless it is complete: elsewhere, by one process at a time, and renamed when it
/// is whole. So whoever finds it complete may use it without a lock.
pub(super) fn make(
    own: &Path,
    target: &Path,
    is_complete: &dyn Fn(&Path) -> bool,
    write: impl FnOnce(&Path) -> Result<(), HubError>,
) -> Result<(), HubError> {
    if is_complete(target) {
        return Ok(());
    }
    let _alone = files::lock(&lock(own)).map_err(unwritable)?;
    // Another process may have made it while this one waited.
    if is_complete(target) {
        return Ok(());
    }
    let temporary = temporary(own);
    remove_forgotten(&temporary);
    files::create_directory(&temporary)?;
    let fresh = tempfile::tempdir_in(&temporary).map_err(HubError::io(&temporary))?;
    let root = fresh.path().join("made");
    files::create_directory(&root)?;
    write(&root)?;
    files::create_parent(target)?;
    if target.symlink_metadata().is_ok() {
        // Incomplete, by someone's hand. Someone may be reading it, so it goes away whole.
        fs::rename(target, fresh.path().join("old")).map_err(HubError::io(target))?;
    }
    fs::rename(&root, target).map_err(HubError::io(target))
}

/// Says what to do where the cache's directory can't be written at all.
fn unwritable(error: HubError) -> HubError {
    use io::ErrorKind::{NotADirectory, PermissionDenied, ReadOnlyFilesystem};
    match error {
        HubError::Io { path, source }
            if matches!(
                source.kind(),
                NotADirectory | PermissionDenied | ReadOnlyFilesystem | io::ErrorKind::NotFound
            ) =>
        {
            let message = format!("{source}; XDG_CACHE_HOME names another directory for caches");
            HubError::Io { path, source: io::Error::new(source.kind(), message) }
        }
        other => other,
    }
}

/// Without locks in the file system, what is in the making may be another process's: its age tells.
fn remove_forgotten(temporary: &Path) {
    for path in files::entries(temporary).unwrap_or_default() {
        if files::is_older(&path, FORGOTTEN) {
            fs::remove_dir_all(&path).ok();
        }
    }
}
