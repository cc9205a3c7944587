//! Building the canonical bytes of immediate tensors, element by element.

use half::{bf16, f16};

use super::types::ElementType;

/// Collects elements of one type as little-endian bytes, sub-byte types as a packed bit stream.
pub(super) struct ImmediateBuilder {
    element: ElementType,
    bytes: Vec<u8>,
    /// Bits used of the last byte while a sub-byte type is packed; 0 when it is full.
    used_bits: usize,
    count: usize,
}

impl ImmediateBuilder {
    pub fn new(element: ElementType) -> Self {
        ImmediateBuilder { element, bytes: Vec::new(), used_bits: 0, count: 0 }
    }

    /// Type of the elements.
    pub fn element(&self) -> ElementType {
        self.element
    }

    /// Number of elements so far.
    pub fn count(&self) -> usize {
        self.count
    }

    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    pub fn push_bool(&mut self, value: bool) -> Result<(), String> {
        if self.element != ElementType::Bool {
            return Err(format!("`{value}` is not of type {}", self.element));
        }
        self.push_bytes(&[u8::from(value)]);
        Ok(())
    }

    /// Adds an integer, to an integer type that has it.
    pub fn push_int(&mut self, value: i128) -> Result<(), String> {
        use ElementType::*;
        let fits = match self.element {
            Int8 => i8::try_from(value).map(|v| self.push_bytes(&v.to_le_bytes())).is_ok(),
            Int16 => i16::try_from(value).map(|v| self.push_bytes(&v.to_le_bytes())).is_ok(),
            Int32 => i32::try_from(value).map(|v| self.push_bytes(&v.to_le_bytes())).is_ok(),
            Int64 => i64::try_from(value).map(|v| self.push_bytes(&v.to_le_bytes())).is_ok(),
            UInt8 => u8::try_from(value).map(|v| self.push_bytes(&v.to_le_bytes())).is_ok(),
            UInt16 => u16::try_from(value).map(|v| self.push_bytes(&v.to_le_bytes())).is_ok(),
            UInt32 => u32::try_from(value).map(|v| self.push_bytes(&v.to_le_bytes())).is_ok(),
            UInt64 => u64::try_from(value).map(|v| self.push_bytes(&v.to_le_bytes())).is_ok(),
            Int4 | UInt1 | UInt2 | UInt3 | UInt4 | UInt6 => self.push_sub_byte(value),
            Bool | String | Float8E4M3FN | Float8E5M2 | Float16 | Float32 | Float64 | BFloat16 => {
                return Err(format!("the integer {value} is not of type {}", self.element));
            }
        };
        if fits { Ok(()) } else { Err(format!("{value} does not fit {}", self.element)) }
    }

    /// Adds a float, rounded to a floating-point type; the 8-bit types must have it exactly.
    pub fn push_float(&mut self, value: f64) -> Result<(), String> {
        use ElementType::*;
        match self.element {
            Float16 => self.push_bytes(&f16::from_f64(value).to_le_bytes()),
            BFloat16 => self.push_bytes(&bf16::from_f64(value).to_le_bytes()),
            Float32 => self.push_bytes(&(value as f32).to_le_bytes()),
            Float64 => self.push_bytes(&value.to_le_bytes()),
            Float8E4M3FN | Float8E5M2 => {
                let code = float8_code(self.element, value)
                    .ok_or_else(|| format!("{value} does not fit {}", self.element))?;
                self.push_bytes(&[code]);
            }
            _ => return Err(format!("the number {value} is not of type {}", self.element)),
        }
        Ok(())
    }

    fn push_bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.count += 1;
    }

    /// False when the value does not fit.
    fn push_sub_byte(&mut self, value: i128) -> bool {
        let bits = self.element.bits();
        let signed = self.element == ElementType::Int4;
        let range = if signed { -8..8 } else { 0..1i128 << bits };
        if !range.contains(&value) {
            return false;
        }
        let mut rest = (value & ((1 << bits) - 1)) as u16;
        let mut left = bits;
        while left > 0 {
            if self.used_bits == 0 {
                self.bytes.push(0);
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= (rest << self.used_bits) as u8;
            }
            let taken = left.min(8 - self.used_bits);
            rest >>= taken;
            left -= taken;
            self.used_bits = (self.used_bits + taken) % 8;
        }
        self.count += 1;
        true
    }
}

