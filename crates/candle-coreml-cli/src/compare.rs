//! `compare`: how far two models, or two ways to run one, are apart.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use candle_coreml::description::{FeatureType, FunctionDescription};
use candle_coreml::{
    CoreMLModel, Difference, FeatureDifference, Features, Numerics, OperationDifference, Precision,
    compare_features, compare_operations, plot_operations,
};
use coreml_format::{printable_name, printable_path};
use serde::Serialize;

use crate::args::CompareArgs;
use crate::array::Number;
use crate::exit::Exit;
use crate::images::Resizing;
use crate::inputs;
use crate::made_up::{self, Given};
use crate::table::Table;
use crate::term;

/// Operations that are shown; JSON has all.
const SHOWN: usize = 20;

/// All of a comparison.
#[derive(Serialize)]
struct Report<'a> {
    reference: String,
    other: String,
    function: &'a str,
    tolerance: f64,
    /// Whether all outputs are within the tolerance.
    within: bool,
    inputs: Vec<Given>,
    outputs: Vec<Output<'a>>,
    /// Where the two part: the first operation that is not within the tolerance.
    #[serde(skip_serializing_if = "Option::is_none")]
    parts_at: Option<Operation<'a>>,
    /// Operations that both have, as they were run, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    operations: Option<Vec<Operation<'a>>>,
}

/// How far an output is off.
#[derive(Serialize)]
struct Output<'a> {
    name: &'a str,
    within: bool,
    #[serde(flatten)]
    numbers: Option<Numbers>,
    /// What differs, where there are no numbers to compare.
    #[serde(skip_serializing_if = "Option::is_none")]
    words: Option<&'a str>,
}

/// How far the result of an operation is off.
#[derive(Clone, Serialize)]
struct Operation<'a> {
    operation: &'a str,
    operator: &'a str,
    output: &'a str,
    path: &'a [String],
    time: usize,
    within: bool,
    #[serde(flatten)]
    numbers: Option<Numbers>,
}

#[derive(Clone, Serialize)]
struct Numbers {
    elements: usize,
    differing: usize,
    largest_difference: Number,
    relative: Number,
    error: Number,
    cosine: Number,
    signal_to_noise_db: Number,
    nan: usize,
    infinite: usize,
}

/// Runs both and tells what differs, which the exit code tells, too.
pub fn run(args: &CompareArgs) -> Result<()> {
    let reference = load(args, &args.reference, Precision::Single, Numerics::Strict)?;
    let function = reference.function_description();
    let inputs = made_up::fill_in(&args.trial, function)?;
    let expected = made_up::bind(&reference, &inputs)?
        .run_to_features(made_up::state(&reference)?.as_mut())?;
    let place = args.other.as_deref().unwrap_or(&args.reference);
    let (got, operations) = match saved(place, function)? {
        Some(saved) => {
            ensure!(
                !args.compares_operations(),
                "{} needs a second model, and {} has outputs only",
                if args.per_op { "--per-op" } else { "--plot" },
                shown(place)
            );
            (saved, Vec::new())
        }
        None => {
            let other = load(args, place, args.compute.precision(), args.compute.numerics())?;
            let mut call = made_up::bind(&other, &inputs).with_context(|| {
                format!("{} takes other inputs than the reference", shown(place))
            })?;
            let got = call.run_to_features(made_up::state(&other)?.as_mut())?;
            let operations = match args.compares_operations() {
                true => operations(args, &reference, &other, &inputs)?,
                false => Vec::new(),
            };
            (got, operations)
        }
    };
    let outputs = compare_features(&expected, &got);
    let is_apart = |of: &&OperationDifference| !of.is_within(args.tolerance);
    let operation = |of| Operation::new(of, args.tolerance);
    let report = Report {
        reference: args.reference.display().to_string(),
        other: place.display().to_string(),
        function: &function.name,
        tolerance: args.tolerance,
        within: outputs.iter().all(|output| output.is_within(args.tolerance)),
        inputs,
        outputs: outputs.iter().map(|output| Output::new(output, args.tolerance)).collect(),
        parts_at: operations.iter().find(is_apart).map(operation),
        operations: args.per_op.then(|| operations.iter().map(operation).collect()),
    };
    if let Some(file) = &args.plot {
        let names = [&report.reference, &report.other].map(|name| file_name(name));
        let title = titled(names, report.function);
        let svg = plot_operations(&title, &operations, args.tolerance);
        fs::write(file, svg).with_context(|| format!("can't write {}", shown(file)))?;
        term::tell(format_args!("wrote {}", printable_path(file)));
    }
    let mut stdout = term::out();
    if args.json {
        writeln!(stdout, "{}", serde_json::to_string(&report)?)?;
    } else {
        write!(stdout, "{}", text(&report, args.all, term::width()))?;
    }
    if report.within { Ok(()) } else { Err(Exit::Found.into()) }
}

