//! The files that a commit of a model has.

use serde::{Deserialize, Serialize};

use super::ContentHash;

/// One file of a model on the hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HubFile {
    /// Path in the repository, with `/` between its parts.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// Hash of the content.
    pub hash: ContentHash,
}

/// All files of one commit of a model. A commit never changes, so a list that was once fetched
/// stays right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FileList {
    /// The model's id.
    pub id: String,
    /// The commit's hash.
    pub commit: String,
    /// Its files.
    pub files: Vec<HubFile>,
}
