//! A model in the cache.

use std::path::PathBuf;

use super::ModelId;
use super::select::Selection;

/// A model's files at one commit, complete in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The model's id.
    pub id: ModelId,
    /// The commit.
    pub commit: String,
    /// Directory with the commit's files, as they are in the repository.
    pub path: PathBuf,
    pub(super) selection: Selection,
}
