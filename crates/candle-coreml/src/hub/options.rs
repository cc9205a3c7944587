//! What to download, and what is told about it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::HubError;
use crate::cancel::CancelToken;

/// What to download: a revision, which files, and who is told how it goes.
#[derive(Clone)]
pub struct DownloadOptions {
    pub(super) revision: String,
    pub(super) include: Vec<String>,
    on_event: Option<EventHandler>,
    pub(super) cancel: Option<CancelToken>,
}

type EventHandler = Arc<dyn Fn(&DownloadEvent<'_>) + Send + Sync>;

impl Default for DownloadOptions {
    fn default() -> Self {
        let revision = "main".to_owned();
        DownloadOptions { revision, include: Vec::new(), on_event: None, cancel: None }
    }
}

impl DownloadOptions {
    /// The newest commit of the branch `main`, with every file that the model needs.
    pub fn new() -> Self {
        Self::default()
    }

    /// A branch, a tag or a commit.
    #[must_use]
    pub fn revision(mut self, revision: impl Into<String>) -> Self {
        self.revision = revision.into();
        self
    }

    /// Takes the files whose paths match the pattern, instead of those that the model needs; may be
    /// given several times. `*` matches any characters, `/` too.
    #[must_use]
    pub fn include(mut self, pattern: impl Into<String>) -> Self {
        self.include.push(pattern.into());
        self
    }

    /// Calls a function with what happens, from several threads.
    #[must_use]
    pub fn on_event(
        mut self,
        handler: impl Fn(&DownloadEvent<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.on_event = Some(Arc::new(handler));
        self
    }

    /// Ends the download when the token is cancelled.
    #[must_use]
    pub fn cancel(mut self, token: CancelToken) -> Self {
        self.cancel = Some(token);
        self
    }

    pub(super) fn report(&self, event: &DownloadEvent<'_>) {
        if let Some(handler) = &self.on_event {
            handler(event);
        }
    }
}

impl fmt::Debug for DownloadOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DownloadOptions")
            .field("revision", &self.revision)
            .field("include", &self.include)
            .finish_non_exhaustive()
    }
}

/// What happens in a download.
#[derive(Debug)]
#[non_exhaustive]
pub enum DownloadEvent<'a> {
    /// The files are known.
    Started {
        /// Number of files to fetch.
        files: usize,
        /// Their sizes together.
        bytes: u64,
        /// How much of that is here, from a download that broke off.
        present: u64,
    },
    /// A part of a file has come.
    Received {
        /// The file's path in the repository.
        path: &'a str,
        /// Bytes in this part.
        bytes: u64,
    },
    /// What was here of a file did not fit and is fetched again.
    Restarted {
        /// The file's path in the repository.
        path: &'a str,
        /// Bytes thrown away.
        bytes: u64,
    },
    /// An attempt failed and is repeated.
    Retrying {
        /// The file's path in the repository.
        path: &'a str,
        /// Why it failed.
        reason: &'a HubError,
        /// The pause before the next attempt.
        pause: Duration,
    },
    /// A file is whole and checked.
    Finished {
        /// The file's path in the repository.
        path: &'a str,
    },
    /// Something that whoever started the download may want to know.
    Note {
        /// The text.
        message: String,
    },
}
