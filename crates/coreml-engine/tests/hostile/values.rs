//! Types and constants, some of which no exporter would write.

use std::sync::Arc;

use coreml_format::mil::{
    BlobFileValue, Dimension, ElementType, TensorData, TensorType, TensorValue, Value, ValueType,
};

use super::choices::Choices;

/// Elements of a constant that is made, at the most.
const MOST_ELEMENTS: usize = 256;

/// Integers of attributes.
const SMALL: &[i64] = &[1, 0, 2, 3, -1, 4, 1, 2];
const WILD: &[i64] = &[
    i32::MAX as i64,
    i32::MIN as i64,
    -2,
    -3,
    5,
    7,
    16,
    100,
    -100,
    255,
    256,
    65535,
    65536,
    1 << 20,
    1 << 30,
    i64::MAX,
    i64::MIN,
];

/// Floats, and halves as bits.
const FLOATS: &[f64] = &[
    1.0,
    0.5,
    0.0,
    -1.0,
    2.0,
    -0.0,
    1e-5,
    f64::NAN,
    f64::INFINITY,
    f64::NEG_INFINITY,
    1e38,
    -1e38,
    1e-45,
    0.25,
];
const HALVES: &[u16] = &[
    0x3c00, 0x3800, 0x0000, 0xbc00, 0x4000, 0x8000, 0x0001, 0x7e00, 0x7c00, 0xfc00, 0x7bff, 0xfbff,
];

/// Words that some argument of some operator takes, and some that none does.
const WORDS: &[&str] = &[
    "valid",
    "same",
    "same_lower",
    "custom",
    "constant",
    "reflect",
    "replicate",
    "symmetric",
    "EXACT",
    "TANH_APPROXIMATION",
    "SIGMOID_APPROXIMATION",
    "sigmoid",
    "tanh",
    "relu",
    "scaled_tanh",
    "hard_sigmoid",
    "softsign",
    "forward",
    "reverse",
    "bidirectional",
    "fp16",
    "fp32",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "bool",
    "update",
    "add",
    "sub",
    "mul",
    "div",
    "max",
    "min",
    "channel_first",
    "channel_last",
    "STRICT_ALIGN_CORNERS",
    "ALIGN_CORNERS",
    "DEFAULT",
    "OFFSET_CORNERS",
    "UNALIGN_CORNERS",
    "CENTER_SIZE_WIDTH_FIRST",
    "CORNERS_HEIGHT_FIRST",
    "bilinear",
    "nearest",
    "border",
    "reflection",
    "unnormalized",
    "normalized_minus_one_to_one",
    "normalized_zero_to_one",
    "NEAREST",
    "LINEAR",
    "nchw,nwhu->nchu",
    "chw,whr->chr",
    "i,j->ij",
    "->",
    "",
    "no such word",
    "é\u{0}\n",
];

/// Element types that values have.
pub const ELEMENTS: &[ElementType] = &[
    ElementType::Float32,
    ElementType::Float16,
    ElementType::Int32,
    ElementType::Bool,
    ElementType::Int8,
    ElementType::UInt8,
    ElementType::Int16,
    ElementType::UInt16,
    ElementType::UInt4,
    ElementType::UInt1,
    ElementType::Int4,
    ElementType::UInt32,
    ElementType::Int64,
    ElementType::Float64,
    ElementType::BFloat16,
    ElementType::UInt6,
];

/// A shape of few elements as a rule.
pub fn shape(choices: &mut Choices) -> Vec<usize> {
    let rank = choices.of(&[2, 1, 3, 4, 0, 5, 3, 6]);
    let size = |_| match choices.one_in(24) {
        true => choices.of(&[0, 1 << 16, 1 << 31, 1 << 40, usize::MAX]),
        false => choices.of(&[2, 1, 3, 4, 2, 0, 5, 1]),
    };
    (0..rank).map(size).collect()
}

/// The type of a tensor; once in a while its shape is left open.
pub fn tensor_type(element: ElementType, shape: &[usize], choices: &mut Choices) -> TensorType {
    let mut ty = TensorType::fixed(element, shape);
    if choices.one_in(6) && !ty.shape.is_empty() {
        let place = choices.below(ty.shape.len());
        ty.shape[place] =
            choices.of(&[Dimension::Unknown, Dimension::Unknown, Dimension::Variadic]);
    }
    ty
}

/// A constant with elements of this type.
pub fn constant(element: ElementType, shape: &[usize], choices: &mut Choices) -> Value {
    let count = shape.iter().try_fold(1usize, |count, &size| count.checked_mul(size));
    let shape = match count {
        Some(count) if count <= MOST_ELEMENTS => shape,
        _ => &[2],
    };
    let count = shape.iter().product();
    let data = match element {
        ElementType::String => {
            TensorData::Strings((0..count).map(|_| word(choices).to_owned()).collect())
        }
        _ => TensorData::Bytes(elements(element, count, choices)),
    };
    Value::Tensor(TensorValue { ty: TensorType::fixed(element, shape), data })
}

pub fn word(choices: &mut Choices) -> &'static str {
    choices.of(WORDS)
}

fn elements(element: ElementType, count: usize, choices: &mut Choices) -> Arc<[u8]> {
    let one = |choices: &mut Choices| -> Vec<u8> {
        match element {
            ElementType::Float16 | ElementType::BFloat16 => choices.of(HALVES).to_le_bytes().into(),
            ElementType::Float32 => (choices.of(FLOATS) as f32).to_le_bytes().into(),
            ElementType::Float64 => choices.of(FLOATS).to_le_bytes().into(),
            ElementType::Bool => vec![choices.byte() % 2],
            _ => {
                let number = if choices.one_in(8) { choices.of(WILD) } else { choices.of(SMALL) };
                number.to_le_bytes()[..element.bits().div_ceil(8)].into()
            }
        }
    };
    let mut bytes: Vec<u8> = (0..count).flat_map(|_| one(choices)).collect();
    bytes.truncate(element.storage_bytes(count).unwrap_or(0));
    bytes.into()
}

/// A constant that is no sound tensor.
pub fn malformed(element: ElementType, shape: &[usize], choices: &mut Choices) -> Value {
    let ty = TensorType::fixed(element, shape);
    let too_few = |ty| {
        let data = TensorData::Bytes(Arc::from([1u8, 2, 3].as_slice()));
        Value::Tensor(TensorValue { ty, data })
    };
    match choices.below(6) {
        0 => too_few(TensorType::fixed(element, &[1 << 20])),
        1 => too_few(TensorType::fixed(element, &[usize::MAX, usize::MAX])),
        2 => too_few(TensorType { element, shape: vec![Dimension::Unknown] }),
        3 => Value::Tensor(TensorValue { ty, data: TensorData::Strings(vec!["a".to_owned(); 3]) }),
        4 => {
            Value::BlobFile(BlobFileValue { ty, file: "@model_path/w.bin".to_owned(), offset: 64 })
        }
        _ => Value::Dictionary(vec![(Value::string("a"), Value::string("b"))]),
    }
}

/// A list or tuple where a tensor belongs.
pub fn collection(value: Value, choices: &mut Choices) -> Value {
    match (choices.below(3), value.tensor_type().cloned()) {
        (0, Some(ty)) => Value::List(ValueType::Tensor(ty), vec![value.clone(), value]),
        (1, _) => Value::Tuple(Vec::new()),
        _ => Value::Tuple(vec![value.clone(), value]),
    }
}
