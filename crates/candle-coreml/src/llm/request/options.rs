//! How to generate.

use std::collections::BTreeMap;

use super::CancelToken;
use crate::config::RecommendedSampling;
use crate::error::{GenerationError, Result};

/// How to choose tokens and when to stop. The default is greedy, 256 tokens at most.
///
/// Logits go through these stages, in the order of Hugging Face's `generate`: bias, repetition
/// penalty, presence and frequency penalty, temperature, top-k, top-p, min-p. What is left is drawn
/// from; at temperature 0 the most likely token after the penalties is taken.
///
/// ```
/// use candle_coreml::llm::GenerationOptions;
///
/// let options = GenerationOptions::new().max_tokens(64).temperature(0.8).top_p(0.9).seed(7);
/// assert_eq!(options.max_tokens, 64);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct GenerationOptions {
    /// The most tokens to generate.
    pub max_tokens: usize,
    /// Divides the logits before sampling; 0 takes the most likely token always (the first one
    /// among equals).
    pub temperature: f64,
    /// Samples among this many most likely tokens only.
    pub top_k: Option<usize>,
    /// Samples among the fewest most likely tokens whose probabilities reach this sum, above 0 and
    /// up to 1.
    pub top_p: Option<f64>,
    /// Samples among tokens that are at least this share as likely as the most likely one, 0 to 1.
    pub min_p: Option<f64>,
    /// Divides the positive logits of tokens that are in the prompt or the generated text, and
    /// multiplies the negative ones; 1 changes nothing.
    pub repetition_penalty: f64,
    /// The repetition penalty looks at this many last tokens only.
    pub repetition_window: Option<usize>,
    /// Is taken from the logits of generated tokens.
    pub presence_penalty: f64,
    /// Is taken from the logit of a generated token for each time that it occurred.
    pub frequency_penalty: f64,
    /// Is added to the logits of these tokens; negative infinity forbids one.
    pub logit_bias: BTreeMap<u32, f64>,
    /// Seed of the random numbers: the same seed gives the same tokens. From the system if `None`.
    pub seed: Option<u64>,
    /// Goes on after an end token of the model.
    pub ignore_eos: bool,
    /// Texts that end the generated text before them.
    pub stop: Vec<String>,
    /// Tokens that end the text, besides the model's own.
    pub stop_ids: Vec<u32>,
    /// Tells the log-probability of each token and of this many most likely ones in its place.
    pub logprobs: Option<usize>,
    /// What to do when the context is full.
    pub overflow: ContextOverflow,
    /// Whether to guess tokens from earlier text and check several at once.
    pub speculation: Speculation,
    /// Ends the generation from elsewhere.
    pub cancel: Option<CancelToken>,
}

/// What to do when prompt and generated tokens fill the context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ContextOverflow {
    /// An error.
    Error,
    /// Generation ends with [`FinishReason::Context`](crate::llm::FinishReason::Context); a prompt
    /// that is longer than the context is an error.
    #[default]
    Stop,
    /// Earlier text is forgotten: the first `keep` tokens stay (a begin token in any case), and of
    /// the others the last ones, as many as fill half of the room behind those. They are run
    /// again, in a fresh cache. A chat keeps its system message, and forgets whole messages as long
    /// as that makes enough room. [`Usage::shifted_tokens`](crate::llm::Usage::shifted_tokens)
    /// tells how many tokens were dropped. Prompts that are too long are shortened in the same way.
    Shift {
        /// Tokens at the beginning that stay.
        keep: usize,
    },
}

/// Speculative decoding by looking the last tokens up in the text so far: what followed them there
/// is run in one batch with the next token, and kept as far as it is what the model chooses. The
/// tokens are those that come without it, as far as the model computes the same in a batch: where
/// two tokens are all but equally likely, rounding may decide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Speculation {
    /// Where it is measured to pay; never with a [`seed`](GenerationOptions::seed) and a
    /// temperature, since no measurement of time should touch tokens that are to come again.
    #[default]
    Auto,
    /// Wherever the model can check several tokens at once.
    On,
    /// Never.
    Off,
}

impl Default for GenerationOptions {
    fn default() -> Self {
        GenerationOptions {
            max_tokens: 256,
            temperature: 0.0,
            top_k: None,
            top_p: None,
            min_p: None,
            repetition_penalty: 1.0,
            repetition_window: None,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: BTreeMap::new(),
            seed: None,
            ignore_eos: false,
            stop: Vec::new(),
            stop_ids: Vec::new(),
            logprobs: None,
            overflow: ContextOverflow::default(),
            speculation: Speculation::default(),
            cancel: None,
        }
    }
}

