//! A directory that appears whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::files::{self, FileKind};
use crate::{FormatError, Package};

/// What is done where something lies at the path that is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfExists {
    /// It stays, and nothing is written.
    Refuse,
    /// A model of the same form is replaced, in one step where the file system can exchange two
    /// directories. Anything else stays.
    Replace,
}

/// A directory beside its final place. What is not published is removed.
pub(super) struct Staging {
    out: PathBuf,
    replaces: bool,
    /// Holds the new directory and then the old one; removed at the end.
    holder: TempDir,
    dir: PathBuf,
}

impl Staging {
    /// A directory that becomes `out`, of which `package` must not be a part. `is_model` tells
    /// whether a directory is one that may be replaced.
    pub fn beside(
        out: &Path,
        package: &Package,
        if_exists: IfExists,
        is_model: fn(&Path) -> bool,
    ) -> Result<Self, FormatError> {
        if out.file_name().is_none() {
            return Err(FormatError::output(out, "is no name that a new directory can have"));
        }
        let replaces = check_existing(out, package, if_exists, is_model)?;
        let parent = match out.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let holder = tempfile::Builder::new().prefix(".candle-coreml-").tempdir_in(parent);
        let holder = holder.map_err(FormatError::write(out))?;
        // A directory in the temporary one, which nobody else may enter.
        let dir = holder.path().join("new");
        fs::create_dir(&dir).map_err(FormatError::write(out))?;
        Ok(Staging { out: out.to_owned(), replaces, holder, dir })
    }

    /// Writes a file, whose directories are made.
    pub fn write(&self, name: impl AsRef<Path>, bytes: &[u8]) -> Result<(), FormatError> {
        self.fill(name.as_ref(), |file| file.write_all(bytes))
    }

    /// Copies a file, whose path is canonical. It is no link, since who has the source may change it.
    pub fn copy(&self, name: &Path, source: &Path) -> Result<(), FormatError> {
        let mut source = files::open(source, FileKind::Weights)?;
        self.fill(name, |file| io::copy(&mut source, file).map(drop))
    }

    fn fill(
        &self,
        name: &Path,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<(), FormatError> {
        let path = self.dir.join(name);
        let filled = || {
            fs::create_dir_all(path.parent().unwrap_or(&self.dir))?;
            // A name from the model may be one that was written before.
            let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
            write(&mut file)?;
            file.sync_all()
        };
        filled().map_err(FormatError::write(&self.out.join(name)))
    }

    /// Puts the directory to its place.
    pub fn publish(self) -> Result<(), FormatError> {
        let put = match self.replaces {
            true => replace(&self.dir, &self.out, &self.holder.path().join("old")),
            false => fs::rename(&self.dir, &self.out),
        };
        put.map_err(FormatError::write(&self.out))?;
        if let Err(error) = self.holder.close() {
            tracing::warn!(%error, "what was replaced could not be removed");
        }
        Ok(())
    }
}

/// Whether there is a model to be replaced.
fn check_existing(
    out: &Path,
    package: &Package,
    if_exists: IfExists,
    is_model: fn(&Path) -> bool,
) -> Result<bool, FormatError> {
    let there = match out.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        there => there.map_err(FormatError::write(out))?,
    };
    if if_exists == IfExists::Refuse {
        return Err(FormatError::OutputExists { path: out.to_owned() });
    }
    if !there.is_dir() || !is_model(out) {
        let message = "is no model of the form that is written, and is not replaced; remove it, or \
                       choose another path";
        return Err(FormatError::output(out, message));
    }
    let is_part = match (package.path().canonicalize(), out.canonicalize()) {
        (Ok(model), Ok(out)) => model.starts_with(out),
        _ => false,
    };
    if is_part {
        return Err(FormatError::output(out, "holds the model itself; choose another path"));
    }
    Ok(true)
}

/// Puts `new` in the place of `out`, whose content goes to `old` or to where `new` was.
fn replace(new: &Path, out: &Path, old: &Path) -> io::Result<()> {
    if exchange(new, out) {
        return Ok(());
    }
    fs::rename(out, old)?;
    fs::rename(new, out).inspect_err(|_| {
        // What was there before comes back; if even that fails, the first error tells of it.
        let _ = fs::rename(old, out);
    })
}

/// Exchanges two directories in one step, where the system and the file system can.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn exchange(new: &Path, out: &Path) -> bool {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, new, CWD, out, RenameFlags::EXCHANGE).is_ok()
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn exchange(_new: &Path, _out: &Path) -> bool {
    false
}
