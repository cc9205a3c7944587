//! The generation loop, as an iterator.

use std::collections::VecDeque;
use std::time::Instant;

use coreml_engine::Participant;

use super::outcome::{FinishReason, Generation, Timings, Token, Usage};
use super::prompt::Prompt;
use super::session::Session;
use super::speculation::Speculator;
use super::stop::StopStrings;
use crate::error::{GenerationError, Result};
use crate::llm::network::Prediction;
use crate::llm::request::{ContextOverflow, GenerationOptions};
use crate::llm::sampling::{Chooser, TokenLogProbabilities, log_probabilities};
use crate::llm::text::TextDecoder;

/// The tokens of a generation, computed as they are asked for; the prompt runs with the first one.
/// The end token is the last item, with no text of its own. After an error the iterator ends.
pub struct TokenStream<'a> {
    session: &'a mut Session,
    options: GenerationOptions,
    chooser: Chooser<'a>,
    speculator: Speculator,
    decoder: TextDecoder,
    stops: StopStrings,
    prompt: Prompt,
    /// What the model sees: prompt and generated tokens, without those that were forgotten.
    context: Vec<u32>,
    result: Generation,
    ended: bool,
    /// This generation among those that run at the same time.
    participant: Participant,
}

impl<'a> TokenStream<'a> {
    /// `context` is what the model sees of the prompt, and known to fit.
    pub(super) fn new(
        session: &'a mut Session,
        prompt: Prompt,
        context: Vec<u32>,
        options: &GenerationOptions,
        chooser: Chooser<'a>,
    ) -> Self {
        let usage = Usage {
            prompt_tokens: prompt.ids.len(),
            shifted_tokens: prompt.ids.len().saturating_sub(context.len()),
            ..Usage::default()
        };
        if usage.shifted_tokens > 0 {
            tracing::warn!(tokens = usage.shifted_tokens, "the prompt is too long: shortened");
        }
        TokenStream {
            chooser,
            speculator: Speculator::new(options),
            decoder: TextDecoder::default(),
            stops: StopStrings::new(&options.stop),
            result: Generation {
                prompt_ids: prompt.ids.clone(),
                token_ids: Vec::new(),
                text: String::new(),
                finish_reason: FinishReason::Length,
                stop_string: None,
                logprobs: options.logprobs.map(|_| Vec::new()),
                usage,
                timings: Timings::default(),
            },
            ended: options.max_tokens == 0,
            options: options.clone(),
            session,
            prompt,
            context,
            participant: Participant::new(),
        }
    }

    /// Generates what is left and gives the whole.
    ///
    /// # Errors
    /// When the model fails, or the context is full and that is to be an error.
    pub fn finish(mut self) -> Result<Generation> {
        for token in self.by_ref() {
            token?;
        }
        Ok(self.result)
    }

    /// What has been generated so far. The finish reason of a generation that could go on is
    /// [`FinishReason::Length`].
    pub fn generation(&self) -> Generation {
        self.result.clone()
    }

    fn advance(&mut self) -> Result<Option<Token>> {
        let start = Instant::now();
        let token = match self.next_prediction()? {
            Some(next) => Some(self.take(next)?),
            None => {
                self.end(FinishReason::Cancelled);
                None
            }
        };
        let timings = &mut self.result.timings;
        let first = self.result.token_ids.len() <= 1;
        *(if first { &mut timings.prompt } else { &mut timings.decode }) += start.elapsed();
        Ok(token)
    }

    /// What the model says of the next token; `None` when cancelled.
    fn next_prediction(&mut self) -> Result<Option<Prediction>> {
        let cancel = self.options.cancel.as_ref();
        if cancel.is_some_and(|cancel| cancel.is_cancelled()) {
            return Ok(None);
        }
        let Some(&last) = self.result.token_ids.last() else { return self.run_prompt() };
        self.make_room()?;
        match self.speculator.accept(last) {
            Some(next) => {
                self.result.usage.accepted_tokens = self.speculator.accepted;
                Ok(Some(next))
            }
            None => self.run_on(),
        }
    }

    fn run_prompt(&mut self) -> Result<Option<Prediction>> {
        let start = Instant::now();
        let reused = self.session.rewind(&self.context);
        let cancel = self.options.cancel.as_ref();
        let next = self.session.predict_unless_cancelled(&self.context, cancel)?;
        let prefilled = self.session.cached_ids().len() - reused;
        self.result.usage.reused_tokens = reused;
        self.result.usage.prefilled_tokens = prefilled;
        let lookahead = self.session.model().network.lookahead(reused);
        self.speculator.ran_prompt(prefilled, lookahead, start.elapsed());
        Ok(next)
    }

    /// Runs the last token, with drafts behind it where there are any. After a shift, more has to
    /// run before it.
    fn run_on(&mut self) -> Result<Option<Prediction>> {
        let cached = self.session.rewind(&self.context);
        let cancel = self.options.cancel.as_ref();
        if cached + 1 < self.context.len() {
            return self.session.predict_unless_cancelled(&self.context, cancel);
        }
        let drafts = self.speculator.draft(&self.context, self.most_drafts(cached));
        let start = Instant::now();
        if drafts.is_empty() {
            let next = self.session.step(&self.context, &self.participant)?;
            self.speculator.ran_alone(start.elapsed());
            return Ok(Some(next));
        }
        let mut next = VecDeque::from(self.session.predict_each(&self.context, &drafts)?);
        let first = next.pop_front();
        self.speculator.ran(&drafts, next, start.elapsed());
        self.result.usage.drafted_tokens = self.speculator.drafted;
        Ok(first)
    }

