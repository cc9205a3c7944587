//! The operations that the engine computes, one file a family as coremltools parts them. Each file
//! ends with its `OPS` table; adding an operation edits one file. See `docs/adding-an-op.md`.

mod activation;
mod attention;
mod band_part;
mod compression;
mod concat;
mod conv;
mod copy;
mod cumsum;
mod einsum;
mod elementwise_binary;
mod elementwise_unary;
mod gated;
mod image_resizing;
mod linear;
mod list;
mod matmul;
mod movement;
mod non_maximum_suppression;
mod non_zero;
mod normalization;
mod one_hot;
mod pad;
mod pool;
mod quantization;
mod random;
mod recurrent;
mod reduction;
mod reverse_sequence;
mod rotary;
mod scatter_gather;
mod select;
mod slice;
mod space_to_batch;
mod tensor_operation;
mod tensor_transformation;
mod topk;
mod window;

pub(crate) use activation::Softmax;
pub(crate) use attention::Attention;
pub(crate) use concat::Concat;
pub(crate) use copy::{Copy, Widen};
pub(crate) use elementwise_binary::{Binary, ElementwiseBinary};
pub(crate) use elementwise_unary::{Cast, Elementwise, Unary};
pub(crate) use gated::Gated;
pub(crate) use matmul::Matmul;
pub(crate) use normalization::{LayerNorm, RmsNorm};
pub(crate) use reduction::{Reduce, Reduction};
pub(crate) use rotary::Rotary;
pub(crate) use select::Select;
pub(crate) use slice::Slice;
pub(crate) use tensor_operation::Tile;
pub(crate) use tensor_transformation::{Order, Reorder, Reshape, Rule as ReshapeRule, Zeros};
pub(crate) use topk::TopK;

use coreml_format::mil::Opset;

use crate::definitions::{self, Definition};
use crate::op::OpDef;

const FAMILIES: &[&[OpDef]] = &[
    activation::OPS,
    attention::OPS,
    band_part::OPS,
    compression::OPS,
    conv::OPS,
    cumsum::OPS,
    einsum::OPS,
    elementwise_binary::OPS,
    elementwise_unary::OPS,
    image_resizing::OPS,
    linear::OPS,
    list::OPS,
    matmul::OPS,
    non_maximum_suppression::OPS,
    non_zero::OPS,
    normalization::OPS,
    pool::OPS,
    quantization::OPS,
    random::OPS,
    one_hot::OPS,
    recurrent::OPS,
    reduction::OPS,
    reverse_sequence::OPS,
    scatter_gather::OPS,
    select::OPS,
    slice::OPS,
    space_to_batch::OPS,
    tensor_operation::OPS,
    tensor_transformation::OPS,
    topk::OPS,
];

/// Operators that are no operations of a plan: binding, states, control flow and the end of a classifier
/// are the passes' own business.
const STRUCTURAL: &[&str] = &[
    "const",
    "cond",
    "while_loop",
    "read_state",
    "write_state",
    "coreml_update_state",
    "classify",
];

/// Whether the engine computes an operator in an opset.
pub(crate) enum Support {
    /// It does: the version's definition, and how it is bound.
    Computed(&'static Definition, &'static OpDef),
    /// It is no operation of a plan, but a part of the program's structure.
    Structural,
    /// There is such an operator, but this version of it is not computed.
    Missing(&'static Definition),
    /// No operator has this name in the opset.
    Unknown,
}

impl Support {
    /// What an error says besides.
    pub(crate) fn hint(&self) -> String {
        match self {
            Support::Missing(definition) if computes_another_version(definition) => format!(
                "; the engine computes another version of it than that of {}",
                definition.since
            ),
            Support::Unknown => "; coremltools knows no such operator there".to_owned(),
            _ => String::new(),
        }
    }

    /// Whether a program with it can run.
    pub(crate) fn is_supported(&self) -> bool {
        matches!(self, Support::Computed(..) | Support::Structural)
    }
}

fn computes_another_version(definition: &Definition) -> bool {
    all().any(|def| def.name == definition.name)
}

fn all() -> impl Iterator<Item = &'static OpDef> {
    FAMILIES.iter().flat_map(|family| family.iter())
}

/// Whether the engine computes the operator that a name means in an opset: the newest definition not
/// above the opset, and no older one.
pub(crate) fn support(name: &str, opset: Opset) -> Support {
    let Some(definition) = definitions::lookup(name, opset) else { return Support::Unknown };
    if STRUCTURAL.contains(&name) {
        return Support::Structural;
    }
    match implementation(definition) {
        Some(def) => Support::Computed(definition, def),
        None => Support::Missing(definition),
    }
}

