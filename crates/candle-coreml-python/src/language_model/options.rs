//! Keyword arguments as the options of a generation.

use candle_coreml::{
    CancelToken, ChatOptions, ContextOverflow, GenerationOptions, RecommendedSampling, Speculation,
};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::{errors, interrupt, json};

/// The names of all options, for whoever writes another one.
const NAMES: &[&str] = &[
    "recommended",
    "max_tokens",
    "max_length",
    "min_tokens",
    "min_length",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "top_h",
    "typical_p",
    "epsilon_cutoff",
    "eta_cutoff",
    "repetition_penalty",
    "repetition_window",
    "encoder_repetition_penalty",
    "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "sequence_bias",
    "begin_suppress_tokens",
    "forced_bos_token",
    "forced_eos_tokens",
    "exponential_decay_length_penalty",
    "seed",
    "ignore_eos",
    "stop",
    "stop_ids",
    "logprobs",
    "overflow",
    "keep",
    "speculation",
    "cancel",
];

/// The options of a generation, as keyword arguments have them. The token among them is the caller's.
pub(super) fn generation(
    arguments: Option<&Bound<'_, PyDict>>,
    recommended: &RecommendedSampling,
) -> PyResult<GenerationOptions> {
    let mut options = GenerationOptions::new();
    let Some(arguments) = arguments else { return Ok(options) };
    if given(arguments, "recommended")?.is_some_and(|asked: bool| asked) {
        options = options.recommended(recommended);
    }
    let keep = given(arguments, "keep")?;
    for (name, value) in arguments {
        let name = name.cast::<PyString>()?.to_str()?;
        if !value.is_none() {
            options = with(options, name, &value).map_err(|error| wrong(name, &value, error))?;
        }
    }
    if let (ContextOverflow::Shift { keep: kept }, Some(keep)) = (&mut options.overflow, keep) {
        *kept = keep;
    }
    Ok(options)
}

/// The options of an answer.
pub(super) fn chat(
    generation: GenerationOptions,
    thinking: Option<bool>,
    tools: Option<&Bound<'_, PyAny>>,
    variables: Option<&Bound<'_, PyDict>>,
) -> PyResult<ChatOptions> {
    let mut options = ChatOptions::new(generation);
    options.thinking = thinking;
    options.tools = tools.map(json::from_py).transpose()?;
    for (name, value) in variables.into_iter().flatten() {
        options = options.variable(name.extract::<String>()?, json::from_py(&value)?);
    }
    Ok(options)
}

/// The value of an argument, unless it is None or not given.
fn given<'py, T: FromPyObjectOwned<'py>>(
    arguments: &Bound<'py, PyDict>,
    name: &str,
) -> PyResult<Option<T>> {
    let Some(value) = arguments.get_item(name)?.filter(|value| !value.is_none()) else {
        return Ok(None);
    };
    let read = value.extract().map_err(Into::into);
    read.map(Some).map_err(|error: PyErr| wrong(name, &value, error))
}

/// The options with one more.
fn with(
    options: GenerationOptions,
    name: &str,
    value: &Bound<'_, PyAny>,
) -> PyResult<GenerationOptions> {
    Ok(match name {
        // They are read before.
        "recommended" | "keep" => options,
        "max_tokens" => options.max_tokens(value.extract()?),
        "max_length" => options.max_length(value.extract()?),
        "min_tokens" => options.min_tokens(value.extract()?),
        "min_length" => options.min_length(value.extract()?),
        "temperature" => options.temperature(value.extract()?),
        "top_k" => options.top_k(value.extract()?),
        "top_p" => options.top_p(value.extract()?),
        "min_p" => options.min_p(value.extract()?),
        "top_h" => options.top_h(value.extract()?),
        "typical_p" => options.typical_p(value.extract()?),
        "epsilon_cutoff" => options.epsilon_cutoff(value.extract()?),
        "eta_cutoff" => options.eta_cutoff(value.extract()?),
        "repetition_penalty" => options.repetition_penalty(value.extract()?),
        "repetition_window" => options.repetition_window(value.extract()?),
        "encoder_repetition_penalty" => options.encoder_repetition_penalty(value.extract()?),
        "no_repeat_ngram_size" => options.no_repeat_ngram_size(value.extract()?),
        "encoder_no_repeat_ngram_size" => options.encoder_no_repeat_ngram_size(value.extract()?),
        "presence_penalty" => options.presence_penalty(value.extract()?),
        "frequency_penalty" => options.frequency_penalty(value.extract()?),
        "forced_bos_token" => options.forced_bos_token(value.extract()?),
        "seed" => options.seed(value.extract()?),
        "ignore_eos" => options.ignore_eos(value.extract()?),
        "logprobs" => options.logprobs(value.extract()?),
        "exponential_decay_length_penalty" => {
            let (start, factor) = value.extract()?;
            options.exponential_decay_length_penalty(start, factor)
        }
        "overflow" => options.overflow(overflow(value)?),
        "speculation" => options.speculation(speculation(value)?),
        "cancel" => {
            let token = value.cast::<interrupt::CancelToken>()?;
            options.cancel(token.get().inner().clone())
        }
        _ => return with_several(options, name, value),
    })
}