    /// Drafts that can run behind the token at `position` and be taken back, and may be wanted.
    fn most_drafts(&self, position: usize) -> usize {
        let network = &self.session.model().network;
        let room = network.context_length().saturating_sub(self.context.len());
        let wanted = self.options.max_tokens - self.result.token_ids.len();
        let most = network.lookahead(position).min(wanted).saturating_sub(1).min(room);
        let kept = position + 1;
        if most > 0 && network.rewinds(kept + most, kept) { most } else { 0 }
    }

    /// Sees to it that the context is not full.
    fn make_room(&mut self) -> Result<()> {
        let model = self.session.model();
        let length = model.network.context_length();
        if self.context.len() < length {
            return Ok(());
        }
        let ContextOverflow::Shift { keep } = self.options.overflow else {
            return Err(GenerationError::ContextFull { context: length }.into());
        };
        let generated = &self.result.token_ids;
        let shorter = self.prompt.shortened(generated, keep, length, &model.tokenizer)?;
        let dropped = self.context.len().saturating_sub(shorter.len());
        tracing::warn!(tokens = dropped, "the context is full: earlier text is forgotten");
        self.result.usage.shifted_tokens += dropped;
        self.context = shorter;
        Ok(())
    }

    /// Chooses a token and adds it.
    fn take(&mut self, next: Prediction) -> Result<Token> {
        let (id, logprobs) = self.choose(next)?;
        self.context.push(id);
        self.result.token_ids.push(id);
        self.result.usage.generated_tokens = self.result.token_ids.len();
        if let (Some(all), Some(logprobs)) = (&mut self.result.logprobs, &logprobs) {
            all.push(logprobs.clone());
        }
        let text = self.text_of(id)?;
        self.result.text.push_str(&text);
        Ok(Token { id, text, logprobs })
    }

    fn choose(&mut self, next: Prediction) -> Result<(u32, Option<TokenLogProbabilities>)> {
        let logits = match next {
            // The options are known to need no logits.
            Prediction::Token(id) => return Ok((id, None)),
            Prediction::Logits(logits) => logits,
        };
        let id = self.chooser.choose(&logits, &self.prompt.ids, &self.result.token_ids)?;
        if id as usize >= logits.len() {
            let known = logits.len();
            let error = GenerationError::unknown_token("the sampler chose", id, known, None);
            return Err(error.into());
        }
        let tokenizer = &self.session.model().tokenizer;
        let logprobs = self.options.logprobs;
        let logprobs = logprobs.map(|top| log_probabilities(&logits, id, top, tokenizer));
        Ok((id, logprobs.transpose()?))
    }

    /// Why `id` is the last token, if it is, apart from stop strings.
    fn finish_reason(&self, id: u32) -> Option<FinishReason> {
        let model = self.session.model();
        let options = &self.options;
        let stops = options.overflow == ContextOverflow::Stop;
        if self.is_end(id) {
            Some(FinishReason::Stop)
        } else if self.result.token_ids.len() >= options.max_tokens {
            Some(FinishReason::Length)
        } else if stops && self.context.len() >= model.network.context_length() {
            Some(FinishReason::Context)
        } else {
            None
        }
    }

    fn is_end(&self, id: u32) -> bool {
        let ends_text = !self.options.ignore_eos && self.session.model().tokenizer.is_end(id);
        ends_text || self.options.stop_ids.contains(&id)
    }

    /// The text that `id` adds; ends the generation if it is the last token.
    fn text_of(&mut self, id: u32) -> Result<String> {
        let reason = self.finish_reason(id);
        let tokenizer = &self.session.model().tokenizer;
        let mut text = match reason {
            // Also where the tokenizer does not know it for a special token.
            Some(FinishReason::Stop) => String::new(),
            _ => self.decoder.push(id, tokenizer)?,
        };
        if reason.is_some() {
            text.push_str(&self.decoder.finish(tokenizer)?);
        }
        let mut released = self.stops.push(&text);
        if released.stop.is_some() {
            self.end(FinishReason::Stop);
            self.result.stop_string = released.stop;
        } else if let Some(reason) = reason {
            self.end(reason);
            released.text.push_str(&self.stops.finish());
        }
        Ok(released.text)
    }

    fn end(&mut self, reason: FinishReason) {
        self.ended = true;
        self.result.finish_reason = reason;
    }
}

impl Iterator for TokenStream<'_> {
    type Item = Result<Token>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let token = self.advance();
        self.ended |= token.is_err();
        token.transpose()
    }
}

impl std::fmt::Debug for TokenStream<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenStream")
            .field("prompt_ids", &self.prompt.ids)
            .field("token_ids", &self.result.token_ids)
            .finish_non_exhaustive()
    }
}
