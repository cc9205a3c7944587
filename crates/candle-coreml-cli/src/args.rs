//! Command line.

use std::path::PathBuf;

use candle_coreml::{ContextOverflow, GenerationOptions, Speculation};
use clap::{Parser, Subcommand};

/// Runs Core ML models on any CPU.
#[derive(Debug, Parser)]
#[command(name = "candle-coreml", version, about, after_help = LOGGING)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const LOGGING: &str = "Set RUST_LOG=candle_coreml=debug to see what happens, on standard error.
Exit codes: 0 done, 1 failed, 2 wrong usage.";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Says what a model is, whether it runs here and what is inside, or how a function is run
    Inspect(InspectArgs),
    /// Runs a model on given inputs
    Predict(PredictArgs),
    /// Continues a text with a language model
    Generate(GenerateArgs),
    /// Shows what a language model's directory holds, and what is odd about it
    Config(ConfigArgs),
    /// Talks with a language model
    Chat(ChatArgs),
    /// Downloads a model from the Hugging Face Hub and prints its directory
    Download(DownloadArgs),
    /// Shows and cleans what has been downloaded
    #[command(subcommand)]
    Cache(CacheCommand),
}

/// Arguments of `inspect`.
#[derive(Debug, clap::Args)]
pub struct InspectArgs {
    /// A .mlpackage, .mlmodel or .mlmodelc
    pub model: PathBuf,
    /// Shows the plan of a function for its default shapes instead: the steps in their order, where
    /// values live, what needs no step because it is a view, and which rewrites were made
    #[arg(long)]
    pub plan: bool,
    /// The function whose plan to show; the model's default one unless given
    #[arg(long, value_name = "F", requires = "plan")]
    pub function: Option<String>,
    /// Prints one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Threads to compute on.
#[derive(Debug, clap::Args)]
pub struct ThreadArgs {
    /// Threads to compute on [default: CANDLE_COREML_THREADS, else as many as there are processors]
    #[arg(long, value_name = "N", value_parser = positive_integer, allow_negative_numbers = true)]
    pub threads: Option<usize>,
}

/// Arguments of `predict`.
#[derive(Debug, clap::Args)]
pub struct PredictArgs {
    /// A .mlpackage, .mlmodel or .mlmodelc
    pub model: PathBuf,
    /// An input: a .npy file, a .npz file (its array NAME, or its only one), a .json file, or JSON
    /// itself such as [[1, 2], [3, 4]]; a single number fills the input's whole shape
    #[arg(long = "input", value_name = "NAME=FILE|VALUE", value_parser = named_input)]
    pub inputs: Vec<(String, String)>,
    /// The function to run; the model's default one unless given
    #[arg(long)]
    pub function: Option<String>,
    /// Writes each output to DIR/NAME.npy instead of showing a summary
    #[arg(long, value_name = "DIR")]
    pub output_dir: Option<PathBuf>,
    /// The most memory for the prediction's values, in bytes or as 512M, 8G; 0 for any
    #[arg(long, value_name = "SIZE", default_value = "8G", value_parser = size)]
    pub max_memory: usize,
    /// The most seconds that the prediction may take; 0 for any
    #[arg(long, value_name = "SECONDS", default_value = "120")]
    pub max_time: u64,
    #[command(flatten)]
    pub threads: ThreadArgs,
}

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
    #[arg(long, value_name = "T", value_parser = not_negative, allow_negative_numbers = true)]
    pub temperature: Option<f64>,
    /// Samples among the K most likely tokens
    #[arg(long, value_name = "K", value_parser = positive_integer)]
    pub top_k: Option<usize>,
    /// Samples among the most likely tokens whose probabilities add up to P
    #[arg(long, value_name = "P", value_parser = top_p)]
    pub top_p: Option<f64>,
    /// Samples among tokens at least P times as likely as the most likely one
    #[arg(long, value_name = "P", value_parser = min_p)]
    pub min_p: Option<f64>,
    /// Makes tokens of the prompt and the text less likely, above 1
    #[arg(long, value_name = "X", value_parser = positive)]
    pub repetition_penalty: Option<f64>,
    /// The repetition penalty looks at the last N tokens only
    #[arg(long, value_name = "N", requires = "repetition_penalty")]
    pub repetition_window: Option<usize>,
    /// Makes tokens that the text has less likely
    #[arg(long, value_name = "X", value_parser = finite, allow_negative_numbers = true)]
    pub presence_penalty: Option<f64>,
    /// Makes tokens less likely each time that the text has them
    #[arg(long, value_name = "X", value_parser = finite, allow_negative_numbers = true)]
    pub frequency_penalty: Option<f64>,
    /// Adds X to the logit of token ID; -inf forbids it
    #[arg(long, value_name = "ID=X", value_parser = bias)]
    pub logit_bias: Vec<(u32, f64)>,
    /// Seed of the random numbers, for the same text again
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// Ends the text before TEXT, too
    #[arg(long, value_name = "TEXT", value_parser = not_empty)]
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

/// Arguments of `config`.
#[derive(Debug, clap::Args)]
pub struct ConfigArgs {
    /// Directory with the packages, or a model of the Hugging Face Hub
    #[arg(value_name = "DIR|ORG/NAME")]
    pub directory: PathBuf,
    /// Prints the configuration as JSON
    #[arg(long)]
    pub json: bool,
    /// Writes the configuration to DIRECTORY/model_config.json, which loading then goes by
    #[arg(long)]
    pub write: bool,
}

/// Arguments of `download`.
#[derive(Debug, clap::Args)]
#[command(after_help = HUB)]
pub struct DownloadArgs {
    /// The model's id on the hub
    #[arg(value_name = "ORG/NAME")]
    pub model: String,
    /// A branch, tag or commit
    #[arg(long, value_name = "R", default_value = "main")]
    pub revision: String,
    /// Takes the files that match (`*` matches `/` too) instead of all that the model needs; may be
    /// given several times
    #[arg(long, value_name = "GLOB")]
    pub include: Vec<String>,
    /// Puts the files into this directory instead of the cache; other files in it stay
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
    /// Does not use the network: succeeds if the cache has all files
    #[arg(long)]
    pub offline: bool,
}

const HUB: &str = "Environment: HF_TOKEN (for private and gated models), HF_HOME, HF_HUB_CACHE,
HF_HUB_OFFLINE, HF_ENDPOINT, as for other tools of Hugging Face.";

/// Subcommands of `cache`.
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// Lists models with commit, size and whether they are complete
    List,
    /// Compares files with their hashes
    Verify {
        /// Models to check; all unless given
        #[arg(value_name = "ORG/NAME")]
        models: Vec<String>,
    },
    /// Removes commits that no branch stands for any more, and leftovers of broken downloads
    Prune(PruneArgs),
    /// Prints the directories: that shared with other tools, and this program's own
    Dir,
}