/// How the engine binds a version of an operator, if it computes it.
pub(crate) fn implementation(definition: &Definition) -> Option<&'static OpDef> {
    all().find(|def| def.name == definition.name && def.since == definition.since)
}

/// Whether the engine computes a version of an operator.
pub(crate) fn is_computed(definition: &Definition) -> bool {
    STRUCTURAL.contains(&definition.name) || implementation(definition).is_some()
}

#[cfg(test)]
mod element_types;

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashSet};

    use coreml_format::Package;
    use coreml_kernels::{Context, Workers};

    use super::*;
    use crate::op::read_arguments;
    use crate::plan::Options;
    use crate::plan::bind::bind;
    use crate::weights::Weights;
    use crate::{fixtures, value::Shape};

    #[test]
    fn every_version_of_an_operator_has_a_case() {
        let mut tested = HashSet::new();
        for program in fixtures::operations() {
            for function in program.functions.values() {
                if let Support::Computed(_, def) =
                    support(fixtures::operator(function), function.opset)
                {
                    tested.insert((def.name, def.since));
                }
            }
        }
        let missing = all().filter(|def| !tested.contains(&(def.name, def.since)));
        let missing: Vec<String> =
            missing.map(|def| format!("`{}` ({})", def.name, def.since)).collect();
        assert!(missing.is_empty(), "no case for {}", missing.join(", "));
    }

    /// Over all cases, binding asks for every argument of every version's definition.
    #[test]
    fn every_argument_of_a_definition_is_read() {
        let context = Context::new(Workers::serial());
        read_arguments::taken();
        for program in fixtures::operations() {
            let weights =
                Weights::new(Package::from_program(program).unwrap(), crate::Limits::new())
                    .unwrap();
            for (name, function) in &weights.program().functions {
                let inputs = fixtures::defaults(weights.package(), name, function);
                let shapes: Vec<Option<Shape>> =
                    inputs.unwrap_or_default().into_iter().map(|(shape, _)| Some(shape)).collect();
                bind(name, function, &shapes, &weights, &context, Options::default())
                    .unwrap_or_else(|error| panic!("{name}: {error}"));
            }
        }
        let read = read_arguments::taken();
        let mut wrong = Vec::new();
        for definition in definitions::definitions() {
            let Some(def) = implementation(definition) else { continue };
            let asked = read.get(&(def.name, def.since)).cloned().unwrap_or_default();
            let defined: BTreeSet<&str> =
                definition.arguments.iter().map(|argument| argument.name).collect();
            let unread: Vec<&&str> = defined.difference(&asked).collect();
            if !unread.is_empty() {
                wrong.push(format!("`{}` ({}): {unread:?}", def.name, def.since));
            }
        }
        assert!(wrong.is_empty(), "arguments that binding does not ask for:\n{}", wrong.join("\n"));
    }

    #[test]
    fn every_row_is_a_version_of_the_table_and_stands_once() {
        let mut seen = HashSet::new();
        for def in all() {
            assert!(seen.insert((def.name, def.since)), "`{}` ({}) twice", def.name, def.since);
            let defined = definitions::versions(def.name).iter().any(|d| d.since == def.since);
            assert!(defined, "`{}` has no version of {}", def.name, def.since);
        }
    }

    #[test]
    fn a_version_that_is_not_computed_is_refused_though_an_older_one_is() {
        let since = |name, opset| match support(name, opset) {
            Support::Computed(definition, def) => {
                assert_eq!(definition.since, def.since);
                Some(def.since)
            }
            _ => None,
        };
        assert_eq!(since("gather", Opset::Ios15), Some(Opset::Ios15));
        assert_eq!(since("gather", Opset::Ios16), Some(Opset::Ios16));
        assert_eq!(since("gather", Opset::Ios26), Some(Opset::Ios17));
        assert!(matches!(support("slice_update", Opset::Ios17), Support::Unknown));
        assert!(matches!(support("no_such_operator", Opset::Ios26), Support::Unknown));
        for definition in definitions::definitions() {
            match support(definition.name, definition.since) {
                Support::Computed(found, _) | Support::Missing(found) => {
                    assert_eq!(found, definition);
                }
                Support::Structural => {}
                Support::Unknown => panic!("`{}` is not found", definition.name),
            }
        }
    }
}
