//! One content from the hub to its place: resumed where it broke off, checked, then renamed.
//!
//! What is resumed can't have changed meanwhile: an unfinished file is named by the hash of the
//! content that it is to have, and the whole is checked against that hash. A part that does not fit
//! is thrown away and fetched anew, once.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use ureq::Body;
use ureq::http::{Response, StatusCode};

use super::cache::ModelCache;
use super::file_list::HubFile;
use super::http::{Failure, Http, Outlook, Retry, Stop, header};
use super::{DownloadEvent, HubError, files, hash};

/// A content to fetch, and where it goes.
pub(super) struct Job<'a> {
    pub(super) file: &'a HubFile,
    pub(super) url: String,
    /// Where it lies in the end.
    pub(super) path: PathBuf,
    /// Where it grows, on the same disk.
    pub(super) incomplete: PathBuf,
    /// Who holds this lock fetches; without one nobody else does.
    pub(super) lock: Option<PathBuf>,
    /// The cache that notes who fetched it.
    pub(super) cache: Option<&'a ModelCache>,
    /// A place that may have the content already, to copy it from.
    pub(super) copy: Option<PathBuf>,
}

/// What a fetch reports to and asks.
pub(super) struct Fetcher<'a> {
    pub(super) http: &'a Http,
    pub(super) stop: &'a Stop,
    pub(super) on_event: &'a (dyn Fn(&DownloadEvent<'_>) + Sync),
}

impl Fetcher<'_> {
    /// Brings the content to its place, unless it is there.
    pub(super) fn run(&self, job: &Job<'_>) -> Result<(), HubError> {
        let _held = job.lock.as_deref().map(files::lock).transpose()?;
        // Another process may have brought it while this one waited for the lock.
        if !is_same(&job.path, job.file)? {
            if let Some(cache) = job.cache {
                cache.note_fetched(job.file.hash.as_str());
            }
            self.bring(job)?;
        }
        let path = &job.file.path;
        (self.on_event)(&DownloadEvent::Finished { path });
        Ok(())
    }

    fn bring(&self, job: &Job<'_>) -> Result<(), HubError> {
        files::create_parent(&job.path)?;
        files::create_parent(&job.incomplete)?;
        let resumed = files::size(&job.incomplete).is_some_and(|size| size > 0);
        if !self.copied(job) {
            self.complete(job)?;
        }
        match check(job) {
            Err(HubError::Content { .. }) if resumed => {
                self.start_over(job)?;
                self.complete(job)?;
                check(job)?;
            }
            Err(error) => {
                if matches!(error, HubError::Content { .. }) {
                    // Nothing of it is worth resuming.
                    std::fs::remove_file(&job.incomplete).ok();
                }
                return Err(error);
            }
            Ok(()) => {}
        }
        std::fs::rename(&job.incomplete, &job.path).map_err(HubError::io(&job.path))
    }

    /// Copies from a place that has the content, if it does.
    fn copied(&self, job: &Job<'_>) -> bool {
        let Some(source) = job.copy.as_ref() else { return false };
        if files::size(source) != Some(job.file.size) {
            return false;
        }
        let copied = std::fs::copy(source, &job.incomplete).is_ok() && check(job).is_ok();
        if !copied {
            std::fs::remove_file(&job.incomplete).ok();
        }
        copied
    }

    /// Fetches until the size is right.
    fn complete(&self, job: &Job<'_>) -> Result<(), HubError> {
        let path = &job.file.path;
        let on_retry = |retry: &Retry<'_>| (self.on_event)(&retry.event(Some(path)));
        // Only what was never reached before is progress: a hub that always sends too little is
        // given up.
        let reached = || files::size(&job.incomplete).unwrap_or(0);
        let mut furthest = reached();
        self.http.persist(self.stop, &on_retry, || {
            self.attempt(job).map_err(|failure| {
                let progressed = reached() > furthest;
                furthest = furthest.max(reached());
                let outlook = match failure.outlook {
                    // It has begun.
                    Outlook::Offline => Outlook::Passing,
                    outlook => outlook,
                };
                Failure { outlook, progressed, ..failure }
            })
        })
    }

    /// Fetches what is missing, as far as the connection holds.
    fn attempt(&self, job: &Job<'_>) -> Result<(), Failure> {
        let size = job.file.size;
        let mut out = open(job)?;
        let mut have = out.seek(SeekFrom::End(0)).map_err(HubError::io(&job.incomplete))?;
        if have > size {
            self.rewind(job, &mut out, &mut have)?;
        }
        if have < size {
            let response = self.http.get(&job.url, (have > 0).then_some(have))?;
            if have > 0 && !continues(&response, have, size) {
                let message = format!("does not continue at byte {have} of {size}");
                self.rewind(job, &mut out, &mut have)?;
                if response.status() != StatusCode::OK {
                    let url = job.url.clone();
                    return Err(Failure::passing(HubError::answer(&url, message)));
                }
            }
            self.receive(job, response, &mut out, have)?;
        }
        out.sync_data().map_err(HubError::io(&job.incomplete))?;
        Ok(())
    }

    /// Appends an answer's body to the file.
    fn receive(
        &self,
        job: &Job<'_>,
        response: Response<Body>,
        out: &mut File,
        mut have: u64,
    ) -> Result<(), Failure> {
        let (path, size) = (&job.file.path, job.file.size);
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; 1 << 16];
        loop {
            if self.stop.is_stopped() {
                return Err(HubError::Stopped.into());
            }
            let broken = |message: String| HubError::network(&job.url, message);
            let count = match body.read(&mut buffer) {
                Ok(0) if have < size => {
                    let message = format!("the connection ended after {have} of {size} bytes");
                    return Err(Failure::passing(broken(message)));
                }
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Err(Failure::passing(broken(error.to_string()).caused_by(error)));
                }
            };
            have += count as u64;
            if have > size {
                return Err(self.too_long(job, out).into());
            }
            let bytes = buffer.get(..count).unwrap_or_default();
            out.write_all(bytes).map_err(HubError::io(&job.incomplete))?;
            (self.on_event)(&DownloadEvent::Received { path, bytes: count as u64 });
        }
    }

    fn too_long(&self, job: &Job<'_>, out: &mut File) -> HubError {
        out.set_len(0).ok();
        content(job, format!("{} bytes", job.file.size), "more".to_owned())
    }

    fn start_over(&self, job: &Job<'_>) -> Result<(), HubError> {
        let mut have = job.file.size;
        self.rewind(job, &mut open(job)?, &mut have)
    }

    fn rewind(&self, job: &Job<'_>, out: &mut File, have: &mut u64) -> Result<(), HubError> {
        out.set_len(0).and_then(|()| out.rewind()).map_err(HubError::io(&job.incomplete))?;
        let path = &job.file.path;
        (self.on_event)(&DownloadEvent::Restarted { path, bytes: *have });
        *have = 0;
        Ok(())
    }
}

