//! Small things about files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::{NamedTempFile, PersistError};

use super::HubError;

/// Makes a directory with its parents.
pub(super) fn create_directory(path: &Path) -> Result<(), HubError> {
    fs::create_dir_all(path).map_err(HubError::io(path))
}

/// Makes the directory that a file is to lie in.
pub(super) fn create_parent(path: &Path) -> Result<(), HubError> {
    path.parent().map_or(Ok(()), create_directory)
}

/// Writes a file elsewhere on the same disk, in `scratch`, and renames it: whoever reads it reads
/// all of it, and nothing else is left beside it when the process is killed.
pub(super) fn write_whole(path: &Path, bytes: &[u8], scratch: &Path) -> Result<(), HubError> {
    create_parent(path)?;
    create_directory(scratch)?;
    let mut file = temporary_file(scratch)?;
    file.write_all(bytes).map_err(HubError::io(path))?;
    persist(file, path)
}

fn temporary_file(scratch: &Path) -> Result<NamedTempFile, HubError> {
    tempfile::Builder::new()
        .prefix(".part-")
        .suffix(".incomplete")
        .tempfile_in(scratch)
        .map_err(HubError::io(scratch))
}

fn persist(file: NamedTempFile, path: &Path) -> Result<(), HubError> {
    let failed = |error: PersistError| HubError::Io { path: path.to_owned(), source: error.error };
    file.persist(path).map_err(failed).map(drop)
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
    let absent = |kind| matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
    let entries = match fs::read_dir(directory) {
        Err(error) if absent(error.kind()) => return Ok(Vec::new()),
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

/// Places a symbolic link to a file, in place of what is there; a copy, by way of `scratch` on the
/// same disk, where links can't be made. `target` is as the link says it, `source` the same place
/// from here.
pub(super) fn link(
    target: &Path,
    source: &Path,
    path: &Path,
    scratch: &Path,
) -> Result<(), HubError> {
    create_parent(path)?;
    if fs::read_link(path).is_ok_and(|there| there == target) {
        return Ok(());
    }
    // A link is made at once or not at all. Without one for a moment the file is missing, which a
    // download mends; a link of another name that is renamed would stay when the process is killed.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(HubError::io(path)(error));
        }
        _ => {}
    }
    match symlink(target, path) {
        Ok(()) => Ok(()),
        // Another process was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(_) => copy_whole(source, path, scratch),
    }
}

fn copy_whole(source: &Path, path: &Path, scratch: &Path) -> Result<(), HubError> {
    let mut file = temporary_file(scratch)?;
    let mut from = File::open(source).map_err(HubError::io(source))?;
    io::copy(&mut from, &mut file).map_err(HubError::io(path))?;
    persist(file, path)
}

/// Places a file under another name where there is none, without copying its content if it lies on
/// the same disk.
pub(super) fn share(source: &Path, path: &Path) -> Result<(), HubError> {
    create_parent(path)?;
    // Else another name for a link would be made.
    let content = source.canonicalize().map_err(HubError::io(source))?;
    fs::hard_link(&content, path)
        .or_else(|_| fs::copy(&content, path).map(drop))
        .map_err(HubError::io(path))
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

/// Whether a directory was last changed before this time.
pub(super) fn is_older(path: &Path, age: Duration) -> bool {
    let modified = fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
    let since = modified.ok().and_then(|time| SystemTime::now().duration_since(time).ok());
    since.is_some_and(|since| since >= age)
}
