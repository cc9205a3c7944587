//! MIL, the language of ML Programs: one representation, [`Program`], with two readers and a
//! printer.

mod from_proto;
mod from_text;
mod immediate;
mod lexer;
mod program;
mod text_value;
mod to_text;
mod types;
mod validate;
mod value;
mod value_to_text;

pub(crate) use from_proto::from_proto;
pub use from_text::from_text;
pub use program::{Argument, Binding, Block, Function, NamedValueType, Operation, Opset, Program};
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
