//! A model's place in the cache that all of Hugging Face's tools share, and this crate's notes on
//! it: which files a commit has, and which contents were fetched by this crate.
//!
//! `models--org--name` holds `blobs/HASH`, `snapshots/COMMIT/PATH` (links to blobs) and
//! `refs/REVISION` (text: a commit). A blob appears under its name only when it is whole.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use coreml_format::FileKind;
use coreml_format::files::read_file;

use super::environment::Settings;
use super::file_list::{FileList, HubFile};
use super::id::{check_revision, is_commit};
use super::record::Record;
use super::{ContentHash, HubError, ModelId, files, hash};

/// The places of one model.
pub(super) struct ModelCache {
    /// `models--org--name` in the shared cache.
    root: PathBuf,
    /// Where the locks of its blobs are, as other tools have them.
    locks: PathBuf,
    /// Where this crate's notes are.
    notes: PathBuf,
}

impl ModelCache {
    pub(super) fn new(settings: &Settings, id: &ModelId) -> Self {
        let name = id.directory_name();
        // Notes speak of one shared cache: there may be others.
        let cache = settings.cache.canonicalize().unwrap_or_else(|_| settings.cache.clone());
        let key = hash::short(cache.as_os_str().as_encoded_bytes());
        ModelCache {
            root: settings.cache.join(&name),
            locks: settings.cache.join(".locks").join(&name),
            notes: settings.own.join("hub").join(key).join(name),
        }
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    pub(super) fn blob(&self, hash: &ContentHash) -> PathBuf {
        self.blobs().join(hash.as_str())
    }

    /// Where a blob lies while it is fetched.
    pub(super) fn incomplete(&self, hash: &ContentHash) -> PathBuf {
        self.blobs().join(format!("{hash}.incomplete"))
    }

    pub(super) fn lock(&self, hash: &ContentHash) -> PathBuf {
        self.locks.join(format!("{hash}.lock"))
    }

    pub(super) fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.snapshots().join(commit)
    }

    /// Held by all who download the model, and by one alone who removes files.
    pub(super) fn users(&self) -> PathBuf {
        self.notes.join("users.lock")
    }

    /// The note that says: this blob was fetched by this crate, so it may remove it.
    pub(super) fn fetched(&self, hash: &str) -> PathBuf {
        self.notes.join("fetched").join(hash)
    }

    /// Notes that a blob is fetched by this crate, if it can.
    pub(super) fn note_fetched(&self, hash: &str) {
        unneeded(files::write_whole(&self.fetched(hash), b"", &self.notes));
    }

    /// Hashes of the blobs that were fetched by this crate.
    pub(super) fn all_fetched(&self) -> Result<BTreeSet<String>, HubError> {
        let name = |path: &PathBuf| Some(path.file_name()?.to_str()?.to_owned());
        Ok(files::entries(&self.notes.join("fetched"))?.iter().filter_map(name).collect())
    }

    pub(super) fn record_path(&self, commit: &str) -> PathBuf {
        self.notes.join(format!("{commit}.json"))
    }

    /// What is noted about a commit, if it was asked for once.
    pub(super) fn record(&self, commit: &str) -> Option<Record> {
        Record::read(&self.record_path(commit)).filter(|record| record.list.commit == commit)
    }

    /// Notes the files of a commit, if it can.
    pub(super) fn write_record(&self, record: &Record) {
        unneeded(record.write(&self.record_path(&record.list.commit), &self.notes));
    }

    /// The file that says which commit a revision stands for.
    pub(super) fn revision_path(&self, revision: &str) -> PathBuf {
        self.root.join("refs").join(revision)
    }

    /// The commit that a revision stood for when it was last fetched.
    pub(super) fn commit(&self, revision: &str) -> Option<String> {
        check_revision(revision).ok()?;
        let file = || read_file(&self.revision_path(revision), FileKind::Settings).ok()?;
        let read = || String::from_utf8(file()?).ok();
        let commit = if is_commit(revision) { revision.to_owned() } else { read()? };
        Some(commit.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    pub(super) fn write_commit(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        if revision == commit || self.commit(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        files::write_whole(&self.revision_path(revision), commit.as_bytes(), &self.blobs())
    }

    /// Revisions with the commits that they stand for.
    pub(super) fn revisions(&self) -> Result<Vec<(String, String)>, HubError> {
        let refs = self.root.join("refs");
        let named = |path: &PathBuf| {
            let revision = path.strip_prefix(&refs).ok()?.to_str()?.replace('\\', "/");
            let commit = self.commit(&revision)?;
            Some((revision, commit))
        };
        Ok(files::walk(&refs)?.iter().filter_map(named).collect())
    }

    /// Commits that have files here, or whose files have been asked for.
    pub(super) fn commits(&self) -> Result<Vec<String>, HubError> {
        let mut commits: Vec<String> = files::entries(&self.snapshots())?
            .iter()
            .chain(&files::entries(&self.notes)?)
            .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
            .filter(|name| is_commit(name))
            .collect();
        commits.sort();
        commits.dedup();
        Ok(commits)
    }

    /// What another tool has fetched, when the hub's list of it is not known: the files that are
    /// there. Whether some are missing can't be told; loading the model tells.
    pub(super) fn unlisted(&self, id: &ModelId, commit: &str) -> Option<FileList> {
        let snapshot = self.snapshot(commit);
        let file = |path: &PathBuf| {
            let name = path.strip_prefix(&snapshot).ok()?.to_str()?.replace('\\', "/");
            let unknown = || "0".repeat(40).try_into().ok();
            let hash = blob_hash(path).or_else(unknown)?;
            Some(HubFile { path: name, size: files::size(path)?, hash })
        };
        let files: Vec<HubFile> = files::walk(&snapshot).ok()?.iter().filter_map(file).collect();
        let found = FileList { id: id.to_string(), commit: commit.to_owned(), files };
        (!found.files.is_empty()).then_some(found)
    }

    /// Whether a commit has this file, in its size.
    pub(super) fn has(&self, commit: &str, file: &HubFile) -> bool {
        files::size(&self.snapshot(commit).join(&file.path)) == Some(file.size)
    }

    pub(super) fn has_blob(&self, file: &HubFile) -> bool {
        files::size(&self.blob(&file.hash)) == Some(file.size)
    }

    /// Shows a blob under a file's name in a commit.
    pub(super) fn place(&self, commit: &str, file: &HubFile) -> Result<(), HubError> {
        let path = self.snapshot(commit).join(&file.path);
        let depth = file.path.split('/').count() + 1;
        let up = "../".repeat(depth);
        let target = PathBuf::from(format!("{up}blobs/{}", file.hash));
        files::link(&target, &self.blob(&file.hash), &path, &self.blobs())
    }
}

/// The hash of the blob that a file of a snapshot is a link to.
pub(super) fn blob_hash(path: &Path) -> Option<ContentHash> {
    let target = fs::read_link(path).ok()?;
    target.file_name()?.to_str()?.to_owned().try_into().ok()
}

/// Notes save questions to the hub, and say what may be pruned: a model can be used without, where they
/// can't be written.
fn unneeded(written: Result<(), HubError>) {
    if let Err(error) = written {
        tracing::debug!(%error, "nothing can be noted");
    }
}
