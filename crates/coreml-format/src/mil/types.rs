//! Types of MIL values. Names and codes follow `MIL.proto` of coremltools.

use std::fmt;

/// Element type of a tensor, one for each `MILSpec.DataType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)] // each variant is the type that its name says
#[non_exhaustive]
pub enum ElementType {
    Bool,
    String,
    Float8E4M3FN,
    Float8E5M2,
    Float16,
    Float32,
    Float64,
    BFloat16,
    Int4,
    Int8,
    Int16,
    Int32,
    Int64,
    UInt1,
    UInt2,
    UInt3,
    UInt4,
    UInt6,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
}

/// Each element type with its code in `MILSpec.DataType`, its name in MIL text and its width in bits.
const ELEMENT_TYPES: &[(ElementType, i32, &str, usize)] = &[
    (ElementType::Bool, 1, "bool", 8),
    (ElementType::String, 2, "string", 0),
    (ElementType::Float16, 10, "fp16", 16),
    (ElementType::Float32, 11, "fp32", 32),
    (ElementType::Float64, 12, "fp64", 64),
    (ElementType::BFloat16, 13, "bf16", 16),
    (ElementType::Int8, 21, "int8", 8),
    (ElementType::Int16, 22, "int16", 16),
    (ElementType::Int32, 23, "int32", 32),
    (ElementType::Int64, 24, "int64", 64),
    (ElementType::Int4, 25, "int4", 4),
    (ElementType::UInt8, 31, "uint8", 8),
    (ElementType::UInt16, 32, "uint16", 16),
    (ElementType::UInt32, 33, "uint32", 32),
    (ElementType::UInt64, 34, "uint64", 64),
    (ElementType::UInt4, 35, "uint4", 4),
    (ElementType::UInt2, 36, "uint2", 2),
    (ElementType::UInt1, 37, "uint1", 1),
    (ElementType::UInt6, 38, "uint6", 6),
    (ElementType::UInt3, 39, "uint3", 3),
    (ElementType::Float8E4M3FN, 40, "fp8e4m3fn", 8),
    (ElementType::Float8E5M2, 41, "fp8e5m2", 8),
];

impl ElementType {
    fn row(self) -> &'static (ElementType, i32, &'static str, usize) {
        ELEMENT_TYPES.iter().find(|row| row.0 == self).unwrap_or(&ELEMENT_TYPES[0])
    }

    /// The element type with this code in `MILSpec.DataType`.
    pub fn from_code(code: i32) -> Option<Self> {
        ELEMENT_TYPES.iter().find(|row| row.1 == code).map(|row| row.0)
    }

    /// The code in `MILSpec.DataType`.
    pub(crate) fn code(self) -> i32 {
        self.row().1
    }

    /// The element type with this name in MIL text (`fp16`, `int32`, …).
    pub fn from_name(name: &str) -> Option<Self> {
        ELEMENT_TYPES.iter().find(|row| row.2 == name).map(|row| row.0)
    }

    /// Name in MIL text.
    pub fn name(self) -> &'static str {
        self.row().2
    }

    /// Width of one element in bits, as stored in a weight blob or an immediate value; 0 for strings.
    pub fn bits(self) -> usize {
        self.row().3
    }

    /// True for the floating-point types.
    pub fn is_float(self) -> bool {
        use ElementType::*;
        matches!(self, Float8E4M3FN | Float8E5M2 | Float16 | Float32 | Float64 | BFloat16)
    }

    /// True for signed and unsigned integers; `bool` is not one.
    pub fn is_int(self) -> bool {
        !self.is_float() && !matches!(self, ElementType::Bool | ElementType::String)
    }

    /// True for types narrower than a byte, which are stored as a packed little-endian bit stream.
    pub fn is_sub_byte(self) -> bool {
        self.is_int() && self.bits() < 8
    }

    /// Bytes that `count` elements take when stored (packed for sub-byte types); `None` on overflow
    /// and for strings.
    pub fn storage_bytes(self, count: usize) -> Option<usize> {
        if self == ElementType::String {
            return None;
        }
        count.checked_mul(self.bits()).map(|bits| bits.div_ceil(8))
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One dimension of a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dimension {
    /// A size fixed by the program.
    Fixed(usize),
    /// `?`: known only when the inputs are.
    Unknown,
    /// `…`: any number of unknown dimensions (`UnknownDimension.variadic`).
    Variadic,
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dimension::Fixed(size) => write!(f, "{size}"),
            Dimension::Unknown => f.write_str("?"),
            Dimension::Variadic => f.write_str("..."),
        }
    }
}

/// A tensor's element type and shape; a scalar has no dimensions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// Type of the elements.
    pub element: ElementType,
    /// Dimensions, outermost first.
    pub shape: Vec<Dimension>,
}

impl TensorType {
    /// A tensor type whose dimensions are all fixed.
    pub fn fixed(element: ElementType, shape: &[usize]) -> Self {
        let shape = shape.iter().map(|&size| Dimension::Fixed(size)).collect();
        TensorType { element, shape }
    }

    /// Whether a tensor of this type may have this shape.
    pub fn allows(&self, shape: &[usize]) -> bool {
        self.shape.contains(&Dimension::Variadic)
            || self.shape.len() == shape.len()
                && self.shape.iter().zip(shape).all(|(declared, &size)| {
                    !matches!(declared, Dimension::Fixed(fixed) if *fixed != size)
                })
    }

    /// The shape when every dimension is fixed.
    pub fn fixed_shape(&self) -> Option<Vec<usize>> {
        self.shape
            .iter()
            .map(|dim| match dim {
                Dimension::Fixed(size) => Some(*size),
                _ => None,
            })
            .collect()
    }

    /// Number of elements when every dimension is fixed and the product does not overflow.
    pub fn element_count(&self) -> Option<usize> {
        self.fixed_shape()?.iter().try_fold(1usize, |count, &size| count.checked_mul(size))
    }
}

/// As in MIL text, which has no `tensor` around the element type of a scalar.
impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.shape.is_empty() {
            return self.element.fmt(f);
        }
        write!(f, "tensor<{}, [", self.element)?;
        for (i, dim) in self.shape.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{dim}")?;
        }
        f.write_str("]>")
    }
}

/// Type of a MIL value (`MILSpec.ValueType`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ValueType {
    /// A tensor; a scalar is a tensor of rank 0.
    Tensor(TensorType),
    /// A list whose elements share one type; the length may be unknown.
    List(Box<ValueType>, Dimension),
    /// A tuple.
    Tuple(Vec<ValueType>),
    /// A dictionary: key type, value type.
    Dictionary(Box<ValueType>, Box<ValueType>),
    /// A state that wraps a value, updated in place between predictions.
    State(Box<ValueType>),
}

impl ValueType {
    /// The tensor type, if this is a tensor or a state that wraps one.
    pub fn as_tensor(&self) -> Option<&TensorType> {
        match self {
            ValueType::Tensor(tensor) => Some(tensor),
            ValueType::State(wrapped) => wrapped.as_tensor(),
            _ => None,
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ValueType::Tensor(tensor) => tensor.fmt(f),
            ValueType::List(element, length) => write!(f, "list<{element}, {length}>"),
            ValueType::Tuple(types) => {
                f.write_str("tuple<")?;
                for (i, ty) in types.iter().enumerate() {
                    if i > 0 {
                        f.write_str(", ")?;
                    }
                    ty.fmt(f)?;
                }
                f.write_str(">")
            }
            ValueType::Dictionary(key, value) => write!(f, "dict<{key}, {value}>"),
            ValueType::State(wrapped) => write!(f, "state<{wrapped}>"),
        }
    }
}
