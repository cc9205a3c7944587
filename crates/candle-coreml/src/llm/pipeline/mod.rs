//! Runs tokens through a model's components, whatever its layout: see [`Layout`] for what differs.

#[cfg(test)]
mod fake;
mod outputs;
mod stage;
mod tensors;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use candle_core::Tensor;
use coreml_engine::Workers;

use outputs::{output, prediction, take};
use stage::Fed;
pub(crate) use stage::{ChunkStages, Stage};

use crate::config::{Layout, Prefill};
use crate::error::{Error, Result};
use crate::llm::network::{Network, Prediction};
use crate::state::CoreMLState;

/// A model's components, loaded.
pub(crate) struct Pipeline {
    pub(crate) layout: Layout,
    pub(crate) embeddings: Option<Stage>,
    pub(crate) chunks: Vec<ChunkStages>,
    pub(crate) lm_head: Option<Stage>,
}

/// Consecutive tokens that go through the chunks together.
#[derive(Clone, Copy)]
struct Window<'a> {
    ids: &'a [u32],
    start: usize,
    function: Function,
    /// Tokens that the function takes: `ids`, and padding behind them. Padding needs no care: what
    /// it writes into the cache is masked until the tokens of those positions overwrite it.
    rows: usize,
}

/// Which function of the chunks runs a window.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Function {
    Infer,
    InferRotate,
    Prefill,
}

/// A window of prefill costs about as much as this share of its length in single tokens.
const SINGLES_IN_A_WINDOW: usize = 6;

impl Network for Pipeline {
    fn context_length(&self) -> usize {
        self.layout.context
    }

    fn vocabulary_size(&self) -> usize {
        self.layout.vocabulary()
    }

    fn gives_logits(&self) -> bool {
        self.layout.head.gives_logits()
    }

    fn make_states(&self) -> Result<Vec<CoreMLState>> {
        let slots = self.layout.slots.iter().enumerate();
        slots
            .filter(|(number, slot)| number == *slot)
            .filter_map(|(number, _)| self.chunks.get(number))
            .map(|chunk| chunk.infer.model.make_state())
            .collect()
    }

    fn rewinds(&self, held: usize, _kept: usize) -> bool {
        // Beyond its window a local cache has lost its first tokens.
        !self.layout.recurrent && self.layout.sliding.is_none_or(|sliding| held <= sliding)
    }

    /// All tokens but the last go through `prefill` as far as it fits; the last goes through
    /// `infer`, which is exact also where running a token twice would not be.
    fn run(&self, ids: &[u32], start: usize, states: &mut [CoreMLState]) -> Result<Prediction> {
        let Some((_, mut rest)) = ids.split_last() else {
            return Err(Error::Generation("there are no tokens to run".to_owned()));
        };
        self.check_room(ids, start)?;
        if self.layout.prefill == Prefill::Free {
            rest = ids;
        }
        let mut position = start;
        while let Some(window) = self.next_window(rest, position) {
            let outputs = self.run_chunks(window, states)?;
            position += window.ids.len();
            rest = rest.get(window.ids.len()..).unwrap_or_default();
            if position == start + ids.len() {
                return self.predict(&outputs, window.ids.len() - 1);
            }
        }
        let last = self.single(ids.get(ids.len() - 1..).unwrap_or_default(), position);
        let outputs = self.run_chunks(last, states)?;
        self.predict(&outputs, 0)
    }

    fn lookahead(&self, start: usize) -> usize {
        let Layout { window, context, sliding, prefill, .. } = self.layout;
        let room = sliding.unwrap_or(context).saturating_sub(start);
        match self.layout.each {
            Some(_) if prefill == Prefill::Free => window.min(room),
            Some(_) if window <= room => window,
            _ => 1,
        }
    }

    fn run_each(
        &self,
        ids: &[u32],
        start: usize,
        states: &mut [CoreMLState],
    ) -> Result<Vec<Prediction>> {
        self.check_room(ids, start)?;
        if ids.len() > self.lookahead(start) {
            return Err(Error::Generation(format!("can't look {} tokens ahead", ids.len())));
        }
        let (function, rows) = match self.layout.prefill {
            Prefill::Free => (Function::Infer, ids.len()),
            _ => (Function::Prefill, self.layout.window),
        };
        let mut outputs = self.run_chunks(Window { ids, start, function, rows }, states)?;
        if let Some(lm_head) = self.lm_head.as_ref().filter(|_| self.layout.head_takes_windows) {
            let mut fed = Fed::new(&[], 0, rows);
            fed.hidden = Some(take(&mut outputs, "output_hidden_states")?);
            let outputs = lm_head.run(&mut fed, None)?;
            return (0..ids.len())
                .map(|row| prediction(&self.layout.head, &outputs, row))
                .collect();
        }
        match &self.layout.each {
            Some(head) if self.lm_head.is_none() => {
                (0..ids.len()).map(|row| prediction(head, &outputs, row)).collect()
            }
            _ => (0..ids.len()).map(|row| self.predict(&outputs, row)).collect(),
        }
    }

