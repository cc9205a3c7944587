//! The demo model. It is part of the program, so that text can be generated anywhere and without a
//! network; packages are mapped from files, so it is written to the user's cache first.

use std::ffi::OsStr;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::{Context, Result};
use candle_coreml::OwnCache;
use include_dir::{Dir, DirEntry, File, include_dir};
use tempfile::TempDir;

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

/// The demo model in the user's cache; where there is none to write to, in a temporary directory.
pub fn extract() -> Result<Demo> {
    let own = OwnCache::new();
    match extract_to_cache(&DEMO, own.dir()) {
        Ok(path) => return Ok(Demo::Cached(path)),
        Err(error) => tracing::debug!(cache = %own.dir().display(), %error, "no cache"),
    }
    let directory = tempfile::tempdir().context("can't make a directory for the demo model")?;
    write_all(&DEMO, directory.path())
        .with_context(|| format!("can't write the demo model to {}", directory.path().display()))?;
    Ok(Demo::Temporary(directory))
}

/// Writes the files under a name that depends on their content, so that another version of the
/// program has another directory. They are written elsewhere and then renamed: whoever finds the
/// directory finds it whole.
fn extract_to_cache(files: &Dir, cache: &Path) -> io::Result<PathBuf> {
    let target = cache.join(format!("demo-{:016x}", content_hash(files)));
    if is_complete(files, &target) {
        return Ok(target);
    }
    fs::create_dir_all(cache)?;
    let fresh = TempDir::new_in(cache)?;
    write_all(files, fresh.path())?;
    if target.exists() {
        // Incomplete, by someone's hand: a rename does not replace a directory with files in it.
        fs::remove_dir_all(&target)?;
    }
    match fs::rename(fresh.path(), &target) {
        // Nothing is left to remove.
        Ok(()) => drop(fresh.keep()),
        // Another process was faster.
        Err(_) if is_complete(files, &target) => {}
        Err(error) => return Err(error),
    }
    Ok(target)
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
        let cache = tempfile::tempdir().unwrap();
        let path = extract_to_cache(&DEMO, cache.path()).unwrap();
        let file = path.join("tokenizer.json");
        let text = fs::read(&file).unwrap();
        assert_eq!(text, DEMO.get_file("tokenizer.json").unwrap().contents());
        fs::write(&file, "cut").unwrap();
        assert_eq!(extract_to_cache(&DEMO, cache.path()).unwrap(), path);
        assert_eq!(fs::read(&file).unwrap(), text);
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 1);
    }
}
