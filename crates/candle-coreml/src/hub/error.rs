//! Errors of downloads and caches.

use std::io;
use std::path::{Path, PathBuf};

use coreml_format::{Cause, ErrorKind};

/// Why a model could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// What was asked for is no model id, revision or pattern.
    #[error("`{value}` {message}")]
    Argument {
        /// The value given.
        value: String,
        /// What is wrong with it, as the rest of a sentence that starts with the value.
        message: String,
        /// The error behind it, if there is one.
        source: Option<Cause>,
    },
    /// The hub has no such model, or does not show it.
    #[error(
        "{endpoint} has no model `{id}`, or it is private; check the spelling{}",
        if *authorized {
            ", and that the token (HF_TOKEN) belongs to an account that may see it"
        } else {
            ", and set HF_TOKEN if the model is private or gated"
        }
    )]
    NoModel {
        /// The hub's address.
        endpoint: String,
        /// The model's id.
        id: String,
        /// Whether a token was sent.
        authorized: bool,
    },
    /// The model has no such branch, tag or commit.
    #[error("`{id}` has no revision `{revision}`; expected a branch, a tag or a commit")]
    NoRevision {
        /// The model's id.
        id: String,
        /// The revision asked for.
        revision: String,
    },
    /// The model's files are given to some accounts only.
    #[error(
        "access to `{id}` is restricted ({reason}): log in at {page}, accept the terms there if it \
         asks for that, and set HF_TOKEN to a token of your account"
    )]
    Restricted {
        /// The model's id.
        id: String,
        /// What the hub said.
        reason: String,
        /// The model's page.
        page: String,
    },
    /// The hub answered with an error.
    #[error("{url}: HTTP status {status}{}", if message.is_empty() { String::new() } else { format!(" ({message})") })]
    Status {
        /// The address.
        url: String,
        /// The status code.
        status: u16,
        /// What the hub said, or what to do.
        message: String,
    },
    /// The hub can't be reached, or the connection broke.
    #[error("{url}: {message}")]
    Network {
        /// The address.
        url: String,
        /// What happened.
        message: String,
        /// The error behind it, if there is one.
        source: Option<Cause>,
    },
    /// The answer is not what a hub answers.
    #[error("{url}: {message}")]
    Answer {
        /// The address.
        url: String,
        /// What was expected and what came.
        message: String,
        /// The error behind it, if there is one.
        source: Option<Cause>,
    },
    /// What was downloaded, or what lies in the cache, is not the file that the hub lists.
    #[error("`{path}`: expected {expected}, got {got}; {advice}")]
    Content {
        /// The file's path in the repository.
        path: String,
        /// Size or hash that the hub states.
        expected: String,
        /// Size or hash of the bytes.
        got: String,
        /// What to do.
        advice: &'static str,
    },
    /// The disk has less room than the files take.
    #[error(
        "{}: {needed} bytes are still to come, the disk has {available} free; make room and start \
         again: what is here already stays and is not fetched again",
        path.display()
    )]
    Space {
        /// Where the files go.
        path: PathBuf,
        /// Bytes to come.
        needed: u64,
        /// Free bytes.
        available: u64,
    },
    /// The network is off or down, and the cache does not have all files.
    #[error("`{id}` is not completely in the cache ({missing}), and {reason}")]
    NotCached {
        /// The model's id.
        id: String,
        /// What is missing.
        missing: String,
        /// Why it can't be fetched.
        reason: String,
        /// The error behind it, if there is one.
        source: Option<Cause>,
    },
    /// The repository has no Core ML model, or several.
    #[error("`{id}` {message}")]
    Selection {
        /// The model's id.
        id: String,
        /// What is wrong and what to do, as the rest of a sentence that starts with the id.
        message: String,
    },
    /// An archive can't be unpacked, or should not be.
    #[error("`{}` {message}", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// What is wrong, as the rest of a sentence that starts with the path.
        message: String,
        /// The error behind it, if there is one.
        source: Option<Cause>,
    },
    /// Files that a model needs are not there.
    #[error("`{}` is not complete: {message}", path.display())]
    Incomplete {
        /// The model's directory.
        path: PathBuf,
        /// What is missing and what to do.
        message: String,
    },
    /// A file can't be read or written.
    #[error("{}: {source}{}", path.display(), remedy(source))]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The download was cancelled, or given up since another file failed.
    #[error("the download was stopped")]
    Stopped,
}

impl HubError {
    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        use HubError::*;
        match self {
            Argument { .. } | Selection { .. } => ErrorKind::InvalidInput,
            NoModel { .. } | NoRevision { .. } => ErrorKind::NotFound,
            Restricted { .. } | Status { status: 401 | 403, .. } => ErrorKind::Denied,
            Status { status: 404 | 410, .. } => ErrorKind::NotFound,
            Status { .. } | Network { .. } | Answer { .. } | NotCached { .. } => {
                ErrorKind::Unavailable
            }
            Content { .. } | Archive { .. } | Incomplete { .. } => ErrorKind::BrokenModel,
            Space { .. } => ErrorKind::Limit,
            Io { source, .. } => ErrorKind::of_io(source),
            Stopped => ErrorKind::Cancelled,
        }
    }

    /// Whether the hub is out of reach or out of order, rather than the request wrong.
    pub(super) fn is_outage(&self) -> bool {
        match self {
            HubError::Network { .. } => true,
            HubError::Status { status, .. } => *status >= 500 || *status == 429,
            _ => false,
        }
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        |source| HubError::Io { path: path.to_owned(), source }
    }

    /// Why nothing is fetched.
    pub(super) const OFFLINE: &str = "the network is not to be used (HF_HUB_OFFLINE, or told so)";

    pub(super) fn not_cached(id: &impl ToString, missing: &str, reason: &str) -> Self {
        HubError::NotCached {
            id: id.to_string(),
            missing: missing.to_owned(),
            reason: reason.to_owned(),
            source: None,
        }
    }

    pub(super) fn argument(value: impl Into<String>, message: impl Into<String>) -> Self {
        HubError::Argument { value: value.into(), message: message.into(), source: None }
    }

    pub(super) fn archive(path: &Path, message: impl Into<String>) -> Self {
        HubError::Archive { path: path.to_owned(), message: message.into(), source: None }
    }

    pub(super) fn network(url: &str, message: impl Into<String>) -> Self {
        HubError::Network { url: url.to_owned(), message: message.into(), source: None }
    }

    pub(super) fn answer(url: &str, message: impl Into<String>) -> Self {
        HubError::Answer { url: url.to_owned(), message: message.into(), source: None }
    }

    /// Names the error behind this one, if it has a place for it.
    pub(super) fn caused_by(mut self, cause: impl Into<Cause>) -> Self {
        use HubError::{Answer, Archive, Argument, Network, NotCached};
        if let Argument { source, .. }
        | Network { source, .. }
        | Answer { source, .. }
        | NotCached { source, .. }
        | Archive { source, .. } = &mut self
        {
            *source = Some(cause.into());
        }
        self
    }
}

fn remedy(error: &io::Error) -> &'static str {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    match error.kind() {
        StorageFull | QuotaExceeded | FileTooLarge => {
            "; make room and start again: what is here already stays and is not fetched again"
        }
        _ => "",
    }
}
