//! How to generate.

use std::collections::BTreeMap;

use super::CancelToken;

/// How to choose tokens and when to stop. The default is greedy, 256 tokens at most.
///
/// Logits go through these stages, in the order of Hugging Face's `generate`: biases, repetition
/// penalties, presence and frequency penalty, n-grams, least length, forced tokens, length penalty,
/// tokens suppressed at the beginning; temperature, top-h, top-k, top-p, min-p, typical-p, epsilon
/// and eta cutoff. What is left is drawn from; at temperature 0 the most likely token before the
/// temperature is taken. Where a name is that of a setting of `generate`, so is the meaning.
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
    /// The most tokens of prompt and text together.
    pub max_length: Option<usize>,
    /// The model's end tokens can't be chosen before there are so many tokens.
    pub min_tokens: usize,
    /// The model's end tokens can't be chosen before prompt and text together have so many tokens.
    pub min_length: usize,
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
    /// Samples among the most likely tokens (of the first 100) whose part of the entropy is at most
    /// this share of it, above 0 and up to 1.
    pub top_h: Option<f64>,
    /// Samples among the fewest tokens whose probabilities reach this sum, those first that are as
    /// surprising as a token is on average; above 0 and up to 1, which are all.
    pub typical_p: Option<f64>,
    /// Samples among tokens of at least this probability, 0 or more and below 1; the most likely one
    /// stays.
    pub epsilon_cutoff: Option<f64>,
    /// Like `epsilon_cutoff`, but with its square root times the exponential of the negative entropy,
    /// where that is less.
    pub eta_cutoff: Option<f64>,
    /// Divides the positive logits of tokens that are in the prompt or the generated text, and
    /// multiplies the negative ones; 1 changes nothing.
    pub repetition_penalty: f64,
    /// The repetition penalty looks at this many last tokens only.
    pub repetition_window: Option<usize>,
    /// Makes tokens of the prompt more likely (above 1) or less: multiplies their positive logits and
    /// divides the negative ones.
    pub encoder_repetition_penalty: f64,
    /// So many tokens in a row occur only once in prompt and text; 0 for any number of times.
    pub no_repeat_ngram_size: usize,
    /// So many tokens in a row of the prompt do not occur in the text; 0 if they may.
    pub encoder_no_repeat_ngram_size: usize,
    /// Is taken from the logits of generated tokens.
    pub presence_penalty: f64,
    /// Is taken from the logit of a generated token for each time that it occurred.
    pub frequency_penalty: f64,
    /// Is added to the logits of these tokens; negative infinity forbids one.
    pub logit_bias: BTreeMap<u32, f64>,
    /// Is added to the logit of a sequence's last token where the others came before it; negative
    /// infinity forbids the sequence.
    pub sequence_bias: BTreeMap<Vec<u32>, f64>,
    /// Tokens that can't be the first one of the text.
    pub begin_suppress_tokens: Vec<u32>,
    /// The first token behind a prompt of a single one.
    pub forced_bos_token: Option<u32>,
    /// One of these is the last token that `max_tokens` allows.
    pub forced_eos_tokens: Vec<u32>,
    /// Makes the model's end tokens more likely, the more tokens there are beyond the first number:
    /// adds their logits' amounts times the second number to the power of those, less one.
    pub exponential_decay_length_penalty: Option<(usize, f64)>,
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
            max_length: None,
            min_tokens: 0,
            min_length: 0,
            temperature: 0.0,
            top_k: None,
            top_p: None,
            min_p: None,
            top_h: None,
            typical_p: None,
            epsilon_cutoff: None,
            eta_cutoff: None,
            repetition_penalty: 1.0,
            repetition_window: None,
            encoder_repetition_penalty: 1.0,
            no_repeat_ngram_size: 0,
            encoder_no_repeat_ngram_size: 0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: BTreeMap::new(),
            sequence_bias: BTreeMap::new(),
            begin_suppress_tokens: Vec::new(),
            forced_bos_token: None,
            forced_eos_tokens: Vec::new(),
            exponential_decay_length_penalty: None,
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

    /// Sets the most tokens to generate, in place of a most length of prompt and text.
    pub fn max_tokens(mut self, tokens: usize) -> Self {
        self.max_tokens = tokens;
        self.max_length = None;
        self
    }

    /// Ends the text where prompt and text together have so many tokens, in place of a number of
    /// tokens to generate.
    pub fn max_length(mut self, tokens: usize) -> Self {
        self.max_tokens = usize::MAX;
        self.max_length = Some(tokens);
        self
    }

    /// Does not end the text before it has so many tokens.
    pub fn min_tokens(mut self, tokens: usize) -> Self {
        self.min_tokens = tokens;
        self
    }

    /// Does not end the text before prompt and text together have so many tokens.
    pub fn min_length(mut self, tokens: usize) -> Self {
        self.min_length = tokens;
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

    /// Samples among the most likely tokens that hold up to the share `h` of the entropy.
    pub fn top_h(mut self, h: f64) -> Self {
        self.top_h = Some(h);
        self
    }

    /// Samples among the most typical tokens whose probabilities reach the sum `p`.
    pub fn typical_p(mut self, p: f64) -> Self {
        self.typical_p = Some(p);
        self
    }

    /// Samples among tokens of at least this probability.
    pub fn epsilon_cutoff(mut self, probability: f64) -> Self {
        self.epsilon_cutoff = Some(probability);
        self
    }

    /// Samples among tokens of at least this probability, or a smaller one at high entropy.
    pub fn eta_cutoff(mut self, probability: f64) -> Self {
        self.eta_cutoff = Some(probability);
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

    /// Makes tokens of the prompt more likely (above 1) or less (below).
    pub fn encoder_repetition_penalty(mut self, penalty: f64) -> Self {
        self.encoder_repetition_penalty = penalty;
        self
    }

    /// Lets `size` tokens in a row occur only once.
    pub fn no_repeat_ngram_size(mut self, size: usize) -> Self {
        self.no_repeat_ngram_size = size;
        self
    }

    /// Lets no `size` tokens in a row of the prompt occur in the text.
    pub fn encoder_no_repeat_ngram_size(mut self, size: usize) -> Self {
        self.encoder_no_repeat_ngram_size = size;
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

    /// Adds `bias` to the logit of the last of `ids` where the others came before it.
    pub fn sequence_bias(mut self, ids: impl Into<Vec<u32>>, bias: f64) -> Self {
        self.sequence_bias.insert(ids.into(), bias);
        self
    }

    /// Keeps token `id` from being the first one of the text.
    pub fn begin_suppress_token(mut self, id: u32) -> Self {
        self.begin_suppress_tokens.push(id);
        self
    }

    /// Sets the first token behind a prompt of a single one.
    pub fn forced_bos_token(mut self, id: u32) -> Self {
        self.forced_bos_token = Some(id);
        self
    }

    /// Lets token `id`, too, be the last one that the budget allows.
    pub fn forced_eos_token(mut self, id: u32) -> Self {
        self.forced_eos_tokens.push(id);
        self
    }

    /// Makes the model's end tokens more likely from `start` tokens on, `factor` times with each.
    pub fn exponential_decay_length_penalty(mut self, start: usize, factor: f64) -> Self {
        self.exponential_decay_length_penalty = Some((start, factor));
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
}
