"""The table as Rust source."""

from .defaults import REQUIRED, Computed

WIDTH = 100
HEAD = """\
//! The rows of the table. Written from coremltools by `python -m op_definitions` (see
//! `tools/definitions`): do not edit.

use coreml_format::mil::Opset::{Ios15, Ios16, Ios17, Ios18};

use super::Default::{Absent, Bool, Computed, Float, Int, String};
use super::Kind::{Any, List, State, Tensors};
use super::Outputs::{Fixed, Several, UpTo};
use super::{Definition, constant, constant_of, operator, other, tensor};
use types::*;

"""
ROWS = """\
/// One version of an operator a row, in order of name and opset.
#[rustfmt::skip]
pub(super) static DEFINITIONS: &[Definition] = &[
{}
];

"""
SETS_OF_TYPES = """\
/// The sets of element types that rows speak of.
#[rustfmt::skip]
mod types {{
    use coreml_format::mil::ElementType::{{self, *}};

    type Types = &'static [ElementType];

{}
}}
"""
# Element types by their names in MIL text, in the order in which sets list them.
ELEMENTS = {
    "bool": "Bool",
    "string": "String",
    "fp16": "Float16",
    "fp32": "Float32",
    "int4": "Int4",
    "int8": "Int8",
    "int16": "Int16",
    "int32": "Int32",
    "uint1": "UInt1",
    "uint2": "UInt2",
    "uint3": "UInt3",
    "uint4": "UInt4",
    "uint6": "UInt6",
    "uint8": "UInt8",
    "uint16": "UInt16",
    "uint32": "UInt32",
}
# Names for sets whose members' names would make too long a one.
SETS = {
    "bool fp16 fp32 int8 int16 int32 uint8 uint16": "VALUES_17",
    "fp16 fp32 int8 int16 int32 uint8 uint16": "NUMBERS_17",
    "fp16 fp32 int4 int8 uint4 uint8": "QUANTIZED",
    "int8 int16 int32 uint8 uint16": "INDICES_17",
    "uint1 uint2 uint3 uint4 uint6 uint8": "LUT_INDICES",
}


def table(definitions):
    """The source of `table.rs`."""
    sets = {argument.types for row in definitions for argument in row.arguments if argument.types}
    constants = "\n".join(type_set(members) for members in sorted(sets, key=set_name))
    rows = "\n".join(row(definition) for definition in definitions)
    return HEAD + ROWS.format(rows) + SETS_OF_TYPES.format(constants)


def spelled(members):
    if unknown := members - ELEMENTS.keys():
        raise SystemExit(f"element types without a name in Rust: {sorted(unknown)}")
    return " ".join(name for name in ELEMENTS if name in members)


def set_name(members):
    words = spelled(members)
    return SETS.get(words) or words.replace(" ", "_").upper()


def type_set(members):
    listed = ", ".join(ELEMENTS[name] for name in spelled(members).split())
    return f"    pub(super) const {set_name(members)}: Types = &[{listed}];"


def row(definition):
    since, count = f"Ios{definition.since}", outputs(definition.outputs)
    start = f'    operator("{definition.name}", {since}, {count}, &['
    arguments = [argument(item) for item in definition.arguments]
    line = start + ", ".join(arguments) + "]),"
    if len(line) <= WIDTH:
        return line
    return start + "\n" + "".join(f"        {item},\n" for item in arguments) + "    ]),"


def outputs(count):
    if isinstance(count, tuple):
        return f"UpTo({count[1]})"
    return "Several" if isinstance(count, str) else f"Fixed({count})"


def argument(item):
    if item.kind == "Tensor":
        function = "constant" if item.constant else "tensor"
        text = f'{function}("{item.name}", {set_name(item.types)})'
    else:
        function = "constant_of" if item.constant else "other"
        text = f'{function}("{item.name}", {item.kind})'
    if item.parameter:
        text += f'.of("{item.parameter}")'
    if item.default is not REQUIRED:
        text += f".or({default(item.default)})"
    return text


def default(value):
    if value is None:
        return "Absent"
    if isinstance(value, Computed):
        return f'Computed("{value}")'
    if isinstance(value, bool):
        return f"Bool({str(value).lower()})"
    if isinstance(value, int):
        return f"Int({value})"
    if isinstance(value, float):
        return f"Float({value!r})".replace("e-0", "e-")
    if isinstance(value, str):
        return f'String("{value}")'
    raise SystemExit(f"a default of a type that the table has no word for: {value!r}")
