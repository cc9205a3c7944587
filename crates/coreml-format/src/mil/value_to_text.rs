//! Values as MIL text: a type, then a literal that it explains.

use std::fmt::{self, Display, Formatter, Write};

use half::{bf16, f16};

use super::immediate::float8_value;
use super::{
    BlobFileValue, Dimension, ElementType, TensorData, TensorType, TensorValue, Value, ValueType,
};

/// `TYPE(LITERAL)`
pub(super) struct ValueText<'a>(pub &'a Value);

impl Display for ValueText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", type_of(self.0))?;
        literal(f, self.0)?;
        f.write_str(")")
    }
}

fn type_of(value: &Value) -> ValueType {
    match value {
        Value::Tensor(tensor) => ValueType::Tensor(tensor.ty.clone()),
        Value::BlobFile(blob) => ValueType::Tensor(blob.ty.clone()),
        Value::List(ty, _) => ty.clone(),
        Value::Tuple(values) => ValueType::Tuple(values.iter().map(type_of).collect()),
        Value::Dictionary(entries) => ValueType::Dictionary(
            Box::new(common_type(entries.iter().map(|entry| &entry.0))),
            Box::new(common_type(entries.iter().map(|entry| &entry.1))),
        ),
    }
}

/// The type of all keys or values of a dictionary; strings if there are none, as in most.
fn common_type<'a>(mut values: impl Iterator<Item = &'a Value>) -> ValueType {
    let string = ValueType::Tensor(TensorType { element: ElementType::String, shape: Vec::new() });
    let first = values.next().map_or(string, type_of);
    values.fold(first, |ty, value| match (ty, value.tensor_type()) {
        (ValueType::Tensor(ty), Some(other)) => ValueType::Tensor(open_differences(ty, other)),
        (ty, _) => ty,
    })
}

/// `ty` with `?` for the sizes that are others in `other`.
fn open_differences(mut ty: TensorType, other: &TensorType) -> TensorType {
    for (size, other) in ty.shape.iter_mut().zip(&other.shape) {
        if size != other {
            *size = Dimension::Unknown;
        }
    }
    ty
}

fn literal(f: &mut Formatter<'_>, value: &Value) -> fmt::Result {
    match value {
        Value::Tensor(tensor) => tensor_literal(f, tensor),
        Value::List(_, values) => {
            f.write_str("[")?;
            joined(f, values, literal)?;
            f.write_str("]")
        }
        Value::Tuple(values) => {
            f.write_str("(")?;
            joined(f, values, literal)?;
            f.write_str(")")
        }
        Value::Dictionary(entries) => {
            f.write_str("{")?;
            joined(f, entries, |f, (key, value)| {
                f.write_str("{")?;
                literal(f, key)?;
                f.write_str(", ")?;
                literal(f, value)?;
                f.write_str("}")
            })?;
            f.write_str("}")
        }
        Value::BlobFile(BlobFileValue { file, offset, .. }) => {
            f.write_str("BLOBFILE(path = string(")?;
            string(f, file)?;
            write!(f, "), offset = uint64({offset}))")
        }
    }
}

fn tensor_literal(f: &mut Formatter<'_>, tensor: &TensorValue) -> fmt::Result {
    let last = tensor.ty.element_count().and_then(|count| count.checked_sub(1));
    match (tensor.ty.fixed_shape(), last.map(|last| has_element(tensor, last))) {
        (Some(sizes), Some(true)) => elements(f, tensor, &sizes, &mut 0),
        // Lists of lists without elements could be of any length.
        _ => f.write_str("[]"),
    }
}

fn has_element(tensor: &TensorValue, index: usize) -> bool {
    match &tensor.data {
        TensorData::Strings(strings) => index < strings.len(),
        TensorData::Bytes(bytes) => raw_bits(bytes, index, tensor.ty.element.bits()).is_some(),
    }
}

