//! Downloads: from a model's id to its files.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::cache::ModelCache;
use super::environment::Settings;
use super::fetch::{Fetcher, Job, is_same};
use super::http::{Http, Patience, Stop};
use super::id::{check_revision, is_commit};
use super::list::{Api, FileList, HubFile, Record};
use super::select::{Selection, select};
use super::{
    ContentHash, DownloadEvent, DownloadOptions, HubError, ModelId, assemble, files, hash,
};

/// Files that are fetched at the same time.
const THREADS: usize = 4;
/// Where unfinished files lie in a directory that files are downloaded to.
const PARTS: &str = ".candle-coreml";

/// Access to a hub and to the caches. See [`crate::hub`] for where it keeps what.
#[derive(Clone)]
pub struct HubClient {
    pub(super) settings: Settings,
    patience: Patience,
}

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
    /// the cache has to do.
    ///
    /// # Errors
    /// When the hub does not give the model, a file does not arrive as the hub lists it, the disk
    /// is full, or the network is down and the cache lacks a file.
    pub fn download(&self, id: &str, options: &DownloadOptions) -> Result<Snapshot, HubError> {
        let id = ModelId::parse(id)?;
        check_revision(&options.revision)?;
        if self.settings.offline {
            let reason = "the network is not to be used (HF_HUB_OFFLINE or --offline)";
            return self.in_cache(&id, options, reason.to_owned());
        }
        let cache = ModelCache::new(&self.settings, &id);
        let _user = files::lock_shared(&cache.users())?;
        let online = Online::new(self);
        let list = match online.list(&cache, &id, &options.revision) {
            Err(error) if error.is_outage() => {
                let reason = format!("the hub can't be reached: {error}");
                let snapshot = self.in_cache(&id, options, reason)?;
                let message = format!("using the cache, since the hub can't be reached: {error}");
                options.report(&DownloadEvent::Note { message });
                return Ok(snapshot);
            }
            list => list?,
        };
        let selection = select(&list, &options.include)?;
        note_others(&selection, options);
        let earlier = cache.record(&list.commit);
        let record = Record::new(list.clone(), &options.include, earlier.as_ref());
        if Some(&record) != earlier.as_ref() {
            cache.write_record(&record)?;
        }
        let missing: Vec<&HubFile> =
            selection.files.iter().filter(|file| !cache.has(&list.commit, file)).collect();
        let mut contents = BTreeSet::new();
        let jobs = missing
            .iter()
            .filter(|file| !cache.has_blob(file) && contents.insert(&file.hash))
            .map(|file| Job {
                file,
                url: online.api().address(&id, &list.commit, &file.path),
                path: cache.blob(&file.hash),
                incomplete: cache.incomplete(&file.hash),
                lock: cache.lock(&file.hash),
                note: Some(cache.fetched(file.hash.as_str())),
                copy: None,
            })
            .collect();
        online.fetch(&id, jobs, &cache.blobs(), options)?;
        for file in missing {
            cache.place(&list.commit, file)?;
        }
        cache.write_commit(&options.revision, &list.commit)?;
        Ok(self.snapshot(&cache, id, &list.commit, selection))
    }

    /// Brings a model's files into a directory, without the cache: files that are there and differ
    /// are replaced, each at once; all others stay. Archives of packages are unpacked beside
    /// themselves unless the package is there. Gives the directory of the model.
    ///
    /// # Errors
    /// As [`download`](Self::download).
    pub fn download_to(
        &self,
        id: &str,
        directory: &Path,
        options: &DownloadOptions,
    ) -> Result<PathBuf, HubError> {
        let id = ModelId::parse(id)?;
        check_revision(&options.revision)?;
        let cache = ModelCache::new(&self.settings, &id);
        let parts = directory.join(PARTS);
        let online = Online::new(self);
        let list = if self.settings.offline {
            let reason = "the network is not to be used (HF_HUB_OFFLINE or --offline)";
            let snapshot = self.in_cache(&id, options, reason.to_owned())?;
            let record = cache.record(&snapshot.commit);
            record.ok_or_else(|| not_cached(&id, "the list of its files is not", reason))?.list
        } else {
            online.list(&cache, &id, &options.revision)?
        };
        let selection = select(&list, &options.include)?;
        note_others(&selection, options);
        let mut jobs = Vec::new();
        for file in &selection.files {
            let path = directory.join(&file.path);
            if is_same(&path, file)? {
                continue;
            }
            // Two files may have one content.
            let name = hash::short(file.path.as_bytes());
            jobs.push(Job {
                file,
                url: online.api().address(&id, &list.commit, &file.path),
                incomplete: parts.join(format!("{name}-{}.incomplete", file.hash)),
                lock: parts.join(format!("{name}.lock")),
                path,
                note: None,
                copy: Some(cache.blob(&file.hash)),
            });
        }
        files::create_directory(directory)?;
        let fetched = online.fetch(&id, jobs, directory, options);
        if fetched.is_ok() {
            remove_parts(&parts);
        }
        fetched?;
        assemble::unpack_beside(directory, &selection.files)?;
        Ok(selection.directory_in(directory))
    }

    /// The model as the cache has it, without using the network; `None` when something is missing.
    ///
    /// # Errors
    /// When the id or a pattern is malformed.
    pub fn cached(
        &self,
        id: &str,
        options: &DownloadOptions,
    ) -> Result<Option<Snapshot>, HubError> {
        let id = ModelId::parse(id)?;
        check_revision(&options.revision)?;
        match self.in_cache(&id, options, String::new()) {
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
    /// it is there; else after downloading it.
    ///
    /// # Errors
    /// As [`download`](Self::download).
    pub fn ensure(&self, id: &str, options: &DownloadOptions) -> Result<PathBuf, HubError> {
        let snapshot = match self.cached(id, options)? {
            Some(snapshot) => snapshot,
            None => self.download(id, options)?,
        };
        self.model_directory(&snapshot)
    }

    fn in_cache(
        &self,
        id: &ModelId,
        options: &DownloadOptions,
        reason: String,
    ) -> Result<Snapshot, HubError> {
        let cache = ModelCache::new(&self.settings, id);
        let Some(commit) = cache.commit(&options.revision) else {
            let missing = format!("nothing of its revision `{}` is there", options.revision);
            return Err(not_cached(id, &missing, &reason));
        };
        let record = cache.record(&commit).map(|record| record.list);
        let Some(list) = record.or_else(|| unlisted(&cache, id, &commit)) else {
            return Err(not_cached(id, "none of its files is there", &reason));
        };
        let selection = select(&list, &options.include)?;
        let missing: Vec<&str> = selection
            .files
            .iter()
            .filter(|file| !cache.has(&commit, file))
            .map(|file| file.path.as_str())
            .collect();
        match missing.as_slice() {
            [] => Ok(self.snapshot(&cache, id.clone(), &commit, selection)),
            [first] => Err(not_cached(id, &format!("`{first}` is missing"), &reason)),
            [first, rest @ ..] => {
                let missing = format!("`{first}` and {} more files are missing", rest.len());
                Err(not_cached(id, &missing, &reason))
            }
        }
    }

    fn snapshot(
        &self,
        cache: &ModelCache,
        id: ModelId,
        commit: &str,
        selection: Selection,
    ) -> Snapshot {
        Snapshot { id, commit: commit.to_owned(), path: cache.snapshot(commit), selection }
    }
}

/// What another tool has fetched, when the hub's list of it is not known: the files that are there.
/// Whether some are missing can't be told; loading the model tells.
pub(super) fn unlisted(cache: &ModelCache, id: &ModelId, commit: &str) -> Option<FileList> {
    let snapshot = cache.snapshot(commit);
    let list = FileList {
        id: id.to_string(),
        commit: commit.to_owned(),
        files: files::walk(&snapshot)
            .ok()?
            .iter()
            .filter_map(|path| {
                let name = path.strip_prefix(&snapshot).ok()?.to_str()?.replace('\\', "/");
                let unknown = || "0".repeat(40).try_into().ok();
                let hash = blob_hash(path).or_else(unknown)?;
                Some(HubFile { path: name, size: files::size(path)?, hash })
            })
            .collect(),
    };
    (!list.files.is_empty()).then_some(list)
}

/// The hash of the blob that a file of a snapshot is a link to.
pub(super) fn blob_hash(path: &Path) -> Option<ContentHash> {
    let target = std::fs::read_link(path).ok()?;
    target.file_name()?.to_str()?.to_owned().try_into().ok()
}

fn not_cached(id: &ModelId, missing: &str, reason: &str) -> HubError {
    HubError::NotCached {
        id: id.to_string(),
        missing: missing.to_owned(),
        reason: reason.to_owned(),
    }
}

fn note_others(selection: &Selection, options: &DownloadOptions) {
    if !selection.others.is_empty() {
        let message = format!(
            "the repository has more models, in {}; --include 'DIRECTORY/*' fetches them",
            crate::error::list(&selection.others)
        );
        options.report(&DownloadEvent::Note { message });
    }
}

/// Removes the directory of unfinished files when only locks are left in it, which nobody holds.
fn remove_parts(parts: &Path) {
    let locks = files::entries(parts).unwrap_or_default();
    if locks.iter().all(|path| path.extension().is_some_and(|ending| ending == "lock")) {
        let held: Vec<_> = locks.iter().map(|path| files::try_lock(path)).collect();
        if held.iter().all(|lock| matches!(lock, Ok(Some(_)))) {
            for path in &locks {
                std::fs::remove_file(path).ok();
            }
            std::fs::remove_dir(parts).ok();
        }
    }
}

/// A client's connection for one download.
struct Online<'a> {
    client: &'a HubClient,
    http: Http,
    stop: Stop,
}

