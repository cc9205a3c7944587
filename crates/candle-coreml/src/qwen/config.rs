//! What to load, and what the packages say about themselves.

use std::path::Path;

use coreml_format::description::FunctionDescription;

use crate::error::{Error, Result};
use crate::llm::Manifest;
use crate::model::BackendKind;
use crate::qwen::naming::ModelNamingConfig;

/// How to load a model. Its sizes are not told here: they are read from the model, see
/// [`ModelConfig`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct QwenConfig {
    /// How the packages are named.
    pub naming: ModelNamingConfig,
    /// What runs them.
    pub backend: BackendKind,
}

impl QwenConfig {
    /// Any names, the best backend.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how the packages are named.
    pub fn with_naming(mut self, naming: ModelNamingConfig) -> Self {
        self.naming = naming;
        self
    }

    /// Sets what runs the packages.
    pub fn with_backend(mut self, backend: BackendKind) -> Self {
        self.backend = backend;
        self
    }
}

/// Sizes of a loaded model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelConfig {
    pub(super) context_length: usize,
    pub(super) batch_size: usize,
    pub(super) hidden_size: usize,
    pub(super) num_chunks: usize,
    pub(super) logits_parts: Vec<String>,
    pub(super) vocab_size: usize,
    pub(super) shared_state: bool,
}

impl ModelConfig {
    /// Tokens that prompt and answer may have together.
    pub fn context_length(&self) -> usize {
        self.context_length
    }

    /// Tokens that prefill runs at once; 1 for models that take them one by one.
    pub fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// Length of a hidden state.
    pub fn hidden_size(&self) -> usize {
        self.hidden_size
    }

    /// Number of logits.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Number of FFN packages.
    pub fn num_chunks(&self) -> usize {
        self.num_chunks
    }

    /// Number of the LM head's outputs.
    pub fn logits_part_count(&self) -> usize {
        self.logits_parts.len()
    }

    /// Whether the LM head gives its logits in several outputs.
    pub fn has_multipart_logits(&self) -> bool {
        self.logits_parts.len() > 1
    }

    /// Whether all chunks work on one key-value state, rather than each on its own.
    pub fn has_shared_state(&self) -> bool {
        self.shared_state
    }
}

/// Interfaces of a model's functions.
pub(super) struct Interfaces<'a> {
    pub(super) embeddings: Function<'a>,
    pub(super) chunks: Vec<ChunkInterfaces<'a>>,
    pub(super) lm_head: Function<'a>,
}

/// Interfaces of a chunk's functions.
pub(super) struct ChunkInterfaces<'a> {
    pub(super) infer: Function<'a>,
    pub(super) prefill: Option<Function<'a>>,
}

/// A function's interface and where it is from.
#[derive(Clone, Copy)]
pub(super) struct Function<'a> {
    pub(super) path: &'a Path,
    pub(super) description: &'a FunctionDescription,
}

/// Inputs that the pipeline feeds to a chunk.
const CHUNK_INPUTS: [&str; 5] =
    ["hidden_states", "position_ids", "causal_mask", "current_pos", "update_mask"];

impl ModelConfig {
    /// Sizes from the interfaces, which must fit together; `manifest` only says whether chunks have
    /// states of their own.
    pub(super) fn new(interfaces: &Interfaces, manifest: Option<&Manifest>) -> Result<Self> {
        let first = interfaces.chunks.first().ok_or_else(|| {
            interfaces.embeddings.wrong("there is no FFN package beside it".to_owned())
        })?;
        let &[.., context_length] = first.infer.shape("causal_mask")? else {
            return Err(first.infer.wrong("`causal_mask` has no dimensions".to_owned()));
        };
        let &[_, _, hidden_size] = first.infer.shape("hidden_states")? else {
            return Err(first.infer.wrong("`hidden_states` must have 3 dimensions".to_owned()));
        };
        let batch_size = match &first.prefill {
            Some(prefill) => prefill.shape("hidden_states")?.get(1).copied().unwrap_or(1),
            None => 1,
        };
        let (logits_parts, vocab_size) = interfaces.lm_head.logits()?;
        let config = ModelConfig {
            context_length,
            batch_size,
            hidden_size,
            num_chunks: interfaces.chunks.len(),
            logits_parts,
            vocab_size,
            shared_state: shares_state(&interfaces.chunks, manifest),
        };
        config.check(interfaces)?;
        config.compare(manifest);
        Ok(config)
    }

    /// Checks every function against the sizes.
    fn check(&self, interfaces: &Interfaces) -> Result<()> {
        let (context, batch, hidden) = (self.context_length, self.batch_size, self.hidden_size);
        if context < 2 || batch == 0 || batch > context {
            return Err(interfaces.embeddings.wrong(format!(
                "the FFN beside it has a context of {context} and a prefill window of {batch} \
                 tokens, with which nothing can be generated"
            )));
        }
        for length in [1, batch] {
            interfaces.embeddings.allows("input_ids", &[1, length])?;
        }
        for chunk in &interfaces.chunks {
            chunk.infer.check_chunk(1, context, hidden)?;
            if let Some(prefill) = &chunk.prefill {
                prefill.check_chunk(batch, context, hidden)?;
            } else if batch > 1 {
                return Err(chunk
                    .infer
                    .wrong("has no function `prefill`, which the first chunk has".to_owned()));
            }
        }
        interfaces.lm_head.allows("hidden_states", &[1, 1, hidden])
    }

    /// The packages are right where `meta.yaml` says otherwise; but someone may wonder.
    fn compare(&self, manifest: Option<&Manifest>) {
        let Some(manifest) = manifest else { return };
        let fields = [
            ("context_length", manifest.context_length, self.context_length),
            ("batch_size", manifest.batch_size, self.batch_size),
            ("num_chunks", manifest.num_chunks, self.num_chunks),
        ];
        for (field, stated, actual) in fields {
            if stated.is_some_and(|stated| stated != actual) {
                let path = manifest.path.display();
                tracing::warn!(%path, field, stated, actual, "the packages differ from meta.yaml");
            }
        }
    }
}

