//! Command line.

use std::path::PathBuf;

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
    /// Shows a model's functions, metadata, operations and weights
    Inspect(InspectArgs),
    /// Runs a model on given inputs
    Predict(PredictArgs),
    /// Continues a text with a language model in ANEMLL's layout
    Generate(GenerateArgs),
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
    /// Prints one JSON object
    #[arg(long)]
    pub json: bool,
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
    /// The most tokens to generate
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub max_tokens: usize,
    /// 0 always takes the most likely token; higher values vary more
    #[arg(
        long,
        value_name = "T",
        default_value_t = 0.0,
        value_parser = temperature,
        allow_negative_numbers = true
    )]
    pub temperature: f64,
    /// Samples among the K most likely tokens
    #[arg(long, value_name = "K", value_parser = top_k)]
    pub top_k: Option<usize>,
    /// Samples among the most likely tokens whose probabilities add up to P
    #[arg(long, value_name = "P", value_parser = top_p)]
    pub top_p: Option<f64>,
    /// Seed of the random numbers, for the same text again
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// Goes on after an end token
    #[arg(long)]
    pub ignore_eos: bool,
    /// Prints one JSON object at the end instead of the text as it comes
    #[arg(long)]
    pub json: bool,
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

fn temperature(text: &str) -> Result<f64, String> {
    number(text, |value| value >= 0.0 && value.is_finite(), "0 or a positive number")
}

fn top_p(text: &str) -> Result<f64, String> {
    number(text, |value| value > 0.0 && value <= 1.0, "a number above 0 and at most 1")
}

fn number(text: &str, allowed: impl Fn(f64) -> bool, expected: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|&value| allowed(value));
    value.ok_or_else(|| format!("expected {expected}"))
}

fn top_k(text: &str) -> Result<usize, String> {
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
    fn values_out_of_range_are_wrong_usage() {
        let wrong = [
            ["generate", "x", "--temperature=-1"],
            ["generate", "x", "--temperature=inf"],
            ["generate", "x", "--top-k=0"],
            ["generate", "x", "--top-p=0"],
            ["generate", "x", "--top-p=1.1"],
            ["predict", "m", "--input=x"],
            ["predict", "m", "--input==1"],
            ["cache", "prune", "--all"],
        ];
        for arguments in wrong {
            let parsed = Args::try_parse_from(["candle-coreml"].iter().chain(&arguments));
            assert_eq!(parsed.unwrap_err().exit_code(), 2, "{arguments:?}");
        }
    }
}
