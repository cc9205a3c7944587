//! This crate's own directory in the user's cache.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use super::{HubError, assemble, environment, files, making};

/// This crate's own cache directory: models whose packages were unpacked from archives, notes about
/// downloads, and the demo model of the command line. Everything in it can be made again.
#[derive(Clone, Debug)]
pub struct OwnCache {
    directory: PathBuf,
}

impl Default for OwnCache {
    fn default() -> Self {
        Self::new()
    }
}

impl OwnCache {
    /// The directory by the system's convention: `$XDG_CACHE_HOME/candle-coreml` or
    /// `~/.cache/candle-coreml` on Linux, `~/Library/Caches/candle-coreml` on macOS,
    /// `%LOCALAPPDATA%\candle-coreml` on Windows.
    pub fn new() -> Self {
        Self::at(environment::own_cache())
    }

    /// Another directory.
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        OwnCache { directory: directory.into() }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.directory
    }

    /// Where models with unpacked packages lie.
    pub fn models_dir(&self) -> PathBuf {
        assemble::models(&self.directory)
    }

    /// Where files are written before they are renamed.
    pub fn temp_dir(&self) -> PathBuf {
        making::temporary(&self.directory)
    }

    /// A directory in this cache, of a name of its own. Unless it is complete, `write` fills a new one,
    /// which takes its place when it is whole; of several processes one does so and the others wait.
    ///
    /// # Errors
    /// When `write` fails, or the cache can't be written.
    pub fn make(
        &self,
        name: impl AsRef<Path>,
        is_complete: impl Fn(&Path) -> bool,
        write: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<PathBuf, HubError> {
        let target = self.directory.join(name);
        making::make(&self.directory, &target, &is_complete, |root| {
            write(root).map_err(HubError::io(root))
        })?;
        Ok(target)
    }

    /// Removes unpacked models and temporary files that are older than this many days, and gives
    /// their paths. The archives that models were unpacked from stay in the shared cache.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn cleanup_old_caches(&self, days: u64) -> Result<Vec<PathBuf>, HubError> {
        let age = Duration::from_secs(days.saturating_mul(24 * 3600));
        let mut old = files::entries(&self.temp_dir())?;
        for model in files::entries(&self.models_dir())? {
            old.extend(files::entries(&model)?.into_iter().filter(|path| path.is_dir()));
        }
        old.retain(|path| files::is_older(path, age));
        for path in &old {
            fs::remove_dir_all(path).map_err(HubError::io(path))?;
        }
        Ok(old)
    }
}
