//! Text generation: a model and its sessions, streams of tokens, and the options and results of both.

mod options;
mod results;
mod session;
mod stream;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use candle_coreml::{LanguageModelOptions, Numerics, Precision};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use self::session::{Conversation, Session, locked};
use self::stream::TokenStream;
use crate::interrupt::CancelToken;
use crate::model::numerics_of;
use crate::tools::download::{self, Request};
use crate::{errors, json};

/// Adds the classes of this module to the package's.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Session>()?;
    module.add_class::<LanguageModel>()?;
    module.add_class::<TokenStream>()
}

/// A language model that ANEMLL or Apple's recipes have exported: the directory with its packages and its
/// tokenizer, or the name of one on the Hugging Face Hub, `org/name`, which is downloaded into the cache
/// unless it is there. It is a `Session` as well: its first conversation.
///
/// `threads` are the model's own, instead of those of the process. With `strict_fp16` each result of
/// `float16` is rounded as the program states it; `numerics` are those of `MLModel`. `revision`, `offline`, `progress` and `cancel` are those of
/// `download`.
///
/// Raises `ModelError` where a part of the model is missing or does not fit, `DownloadError` where a name
/// can't be had, `UnsupportedError`, `ModelNotFoundError` (a FileNotFoundError).
#[pyclass(frozen, extends = Session, weakref, module = "candle_coreml")]
pub(crate) struct LanguageModel {
    directory: PathBuf,
    threads: Option<usize>,
    strict_fp16: bool,
    numerics: Numerics,
}

#[pymethods]
impl LanguageModel {
    #[new]
    #[pyo3(signature = (
        path_or_name,
        *,
        threads = None,
        strict_fp16 = false,
        numerics = "strict",
        revision = None,
        offline = false,
        progress = None,
        cancel = None,
    ))]
    #[expect(clippy::too_many_arguments, reason = "Python's have names")]
    fn new(
        py: Python<'_>,
        path_or_name: &Bound<'_, PyAny>,
        threads: Option<usize>,
        strict_fp16: bool,
        numerics: &str,
        revision: Option<String>,
        offline: bool,
        progress: Option<Py<PyAny>>,
        cancel: Option<&CancelToken>,
    ) -> PyResult<PyClassInitializer<Self>> {
        let path: PathBuf = path_or_name.extract()?;
        let directory = match name(path_or_name, &path)? {
            Some(name) => {
                let request =
                    Request { name, revision, include: Vec::new(), to: None, offline, progress };
                download::ensure(py, request, cancel)?
            }
            None => std::path::absolute(&path).unwrap_or(path),
        };
        let numerics = numerics_of(numerics)?;
        let mut options = LanguageModelOptions::new().numerics(numerics);
        if let Some(threads) = threads {
            options = options.threads(threads).map_err(errors::to_py)?;
        }
        if strict_fp16 {
            options = options.precision(Precision::AsDeclared);
        }
        let load = || candle_coreml::LanguageModel::load_with(&directory, &options);
        let model = py.detach(load).map_err(errors::to_py)?;
        let session = Session::new(Conversation::new(Arc::new(Mutex::new(model))));
        let model = LanguageModel { directory, threads, strict_fp16, numerics };
        Ok(PyClassInitializer::from(session).add_subclass(model))
    }

    /// A new conversation with the same weights.
    fn session(slf: PyRef<'_, Self>) -> PyResult<Session> {
        Ok(Session::new(Conversation::new(shared(&slf)?)))
    }

    /// The token ids of a text, as they are fed to the model: with a begin token, if it has one.
    fn tokenize(slf: PyRef<'_, Self>, text: &str) -> PyResult<Vec<u32>> {
        locked(&shared(&slf)?).tokenize(text).map_err(errors::to_py)
    }

    /// The text of token ids, without special tokens.
    fn detokenize(slf: PyRef<'_, Self>, ids: Vec<u32>) -> PyResult<String> {
        locked(&shared(&slf)?).tokenizer().decode(&ids).map_err(errors::to_py)
    }

    /// The token that begins a text, if the model has one.
    #[getter]
    fn begin_token(slf: PyRef<'_, Self>) -> PyResult<Option<u32>> {
        Ok(locked(&shared(&slf)?).tokenizer().begin_token())
    }

    /// The tokens that end a text.
    #[getter]
    fn end_tokens(slf: PyRef<'_, Self>) -> PyResult<Vec<u32>> {
        Ok(locked(&shared(&slf)?).tokenizer().end_tokens().collect())
    }

    /// How many tokens prompt and text may have together.
    #[getter]
    fn context_length(slf: PyRef<'_, Self>) -> PyResult<usize> {
        Ok(locked(&shared(&slf)?).context_length())
    }

    /// How many tokens the model knows.
    #[getter]
    fn vocabulary_size(slf: PyRef<'_, Self>) -> PyResult<usize> {
        Ok(locked(&shared(&slf)?).vocabulary_size())
    }

    /// What the model is made of, and its sizes, as `candle-coreml config --json` has them.
    #[getter]
    fn config<'py>(slf: PyRef<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let config = json::value(locked(&shared(&slf)?).config())?;
        json::to_py(slf.py(), &config)
    }

    /// How the model's makers recommend to generate with it; the option `recommended` follows that.
    #[getter]
    fn recommended<'py>(slf: PyRef<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let recommended = json::value(locked(&shared(&slf)?).recommended_sampling())?;
        json::to_py(slf.py(), &recommended)
    }

    /// What is odd about the model's directory, in words.
    #[getter]
    fn findings(slf: PyRef<'_, Self>) -> PyResult<Vec<String>> {
        Ok(locked(&shared(&slf)?).findings().to_vec())
    }

    /// The directory that the model was loaded from.
    #[getter]
    fn path(&self) -> String {
        self.directory.display().to_string()
    }

    /// It is pickled by its directory and options; the conversation is not kept.
    fn __getnewargs_ex__<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<((PathBuf,), Bound<'py, PyDict>)> {
        let options = PyDict::new(py);
        options.set_item("threads", self.threads)?;
        options.set_item("strict_fp16", self.strict_fp16)?;
        options.set_item("numerics", self.numerics.name())?;
        Ok(((self.directory.clone(),), options))
    }

    fn __repr__(&self) -> String {
        format!("<LanguageModel {:?}>", self.directory.display().to_string())
    }
}

/// The library's model.
fn shared(model: &PyRef<'_, LanguageModel>) -> PyResult<session::Shared> {
    model.as_super().conversation().model()
}

/// The name on the hub that is meant, where it is not a path.
fn name(given: &Bound<'_, PyAny>, path: &Path) -> PyResult<Option<String>> {
    let Ok(text) = given.cast::<PyString>() else { return Ok(None) };
    let text = text.to_str()?;
    if path.symlink_metadata().is_ok() {
        return Ok(None);
    }
    let is_address = text.contains("://") || text.starts_with("huggingface.co/");
    let is_path = text.starts_with(['.', '~', '/']) || text.contains('\\');
    let id = text.split('@').next().unwrap_or_default();
    let is_id = !is_path && id.matches('/').count() == 1 && !id.ends_with('/');
    Ok((is_address || is_id).then(|| text.to_owned()))
}
