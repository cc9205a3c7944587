//! What the generation loop needs of a model.

use coreml_engine::{Participant, Workers};

use crate::error::{Error, GenerationError, Result};
use crate::state::CoreMLState;

/// A causal language model with a key-value cache, in whatever packages it comes.
pub(crate) trait Network: Send + Sync {
    /// The most tokens that prompt and generated text may have together.
    fn context_length(&self) -> usize;

    /// Ids below this number are tokens of the model.
    fn vocabulary_size(&self) -> usize;

    /// False for models that choose the most likely token themselves and tell no logits.
    fn gives_logits(&self) -> bool;

    /// Zeroed caches for a new conversation.
    fn make_states(&self) -> Result<Vec<CoreMLState>>;

    /// Whether caches that hold `held` tokens can go on from the first `kept` of them (fewer than
    /// `held`) as they are. Caches that slide, or mix tokens into one value, can't go back.
    fn rewinds(&self, held: usize, kept: usize) -> bool;

    /// Runs `ids` at the positions from `start` on, of which the caches hold all earlier ones, and
    /// tells what follows the last one. `ids` is not empty and ends within the context.
    fn run(&self, ids: &[u32], start: usize, states: &mut [CoreMLState]) -> Result<Prediction>;

    /// As [`run`](Self::run) with one token, together with those that other participants run at the same
    /// time, where the network can.
    fn step(
        &self,
        id: u32,
        start: usize,
        states: &mut [CoreMLState],
        _participant: &Participant,
    ) -> Result<Prediction> {
        self.run(&[id], start, states)
    }

    /// The most tokens whose followers [`run_each`](Self::run_each) can tell at once from `start`
    /// on; below 2 where it is no better than running them one by one.
    fn lookahead(&self, start: usize) -> usize;

    /// Like [`run`](Self::run), but tells what follows each of `ids`, of which there are at most
    /// [`lookahead`](Self::lookahead). The caches can be taken back to any of them afterwards.
    fn run_each(
        &self,
        ids: &[u32],
        start: usize,
        states: &mut [CoreMLState],
    ) -> Result<Vec<Prediction>>;

    /// How many plans its packages have made so far; 0 for what makes none.
    fn plans_made(&self) -> usize {
        0
    }

    /// The same model on other threads, with weights in common.
    fn with_workers(&self, _workers: &Workers) -> Result<Box<dyn Network>> {
        Err(Error::NotByBackend("chooses its threads itself"))
    }
}

/// What a model tells of the next token.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Prediction {
    /// A number for each token of the vocabulary.
    Logits(Vec<f32>),
    /// The most likely token alone.
    Token(u32),
}

impl Prediction {
    /// The logits, of a model that tells them.
    pub(crate) fn into_logits(self) -> Result<Vec<f32>> {
        match self {
            Prediction::Logits(logits) => Ok(logits),
            Prediction::Token(_) => Err(GenerationError::NoLogits.into()),
        }
    }
}
