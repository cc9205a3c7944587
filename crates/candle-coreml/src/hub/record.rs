//! Notes about commits: their files are known, and which of them have been asked for.

use std::path::Path;

use coreml_format::FileKind;
use coreml_format::files::read_file;
use serde::{Deserialize, Serialize};

use super::file_list::FileList;
use super::id::is_relative;
use super::{HubError, files};

/// What this crate notes about a commit: its files, and which of them have been asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    #[serde(flatten)]
    pub(super) list: FileList,
    /// Patterns of the files asked for; none means all that the model needs.
    pub(super) include: Vec<String>,
}

impl Record {
    /// Reads a record; `None` when there is none, or it is not sound.
    pub(super) fn read(path: &Path) -> Option<Self> {
        let record: Record =
            serde_json::from_slice(&read_file(path, FileKind::Settings).ok()??).ok()?;
        record.list.files.iter().all(|file| is_relative(&file.path)).then_some(record)
    }

    pub(super) fn write(&self, path: &Path, scratch: &Path) -> Result<(), HubError> {
        let json = serde_json::to_vec_pretty(self)
            .map_err(|error| HubError::Io { path: path.to_owned(), source: error.into() })?;
        files::write_whole(path, &json, scratch)
    }

    /// The record of a list, when files are asked for besides those of an earlier record.
    pub(super) fn new(list: FileList, include: &[String], earlier: Option<&Record>) -> Self {
        let before = earlier.map(|record| record.include.as_slice());
        let include = if include.is_empty() || before.is_some_and(<[String]>::is_empty) {
            Vec::new()
        } else {
            let new = include.iter().filter(|pattern| !before.is_some_and(|b| b.contains(pattern)));
            before.unwrap_or_default().iter().chain(new).cloned().collect()
        };
        Record { list, include }
    }
}
