//! Arguments of the commands that measure.

use std::path::PathBuf;

use candle_coreml::{Bench, Phase};

use super::{ComputeArgs, TrialArgs, parse};

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
#[command(after_help = BENCH_HELP)]
pub struct BenchArgs {
    #[command(flatten)]
    pub subject: SubjectArgs,
    #[command(flatten)]
    pub speed: SpeedArgs,
    #[command(flatten)]
    pub form: FormArgs,
}

const BENCH_HELP: &str = "Of a model, predictions are measured: inputs that are not given are made up, states are \
zero. Of a language model, prompts of some lengths and tokens decoded from some positions on, with tokens that are \
made up; lengths beyond the context count as its end. Both tell what the operations take beside what the machine, \
measured in the same run, can do at most. Let nothing else run meanwhile.";

/// Arguments of `profile`.
#[derive(Debug, clap::Args)]
#[command(after_help = PROFILE_HELP)]
pub struct ProfileArgs {
    #[command(flatten)]
    pub subject: SubjectArgs,
    #[command(flatten)]
    pub speed: SpeedArgs,
    /// Of a language model, profiles a prompt of the first length instead of decoded tokens
    #[arg(long)]
    pub prefill: bool,
    /// How many operations and layers are shown, those first that took longest
    #[arg(long, value_name = "N", default_value = "20")]
    pub top: usize,
    /// Shows all of them
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub form: FormArgs,
}

const PROFILE_HELP: &str = "Bytes and floating-point operations are estimated from the shapes of values and from how \
constants are stored. Operations that were replaced by one stand as that one, with the name of one of them. \
Measuring adds well under a microsecond to each operation.";

impl ProfileArgs {
    /// What a language model does.
    pub fn phase(&self) -> Phase {
        if self.prefill { Phase::Prefill } else { Phase::Decode }
    }

    /// How many rows of a table are shown.
    pub fn rows(&self) -> usize {
        if self.all { usize::MAX } else { self.top }
    }
}

/// What is measured, and how it computes.
#[derive(Debug, clap::Args)]
pub struct SubjectArgs {
    /// A .mlpackage, .mlmodel or .mlmodelc; or a language model: its directory, a model of the Hugging Face Hub,
    /// or `demo`, a small one in this program
    #[arg(value_name = "MODEL|DIR|ORG/NAME")]
    pub model: PathBuf,
    #[command(flatten)]
    pub trial: TrialArgs,
    #[command(flatten)]
    pub compute: ComputeArgs,
}

/// What is run, and how often.
#[derive(Debug, clap::Args)]
pub struct SpeedArgs {
    /// Runs of each thing that is measured [default: predictions of 5 seconds, but 10 to 1000, and 3 of a
    /// language model; 5 predictions for a profile]
    #[arg(long, value_name = "N", value_parser = parse::positive_integer)]
    pub repeat: Option<usize>,
    /// Lengths of prompts of a language model, in tokens
    #[arg(long = "prompt", value_name = "N,…", value_delimiter = ',', default_value = "64,448",
        value_parser = parse::positive_integer)]
    pub prompts: Vec<usize>,
    /// Positions from which on a language model decodes
    #[arg(
        long,
        visible_alias = "position",
        value_name = "N,…",
        value_delimiter = ',',
        default_value = "0,448"
    )]
    pub positions: Vec<usize>,
    /// Tokens that are decoded from each position on
    #[arg(long, value_name = "N", default_value = "16", value_parser = parse::positive_integer)]
    pub tokens: usize,
}

impl SpeedArgs {
    /// As the library has it.
    pub fn bench(&self) -> Bench {
        let bench = Bench::new()
            .prompts(self.prompts.as_slice())
            .positions(self.positions.as_slice())
            .tokens(self.tokens);
        match self.repeat {
            Some(runs) => bench.runs(runs),
            None => bench,
        }
    }
}

/// In which form results are told.
#[derive(Debug, clap::Args)]
pub struct FormArgs {
    /// Prints one JSON object
    #[arg(long)]
    pub json: bool,
    /// Writes a page with charts, which any browser opens without a network
    #[arg(long, value_name = "FILE.html")]
    pub html: Option<PathBuf>,
}
