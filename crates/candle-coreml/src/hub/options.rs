//! What to download, and what is told about it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::HubError;
use super::id::check_revision;
use super::reference::Reference;
use coreml_engine::CancelToken;

/// The branch that is taken where no revision is told.
const MAIN: &str = "main";

/// What to download: a revision, which files, and who is told how it goes.
#[derive(Clone, Default)]
pub struct DownloadOptions {
    /// `main` unless told here or in the model's name.
    revision: Option<String>,
    pub(super) include: Vec<String>,
    on_event: Option<EventHandler>,
    pub(super) cancel: Option<CancelToken>,
}

type EventHandler = Arc<dyn Fn(&DownloadEvent<'_>) + Send + Sync>;

impl DownloadOptions {
    /// The newest commit of the branch `main`, with every file that the model needs.
    pub fn new() -> Self {
        Self::default()
    }

    /// A branch, a tag or a commit.
    #[must_use]
    pub fn revision(mut self, revision: impl Into<String>) -> Self {
        self.revision = Some(revision.into());
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

    /// These options with the revision that is asked for: here, else in the model's name, else `main`.
    ///
    /// # Errors
    /// When the name and these options ask for different ones, or the revision is malformed.
    pub(super) fn of(&self, reference: &Reference) -> Result<Self, HubError> {
        let revision = match (&self.revision, &reference.revision) {
            (Some(asked), Some(named)) if asked != named => {
                let message = format!("is asked for, but the model's name says `{named}`");
                return Err(HubError::argument(asked, message));
            }
            (Some(revision), _) | (None, Some(revision)) => revision.as_str(),
            (None, None) => MAIN,
        };
        check_revision(revision)?;
        Ok(self.clone().revision(revision))
    }

    /// The revision.
    pub(super) fn revision_name(&self) -> &str {
        self.revision.as_deref().unwrap_or(MAIN)
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
            .field("revision", &self.revision_name())
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
        /// The file's path in the repository; `None` for the list of files.
        path: Option<&'a str>,
        /// Why it failed.
        reason: &'a HubError,
        /// The pause before the next attempt.
        pause: Duration,
        /// Which attempt comes next: 2 after the first failure.
        attempt: u32,
        /// How many attempts are made in a row.
        attempts: u32,
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
