//! Small things about files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::HubError;

/// Makes a directory with its parents.
pub(super) fn create_directory(path: &Path) -> Result<(), HubError> {
    fs::create_dir_all(path).map_err(HubError::io(path))
}

/// Makes the directory that a file is to lie in.
pub(super) fn create_parent(path: &Path) -> Result<(), HubError> {
    path.parent().map_or(Ok(()), create_directory)
}

/// Writes a file beside its place and renames it: whoever reads it reads all of it.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), HubError> {
    create_parent(path)?;
    let directory = path.parent().unwrap_or(path);
    let mut file = tempfile::Builder::new()
        .prefix(".tmp")
        .tempfile_in(directory)
        .map_err(HubError::io(directory))?;
    file.write_all(bytes).map_err(HubError::io(path))?;
    file.persist(path)
        .map_err(|error| HubError::Io { path: path.to_owned(), source: error.error })?;
    Ok(())
}

/// Holds a lock file together with others who share it.
pub(super) fn lock_shared(path: &Path) -> Result<File, HubError> {
    let file = open_lock(path)?;
    held(path, file.lock_shared()).map(|()| file)
}

/// Holds a lock file until it is dropped; the system lets go of it when the process ends, however
/// it does. The file stays: removing it would let two processes lock two files of one name.
pub(super) fn lock(path: &Path) -> Result<File, HubError> {
    let file = open_lock(path)?;
    held(path, file.lock()).map(|()| file)
}

fn held(path: &Path, result: io::Result<()>) -> Result<(), HubError> {
    match result {
        // Without locks in the file system two downloads at once may spoil each other, which the
        // check of the hash finds.
        Err(error) if error.kind() != io::ErrorKind::Unsupported => Err(HubError::io(path)(error)),
        _ => Ok(()),
    }
}

/// The lock, unless someone holds it.
pub(super) fn try_lock(path: &Path) -> Result<Option<File>, HubError> {
    let file = open_lock(path)?;
    match file.try_lock() {
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) if error.kind() != io::ErrorKind::Unsupported => {
            Err(HubError::io(path)(error))
        }
        _ => Ok(Some(file)),
    }
}

fn open_lock(path: &Path) -> Result<File, HubError> {
    create_parent(path)?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).open(path).map_err(HubError::io(path))
}

/// Size of the file at a path, links followed.
pub(super) fn size(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|metadata| metadata.len())
}

/// Paths in a directory; none when there is no such directory.
pub(super) fn entries(directory: &Path) -> Result<Vec<PathBuf>, HubError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(HubError::io(directory))?,
    };
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()).map_err(HubError::io(directory)))
        .collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    Ok(paths)
}

/// All files and links below a directory, links not followed.
pub(super) fn walk(directory: &Path) -> Result<Vec<PathBuf>, HubError> {
    let mut found = Vec::new();
    for path in entries(directory)? {
        let is_directory = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir());
        if is_directory { found.extend(walk(&path)?) } else { found.push(path) }
    }
    Ok(found)
}

/// Places a symbolic link to a file or directory, in place of what is there; a copy where links
/// can't be made. `target` is as the link says it, `source` the same place from here.
pub(super) fn link(target: &Path, source: &Path, path: &Path) -> Result<(), HubError> {
    create_parent(path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let fresh = path.with_file_name(format!(".{name}.{}", std::process::id()));
    // Left by a process of the same number that was killed here.
    fs::remove_file(&fresh).ok();
    let placed = match symlink(target, &fresh) {
        Ok(()) => Ok(()),
        Err(_) => copy(source, &fresh),
    };
    placed.and_then(|()| fs::rename(&fresh, path)).map_err(HubError::io(path))
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

/// Windows lets only some users make links, and has two kinds: copies always work.
#[cfg(not(unix))]
fn symlink(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

fn copy(source: &Path, target: &Path) -> io::Result<()> {
    if !source.is_dir() {
        return fs::copy(source, target).map(drop);
    }
    fs::create_dir(target)?;
    for entry in fs::read_dir(source)? {
        let entry = entry?;
        copy(&entry.path(), &target.join(entry.file_name()))?;
    }
    Ok(())
}
