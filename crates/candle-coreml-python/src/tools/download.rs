//! Models by name.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use candle_coreml::hub::DownloadEvent;
use candle_coreml::{CancelToken, DownloadOptions, Error, HubClient};
use pyo3::prelude::*;

use crate::{errors, interrupt};

/// How often whoever waits for a download looks for signals and the caller's token.
const EVERY: Duration = Duration::from_millis(10);

/// What to download.
pub(crate) struct Request {
    pub(crate) name: String,
    pub(crate) revision: Option<String>,
    pub(crate) include: Vec<String>,
    pub(crate) to: Option<PathBuf>,
    pub(crate) offline: bool,
    pub(crate) progress: Option<Py<PyAny>>,
}

/// Brings a model from the Hugging Face Hub into the cache that its other tools use, and gives the directory
/// to load it from. Downloads that broke off are resumed, and files checked by their hashes.
///
/// `name` is `org/name`, also with a revision as in `org/name@main`, or the address of its page; `revision` a
/// branch, a tag or a commit. `include` has patterns of the files to take instead of those that the model
/// needs. With `to` the files are copied into that directory, which is given back. `offline` takes the cache
/// alone. `progress(done, total)` is called with numbers of bytes, from several threads but one at a time;
/// what else there is to tell goes to the logger `candle_coreml`.
///
/// Raises `DownloadError` (an OSError), `CancelledError`, and what `progress` raises, which ends the download.
#[pyfunction]
#[pyo3(signature = (
    name,
    *,
    revision = None,
    include = Vec::new(),
    to = None,
    offline = false,
    progress = None,
    cancel = None,
))]
#[expect(clippy::too_many_arguments, reason = "Python's have names")]
pub(crate) fn download(
    py: Python<'_>,
    name: String,
    revision: Option<String>,
    include: Vec<String>,
    to: Option<PathBuf>,
    offline: bool,
    progress: Option<Py<PyAny>>,
    cancel: Option<&interrupt::CancelToken>,
) -> PyResult<PathBuf> {
    let request = Request { name, revision, include, to, offline, progress };
    run(py, request, cancel, |client, request, options| match &request.to {
        Some(directory) => client.download_to(&request.name, directory, options),
        None => client.model_directory(&client.download(&request.name, options)?),
    })
}

/// The directory of a model: out of the cache, without asking the hub, if all of it is there.
pub(crate) fn ensure(
    py: Python<'_>,
    request: Request,
    cancel: Option<&interrupt::CancelToken>,
) -> PyResult<PathBuf> {
    run(py, request, cancel, |client, request, options| client.ensure(&request.name, options))
}

/// Downloads on a thread of its own, while this one waits for signals, too.
fn run(
    py: Python<'_>,
    mut request: Request,
    cancel: Option<&interrupt::CancelToken>,
    work: impl FnOnce(
        &HubClient,
        &Request,
        &DownloadOptions,
    ) -> Result<PathBuf, candle_coreml::HubError>
    + Send,
) -> PyResult<PathBuf> {
    let (asked, own) = (cancel.map(|token| token.inner().clone()), CancelToken::new());
    let raised = Arc::new(Mutex::new(None));
    let options = options(&mut request, &own, &raised);
    let client = match request.offline {
        true => HubClient::new().offline(true),
        false => HubClient::new(),
    };
    let watch = || {
        if asked.as_ref().is_some_and(CancelToken::is_cancelled) {
            own.cancel();
        }
        if let Err(error) = Python::attach(|py| py.check_signals()) {
            tell(&raised, error);
            own.cancel();
        }
    };
    let downloaded = py.detach(|| {
        watch();
        thread::scope(|scope| {
            let download = scope.spawn(|| work(&client, &request, &options));
            while !download.is_finished() {
                thread::sleep(EVERY);
                watch();
            }
            let panicked = |_| Err(Error::other("the thread that downloads has panicked"));
            download.join().map_or_else(panicked, |result| result.map_err(Error::from))
        })
    });
    let raised = raised.lock().unwrap_or_else(PoisonError::into_inner).take();
    match raised {
        Some(error) => Err(error),
        None => downloaded.map_err(errors::to_py),
    }
}

type Raised = Arc<Mutex<Option<PyErr>>>;

/// Keeps the first exception.
fn tell(raised: &Raised, error: PyErr) {
    raised.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
}

fn options(request: &mut Request, cancel: &CancelToken, raised: &Raised) -> DownloadOptions {
    let mut options = DownloadOptions::new().cancel(cancel.clone());
    if let Some(revision) = &request.revision {
        options = options.revision(revision);
    }
    for pattern in &request.include {
        options = options.include(pattern);
    }
    let (progress, cancel, raised) = (request.progress.take(), cancel.clone(), raised.clone());
    let bytes = Mutex::new((0, 0));
    options.on_event(move |event| {
        if let Err(error) = Python::attach(|py| report(py, event, progress.as_ref(), &bytes)) {
            tell(&raised, error);
            cancel.cancel();
        }
    })
}

/// Tells what happens in a download; `bytes` are those that have come, and all.
fn report(
    py: Python<'_>,
    event: &DownloadEvent<'_>,
    progress: Option<&Py<PyAny>>,
    bytes: &Mutex<(u64, u64)>,
) -> PyResult<()> {
    let (done, total) = {
        let mut bytes = bytes.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            DownloadEvent::Started { bytes: total, present, .. } => *bytes = (*present, *total),
            DownloadEvent::Received { bytes: more, .. } => bytes.0 += more,
            DownloadEvent::Restarted { bytes: less, .. } => bytes.0 = bytes.0.saturating_sub(*less),
            DownloadEvent::Retrying { reason, attempt, attempts, .. } => {
                let message = format!("{reason}; trying again (attempt {attempt} of {attempts})");
                return log(py, "warning", &message);
            }
            DownloadEvent::Note { message } => return log(py, "info", message),
            _ => return Ok(()),
        }
        *bytes
    };
    match progress {
        Some(progress) => progress.call1(py, (done, total)).map(drop),
        None => Ok(()),
    }
}

fn log(py: Python<'_>, level: &str, message: &str) -> PyResult<()> {
    let logger = py.import("logging")?.call_method1("getLogger", ("candle_coreml",))?;
    logger.call_method1(level, ("%s", message)).map(drop)
}