    fn plans_made(&self) -> usize {
        let chunks = self.chunks.iter().flat_map(ChunkStages::all);
        let stages = self.embeddings.iter().chain(chunks).chain(&self.lm_head);
        // A backend that can't tell counts as none.
        stages.map(|stage| stage.model.plans_made().unwrap_or(0)).sum()
    }

    fn with_workers(&self, workers: &Workers) -> Result<Box<dyn Network>> {
        let stage = |stage: &Stage| stage.with_workers(workers);
        let chunks = self.chunks.iter().map(|chunk| chunk.with_workers(workers));
        Ok(Box::new(Pipeline {
            layout: self.layout.clone(),
            embeddings: self.embeddings.as_ref().map(stage).transpose()?,
            chunks: chunks.collect::<Result<_>>()?,
            lm_head: self.lm_head.as_ref().map(stage).transpose()?,
        }))
    }
}

impl Pipeline {
    fn check_room(&self, ids: &[u32], start: usize) -> Result<()> {
        let end = start.saturating_add(ids.len());
        if end > self.layout.context {
            return Err(Error::Generation(format!(
                "{end} tokens do not fit into the context of {}",
                self.layout.context
            )));
        }
        Ok(())
    }

    /// The next window of prefill; a single token where a window has no use, or does not fit.
    /// `None` when there are no tokens left.
    fn next_window<'a>(&self, ids: &'a [u32], start: usize) -> Option<Window<'a>> {
        if ids.is_empty() {
            return None;
        }
        let Layout { window, context, .. } = self.layout;
        if self.layout.prefill == Prefill::Free {
            let ids = ids.get(..window).unwrap_or(ids);
            return Some(Window { ids, start, function: Function::Infer, rows: ids.len() });
        }
        let limit = self.layout.sliding.unwrap_or(context);
        let fits = start.saturating_add(window) <= limit;
        let worth = ids.len() > (window / SINGLES_IN_A_WINDOW).max(1);
        let whole_window = match self.layout.prefill {
            Prefill::Padded => fits && worth,
            Prefill::First => fits && worth && start == 0,
            Prefill::Full => fits && ids.len() >= window,
            Prefill::None | Prefill::Free => false,
        };
        Some(if whole_window {
            let ids = ids.get(..window).unwrap_or(ids);
            Window { ids, start, function: Function::Prefill, rows: window }
        } else {
            self.single(ids.get(..1).unwrap_or(ids), start)
        })
    }

    fn single<'a>(&self, ids: &'a [u32], start: usize) -> Window<'a> {
        let slides = self.layout.sliding.is_some_and(|sliding| start >= sliding);
        let function = if slides { Function::InferRotate } else { Function::Infer };
        Window { ids, start, function, rows: 1 }
    }

    /// Outputs of the last chunk for a window.
    fn run_chunks(
        &self,
        window: Window,
        states: &mut [CoreMLState],
    ) -> Result<HashMap<String, Tensor>> {
        let Window { ids, start, function, rows } = window;
        tracing::debug!(start, tokens = ids.len(), rows, "run");
        let mut fed = Fed::new(ids, start, rows);
        if let Some(embeddings) = &self.embeddings {
            fed.hidden = Some(embeddings.embed(ids, rows)?);
        }
        let mut outputs = HashMap::new();
        for (number, chunk) in self.chunks.iter().enumerate() {
            if number > 0 {
                fed.hidden = Some(take(&mut outputs, "output_hidden_states")?);
            }
            let slot = self.slot(number);
            let state = states.get_mut(slot).ok_or_else(|| {
                Error::Generation(format!("there is no state for chunk {}", number + 1))
            })?;
            outputs = chunk.stage(function).run(&mut fed, Some(state))?;
        }
        Ok(outputs)
    }

    /// Index of a chunk's state among those that [`make_states`](Network::make_states) gives.
    fn slot(&self, chunk: usize) -> usize {
        let slots = &self.layout.slots;
        let first = slots.get(chunk).copied().unwrap_or(chunk);
        slots.iter().enumerate().take(first).filter(|(number, slot)| number == *slot).count()
    }

    /// What follows the token in a row of the last chunk's outputs.
    fn predict(&self, outputs: &HashMap<String, Tensor>, row: usize) -> Result<Prediction> {
        let Some(lm_head) = &self.lm_head else {
            return prediction(&self.layout.head, outputs, row);
        };
        let hidden = output(outputs, "output_hidden_states")?;
        let rows = hidden.dim(1)?;
        let hidden =
            if rows > 1 { hidden.narrow(1, row, 1)?.contiguous()? } else { hidden.clone() };
        let mut fed = Fed::new(&[], 0, 1);
        fed.hidden = Some(hidden);
        prediction(&self.layout.head, &lm_head.run(&mut fed, None)?, 0)
    }
}