/// Arguments of `cache prune`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Only files that this program has downloaded are removed.")]
pub struct PruneArgs {
    /// Models to remove files of; all unless given
    #[arg(value_name = "ORG/NAME")]
    pub models: Vec<String>,
    /// Removes the models named altogether
    #[arg(long, requires = "models")]
    pub all: bool,
    /// Only shows what would be removed
    #[arg(long)]
    pub dry_run: bool,
    /// Does not ask
    #[arg(long)]
    pub yes: bool,
}

fn named_input(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err("expected NAME=FILE or NAME=VALUE".to_owned()),
    }
}

fn not_negative(text: &str) -> Result<f64, String> {
    number(text, |value| value >= 0.0 && value.is_finite(), "0 or a positive number")
}

fn positive(text: &str) -> Result<f64, String> {
    number(text, |value| value > 0.0 && value.is_finite(), "a positive number")
}

fn finite(text: &str) -> Result<f64, String> {
    number(text, f64::is_finite, "a number")
}

fn top_p(text: &str) -> Result<f64, String> {
    number(text, |value| value > 0.0 && value <= 1.0, "a number above 0 and at most 1")
}

fn min_p(text: &str) -> Result<f64, String> {
    number(text, |value| (0.0..=1.0).contains(&value), "a number from 0 to 1")
}

fn number(text: &str, allowed: impl Fn(f64) -> bool, expected: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|&value| allowed(value));
    value.ok_or_else(|| format!("expected {expected}"))
}