/// Whether a file has the content that the hub lists.
pub(super) fn is_same(path: &Path, file: &HubFile) -> Result<bool, HubError> {
    Ok(files::size(path) == Some(file.size)
        && hash::of_file(path, &file.hash).map_err(HubError::io(path))? == file.hash.as_str())
}

fn open(job: &Job<'_>) -> Result<File, HubError> {
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(false);
    options.open(&job.incomplete).map_err(HubError::io(&job.incomplete))
}

/// Whether an answer goes on where the file ends, for a content of the right size.
fn continues(response: &Response<Body>, have: u64, size: u64) -> bool {
    let range = header(response.headers(), "content-range").unwrap_or_default();
    response.status() == StatusCode::PARTIAL_CONTENT
        && range.strip_prefix(&format!("bytes {have}-")).is_some_and(|rest| {
            rest.split_once('/').is_some_and(|(_, total)| total == "*" || total == size.to_string())
        })
}

/// Checks the fetched bytes against the hub's hash.
fn check(job: &Job<'_>) -> Result<(), HubError> {
    let got =
        hash::of_file(&job.incomplete, &job.file.hash).map_err(HubError::io(&job.incomplete))?;
    if got == job.file.hash.as_str() {
        return Ok(());
    }
    Err(content(job, format!("hash {}", job.file.hash), got))
}

fn content(job: &Job<'_>, expected: String, got: String) -> HubError {
    let advice = "the hub sent another content than it lists; try again later";
    HubError::Content { path: job.file.path.clone(), expected, got, advice }
}
