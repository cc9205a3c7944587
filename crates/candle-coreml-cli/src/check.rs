//! `check`: what half precision does to a model.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use anyhow::Result;
use candle_coreml::{
    CoreMLModel, OutputDifference, PrecisionFinding, PrecisionLoss, PrecisionReport,
};
use coreml_format::mil::{Block, Operation, Value};
use coreml_format::{Package, printable_name};
use serde::{Serialize, Serializer};

use crate::args::CheckArgs;
use crate::array::Number;
use crate::exit::Exit;
use crate::made_up::{self, Given};
use crate::table::Table;
use crate::term;

/// Findings that are shown; JSON has all.
const SHOWN: usize = 20;

/// All of a check.
#[derive(Serialize)]
struct Report<'a> {
    model: String,
    function: &'a str,
    /// Whether nothing was found.
    fine: bool,
    inputs: Vec<Given>,
    /// Results of `fp16` that were looked at.
    results: usize,
    findings: Vec<Finding<'a>>,
    outputs: Vec<Difference<'a>>,
}

/// An operation that does harm.
#[derive(Serialize)]
struct Finding<'a> {
    #[serde(serialize_with = "as_name")]
    loss: PrecisionLoss,
    operation: &'a str,
    operator: &'a str,
    output: &'a str,
    path: &'a [String],
    /// What the program says besides of the operation, such as where in the source it comes from.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    attributes: BTreeMap<String, String>,
    affected: usize,
    elements: usize,
    times: usize,
    largest: Number,
    error: Option<Number>,
    input_error: Option<Number>,
}

/// How an output differs.
#[derive(Serialize)]
struct Difference<'a> {
    name: &'a str,
    elements: usize,
    differing: usize,
    error: Option<Number>,
    largest_difference: Number,
    nan: usize,
    infinite: usize,
}

/// Runs the check and tells what was found, which the exit code tells, too.
pub fn run(args: &CheckArgs) -> Result<()> {
    let package = Arc::new(Package::open(&args.model)?);
    let options = args.trial.load_options(&args.threads)?;
    let model = CoreMLModel::from_package(package.clone(), &options)?;
    let function = model.function_description();
    let inputs = made_up::fill_in(&args.trial, function)?;
    let report = check(&model, &inputs)?;
    let program = package.model()?.program();
    let block = program.and_then(|program| program.functions.get(&function.name));
    let block = block.map(|function| &function.block);
    let report = Report {
        model: args.model.display().to_string(),
        function: &function.name,
        fine: report.is_fine(),
        inputs,
        results: report.results,
        findings: report.findings.iter().map(|finding| Finding::new(finding, block)).collect(),
        outputs: report.outputs.iter().map(Difference::new).collect(),
    };
    let mut stdout = term::out();
    if args.json {
        writeln!(stdout, "{}", serde_json::to_string(&report)?)?;
    } else {
        write!(stdout, "{}", text(&report, term::width()))?;
    }
    if report.fine { Ok(()) } else { Err(Exit::Found.into()) }
}

/// With zeroed states, if the function has some.
fn check(model: &CoreMLModel, inputs: &[Given]) -> Result<PrecisionReport> {
    let mut state = made_up::state(model)?;
    let mut call = made_up::bind(model, inputs)?;
    Ok(call.check_precision(state.as_mut())?)
}

impl<'a> Finding<'a> {
    fn new(finding: &'a PrecisionFinding, block: Option<&Block>) -> Self {
        let operation = block.and_then(|block| operation(block, &finding.operation));
        Finding {
            loss: finding.loss,
            operation: &finding.operation,
            operator: &finding.operator,
            output: &finding.output,
            path: &finding.path,
            attributes: operation.map(attributes).unwrap_or_default(),
            affected: finding.affected,
            elements: finding.elements,
            times: finding.times,
            largest: Number::Single(finding.largest),
            error: finding.error.map(Number::Double),
            input_error: finding.input_error.map(Number::Double),
        }
    }
}

impl<'a> Difference<'a> {
    fn new(output: &'a OutputDifference) -> Self {
        Difference {
            name: &output.name,
            elements: output.elements,
            differing: output.differing,
            error: output.error.map(Number::Double),
            largest_difference: Number::Double(output.largest_difference),
            nan: output.nan,
            infinite: output.infinite,
        }
    }
}

/// The operation of this name, nested ones too.
fn operation<'a>(block: &'a Block, name: &str) -> Option<&'a Operation> {
    block.operations.iter().find_map(|found| {
        let nested = || found.blocks.iter().find_map(|block| operation(block, name));
        if found.name() == name { Some(found) } else { nested() }
    })
}