fn load(
    args: &CompareArgs,
    path: &Path,
    precision: Precision,
    numerics: Numerics,
) -> Result<CoreMLModel> {
    let options = args.trial.load_options(&args.compute.threads)?;
    let options = options.precision(precision).numerics(numerics);
    Ok(CoreMLModel::load(path, &options)?)
}

fn shown(path: &Path) -> String {
    printable_path(path).to_string()
}

/// Outputs that were saved, if the path is that of such: an archive, or a folder of arrays by name.
fn saved(path: &Path, function: &FunctionDescription) -> Result<Option<Features>> {
    let is_archive = path.extension().is_some_and(|end| end == "npz");
    let of_folder = |name: &str| path.join(format!("{name}.npy"));
    let is_folder = || function.outputs.iter().any(|output| of_folder(&output.name).is_file());
    if !is_archive && !is_folder() {
        return Ok(None);
    }
    let mut features = Features::new();
    for output in function.outputs.iter().filter(|of| matches!(of.ty, FeatureType::MultiArray(_))) {
        let file = if is_archive { path.to_owned() } else { of_folder(&output.name) };
        let input = inputs::of_path(output, &file, Resizing::default())
            .with_context(|| format!("output `{}`", printable_name(&output.name)))?;
        features.push(output.name.as_str(), input.value);
    }
    Ok(Some(features))
}

/// How operations differ, up to the first that is not within the tolerance unless all are asked for.
fn operations(
    args: &CompareArgs,
    reference: &CoreMLModel,
    other: &CoreMLModel,
    inputs: &[Given],
) -> Result<Vec<OperationDifference>> {
    let (mut reference_state, mut other_state) =
        (made_up::state(reference)?, made_up::state(other)?);
    let (mut first, mut second) =
        (made_up::bind(reference, inputs)?, made_up::bind(other, inputs)?);
    Ok(compare_operations(
        (&mut first, reference_state.as_mut()),
        (&mut second, other_state.as_mut()),
        |of| !args.all && args.plot.is_none() && !of.is_within(args.tolerance),
    )?)
}

impl Numbers {
    fn new(difference: Difference) -> Self {
        Numbers {
            elements: difference.elements,
            differing: difference.differing,
            largest_difference: Number::Double(difference.largest_difference),
            relative: Number::Double(difference.relative()),
            error: Number::Double(difference.error),
            cosine: Number::Double(difference.cosine),
            signal_to_noise_db: Number::Double(difference.signal_to_noise()),
            nan: difference.nan,
            infinite: difference.infinite,
        }
    }

    /// Cells of a table.
    fn cells(&self) -> [String; 7] {
        [
            self.elements.to_string(),
            self.differing.to_string(),
            scientific(self.largest_difference),
            scientific(self.error),
            format!("{:.6}", self.cosine.to_f64()),
            format!("{:.1} dB", self.signal_to_noise_db.to_f64()),
            (self.nan + self.infinite).to_string(),
        ]
    }
}

fn scientific(number: Number) -> String {
    match number.to_f64() {
        0.0 => "0".to_owned(),
        number => format!("{number:.1e}"),
    }
}

impl<'a> Output<'a> {
    fn new(output: &'a FeatureDifference, tolerance: f64) -> Self {
        Output {
            name: &output.name,
            within: output.is_within(tolerance),
            numbers: output.difference.map(Numbers::new),
            words: output.words.as_deref(),
        }
    }
}

