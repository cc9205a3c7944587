//! From the messages of `MIL.proto`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::immediate::ImmediateBuilder;
use super::{
    Argument, Binding, BlobFileValue, Block, Dimension, ElementType, Function, NamedValueType,
    Operation, Opset, Program, TensorData, TensorType, TensorValue, Value, ValueType,
    move_arguments_from_attributes,
};
use crate::FormatError;
use crate::proto::mil as pb;

/// Reads a program. Nesting is bounded by the protobuf decoder.
pub(crate) fn from_proto(message: pb::Program) -> Result<Program, FormatError> {
    let functions = message
        .functions
        .into_iter()
        .map(|(name, message)| {
            let place = format!("function `{name}`");
            function(message).map_err(|error| error.within(&place)).map(|function| (name, function))
        })
        .collect::<Result<_, _>>()?;
    Ok(Program { functions, attributes: values(message.attributes)? })
}

fn function(mut message: pb::Function) -> Result<Function, FormatError> {
    let opset = Opset::from_proto(&message.opset).ok_or_else(|| {
        FormatError::field(
            "opset",
            format!(
                "`{}` is not known; this reader knows CoreML5 (iOS 15) to CoreML9 (iOS 26)",
                message.opset
            ),
        )
    })?;
    let block = message.block_specializations.remove(&message.opset).ok_or_else(|| {
        FormatError::field(
            "block_specializations",
            format!("no block for opset `{}`", message.opset),
        )
    })?;
    Ok(Function {
        inputs: named_types(message.inputs).map_err(|error| error.within("inputs"))?,
        opset,
        block: self::block(block)?,
        attributes: values(message.attributes)?,
    })
}

fn block(message: pb::Block) -> Result<Block, FormatError> {
    Ok(Block {
        inputs: named_types(message.inputs).map_err(|error| error.within("block inputs"))?,
        outputs: message.outputs,
        operations: message.operations.into_iter().map(operation).collect::<Result<_, _>>()?,
    })
}

