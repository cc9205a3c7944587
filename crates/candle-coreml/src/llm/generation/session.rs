//! A conversation: the key-value cache and the tokens that it holds.

use std::sync::Arc;

use coreml_engine::{Participant, Workers};

use super::core::Core;
use super::outcome::Generation;
use super::prompt::Prompt;
use super::stream::TokenStream;
use crate::error::{GenerationError, Result};
use crate::llm::network::{Network, Prediction};
use crate::llm::request::{
    CancelToken, ChatMessage, ChatOptions, ContextOverflow, GenerationOptions,
};
use crate::llm::sampling::{ChooseToken, Chooser};
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

/// A prompt that can be cancelled runs in pieces of this many tokens: a multiple of the windows of
/// prefill, and so many that the one token at the end of each, which runs alone, costs little.
const PIECE: usize = 512;

impl Session {
    pub(crate) fn new(model: Arc<Core>) -> Self {
        Session { model, states: Vec::new(), cached: Vec::new() }
    }

    /// The same conversation on other threads. Sessions that run at the same time can so have a
    /// share of the processors each, while weights and plans stay common:
    ///
    /// ```no_run
    /// use candle_coreml::{LanguageModel, Workers};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let model = LanguageModel::load("directory")?;
    /// let urgent = model.session().with_workers(&Workers::new(6)?)?;
    /// let patient = model.session().with_workers(&Workers::new(2)?)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the backend chooses its threads itself.
    pub fn with_workers(self, workers: &Workers) -> Result<Self> {
        let network = self.model.network.with_workers(workers)?;
        let model = Arc::new(Core { network, tokenizer: self.model.tokenizer.clone() });
        Ok(Session { model, ..self })
    }

    /// Generates text that continues `prompt`, which is the whole text so far: what the cache holds
    /// of it is not run again.
    ///
    /// # Errors
    /// When the prompt is empty or does not fit into the context, an option is out of range or
    /// nothing that the model can do, or the model fails.
    pub fn generate(&mut self, prompt: &str, options: &GenerationOptions) -> Result<Generation> {
        self.stream(prompt, options)?.finish()
    }

    /// The text of up to `max_tokens` tokens behind `prompt`, always the most likely ones.
    ///
    /// # Errors
    /// As for [`generate`](Self::generate).
    pub fn complete_text(&mut self, prompt: &str, max_tokens: usize) -> Result<String> {
        let options = GenerationOptions::new().max_tokens(max_tokens);
        Ok(self.generate(prompt, &options)?.text)
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
        self.start(Prompt::text(prompt), options, None)
    }

