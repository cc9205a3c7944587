//! Ctrl-C stops the answer that is being generated, and the program where there is none.

use std::process;
use std::sync::{Mutex, PoisonError};

use candle_coreml::CancelToken;

use crate::exit::Exit;

static RUNNING: Mutex<Option<CancelToken>> = Mutex::new(None);

/// Listens from now on. Where that is impossible, Ctrl-C stops the program in any case.
pub fn listen() {
    let stop = || match &*RUNNING.lock().unwrap_or_else(PoisonError::into_inner) {
        // Who asks twice does not want to wait for the end of a step.
        Some(answer) if !answer.is_cancelled() => answer.cancel(),
        _ => process::exit(Exit::Interrupted.code().into()),
    };
    if let Err(error) = ctrlc::set_handler(stop) {
        tracing::debug!(%error, "can't listen to Ctrl-C");
    }
}

/// Does work that Ctrl-C cancels.
pub fn cancellable<T>(work: impl FnOnce(CancelToken) -> T) -> T {
    let cancel = CancelToken::new();
    set(Some(cancel.clone()));
    let result = work(cancel);
    set(None);
    result
}

fn set(answer: Option<CancelToken>) {
    *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) = answer;
}
