//! How often each operator occurs, under the name that Apple's compiler has for its version.

use std::collections::BTreeMap;

use crate::mil::Opset::{self, Ios16, Ios17, Ios18};
use crate::mil::{Block, Program};

/// Operators with the opsets that Apple's compiler has a version of them for, besides the first one, as
/// far as its files have shown. These are others than those of coremltools.
const VERSIONS: &[(&str, &[Opset])] = &[
    ("add", &[Ios16, Ios17]),
    ("cast", &[Ios16, Ios17]),
    ("clip", &[Ios16, Ios17]),
    ("concat", &[Ios17]),
    ("constexpr_affine_dequantize", &[Ios16]),
    ("constexpr_lut_to_dense", &[Ios16]),
    ("conv", &[Ios16, Ios17]),
    ("einsum", &[Ios16]),
    ("expand_dims", &[Ios17]),
    ("floor", &[Ios17]),
    ("floor_div", &[Ios17]),
    ("gather", &[Ios17]),
    ("gather_along_axis", &[Ios17]),
    ("gelu", &[Ios16]),
    ("greater", &[Ios17]),
    ("greater_equal", &[Ios17]),
    ("layer_norm", &[Ios17]),
    ("less", &[Ios17]),
    ("linear", &[Ios17]),
    ("log", &[Ios17]),
    ("logical_and", &[Ios17]),
    ("logical_not", &[Ios17]),
    ("lstm", &[Ios16, Ios17]),
    ("matmul", &[Ios17]),
    ("maximum", &[Ios17]),
    ("minimum", &[Ios17]),
    ("mul", &[Ios16, Ios17]),
    ("pow", &[Ios16, Ios17]),
    ("reduce_argmax", &[Ios17]),
    ("reduce_sum", &[Ios16]),
    ("relu", &[Ios16, Ios18]),
    ("reshape", &[Ios17]),
    ("sigmoid", &[Ios16]),
    ("silu", &[Ios16]),
    ("slice_by_index", &[Ios17]),
    ("softmax", &[Ios16]),
    ("sqrt", &[Ios16]),
    ("squeeze", &[Ios17]),
    ("sub", &[Ios17]),
    ("topk", &[Ios17]),
    ("transpose", &[Ios17]),
];

/// Operations of a function by operator, without constants.
pub(super) fn histogram(program: &Program, function: &str) -> BTreeMap<String, usize> {
    let mut histogram = BTreeMap::new();
    if let Some(function) = program.functions.get(function) {
        count(&function.block, function.opset, &mut histogram);
    }
    histogram
}

fn count(block: &Block, opset: Opset, histogram: &mut BTreeMap<String, usize>) {
    for operation in &block.operations {
        if operation.operator != "const" {
            *histogram.entry(name(&operation.operator, opset)).or_default() += 1;
        }
        operation.blocks.iter().for_each(|nested| count(nested, opset, histogram));
    }
}

/// `Transpose`, or `Ios17.transpose` for a later version.
fn name(operator: &str, opset: Opset) -> String {
    let known = VERSIONS.iter().find(|row| row.0 == operator).map_or(&[][..], |row| row.1);
    match known.iter().rev().find(|version| **version <= opset) {
        None => camel_case(operator, true),
        Some(version) => {
            format!("{}.{}", camel_case(version.name(), true), camel_case(operator, false))
        }
    }
}

fn camel_case(name: &str, mut capital: bool) -> String {
    let mut words = String::with_capacity(name.len());
    for letter in name.chars() {
        match letter {
            '_' => capital = true,
            letter if capital => {
                words.extend(letter.to_uppercase());
                capital = false;
            }
            letter => words.push(letter),
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From files of Apple's compiler.
    #[test]
    fn operators_are_named_with_their_versions() {
        for (operator, opset, expected) in [
            ("slice_by_index", Opset::Ios15, "SliceByIndex"),
            ("lstm", Opset::Ios15, "Lstm"),
            ("slice_by_index", Ios16, "SliceByIndex"),
            ("constexpr_lut_to_dense", Ios16, "Ios16.constexprLutToDense"),
            ("cast", Ios17, "Ios17.cast"),
            ("relu", Ios17, "Ios16.relu"),
            ("relu", Ios18, "Ios18.relu"),
            ("range_1d", Ios17, "Range1d"),
        ] {
            assert_eq!(name(operator, opset), expected);
        }
    }
}