impl<'a> Online<'a> {
    fn new(client: &'a HubClient) -> Self {
        let Settings { endpoint, token, .. } = &client.settings;
        let http = Http::new(endpoint, token.as_deref(), client.patience);
        Online { client, http, stop: Stop::default() }
    }

    fn api(&self) -> Api<'_> {
        Api { http: &self.http, endpoint: &self.client.settings.endpoint, stop: &self.stop }
    }

    /// The files of a revision: from the hub, or the record of them when the commit is known.
    fn list(&self, cache: &ModelCache, id: &ModelId, revision: &str) -> Result<FileList, HubError> {
        let commit = match is_commit(revision) {
            true => revision.to_owned(),
            false => self.api().commit(id, revision)?,
        };
        match cache.record(&commit) {
            Some(record) => Ok(record.list),
            None => self.api().files(id, &commit),
        }
    }

    /// Says what is to come, and makes sure that the disk has room for it.
    fn start(
        jobs: &[Job<'_>],
        directory: &Path,
        options: &DownloadOptions,
    ) -> Result<(), HubError> {
        if jobs.is_empty() {
            return Ok(());
        }
        let sum = |sizes: &mut dyn Iterator<Item = u64>| sizes.fold(0, u64::saturating_add);
        let bytes = sum(&mut jobs.iter().map(|job| job.file.size));
        let part = |job: &Job<'_>| files::size(&job.incomplete).unwrap_or(0).min(job.file.size);
        let present = sum(&mut jobs.iter().map(part));
        options.report(&DownloadEvent::Started { files: jobs.len(), bytes, present });
        files::create_directory(directory)?;
        let needed = bytes.saturating_sub(present);
        match fs4::available_space(directory) {
            Ok(available) if available < needed => {
                Err(HubError::Space { path: directory.to_owned(), needed, available })
            }
            // Where it is not known, the download tells.
            _ => Ok(()),
        }
    }

    /// Runs jobs on a few threads, the largest first; all end when one fails.
    fn fetch(
        &self,
        id: &ModelId,
        mut jobs: Vec<Job<'_>>,
        directory: &Path,
        options: &DownloadOptions,
    ) -> Result<(), HubError> {
        Self::start(&jobs, directory, options)?;
        jobs.sort_by_key(|job| std::cmp::Reverse(job.file.size));
        let threads = jobs.len().min(THREADS);
        let queue = Mutex::new(VecDeque::from(jobs));
        let failed = Mutex::new(None);
        let fetcher = Fetcher {
            http: &self.http,
            stop: &self.stop,
            on_event: &|event| options.report(event),
        };
        let work = || {
            while let Some(job) = next(&queue).filter(|_| !self.stop.is_stopped()) {
                if let Err(error) = fetcher.run(&job) {
                    self.stop.stop();
                    // The first error made the others stop.
                    failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(work);
            }
        });
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(self.api().explain(error, id, None)),
            None => Ok(()),
        }
    }
}

fn next<T>(queue: &Mutex<VecDeque<T>>) -> Option<T> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
}
