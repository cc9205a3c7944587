//! How a program's weights are stored.

use std::collections::{BTreeMap, BTreeSet};

use coreml_format::mil::{Binding, Block, Operation, Program, Value};
use serde::Serialize;

/// Tensors of a weight file that are stored in the same way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct WeightEncoding {
    /// What they are: `fp16`, or for compressed weights `constexpr_lut_to_dense indices uint6`.
    pub encoding: String,
    /// How many there are; functions that share a tensor count it once.
    pub tensors: usize,
    /// Their size in the file.
    pub bytes: usize,
}

/// The encodings of all tensors in weight files, by name.
pub(super) fn encodings(program: &Program) -> Vec<WeightEncoding> {
    let mut collector = Collector::default();
    for function in program.functions.values() {
        let mut uses = BTreeMap::new();
        collect_uses(&function.block, &mut uses);
        collector.collect(&function.block, &uses);
    }
    collector.encodings.into_values().collect()
}

/// For values that a decompressing operation takes: operator and parameter.
type Uses<'a> = BTreeMap<&'a str, (&'a str, &'a str)>;

fn is_decompression(operation: &Operation) -> bool {
    operation.operator.starts_with("constexpr_")
}

fn collect_uses<'a>(block: &'a Block, uses: &mut Uses<'a>) {
    for operation in &block.operations {
        operation.blocks.iter().for_each(|inner| collect_uses(inner, uses));
        for (parameter, argument) in operation.inputs.iter().filter(|_| is_decompression(operation))
        {
            for binding in &argument.0 {
                if let Binding::Name(name) = binding {
                    uses.insert(name, (&operation.operator, parameter));
                }
            }
        }
    }
}

#[derive(Default)]
struct Collector {
    seen: BTreeSet<(String, u64)>,
    encodings: BTreeMap<String, WeightEncoding>,
}

impl Collector {
    fn collect(&mut self, block: &Block, uses: &Uses) {
        for operation in &block.operations {
            operation.blocks.iter().for_each(|inner| self.collect(inner, uses));
            for (parameter, argument) in &operation.inputs {
                let role = if is_decompression(operation) {
                    Some((operation.operator.as_str(), parameter.as_str()))
                } else {
                    let output = operation.outputs.first();
                    output.and_then(|output| uses.get(output.name.as_str()).copied())
                };
                argument.0.iter().for_each(|binding| self.add(binding, role));
            }
        }
    }

    fn add(&mut self, binding: &Binding, role: Option<(&str, &str)>) {
        let Binding::Value(Value::BlobFile(blob)) = binding else { return };
        if !self.seen.insert((blob.file.clone(), blob.offset)) {
            return;
        }
        let element = blob.ty.element;
        let encoding = match role {
            Some((operator, parameter)) => format!("{operator} {parameter} {element}"),
            None => element.to_string(),
        };
        let bytes = blob.ty.element_count().and_then(|count| element.storage_bytes(count));
        let entry = self.encodings.entry(encoding.clone()).or_default();
        entry.encoding = encoding;
        entry.tensors += 1;
        entry.bytes = entry.bytes.saturating_add(bytes.unwrap_or(0));
    }
}
