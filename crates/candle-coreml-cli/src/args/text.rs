//! Arguments of the commands that make text.

use std::path::PathBuf;

use super::ComputeArgs;
use super::sampling::SamplingArgs;

/// Arguments of `generate`.
#[derive(Debug, clap::Args)]
#[command(after_help = GENERATE_HELP)]
pub struct GenerateArgs {
    /// The text to continue, taken as it is: without a chat template. `-`, or none, reads it from
    /// standard input; several words are joined with spaces
    #[arg(value_name = "PROMPT", conflicts_with_all = ["prompt", "file"])]
    pub words: Vec<String>,
    #[command(flatten)]
    pub source: PromptArgs,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[command(flatten)]
    pub compute: ComputeArgs,
    /// Goes on after an end token
    #[arg(long)]
    pub ignore_eos: bool,
    /// Tells the log-probabilities of each token and of the N most likely ones; with --json or
    /// --json-lines
    #[arg(long, value_name = "N", requires = "form")]
    pub logprobs: Option<usize>,
    /// Prints one JSON object at the end instead of the text as it comes
    #[arg(long, group = "form")]
    pub json: bool,
    /// Prints a JSON object for each token as it comes, and one at the end that tells why it ended,
    /// counts and timings
    #[arg(long, group = "form")]
    pub json_lines: bool,
}

const GENERATE_HELP: &str = "From a file or standard input, the last line break does not belong to \
the prompt. `chat MODEL PROMPT` answers a prompt with the model's chat template.";

/// The model that makes the text.
#[derive(Debug, clap::Args)]
pub struct ModelArgs {
    /// Directory with the packages and the tokenizer, or a model of the Hugging Face Hub, which is
    /// downloaded unless it is in the cache; `demo` is a small model in this program
    #[arg(short, long, value_name = "DIR|ORG/NAME", default_value = "demo")]
    pub model: PathBuf,
}

/// Other places of a prompt than an argument of its own.
#[derive(Debug, clap::Args)]
pub struct PromptArgs {
    /// The prompt, as an option
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    pub prompt: Option<String>,
    /// Reads the prompt from a file; `-` is standard input
    #[arg(short, long, value_name = "FILE", conflicts_with = "prompt")]
    pub file: Option<PathBuf>,
}

/// Arguments of `chat`.
#[derive(Debug, clap::Args)]
#[command(after_help = CHAT_HELP)]
pub struct ChatArgs {
    /// The model, if --model does not name it, and a message: with one, it is answered, and that is
    /// all; `-` reads it from standard input
    #[arg(value_names = ["MODEL", "MESSAGE"])]
    pub words: Vec<String>,
    #[command(flatten)]
    pub source: PromptArgs,
    #[command(flatten)]
    pub model: ModelArgs,
    /// How the model should behave
    #[arg(long, value_name = "TEXT", visible_alias = "system-prompt")]
    pub system: Option<String>,
    /// Asks a model that thinks before it answers not to
    #[arg(long)]
    pub no_thinking: bool,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[command(flatten)]
    pub compute: ComputeArgs,
    /// Does not break lines of answers between words in a terminal
    #[arg(long)]
    pub no_wrap: bool,
    /// Neither reads nor writes the file of what was typed earlier
    #[arg(long = "no-history", alias = "nohistory")]
    pub nohistory: bool,
}

const CHAT_HELP: &str = "Samples as the model recommends (meta.yaml, generation_config.json) unless told \
otherwise, and forgets the oldest messages when the context is full. From a pipe, each line that is \
not blank is a message, taken as it is. /help tells what can be done in a conversation at a terminal.";

impl ChatArgs {
    /// Takes the model from the words, unless --model stands on the command line.
    pub(super) fn settle(&mut self, model_is_given: bool) {
        if !model_is_given && !self.words.is_empty() {
            self.model.model = self.words.remove(0).into();
        }
    }
}