impl GenerationOptions {
    /// The default options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the most tokens to generate.
    pub fn max_tokens(mut self, tokens: usize) -> Self {
        self.max_tokens = tokens;
        self
    }

    /// Sets the temperature.
    pub fn temperature(mut self, temperature: f64) -> Self {
        self.temperature = temperature;
        self
    }

    /// Samples among the `k` most likely tokens.
    pub fn top_k(mut self, k: usize) -> Self {
        self.top_k = Some(k);
        self
    }

    /// Samples among the most likely tokens whose probabilities reach the sum `p`.
    pub fn top_p(mut self, p: f64) -> Self {
        self.top_p = Some(p);
        self
    }

    /// Samples among tokens at least `p` times as likely as the most likely one.
    pub fn min_p(mut self, p: f64) -> Self {
        self.min_p = Some(p);
        self
    }

    /// Makes tokens of prompt and generated text less likely (above 1) or more (below).
    pub fn repetition_penalty(mut self, penalty: f64) -> Self {
        self.repetition_penalty = penalty;
        self
    }

    /// Lets the repetition penalty look at the last `tokens` only.
    pub fn repetition_window(mut self, tokens: usize) -> Self {
        self.repetition_window = Some(tokens);
        self
    }

    /// Makes tokens that were generated less likely.
    pub fn presence_penalty(mut self, penalty: f64) -> Self {
        self.presence_penalty = penalty;
        self
    }

    /// Makes tokens less likely each time that they are generated.
    pub fn frequency_penalty(mut self, penalty: f64) -> Self {
        self.frequency_penalty = penalty;
        self
    }

    /// Adds `bias` to the logit of token `id`.
    pub fn logit_bias(mut self, id: u32, bias: f64) -> Self {
        self.logit_bias.insert(id, bias);
        self
    }

    /// Seeds the random numbers.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Whether to go on after an end token of the model.
    pub fn ignore_eos(mut self, ignore: bool) -> Self {
        self.ignore_eos = ignore;
        self
    }

    /// Ends the text before `text`, too.
    pub fn stop(mut self, text: impl Into<String>) -> Self {
        self.stop.push(text.into());
        self
    }

    /// Ends the text at token `id`, too.
    pub fn stop_id(mut self, id: u32) -> Self {
        self.stop_ids.push(id);
        self
    }

    /// Tells log-probabilities: each token's, and those of the `top` most likely ones.
    pub fn logprobs(mut self, top: usize) -> Self {
        self.logprobs = Some(top);
        self
    }