/// The 8-bit code of a value that an 8-bit float type has.
fn float8_code(element: ElementType, value: f64) -> Option<u8> {
    (0..=u8::MAX).find(|&code| {
        let decoded = float8_value(element, code);
        decoded.to_bits() == value.to_bits() || (decoded.is_nan() && value.is_nan())
    })
}

/// The value of an 8-bit float: E4M3FN has no infinities and one NaN per sign, E5M2 is like a short
/// fp16.
pub(super) fn float8_value(element: ElementType, code: u8) -> f64 {
    if element == ElementType::Float8E5M2 {
        return f16::from_bits(u16::from(code) << 8).to_f64();
    }
    let sign = if code & 0x80 == 0 { 1.0 } else { -1.0 };
    let (exponent, mantissa) = (i32::from(code >> 3 & 0xF), f64::from(code & 7));
    match (exponent, code & 7) {
        (15, 7) => f64::NAN,
        (0, _) => sign * mantissa / 8.0 * 2f64.powi(-6),
        _ => sign * (1.0 + mantissa / 8.0) * 2f64.powi(exponent - 7),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ints(element: ElementType, values: &[i128]) -> Result<Vec<u8>, String> {
        let mut builder = ImmediateBuilder::new(element);
        values.iter().try_for_each(|&value| builder.push_int(value))?;
        assert_eq!(builder.count(), values.len());
        Ok(builder.finish())
    }

    #[test]
    fn sub_byte_values_are_packed_from_the_lowest_bits() {
        // By hand: 3-bit 1, 2, 3, 7 → bits 001 | 010 | 011 | 111 from the right.
        assert_eq!(ints(ElementType::UInt3, &[1, 2, 3, 7]), Ok(vec![0b1101_0001, 0b1110]));
        assert_eq!(ints(ElementType::Int4, &[-1, 7, -8]), Ok(vec![0x7F, 0x08]));
        assert_eq!(ints(ElementType::UInt6, &[63, 1]), Ok(vec![0b0111_1111, 0]));
        assert!(ints(ElementType::UInt3, &[8]).is_err());
        assert!(ints(ElementType::Int4, &[8]).is_err());
    }

    #[test]
    fn integers_must_fit() {
        assert_eq!(ints(ElementType::UInt16, &[65535, 1]), Ok(vec![0xFF, 0xFF, 1, 0]));
        assert_eq!(ints(ElementType::Int8, &[-128]), Ok(vec![0x80]));
        for (element, value) in [
            (ElementType::Int8, 128),
            (ElementType::UInt8, -1),
            (ElementType::Int32, 1 << 31),
            (ElementType::UInt64, -1),
            (ElementType::Float16, 1),
        ] {
            assert!(ints(element, &[value]).is_err(), "{value} as {element}");
        }
    }

    #[test]
    fn float8_codes_are_those_of_the_ocp_specification() {
        // Largest, smallest subnormal and one of each type, from the OCP 8-bit floating point text.
        for (element, value, code) in [
            (ElementType::Float8E4M3FN, 448.0, 0x7E),
            (ElementType::Float8E4M3FN, 1.0 / 512.0, 0x01),
            (ElementType::Float8E4M3FN, -1.0, 0xB8),
            (ElementType::Float8E5M2, 57344.0, 0x7B),
            (ElementType::Float8E5M2, 1.0 / 65536.0, 0x01),
            (ElementType::Float8E5M2, f64::INFINITY, 0x7C),
        ] {
            let mut builder = ImmediateBuilder::new(element);
            assert_eq!(builder.push_float(value), Ok(()));
            assert_eq!(builder.finish(), [code], "{value} as {element}");
        }
        let mut builder = ImmediateBuilder::new(ElementType::Float8E4M3FN);
        assert!(builder.push_float(449.0).is_err() && builder.push_float(f64::INFINITY).is_err());
    }
}