fn operation(message: pb::Operation) -> Result<Operation, FormatError> {
    let name = message.outputs.first().map_or("", |output| output.name.as_str());
    let place = format!("operation `{}` (`{name}`)", message.r#type);
    let within = |error: FormatError| error.within(&place);
    let mut operation = Operation {
        operator: message.r#type,
        inputs: arguments(message.inputs).map_err(within)?,
        outputs: named_types(message.outputs).map_err(within)?,
        blocks: message.blocks.into_iter().map(block).collect::<Result<_, _>>().map_err(within)?,
        attributes: values(message.attributes).map_err(within)?,
    };
    move_arguments_from_attributes(&mut operation);
    Ok(operation)
}

fn arguments(
    messages: BTreeMap<String, pb::Argument>,
) -> Result<BTreeMap<String, Argument>, FormatError> {
    let read = |(name, message): (String, pb::Argument)| {
        let bindings: Result<Vec<Binding>, String> =
            message.arguments.into_iter().map(binding).collect();
        match bindings {
            Ok(bindings) => Ok((name, Argument(bindings))),
            Err(message) => Err(FormatError::field(format!("argument `{name}`"), message)),
        }
    };
    messages.into_iter().map(read).collect()
}

fn binding(message: pb::Binding) -> Result<Binding, String> {
    match message.binding {
        Some(pb::BindingKind::Name(name)) => Ok(Binding::Name(name)),
        Some(pb::BindingKind::Value(message)) => Ok(Binding::Value(value(message)?)),
        None => Err("binding has neither a name nor a value".into()),
    }
}

fn values(messages: BTreeMap<String, pb::Value>) -> Result<BTreeMap<String, Value>, FormatError> {
    let read = |(name, message): (String, pb::Value)| match value(message) {
        Ok(value) => Ok((name, value)),
        Err(message) => Err(FormatError::field(format!("attribute `{name}`"), message)),
    };
    messages.into_iter().map(read).collect()
}

fn named_types(messages: Vec<pb::NamedValueType>) -> Result<Vec<NamedValueType>, FormatError> {
    let read = |message: pb::NamedValueType| match value_type(message.r#type) {
        Ok(ty) => Ok(NamedValueType { name: message.name, ty }),
        Err(error) => Err(FormatError::field(format!("value `{}`", message.name), error)),
    };
    messages.into_iter().map(read).collect()
}

fn value_type(message: Option<pb::ValueType>) -> Result<ValueType, String> {
    let kind = message.and_then(|ty| ty.r#type).ok_or("has no type")?;
    let nested = |ty: Option<Box<pb::ValueType>>| value_type(ty.map(|ty| *ty));
    Ok(match kind {
        pb::ValueTypeKind::Tensor(tensor) => ValueType::Tensor(tensor_type(tensor)?),
        pb::ValueTypeKind::List(list) => {
            let length = list.length.map_or(Ok(Dimension::Unknown), |length| dimension(&length))?;
            ValueType::List(Box::new(nested(list.r#type)?), length)
        }
        pb::ValueTypeKind::Tuple(tuple) => {
            let types = tuple.types.into_iter().map(|ty| value_type(Some(ty)));
            ValueType::Tuple(types.collect::<Result<_, _>>()?)
        }
        pb::ValueTypeKind::Dictionary(dictionary) => ValueType::Dictionary(
            Box::new(nested(dictionary.key_type)?),
            Box::new(nested(dictionary.value_type)?),
        ),
        pb::ValueTypeKind::State(state) => ValueType::State(Box::new(nested(state.wrapped_type)?)),
    })
}

fn tensor_type(message: pb::TensorType) -> Result<TensorType, String> {
    let element = ElementType::from_code(message.data_type)
        .ok_or_else(|| format!("unknown data type code {}", message.data_type))?;
    if usize::try_from(message.rank) != Ok(message.dimensions.len()) {
        let given = message.dimensions.len();
        return Err(format!("rank {} does not go with {given} dimensions", message.rank));
    }
    let shape = message.dimensions.iter().map(dimension).collect::<Result<_, _>>()?;
    Ok(TensorType { element, shape })
}

fn dimension(message: &pb::Dimension) -> Result<Dimension, String> {
    match &message.dimension {
        Some(pb::DimensionKind::Constant(constant)) => usize::try_from(constant.size)
            .map(Dimension::Fixed)
            .map_err(|_| format!("dimension {} is too large for this machine", constant.size)),
        Some(pb::DimensionKind::Unknown(unknown)) if unknown.variadic => Ok(Dimension::Variadic),
        Some(pb::DimensionKind::Unknown(_)) => Ok(Dimension::Unknown),
        None => Err("dimension is neither constant nor unknown".into()),
    }
}

fn value(message: pb::Value) -> Result<Value, String> {
    let ty = value_type(message.r#type)?;
    match message.value {
        Some(pb::ValueKind::Immediate(immediate)) => {
            immediate_value(ty, immediate.value.ok_or("immediate value is empty")?)
        }
        Some(pb::ValueKind::BlobFile(blob)) => match ty {
            ValueType::Tensor(ty) => {
                Ok(Value::BlobFile(BlobFileValue { ty, file: blob.file_name, offset: blob.offset }))
            }
            other => Err(format!("a value of type `{other}` cannot lie in a blob file")),
        },
        None => Err("has no value".into()),
    }
}

fn immediate_value(ty: ValueType, kind: pb::ImmediateKind) -> Result<Value, String> {
    match (ty, kind) {
        (ValueType::Tensor(ty), pb::ImmediateKind::Tensor(tensor)) => {
            Ok(Value::Tensor(tensor_value(ty, tensor)?))
        }
        (ty @ ValueType::List(..), pb::ImmediateKind::List(list)) => {
            Ok(Value::List(ty, nested_values(list)?))
        }
        (ValueType::Tuple(_), pb::ImmediateKind::Tuple(tuple)) => {
            Ok(Value::Tuple(nested_values(tuple)?))
        }
        (ValueType::Dictionary(..), pb::ImmediateKind::Dictionary(dictionary)) => {
            dictionary_value(dictionary)
        }
        (ty, _) => Err(format!("the value given is not of type `{ty}`")),
    }
}

fn nested_values(message: pb::Values) -> Result<Vec<Value>, String> {
    message.values.into_iter().map(value).collect()
}

fn dictionary_value(message: pb::DictionaryValue) -> Result<Value, String> {
    let entry = |pair: pb::KeyValuePair| {
        let key = value(pair.key.ok_or("dictionary entry has no key")?)?;
        Ok((key, value(pair.value.ok_or("dictionary entry has no value")?)?))
    };
    Ok(Value::Dictionary(message.values.into_iter().map(entry).collect::<Result<_, String>>()?))
}

fn tensor_value(mut ty: TensorType, message: pb::TensorValue) -> Result<TensorValue, String> {
    let (data, count) = tensor_data(&ty, message)?;
    // A value's own dimensions are known even where its declared type leaves the only one open.
    if let [dimension @ Dimension::Unknown] = ty.shape.as_mut_slice() {
        *dimension = Dimension::Fixed(count);
    }
    if ty.element_count() != Some(count) {
        return Err(format!("`{ty}` does not go with {count} elements"));
    }
    Ok(TensorValue { ty, data })
}

/// The elements and their number. Which field holds which element type follows coremltools'
/// writer: fp16 and the types up to 8 bits and uint32 in `bytes`, int16 and uint16 in `ints`.
fn tensor_data(ty: &TensorType, message: pb::TensorValue) -> Result<(TensorData, usize), String> {
    use pb::TensorValueKind as Kind;
    let mut builder = ImmediateBuilder::new(ty.element);
    match message.value {
        // A tensor without elements may be written without a field.
        None => {}
        Some(Kind::Strings(strings)) if ty.element == ElementType::String => {
            let count = strings.values.len();
            return Ok((TensorData::Strings(strings.values), count));
        }
        Some(Kind::Strings(_)) => return Err(format!("strings given for {}", ty.element)),
        Some(Kind::Bytes(bytes)) => return raw_data(ty, bytes.values),
        Some(Kind::Floats(floats)) => {
            floats.values.iter().try_for_each(|&value| builder.push_float(f64::from(value)))?;
        }
        Some(Kind::Doubles(doubles)) => {
            doubles.values.iter().try_for_each(|&value| builder.push_float(value))?;
        }
        Some(Kind::Ints(ints)) => {
            ints.values
                .iter()
                .try_for_each(|&value| builder.push_int(wide_int(ty.element, value)))?;
        }
        Some(Kind::LongInts(ints)) => {
            ints.values
                .iter()
                .try_for_each(|&value| builder.push_int(wide_long(ty.element, value)))?;
        }
        Some(Kind::Bools(bools)) => {
            bools.values.iter().try_for_each(|&value| builder.push_bool(value))?;
        }
    }
    let count = builder.count();
    if ty.element == ElementType::String {
        return Ok((TensorData::Strings(Vec::new()), count));
    }
    Ok((TensorData::Bytes(Arc::from(builder.finish())), count))
}

/// `uint32` values above the `int32` range arrive as negative numbers.
fn wide_int(element: ElementType, value: i32) -> i128 {
    if element == ElementType::UInt32 { i128::from(value as u32) } else { i128::from(value) }
}

/// `uint64` values above the `int64` range arrive as negative numbers.
fn wide_long(element: ElementType, value: i64) -> i128 {
    if element == ElementType::UInt64 { i128::from(value as u64) } else { i128::from(value) }
}

/// Elements given as they are stored. For sub-byte types their number cannot be told from the
/// bytes, so the type's own is taken if it fits.
fn raw_data(ty: &TensorType, bytes: Vec<u8>) -> Result<(TensorData, usize), String> {
    let bits = ty.element.bits();
    if bits == 0 {
        return Err("bytes given for strings".into());
    }
    let count = match ty.element_count() {
        Some(count) if ty.element.storage_bytes(count) == Some(bytes.len()) => count,
        Some(_) => {
            return Err(format!("`{ty}` does not go with {} bytes", bytes.len()));
        }
        None => bytes.len().saturating_mul(8) / bits,
    };
    if ty.element == ElementType::Bool && bytes.iter().any(|&byte| byte > 1) {
        return Err("a bool is neither 0 nor 1".into());
    }
    Ok((TensorData::Bytes(Arc::from(bytes)), count))
}
