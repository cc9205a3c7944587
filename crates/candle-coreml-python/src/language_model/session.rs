//! Conversations.

use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use candle_coreml::{
    CancelToken, ChatMessage, ChooseToken, Error, ErrorKind, GenerationOptions, LanguageModel,
    Session as RustSession, TokenStream as RustStream,
};
use numpy::PyArray1;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use super::options;
use super::stream::{Finished, Running, TokenStream};
use crate::{errors, json};

/// One conversation with a language model. Its cache stays between calls: a prompt, or messages, that begin
/// with what the last ones and the text after them were, run only what is new.
///
/// Sessions of one model share its weights, and may generate on several threads at a time; one session
/// generates one text at a time. `LanguageModel` is a session itself, and `LanguageModel.session` starts more.
#[pyclass(frozen, subclass, weakref, module = "candle_coreml")]
pub(crate) struct Session {
    conversation: Arc<Conversation>,
}

/// What a session and its streams have in common.
pub(super) struct Conversation {
    /// None when it is closed.
    open: Mutex<Option<Open>>,
}

/// What a session holds until it is closed.
struct Open {
    model: Shared,
    state: State,
}

/// A model that several sessions have.
pub(super) type Shared = Arc<Mutex<LanguageModel>>;

/// Who has the library's session.
enum State {
    /// Nobody.
    Idle(Box<RustSession>),
    /// A stream that is being read.
    Streaming,
    /// A stream that was let go of, until its thread ends.
    Ending(JoinHandle<Finished>),
}

/// What a text continues.
pub(super) enum Start {
    Prompt(String),
    Ids(Vec<u32>),
    Chat(Vec<ChatMessage>, Box<candle_coreml::ChatOptions>),
}

impl Conversation {
    /// A new one with a model.
    pub(super) fn new(model: Shared) -> Arc<Self> {
        let session = Box::new(locked(&model).session());
        let open = Open { model, state: State::Idle(session) };
        Arc::new(Conversation { open: Mutex::new(Some(open)) })
    }

    fn open(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The model.
    pub(super) fn model(&self) -> PyResult<Shared> {
        match &*self.open() {
            Some(open) => Ok(open.model.clone()),
            None => Err(closed()),
        }
    }

    /// Takes the library's session, and waits for a thread that is about to give it back. It is called
    /// without being attached to Python, which that thread may need, and attaches while it holds no lock.
    fn take(&self) -> PyResult<Box<RustSession>> {
        loop {
            if let Some(session) = self.take_now()? {
                return Ok(session);
            }
            Python::attach(|py| py.check_signals())?;
            thread::sleep(crate::interrupt::WAIT / 10);
        }
    }

    /// Takes the library's session; None while a thread is about to give it back.
    fn take_now(&self) -> PyResult<Option<Box<RustSession>>> {
        let mut open = self.open();
        let Some(open) = open.as_mut() else { return Err(closed()) };
        match std::mem::replace(&mut open.state, State::Streaming) {
            State::Idle(session) => Ok(Some(session)),
            State::Streaming => Err(busy()),
            State::Ending(thread) if !thread.is_finished() => {
                open.state = State::Ending(thread);
                Ok(None)
            }
            State::Ending(thread) => Ok(Some(match thread.join() {
                Ok(finished) => finished.session,
                // It has panicked, and its session with it.
                Err(_) => Box::new(locked(&open.model).session()),
            })),
        }
    }

    /// Takes the library's session back. Where it is lost, a new conversation begins.
    pub(super) fn give_back(&self, session: Option<Box<RustSession>>) {
        if let Some(open) = self.open().as_mut() {
            let session = session.unwrap_or_else(|| Box::new(locked(&open.model).session()));
            open.state = State::Idle(session);
        }
    }

    /// Leaves the session to a thread that is told to end.
    pub(super) fn leave(&self, thread: JoinHandle<Finished>) {
        if let Some(open) = self.open().as_mut() {
            open.state = State::Ending(thread);
        }
    }

    /// Begins to generate on a thread of its own.
    fn start(
        self: &Arc<Self>,
        py: Python<'_>,
        start: Start,
        mut options: GenerationOptions,
        chooser: Option<Chooser>,
    ) -> PyResult<TokenStream> {
        let session = py.detach(|| self.take())?;
        let (sender, events) = mpsc::sync_channel(0);
        let cancel = CancelToken::new();
        let (own, asked) = (cancel.clone(), options.cancel.take());
        let work = move || {
            options.cancel = Some(options::both(asked, &own));
            generate(session, start, options, chooser, &sender)
        };
        match thread::Builder::new().name("generation".to_owned()).spawn(work) {
            Ok(thread) => {
                let running = Running { events, thread, cancel };
                Ok(TokenStream::new(self.clone(), running))
            }
            Err(error) => {
                self.give_back(None);
                let message = format!("can't start a thread to generate on: {error}");
                Err(errors::new("LimitError", ErrorKind::Limit, &message))
            }
        }
    }
}

/// Generates on this thread, and hands on each token as long as somebody takes it.
fn generate(
    mut session: Box<RustSession>,
    start: Start,
    options: GenerationOptions,
    mut chooser: Option<Chooser>,
    sender: &mpsc::SyncSender<candle_coreml::Token>,
) -> Finished {
    let stream = match (start, &mut chooser) {
        (Start::Prompt(prompt), None) => session.stream(&prompt, &options),
        (Start::Prompt(prompt), Some(chooser)) => session.stream_with(&prompt, &options, chooser),
        (Start::Ids(ids), _) => session.stream_ids(&ids, &options),
        (Start::Chat(messages, mut chat), _) => {
            chat.generation = options;
            session.chat_stream(&messages, &chat)
        }
    };
    let result = stream.and_then(|stream| hand_on(stream, sender));
    Finished { session, result }
}

fn hand_on(
    mut stream: RustStream<'_>,
    sender: &mpsc::SyncSender<candle_coreml::Token>,
) -> candle_coreml::Result<candle_coreml::Generation> {
    for token in stream.by_ref() {
        if sender.send(token?).is_err() {
            break;
        }
    }
    Ok(stream.generation())
}

/// A function of Python's that chooses tokens.
pub(super) struct Chooser(Py<PyAny>);

impl ChooseToken for Chooser {
    fn choose(
        &mut self,
        logits: &[f32],
        prompt: &[u32],
        generated: &[u32],
    ) -> candle_coreml::Result<u32> {
        let choose = |py: Python<'_>| -> PyResult<u32> {
            let logits = PyArray1::from_slice(py, logits);
            let chosen = self.0.bind(py).call1((logits, prompt.to_vec(), generated.to_vec()))?;
            // Also an integer of NumPy's.
            chosen.call_method0("__index__")?.extract()
        };
        Python::attach(choose).map_err(Error::other)
    }
}

