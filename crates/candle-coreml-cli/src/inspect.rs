//! `inspect`: what a model is made of, and how a function of it is run.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use anyhow::Result;
use candle_coreml::description::{FeatureDescription, FunctionDescription, Metadata};
use candle_coreml::{CoreMLModel, LoadOptions, operation_hint, supports_operation};
use coreml_format::mil::{Block, Opset, Program};
use coreml_format::{Model, Package, printable_message, printable_name};
use indicatif::HumanBytes;
use serde::Serialize;

use crate::args::InspectArgs;
use crate::contents::Contents;
use crate::printable::{self, LONGEST_TEXT, prose};
use crate::table::Table;
use crate::term;
use crate::weights::{self, Encoding};

/// Everything that is shown.
#[derive(Debug, Serialize)]
struct Inspection {
    path: String,
    container: String,
    model_kind: &'static str,
    /// The kind in words.
    kind: String,
    /// Whether the model can be run here.
    runs: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Compiled models of classic kinds do not state one.
    specification_version: Option<i32>,
    default_function: String,
    functions: Vec<FunctionDescription>,
    metadata: Metadata,
    #[serde(flatten)]
    contents: Contents,
    /// Of ML Programs only, as is what follows.
    opsets: BTreeMap<String, String>,
    operations: Vec<OperationCount>,
    weights: Vec<Encoding>,
}

/// How often an operator occurs in all functions.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct OperationCount {
    operator: String,
    count: usize,
    /// Whether the portable engine computes it.
    supported: bool,
    /// What to know besides where it does not.
    #[serde(skip_serializing_if = "String::is_empty")]
    hint: String,
}

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
    let package = Arc::new(Package::open(&args.model)?);
    let model = package.model()?;
    let reason = CoreMLModel::from_package(package.clone(), &LoadOptions::new()).err();
    let inspection = inspect(&package, model, reason.map(|error| error.to_string()));
    let mut stdout = term::out();
    if args.json {
        writeln!(stdout, "{}", serde_json::to_string_pretty(&inspection)?)?;
    } else {
        let text = text(&inspection, term::width());
        write!(stdout, "{}", printable::lines(&text, LONGEST_TEXT))?;
    }
    Ok(())
}

fn inspect(package: &Package, model: &Model, reason: Option<String>) -> Inspection {
    let description = model.description.clone();
    let program = model.program().map(|program| &**program);
    let functions = match description.functions.as_slice() {
        [] => description.function(&description.default_function).into_iter().collect(),
        functions => functions.to_vec(),
    };
    let opset = |program: &Program| {
        let opset = |(name, function): (&String, &coreml_format::mil::Function)| {
            (name.clone(), function.opset.to_string())
        };
        program.functions.iter().map(opset).collect()
    };
    Inspection {
        path: package.path().display().to_string(),
        container: package.kind().to_string(),
        model_kind: model.kind,
        kind: model.kind_in_words().to_string(),
        runs: reason.is_none(),
        reason,
        specification_version: Some(description.specification_version)
            .filter(|&stated| stated != 0),
        default_function: description.default_function,
        functions,
        metadata: description.metadata,
        contents: Contents::of(model),
        opsets: program.map(opset).unwrap_or_default(),
        operations: program.map(operations).unwrap_or_default(),
        weights: program.map(weights::encodings).unwrap_or_default(),
    }
}

/// Operators by how often they occur, the most frequent first.
fn operations(program: &Program) -> Vec<OperationCount> {
    let mut counts: BTreeMap<String, OperationCount> = BTreeMap::new();
    for function in program.functions.values() {
        count(&function.block, function.opset, &mut counts);
    }
    let mut counts: Vec<OperationCount> = counts.into_values().collect();
    counts.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.operator.cmp(&b.operator)));
    counts
}

fn count(block: &Block, opset: Opset, counts: &mut BTreeMap<String, OperationCount>) {
    for operation in &block.operations {
        let operator = &operation.operator;
        let entry = counts.entry(operator.clone()).or_insert_with(|| OperationCount {
            operator: operator.clone(),
            count: 0,
            supported: true,
            hint: String::new(),
        });
        entry.count += 1;
        if !supports_operation(operator, opset) {
            entry.supported = false;
            entry.hint = operation_hint(operator, opset);
        }
        operation.blocks.iter().for_each(|inner| count(inner, opset, counts));
    }
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
    text.push_str(&inspection.contents.text(width));
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
    for OperationCount { operator, count, supported, hint } in operations {
        let note = match (supported, hint.as_str()) {
            (true, _) => String::new(),
            (false, "") => "not supported".to_owned(),
            (false, hint) => format!("not supported; {}", printable_message(hint)),
        };
        table.row([count.to_string(), printable_name(operator).into_owned(), note]);
    }
    table
}

fn weight_rows(weights: &[Encoding]) -> Table {
    let mut table = Table::new(&["size", "tensors", "stored as"]).right(&[0, 1]);
    for Encoding { encoding, tensors, bytes } in weights {
        let size = HumanBytes(*bytes as u64).to_string();
        table.row([size, tensors.to_string(), printable_name(encoding).into_owned()]);
    }
    table
}
