//! Arguments of the commands that look at a model and run it on values.

use std::path::PathBuf;

use candle_coreml::{LoadOptions, Resize, ResizeFilter};
use clap::ValueEnum;

use super::{ComputeArgs, LimitArgs, ThreadArgs};
use crate::images::Resizing;

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
    /// An input: JSON such as [[1, 2], [3, 4]], or a file that holds JSON, a NumPy array (.npy), an archive
    /// of some (.npz, of which the array NAME, or the only one) or, for images, a picture (PNG, JPEG,
    /// WebP, BMP, GIF, TIFF; transparency is ignored); a single number fills the input's whole shape
    #[arg(long = "input", value_name = "NAME=FILE|VALUE", value_parser = named_input)]
    pub inputs: Vec<(String, String)>,
    #[command(flatten)]
    pub resizing: ResizeArgs,
    /// The function to run; the model's default one unless given
    #[arg(long)]
    pub function: Option<String>,
    /// Writes each output to DIR: images to NAME.png, arrays to NAME.npy, others to NAME.json; says so
    /// instead of showing a summary
    #[arg(long, value_name = "DIR")]
    pub output_dir: Option<PathBuf>,
    /// How many of a classifier's classes are shown
    #[arg(long, value_name = "N", default_value = "5")]
    pub top: usize,
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

/// What a model is tried on, by `check` and `compare`.
#[derive(Debug, clap::Args)]
pub struct TrialArgs {
    /// An input, as for `predict`; those that are not given are made up, which is told
    #[arg(long = "input", value_name = "NAME=FILE|VALUE", value_parser = named_input)]
    pub inputs: Vec<(String, String)>,
    /// The function to run; the model's default one unless given
    #[arg(long)]
    pub function: Option<String>,
    #[command(flatten)]
    pub resizing: ResizeArgs,
    #[command(flatten)]
    pub limits: LimitArgs,
}

impl TrialArgs {
    /// How a model is loaded to be tried, on so many threads.
    pub fn load_options(&self, threads: &ThreadArgs) -> candle_coreml::Result<LoadOptions> {
        let mut options = LoadOptions::new().limits(self.limits.limits());
        options.function.clone_from(&self.function);
        match threads.threads {
            Some(threads) => options.threads(threads),
            None => Ok(options),
        }
    }
}

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
#[command(after_help = CHECK_HELP)]
pub struct CheckArgs {
    /// A .mlpackage, .mlmodel or .mlmodelc
    pub model: PathBuf,
    #[command(flatten)]
    pub trial: TrialArgs,
    /// Prints one JSON object with all findings
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub threads: ThreadArgs,
}

const CHECK_HELP: &str = "Runs the function twice, side by side: with each fp16 result rounded to fp16 as the \
program states it, and in float32. Names the operations where harm begins, and tells how far each output \
is off. States are zero. Exit codes: 0 fine, 3 something was found, 1 the check could not be made.";

/// What `compare` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = COMPARE_HELP)]
pub struct CompareArgs {
    /// The model to compare with
    pub reference: PathBuf,
    /// Another model of the same inputs, a folder of .npy files or an .npz archive of outputs; the same model
    /// unless given
    pub other: Option<PathBuf>,
    #[command(flatten)]
    pub trial: TrialArgs,
    /// The error up to which both count as the same, as a part of the size
    #[arg(long, value_name = "PART", default_value = "0.001", value_parser = part)]
    pub tolerance: f64,
    /// Tells at which operation the two part, the first one beyond the tolerance
    #[arg(long)]
    pub per_op: bool,
    /// With --per-op goes on behind that operation: JSON has all, the table those that are farthest off
    #[arg(long, requires = "per_op")]
    pub all: bool,
    /// Draws all operations' errors in the order in which they run, and where the two part
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
    /// Prints one JSON object with all differences
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub compute: ComputeArgs,
}

impl CompareArgs {
    /// Whether operations are compared.
    pub fn compares_operations(&self) -> bool {
        self.per_op || self.plot.is_some()
    }
}

const COMPARE_HELP: &str = "Runs both on the same inputs and tells how far each output is off: the error is the root \
of the mean square of the differences, as a part of that of the reference. States are zero. --strict-fp16 and --numerics are \
for the other model alone: with no other model it shows what rounding does. Exit codes: 0 all is \
within the tolerance, 3 something is not, 1 they could not be compared.";

fn part(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(part) if part >= 0.0 => Ok(part),
        _ => Err("expected a number that is not negative, such as 0.001".to_owned()),
    }
}

/// How an image of another shape is resized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ResizeName {
    /// All of it, between black edges
    Fit,
    /// Its middle, as much as fills the size
    Fill,
    /// All of it, stretched
    Stretch,
}

/// How pixels between others are computed; both as Pillow does it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum FilterName {
    /// As most image models were trained with
    #[default]
    Bilinear,
    /// Sharper
    Bicubic,
}

/// What to do with images of other sizes.
#[derive(Debug, clap::Args)]
pub struct ResizeArgs {
    /// Makes images that have a size which the model does not take as large as its default size
    #[arg(long, value_name = "HOW", value_enum)]
    resize: Option<ResizeName>,
    /// How pixels are computed where images are resized
    #[arg(long, value_name = "FILTER", value_enum, default_value_t)]
    resize_filter: FilterName,
}

impl ResizeArgs {
    /// What to do with images of other sizes.
    pub fn resizing(&self) -> Resizing {
        let how = self.resize.map(|mode| match mode {
            ResizeName::Fit => Resize::Fit,
            ResizeName::Fill => Resize::Fill,
            ResizeName::Stretch => Resize::Stretch,
        });
        let filter = match self.resize_filter {
            FilterName::Bilinear => ResizeFilter::Bilinear,
            FilterName::Bicubic => ResizeFilter::Bicubic,
        };
        Resizing { how, filter }
    }
}

fn named_input(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err("expected NAME=FILE or NAME=VALUE".to_owned()),
    }
}