/// Strings that the program says of an operation beside its name.
fn attributes(operation: &Operation) -> BTreeMap<String, String> {
    let strings = operation.attributes.iter().filter(|(key, _)| *key != "name");
    let string = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
    strings.filter_map(string).collect()
}

/// What happens, as a word for programs.
fn as_name<S: Serializer>(loss: &PrecisionLoss, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(loss.name())
}

/// What happens, for people.
fn words(finding: &Finding) -> String {
    let of = format!("{} of {}", finding.affected, finding.elements);
    let largest = finding.largest;
    match finding.loss {
        PrecisionLoss::Overflow => format!("{of} overflow (up to {largest})"),
        PrecisionLoss::Infinity => format!("{of} infinite, finite in float32"),
        PrecisionLoss::Nan => format!("{of} become NaN"),
        PrecisionLoss::NanAlways => format!("{of} become NaN, in float32 too"),
        PrecisionLoss::Underflow => format!("{of} become 0 or subnormal (up to {largest})"),
        _ => format!("{} off, its inputs {}", percent(finding.error), percent(finding.input_error)),
    }
}

/// A part of the size in percent.
fn percent(error: Option<Number>) -> String {
    match error.map(Number::to_f64) {
        None => "?".to_owned(),
        Some(0.0) => "0 %".to_owned(),
        Some(error) if error < 1e-5 => "< 0.001 %".to_owned(),
        Some(error) if error < 0.1 => format!("{:.3} %", error * 100.0),
        Some(error) => format!("{:.0} %", error * 100.0),
    }
}

/// All parts, for people.
fn text(report: &Report, width: Option<usize>) -> String {
    let function = printable_name(report.function);
    let mut text = format!("{}, function {function}\n", printable_name(&report.model));
    text.push_str(&made_up::rows(&report.inputs).titled("Inputs", width));
    text.push_str(&finding_rows(&report.findings).titled("Where fp16 does harm, in order", width));
    if report.findings.len() > SHOWN {
        let more = report.findings.len() - SHOWN;
        text.push_str(&format!("  … and {more} more; --json lists all\n"));
    }
    text.push_str(&output_rows(&report.outputs).titled("Outputs beside those of float32", width));
    let verdict = match (report.fine, report.results, report.findings.is_empty()) {
        (true, 0, _) => "Fine: nothing is computed in fp16".to_owned(),
        (true, results, _) => format!("Fine: fp16 does no harm to {results} results"),
        (false, results, false) => {
            let found = report.findings.len();
            let places = if found == 1 { "place" } else { "places" };
            format!("Not fine: fp16 does harm in {found} {places}, among {results} results")
        }
        (false, _, true) => "Not fine: outputs are far from those of float32".to_owned(),
    };
    text.push_str(&format!("\n{verdict}\n"));
    text
}

fn finding_rows(findings: &[Finding]) -> Table {
    let mut table = Table::new(&["operation", "operator", "what happens", "where"]);
    for finding in findings.iter().take(SHOWN) {
        let mut operation = printable_name(finding.operation).into_owned();
        if finding.output != finding.operation {
            operation.push_str(&format!(" → {}", printable_name(finding.output)));
        }
        let mut happens = words(finding);
        if finding.times > 1 {
            happens.push_str(&format!(", {} times", finding.times));
        }
        let operator = printable_name(finding.operator).into_owned();
        table.row([operation, operator, happens, place(finding)]);
    }
    table
}

/// The loops and branches around an operation, and what the program says of where it comes from.
fn place(finding: &Finding) -> String {
    let around = finding.path.iter().map(|name| format!("in {}", printable_name(name)));
    let said = finding
        .attributes
        .iter()
        .map(|(key, value)| format!("{}: {}", printable_name(key), printable_name(value)));
    around.chain(said).collect::<Vec<_>>().join(", ")
}

fn output_rows(outputs: &[Difference]) -> Table {
    let header = ["output", "elements", "others", "off by", "at most", "NaN", "infinite"];
    let mut table = Table::new(&header).right(&[1, 2, 3, 4, 5, 6]);
    for output in outputs {
        table.row([
            printable_name(output.name).into_owned(),
            output.elements.to_string(),
            output.differing.to_string(),
            output.error.map_or_else(String::new, |error| percent(Some(error))),
            output.error.map_or_else(String::new, |_| output.largest_difference.to_string()),
            output.nan.to_string(),
            output.infinite.to_string(),
        ]);
    }
    table
}
