//! To the messages of `MIL.proto`: the inverse of [`from_proto`](super::from_proto).

use super::value_to_text::{raw_bits, type_of};
use super::{
    Argument, Binding, Block, Dimension, ElementType, Function, NamedValueType, Operation, Opset,
    Program, TensorData, TensorType, TensorValue, Value, ValueType, as_in_files,
};
use crate::proto::mil as pb;

/// The version that coremltools writes; nothing reads it.
const VERSION: i64 = 1;

/// The message of a program.
pub(crate) fn to_proto(program: &Program) -> pb::Program {
    pb::Program {
        version: VERSION,
        functions: program.functions.iter().map(|(n, f)| (n.clone(), function(f))).collect(),
        doc_string: String::new(),
        attributes: program.attributes.iter().map(|(n, v)| (n.clone(), value(v))).collect(),
    }
}

fn function(function: &Function) -> pb::Function {
    let opset = function.opset.proto_tag();
    let block = block(&function.block, function.opset);
    pb::Function {
        inputs: function.inputs.iter().map(named_type).collect(),
        opset: opset.to_owned(),
        block_specializations: [(opset.to_owned(), block)].into(),
        attributes: function.attributes.iter().map(|(n, v)| (n.clone(), value(v))).collect(),
    }
}

fn block(block: &Block, opset: Opset) -> pb::Block {
    pb::Block {
        inputs: block.inputs.iter().map(named_type).collect(),
        outputs: block.outputs.clone(),
        operations: block.operations.iter().map(|op| operation(op, opset)).collect(),
        attributes: Default::default(),
    }
}

fn operation(operation: &Operation, opset: Opset) -> pb::Operation {
    let (arguments, attributes) = as_in_files(operation, opset);
    pb::Operation {
        r#type: operation.operator.clone(),
        inputs: arguments.into_iter().map(|(n, a)| (n.clone(), argument(a))).collect(),
        outputs: operation.outputs.iter().map(named_type).collect(),
        blocks: operation.blocks.iter().map(|nested| block(nested, opset)).collect(),
        attributes: attributes.into_iter().map(|(n, v)| (n.clone(), value(v))).collect(),
    }
}

fn argument(Argument(bindings): &Argument) -> pb::Argument {
    let binding = |binding: &Binding| pb::Binding {
        binding: Some(match binding {
            Binding::Name(name) => pb::BindingKind::Name(name.clone()),
            Binding::Value(constant) => pb::BindingKind::Value(value(constant)),
        }),
    };
    pb::Argument { arguments: bindings.iter().map(binding).collect() }
}

fn named_type(named: &NamedValueType) -> pb::NamedValueType {
    pb::NamedValueType { name: named.name.clone(), r#type: Some(value_type(&named.ty)) }
}

fn value_type(ty: &ValueType) -> pb::ValueType {
    let boxed = |ty: &ValueType| Some(Box::new(value_type(ty)));
    let kind = match ty {
        ValueType::Tensor(tensor) => pb::ValueTypeKind::Tensor(tensor_type(tensor)),
        ValueType::List(element, length) => pb::ValueTypeKind::List(Box::new(pb::ListType {
            r#type: boxed(element),
            length: Some(dimension(length)),
        })),
        ValueType::Tuple(types) => pb::ValueTypeKind::Tuple(pb::TupleType {
            types: types.iter().map(value_type).collect(),
        }),
        ValueType::Dictionary(key, value) => {
            pb::ValueTypeKind::Dictionary(Box::new(pb::DictionaryType {
                key_type: boxed(key),
                value_type: boxed(value),
            }))
        }
        ValueType::State(wrapped) => {
            pb::ValueTypeKind::State(Box::new(pb::StateType { wrapped_type: boxed(wrapped) }))
        }
    };
    pb::ValueType { r#type: Some(kind) }
}

fn tensor_type(ty: &TensorType) -> pb::TensorType {
    pb::TensorType {
        data_type: ty.element.code(),
        rank: ty.shape.len() as i64,
        dimensions: ty.shape.iter().map(dimension).collect(),
        attributes: Default::default(),
    }
}

fn dimension(dimension: &Dimension) -> pb::Dimension {
    let unknown = |variadic| pb::DimensionKind::Unknown(pb::UnknownDimension { variadic });
    pb::Dimension {
        dimension: Some(match dimension {
            Dimension::Fixed(size) => {
                pb::DimensionKind::Constant(pb::ConstantDimension { size: *size as u64 })
            }
            Dimension::Unknown => unknown(false),
            Dimension::Variadic => unknown(true),
        }),
    }
}

fn value(value: &Value) -> pb::Value {
    let kind = match value {
        Value::BlobFile(blob) => pb::ValueKind::BlobFile(pb::BlobFileValue {
            file_name: blob.file.clone(),
            offset: blob.offset,
        }),
        immediate => {
            pb::ValueKind::Immediate(pb::ImmediateValue { value: immediate_kind(immediate) })
        }
    };
    pb::Value {
        doc_string: String::new(),
        r#type: Some(value_type(&type_of(value))),
        value: Some(kind),
    }
}

fn immediate_kind(immediate: &Value) -> Option<pb::ImmediateKind> {
    let values = |values: &[Value]| pb::Values { values: values.iter().map(value).collect() };
    Some(match immediate {
        Value::Tensor(tensor) => {
            pb::ImmediateKind::Tensor(pb::TensorValue { value: Some(tensor_data(tensor)) })
        }
        Value::List(_, items) => pb::ImmediateKind::List(values(items)),
        Value::Tuple(items) => pb::ImmediateKind::Tuple(values(items)),
        Value::Dictionary(entries) => {
            let entry = |(key, entry): &(Value, Value)| pb::KeyValuePair {
                key: Some(value(key)),
                value: Some(value(entry)),
            };
            let values = entries.iter().map(entry).collect();
            pb::ImmediateKind::Dictionary(pb::DictionaryValue { values })
        }
        Value::BlobFile(_) => return None,
    })
}

/// The elements, in the field that coremltools writes those of this type to.
fn tensor_data(tensor: &TensorValue) -> pb::TensorValueKind {
    use ElementType::*;
    use pb::TensorValueKind as Kind;
    let bytes = match &tensor.data {
        TensorData::Bytes(bytes) => bytes,
        TensorData::Strings(strings) => {
            return Kind::Strings(pb::RepeatedStrings { values: strings.clone() });
        }
    };
    let bits = |index| raw_bits(bytes, index, tensor.ty.element.bits());
    let elements = (0..).map_while(bits);
    match tensor.ty.element {
        Bool => Kind::Bools(pb::RepeatedBools { values: elements.map(|b| b != 0).collect() }),
        Float32 => Kind::Floats(pb::RepeatedFloats {
            values: elements.map(|bits| f32::from_bits(bits as u32)).collect(),
        }),
        Float64 => {
            Kind::Doubles(pb::RepeatedDoubles { values: elements.map(f64::from_bits).collect() })
        }
        Int16 => Kind::Ints(pb::RepeatedInts {
            values: elements.map(|bits| i32::from(bits as u16 as i16)).collect(),
        }),
        Int32 | UInt16 => Kind::Ints(pb::RepeatedInts {
            values: elements.map(|bits| bits as u32 as i32).collect(),
        }),
        Int64 | UInt64 => Kind::LongInts(pb::RepeatedLongInts {
            values: elements.map(|bits| bits as i64).collect(),
        }),
        _ => Kind::Bytes(pb::RepeatedBytes { values: bytes.to_vec() }),
    }
}
