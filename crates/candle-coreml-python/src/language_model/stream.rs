//! Tokens as they are generated.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use candle_coreml::{CancelToken, Generation, Session as RustSession, Token};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::results;
use super::session::Conversation;
use crate::errors;

/// The tokens of a generation, computed on a thread of their own: an iterator, also for `async for`. It is
/// the only one who generates with its session until it has come to its end, or is closed.
#[pyclass(frozen, weakref, module = "candle_coreml")]
pub(crate) struct TokenStream {
    conversation: Arc<Conversation>,
    /// None behind the end.
    running: Mutex<Option<Running>>,
    generation: Mutex<Option<Generation>>,
}

/// A generation that goes on.
pub(super) struct Running {
    pub(super) events: Receiver<Token>,
    pub(super) thread: JoinHandle<Finished>,
    pub(super) cancel: CancelToken,
}

/// What the thread gives at its end.
pub(super) struct Finished {
    pub(super) session: Box<RustSession>,
    pub(super) result: candle_coreml::Result<Generation>,
}

impl TokenStream {
    pub(super) fn new(conversation: Arc<Conversation>, running: Running) -> Self {
        let (running, generation) = (Mutex::new(Some(running)), Mutex::default());
        TokenStream { conversation, running, generation }
    }

    /// The next token, which is waited for without being attached to Python; None at the end.
    fn next(&self) -> PyResult<Option<Token>> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let Some(open) = running.as_ref() else { return Ok(None) };
            match open.events.recv_timeout(crate::interrupt::WAIT) {
                Ok(token) => return Ok(Some(token)),
                Err(RecvTimeoutError::Timeout) => {
                    if let Err(raised) = Python::attach(|py| py.check_signals()) {
                        self.leave(running.take());
                        return Err(raised);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return self.end(running.take()).map(|()| None);
                }
            }
        }
    }

    /// Takes what the thread gives at its end, which has come.
    fn end(&self, running: Option<Running>) -> PyResult<()> {
        let Some(Running { thread, events, .. }) = running else { return Ok(()) };
        drop(events);
        let Ok(Finished { session, result }) = thread.join() else {
            self.conversation.give_back(None);
            let message = "the thread that generates has panicked; the conversation starts anew";
            return Err(errors::new("Error", candle_coreml::ErrorKind::Other, message));
        };
        self.conversation.give_back(Some(session));
        let generation = result.map_err(errors::to_py)?;
        *self.generation.lock().unwrap_or_else(PoisonError::into_inner) = Some(generation);
        Ok(())
    }

    /// Tells the thread to end, without waiting for it.
    fn leave(&self, running: Option<Running>) {
        if let Some(Running { thread, cancel, .. }) = running {
            cancel.cancel();
            self.conversation.leave(thread);
        }
    }

    /// Generates what is left and gives the whole.
    pub(super) fn finish<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        py.detach(|| {
            while self.next()?.is_some() {}
            PyResult::Ok(())
        })?;
        let generation = self.generation.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match generation {
            Some(generation) => results::generation(py, &generation),
            None => Ok(py.None().into_bound(py)),
        }
    }
}

#[pymethods]
impl TokenStream {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let token = py.detach(|| self.next())?;
        token.map(|token| results::token(py, &token)).transpose()
    }

    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __anext__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("candle_coreml._asynchronous")?.getattr("next_token")?.call1((slf,))
    }

    /// The whole generation, when the stream has come to its end or is closed; None before it.
    #[getter]
    fn generation<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let generation = self.generation.lock().unwrap_or_else(PoisonError::into_inner).clone();
        generation.map(|generation| results::generation(py, &generation)).transpose()
    }

    /// Ends the generation where it is. The session can go on from there.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            let running = running.take();
            if let Some(running) = &running {
                running.cancel.cancel();
            }
            self.end(running)
        })
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close(py)
    }
}

/// A stream that is let go of ends.
impl Drop for TokenStream {
    fn drop(&mut self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.leave(running);
    }
}