/// Nested lists, one level for each size; `next` is the index of the next element.
fn elements(
    f: &mut Formatter<'_>,
    tensor: &TensorValue,
    sizes: &[usize],
    next: &mut usize,
) -> fmt::Result {
    let Some((&size, inner)) = sizes.split_first() else {
        element(f, tensor, *next)?;
        *next += 1;
        return Ok(());
    };
    f.write_str("[")?;
    joined(f, 0..size, |f, _| elements(f, tensor, inner, next))?;
    f.write_str("]")
}

fn element(f: &mut Formatter<'_>, tensor: &TensorValue, index: usize) -> fmt::Result {
    match &tensor.data {
        TensorData::Strings(strings) => strings.get(index).map_or(Ok(()), |text| string(f, text)),
        TensorData::Bytes(bytes) => {
            let bits = raw_bits(bytes, index, tensor.ty.element.bits()).unwrap_or_default();
            number(f, tensor.ty.element, bits)
        }
    }
}

/// The bits of an element of up to 64 bits. Little-endian elements one after the other are packed as
/// those of sub-byte types are.
fn raw_bits(bytes: &[u8], index: usize, width: usize) -> Option<u64> {
    let start = index.checked_mul(width)?;
    let touched = bytes.get(start / 8..start.checked_add(width)?.div_ceil(8))?;
    let all = touched.iter().rev().fold(0u128, |bits, &byte| bits << 8 | u128::from(byte));
    Some((all >> (start % 8)) as u64 & u64::MAX.checked_shr(64 - width as u32)?)
}

fn number(f: &mut Formatter<'_>, element: ElementType, bits: u64) -> fmt::Result {
    use ElementType::*;
    match element {
        Bool => write!(f, "{}", bits != 0),
        Float16 => float(f, element, f16::from_bits(bits as u16).to_f64()),
        BFloat16 => float(f, element, bf16::from_bits(bits as u16).to_f64()),
        Float32 => float(f, element, f64::from(f32::from_bits(bits as u32))),
        Float64 => float(f, element, f64::from_bits(bits)),
        Float8E4M3FN | Float8E5M2 => float(f, element, float8_value(element, bits as u8)),
        Int4 | Int8 | Int16 | Int32 | Int64 => {
            let unused = 64 - element.bits();
            write!(f, "{}", ((bits << unused) as i64) >> unused)
        }
        String | UInt1 | UInt2 | UInt3 | UInt4 | UInt6 | UInt8 | UInt16 | UInt32 | UInt64 => {
            write!(f, "{bits}")
        }
    }
}

/// The decimal of the fewest digits that is read as the same element.
fn float(f: &mut Formatter<'_>, element: ElementType, value: f64) -> fmt::Result {
    if value.is_nan() {
        return f.write_str(if value.is_sign_negative() { "-nan" } else { "nan" });
    }
    let same = |decimal: &f64| rounded(element, *decimal).to_bits() == value.to_bits();
    let mut decimals = (0..17).filter_map(|digits| format!("{value:.digits$e}").parse().ok());
    write!(f, "{:?}", decimals.find(same).unwrap_or(value))
}

/// `value` as an element of this type holds it; those of 8 bits have to hold it exactly.
fn rounded(element: ElementType, value: f64) -> f64 {
    match element {
        ElementType::Float16 => f16::from_f64(value).to_f64(),
        ElementType::BFloat16 => bf16::from_f64(value).to_f64(),
        ElementType::Float32 => f64::from(value as f32),
        _ => value,
    }
}

/// A string in quotes, with the escapes that the lexer knows.
fn string(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            '\0' => f.write_str("\\0")?,
            c => f.write_char(c)?,
        }
    }
    f.write_str("\"")
}

/// Items with commas between them.
pub(super) fn joined<T>(
    f: &mut Formatter<'_>,
    items: impl IntoIterator<Item = T>,
    mut print: impl FnMut(&mut Formatter<'_>, T) -> fmt::Result,
) -> fmt::Result {
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        print(f, item)?;
    }
    Ok(())
}
