//! The generation loop, as an iterator.

use std::time::{Duration, Instant};

use crate::error::Result;
use crate::llm::generation::{FinishReason, Generation, Timings, Token, Usage};
use crate::llm::network::Prediction;
use crate::llm::options::GenerationOptions;
use crate::llm::sampler::Sampler;
use crate::llm::session::Session;
use crate::llm::tokenizer::TextDecoder;

/// The tokens of a generation, computed as they are asked for; the prompt runs with the first one.
/// The end token is the last item, with no text of its own. After an error the iterator ends.
pub struct TokenStream<'a> {
    session: &'a mut Session,
    options: GenerationOptions,
    sampler: Sampler,
    decoder: TextDecoder,
    prompt_ids: Vec<u32>,
    token_ids: Vec<u32>,
    text: String,
    reused: usize,
    timings: Timings,
    finished: Option<FinishReason>,
    failed: bool,
}

impl<'a> TokenStream<'a> {
    /// `prompt` is known to fit.
    pub(super) fn new(
        session: &'a mut Session,
        prompt: &[u32],
        options: &GenerationOptions,
    ) -> Self {
        TokenStream {
            session,
            sampler: Sampler::new(options),
            decoder: TextDecoder::default(),
            prompt_ids: prompt.to_vec(),
            token_ids: Vec::new(),
            text: String::new(),
            reused: 0,
            timings: Timings::default(),
            finished: (options.max_tokens == 0).then_some(FinishReason::Length),
            failed: false,
            options: options.clone(),
        }
    }

    /// Generates what is left and gives the whole.
    ///
    /// # Errors
    /// When the model fails.
    pub fn finish(mut self) -> Result<Generation> {
        for token in self.by_ref() {
            token?;
        }
        Ok(self.generation())
    }

    /// What has been generated so far. The finish reason of a generation that could go on is
    /// [`FinishReason::Length`].
    pub fn generation(&self) -> Generation {
        let ran = !self.token_ids.is_empty();
        Generation {
            prompt_ids: self.prompt_ids.clone(),
            token_ids: self.token_ids.clone(),
            text: self.text.clone(),
            finish_reason: self.finished.unwrap_or(FinishReason::Length),
            usage: Usage {
                prompt_tokens: self.prompt_ids.len(),
                reused_tokens: self.reused,
                prefilled_tokens: if ran { self.prompt_ids.len() - self.reused } else { 0 },
                generated_tokens: self.token_ids.len(),
            },
            timings: self.timings,
        }
    }

    fn advance(&mut self) -> Result<Token> {
        let start = Instant::now();
        let next = match self.token_ids.last() {
            None => {
                let prefilled = self.session.prefill(&self.prompt_ids)?;
                self.reused = prefilled.reused;
                prefilled.next
            }
            Some(&id) => self.session.step(id)?,
        };
        let id = match next {
            Prediction::Token(id) if self.options.temperature == 0.0 => id,
            next => self.sampler.sample(&next.into_logits()?)?,
        };
        self.token_ids.push(id);
        self.finished = self.finish_reason(id);
        let text = self.text_of(id)?;
        self.text.push_str(&text);
        self.add_time(start.elapsed());
        Ok(Token { id, text })
    }

    /// Why `id` is the last token, if it is.
    fn finish_reason(&self, id: u32) -> Option<FinishReason> {
        let model = self.session.model();
        let length = self.prompt_ids.len() + self.token_ids.len();
        if !self.options.ignore_eos && model.tokenizer.is_end(id) {
            Some(FinishReason::Stop)
        } else if self.token_ids.len() >= self.options.max_tokens {
            Some(FinishReason::Length)
        } else if length >= model.network.context_length() {
            Some(FinishReason::Context)
        } else {
            None
        }
    }

    fn text_of(&mut self, id: u32) -> Result<String> {
        let tokenizer = &self.session.model().tokenizer;
        let mut text = match self.finished {
            // Also where the tokenizer does not know it for a special token.
            Some(FinishReason::Stop) => String::new(),
            _ => self.decoder.push(id, tokenizer)?,
        };
        if self.finished.is_some() {
            text.push_str(&self.decoder.finish(tokenizer)?);
        }
        Ok(text)
    }

    fn add_time(&mut self, time: Duration) {
        match self.token_ids.len() {
            1 => self.timings.prompt += time,
            _ => self.timings.decode += time,
        }
    }
}

impl Iterator for TokenStream<'_> {
    type Item = Result<Token>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.finished.is_some() {
            return None;
        }
        let token = self.advance();
        self.failed = token.is_err();
        Some(token)
    }
}

impl std::fmt::Debug for TokenStream<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenStream")
            .field("prompt_ids", &self.prompt_ids)
            .field("token_ids", &self.token_ids)
            .finish_non_exhaustive()
    }
}
