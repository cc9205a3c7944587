//! Types and values as MIL text: a value is a type, then a literal that it explains.

use std::fmt::{self, Write};

use half::{bf16, f16};

use super::form::Form;
use super::immediate::float8_value;
use super::to_text::Printer;
use super::{
    BlobFileValue, Dimension, ElementType, TensorData, TensorType, TensorValue, Value, ValueType,
};

/// The type of a value. Entries of a dictionary have one type.
pub(super) fn type_of(value: &Value) -> ValueType {
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

impl Printer {
    /// `TYPE(LITERAL)`
    pub(super) fn value(&mut self, value: &Value) -> fmt::Result {
        self.value_type(&type_of(value))?;
        self.out.push('(');
        self.literal(value)?;
        self.out.push(')');
        Ok(())
    }

    pub(super) fn value_type(&mut self, ty: &ValueType) -> fmt::Result {
        match ty {
            ValueType::Tensor(tensor) => self.tensor_type(tensor),
            ValueType::List(element, length) => {
                self.out.push_str("list<");
                self.value_type(element)?;
                write!(self.out, ", {length}>")
            }
            ValueType::Tuple(types) => {
                self.out.push_str("tuple<");
                self.joined(types, Self::value_type)?;
                self.out.write_str(">")
            }
            ValueType::Dictionary(key, value) => {
                self.out.push_str("dict<");
                self.value_type(key)?;
                self.out.push_str(", ");
                self.entry_type(value)?;
                self.out.write_str(">")
            }
            ValueType::State(wrapped) => {
                self.out.push_str("state<");
                self.value_type(wrapped)?;
                self.out.write_str(">")
            }
        }
    }

    fn tensor_type(&mut self, ty: &TensorType) -> fmt::Result {
        if ty.shape.is_empty() && self.form.wraps_scalars() {
            return write!(self.out, "tensor<{}, []>", ty.element);
        }
        write!(self.out, "{ty}")
    }

    /// The type of a dictionary's values, which Apple's compiler leaves the sizes of open.
    fn entry_type(&mut self, ty: &ValueType) -> fmt::Result {
        match ty {
            ValueType::Tensor(tensor) if self.form != Form::Plain => {
                let shape = vec![Dimension::Unknown; tensor.shape.len()];
                self.tensor_type(&TensorType { element: tensor.element, shape })
            }
            ty => self.value_type(ty),
        }
    }

    fn literal(&mut self, value: &Value) -> fmt::Result {
        match value {
            Value::Tensor(tensor) => self.tensor_literal(tensor),
            Value::List(_, values) => self.enclosed('[', values, ']'),
            Value::Tuple(values) => self.enclosed('(', values, ')'),
            Value::Dictionary(entries) => {
                self.out.push('{');
                self.joined(entries, |printer, (key, value)| {
                    printer.enclosed('{', [key, value], '}')
                })?;
                self.out.write_str("}")
            }
            Value::BlobFile(BlobFileValue { file, offset, .. }) => {
                self.out.push_str("BLOBFILE(path = ");
                self.value(&Value::string(file))?;
                let offset = TensorValue {
                    ty: TensorType { element: ElementType::UInt64, shape: Vec::new() },
                    data: TensorData::Bytes(offset.to_le_bytes().into()),
                };
                self.out.push_str(", offset = ");
                self.value(&Value::Tensor(offset))?;
                self.out.write_str(")")
            }
        }
    }

    fn enclosed<'a>(
        &mut self,
        open: char,
        values: impl IntoIterator<Item = &'a Value>,
        close: char,
    ) -> fmt::Result {
        self.out.push(open);
        self.joined(values, Self::literal)?;
        self.out.push(close);
        Ok(())
    }

    fn tensor_literal(&mut self, tensor: &TensorValue) -> fmt::Result {
        let last = tensor.ty.element_count().and_then(|count| count.checked_sub(1));
        match (tensor.ty.fixed_shape(), last.map(|last| has_element(tensor, last))) {
            (Some(sizes), Some(true)) => self.elements(tensor, &sizes, &mut 0),
            // Lists of lists without elements could be of any length.
            _ => self.out.write_str("[]"),
        }
    }

    /// Nested lists, one level for each size; `next` is the index of the next element.
    fn elements(&mut self, tensor: &TensorValue, sizes: &[usize], next: &mut usize) -> fmt::Result {
        let Some((&size, inner)) = sizes.split_first() else {
            self.element(tensor, *next)?;
            *next += 1;
            return Ok(());
        };
        self.out.push('[');
        self.joined(0..size, |printer, _| printer.elements(tensor, inner, next))?;
        self.out.write_str("]")
    }

    fn element(&mut self, tensor: &TensorValue, index: usize) -> fmt::Result {
        match &tensor.data {
            TensorData::Strings(strings) => {
                strings.get(index).map_or(Ok(()), |text| self.string(text))
            }
            TensorData::Bytes(bytes) => {
                let bits = raw_bits(bytes, index, tensor.ty.element.bits()).unwrap_or_default();
                self.number(tensor.ty.element, bits)
            }
        }
    }

    fn number(&mut self, element: ElementType, bits: u64) -> fmt::Result {
        use ElementType::*;
        let float = match element {
            Float16 => f16::from_bits(bits as u16).to_f64(),
            BFloat16 => bf16::from_bits(bits as u16).to_f64(),
            Float32 => f64::from(f32::from_bits(bits as u32)),
            Float64 => f64::from_bits(bits),
            Float8E4M3FN | Float8E5M2 => float8_value(element, bits as u8),
            Bool => return write!(self.out, "{}", bits != 0),
            Int4 | Int8 | Int16 | Int32 | Int64 => {
                let unused = 64 - element.bits();
                return write!(self.out, "{}", ((bits << unused) as i64) >> unused);
            }
            String | UInt1 | UInt2 | UInt3 | UInt4 | UInt6 | UInt8 | UInt16 | UInt32 | UInt64 => {
                return write!(self.out, "{bits}");
            }
        };
        self.out.write_str(&self.form.float(element, float))
    }

    /// A string in quotes, with the escapes that the lexer knows.
    fn string(&mut self, text: &str) -> fmt::Result {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\0' => self.out.push_str("\\0"),
                c => self.out.push(c),
            }
        }
        self.out.push('"');
        Ok(())
    }
}

fn has_element(tensor: &TensorValue, index: usize) -> bool {
    match &tensor.data {
        TensorData::Strings(strings) => index < strings.len(),
        TensorData::Bytes(bytes) => raw_bits(bytes, index, tensor.ty.element.bits()).is_some(),
    }
}

/// The bits of an element of up to 64 bits. Little-endian elements one after the other are packed as
/// those of sub-byte types are.
pub(super) fn raw_bits(bytes: &[u8], index: usize, width: usize) -> Option<u64> {
    let start = index.checked_mul(width)?;
    let touched = bytes.get(start / 8..start.checked_add(width)?.div_ceil(8))?;
    let all = touched.iter().rev().fold(0u128, |bits, &byte| bits << 8 | u128::from(byte));
    Some((all >> (start % 8)) as u64 & u64::MAX.checked_shr(64 - width as u32)?)
}
