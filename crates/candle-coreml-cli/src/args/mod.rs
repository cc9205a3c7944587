//! Command line.

mod compile;
mod environment;
mod hub;
mod measure;
mod parse;
mod sampling;
mod text;
mod values;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use candle_coreml::{Limits, Numerics, Precision};
use clap::parser::ValueSource;
use clap::{
    ArgAction, ArgMatches, ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand,
};
use clap_complete::Shell;

pub use compile::{CompileArgs, DecompileArgs};
pub use environment::with_spellings;
pub use hub::{CacheCommand, ConfigArgs, DownloadArgs, PruneArgs, RemoveArgs, ShowArgs};
pub use measure::{BenchArgs, ProfileArgs, SubjectArgs};
pub use sampling::SamplingArgs;
pub use text::{ChatArgs, GenerateArgs, PromptArgs};
pub use values::{CheckArgs, CompareArgs, InspectArgs, PredictArgs, TrialArgs};

/// Runs Core ML models on any CPU.
#[derive(Debug, Parser)]
#[command(name = "candle-coreml", version, about, after_help = HELP, args_override_self = true)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Whether to use colours; by itself it looks at the terminal, NO_COLOR and CLICOLOR_FORCE
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: ColorChoice,
    /// Tells more on standard error: timings of a chat and the log; -vv and -vvv still more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Tells nothing on standard error but what failed and what was asked for
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

const HELP: &str = "RUST_LOG=candle_coreml=debug chooses what is logged, on standard error.
Options that [env: …] stands at can be set in the environment; the command line goes first.
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 something was found, 130 stopped by Ctrl-C.";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Says what a model is, whether it runs here and what is inside, or how a function is run
    Inspect(InspectArgs),
    /// Runs a model on given inputs
    Predict(PredictArgs),
    /// Says what half precision (fp16) does to a model: which operations overflow, lose their meaning or
    /// make NaN
    Check(CheckArgs),
    /// Compares two models, or two ways to run one, on the same inputs
    Compare(CompareArgs),
    /// Measures how fast a model is: latency, or tokens per second of a language model, memory and bandwidth
    Bench(BenchArgs),
    /// Says where the time of a model goes: operation by operation, by operator and by layer
    Profile(ProfileArgs),
    /// Compiles an ML Program to a .mlmodelc, as Apple's compiler does
    Compile(CompileArgs),
    /// Makes a .mlpackage of a compiled ML Program
    Decompile(DecompileArgs),
    /// Continues a text with a language model
    Generate(GenerateArgs),
    /// Talks with a language model, or answers one message
    #[command(visible_alias = "run")]
    Chat(ChatArgs),
    /// Shows what a language model's directory holds, and what is odd about it
    Config(ConfigArgs),
    /// Downloads a model from the Hugging Face Hub and prints its directory
    #[command(visible_alias = "pull")]
    Download(DownloadArgs),
    /// Shows and cleans what has been downloaded
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Short for `cache list`
    #[command(visible_alias = "ls")]
    List,
    /// Short for `config` of a language model, and for `inspect` of another one
    Show(ShowArgs),
    /// Short for `cache prune --all`
    Rm(RemoveArgs),
    /// Prints what a shell needs to complete commands and options
    #[command(after_help = "For example: candle-coreml completions bash > \
        ~/.local/share/bash-completion/completions/candle-coreml")]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Writes manual pages, one for each command, or prints the first one
    Man {
        /// Where to write them
        directory: Option<PathBuf>,
    },
}

impl Args {
    /// What the command line and the environment say. The error is help that was asked for, or wrong
    /// usage.
    pub fn read(arguments: &[OsString]) -> Result<Self, clap::Error> {
        let matches = command()
            .try_get_matches_from(arguments)
            .map_err(|error| environment::blame(error, arguments))?;
        let mut args = Args::from_arg_matches(&matches)?;
        if let Command::Chat(chat) = &mut args.command {
            chat.settle(model_is_given(&matches));
        }
        Ok(args)
    }
}

