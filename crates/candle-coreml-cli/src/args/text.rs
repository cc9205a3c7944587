//! Arguments of the commands that make text.

use std::path::PathBuf;

use candle_coreml::{ContextOverflow, GenerationOptions, Speculation};

use super::{ThreadArgs, parse};

/// Arguments of `generate`.
#[derive(Debug, clap::Args)]
pub struct GenerateArgs {
    /// The text to continue, taken as it is: without a chat template
    pub prompt: String,
    /// Directory with the packages and the tokenizer, or a model of the Hugging Face Hub, which is
    /// downloaded unless it is in the cache; `demo` is a small model in this program
    #[arg(long, value_name = "DIR|ORG/NAME", default_value = "demo")]
    pub model: PathBuf,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[command(flatten)]
    pub threads: ThreadArgs,
    /// Goes on after an end token
    #[arg(long)]
    pub ignore_eos: bool,
    /// Tells the log-probabilities of each token and of the N most likely ones; with --json
    #[arg(long, value_name = "N", requires = "json")]
    pub logprobs: Option<usize>,
    /// Prints one JSON object at the end instead of the text as it comes
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `chat`.
#[derive(Debug, clap::Args)]
#[command(after_help = CHAT_HELP)]
pub struct ChatArgs {
    /// Directory with the packages, the tokenizer and its chat template, or a model of the Hugging
    /// Face Hub
    #[arg(long, value_name = "DIR|ORG/NAME", default_value = "demo")]
    pub model: PathBuf,
    /// How the model should behave
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Asks a model that thinks before it answers not to
    #[arg(long)]
    pub no_thinking: bool,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[command(flatten)]
    pub threads: ThreadArgs,
}

const CHAT_HELP: &str = "Samples as the model recommends (meta.yaml, generation_config.json) unless told \
otherwise, and forgets the oldest messages when the context is full. From a pipe, each line is a \
message. /help tells what can be done in a conversation.";

/// How to choose tokens.
#[derive(Debug, clap::Args)]
pub struct SamplingArgs {
    /// The most tokens to generate [default: 256; in a chat, 1024]
    #[arg(long, value_name = "N")]
    pub max_tokens: Option<usize>,
    /// 0 always takes the most likely token; higher values vary more
    #[arg(long, value_name = "T", value_parser = parse::not_negative, allow_negative_numbers = true)]
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
    #[arg(long, value_name = "X", value_parser = parse::positive)]
    pub repetition_penalty: Option<f64>,
    /// The repetition penalty looks at the last N tokens only
    #[arg(long, value_name = "N", requires = "repetition_penalty")]
    pub repetition_window: Option<usize>,
    /// Makes tokens that the text has less likely
    #[arg(long, value_name = "X", value_parser = parse::finite, allow_negative_numbers = true)]
    pub presence_penalty: Option<f64>,
    /// Makes tokens less likely each time that the text has them
    #[arg(long, value_name = "X", value_parser = parse::finite, allow_negative_numbers = true)]
    pub frequency_penalty: Option<f64>,
    /// Adds X to the logit of token ID; -inf forbids it
    #[arg(long, value_name = "ID=X", value_parser = parse::bias)]
    pub logit_bias: Vec<(u32, f64)>,
    /// Seed of the random numbers, for the same text again
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// Ends the text before TEXT, too
    #[arg(long, value_name = "TEXT", value_parser = parse::not_empty)]
    pub stop: Vec<String>,
    /// What to do when the context is full [default: stop; in a chat, shift]
    #[arg(long, value_enum, value_name = "WHAT")]
    pub overflow: Option<Overflow>,
    /// Tokens at the beginning that --overflow shift does not forget
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub keep: usize,
    /// Whether to guess tokens from earlier text and check several at once
    #[arg(long, value_enum, value_name = "WHEN", default_value = "auto")]
    pub speculation: Guessing,
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
    /// `base`, with what is given on the command line.
    pub fn apply(&self, mut base: GenerationOptions) -> GenerationOptions {
        base.max_tokens = self.max_tokens.unwrap_or(base.max_tokens);
        base.temperature = self.temperature.unwrap_or(base.temperature);
        base.top_k = self.top_k.or(base.top_k);
        base.top_p = self.top_p.or(base.top_p);
        base.min_p = self.min_p.or(base.min_p);
        base.repetition_penalty = self.repetition_penalty.unwrap_or(base.repetition_penalty);
        base.repetition_window = self.repetition_window;
        base.presence_penalty = self.presence_penalty.unwrap_or(base.presence_penalty);
        base.frequency_penalty = self.frequency_penalty.unwrap_or(base.frequency_penalty);
        base.logit_bias.extend(self.logit_bias.iter().copied());
        base.seed = self.seed;
        base.stop.clone_from(&self.stop);
        base.overflow = match self.overflow {
            Some(Overflow::Error) => ContextOverflow::Error,
            Some(Overflow::Stop) => ContextOverflow::Stop,
            Some(Overflow::Shift) => ContextOverflow::Shift { keep: self.keep },
            None => base.overflow,
        };
        base.speculation = match self.speculation {
            Guessing::Auto => Speculation::Auto,
            Guessing::On => Speculation::On,
            Guessing::Off => Speculation::Off,
        };
        base
    }
}
