//! Arguments of the commands that look at a model and run it on values.

use std::path::PathBuf;

use super::{ComputeArgs, LimitArgs, ThreadArgs};

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
    /// Shows the plan without opening files of weights, as if all of them were zeros: for a model whose weights
    /// are not there
    #[arg(long, requires = "plan")]
    pub without_weights: bool,
    /// Prints one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `predict`.
#[derive(Debug, clap::Args)]
pub struct PredictArgs {
    /// A .mlpackage, .mlmodel or .mlmodelc
    pub model: PathBuf,
    /// An input: JSON such as [[1, 2], [3, 4]], or a file that holds JSON, a NumPy array (.npy) or an
    /// archive of some (.npz, of which the array NAME, or the only one); a single number fills the
    /// input's whole shape
    #[arg(long = "input", value_name = "NAME=FILE|VALUE", value_parser = named_input)]
    pub inputs: Vec<(String, String)>,
    /// The function to run; the model's default one unless given
    #[arg(long)]
    pub function: Option<String>,
    /// Writes each output to DIR/NAME.npy, and says so instead of showing a summary
    #[arg(long, value_name = "DIR")]
    pub output_dir: Option<PathBuf>,
    /// Prints one JSON object: inputs, outputs with all values, and timings; NaN and the infinities
    /// are the strings "NaN", "Infinity" and "-Infinity"
    #[arg(long)]
    pub json: bool,
    /// Runs the model N times on the same inputs, for its time: states start as zeros each time, the outputs
    /// are those of the first run, and JSON has the fastest
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    pub repeat: u32,
    #[command(flatten)]
    pub limits: LimitArgs,
    #[command(flatten)]
    pub compute: ComputeArgs,
}

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
#[command(after_help = CHECK_HELP)]
pub struct CheckArgs {
    /// A .mlpackage, .mlmodel or .mlmodelc
    pub model: PathBuf,
    /// An input, as for `predict`; those that are not given are made up, which is told
    #[arg(long = "input", value_name = "NAME=FILE|VALUE", value_parser = named_input)]
    pub inputs: Vec<(String, String)>,
    /// The function to check; the model's default one unless given
    #[arg(long)]
    pub function: Option<String>,
    /// Prints one JSON object with all findings
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub limits: LimitArgs,
    #[command(flatten)]
    pub threads: ThreadArgs,
}

const CHECK_HELP: &str = "Runs the function twice, side by side: with each fp16 result rounded to fp16 as the \
program states it, and in float32. Names the operations where harm begins, and tells how far each output \
is off. States are zero. Exit codes: 0 fine, 3 something was found, 1 the check could not be made.";

fn named_input(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err("expected NAME=FILE or NAME=VALUE".to_owned()),
    }
}
