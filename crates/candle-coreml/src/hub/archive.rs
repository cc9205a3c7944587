//! Zip archives of packages (`.mlmodelc.zip`), which may have been made to do harm.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use zip::ZipArchive;
use zip::read::ZipFile;

use super::id::is_relative;
use super::{HubError, files};

/// More entries than any package has.
const MOST_ENTRIES: usize = 10_000;
/// An archive may unpack to this many times its size, and `SLACK` bytes more: weights hardly shrink
/// at all, program text to a thirtieth.
const LARGEST_RATIO: u64 = 100;
const SLACK: u64 = 64 << 20;
/// What macOS adds to archives.
const CLUTTER: [&str; 2] = ["__MACOSX", ".DS_Store"];

/// Unpacks an archive into an empty directory and gives the place of the package in it: the one
/// directory in it, or all of it.
pub(super) fn unpack(archive: &Path, directory: &Path) -> Result<PathBuf, HubError> {
    let wrong = |error: zip::result::ZipError| {
        let message = format!("is not a sound zip archive: {error}");
        HubError::archive(archive, message).caused_by(error)
    };
    let file = File::open(archive).map_err(HubError::io(archive))?;
    let size = file.metadata().map_err(HubError::io(archive))?.len();
    let mut zip = ZipArchive::new(io::BufReader::new(file)).map_err(wrong)?;
    if zip.len() > MOST_ENTRIES {
        let message = format!("has {} entries, more than {MOST_ENTRIES}", zip.len());
        return Err(HubError::archive(archive, message));
    }
    let limit = size.saturating_mul(LARGEST_RATIO).saturating_add(SLACK);
    let mut left = limit;
    for index in 0..zip.len() {
        let entry = zip.by_index(index).map_err(wrong)?;
        left = unpack_entry(entry, directory, left).map_err(|error| match error {
            EntryError::Unsound(error) => wrong(error),
            EntryError::Refused(message) => HubError::archive(archive, message),
            EntryError::TooLarge => HubError::archive(
                archive,
                format!("of {size} bytes unpacks to more than {limit}: it looks like a zip bomb"),
            ),
            EntryError::Io(path, source) => HubError::Io { path, source },
        })?;
    }
    package_in(directory)
}

enum EntryError {
    Unsound(zip::result::ZipError),
    Refused(String),
    TooLarge,
    Io(PathBuf, io::Error),
}

/// Unpacks an entry of at most `left` bytes, and gives how many are left after it.
fn unpack_entry<R: Read>(
    mut entry: ZipFile<'_, R>,
    directory: &Path,
    left: u64,
) -> Result<u64, EntryError> {
    let name = entry.name().map_err(EntryError::Unsound)?.into_owned();
    let relative = name.trim_end_matches('/');
    if CLUTTER.iter().any(|clutter| relative.split('/').any(|part| part == *clutter)) {
        return Ok(left);
    }
    if !is_relative(relative) {
        return Err(EntryError::Refused(format!("has the entry `{name}`, which leads out of it")));
    }
    if entry.is_symlink() {
        return Err(EntryError::Refused(format!("has the symbolic link `{name}`")));
    }
    let path = directory.join(relative);
    let failed = |error| EntryError::Io(path.clone(), error);
    if entry.is_dir() {
        fs::create_dir_all(&path).map_err(failed)?;
        return Ok(left);
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    // Two entries of one name would be a way around the checks of others.
    let mut out = File::create_new(&path).map_err(failed)?;
    // What the archive says of sizes is not to be trusted: bytes are counted as they come.
    let count =
        io::copy(&mut entry.by_ref().take(left.saturating_add(1)), &mut out).map_err(failed)?;
    left.checked_sub(count).ok_or(EntryError::TooLarge)
}

fn package_in(directory: &Path) -> Result<PathBuf, HubError> {
    match files::entries(directory)?.as_slice() {
        [only] if only.is_dir() => Ok(only.clone()),
        _ => Ok(directory.to_owned()),
    }
}
