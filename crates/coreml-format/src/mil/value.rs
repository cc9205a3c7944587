//! Constant values that stand in a program.

use std::sync::Arc;

use super::types::{ElementType, TensorType, ValueType};

/// A constant (`MILSpec.Value`): immediate, or a reference into a weight blob.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// An immediate tensor or scalar.
    Tensor(TensorValue),
    /// A list; its type is kept since it may be empty.
    List(ValueType, Vec<Value>),
    /// A tuple.
    Tuple(Vec<Value>),
    /// A dictionary, in file order.
    Dictionary(Vec<(Value, Value)>),
    /// A tensor whose bytes lie in a weight blob file.
    BlobFile(BlobFileValue),
}

/// An immediate tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorValue {
    /// Element type and shape; all dimensions are fixed.
    pub ty: TensorType,
    /// The elements, as many as the shape asks for (the readers check it).
    pub data: TensorData,
}

/// Elements of an immediate tensor.
#[derive(Clone, Debug, PartialEq)]
pub enum TensorData {
    /// Little-endian elements one after the other, whatever message field or text literal they
    /// came from; `bool` takes one byte (0 or 1); sub-byte types are one packed little-endian bit
    /// stream, as in a weight blob.
    Bytes(Arc<[u8]>),
    /// Strings.
    Strings(Vec<String>),
}

/// Where a tensor lies in a weight blob file (`Value.BlobFileValue`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobFileValue {
    /// Element type and shape.
    pub ty: TensorType,
    /// File name as the program spells it, e.g. `@model_path/weights/weight.bin`.
    pub file: String,
    /// Offset of the blob's metadata record.
    pub offset: u64,
}

impl Value {
    /// The tensor type of an immediate or blob tensor.
    pub fn tensor_type(&self) -> Option<&TensorType> {
        match self {
            Value::Tensor(tensor) => Some(&tensor.ty),
            Value::BlobFile(blob) => Some(&blob.ty),
            _ => None,
        }
    }

    /// The text of a string scalar.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Tensor(TensorValue { data: TensorData::Strings(strings), .. }) => {
                strings.first().filter(|_| strings.len() == 1).map(String::as_str)
            }
            _ => None,
        }
    }

    /// A string scalar.
    pub fn string(text: impl Into<String>) -> Self {
        Value::Tensor(TensorValue {
            ty: TensorType { element: ElementType::String, shape: Vec::new() },
            data: TensorData::Strings(vec![text.into()]),
        })
    }
}