    /// Like [`stream`](Self::stream), with tokens chosen by `chooser` instead of the options'
    /// sampling.
    ///
    /// # Errors
    /// As for `stream`, and when the model gives no logits.
    pub fn stream_with<'a>(
        &'a mut self,
        prompt: &str,
        options: &GenerationOptions,
        chooser: &'a mut dyn ChooseToken,
    ) -> Result<TokenStream<'a>> {
        let ids = self.model.tokenizer.encode(prompt)?;
        self.start(Prompt::text(&ids), options, Some(chooser))
    }

    /// Answers a conversation. `messages` are all of it, the last one a user's; what the cache
    /// holds of its text is not run again.
    ///
    /// The tokens that run are those of the text that the chat template makes of the messages. So
    /// the cache serves as far as that text stays the same: a template that leaves out earlier
    /// thinking changes it at the last answer, and from there on it runs again.
    ///
    /// # Errors
    /// When the model has no chat template or it does not take the messages; and as for
    /// [`generate`](Self::generate).
    pub fn chat(&mut self, messages: &[ChatMessage], options: &ChatOptions) -> Result<Generation> {
        self.chat_stream(messages, options)?.finish()
    }

    /// Like [`chat`](Self::chat), token by token.
    ///
    /// # Errors
    /// As for `chat`; errors of the model come from the iterator.
    pub fn chat_stream(
        &mut self,
        messages: &[ChatMessage],
        options: &ChatOptions,
    ) -> Result<TokenStream<'_>> {
        let prompt = Prompt::chat(&self.model.tokenizer, messages, options)?;
        self.start(prompt, &options.generation, None)
    }

    fn start<'a>(
        &'a mut self,
        mut prompt: Prompt,
        options: &GenerationOptions,
        chooser: Option<&'a mut dyn ChooseToken>,
    ) -> Result<TokenStream<'a>> {
        options.validate()?;
        check_model(options, self.model.network.as_ref(), chooser.is_some())?;
        self.check_tokens(&prompt.ids)?;
        let options = &options.behind(prompt.ids.len())?;
        let chooser = match chooser {
            Some(chooser) => Chooser::Custom(chooser),
            None => Chooser::new(options, self.model.tokenizer.end_tokens().collect()),
        };
        let context = self.model.network.context_length();
        let mut ids = prompt.ids.clone();
        if let ContextOverflow::Shift { keep } = options.overflow
            && ids.len() > context
        {
            ids = prompt.shortened(&[], keep, context, &self.model.tokenizer)?;
        }
        self.check_length(&ids)?;
        Ok(TokenStream::new(self, prompt, ids, options, chooser))
    }

    /// The model's logits, one for each token of the vocabulary, for what follows `prompt`.
    ///
    /// # Errors
    /// When the prompt is empty or does not fit into the context, or the model fails.
    pub fn logits(&mut self, prompt: &str) -> Result<Vec<f32>> {
        let ids = self.model.tokenizer.encode(prompt)?;
        self.check_tokens(&ids)?;
        self.check_length(&ids)?;
        self.rewind(&ids);
        self.predict(&ids)?.into_logits()
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

    /// Takes the cache back to what it has in common with `ids` (to nothing where it can't go
    /// back), and gives how many of them it holds. The last of `ids` runs in any case: what
    /// follows it is wanted.
    pub(super) fn rewind(&mut self, ids: &[u32]) -> usize {
        let common = self.cached.iter().zip(ids).take_while(|(a, b)| a == b).count();
        let kept = common.min(ids.len().saturating_sub(1));
        let held = self.cached.len();
        if kept < held && !self.model.network.rewinds(held, kept) {
            self.reset();
        }
        self.cached.truncate(kept);
        self.cached.len()
    }

    /// What follows `ids`, with which the cache begins.
    pub(super) fn predict(&mut self, ids: &[u32]) -> Result<Prediction> {
        self.make_states()?;
        let rest = ids.get(self.cached.len()..).unwrap_or_default();
        let next = self.model.network.run(rest, self.cached.len(), &mut self.states);
        self.ran(rest, next)
    }

    /// What follows `ids`, of which the cache holds all but the last; it runs together with those of other
    /// conversations.
    pub(super) fn step(&mut self, ids: &[u32], participant: &Participant) -> Result<Prediction> {
        self.make_states()?;
        let start = self.cached.len();
        let &[id] = ids.get(start..).unwrap_or_default() else { return self.predict(ids) };
        let next = self.model.network.step(id, start, &mut self.states, participant);
        self.ran(&[id], next)
    }

    /// Notes the tokens that have run. After an error the cache holds what it held before, since
    /// the rows behind it are written again before they are read; one that can't go back may hold
    /// some of the tokens, nobody knows which, and starts anew.
    fn ran<T>(&mut self, ids: &[u32], result: Result<T>) -> Result<T> {
        let held = self.cached.len();
        if result.is_ok() {
            self.cached.extend_from_slice(ids);
        } else if !ids.is_empty() && !self.model.network.rewinds(held + ids.len(), held) {
            self.reset();
        }
        result
    }

    /// Like [`predict`](Self::predict), but stops between pieces when cancelled, with `None`.
    pub(super) fn predict_unless_cancelled(
        &mut self,
        ids: &[u32],
        cancel: Option<&CancelToken>,
    ) -> Result<Option<Prediction>> {
        let Some(cancel) = cancel else { return self.predict(ids).map(Some) };
        loop {
            if cancel.is_cancelled() {
                return Ok(None);
            }
            let end = self.cached.len().saturating_add(PIECE);
            match ids.get(..end).filter(|piece| piece.len() < ids.len()) {
                Some(piece) => drop(self.predict(piece)?),
                None => return self.predict(ids).map(Some),
            }
        }
    }

    /// What follows the last of `ids`, all others of which the cache holds, and what follows each
    /// of `drafts` after it.
    pub(super) fn predict_each(&mut self, ids: &[u32], drafts: &[u32]) -> Result<Vec<Prediction>> {
        let start = self.cached.len();
        let mut batch = ids.get(start..).unwrap_or_default().to_vec();
        batch.extend_from_slice(drafts);
        let next = self.model.network.run_each(&batch, start, &mut self.states);
        let next = next.and_then(|next| match next.len() == batch.len() {
            true => Ok(next),
            false => {
                let (told, all) = (next.len(), batch.len());
                let message = format!("the model told what follows {told} of {all} tokens");
                Err(GenerationError::Results(message).into())
            }
        });
        self.ran(&batch, next)
    }

    fn make_states(&mut self) -> Result<()> {
        if self.states.is_empty() {
            self.states = self.model.network.make_states()?;
        }
        Ok(())
    }

    fn check_tokens(&self, prompt: &[u32]) -> Result<()> {
        if prompt.is_empty() {
            return Err(GenerationError::EmptyPrompt { no_begin: false }.into());
        }
        let size = self.model.network.vocabulary_size();
        match prompt.iter().find(|&&id| id as usize >= size) {
            Some(&id) => {
                let hint = Some("; is the tokenizer another model's?");
                Err(GenerationError::unknown_token("the prompt has", id, size, hint).into())
            }
            None => Ok(()),
        }
    }

    fn check_length(&self, prompt: &[u32]) -> Result<()> {
        let (length, context) = (prompt.len(), self.model.network.context_length());
        if length <= context {
            return Ok(());
        }
        Err(GenerationError::PromptTooLong { tokens: length, context }.into())
    }
}

/// Checks the options that depend on the model. With `chooser`, something else chooses the tokens.
fn check_model(options: &GenerationOptions, network: &dyn Network, chooser: bool) -> Result<()> {
    let (size, context) = (network.vocabulary_size(), network.context_length());
    if let Some((place, id)) = options.named_tokens().find(|(_, id)| *id as usize >= size) {
        return Err(GenerationError::unknown_token(place, id, size, None).into());
    }
    match options.overflow {
        ContextOverflow::Shift { keep } if keep.saturating_add(2) > context => {
            let most = context.saturating_sub(2);
            let expected =
                format!("tokens that stay when the context is full must be {most} at most");
            return Err(GenerationError::option(expected, keep).into());
        }
        _ => {}
    }
    if (chooser || options.needs_logits()) && !network.gives_logits() {
        return Err(GenerationError::NoLogits.into());
    }
    Ok(())
}
