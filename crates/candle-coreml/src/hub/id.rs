//! Names of models, revisions, files and contents, checked before they become paths or addresses.

use std::fmt;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use super::HubError;

/// A model's id on the hub: `org/name`, or a name alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ModelId(String);

impl ModelId {
    /// Checks an id as the hub does: letters, digits, `-`, `_` and `.`, at most one `/`.
    ///
    /// # Errors
    /// When the hub can have no such model.
    pub fn parse(id: &str) -> Result<Self, HubError> {
        let parts: Vec<&str> = id.split('/').collect();
        if parts.len() > 2 || !parts.iter().all(|part| is_name(part)) || id.contains("--") {
            let message = "is no model id; expected `ORG/NAME` of letters, digits, `-`, `_` and \
                           `.`, as on the model's page, or the page's address";
            return Err(HubError::argument(id, message));
        }
        Ok(ModelId(id.to_owned()))
    }

    /// Name of the model's directory in a Hugging Face cache: `models--org--name`.
    pub(super) fn directory_name(&self) -> String {
        format!("models--{}", self.0.replace('/', "--"))
    }

    /// The id of a directory in a Hugging Face cache.
    pub(super) fn from_directory_name(name: &str) -> Option<Self> {
        Self::parse(&name.strip_prefix("models--")?.replacen("--", "/", 1)).ok()
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_name(part: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let inner = |c: char| c == '-' || c == '.';
    (1..=96).contains(&part.len())
        && part.chars().all(allowed)
        && !part.starts_with(inner)
        && !part.ends_with(inner)
        && !part.contains("..")
}

/// Checks a branch, tag or commit.
pub(super) fn check_revision(revision: &str) -> Result<(), HubError> {
    let allowed = |c: char| !c.is_control() && !c.is_whitespace() && !"~^:?*[\\\"<>|".contains(c);
    if is_relative(revision) && revision.chars().all(allowed) {
        return Ok(());
    }
    Err(HubError::argument(revision, "is no revision; expected a branch, a tag or a commit"))
}

/// Whether a revision is a whole commit hash, which can stand for one content only.
pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && is_lowercase_hex(revision)
}

/// Whether a name with `/` between its parts stays inside the directory that it is joined to.
pub(super) fn is_relative(name: &str) -> bool {
    let plain = |component| matches!(component, Component::Normal(_));
    !name.is_empty()
        && !name.contains(['\\', '\0', ':'])
        && name.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
        && Path::new(name).components().all(plain)
}

fn is_lowercase_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The hash that names a content: SHA-256 of the bytes for large files (Git LFS), Git's blob hash
/// for small ones.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContentHash(String);

impl ContentHash {
    /// The hash in hexadecimal, as blobs in the cache are named.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is a SHA-256; else it is Git's blob hash.
    pub(super) fn is_sha256(&self) -> bool {
        self.0.len() == 64
    }
}

impl TryFrom<String> for ContentHash {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if matches!(text.len(), 40 | 64) && is_lowercase_hex(&text) {
            return Ok(ContentHash(text));
        }
        Err(format!("`{text}` is no SHA-256 and no Git hash"))
    }
}

impl From<ContentHash> for String {
    fn from(hash: ContentHash) -> String {
        hash.0
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_become_directories_and_back() {
        for (id, directory) in [("org/name", "models--org--name"), ("gpt2", "models--gpt2")] {
            let id = ModelId::parse(id).unwrap();
            assert_eq!(id.directory_name(), directory);
            assert_eq!(ModelId::from_directory_name(directory).unwrap(), id);
        }
        assert!(ModelId::from_directory_name("datasets--org--name").is_none());
    }

    #[test]
    fn what_is_no_id_is_refused() {
        let wrong = ["", "/", "a/", "/a", "a/b/c", "../a", "a/..", "a/b..c", "a--b/c", "a b", ".a"];
        for id in wrong.iter().chain(&["a/b?x", "a\\b", "a/b-", "ä/b", &"x".repeat(97)]) {
            assert!(ModelId::parse(id).is_err(), "{id}");
        }
    }

    #[test]
    fn names_stay_inside() {
        for name in ["a", "a/b.c", "x.mlpackage/Data/w.bin", "..a/b"] {
            assert!(is_relative(name), "{name}");
        }
        for name in ["", "/a", "a/../b", "..", "a//b", "./a", "a/", "a\\b", "c:/x", "a\0"] {
            assert!(!is_relative(name), "{name:?}");
        }
        for revision in ["main", "refs/pr/1", "v1.0"] {
            check_revision(revision).unwrap();
        }
        for revision in ["", "../main", "a b", "a?b", "/main"] {
            assert!(check_revision(revision).is_err(), "{revision}");
        }
    }

    #[test]
    fn hashes_are_40_or_64_hex_digits() {
        for (text, good) in [("a".repeat(40), true), ("0".repeat(64), true)].into_iter().chain([
            ("A".repeat(40), false),
            ("a".repeat(41), false),
            ("../x".repeat(10), false),
        ]) {
            assert_eq!(ContentHash::try_from(text.clone()).is_ok(), good, "{text}");
        }
    }
}
