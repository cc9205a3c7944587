//! Ending what takes long: by Ctrl-C, or by a token.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use candle_coreml::Error;
use pyo3::prelude::*;

use crate::errors;

/// How long calls that wait for other threads wait until they look for signals and tokens.
pub(crate) const WAIT: Duration = Duration::from_millis(20);

/// How often a call that takes long looks for signals.
const EVERY: Duration = Duration::from_millis(50);

/// Ends the calls that were given it, from any thread.
///
/// A prediction ends between two operations with `CancelledError`; states are then as they were before it.
#[pyclass(frozen, module = "candle_coreml")]
#[derive(Default)]
pub(crate) struct CancelToken(candle_coreml::CancelToken);

#[pymethods]
impl CancelToken {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Ends all calls that have the token, also those to come.
    fn cancel(&self) {
        self.0.cancel();
    }

    /// Whether `cancel` was called.
    #[getter]
    fn cancelled(&self) -> bool {
        self.0.is_cancelled()
    }

    fn __repr__(&self) -> String {
        let cancelled = if self.0.is_cancelled() { "True" } else { "False" };
        format!("<CancelToken cancelled={cancelled}>")
    }
}

impl CancelToken {
    /// The library's token.
    pub(crate) fn inner(&self) -> &candle_coreml::CancelToken {
        &self.0
    }
}

/// What ends one call: the caller's token, and a signal such as Ctrl-C. Signals are looked for on the thread
/// that makes the call; Python hears of them on its main thread alone.
pub(crate) struct Interrupt {
    token: candle_coreml::CancelToken,
    /// What a signal's handler raised.
    raised: Arc<Mutex<Option<PyErr>>>,
    /// Whether signals were looked for: the call takes long.
    asked: Arc<AtomicBool>,
    /// Whether the caller gave a token.
    is_callers: bool,
}

thread_local! {
    /// One that a call of this thread is done with, for the next one without a token: a small prediction takes
    /// no longer than making it.
    static IDLE: Cell<Option<Interrupt>> = const { Cell::new(None) };
}

impl Interrupt {
    pub(crate) fn new(token: Option<&CancelToken>) -> Self {
        match token {
            Some(token) => Self::made(&token.0, true),
            None => IDLE.take().unwrap_or_else(|| Self::made(&Default::default(), false)),
        }
    }

    fn made(token: &candle_coreml::CancelToken, is_callers: bool) -> Self {
        let raised = Arc::new(Mutex::new(None));
        let found = raised.clone();
        let asked = Arc::new(AtomicBool::new(false));
        let asks = asked.clone();
        let look = move || match Python::attach(|py| {
            asks.store(true, Ordering::Relaxed);
            // Other threads have their turn, where this one has kept the lock.
            py.detach(|| ());
            py.check_signals()
        }) {
            Ok(()) => false,
            Err(error) => {
                *found.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                true
            }
        };
        Interrupt { token: token.asking(EVERY, look), raised, asked, is_callers }
    }

    /// Whether signals were looked for since this was asked the last time.
    pub(crate) fn has_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed) && self.asked.swap(false, Ordering::Relaxed)
    }

    /// What the library asks whether to end.
    pub(crate) fn token(&self) -> candle_coreml::CancelToken {
        self.token.clone()
    }

    /// What the call gives, or the exception of its error: what a signal's handler raised, if one did.
    pub(crate) fn outcome<T>(self, result: Result<T, Error>) -> PyResult<T> {
        let raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (raised, result) {
            (Some(raised), _) => Err(raised),
            (None, Err(error)) => Err(errors::to_py(error)),
            (None, Ok(result)) => {
                if !self.is_callers {
                    IDLE.set(Some(self));
                }
                Ok(result)
            }
        }
    }
}
