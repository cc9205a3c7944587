//! Command line.

mod hub;
mod parse;
mod text;
mod values;

use std::ffi::OsString;

use clap::{ArgAction, ColorChoice, Parser, Subcommand};

pub use hub::{CacheCommand, ConfigArgs, DownloadArgs, PruneArgs};
pub use text::{ChatArgs, GenerateArgs};
pub use values::{InspectArgs, PredictArgs};

/// Runs Core ML models on any CPU.
#[derive(Debug, Parser)]
#[command(name = "candle-coreml", version, about, after_help = LOGGING)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Whether to use colours; NO_COLOR and CLICOLOR_FORCE are heard, too
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: ColorChoice,
    /// Tells more on standard error: timings and the log; -vv and -vvv still more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Tells nothing on standard error but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
}

impl Args {
    /// What the command line says. The error is help that was asked for, or wrong usage.
    pub fn read(arguments: &[OsString]) -> Result<Self, clap::Error> {
        Args::try_parse_from(arguments)
    }
}

/// What `--color` says, for messages about a command line that is wrong elsewhere.
pub fn color(arguments: &[OsString]) -> ColorChoice {
    let mut words = arguments.iter().filter_map(|word| word.to_str());
    while let Some(word) = words.next() {
        let value = match word.strip_prefix("--color") {
            Some("") => words.next(),
            Some(rest) => rest.strip_prefix('='),
            None => continue,
        };
        return value.and_then(|value| value.parse().ok()).unwrap_or_default();
    }
    ColorChoice::Auto
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

/// Threads to compute on.
#[derive(Debug, clap::Args)]
pub struct ThreadArgs {
    /// Threads to compute on [default: CANDLE_COREML_THREADS, else as many as there are processors]
    #[arg(long, value_name = "N", value_parser = parse::positive_integer, allow_negative_numbers = true)]
    pub threads: Option<usize>,
}

#[cfg(test)]
mod tests {
    use candle_coreml::{ContextOverflow, GenerationOptions, Speculation};
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
