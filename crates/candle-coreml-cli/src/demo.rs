//! The demo model. It is part of the program, so that text can be generated anywhere and without a
//! network; packages are mapped from files, so it is written to the user's cache first.

use std::ffi::OsStr;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::{Context, Result};
use candle_coreml::{HubError, OwnCache};
use include_dir::{Dir, DirEntry, File, include_dir};
use tempfile::TempDir;

/// What the model is called on the command line.
pub const NAME: &str = "demo";

static DEMO: Dir = include_dir!("$CARGO_MANIFEST_DIR/demo");

/// The demo model in a directory.
pub enum Demo {
    /// In the user's cache.
    Cached(PathBuf),
    /// In a directory of its own, removed in the end.
    Temporary(TempDir),
}

impl Demo {
    /// Where it is.
    pub fn path(&self) -> &Path {
        match self {
            Demo::Cached(path) => path,
            Demo::Temporary(directory) => directory.path(),
        }
    }
}

/// The demo model in the user's cache; where that can't be written, in a temporary directory.
pub fn extract() -> Result<Demo> {
    let own = OwnCache::new();
    let error = match extract_to_cache(&DEMO, &own) {
        Ok(path) => return Ok(Demo::Cached(path)),
        Err(error) => error,
    };
    tracing::debug!(cache = %own.dir().display(), %error, "no cache");
    temporary(&DEMO).map(Demo::Temporary).with_context(|| {
        format!(
            "can't write the demo model anywhere: {error}; TMPDIR names a directory to write to"
        )
    })
}

/// Writes the files to a directory of their own in one of those for temporary files, the one in memory
/// being the last: a container may have no other that can be written.
fn temporary(files: &Dir) -> io::Result<TempDir> {
    let in_memory = Path::new("/dev/shm");
    let mut written = write_temporary(files, &std::env::temp_dir());
    if written.is_err() && in_memory.is_dir() {
        written = write_temporary(files, in_memory);
    }
    written
}

fn write_temporary(files: &Dir, place: &Path) -> io::Result<TempDir> {
    let directory = tempfile::Builder::new().prefix("candle-coreml-demo-").tempdir_in(place)?;
    write_all(files, directory.path())?;
    Ok(directory)
}

/// Writes the files under a name that depends on their content, so that another version of the
/// program has another directory.
fn extract_to_cache(files: &Dir, cache: &OwnCache) -> Result<PathBuf, HubError> {
    let name = format!("demo-{:016x}", content_hash(files));
    cache.make(name, |target| is_complete(files, target), |root| write_all(files, root))
}

fn write_all(files: &Dir, target: &Path) -> io::Result<()> {
    for file in all_files(files) {
        let path = target.join(file.path());
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, file.contents())?;
    }
    Ok(())
}

/// Whether the files are there in their sizes.
fn is_complete(files: &Dir, target: &Path) -> bool {
    all_files(files).iter().all(|file| {
        fs::metadata(target.join(file.path()))
            .is_ok_and(|metadata| metadata.len() == file.contents().len() as u64)
    })
}

fn content_hash(files: &Dir) -> u64 {
    let mut hasher = DefaultHasher::new();
    for file in all_files(files) {
        file.path().hash(&mut hasher);
        file.contents().hash(&mut hasher);
    }
    hasher.finish()
}

/// All files at any depth, without what the system left there.
fn all_files<'a>(directory: &Dir<'a>) -> Vec<&'a File<'a>> {
    let mut files = Vec::new();
    for entry in directory.entries() {
        match entry {
            DirEntry::Dir(inner) => files.extend(all_files(inner)),
            DirEntry::File(file) if file.path().file_name() != Some(OsStr::new(".DS_Store")) => {
                files.push(file);
            }
            DirEntry::File(_) => {}
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cached_copy_is_whole_and_is_mended_when_it_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let cache = OwnCache::at(directory.path());
        let path = extract_to_cache(&DEMO, &cache).unwrap();
        let file = path.join("tokenizer.json");
        let text = fs::read(&file).unwrap();
        assert_eq!(text, DEMO.get_file("tokenizer.json").unwrap().contents());
        fs::write(&file, "cut").unwrap();
        assert_eq!(extract_to_cache(&DEMO, &cache).unwrap(), path);
        assert_eq!(fs::read(&file).unwrap(), text);
        assert_eq!(fs::read_dir(cache.temp_dir()).unwrap().count(), 0);
    }

    #[test]
    fn a_temporary_copy_goes_with_its_owner() {
        let directory = temporary(&DEMO).unwrap();
        assert!(is_complete(&DEMO, directory.path()));
        let path = directory.path().to_owned();
        drop(directory);
        assert!(!path.exists());
    }
}
