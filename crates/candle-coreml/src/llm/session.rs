//! A conversation: the key-value cache and the tokens that it holds.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::llm::generation::Generation;
use crate::llm::network::{Core, Prediction};
use crate::llm::options::GenerationOptions;
use crate::llm::stream::TokenStream;
use crate::state::CoreMLState;

/// One conversation with a language model. Its key-value cache stays between calls: a prompt that
/// begins with tokens which the cache holds already (those of earlier prompts and of the text
/// generated after them) runs only the rest.
///
/// Sessions of one model share its weights and may run on different threads.
#[derive(Debug)]
pub struct Session {
    model: Arc<Core>,
    /// Empty until the first run.
    states: Vec<CoreMLState>,
    /// The tokens whose keys and values the states hold, from position 0 on.
    cached: Vec<u32>,
}

/// What running a prompt gave.
pub(super) struct Prefilled {
    pub(super) next: Prediction,
    /// Tokens of the prompt that were in the cache.
    pub(super) reused: usize,
}

impl Session {
    pub(crate) fn new(model: Arc<Core>) -> Self {
        Session { model, states: Vec::new(), cached: Vec::new() }
    }

    /// Generates text that continues `prompt`, which is the whole text so far: what the cache holds
    /// of it is not run again.
    ///
    /// # Errors
    /// When the prompt is empty or does not fit into the context, an option is out of range, or the
    /// model fails.
    pub fn generate(&mut self, prompt: &str, options: &GenerationOptions) -> Result<Generation> {
        self.stream(prompt, options)?.finish()
    }

    /// Like [`generate`](Self::generate), token by token.
    ///
    /// # Errors
    /// As for `generate`; errors of the model come from the iterator.
    pub fn stream(&mut self, prompt: &str, options: &GenerationOptions) -> Result<TokenStream<'_>> {
        let ids = self.model.tokenizer.encode(prompt)?;
        self.stream_ids(&ids, options)
    }

    /// Like [`stream`](Self::stream), for a prompt given as token ids.
    ///
    /// # Errors
    /// As for `stream`.
    pub fn stream_ids(
        &mut self,
        prompt: &[u32],
        options: &GenerationOptions,
    ) -> Result<TokenStream<'_>> {
        options.validate()?;
        self.check(prompt)?;
        Ok(TokenStream::new(self, prompt, options))
    }

    /// The model's logits, one for each token of the vocabulary, for what follows `prompt`.
    ///
    /// # Errors
    /// When the prompt is empty or does not fit into the context, or the model fails.
    pub fn logits(&mut self, prompt: &str) -> Result<Vec<f32>> {
        let ids = self.model.tokenizer.encode(prompt)?;
        self.check(&ids)?;
        self.prefill(&ids)?.next.into_logits()
    }

    /// Forgets the conversation.
    pub fn reset(&mut self) {
        self.cached.clear();
        self.states.iter_mut().for_each(CoreMLState::reset);
    }

    /// Makes the states now instead of in the first run, and forgets the conversation.
    ///
    /// # Errors
    /// When the backend can't make them.
    pub fn initialize_states(&mut self) -> Result<()> {
        self.cached.clear();
        self.states = self.model.network.make_states()?;
        Ok(())
    }

    /// The tokens that the cache holds.
    pub fn cached_ids(&self) -> &[u32] {
        &self.cached
    }

    pub(super) fn model(&self) -> &Core {
        &self.model
    }

    /// What follows a checked prompt.
    pub(super) fn prefill(&mut self, prompt: &[u32]) -> Result<Prefilled> {
        if self.states.is_empty() {
            self.states = self.model.network.make_states()?;
        }
        let common = self.cached.iter().zip(prompt).take_while(|(a, b)| a == b).count();
        // The last token runs in any case: its logits are wanted.
        let reused = common.min(prompt.len().saturating_sub(1));
        let reused = self.rewind(reused);
        let next = self.run(prompt.get(reused..).unwrap_or_default())?;
        Ok(Prefilled { next, reused })
    }

    /// Goes back to the first `kept` cached tokens, or to none where the caches can't; gives how
    /// many are left.
    fn rewind(&mut self, kept: usize) -> usize {
        let held = self.cached.len();
        if kept < held && !self.model.network.rewinds(held, kept) {
            self.reset();
        }
        self.cached.truncate(kept);
        self.cached.len()
    }

    /// What follows the cached tokens and one more.
    pub(super) fn step(&mut self, id: u32) -> Result<Prediction> {
        self.run(&[id])
    }

    /// Runs ids behind the cached ones. After an error the cache holds what it held before: the
    /// rows behind it are written again before they are read.
    fn run(&mut self, ids: &[u32]) -> Result<Prediction> {
        let next = self.model.network.run(ids, self.cached.len(), &mut self.states)?;
        self.cached.extend_from_slice(ids);
        Ok(next)
    }

    fn check(&self, prompt: &[u32]) -> Result<()> {
        let network = &self.model.network;
        let (length, context) = (prompt.len(), network.context_length());
        if prompt.is_empty() {
            return Err(Error::Generation("the prompt has no tokens; give some text".to_owned()));
        }
        if length > context {
            return Err(Error::Generation(format!(
                "the prompt has {length} tokens, but the model's context is {context} tokens; \
                 shorten the prompt (to leave room for the answer, by more than the difference) \
                 or use a model with a longer context"
            )));
        }
        let size = network.vocabulary_size();
        match prompt.iter().find(|&&id| id as usize >= size) {
            Some(id) => Err(Error::Generation(format!(
                "the prompt has token {id}, but the model knows only {size} tokens; is the \
                 tokenizer another model's?"
            ))),
            None => Ok(()),
        }
    }
}
