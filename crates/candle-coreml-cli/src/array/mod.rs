//! Arrays of numbers as NumPy has them: read from files and from JSON, written to both, summed up.

pub mod json;
pub mod npy;
pub mod statistics;

use std::fmt;

use anyhow::{Context, Result};

/// A NumPy type of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DType {
    Bool,
    Int8,
    Int16,
    Int32,
    Int64,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
    Float16,
    Float32,
    Float64,
}

/// Types with NumPy's names, and the codes of `.npy` files without byte order.
const DTYPES: &[(DType, &str, &str)] = &[
    (DType::Bool, "bool", "b1"),
    (DType::Int8, "int8", "i1"),
    (DType::Int16, "int16", "i2"),
    (DType::Int32, "int32", "i4"),
    (DType::Int64, "int64", "i8"),
    (DType::UInt8, "uint8", "u1"),
    (DType::UInt16, "uint16", "u2"),
    (DType::UInt32, "uint32", "u4"),
    (DType::UInt64, "uint64", "u8"),
    (DType::Float16, "float16", "f2"),
    (DType::Float32, "float32", "f4"),
    (DType::Float64, "float64", "f8"),
];

impl DType {
    /// NumPy's name, e.g. `float32`.
    pub fn name(self) -> &'static str {
        DTYPES.iter().find(|row| row.0 == self).map_or("", |row| row.1)
    }

    /// The code in `.npy` files, e.g. `f4`.
    pub fn code(self) -> &'static str {
        DTYPES.iter().find(|row| row.0 == self).map_or("", |row| row.2)
    }

    /// The type of a code.
    pub fn from_code(code: &str) -> Option<Self> {
        DTYPES.iter().find(|row| row.2 == code).map(|row| row.0)
    }

    /// Bytes of an element.
    pub fn size(self) -> usize {
        self.code().get(1..).and_then(|size| size.parse().ok()).unwrap_or(1)
    }
}

/// Elements of an array, in the narrowest form that holds all values of its type.
#[derive(Clone, Debug, PartialEq)]
pub enum Elements {
    /// Bools, as 0 and 1, and integers of all widths.
    Integers(Vec<i128>),
    /// `float16` and `float32`.
    Singles(Vec<f32>),
    /// `float64`.
    Doubles(Vec<f64>),
}

impl Elements {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Elements::Integers(values) => values.len(),
            Elements::Singles(values) => values.len(),
            Elements::Doubles(values) => values.len(),
        }
    }

    /// The elements in order.
    pub fn iter(&self) -> impl Iterator<Item = Number> {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// The element at a place.
    pub fn get(&self, index: usize) -> Option<Number> {
        match self {
            Elements::Integers(values) => values.get(index).copied().map(Number::Integer),
            Elements::Singles(values) => values.get(index).copied().map(Number::Single),
            Elements::Doubles(values) => values.get(index).copied().map(Number::Double),
        }
    }

    /// The elements at these places, one after the other.
    fn select(&self, places: impl Iterator<Item = usize>) -> Self {
        match self {
            Elements::Integers(values) => Elements::Integers(places.map(|i| values[i]).collect()),
            Elements::Singles(values) => Elements::Singles(places.map(|i| values[i]).collect()),
            Elements::Doubles(values) => Elements::Doubles(places.map(|i| values[i]).collect()),
        }
    }
}

/// One element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    Integer(i128),
    Single(f32),
    Double(f64),
}

impl Number {
    /// The nearest double.
    pub fn to_f64(self) -> f64 {
        match self {
            Number::Integer(value) => value as f64,
            Number::Single(value) => f64::from(value),
            Number::Double(value) => value,
        }
    }

    /// The whole number that it is.
    pub fn to_integer(self) -> Option<i128> {
        match self {
            Number::Integer(value) => Some(value),
            // Wider than any integer type, and exact.
            float => Some(float.to_f64()).filter(|f| f.fract() == 0.0).map(|f| f as i128),
        }
    }
}

/// Six significant digits, which do for `float16` and mostly for `float32`; integers in full.
impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = match self {
            Number::Integer(value) => return write!(f, "{value}"),
            float => float.to_f64(),
        };
        let digits = format!("{value:.5e}");
        let rounded = digits.parse().unwrap_or(value);
        match value.abs() {
            0.0 => f.write_str("0"),
            size if (1e-5..1e15).contains(&size) && value.fract() == 0.0 => write!(f, "{value}"),
            size if (1e-5..1e15).contains(&size) => write!(f, "{rounded}"),
            size if size.is_finite() => write!(f, "{rounded:e}"),
            _ => write!(f, "{value}"),
        }
    }
}

/// An array, with its elements in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    pub dtype: DType,
    pub shape: Vec<usize>,
    pub elements: Elements,
}

impl Array {
    /// All elements as another type; fails with the first that it does not hold. `kind` is what to call
    /// the array.
    pub fn each<T>(
        &self,
        kind: &str,
        wanted: &str,
        narrow: impl Fn(Number) -> Option<T>,
    ) -> Result<Vec<T>> {
        let narrowed = self.elements.iter().enumerate().map(|(index, number)| {
            narrow(number).with_context(|| {
                let what = match self.shape.as_slice() {
                    [] => "the value".to_owned(),
                    shape => format!("element {:?} of {kind}", place(index, shape)),
                };
                format!("{what} is {number}, which does not fit into {wanted}")
            })
        });
        narrowed.collect()
    }
}

/// How many elements a shape has; `None` if more than can be counted.
pub fn count(shape: &[usize]) -> Option<usize> {
    // A size of 0 makes the others meaningless.
    if shape.contains(&0) {
        return Some(0);
    }
    shape.iter().try_fold(1usize, |count, &size| count.checked_mul(size))
}

/// Where the element of this number stands, e.g. `[0, 2]`.
pub fn place(mut index: usize, shape: &[usize]) -> Vec<usize> {
    let mut place = vec![0; shape.len()];
    for (place, &size) in place.iter_mut().zip(shape).rev() {
        (*place, index) = (index % size.max(1), index / size.max(1));
    }
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_for_people() {
        let cases: [(f64, &str); 11] = [
            (0.123456789, "0.123457"),
            (1.0, "1"),
            (1234567.0, "1234567"),
            (-2.5, "-2.5"),
            (0.0, "0"),
            (-0.0, "0"),
            (1e300, "1e300"),
            (-1.23456789e-12, "-1.23457e-12"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (value, expected) in cases {
            assert_eq!(Number::Double(value).to_string(), expected);
        }
        assert_eq!(Number::Integer(u64::MAX.into()).to_string(), "18446744073709551615");
    }

    #[test]
    fn places_count_from_the_last_axis() {
        assert_eq!(place(5, &[2, 3]), [1, 2]);
        assert_eq!(place(0, &[]), [0; 0]);
        assert_eq!(count(&[usize::MAX, 2]), None);
        assert_eq!(count(&[usize::MAX, 2, 0]), Some(0));
        assert_eq!(count(&[]), Some(1));
    }

    #[test]
    fn only_whole_numbers_are_integers() {
        assert_eq!(Number::Single(-3.0).to_integer(), Some(-3));
        for value in [0.5, f64::NAN, f64::INFINITY] {
            assert_eq!(Number::Double(value).to_integer(), None, "{value}");
        }
    }
}
