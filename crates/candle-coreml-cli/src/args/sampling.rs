//! How tokens are chosen, as options and as settings of a conversation.

use candle_coreml::{ContextOverflow, GenerationOptions, Speculation};

use super::parse;

/// How to choose tokens.
#[derive(Debug, clap::Args)]
pub struct SamplingArgs {
    /// The most tokens to generate, or -1 for as many as the context holds [default: 256; in a
    /// chat, 1024]
    #[arg(
        short = 'n',
        long,
        value_name = "N",
        visible_aliases = ["n-predict", "num-predict", "max-new-tokens"],
        value_parser = parse::count_or_all,
        allow_negative_numbers = true
    )]
    pub max_tokens: Option<usize>,
    /// 0 always takes the most likely token; higher values vary more
    #[arg(
        long,
        value_name = "T",
        visible_alias = "temp",
        value_parser = parse::not_negative,
        allow_negative_numbers = true
    )]
    pub temperature: Option<f64>,
    /// Samples among the K most likely tokens
    #[arg(long, value_name = "K", value_parser = parse::positive_integer)]
    pub top_k: Option<usize>,
    /// Samples among the most likely tokens whose probabilities add up to P
    #[arg(long, value_name = "P", value_parser = parse::top_p)]
    pub top_p: Option<f64>,
    /// Samples among tokens at least P times as likely as the most likely one
    #[arg(long, value_name = "P", value_parser = parse::min_p)]
    pub min_p: Option<f64>,
    /// Makes tokens of the prompt and the text less likely, above 1
    #[arg(
        long,
        value_name = "X",
        visible_alias = "repeat-penalty",
        value_parser = parse::factor,
        allow_negative_numbers = true
    )]
    pub repetition_penalty: Option<f64>,
    /// The repetition penalty looks at the last N tokens only
    #[arg(
        long,
        value_name = "N",
        visible_alias = "repeat-last-n",
        requires = "repetition_penalty"
    )]
    pub repetition_window: Option<usize>,
    /// Makes tokens that the text has less likely
    #[arg(long, value_name = "X", value_parser = parse::summand, allow_negative_numbers = true)]
    pub presence_penalty: Option<f64>,
    /// Makes tokens less likely each time that the text has them
    #[arg(long, value_name = "X", value_parser = parse::summand, allow_negative_numbers = true)]
    pub frequency_penalty: Option<f64>,
    /// Adds X to the logit of token ID; -inf forbids it
    #[arg(long, value_name = "ID=X", value_parser = parse::bias)]
    pub logit_bias: Vec<(u32, f64)>,
    /// Seed of the random numbers, for the same text again
    #[arg(short, long, value_name = "S")]
    pub seed: Option<u64>,
    /// Ends the text before TEXT, too
    #[arg(long, value_name = "TEXT", value_parser = parse::not_empty)]
    pub stop: Vec<String>,
    /// What to do when the context is full [default: stop; in a chat, shift]
    #[arg(long, value_enum, value_name = "WHAT")]
    pub overflow: Option<Overflow>,
    /// Tokens at the beginning that are not forgotten when the context is full [default: 0]
    #[arg(long, value_name = "N")]
    pub keep: Option<usize>,
    /// Whether to guess tokens from earlier text and check several at once [default: auto]
    #[arg(long, value_enum, value_name = "WHEN")]
    pub speculation: Option<Guessing>,
}

/// `--overflow`.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Overflow {
    /// An error
    Error,
    /// The text ends
    Stop,
    /// The oldest text is forgotten
    Shift,
}

/// `--speculation`.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Guessing {
    /// Where it pays
    Auto,
    /// Wherever the model can
    On,
    /// Never
    Off,
}

impl SamplingArgs {
    /// `base`, with what is given here.
    pub fn apply(&self, mut base: GenerationOptions) -> GenerationOptions {
        if let Some(tokens) = self.max_tokens {
            base = base.max_tokens(tokens);
        }
        base.temperature = self.temperature.unwrap_or(base.temperature);
        base.top_k = self.top_k.or(base.top_k);
        base.top_p = self.top_p.or(base.top_p);
        base.min_p = self.min_p.or(base.min_p);
        base.repetition_penalty = self.repetition_penalty.unwrap_or(base.repetition_penalty);
        base.repetition_window = self.repetition_window.or(base.repetition_window);
        base.presence_penalty = self.presence_penalty.unwrap_or(base.presence_penalty);
        base.frequency_penalty = self.frequency_penalty.unwrap_or(base.frequency_penalty);
        base.logit_bias.extend(self.logit_bias.iter().copied());
        base.seed = self.seed.or(base.seed);
        base.stop.extend(self.stop.iter().cloned());
        base.overflow = self.overflow(base.overflow);
        base.speculation = match self.speculation {
            Some(Guessing::Auto) => Speculation::Auto,
            Some(Guessing::On) => Speculation::On,
            Some(Guessing::Off) => Speculation::Off,
            None => base.speculation,
        };
        base
    }

    fn overflow(&self, base: ContextOverflow) -> ContextOverflow {
        match (self.overflow, base) {
            (Some(Overflow::Error), _) => ContextOverflow::Error,
            (Some(Overflow::Stop), _) => ContextOverflow::Stop,
            (Some(Overflow::Shift), ContextOverflow::Shift { keep })
            | (None, ContextOverflow::Shift { keep }) => {
                ContextOverflow::Shift { keep: self.keep.unwrap_or(keep) }
            }
            (Some(Overflow::Shift), _) => ContextOverflow::Shift { keep: self.keep.unwrap_or(0) },
            (None, base) => base,
        }
    }
}
