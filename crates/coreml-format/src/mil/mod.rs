//! MIL, the language of ML Programs: one representation, [`Program`], with two readers and two
//! writers.

use std::collections::BTreeMap;

mod form;
mod from_proto;
mod from_text;
mod immediate;
mod lexer;
mod program;
mod text_value;
mod to_proto;
mod to_text;
mod types;
mod validate;
mod value;
mod value_to_text;

pub(crate) use form::TextVersion;
pub(crate) use from_proto::from_proto;
pub use from_text::from_text;
pub(crate) use lexer::is_name;
pub use program::{Argument, Binding, Block, Function, NamedValueType, Operation, Opset, Program};
pub(crate) use to_proto::to_proto;
pub(crate) use to_text::to_compiled_text;
pub use to_text::to_text;
pub use types::{Dimension, ElementType, TensorType, ValueType};
pub use validate::validate;
pub use value::{BlobFileValue, TensorData, TensorValue, Value};

/// How deep types, values and blocks may nest in MIL text; protobuf has the decoder's own limit.
const MAX_DEPTH: usize = 64;

/// Moves to the inputs what files keep among the attributes of a `const` or an iOS 16 `constexpr_*`
/// operation, so that an operation's arguments are found in one place.
fn move_arguments_from_attributes(operation: &mut Operation) {
    let constexpr = operation.operator.starts_with("constexpr_");
    if !constexpr && operation.operator != "const" {
        return;
    }
    let attributes = std::mem::take(&mut operation.attributes);
    for (name, value) in attributes {
        if name == "val" || (constexpr && name != "name") {
            operation.inputs.entry(name).or_insert(Argument(vec![Binding::Value(value)]));
        } else {
            operation.attributes.insert(name, value);
        }
    }
}

/// The value of an argument that files keep among the attributes: those that the readers move, see
/// [`move_arguments_from_attributes`].
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

/// The arguments and the attributes of an operation as files keep them apart.
fn as_in_files(
    operation: &Operation,
    opset: Opset,
) -> (Vec<(&String, &Argument)>, BTreeMap<&String, &Value>) {
    let mut arguments = Vec::new();
    let mut attributes: BTreeMap<&String, &Value> = operation.attributes.iter().collect();
    for (name, argument) in &operation.inputs {
        match attribute_value(operation, opset, name, argument) {
            Some(value) => drop(attributes.insert(name, value)),
            None => arguments.push((name, argument)),
        }
    }
    (arguments, attributes)
}