    /// Sets what to do when the context is full.
    pub fn overflow(mut self, overflow: ContextOverflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// Sets whether to guess tokens.
    pub fn speculation(mut self, speculation: Speculation) -> Self {
        self.speculation = speculation;
        self
    }

    /// Lets `token` end the generation.
    pub fn cancel(mut self, token: CancelToken) -> Self {
        self.cancel = Some(token);
        self
    }

    /// Samples as the model's makers recommend; what is set after this goes before it. Values out
    /// of range are passed over.
    pub fn recommended(mut self, recommended: &RecommendedSampling) -> Self {
        if recommended.do_sample == Some(false) {
            return self.temperature(0.0);
        }
        let default = (recommended.do_sample == Some(true)).then_some(1.0);
        let in_range = |p: &f64| *p > 0.0 && p.is_finite();
        if let Some(temperature) = recommended.temperature.filter(in_range).or(default) {
            self.temperature = temperature;
        }
        self.top_k = recommended.top_k.filter(|&k| k > 0).or(self.top_k);
        self.top_p = recommended.top_p.filter(|p| in_range(p) && *p <= 1.0).or(self.top_p);
        self
    }

    /// Checks the ranges.
    pub(crate) fn validate(&self) -> Result<()> {
        let positive = self.repetition_penalty > 0.0 && self.repetition_penalty.is_finite();
        let bias = self.logit_bias.values().find(|bias| bias.is_nan() || **bias == f64::INFINITY);
        let checks = [
            (
                self.temperature.is_finite() && self.temperature >= 0.0,
                "temperature must be 0 or a positive number",
                self.temperature,
            ),
            (self.top_k != Some(0), "top-k must be 1 or more", 0.0),
            (
                self.top_p.is_none_or(|p| p > 0.0 && p <= 1.0),
                "top-p must be above 0 and at most 1",
                self.top_p.unwrap_or_default(),
            ),
            (
                self.min_p.is_none_or(|p| (0.0..=1.0).contains(&p)),
                "min-p must be 0 to 1",
                self.min_p.unwrap_or_default(),
            ),
            (
                positive,
                "repetition penalty must be a positive number (1 is none)",
                self.repetition_penalty,
            ),
            (
                self.presence_penalty.is_finite(),
                "presence penalty must be a number",
                self.presence_penalty,
            ),
            (
                self.frequency_penalty.is_finite(),
                "frequency penalty must be a number",
                self.frequency_penalty,
            ),
            (
                bias.is_none(),
                "bias of a logit must be a number or negative infinity",
                bias.copied().unwrap_or_default(),
            ),
        ];
        if let Some((_, expected, got)) = checks.into_iter().find(|(fine, ..)| !fine) {
            return Err(GenerationError::option(format!("the {expected}"), got).into());
        }
        if self.stop.iter().any(String::is_empty) {
            let expected = "a stop string must not be empty".to_owned();
            return Err(GenerationError::option(expected, "one that is").into());
        }
        Ok(())
    }

    /// False where knowing the most likely token is enough.
    pub(crate) fn needs_logits(&self) -> bool {
        self.temperature > 0.0
            || self.logprobs.is_some()
            || !self.logit_bias.is_empty()
            || self.has_penalties()
    }

    pub(crate) fn has_penalties(&self) -> bool {
        self.repetition_penalty != 1.0
            || self.presence_penalty != 0.0
            || self.frequency_penalty != 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_are_named() {
        let new = GenerationOptions::new;
        let cases = [
            (new().temperature(-1.0), "temperature"),
            (new().temperature(f64::NAN), "temperature"),
            (new().top_k(0), "top-k"),
            (new().top_p(0.0), "top-p"),
            (new().top_p(1.5), "top-p"),
            (new().top_p(f64::NAN), "top-p"),
            (new().min_p(-0.1), "min-p"),
            (new().min_p(f64::NAN), "min-p"),
            (new().repetition_penalty(0.0), "repetition penalty"),
            (new().repetition_penalty(f64::INFINITY), "repetition penalty"),
            (new().presence_penalty(f64::NAN), "presence penalty"),
            (new().frequency_penalty(f64::INFINITY), "frequency penalty"),
            (new().logit_bias(3, f64::INFINITY), "bias"),
            (new().logit_bias(3, f64::NAN), "bias"),
            (new().stop(""), "stop string"),
        ];
        for (options, name) in cases {
            let message = options.validate().unwrap_err().to_string();
            assert!(message.contains(name), "{message}");
        }
        let fine = new().temperature(2.0).top_k(1).top_p(1.0).min_p(1.0).repetition_penalty(0.5);
        fine.presence_penalty(-2.0).logit_bias(1, f64::NEG_INFINITY).validate().unwrap();
    }

    #[test]
    fn recommended_sampling_goes_before_defaults_and_behind_what_is_set_after_it() {
        let all = RecommendedSampling {
            do_sample: Some(true),
            temperature: Some(0.6),
            top_k: Some(20),
            top_p: Some(0.95),
        };
        let options = GenerationOptions::new().recommended(&all);
        assert_eq!(
            (options.temperature, options.top_k, options.top_p),
            (0.6, Some(20), Some(0.95))
        );
        assert_eq!(options.recommended(&all).temperature(0.1).temperature, 0.1);
        let greedy = RecommendedSampling { do_sample: Some(false), ..all };
        let options = GenerationOptions::new().recommended(&greedy);
        assert_eq!((options.temperature, options.top_k), (0.0, None));
        let bare = RecommendedSampling { do_sample: Some(true), ..Default::default() };
        assert_eq!(GenerationOptions::new().recommended(&bare).temperature, 1.0);
        let none = RecommendedSampling::default();
        assert_eq!(GenerationOptions::new().recommended(&none), GenerationOptions::new());
        let wrong = RecommendedSampling {
            do_sample: None,
            temperature: Some(f64::NAN),
            top_k: Some(0),
            top_p: Some(7.0),
        };
        assert_eq!(GenerationOptions::new().recommended(&wrong), GenerationOptions::new());
    }
}
