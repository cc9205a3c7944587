//! Downloads: from a model's id to its files.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::cache::ModelCache;
use super::environment::Settings;
use super::fetch::Job;
use super::file_list::{FileList, HubFile};
use super::http::Patience;
use super::online::Online;
use super::record::Record;
use super::reference::Reference;
use super::select::select;
use super::snapshot::Snapshot;
use super::{DownloadEvent, DownloadOptions, HubError, ModelId, assemble, files};

/// Access to a hub and to the caches. See [`crate::hub`] for where it keeps what.
#[derive(Clone)]
pub struct HubClient {
    pub(super) settings: Settings,
    pub(super) patience: Patience,
}

impl Default for HubClient {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for HubClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the token.
        f.debug_struct("HubClient")
            .field("endpoint", &self.settings.endpoint)
            .field("cache", &self.settings.cache)
            .field("offline", &self.settings.offline)
            .finish_non_exhaustive()
    }
}

impl HubClient {
    /// A client with what the environment says: `HF_ENDPOINT`, `HF_TOKEN` (or the token file of
    /// `hf auth login`), `HF_HOME`, `HF_HUB_CACHE`, `HF_HUB_OFFLINE`.
    pub fn new() -> Self {
        HubClient { settings: Settings::from_environment(), patience: Patience::default() }
    }

    /// Another hub's address.
    #[must_use]
    pub fn endpoint(mut self, endpoint: &str) -> Self {
        self.settings.endpoint = endpoint.trim_end_matches('/').to_owned();
        self
    }

    /// The token to show to the hub; `None` shows none.
    #[must_use]
    pub fn token(mut self, token: Option<String>) -> Self {
        self.settings.token = token;
        self
    }