/// One state serves all chunks that declare the same one, unless the export says otherwise.
fn shares_state(chunks: &[ChunkInterfaces], manifest: Option<&Manifest>) -> bool {
    let types = |chunk: &ChunkInterfaces| {
        let states = &chunk.infer.description.states;
        let mut types: Vec<_> =
            states.iter().map(|state| (state.name.clone(), state.ty.clone())).collect();
        types.sort_by(|a, b| a.0.cmp(&b.0));
        types
    };
    let first = chunks.first().map(types);
    !manifest.is_some_and(|manifest| manifest.per_chunk_state)
        && chunks.iter().all(|chunk| first.as_ref() == Some(&types(chunk)))
}

impl Function<'_> {
    pub(super) fn wrong(&self, message: String) -> Error {
        Error::LanguageModel {
            path: self.path.to_owned(),
            message: format!("function `{}`: {message}", self.description.name),
        }
    }

    /// Whether the function has an input.
    fn takes(&self, name: &str) -> bool {
        self.description.inputs.iter().any(|input| input.name == name)
    }

    /// Shape of an input.
    fn shape(&self, name: &str) -> Result<&[usize]> {
        let inputs = &self.description.inputs;
        let input = inputs.iter().find(|input| input.name == name).ok_or_else(|| {
            let names: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
            self.wrong(format!(
                "has no input `{name}`, only {}; this is not the layout of a Qwen model by ANEMLL",
                crate::error::list(&names)
            ))
        })?;
        match input.ty.as_multi_array() {
            Some(array) => Ok(&array.shape),
            None => Err(self.wrong(format!("input `{name}` must be a multi-array"))),
        }
    }

    /// Checks that an input takes a shape.
    fn allows(&self, name: &str, shape: &[usize]) -> Result<()> {
        self.shape(name)?;
        let mut inputs = self.description.inputs.iter();
        let ty =
            inputs.find(|input| input.name == name).and_then(|input| input.ty.as_multi_array());
        match ty {
            Some(ty) if !ty.allows(shape) => Err(self.wrong(format!(
                "input `{name}` is {ty}, but the model's other functions need {shape:?} here"
            ))),
            _ => Ok(()),
        }
    }

    fn check_chunk(&self, rows: usize, context: usize, hidden: usize) -> Result<()> {
        self.allows("hidden_states", &[1, rows, hidden])?;
        self.allows("position_ids", &[rows])?;
        self.allows("causal_mask", &[1, 1, rows, context])?;
        self.allows("current_pos", &[1])?;
        if self.takes("update_mask") {
            self.allows("update_mask", &[1, 1, context, rows])?;
        }
        let inputs = &self.description.inputs;
        let unknown = |name: &str| !CHUNK_INPUTS.contains(&name);
        if let Some(input) = inputs.iter().find(|input| !input.optional && unknown(&input.name)) {
            return Err(self.wrong(format!(
                "has an input `{}`, which this pipeline does not know how to feed",
                input.name
            )));
        }
        if !self.description.outputs.iter().any(|output| output.name == "output_hidden_states") {
            return Err(self.wrong("has no output `output_hidden_states`".to_owned()));
        }
        self.check_states(context)
    }

    /// Key-value caches have rank 4 with a row per position in dimension 2.
    fn check_states(&self, context: usize) -> Result<()> {
        if self.description.states.is_empty() {
            return Err(self.wrong(
                "has no key-value state; export the model with a state (iOS 18 or later)"
                    .to_owned(),
            ));
        }
        for state in &self.description.states {
            let shape = state.ty.as_multi_array().map(|array| array.shape.as_slice());
            if let Some(&[_, _, rows, _]) = shape
                && rows < context
            {
                return Err(self.wrong(format!(
                    "state `{}` has {rows} rows for a context of {context} tokens; models whose \
                     states hold less than the context (sliding windows, recurrent states) are \
                     not supported",
                    state.name
                )));
            }
        }
        Ok(())
    }

    /// Names of the logits outputs in numeric order, and the number of logits in all.
    fn logits(&self) -> Result<(Vec<String>, usize)> {
        let mut parts: Vec<(usize, &str, usize)> = Vec::new();
        for output in &self.description.outputs {
            let number = match output.name.strip_prefix("logits") {
                Some("") => Some(1),
                Some(number) => number.parse().ok(),
                None => None,
            };
            let Some(number) = number else { continue };
            let size = output.ty.as_multi_array().and_then(|array| array.shape.last().copied());
            let size = size.ok_or_else(|| {
                self.wrong(format!("output `{}` does not state its shape", output.name))
            })?;
            parts.push((number, &output.name, size));
        }
        parts.sort_unstable();
        if parts.is_empty() || !parts.iter().map(|part| part.0).eq(1..=parts.len()) {
            let names: Vec<&str> =
                self.description.outputs.iter().map(|output| output.name.as_str()).collect();
            return Err(self.wrong(format!(
                "expected the outputs `logits`, or `logits1`, `logits2` and so on, got {}; heads \
                 that choose the token themselves (argmax) are not supported",
                crate::error::list(&names)
            )));
        }
        let size = parts.iter().try_fold(0usize, |sum, part| sum.checked_add(part.2));
        let size = size.filter(|&size| u32::try_from(size).is_ok_and(|size| size > 0));
        let size = size.ok_or_else(|| self.wrong("has an impossible number of logits".into()))?;
        Ok((parts.into_iter().map(|part| part.1.to_owned()).collect(), size))
    }
}
