//! What a model of any kind is made of, and whether it runs here.

mod contents;
mod weights;

use std::collections::BTreeMap;
use std::sync::Arc;

use coreml_format::Package;
use coreml_format::description::{FunctionDescription, Metadata};
use coreml_format::mil::{Block, Function, Opset, Program};
use serde::Serialize;

pub use self::contents::{Contents, LayerCount, StageContents};
pub use self::weights::WeightEncoding;
use crate::backend::LoadOptions;
use crate::error::Result;
use crate::model::CoreMLModel;

/// What a model is made of. Serialized, it is what `candle-coreml inspect --json` prints.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Inspection {
    /// The path that the model was opened by.
    pub path: String,
    /// What holds the model, in words, e.g. `.mlpackage`.
    pub container: String,
    /// The model's kind, as [`Model::kind`](crate::Model::kind) has it.
    pub model_kind: &'static str,
    /// The kind in words.
    pub kind: String,
    /// Whether the model can be run here.
    pub runs: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Compiled models of classic kinds do not state one.
    pub specification_version: Option<i32>,
    /// The function that runs unless another is asked for.
    pub default_function: String,
    /// The interface of each function; that of the model itself for models of other kinds.
    pub functions: Vec<FunctionDescription>,
    /// Who made the model, and so on.
    pub metadata: Metadata,
    /// Layers, stages and labels.
    #[serde(flatten)]
    pub contents: Contents,
    /// The opset of each function. Of ML Programs only, as is what follows.
    pub opsets: BTreeMap<String, String>,
    /// The operators of all functions, the most frequent first.
    pub operations: Vec<OperationCount>,
    /// How the tensors in files of weights are stored.
    pub weights: Vec<WeightEncoding>,
}

/// How often an operator occurs in all functions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct OperationCount {
    /// The operator, e.g. `conv`.
    pub operator: String,
    /// How often it occurs, blocks of control flow included.
    pub count: usize,
    /// Whether the portable engine computes it.
    pub supported: bool,
    /// What to know besides where it does not.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hint: String,
}

/// Says what a model of any kind is made of. It is loaded to see whether it runs; nothing is computed.
///
/// ```no_run
/// use candle_coreml::{Package, inspect};
///
/// # fn main() -> candle_coreml::Result<()> {
/// let inspection = inspect(Package::open("model.mlpackage")?)?;
/// println!("{}, runs here: {}", inspection.kind, inspection.runs);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// When the model's file can't be read or decoded. That it can't be run is no error, but in
/// [`Inspection::reason`].
pub fn inspect(package: impl Into<Arc<Package>>) -> Result<Inspection> {
    let package = package.into();
    let model = package.model()?;
    let reason = CoreMLModel::from_package(package.clone(), &LoadOptions::new()).err();
    let description = model.description.clone();
    let functions = match description.functions.as_slice() {
        [] => description.function(&description.default_function).into_iter().collect(),
        functions => functions.to_vec(),
    };
    let program = model.program().map(|program| &**program);
    Ok(Inspection {
        path: package.path().display().to_string(),
        container: package.kind().to_string(),
        model_kind: model.kind,
        kind: model.kind_in_words().to_string(),
        runs: reason.is_none(),
        reason: reason.map(|error| error.to_string()),
        specification_version: Some(description.specification_version)
            .filter(|&stated| stated != 0),
        default_function: description.default_function,
        functions,
        metadata: description.metadata,
        contents: Contents::of(model),
        opsets: program.map(opsets).unwrap_or_default(),
        operations: program.map(operations).unwrap_or_default(),
        weights: program.map(weights::encodings).unwrap_or_default(),
    })
}

/// Bytes of the tensors in a model's files of weights.
///
/// # Errors
/// When the model can't be read.
pub(crate) fn weight_bytes(package: &Package) -> Result<u64> {
    let weights = package.model()?.program().map(|program| weights::encodings(program));
    Ok(weights.iter().flatten().map(|encoding| encoding.bytes as u64).sum())
}

fn opsets(program: &Program) -> BTreeMap<String, String> {
    let opset = |(name, function): (&String, &Function)| (name.clone(), function.opset.to_string());
    program.functions.iter().map(opset).collect()
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

/// Whether the portable engine computes an operator of an opset: `conv`, say. Combinations of
/// arguments that it does not take are reported when a model is loaded.
pub fn supports_operation(operator: &str, opset: Opset) -> bool {
    coreml_engine::supports(operator, opset)
}

/// What to know besides of an operator that [`supports_operation`] denies: that another version of it
/// is computed, or that the opset has none. Empty where there is nothing to say.
pub fn operation_hint(operator: &str, opset: Opset) -> String {
    coreml_engine::support_hint(operator, opset).trim_start_matches("; ").to_owned()
}
