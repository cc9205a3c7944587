//! The hub's answers about models: which commit a revision is, and which files it has.

use serde::Deserialize;

use super::file_list::{FileList, HubFile};
use super::http::{Http, Retry, Stop, escape, escape_path};
use super::id::{is_commit, is_relative};
use super::{ContentHash, DownloadOptions, HubError, ModelId};

/// More than any model has: an answer that never ends does.
const MOST_FILES: usize = 100_000;

/// The part of the hub's answer about a revision that matters.
#[derive(Deserialize)]
struct Revision {
    sha: String,
}

/// An entry of the hub's list of files.
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
    oid: Option<String>,
    lfs: Option<LargeFile>,
}

/// Large files: their content lies elsewhere and has a hash of its own.
#[derive(Deserialize)]
struct LargeFile {
    oid: String,
    size: u64,
}

/// The hub's answers about models.
pub(super) struct Api<'a> {
    pub(super) http: &'a Http,
    pub(super) endpoint: &'a str,
    pub(super) stop: &'a Stop,
    /// Who is told of attempts that fail.
    pub(super) options: &'a DownloadOptions,
}

impl Api<'_> {
    /// The commit that a revision stands for now.
    pub(super) fn commit(&self, id: &ModelId, revision: &str) -> Result<String, HubError> {
        let url = format!("{}/api/models/{id}/revision/{}", self.endpoint, escape(revision));
        let (text, _) = self.text(&url, id, revision)?;
        let answer: Revision = parse(&url, &text)?;
        if !is_commit(&answer.sha) {
            let message = format!("expected a commit, got `{}`", answer.sha);
            return Err(HubError::answer(&url, message));
        }
        Ok(answer.sha)
    }

    /// All files of a commit.
    pub(super) fn files(&self, id: &ModelId, commit: &str) -> Result<FileList, HubError> {
        let mut list = FileList { id: id.to_string(), commit: commit.to_owned(), files: vec![] };
        let mut page =
            Some(format!("{}/api/models/{id}/tree/{commit}?recursive=true", self.endpoint));
        while let Some(url) = page {
            let (text, next) = self.text(&url, id, commit)?;
            for entry in parse::<Vec<Entry>>(&url, &text)? {
                if entry.kind == "file" {
                    let file = file(entry).map_err(|message| HubError::answer(&url, message))?;
                    list.files.push(file);
                }
            }
            if list.files.len() > MOST_FILES || next.as_ref() == Some(&url) {
                let message = format!("the list of files does not end, or has over {MOST_FILES}");
                return Err(HubError::answer(&url, message));
            }
            page = next;
        }
        Ok(list)
    }

    /// The address of a file's content.
    pub(super) fn address(&self, id: &ModelId, commit: &str, path: &str) -> String {
        format!("{}/{id}/resolve/{commit}/{}", self.endpoint, escape_path(path))
    }

    fn text(
        &self,
        url: &str,
        id: &ModelId,
        revision: &str,
    ) -> Result<(String, Option<String>), HubError> {
        let on_retry = |retry: &Retry<'_>| self.options.report(&retry.event(None));
        self.http
            .text(url, self.stop, &on_retry)
            .map_err(|error| self.explain(error, id, Some(revision)))
    }

    /// Says what a status means for a model. The hub answers 401 for what does not exist, too,
    /// unless a token shows who asks.
    pub(super) fn explain(
        &self,
        error: HubError,
        id: &ModelId,
        revision: Option<&str>,
    ) -> HubError {
        let HubError::Status { status, message, .. } = &error else { return error };
        let id = id.to_string();
        let gated = message.contains("GatedRepo") || message.contains("restricted");
        match (status, revision) {
            (404, Some(revision)) if message.contains("RevisionNotFound") => {
                HubError::NoRevision { id, revision: revision.to_owned() }
            }
            (401 | 403, _) if gated || *status == 403 => {
                let page = format!("{}/{id}", self.endpoint);
                HubError::Restricted { id, reason: message.clone(), page }
            }
            (401, _) if message.contains("credentials") => error,
            (401, _) | (404, Some(_)) => {
                let endpoint = self.endpoint.to_owned();
                HubError::NoModel { endpoint, id, authorized: self.http.has_token() }
            }
            _ => error,
        }
    }
}

fn parse<T: serde::de::DeserializeOwned>(url: &str, text: &str) -> Result<T, HubError> {
    serde_json::from_str(text).map_err(|error| {
        HubError::answer(url, format!("is not what a hub answers: {error}")).caused_by(error)
    })
}

fn file(entry: Entry) -> Result<HubFile, String> {
    if !is_relative(&entry.path) {
        return Err(format!("lists `{}`, which is no path inside a repository", entry.path));
    }
    let (oid, size) = match entry.lfs {
        Some(large) => (large.oid, large.size),
        None => (entry.oid.unwrap_or_default(), entry.size),
    };
    // Some answers spell the kind of the hash out.
    let oid = oid.strip_prefix("sha256:").unwrap_or(&oid).to_owned();
    let hash =
        ContentHash::try_from(oid).map_err(|message| format!("`{}`: {message}", entry.path))?;
    Ok(HubFile { path: entry.path, size, hash })
}
