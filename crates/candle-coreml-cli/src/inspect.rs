//! `inspect`: what a model is made of, and how a function of it is run.

use std::io::Write;

use anyhow::Result;
use candle_coreml::description::{FeatureDescription, FunctionDescription, Metadata};
use candle_coreml::{
    CoreMLModel, Inspection, LoadOptions, OperationCount, Package, WeightEncoding, inspect,
};
use coreml_format::{printable_message, printable_name};
use indicatif::HumanBytes;
use serde::Serialize;

use crate::args::InspectArgs;
use crate::contents;
use crate::printable::{self, LONGEST_TEXT, prose};
use crate::table::Table;
use crate::term;

/// How a function is run.
#[derive(Debug, Serialize)]
struct Plan<'a> {
    path: String,
    function: &'a str,
    plan: Vec<&'a str>,
}

/// Prints the model's parts, or the plan of a function, as text or JSON.
pub fn run(args: &InspectArgs) -> Result<()> {
    if args.plan { show_plan(args) } else { show_parts(args) }
}

fn show_plan(args: &InspectArgs) -> Result<()> {
    let mut options = LoadOptions::new();
    options.function.clone_from(&args.function);
    options.without_weights = args.without_weights;
    let model = CoreMLModel::load(&args.model, &options)?;
    let text = model.plan()?;
    let mut stdout = term::out();
    if args.json {
        let path = args.model.display().to_string();
        let function = &model.function_description().name;
        let plan = Plan { path, function, plan: text.lines().collect() };
        writeln!(stdout, "{}", serde_json::to_string_pretty(&plan)?)?;
    } else {
        write!(stdout, "{}", printable::lines(&text, usize::MAX))?;
    }
    Ok(())
}

fn show_parts(args: &InspectArgs) -> Result<()> {
    let inspection = inspect(Package::open(&args.model)?)?;
    let mut stdout = term::out();
    if args.json {
        writeln!(stdout, "{}", serde_json::to_string_pretty(&inspection)?)?;
    } else {
        let text = text(&inspection, term::width());
        write!(stdout, "{}", printable::lines(&text, LONGEST_TEXT))?;
    }
    Ok(())
}

/// All parts, for people.
fn text(inspection: &Inspection, width: Option<usize>) -> String {
    let Inspection { path, kind, container, .. } = inspection;
    let mut text = format!("{path}\n{kind} in a {container}");
    if let Some(version) = inspection.specification_version {
        text.push_str(&format!(", specification version {version}"));
    }
    text.push('\n');
    match &inspection.reason {
        None => text.push_str("Runs here\n"),
        Some(reason) => {
            text.push_str(&format!("Does not run here: {}\n", printable_message(reason)));
        }
    }
    for function in &inspection.functions {
        text.push_str(&function_text(function, inspection, width));
    }
    text.push_str(&metadata(&inspection.metadata).titled("Metadata", width));
    text.push_str(&contents::text(&inspection.contents, width));
    text.push_str(&operation_rows(&inspection.operations).titled("Operations", width));
    text.push_str(&weight_rows(&inspection.weights).titled("Weights", width));
    text
}

fn function_text(
    function: &FunctionDescription,
    inspection: &Inspection,
    width: Option<usize>,
) -> String {
    let opset = inspection.opsets.get(&function.name);
    let opset = opset.map_or_else(String::new, |opset| format!(" ({opset})"));
    let default = if function.name == inspection.default_function { ", the default" } else { "" };
    let title = match inspection.model_kind {
        "mlProgram" => format!("Function {}{opset}{default}", printable_name(&function.name)),
        _ => "Features".to_owned(),
    };
    let mut table = Table::new(&[]);
    let groups =
        [("input", &function.inputs), ("output", &function.outputs), ("state", &function.states)];
    for (role, features) in groups {
        for feature in features {
            table.row([role.to_owned()].into_iter().chain(feature_row(feature)));
        }
    }
    format!("\n{title}\n{}", table.text(width))
}

/// Name, type and description of a feature.
pub fn feature_row(feature: &FeatureDescription) -> [String; 3] {
    let optional = if feature.optional { ", optional" } else { "" };
    let ty = feature.ty.to_string();
    let ty = printable_name(&ty);
    [
        printable_name(&feature.name).into_owned(),
        format!("{ty}{optional}"),
        printable_name(&feature.short_description).into_owned(),
    ]
}

fn metadata(metadata: &Metadata) -> Table {
    let fields = [
        ("description", &metadata.short_description),
        ("version", &metadata.version),
        ("author", &metadata.author),
        ("license", &metadata.license),
    ];
    let fields = fields.into_iter().filter(|(_, value)| !value.is_empty());
    let own = metadata.user_defined.iter().map(|(key, value)| (key.as_str(), value));
    let mut table = Table::new(&[]);
    for (key, value) in fields.chain(own) {
        table.row([printable_name(key).into_owned(), prose(value)]);
    }
    table
}

fn operation_rows(operations: &[OperationCount]) -> Table {
    let mut table = Table::new(&[]).right(&[0]);
    for OperationCount { operator, count, supported, hint, .. } in operations {
        let note = match (supported, hint.as_str()) {
            (true, _) => String::new(),
            (false, "") => "not supported".to_owned(),
            (false, hint) => format!("not supported; {}", printable_message(hint)),
        };
        table.row([count.to_string(), printable_name(operator).into_owned(), note]);
    }
    table
}

fn weight_rows(weights: &[WeightEncoding]) -> Table {
    let mut table = Table::new(&["size", "tensors", "stored as"]).right(&[0, 1]);
    for WeightEncoding { encoding, tensors, bytes, .. } in weights {
        let size = HumanBytes(*bytes as u64).to_string();
        table.row([size, tensors.to_string(), printable_name(encoding).into_owned()]);
    }
    table
}
