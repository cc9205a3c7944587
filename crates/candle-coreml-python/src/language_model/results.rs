//! What generation gives, as the classes of `candle_coreml/generation.py`.

use candle_coreml::llm::{LogProbability, TokenLogProbabilities};
use candle_coreml::{Generation, Token};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList};

/// The classes, found once.
struct Classes {
    log_probability: Py<PyAny>,
    token_log_probabilities: Py<PyAny>,
    token: Py<PyAny>,
    usage: Py<PyAny>,
    timings: Py<PyAny>,
    generation: Py<PyAny>,
}

impl Classes {
    fn get(py: Python<'_>) -> PyResult<&'static Self> {
        static CLASSES: PyOnceLock<Classes> = PyOnceLock::new();
        CLASSES.get_or_try_init(py, || {
            let module = py.import("candle_coreml.generation")?;
            let class = |name| module.getattr(name).map(Bound::unbind);
            Ok(Classes {
                log_probability: class("LogProbability")?,
                token_log_probabilities: class("TokenLogProbabilities")?,
                token: class("Token")?,
                usage: class("Usage")?,
                timings: class("Timings")?,
                generation: class("Generation")?,
            })
        })
    }
}

/// A token.
pub(super) fn token<'py>(py: Python<'py>, token: &Token) -> PyResult<Bound<'py, PyAny>> {
    let logprobs = token.logprobs.as_ref().map(|logprobs| log_probabilities(py, logprobs));
    Classes::get(py)?.token.bind(py).call1((token.id, &token.text, logprobs.transpose()?))
}

/// A finished generation.
pub(super) fn generation<'py>(
    py: Python<'py>,
    generation: &Generation,
) -> PyResult<Bound<'py, PyAny>> {
    let classes = Classes::get(py)?;
    let logprobs = generation.logprobs.as_ref().map(|all| {
        let all = all.iter().map(|logprobs| log_probabilities(py, logprobs));
        PyList::new(py, all.collect::<PyResult<Vec<_>>>()?)
    });
    let usage = PyDict::new(py);
    let counts = &generation.usage;
    usage.set_item("prompt_tokens", counts.prompt_tokens)?;
    usage.set_item("reused_tokens", counts.reused_tokens)?;
    usage.set_item("prefilled_tokens", counts.prefilled_tokens)?;
    usage.set_item("generated_tokens", counts.generated_tokens)?;
    usage.set_item("drafted_tokens", counts.drafted_tokens)?;
    usage.set_item("accepted_tokens", counts.accepted_tokens)?;
    usage.set_item("shifted_tokens", counts.shifted_tokens)?;
    let seconds = (generation.timings.prompt, generation.timings.decode);
    let seconds = (seconds.0.as_secs_f64(), seconds.1.as_secs_f64());
    let values = PyDict::new(py);
    values.set_item("prompt_ids", &generation.prompt_ids)?;
    values.set_item("token_ids", &generation.token_ids)?;
    values.set_item("text", &generation.text)?;
    values.set_item("finish_reason", generation.finish_reason.name())?;
    values.set_item("stop_string", generation.stop_string.as_deref())?;
    values.set_item("logprobs", logprobs.transpose()?)?;
    values.set_item("usage", classes.usage.bind(py).call((), Some(&usage))?)?;
    values.set_item("timings", classes.timings.bind(py).call1(seconds)?)?;
    classes.generation.bind(py).call((), Some(&values))
}

fn log_probabilities<'py>(
    py: Python<'py>,
    all: &TokenLogProbabilities,
) -> PyResult<Bound<'py, PyAny>> {
    let top = all.top.iter().map(|of| log_probability(py, of)).collect::<PyResult<Vec<_>>>()?;
    let chosen = log_probability(py, &all.chosen)?;
    Classes::get(py)?.token_log_probabilities.bind(py).call1((chosen, PyList::new(py, top)?))
}

fn log_probability<'py>(py: Python<'py>, of: &LogProbability) -> PyResult<Bound<'py, PyAny>> {
    let values = (of.id, &of.text, PyBytes::new(py, &of.bytes), of.logprob);
    Classes::get(py)?.log_probability.bind(py).call1(values)
}