    /// The cache shared with other tools, in place of `~/.cache/huggingface/hub`.
    #[must_use]
    pub fn cache_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.settings.cache = directory.into();
        self
    }

    /// This crate's own cache, in place of `~/.cache/candle-coreml`.
    #[must_use]
    pub fn own_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.settings.own = directory.into();
        self
    }

    /// Where the cache shared with other tools is.
    pub fn cache(&self) -> &Path {
        &self.settings.cache
    }

    /// Never uses the network.
    #[must_use]
    pub fn offline(mut self, offline: bool) -> Self {
        self.settings.offline = offline;
        self
    }

    /// How often in a row a request may fail, and the pause after the first failure, which doubles
    /// with each further one.
    #[must_use]
    pub fn retries(mut self, attempts: u32, pause: Duration) -> Self {
        self.patience.attempts = attempts.max(1);
        self.patience.pause = pause;
        self
    }

    /// How long the hub may be silent.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.patience.timeout = timeout;
        self
    }

    /// Brings a model into the cache. What is there already is not fetched again; without a network
    /// the cache has to do. The model is named by its id, `org/name`, also with a revision as in
    /// `org/name@main`, or by the address of its page.
    ///
    /// # Errors
    /// When the hub does not give the model, a file does not arrive as the hub lists it, the disk
    /// is full, or the network is down and the cache lacks a file.
    pub fn download(&self, model: &str, options: &DownloadOptions) -> Result<Snapshot, HubError> {
        let (id, options) = self.named(model, options)?;
        self.fetch(id, &options)
    }

    /// The id and the revision of a model as people name it.
    pub(super) fn named(
        &self,
        model: &str,
        options: &DownloadOptions,
    ) -> Result<(ModelId, DownloadOptions), HubError> {
        let reference = Reference::parse(model, &self.settings.endpoint)?;
        let options = options.of(&reference)?;
        Ok((reference.id, options))
    }

    fn fetch(&self, id: ModelId, options: &DownloadOptions) -> Result<Snapshot, HubError> {
        if self.settings.offline {
            return self.in_cache(&id, options, Some(HubError::OFFLINE));
        }
        let cache = ModelCache::new(&self.settings, &id);
        // Where no lock can be had, nobody can remove files by these notes either.
        let _user = files::lock_shared(&cache.users()).ok();
        let online = Online::new(&self.settings, self.patience, options);
        match online.list(&cache, &id, options.revision_name(), options) {
            Ok(list) => self.complete(id, &cache, &online, list, options),
            Err(error) if error.is_outage() => {
                let reason = format!("the hub can't be reached: {error}");
                let cached = self.in_cache(&id, options, Some(&reason));
                let snapshot = match cached {
                    Ok(snapshot) => snapshot,
                    Err(missing) => return Err(missing.caused_by(error)),
                };
                let message = format!("using the cache, since the hub can't be reached: {error}");
                options.report(&DownloadEvent::Note { message });
                Ok(snapshot)
            }
            Err(error) => Err(error),
        }
    }

    /// Fetches what the cache lacks of a list. The revision is written last: until then it stands
    /// for what was complete before.
    fn complete(
        &self,
        id: ModelId,
        cache: &ModelCache,
        online: &Online<'_>,
        list: FileList,
        options: &DownloadOptions,
    ) -> Result<Snapshot, HubError> {
        let selection = Online::select(&list, options)?;
        let commit = list.commit.clone();
        let earlier = cache.record(&commit);
        let record = Record::new(list, &options.include, earlier.as_ref());
        if Some(&record) != earlier.as_ref() {
            cache.write_record(&record);
        }
        let missing: Vec<&HubFile> =
            selection.files.iter().filter(|file| !cache.has(&commit, file)).collect();
        let mut contents = BTreeSet::new();
        let jobs = missing
            .iter()
            .filter(|file| !cache.has_blob(file) && contents.insert(&file.hash))
            .map(|file| Job {
                file,
                url: online.api(options).address(&id, &commit, &file.path),
                path: cache.blob(&file.hash),
                incomplete: cache.incomplete(&file.hash),
                lock: Some(cache.lock(&file.hash)),
                cache: Some(cache),
                copy: None,
            })
            .collect();
        online.fetch(&id, jobs, &cache.blobs(), options)?;
        for file in &missing {
            cache.place(&commit, file)?;
        }
        match cache.write_commit(options.revision_name(), &commit) {
            // A cache that was made complete by others, and can only be read.
            Err(_) if missing.is_empty() => {}
            written => written?,
        }
        let path = cache.snapshot(&commit);
        Ok(Snapshot { id, commit, path, selection })
    }

    /// The model as the cache has it, without using the network; `None` when something is missing,
    /// or when only other tools have fetched of it, so that this can't be told.
    ///
    /// # Errors
    /// When the id or a pattern is malformed.
    pub fn cached(
        &self,
        model: &str,
        options: &DownloadOptions,
    ) -> Result<Option<Snapshot>, HubError> {
        let (id, options) = self.named(model, options)?;
        self.known(&id, &options)
    }

    fn known(&self, id: &ModelId, options: &DownloadOptions) -> Result<Option<Snapshot>, HubError> {
        match self.in_cache(id, options, None) {
            Err(HubError::NotCached { .. }) => Ok(None),
            snapshot => snapshot.map(Some),
        }
    }

    /// The directory to load a model from: that of the snapshot, or one in this crate's cache with
    /// the snapshot's archives unpacked.
    ///
    /// # Errors
    /// When an archive can't be unpacked.
    pub fn model_directory(&self, snapshot: &Snapshot) -> Result<PathBuf, HubError> {
        assemble::model_directory(&self.settings.own, snapshot)
    }

    /// The directory to load a model from: out of the cache, without using the network, if all of
    /// it is there; else after downloading it. Of a model that another tool has brought into the cache,
    /// the hub is asked only whether it is complete.
    ///
    /// # Errors
    /// As [`download`](Self::download).
    pub fn ensure(&self, model: &str, options: &DownloadOptions) -> Result<PathBuf, HubError> {
        let (id, options) = self.named(model, options)?;
        let snapshot = match self.known(&id, &options)? {
            Some(snapshot) => snapshot,
            None => self.ensure_online(id, &options)?,
        };
        self.model_directory(&snapshot)
    }

    fn ensure_online(&self, id: ModelId, options: &DownloadOptions) -> Result<Snapshot, HubError> {
        let cache = ModelCache::new(&self.settings, &id);
        let there = cache.commit(options.revision_name());
        let theirs = there.filter(|commit| cache.unlisted(&id, commit).is_some());
        if !self.settings.offline {
            let what = if theirs.is_some() { "whether it is complete" } else { "for it" };
            let endpoint = &self.settings.endpoint;
            let message =
                format!("`{id}` is not known to be in the cache; asking {endpoint} {what}");
            options.report(&DownloadEvent::Note { message });
        }
        if let Some(commit) = theirs {
            match self.fetch(id.clone(), &options.clone().revision(commit)) {
                // The branch was written anew; only the newest commit is left.
                Err(HubError::NoRevision { .. }) => {}
                snapshot => return snapshot,
            }
        }
        self.fetch(id, options)
    }

    /// The model out of the cache, for a reason not to ask the hub. Only with one is it taken as
    /// it is when the list of its files is not known.
    pub(super) fn in_cache(
        &self,
        id: &ModelId,
        options: &DownloadOptions,
        reason: Option<&str>,
    ) -> Result<Snapshot, HubError> {
        let cache = ModelCache::new(&self.settings, id);
        let lacks = |missing: &str| HubError::not_cached(id, missing, reason.unwrap_or_default());
        let revision = options.revision_name();
        let Some(commit) = cache.commit(revision) else {
            return Err(lacks(&format!("nothing of its revision `{revision}` is there")));
        };
        let record = cache.record(&commit).map(|record| record.list);
        let list = record.or_else(|| reason.and_then(|_| cache.unlisted(id, &commit)));
        let list = list.ok_or_else(|| lacks("the list of its files is missing"))?;
        let selection = select(&list, &options.include)?;
        let missing: Vec<&str> = selection
            .files
            .iter()
            .filter(|file| !cache.has(&commit, file))
            .map(|file| file.path.as_str())
            .collect();
        match missing.as_slice() {
            [] => {
                let path = cache.snapshot(&commit);
                Ok(Snapshot { id: id.clone(), commit, path, selection })
            }
            [first] => Err(lacks(&format!("`{first}` is missing"))),
            [first, rest @ ..] => {
                Err(lacks(&format!("`{first}` and {} more files are missing", rest.len())))
            }
        }
    }
}