/// A model for a moment.
pub(super) fn locked(model: &Shared) -> MutexGuard<'_, LanguageModel> {
    model.lock().unwrap_or_else(PoisonError::into_inner)
}

fn closed() -> PyErr {
    errors::new("ClosedError", ErrorKind::InvalidInput, "the language model is closed")
}

fn busy() -> PyErr {
    errors::new(
        "PredictionError",
        ErrorKind::InvalidInput,
        "the session generates a text already; read its stream to the end or close it, or start another \
         session with `session()`",
    )
}

impl Session {
    pub(super) fn new(conversation: Arc<Conversation>) -> Self {
        Session { conversation }
    }

    pub(super) fn conversation(&self) -> &Arc<Conversation> {
        &self.conversation
    }

    fn options(&self, arguments: Option<&Bound<'_, PyDict>>) -> PyResult<GenerationOptions> {
        let model = self.conversation.model()?;
        let recommended = locked(&model).recommended_sampling().clone();
        options::generation(arguments, &recommended)
    }
}

#[pymethods]
impl Session {
    /// Generates text that continues `prompt`, a string that is the whole text so far, or a list of token
    /// ids. Gives a `Generation`: `.text`, `.token_ids`, `.finish_reason`, `.usage`, `.timings`, `.logprobs`.
    ///
    /// The options are those of `GenerationOptions`: `max_tokens`, `temperature`, `top_k`, `top_p`, `min_p`,
    /// `repetition_penalty`, `seed`, `stop`, `logprobs`, `cancel` and others. `chooser` is called with the
    /// logits (a float32 array), the ids of the prompt and those generated so far, and gives the next
    /// token's id, in place of the sampler.
    ///
    /// Raises `InputError` for an option or a prompt that can't be, `LimitError` where the prompt is too
    /// long, `PredictionError` if the session generates another text, `ClosedError`. Ctrl-C ends it.
    #[pyo3(signature = (prompt, *, chooser = None, **options))]
    fn generate<'py>(
        &self,
        py: Python<'py>,
        prompt: &Bound<'py, PyAny>,
        chooser: Option<Py<PyAny>>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.stream(py, prompt, chooser, options)?.finish(py)
    }

    /// Like `generate`, token by token: an iterator of `Token`s, each with `.text` and `.id`, which can be
    /// used with `async for` as well. `TokenStream.generation` has the whole afterwards.
    #[pyo3(signature = (prompt, *, chooser = None, **options))]
    fn stream<'py>(
        &self,
        py: Python<'py>,
        prompt: &Bound<'py, PyAny>,
        chooser: Option<Py<PyAny>>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<TokenStream> {
        let start = match prompt.cast::<PyString>() {
            Ok(text) => Start::Prompt(text.to_str()?.to_owned()),
            Err(_) => Start::Ids(prompt.extract().map_err(|_| {
                let message = "expected the prompt as a string or as a list of token ids";
                errors::input("DtypeError", None, message)
            })?),
        };
        if chooser.is_some() && matches!(start, Start::Ids(_)) {
            let message = "with a chooser the prompt has to be a string, not token ids";
            return Err(errors::input("InputError", None, message));
        }
        let options = self.options(options)?;
        self.conversation.start(py, start, options, chooser.map(Chooser))
    }

    /// Answers a conversation: `messages` are all of it, dictionaries with `role` (`system`, `user`,
    /// `assistant`) and `content`, the last one a user's. The model's own chat template makes a prompt of
    /// them. `Generation.message` is the answer as such a message.
    ///
    /// `thinking` is the template's `enable_thinking`, `tools` a list of functions that the model may call,
    /// and `variables` has others of the template. The other options are those of `generate`.
    ///
    /// Raises `UnsupportedError` or `InputError` where the model has no template or it refuses the messages,
    /// and what `generate` does.
    #[pyo3(signature = (messages, *, thinking = None, tools = None, variables = None, **options))]
    fn chat<'py>(
        &self,
        py: Python<'py>,
        messages: &Bound<'py, PyAny>,
        thinking: Option<bool>,
        tools: Option<&Bound<'py, PyAny>>,
        variables: Option<&Bound<'py, PyDict>>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.chat_stream(py, messages, thinking, tools, variables, options)?.finish(py)
    }

    /// Like `chat`, token by token: see `stream`.
    #[pyo3(signature = (messages, *, thinking = None, tools = None, variables = None, **options))]
    fn chat_stream<'py>(
        &self,
        py: Python<'py>,
        messages: &Bound<'py, PyAny>,
        thinking: Option<bool>,
        tools: Option<&Bound<'py, PyAny>>,
        variables: Option<&Bound<'py, PyDict>>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<TokenStream> {
        let wrong = |cause: String| {
            let message = format!(
                "expected messages as a list of dictionaries with `role` and `content`: {cause}"
            );
            errors::input("InputError", None, &message)
        };
        let messages =
            json::from_py(messages).map_err(|error| wrong(error.value(py).to_string()))?;
        let messages: Vec<ChatMessage> =
            serde_json::from_value(messages).map_err(|error| wrong(error.to_string()))?;
        let options = self.options(options)?;
        let chat = options::chat(GenerationOptions::new(), thinking, tools, variables)?;
        self.conversation.start(py, Start::Chat(messages, Box::new(chat)), options, None)
    }

    /// The model's logits for what follows `prompt`: a float32 array with one for each token of the
    /// vocabulary.
    fn logits<'py>(&self, py: Python<'py>, prompt: &str) -> PyResult<Bound<'py, PyArray1<f32>>> {
        let (session, logits) = py.detach(|| {
            let mut session = self.conversation.take()?;
            let logits = session.logits(prompt);
            PyResult::Ok((session, logits))
        })?;
        self.conversation.give_back(Some(session));
        Ok(PyArray1::from_vec(py, logits.map_err(errors::to_py)?))
    }

    /// The tokens that the cache holds.
    #[getter]
    fn cached_ids(&self, py: Python<'_>) -> PyResult<Vec<u32>> {
        let session = py.detach(|| self.conversation.take())?;
        let ids = session.cached_ids().to_vec();
        self.conversation.give_back(Some(session));
        Ok(ids)
    }

    /// Forgets the conversation.
    fn reset(&self, py: Python<'_>) -> PyResult<()> {
        let mut session = py.detach(|| self.conversation.take())?;
        session.reset();
        self.conversation.give_back(Some(session));
        Ok(())
    }

    /// Lets go of the conversation's memory; of the model's as well, when its last session is closed.
    fn close(&self) {
        self.conversation.open().take();
    }

    /// Whether `close` was called.
    #[getter]
    fn closed(&self) -> bool {
        self.conversation.open().is_none()
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, _exception: &Bound<'_, PyTuple>) {
        self.close();
    }
}
