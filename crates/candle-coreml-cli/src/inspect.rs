//! `inspect`: what a model is made of, and how a function of it is run.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;

use anyhow::Result;
use candle_coreml::description::{FeatureDescription, FunctionDescription, Metadata};
use candle_coreml::{CoreMLModel, LoadOptions, operation_hint, supports_operation};
use coreml_format::mil::{Block, Opset, Program};
use coreml_format::{Model, Package};
use serde::Serialize;

use crate::args::InspectArgs;
use crate::contents::Contents;
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
    specification_version: i32,
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
    let model = CoreMLModel::load(&args.model, &options)?;
    let text = model.plan()?;
    let mut stdout = term::out();
    if args.json {
        let path = args.model.display().to_string();
        let function = &model.function_description().name;
        let plan = Plan { path, function, plan: text.lines().collect() };
        writeln!(stdout, "{}", serde_json::to_string_pretty(&plan)?)?;
    } else {
        write!(stdout, "{text}")?;
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
        print(&mut stdout, &inspection)?;
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
        specification_version: description.specification_version,
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

fn print(out: &mut impl Write, inspection: &Inspection) -> io::Result<()> {
    writeln!(out, "{}", inspection.path)?;
    write!(out, "{} in a {}", inspection.kind, inspection.container)?;
    match inspection.specification_version {
        // Compiled models of classic kinds do not state one.
        0 => writeln!(out)?,
        version => writeln!(out, ", specification version {version}")?,
    }
    match &inspection.reason {
        None => writeln!(out, "Runs here")?,
        Some(reason) => writeln!(out, "Does not run here: {reason}")?,
    }
    for function in &inspection.functions {
        print_function(out, function, inspection)?;
    }
    print_metadata(out, &inspection.metadata)?;
    inspection.contents.print(out)?;
    if !inspection.operations.is_empty() {
        writeln!(out, "\nOperations")?;
    }
    for OperationCount { operator, count, supported, hint } in &inspection.operations {
        let note = if *supported { "" } else { "  not supported" };
        let separator = if hint.is_empty() { "" } else { "; " };
        writeln!(out, "{count:>8}  {operator}{note}{separator}{hint}")?;
    }
    if !inspection.weights.is_empty() {
        writeln!(out, "\nWeights")?;
    }
    for Encoding { encoding, tensors, bytes } in &inspection.weights {
        writeln!(out, "{bytes:>12} bytes in {tensors} tensors: {encoding}")?;
    }
    Ok(())
}

fn print_function(
    out: &mut impl Write,
    function: &FunctionDescription,
    inspection: &Inspection,
) -> io::Result<()> {
    let opset = inspection.opsets.get(&function.name);
    let opset = opset.map_or_else(String::new, |opset| format!(" ({opset})"));
    let default = if function.name == inspection.default_function { ", the default" } else { "" };
    if inspection.model_kind == "mlProgram" {
        writeln!(out, "\nFunction {}{opset}{default}", function.name)?;
    } else {
        writeln!(out, "\nFeatures")?;
    }
    print_features(out, "input", &function.inputs)?;
    print_features(out, "output", &function.outputs)?;
    print_features(out, "state", &function.states)
}

fn print_features(
    out: &mut impl Write,
    role: &str,
    features: &[FeatureDescription],
) -> io::Result<()> {
    for feature in features {
        let optional = if feature.optional { ", optional" } else { "" };
        writeln!(out, "  {role:<6} {}: {}{optional}", feature.name, feature.ty)?;
    }
    Ok(())
}

fn print_metadata(out: &mut impl Write, metadata: &Metadata) -> io::Result<()> {
    let fields = [
        ("description", &metadata.short_description),
        ("version", &metadata.version),
        ("author", &metadata.author),
        ("license", &metadata.license),
    ];
    let fields = fields.into_iter().filter(|(_, value)| !value.is_empty());
    let own = metadata.user_defined.iter().map(|(key, value)| (key.as_str(), value));
    let all: Vec<(&str, &String)> = fields.chain(own).collect();
    if !all.is_empty() {
        writeln!(out, "\nMetadata")?;
    }
    for (key, value) in all {
        writeln!(out, "  {key}: {value}")?;
    }
    Ok(())
}
