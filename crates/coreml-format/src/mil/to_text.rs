//! To MIL text: the inverse of [`from_text`](super::from_text).

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use super::value_to_text::{ValueText, joined};
use super::{Argument, Binding, Block, Function, NamedValueType, Operation, Opset, Program, Value};

/// One level of indentation.
const INDENT: &str = "    ";

/// The program as MIL text, in the form that compiled models have it, one operation a line.
/// [`from_text`](super::from_text) reads the same program from it, with these exceptions, for which
/// MIL text has no words: a name that is no identifier of MIL is printed as it is; a NaN comes back
/// without its payload; a dictionary's entries get the type of the first one, with `?` where
/// the sizes of others differ.
pub fn to_text(program: &Program) -> String {
    ProgramText(program).to_string()
}

struct ProgramText<'a>(&'a Program);

impl Display for ProgramText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        // 1.3 is the newest version that readers know; it says nothing about the opset.
        f.write_str("program(1.3)\n")?;
        if !self.0.attributes.is_empty() {
            attributes(f, self.0.attributes.iter())?;
            f.write_str("\n")?;
        }
        f.write_str("{\n")?;
        for (name, function) in &self.0.functions {
            self::function(f, name, function)?;
        }
        f.write_str("}\n")
    }
}

/// `func main<ios18>(parameters) [attributes] { statements } -> (outputs);`
fn function(f: &mut Formatter<'_>, name: &str, function: &Function) -> fmt::Result {
    write!(f, "{INDENT}func {name}<{}>", function.opset)?;
    parameters(f, &function.inputs)?;
    if !function.attributes.is_empty() {
        f.write_str(" ")?;
        attributes(f, function.attributes.iter())?;
    }
    f.write_str(" ")?;
    block(f, &function.block, function.opset, 1)?;
    f.write_str(";\n")
}

/// `{ statements } -> (outputs)`, the closing brace `depth` levels deep.
fn block(f: &mut Formatter<'_>, block: &Block, opset: Opset, depth: usize) -> fmt::Result {
    f.write_str("{\n")?;
    for operation in &block.operations {
        indent(f, depth + 1)?;
        self::operation(f, operation, opset, depth + 1)?;
        f.write_str(";\n")?;
    }
    indent(f, depth)?;
    f.write_str("} -> (")?;
    joined(f, &block.outputs, |f, name| f.write_str(name))?;
    f.write_str(")")
}

/// `[outputs =] operator(arguments)[attributes] nested blocks`
fn operation(
    f: &mut Formatter<'_>,
    operation: &Operation,
    opset: Opset,
    depth: usize,
) -> fmt::Result {
    if !operation.outputs.is_empty() {
        joined(f, &operation.outputs, named_type)?;
        f.write_str(" = ")?;
    }
    let mut arguments = Vec::new();
    let mut attributes: BTreeMap<&String, &Value> = operation.attributes.iter().collect();
    for (name, argument) in &operation.inputs {
        match attribute_value(operation, opset, name, argument) {
            Some(value) => drop(attributes.insert(name, value)),
            None => arguments.push((name, argument)),
        }
    }
    write!(f, "{}(", operation.operator)?;
    joined(f, arguments, argument)?;
    f.write_str(")")?;
    if !attributes.is_empty() {
        self::attributes(f, attributes)?;
    }
    for (index, nested) in operation.blocks.iter().enumerate() {
        f.write_str(if index > 0 { ", " } else { " " })?;
        if !nested.inputs.is_empty() {
            parameters(f, &nested.inputs)?;
            f.write_str(" ")?;
        }
        block(f, nested, opset, depth)?;
    }
    Ok(())
}

/// The value of an argument that files keep among the attributes: those that the readers move, see
/// [`super::move_arguments_from_attributes`].
fn attribute_value<'a>(
    operation: &Operation,
    opset: Opset,
    name: &str,
    argument: &'a Argument,
) -> Option<&'a Value> {
    let moved = match operation.operator.as_str() {
        "const" => name == "val",
        operator => operator.starts_with("constexpr_") && opset < Opset::Ios18 && name != "name",
    };
    match argument.0.as_slice() {
        [Binding::Value(value)] if moved => Some(value),
        _ => None,
    }
}

fn argument(
    f: &mut Formatter<'_>,
    (name, Argument(bindings)): (&String, &Argument),
) -> fmt::Result {
    write!(f, "{name} = ")?;
    if let [single] = bindings.as_slice() {
        return binding(f, single);
    }
    f.write_str("(")?;
    joined(f, bindings, binding)?;
    f.write_str(")")
}

fn binding(f: &mut Formatter<'_>, binding: &Binding) -> fmt::Result {
    match binding {
        Binding::Name(name) => f.write_str(name),
        Binding::Value(value) => ValueText(value).fmt(f),
    }
}

/// `[name = value, …]`
fn attributes<'a>(
    f: &mut Formatter<'_>,
    attributes: impl IntoIterator<Item = (&'a String, &'a Value)>,
) -> fmt::Result {
    f.write_str("[")?;
    joined(f, attributes, |f, (name, value)| write!(f, "{name} = {}", ValueText(value)))?;
    f.write_str("]")
}

/// `(type name, …)`
fn parameters(f: &mut Formatter<'_>, values: &[NamedValueType]) -> fmt::Result {
    f.write_str("(")?;
    joined(f, values, named_type)?;
    f.write_str(")")
}

fn named_type(f: &mut Formatter<'_>, value: &NamedValueType) -> fmt::Result {
    write!(f, "{} {}", value.ty, value.name)
}

fn indent(f: &mut Formatter<'_>, depth: usize) -> fmt::Result {
    (0..depth).try_for_each(|_| f.write_str(INDENT))
}
