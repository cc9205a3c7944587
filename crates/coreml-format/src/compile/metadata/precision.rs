//! The types that a function computes with and those that its weights are stored in, in words.

use std::collections::BTreeSet;

use crate::compile::weights::values;
use crate::mil::{Argument, Binding, Block, ElementType, Operation, Opset, Program, Value};

/// The types of all results but truth values and texts: `Float16`, or `Mixed (Float16, Int32)`.
pub(super) fn computed(program: &Program, function: &str) -> Option<String> {
    let mut types = BTreeSet::new();
    for_each_operation(program, function, &mut |operation, _| {
        let tensors = operation.outputs.iter().filter_map(|output| output.ty.as_tensor());
        types.extend(tensors.filter_map(|tensor| name(tensor.element)));
    });
    in_words(types)
}

/// The types of what lies in weight files, or how it is compressed.
pub(super) fn stored(program: &Program, function: &str) -> Option<String> {
    let mut types = BTreeSet::new();
    for_each_operation(program, function, &mut |operation, opset| {
        types.extend(stored_in(operation, opset));
    });
    in_words(types)
}

fn for_each_operation(
    program: &Program,
    function: &str,
    visit: &mut impl FnMut(&Operation, Opset),
) {
    if let Some(function) = program.functions.get(function) {
        in_block(&function.block, function.opset, visit);
    }
}

fn in_block(block: &Block, opset: Opset, visit: &mut impl FnMut(&Operation, Opset)) {
    for operation in &block.operations {
        visit(operation, opset);
        operation.blocks.iter().for_each(|nested| in_block(nested, opset, visit));
    }
}

fn stored_in(operation: &Operation, opset: Opset) -> Vec<String> {
    let of = |argument| Vec::from_iter(blob_type(operation, argument));
    match operation.operator.as_str() {
        "constexpr_lut_to_dense" => {
            let bits = palette_bits(operation).map(|bits| format!("Palettized ({bits} bits)"));
            let indices = of("indices").into_iter().filter(|_| opset >= Opset::Ios18);
            bits.into_iter().chain(indices).collect()
        }
        "constexpr_sparse_to_dense" => vec!["Sparse".into()],
        "constexpr_affine_dequantize" => of("quantized_data"),
        "constexpr_blockwise_shift_scale" => of("data"),
        "constexpr_cast" => of("source_val"),
        _ => values(operation).filter_map(type_in_blob).collect(),
    }
}

/// The bits that a table of so many entries takes to be indexed.
fn palette_bits(operation: &Operation) -> Option<u32> {
    argument(operation, "lut")?.tensor_type()?.element_count()?.checked_ilog2()
}

fn blob_type(operation: &Operation, name: &str) -> Option<String> {
    argument(operation, name).and_then(type_in_blob)
}

fn argument<'a>(operation: &'a Operation, name: &str) -> Option<&'a Value> {
    let Argument(bindings) = operation.inputs.get(name)?;
    match bindings.as_slice() {
        [Binding::Value(value)] => Some(value),
        _ => None,
    }
}

fn type_in_blob(value: &Value) -> Option<String> {
    match value {
        Value::BlobFile(blob) => name(blob.ty.element),
        _ => None,
    }
}

fn in_words(types: BTreeSet<String>) -> Option<String> {
    let types: Vec<String> = types.into_iter().collect();
    match types.as_slice() {
        [] => None,
        [only] => Some(only.clone()),
        several => Some(format!("Mixed ({})", several.join(", "))),
    }
}

/// `Float16`, `UInt8`, …; none for truth values and texts, which do not count.
fn name(element: ElementType) -> Option<String> {
    match element {
        ElementType::Bool | ElementType::String => None,
        // The variants are named as Apple's compiler names the types.
        element => Some(format!("{element:?}")),
    }
}
