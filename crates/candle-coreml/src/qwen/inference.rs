//! Runs tokens through the components.

use std::collections::HashMap;

use candle_core::{DType, Tensor};

use crate::error::{Error, Result};
use crate::llm::{Network, Prediction};
use crate::model::CoreMLModel;
use crate::qwen::config::ModelConfig;
use crate::qwen::tensors;
use crate::state::CoreMLState;

/// Embeddings, FFN chunks and LM head.
pub(super) struct Pipeline {
    pub(super) config: ModelConfig,
    pub(super) embeddings: CoreMLModel,
    pub(super) chunks: Vec<Chunk>,
    pub(super) lm_head: CoreMLModel,
}

/// The functions of an FFN package.
pub(super) struct Chunk {
    pub(super) infer: CoreMLModel,
    pub(super) prefill: Option<CoreMLModel>,
}

/// Consecutive tokens that go through the chunks together.
#[derive(Clone, Copy)]
struct Window<'a> {
    ids: &'a [u32],
    start: usize,
    /// Tokens that the function takes: `ids`, and padding behind them. Padding needs no care: what
    /// it writes into the cache is masked until the tokens of those positions overwrite it.
    rows: usize,
}

impl Network for Pipeline {
    fn context_length(&self) -> usize {
        self.config.context_length
    }

    fn vocabulary_size(&self) -> usize {
        self.config.vocab_size
    }

    fn gives_logits(&self) -> bool {
        true
    }

    fn rewinds(&self, _held: usize, _kept: usize) -> bool {
        true
    }

    fn lookahead(&self, _start: usize) -> usize {
        1
    }

    fn run_each(
        &self,
        ids: &[u32],
        start: usize,
        states: &mut [CoreMLState],
    ) -> Result<Vec<Prediction>> {
        ids.iter()
            .enumerate()
            .map(|(offset, &id)| self.run(&[id], start.saturating_add(offset), states))
            .collect()
    }

    fn make_states(&self) -> Result<Vec<CoreMLState>> {
        let count = if self.config.shared_state { 1 } else { self.chunks.len() };
        self.chunks.iter().take(count).map(|chunk| chunk.infer.make_state()).collect()
    }

    /// All tokens but the last go through `prefill` in windows; the last goes through `infer`,
    /// which is exact also where running a token twice would not be.
    fn run(&self, ids: &[u32], start: usize, states: &mut [CoreMLState]) -> Result<Prediction> {
        let end = start.saturating_add(ids.len());
        let Some((&last, mut rest)) = ids.split_last() else {
            return Err(Error::Generation("there are no tokens to run".to_owned()));
        };
        if end > self.config.context_length {
            return Err(Error::Generation(format!(
                "{end} tokens do not fit into the context of {}",
                self.config.context_length
            )));
        }
        let mut position = start;
        while !rest.is_empty() {
            let window = self.next_window(rest, position);
            self.run_chunks(window, states)?;
            position += window.ids.len();
            rest = rest.get(window.ids.len()..).unwrap_or_default();
        }
        let hidden = self.run_chunks(Window { ids: &[last], start: position, rows: 1 }, states)?;
        Ok(Prediction::Logits(self.logits(&hidden)?))
    }
}

impl Pipeline {
    /// The next window of prefill; a single token where a window has no use, or would reach past
    /// the context.
    fn next_window<'a>(&self, ids: &'a [u32], start: usize) -> Window<'a> {
        let batch = self.config.batch_size;
        let fits = start.saturating_add(batch) <= self.config.context_length;
        let rows = if ids.len() > 1 && fits { batch } else { 1 };
        Window { ids: ids.get(..rows).unwrap_or(ids), start, rows }
    }

    /// Hidden states of a window after the last chunk.
    fn run_chunks(&self, window: Window, states: &mut [CoreMLState]) -> Result<Tensor> {
        let Window { ids, start, rows } = window;
        tracing::debug!(start, tokens = ids.len(), rows, "run");
        let input_ids = tensors::input_ids(ids, rows)?;
        let mut hidden =
            output(self.embeddings.predict(&[("input_ids", &input_ids)])?, "hidden_states")?;
        let context = self.config.context_length;
        let positions = tensors::position_ids(start, rows)?;
        let mask = tensors::causal_mask(start, rows, context)?;
        let current = tensors::current_pos(start)?;
        for (index, chunk) in self.chunks.iter().enumerate() {
            let function = chunk.function(rows);
            let update;
            let mut inputs = vec![
                ("hidden_states", &hidden),
                ("position_ids", &positions),
                ("causal_mask", &mask),
                ("current_pos", &current),
            ];
            if takes_update_mask(function) {
                update = tensors::update_mask(start, ids.len(), rows, context)?;
                inputs.push(("update_mask", &update));
            }
            let state = if self.config.shared_state { 0 } else { index };
            let state = states.get_mut(state).ok_or_else(|| {
                Error::Generation(format!("there is no state for FFN chunk {}", index + 1))
            })?;
            hidden = output(function.predict_with_state(&inputs, state)?, "output_hidden_states")?;
        }
        Ok(hidden)
    }

    /// The LM head's parts as one list.
    fn logits(&self, hidden: &Tensor) -> Result<Vec<f32>> {
        let mut outputs = self.lm_head.predict(&[("hidden_states", hidden)])?;
        let mut logits = Vec::with_capacity(self.config.vocab_size);
        for name in &self.config.logits_parts {
            let part = outputs.remove(name).ok_or_else(|| missing(name))?;
            logits.extend(part.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?);
        }
        if logits.len() != self.config.vocab_size {
            return Err(Error::Generation(format!(
                "the LM head gave {} logits, but its description says {}",
                logits.len(),
                self.config.vocab_size
            )));
        }
        Ok(logits)
    }
}

impl Chunk {
    /// The function that takes this many tokens at once.
    fn function(&self, rows: usize) -> &CoreMLModel {
        self.prefill.as_ref().filter(|_| rows > 1).unwrap_or(&self.infer)
    }
}

fn takes_update_mask(function: &CoreMLModel) -> bool {
    function.function_description().inputs.iter().any(|input| input.name == "update_mask")
}

fn output(mut outputs: HashMap<String, Tensor>, name: &str) -> Result<Tensor> {
    outputs.remove(name).ok_or_else(|| missing(name))
}

fn missing(name: &str) -> Error {
    Error::Generation(format!("the model gave no output `{name}`; check the export"))
}
