//! Labels of classifiers.

use serde::Serialize;

use crate::FormatError;
use crate::mil::{Binding, Block, ElementType, Operation, Program, TensorData, TensorValue, Value};
use crate::proto::wire::{self, fields};

/// The classes that a classifier tells apart, in the order of its scores.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum ClassLabels {
    /// Named classes.
    Strings(Vec<String>),
    /// Numbered classes.
    Int64(Vec<i64>),
}

/// `stringClassLabels` and `int64ClassLabels` of all classifiers of `Model.proto`, but for those that
/// Create ML's text models have.
const STRINGS: u32 = 100;
const NUMBERS: u32 = 101;
const TEXT_STRINGS: u32 = 200;

impl ClassLabels {
    /// How many classes there are.
    pub fn len(&self) -> usize {
        match self {
            ClassLabels::Strings(labels) => labels.len(),
            ClassLabels::Int64(labels) => labels.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The labels that a model's body lists, if its kind is one that does.
    pub(super) fn decode(kind: &str, bytes: &[u8]) -> Result<Option<Self>, FormatError> {
        let strings = match kind {
            "textClassifier" | "gazetteer" => TEXT_STRINGS,
            "nonMaximumSuppression" => STRINGS,
            kind if kind.ends_with("Classifier") => STRINGS,
            _ => return Ok(None),
        };
        let mut labels = None;
        for field in fields(bytes) {
            let field = field?;
            if field.number == strings {
                labels = Some(ClassLabels::strings(field.value)?);
            } else if field.number == NUMBERS && strings == STRINGS {
                labels = Some(ClassLabels::numbers(field.value)?);
            }
        }
        Ok(labels)
    }

    /// The labels of a program's `classify` operation, if it has one.
    pub(super) fn of_program(program: &Program) -> Option<Self> {
        program.functions.values().find_map(|function| {
            let operations = &function.block.operations;
            let classify = operations.iter().find(|operation| operation.operator == "classify")?;
            ClassLabels::of_operation(classify, &function.block)
        })
    }

    /// The labels that a `classify` operation of a block lists, or a constant before it.
    pub fn of_operation(classify: &Operation, block: &Block) -> Option<Self> {
        match classify.inputs.get("classes")?.0.first()? {
            Binding::Value(value) => ClassLabels::of_value(value),
            Binding::Name(name) => {
                let gives = |op: &&Operation| op.outputs.iter().any(|out| out.name == *name);
                let constant = block.operations.iter().find(gives)?;
                match constant.inputs.get("val")?.0.first()? {
                    Binding::Value(value) => ClassLabels::of_value(value),
                    Binding::Name(_) => None,
                }
            }
        }
    }

    /// A list of strings or numbers, or a tensor of them.
    fn of_value(value: &Value) -> Option<Self> {
        match value {
            Value::List(_, values) => {
                let strings: Option<Vec<String>> =
                    values.iter().map(|value| value.as_str().map(str::to_owned)).collect();
                match strings {
                    Some(strings) => Some(ClassLabels::Strings(strings)),
                    None => {
                        let numbers =
                            values.iter().map(|value| numbers_of(value)?.first().copied());
                        numbers.collect::<Option<_>>().map(ClassLabels::Int64)
                    }
                }
            }
            Value::Tensor(TensorValue { data: TensorData::Strings(strings), .. }) => {
                Some(ClassLabels::Strings(strings.clone()))
            }
            value => numbers_of(value).map(ClassLabels::Int64),
        }
    }

    /// A `StringVector`.
    fn strings(value: wire::Value) -> Result<Self, FormatError> {
        let all = fields(value.bytes().unwrap_or_default());
        let labels = all.map(|field| field?.value.text("stringClassLabels"));
        labels.collect::<Result<_, _>>().map(ClassLabels::Strings)
    }

    /// An `Int64Vector`, packed or not.
    fn numbers(value: wire::Value) -> Result<Self, FormatError> {
        let mut labels = Vec::new();
        for field in fields(value.bytes().unwrap_or_default()) {
            match field?.value {
                wire::Value::Number(number) => labels.push(number.cast_signed()),
                wire::Value::Bytes(packed) => labels.extend(packed_numbers(packed)?),
                wire::Value::Fixed => {}
            }
        }
        Ok(ClassLabels::Int64(labels))
    }
}

/// The integers of an immediate tensor.
fn numbers_of(value: &Value) -> Option<Vec<i64>> {
    let Value::Tensor(TensorValue { ty, data: TensorData::Bytes(bytes) }) = value else {
        return None;
    };
    match ty.element {
        ElementType::Int64 => {
            Some(bytes.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect())
        }
        ElementType::Int32 => {
            let number = |bytes: &[u8; 4]| i64::from(i32::from_le_bytes(*bytes));
            Some(bytes.as_chunks().0.iter().map(number).collect())
        }
        _ => None,
    }
}

fn packed_numbers(mut bytes: &[u8]) -> Result<Vec<i64>, FormatError> {
    let mut numbers = Vec::new();
    while !bytes.is_empty() {
        let number = prost::encoding::decode_varint(&mut bytes)?;
        numbers.push(number.cast_signed());
    }
    Ok(numbers)
}
