//! One download: asks the hub what there is, and runs the fetches.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::api::Api;
use super::cache::ModelCache;
use super::environment::Settings;
use super::fetch::{Fetcher, Job};
use super::file_list::FileList;
use super::http::{Http, Patience, Stop};
use super::id::is_commit;
use super::select::{Selection, select};
use super::{DownloadEvent, DownloadOptions, HubError, ModelId, files};

/// Files that are fetched at the same time.
const THREADS: usize = 4;

/// A client's connection for one download.
pub(super) struct Online<'a> {
    endpoint: &'a str,
    http: Http,
    stop: Stop,
}

impl<'a> Online<'a> {
    pub(super) fn new(
        settings: &'a Settings,
        patience: Patience,
        options: &DownloadOptions,
    ) -> Self {
        let Settings { endpoint, token, .. } = settings;
        let http = Http::new(endpoint, token.as_deref(), patience);
        Online { endpoint, http, stop: Stop::new(options.cancel.clone()) }
    }

    pub(super) fn api<'o>(&'o self, options: &'o DownloadOptions) -> Api<'o> {
        Api { http: &self.http, endpoint: self.endpoint, stop: &self.stop, options }
    }

    /// The files of a revision: from the hub, or the record of them when the commit is known.
    pub(super) fn list(
        &self,
        cache: &ModelCache,
        id: &ModelId,
        revision: &str,
        options: &DownloadOptions,
    ) -> Result<FileList, HubError> {
        let commit = match is_commit(revision) {
            true => revision.to_owned(),
            false => self.api(options).commit(id, revision)?,
        };
        match cache.record(&commit) {
            Some(record) => Ok(record.list),
            None => self.api(options).files(id, &commit),
        }
    }

    /// The files wanted of a list; says if there are more models.
    pub(super) fn select(
        list: &FileList,
        options: &DownloadOptions,
    ) -> Result<Selection, HubError> {
        let selection = select(list, &options.include)?;
        if !selection.others.is_empty() {
            let message = format!(
                "the repository has more models, in {}; the pattern 'DIRECTORY/*' fetches them",
                crate::words::list(&selection.others)
            );
            options.report(&DownloadEvent::Note { message });
        }
        Ok(selection)
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
    pub(super) fn fetch(
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
            Some(error) => Err(self.api(options).explain(error, id, None)),
            None if next(&queue).is_some() => Err(HubError::Stopped),
            None => Ok(()),
        }
    }
}

fn next<T>(queue: &Mutex<VecDeque<T>>) -> Option<T> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
}