/// All commands and options, with their variables.
pub fn command() -> clap::Command {
    environment::with_variables(environment::with_spellings(Args::command()))
}

/// Whether a command's --model stands on the command line, and not in the environment.
fn model_is_given(matches: &ArgMatches) -> bool {
    let command = matches.subcommand().map(|(_, matches)| matches);
    command.and_then(|matches| matches.value_source("model")) == Some(ValueSource::CommandLine)
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

/// Threads to compute on.
#[derive(Debug, clap::Args)]
pub struct ThreadArgs {
    /// Threads to compute on [default: CANDLE_COREML_THREADS, else as many as there are processors]
    #[arg(short, long, value_name = "N", value_parser = parse::positive_integer, allow_negative_numbers = true)]
    pub threads: Option<usize>,
}

/// What a prediction may take.
#[derive(Debug, clap::Args)]
pub struct LimitArgs {
    /// The most memory for the prediction's values, in bytes or as 512M, 8G; 0 for any
    #[arg(long, value_name = "SIZE", default_value = "8G", value_parser = parse::size)]
    pub max_memory: usize,
    /// The most seconds that the prediction may take; 0 for any
    #[arg(long, value_name = "SECONDS", default_value = "120")]
    pub max_time: u64,
}

impl LimitArgs {
    /// As the library has it.
    pub fn limits(&self) -> Limits {
        let mut limits = Limits::new();
        if self.max_memory > 0 {
            limits = limits.memory(self.max_memory);
        }
        if self.max_time > 0 {
            limits = limits.time(Duration::from_secs(self.max_time));
        }
        limits
    }
}

/// How to compute.
#[derive(Debug, clap::Args)]
pub struct ComputeArgs {
    #[command(flatten)]
    pub threads: ThreadArgs,
    /// Rounds every fp16 result in the program to fp16, to infinity where that overflows; without, they
    /// are computed and held as float32
    #[arg(long)]
    pub strict_fp16: bool,
    /// How exactly fp16 values are multiplied with constant weights
    #[arg(long, value_name = "HOW", default_value = "strict")]
    numerics: NumericsName,
}

/// `--numerics`.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum NumericsName {
    /// In single precision
    Strict,
    /// With numbers of 14 to 16 bits that share a scale, where that is faster
    Halves,
}

impl ComputeArgs {
    /// How precise results of `fp16` are.
    pub fn precision(&self) -> Precision {
        if self.strict_fp16 { Precision::AsDeclared } else { Precision::Single }
    }

    /// How exactly values of `fp16` are multiplied with constant weights.
    pub fn numerics(&self) -> Numerics {
        match self.numerics {
            NumericsName::Strict => Numerics::Strict,
            NumericsName::Halves => Numerics::Halves,
        }
    }
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
        let recommended =
            GenerationOptions::new().temperature(0.9).top_k(5).max_length(9).stop("end");
        let expected = GenerationOptions::new()
            .temperature(0.5)
            .top_k(5)
            .max_length(9)
            .stop("end")
            .stop("a")
            .stop("b")
            .logit_bias(3, f64::NEG_INFINITY)
            .logit_bias(4, 1.5)
            .presence_penalty(-1.0)
            .overflow(ContextOverflow::Shift { keep: 7 })
            .speculation(Speculation::Off);
        assert_eq!(args.sampling.apply(recommended.clone()), expected);
        let arguments = ["candle-coreml", "generate", "x", "--max-tokens=3"];
        let Command::Generate(args) = Args::parse_from(arguments).command else {
            panic!("another command")
        };
        assert_eq!(args.sampling.apply(recommended.clone()), recommended.max_tokens(3));
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
            ["generate", "x", "--repetition-penalty=1e-300"],
            ["generate", "x", "--presence-penalty=1e308"],
            ["generate", "x", "--frequency-penalty=-1e39"],
            ["generate", "x", "--logit-bias=1=1e300"],
            ["generate", "x", "--logit-bias=1=nan"],
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