/// The options with one more that has several values.
fn with_several(
    mut options: GenerationOptions,
    name: &str,
    value: &Bound<'_, PyAny>,
) -> PyResult<GenerationOptions> {
    match name {
        "logit_bias" => {
            for (id, bias) in entries(value)? {
                options = options.logit_bias(id.extract()?, bias);
            }
        }
        "sequence_bias" => {
            for (ids, bias) in entries(value)? {
                options = options.sequence_bias(ids.extract::<Vec<u32>>()?, bias);
            }
        }
        "begin_suppress_tokens" => options.begin_suppress_tokens.extend(ids(value)?),
        "forced_eos_tokens" => options.forced_eos_tokens.extend(ids(value)?),
        "stop_ids" => options.stop_ids.extend(ids(value)?),
        "stop" => match value.cast::<PyString>() {
            Ok(text) => options.stop.push(text.to_str()?.to_owned()),
            Err(_) => options.stop.extend(value.extract::<Vec<String>>()?),
        },
        _ => {
            let message = format!("there is no option `{name}`; there are: {}", NAMES.join(", "));
            return Err(PyTypeError::new_err(message));
        }
    }
    Ok(options)
}

fn ids(value: &Bound<'_, PyAny>) -> PyResult<Vec<u32>> {
    value.extract()
}

/// Keys and numbers of a mapping.
fn entries<'py>(value: &Bound<'py, PyAny>) -> PyResult<Vec<(Bound<'py, PyAny>, f64)>> {
    value.call_method0("items")?.try_iter()?.map(|item| item?.extract()).collect()
}

fn overflow(value: &Bound<'_, PyAny>) -> PyResult<ContextOverflow> {
    match value.extract::<String>()?.as_str() {
        "stop" => Ok(ContextOverflow::Stop),
        "error" => Ok(ContextOverflow::Error),
        "shift" => Ok(ContextOverflow::Shift { keep: 0 }),
        _ => Err(errors::input("InputError", None, "expected \"stop\", \"error\" or \"shift\"")),
    }
}

fn speculation(value: &Bound<'_, PyAny>) -> PyResult<Speculation> {
    match value.extract::<String>()?.as_str() {
        "auto" => Ok(Speculation::Auto),
        "on" => Ok(Speculation::On),
        "off" => Ok(Speculation::Off),
        _ => Err(errors::input("InputError", None, "expected \"auto\", \"on\" or \"off\"")),
    }
}

/// The error of an option's value.
fn wrong(name: &str, value: &Bound<'_, PyAny>, cause: PyErr) -> PyErr {
    let py = value.py();
    if !NAMES.contains(&name) {
        return cause;
    }
    let is_type = cause.is_instance_of::<PyTypeError>(py);
    let got = value.repr().map_or_else(|_| "a value".to_owned(), |text| text.to_string());
    let message = format!("option `{name}`: {}, got {got}", cause.value(py));
    errors::input(if is_type { "DtypeError" } else { "InputError" }, None, &message)
}

/// The token that ends a generation: that of the caller, which on the thread that generates asks for the
/// second one, too.
pub(super) fn both(asked: Option<CancelToken>, own: &CancelToken) -> CancelToken {
    match asked {
        None => own.clone(),
        Some(asked) => {
            let own = own.clone();
            asked.asking(crate::interrupt::WAIT, move || own.is_cancelled())
        }
    }
}
