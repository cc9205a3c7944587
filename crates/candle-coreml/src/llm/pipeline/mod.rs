//! Runs tokens through a model's components, whatever its layout: see [`Layout`] for what differs.

#[cfg(test)]
mod fake;
mod feeds;
mod outputs;
mod stage;

#[cfg(test)]
mod tests;

use std::ops::Range;

use coreml_engine::{Participant, Workers};

use outputs::{Reader, index_of, missing};
use stage::Fed;
pub(crate) use stage::{ChunkStages, Stage};

use crate::config::{Layout, Prefill};
use crate::error::{GenerationError, Result};
use crate::llm::network::{Network, Prediction};
use crate::state::CoreMLState;
use crate::values::OutputValue;

/// A model's components, loaded.
pub(crate) struct Pipeline {
    pub(crate) layout: Layout,
    pub(crate) embeddings: Option<Stage>,
    pub(crate) chunks: Vec<ChunkStages>,
    pub(crate) lm_head: Option<Stage>,
}

/// Consecutive tokens that go through the chunks together. Padding behind them needs no care: what it
/// writes into the cache is masked until the tokens of those positions overwrite it.
#[derive(Clone, Copy)]
struct Window<'a> {
    fed: Fed<'a>,
    function: Function,
    /// In whose name it runs together with other conversations' tokens.
    participant: Option<&'a Participant>,
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
            return Err(GenerationError::EmptyPrompt { no_begin: false }.into());
        };
        self.check_room(ids, start)?;
        if self.layout.prefill == Prefill::Free {
            rest = ids;
        }
        let mut position = start;
        while let Some(window) = self.next_window(rest, position) {
            let count = window.fed.ids.len();
            position += count;
            rest = rest.get(count..).unwrap_or_default();
            if position == start + ids.len() {
                return self.next(&window, states);
            }
            self.run_chunks(&window, states, &mut |_, _| Ok(()))?;
        }
        let last = self.single(ids.get(ids.len() - 1..).unwrap_or_default(), position);
        self.next(&last, states)
    }

    fn step(
        &self,
        id: u32,
        start: usize,
        states: &mut [CoreMLState],
        participant: &Participant,
    ) -> Result<Prediction> {
        self.check_room(&[id], start)?;
        let participant = Some(participant);
        self.next(&Window { participant, ..self.single(&[id], start) }, states)
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
            let expected = format!("at most {} tokens at once", self.lookahead(start));
            return Err(GenerationError::option(expected, ids.len()).into());
        }
        let (function, rows) = match self.layout.prefill {
            Prefill::Free => (Function::Infer, ids.len()),
            _ => (Function::Prefill, self.layout.window),
        };
        let window = Window { fed: Fed { ids, start, rows }, function, participant: None };
        self.follow(&window, states, 0..ids.len())
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
            let context = self.layout.context;
            return Err(GenerationError::PromptTooLong { tokens: end, context }.into());
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
            let fed = Fed { ids, start, rows: ids.len() };
            return Some(Window { fed, function: Function::Infer, participant: None });
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
            let fed = Fed { ids, start, rows: window };
            Window { fed, function: Function::Prefill, participant: None }
        } else {
            self.single(ids.get(..1).unwrap_or(ids), start)
        })
    }

    fn single<'a>(&self, ids: &'a [u32], start: usize) -> Window<'a> {
        let slides = self.layout.sliding.is_some_and(|sliding| start >= sliding);
        let function = if slides { Function::InferRotate } else { Function::Infer };
        Window { fed: Fed { ids, start, rows: 1 }, function, participant: None }
    }

    /// Runs the chunks on a window; `read` gets the outputs of the last one. Hidden states go from one
    /// chunk's memory to the next one's.
    fn run_chunks(
        &self,
        window: &Window,
        states: &mut [CoreMLState],
        read: &mut dyn FnMut(usize, &OutputValue) -> Result<()>,
    ) -> Result<()> {
        let Window { fed, function, participant } = window;
        tracing::debug!(fed.start, tokens = fed.ids.len(), fed.rows, "run");
        let mut stage = self.stage(0, *function)?;
        let mut call = stage.call(fed, *participant)?;
        if let Some(embeddings) = &self.embeddings {
            embeddings.embed(fed, stage, &mut call)?;
        }
        for number in 1..self.chunks.len() {
            let next = self.stage(number, *function)?;
            let mut following = next.call(fed, *participant)?;
            let hidden = index_of(&stage.outputs, "output_hidden_states")?;
            call.run(Some(self.state(number - 1, states)?), |index, output| {
                if index != hidden {
                    return Ok(());
                }
                next.pass_hidden(&mut following, output, 0..fed.rows, (0, fed.rows))
            })?;
            (stage, call) = (next, following);
        }
        call.run(Some(self.state(self.chunks.len() - 1, states)?), read)
    }

    fn stage(&self, chunk: usize, function: Function) -> Result<&Stage> {
        let chunk = self.chunks.get(chunk).ok_or_else(|| missing("chunk to run"))?;
        Ok(chunk.stage(function))
    }

    fn state<'s>(
        &self,
        chunk: usize,
        states: &'s mut [CoreMLState],
    ) -> Result<&'s mut CoreMLState> {
        let state = states.get_mut(self.slot(chunk));
        state.ok_or_else(|| missing(&format!("state for chunk {}", chunk + 1)))
    }

    /// What follows the last token of a window.
    fn next(&self, window: &Window, states: &mut [CoreMLState]) -> Result<Prediction> {
        let last = window.fed.ids.len().saturating_sub(1);
        let mut next = self.follow(window, states, last..last + 1)?;
        next.pop().ok_or_else(|| missing("prediction"))
    }

    /// Index of a chunk's state among those that [`make_states`](Network::make_states) gives.
    fn slot(&self, chunk: usize) -> usize {
        let slots = &self.layout.slots;
        let first = slots.get(chunk).copied().unwrap_or(chunk);
        slots.iter().enumerate().take(first).filter(|(number, slot)| number == *slot).count()
    }

    /// Runs a window; tells what follows some of its tokens, by their row.
    fn follow(
        &self,
        window: &Window,
        states: &mut [CoreMLState],
        rows: Range<usize>,
    ) -> Result<Vec<Prediction>> {
        if let Some(lm_head) = &self.lm_head {
            return self.follow_through(lm_head, window, states, rows);
        }
        let last = self.last_stage(window)?;
        let head = match &self.layout.each {
            Some(head) if rows.len() > 1 => head,
            _ => &self.layout.head,
        };
        let mut reader = Reader::new(head, &last.outputs, rows)?;
        self.run_chunks(window, states, &mut |index, output| reader.read(index, output))?;
        reader.finish()
    }

    /// The same for a model whose head is a component of its own.
    fn follow_through(
        &self,
        lm_head: &Stage,
        window: &Window,
        states: &mut [CoreMLState],
        rows: Range<usize>,
    ) -> Result<Vec<Prediction>> {
        // The rows that each call of the head takes.
        let pieces: Vec<Range<usize>> = match rows.len() > 1 && self.layout.head_takes_windows {
            true => std::iter::once(0..window.fed.rows).collect(),
            false => rows.clone().map(|row| row..row + 1).collect(),
        };
        let calls =
            pieces.iter().map(|piece| lm_head.call(&Fed::rows(piece.len()), window.participant));
        let mut calls = calls.collect::<Result<Vec<_>>>()?;
        let hidden = index_of(&self.last_stage(window)?.outputs, "output_hidden_states")?;
        self.run_chunks(window, states, &mut |index, output| {
            let given = if index == hidden { rows_of(output)? } else { return Ok(()) };
            for (piece, call) in pieces.iter().zip(&mut calls) {
                // A function that runs a window may tell of its last token alone.
                let first = piece.start.min(given.saturating_sub(piece.len()));
                lm_head.pass_hidden(call, output, first..first + piece.len(), (0, piece.len()))?;
            }
            Ok(())
        })?;
        let mut predictions = Vec::with_capacity(rows.len());
        for (piece, mut call) in pieces.iter().zip(calls) {
            let wanted = rows.start.max(piece.start)..rows.end.min(piece.end);
            let wanted = wanted.start - piece.start..wanted.end - piece.start;
            let mut reader = Reader::new(&self.layout.head, &lm_head.outputs, wanted)?;
            call.run(None, |index, output| reader.read(index, output))?;
            predictions.extend(reader.finish()?);
        }
        Ok(predictions)
    }

    fn last_stage(&self, window: &Window) -> Result<&Stage> {
        self.stage(self.chunks.len().saturating_sub(1), window.function)
    }
}

/// The rows of hidden states.
fn rows_of(hidden: &OutputValue) -> Result<usize> {
    let array = hidden.array()?;
    let width = array.shape().last().copied().unwrap_or(1);
    Ok(array.len().checked_div(width).unwrap_or(0))
}