fn bias(text: &str) -> Result<(u32, f64), String> {
    let parse = || {
        let (id, bias) = text.split_once('=')?;
        let bias: f64 = bias.parse().ok()?;
        (bias < f64::INFINITY).then_some((id.parse().ok()?, bias))
    };
    parse().ok_or_else(|| "expected ID=NUMBER or ID=-inf".to_owned())
}

/// A number of bytes, also of K, M, G or T of them: 2^10, 2^20, 2^30, 2^40.
fn size(text: &str) -> Result<usize, String> {
    let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let power = match text[digits.len()..].to_uppercase().trim_end_matches(['B', 'I']) {
        "" => Some(0),
        "K" => Some(10),
        "M" => Some(20),
        "G" => Some(30),
        "T" => Some(40),
        _ => None,
    };
    let count: Option<usize> = digits.parse().ok();
    let bytes = count.zip(power).and_then(|(count, power)| count.checked_mul(1 << power));
    bytes.ok_or_else(|| "expected a number of bytes such as 1000000, 512M or 8G".to_owned())
}

fn not_empty(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("expected some text".to_owned()) } else { Ok(text.to_owned()) }
}

fn positive_integer(text: &str) -> Result<usize, String> {
    let value = text.parse().ok().filter(|&value| value > 0);
    value.ok_or_else(|| "expected a whole number above 0".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn what_is_given_goes_before_what_is_recommended() {
        let arguments = [
            "candle-coreml",
            "generate",
            "x",
            "--temperature=0.5",
            "--stop=a",
            "--stop=b",
            "--logit-bias=3=-inf",
            "--logit-bias=4=1.5",
            "--overflow=shift",
            "--keep=7",
            "--presence-penalty=-1",
            "--speculation=off",
        ];
        let Command::Generate(args) = Args::parse_from(arguments).command else {
            panic!("another command")
        };
        let recommended = GenerationOptions::new().temperature(0.9).top_k(5).max_tokens(9);
        let expected = GenerationOptions::new()
            .temperature(0.5)
            .top_k(5)
            .max_tokens(9)
            .stop("a")
            .stop("b")
            .logit_bias(3, f64::NEG_INFINITY)
            .logit_bias(4, 1.5)
            .presence_penalty(-1.0)
            .overflow(ContextOverflow::Shift { keep: 7 })
            .speculation(Speculation::Off);
        assert_eq!(args.sampling.apply(recommended), expected);
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("1000"), Ok(1000));
        assert_eq!([size("3k"), size("2M"), size("1GiB")], [Ok(3 << 10), Ok(2 << 20), Ok(1 << 30)]);
        for wrong in ["", "G", "-1", "1.5G", "8X", "99999999999T"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn values_out_of_range_are_wrong_usage() {
        let wrong = [
            ["generate", "x", "--temperature=-1"],
            ["generate", "x", "--temperature=inf"],
            ["generate", "x", "--top-k=0"],
            ["generate", "x", "--top-p=0"],
            ["generate", "x", "--top-p=1.1"],
            ["generate", "x", "--min-p=1.1"],
            ["generate", "x", "--repetition-penalty=0"],
            ["generate", "x", "--repetition-window=3"],
            ["generate", "x", "--presence-penalty=nan"],
            ["generate", "x", "--logit-bias=3"],
            ["generate", "x", "--logit-bias=3=inf"],
            ["generate", "x", "--stop="],
            ["generate", "x", "--logprobs=1"],
            ["generate", "x", "--overflow=burst"],
            ["generate", "x", "--speculation=never"],
            ["predict", "m", "--input=x"],
            ["predict", "m", "--input==1"],
            ["predict", "m", "--threads=0"],
            ["generate", "x", "--threads=some"],
            ["chat", "--threads", "-1"],
            ["inspect", "m", "--function=f"],
            ["cache", "prune", "--all"],
        ];
        for arguments in wrong {
            let parsed = Args::try_parse_from(["candle-coreml"].iter().chain(&arguments));
            assert_eq!(parsed.unwrap_err().exit_code(), 2, "{arguments:?}");
        }
    }
}