impl<'a> Operation<'a> {
    fn new(operation: &'a OperationDifference, tolerance: f64) -> Self {
        Operation {
            operation: &operation.operation,
            operator: &operation.operator,
            output: &operation.output,
            path: &operation.path,
            time: operation.time,
            within: operation.is_within(tolerance),
            numbers: operation.difference.map(Numbers::new),
        }
    }

    /// How far it is off, for sorting: what can't be compared is farthest.
    fn distance(&self) -> f64 {
        self.numbers.as_ref().map_or(f64::INFINITY, |numbers| numbers.error.to_f64())
    }

    fn title(&self) -> String {
        let around = self.path.iter().map(|name| format!(" in {}", printable_name(name)));
        let around: String = around.collect();
        let time = if self.time > 0 { format!(", time {}", self.time + 1) } else { String::new() };
        let output = match self.output == self.operation {
            true => String::new(),
            false => format!(" → {}", printable_name(self.output)),
        };
        format!("{}{output}{around}{time}", printable_name(self.operation))
    }
}

/// The last part of a path.
fn file_name(path: &str) -> &str {
    let name = Path::new(path).file_name().and_then(|name| name.to_str());
    name.unwrap_or(path)
}

/// What is compared: a reference and another model by their names.
fn titled(names: [&str; 2], function: &str) -> String {
    let (names, function) = (names.map(printable_name), printable_name(function));
    match names[0] == names[1] {
        true => format!("{}, function {function}", names[0]),
        false => format!("{} beside {}, function {function}", names[1], names[0]),
    }
}

/// All parts, for people.
fn text(report: &Report, all: bool, width: Option<usize>) -> String {
    let mut text = format!("{}\n", titled([&report.reference, &report.other], report.function));
    text.push_str(&made_up::rows(&report.inputs).titled("Inputs", width));
    text.push_str(&output_rows(&report.outputs).titled("Outputs", width));
    if let Some(operations) = &report.operations {
        if all {
            text.push_str(&farthest(operations).titled("Operations that are farthest off", width));
        }
        text.push_str(&parting(report, operations.len()));
    }
    let verdict = if report.within { "The same" } else { "Not the same" };
    text.push_str(&format!("\n{verdict}, within errors of {}\n", report.tolerance));
    text
}

const COLUMNS: [&str; 7] =
    ["elements", "others", "at most", "error", "cosine", "signal", "NaN, infinite"];

fn output_rows(outputs: &[Output]) -> Table {
    let header: Vec<&str> = ["output"].into_iter().chain(COLUMNS).collect();
    let mut table = Table::new(&header).right(&[1, 2, 3, 4, 5, 6, 7]);
    for output in outputs {
        let name = printable_name(output.name).into_owned();
        match (&output.numbers, output.words) {
            (Some(numbers), _) => table.row([name].into_iter().chain(numbers.cells())),
            (None, words) => table.row([name, words.unwrap_or("the same").to_owned()]),
        }
    }
    table
}

fn farthest(operations: &[Operation]) -> Table {
    let header: Vec<&str> = ["operation", "operator"].into_iter().chain(COLUMNS).collect();
    let mut table = Table::new(&header).right(&[2, 3, 4, 5, 6, 7, 8]);
    let mut sorted: Vec<&Operation> = operations.iter().collect();
    sorted.sort_by(|a, b| b.distance().total_cmp(&a.distance()));
    for operation in sorted.into_iter().take(SHOWN) {
        let head = [operation.title(), printable_name(operation.operator).into_owned()];
        match &operation.numbers {
            Some(numbers) => table.row(head.into_iter().chain(numbers.cells())),
            None => table.row(head.into_iter().chain(["another number of elements".to_owned()])),
        }
    }
    table
}

/// Where the two part.
fn parting(report: &Report, compared: usize) -> String {
    let Some(operation) = &report.parts_at else {
        return format!("\nThe results of {compared} operations are within the tolerance\n");
    };
    let how = match &operation.numbers {
        Some(numbers) => format!(
            "error {}, {} of {} others, at most by {}",
            scientific(numbers.error),
            numbers.differing,
            numbers.elements,
            scientific(numbers.largest_difference)
        ),
        None => "another number of elements".to_owned(),
    };
    let operator = printable_name(operation.operator);
    format!("\nThey part at {} ({operator}): {how}\n", operation.title())
}
