//! Shapes, storage and typed views of tensors.

use bytemuck::Pod;
use coreml_format::mil::ElementType;
use half::f16;
use smallvec::SmallVec;

use super::Strides;
use crate::error::OpError;

/// A concrete shape, outermost dimension first.
pub type Shape = SmallVec<[usize; 6]>;

/// Number of elements of a shape, or `None` when it overflows.
pub fn element_count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |count, &size| count.checked_mul(size))
}

/// How the elements of a value are held in memory.
///
/// The element type says what the program means, the storage what the bytes are. Activations of
/// the narrow float types are held as `F32` (at least as precise, and what the CPU computes with);
/// weights and states stay `F16`. Sub-byte integers are held one to a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // each variant is the Rust type that its name says; `Bool` is one byte
pub enum Storage {
    Bool,
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    I64,
    U64,
    F16,
    F32,
    F64,
}

impl Storage {
    /// The storage in which operations compute on an element type; `None` for strings
    /// and for types that the engine does not know yet.
    pub fn natural(element: ElementType) -> Option<Storage> {
        use ElementType::*;
        Some(match element {
            Bool => Storage::Bool,
            Float8E4M3FN | Float8E5M2 | Float16 | BFloat16 | Float32 => Storage::F32,
            Float64 => Storage::F64,
            Int4 | Int8 => Storage::I8,
            UInt1 | UInt2 | UInt3 | UInt4 | UInt6 | UInt8 => Storage::U8,
            Int16 => Storage::I16,
            UInt16 => Storage::U16,
            Int32 => Storage::I32,
            UInt32 => Storage::U32,
            Int64 => Storage::I64,
            UInt64 => Storage::U64,
            _ => return None,
        })
    }

    /// The storage of a state's buffer: as the program declares it, so that `fp16` caches take two
    /// bytes an element.
    pub fn of_state(element: ElementType) -> Option<Storage> {
        match element {
            ElementType::Float16 => Some(Storage::F16),
            other => Storage::natural(other),
        }
    }

    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Storage::Bool | Storage::I8 | Storage::U8 => 1,
            Storage::I16 | Storage::U16 | Storage::F16 => 2,
            Storage::I32 | Storage::U32 | Storage::F32 => 4,
            Storage::I64 | Storage::U64 | Storage::F64 => 8,
        }
    }

    /// Bytes that a tensor of this shape takes, or `None` on overflow.
    pub fn byte_len(self, shape: &[usize]) -> Option<usize> {
        element_count(shape)?.checked_mul(self.size())
    }
}

/// A Rust type that is held as one [`Storage`]; `bool` is held as `u8`.
pub trait Element: Pod + Default + PartialOrd + Send + Sync {
    /// The storage.
    const STORAGE: Storage;
}

impl Element for i8 {
    const STORAGE: Storage = Storage::I8;
}
impl Element for u8 {
    const STORAGE: Storage = Storage::U8;
}
impl Element for i16 {
    const STORAGE: Storage = Storage::I16;
}
impl Element for u16 {
    const STORAGE: Storage = Storage::U16;
}
impl Element for i32 {
    const STORAGE: Storage = Storage::I32;
}
impl Element for u32 {
    const STORAGE: Storage = Storage::U32;
}
impl Element for i64 {
    const STORAGE: Storage = Storage::I64;
}
impl Element for u64 {
    const STORAGE: Storage = Storage::U64;
}
impl Element for f16 {
    const STORAGE: Storage = Storage::F16;
}
impl Element for f32 {
    const STORAGE: Storage = Storage::F32;
}
impl Element for f64 {
    const STORAGE: Storage = Storage::F64;
}

/// A tensor to read.
#[derive(Clone, Copy, Debug)]
pub struct TensorRef<'a> {
    /// What the elements mean.
    pub element: ElementType,
    /// How they are held.
    pub storage: Storage,
    /// The shape.
    pub shape: &'a [usize],
    /// Strides in elements; `None` for a dense tensor in row-major order.
    pub(crate) strides: Option<&'a Strides>,
    /// Place of the first element in `bytes`, in elements; 0 for a dense tensor.
    pub(crate) start: usize,
    /// The elements; of a strided tensor the buffer that they lie in.
    pub(crate) bytes: &'a [u8],
}

/// A tensor to write.
#[derive(Debug)]
pub(crate) struct TensorMut<'a> {
    pub(crate) element: ElementType,
    pub(crate) storage: Storage,
    pub(crate) bytes: &'a mut [u8],
}

/// The elements of an integer tensor, whatever their width: reading them takes no memory.
#[derive(Clone, Copy)]
pub(crate) enum Ints<'a> {
    I8(&'a [i8]),
    U8(&'a [u8]),
    I16(&'a [i16]),
    U16(&'a [u16]),
    I32(&'a [i32]),
    U32(&'a [u32]),
    I64(&'a [i64]),
    U64(&'a [u64]),
}

impl Ints<'_> {
    /// Element `index`, widened; a `u64` above the largest `i64` becomes that.
    pub(crate) fn get(self, index: usize) -> Option<i64> {
        match self {
            Ints::I8(values) => values.get(index).map(|&value| value.into()),
            Ints::U8(values) => values.get(index).map(|&value| value.into()),
            Ints::I16(values) => values.get(index).map(|&value| value.into()),
            Ints::U16(values) => values.get(index).map(|&value| value.into()),
            Ints::I32(values) => values.get(index).map(|&value| value.into()),
            Ints::U32(values) => values.get(index).map(|&value| value.into()),
            Ints::I64(values) => values.get(index).copied(),
            Ints::U64(values) => {
                values.get(index).map(|&value| i64::try_from(value).unwrap_or(i64::MAX))
            }
        }
    }
}

fn wrong_storage(wanted: Storage, element: ElementType, storage: Storage) -> OpError {
    OpError::unsupported(format!(
        "a tensor of element type `{element}` (held as {storage:?}) where {wanted:?} is computed"
    ))
}

impl<'a> TensorRef<'a> {
    /// A dense tensor.
    pub fn dense(
        element: ElementType,
        storage: Storage,
        shape: &'a [usize],
        bytes: &'a [u8],
    ) -> Self {
        TensorRef { element, storage, shape, strides: None, start: 0, bytes }
    }

    /// The bytes of a dense tensor.
    ///
    /// # Errors
    /// If the tensor is strided.
    pub fn dense_bytes(&self) -> Result<&'a [u8], OpError> {
        match self.strides {
            None => Ok(self.bytes),
            Some(_) => Err(OpError::invalid("a strided tensor where a dense one is read")),
        }
    }

    /// The elements of a dense tensor as `T`. A bool tensor reads as `u8`.
    ///
    /// # Errors
    /// If the tensor is held otherwise or strided.
    pub fn slice<T: Element>(&self) -> Result<&'a [T], OpError> {
        self.dense_bytes()?;
        self.buffer()
    }

    /// All elements of the buffer that the tensor's elements lie in: see [`Layout::of`](super::Layout::of).
    pub(crate) fn buffer<T: Element>(&self) -> Result<&'a [T], OpError> {
        let bool_as_u8 = self.storage == Storage::Bool && T::STORAGE == Storage::U8;
        if self.storage != T::STORAGE && !bool_as_u8 {
            return Err(wrong_storage(T::STORAGE, self.element, self.storage));
        }
        bytemuck::try_cast_slice(self.bytes)
            .map_err(|error| OpError::unsupported(format!("a tensor in memory: {error}")))
    }

    /// The elements as `f32`.
    pub(crate) fn f32s(&self) -> Result<&'a [f32], OpError> {
        self.slice()
    }

    /// Integer or bool elements of a dense tensor, widened; for small tensors such as shapes.
    ///
    /// # Errors
    /// If the elements are floats.
    pub fn ints(&self) -> Result<SmallVec<[i64; 8]>, OpError> {
        let ints = self.int_elements()?;
        Ok((0..self.len()).filter_map(|index| ints.get(index)).collect())
    }

    /// Integer or bool elements, to be widened one by one.
    pub(crate) fn int_elements(&self) -> Result<Ints<'a>, OpError> {
        Ok(match self.storage {
            Storage::Bool | Storage::U8 => Ints::U8(self.slice()?),
            Storage::I8 => Ints::I8(self.slice()?),
            Storage::I16 => Ints::I16(self.slice()?),
            Storage::U16 => Ints::U16(self.slice()?),
            Storage::I32 => Ints::I32(self.slice()?),
            Storage::U32 => Ints::U32(self.slice()?),
            Storage::I64 => Ints::I64(self.slice()?),
            Storage::U64 => Ints::U64(self.slice()?),
            Storage::F16 | Storage::F32 | Storage::F64 => {
                return Err(wrong_storage(Storage::I32, self.element, self.storage));
            }
        })
    }

    /// The one number of a scalar, or of a tensor of one element. All of up to 32 bits are exact.
    pub(crate) fn scalar_f64(&self) -> Result<f64, OpError> {
        let value = match self.storage {
            Storage::F32 => self.slice::<f32>()?.first().map(|&v| v.into()),
            Storage::F16 => self.slice::<f16>()?.first().map(|v| v.to_f64()),
            Storage::F64 => self.slice::<f64>()?.first().copied(),
            _ => self.ints()?.first().map(|&v| v as f64),
        };
        value.ok_or_else(|| OpError::invalid("an empty tensor where a scalar is needed"))
    }

    /// As [`TensorRef::scalar_f64`], in single precision.
    pub(crate) fn scalar_f32(&self) -> Result<f32, OpError> {
        Ok(self.scalar_f64()? as f32)
    }

    /// The one integer of a scalar, or of a tensor of one element.
    pub(crate) fn scalar_int(&self) -> Result<i64, OpError> {
        self.ints()?
            .first()
            .copied()
            .ok_or_else(|| OpError::invalid("an empty tensor where a scalar is needed"))
    }

    /// The elements of a small tensor, for people.
    pub(crate) fn brief(&self) -> String {
        let values = match self.storage {
            Storage::F32 => format!("{:?}", self.f32s().unwrap_or_default()),
            Storage::F16 => format!("{:?}", self.slice::<f16>().unwrap_or_default()),
            Storage::F64 => format!("{:?}", self.slice::<f64>().unwrap_or_default()),
            _ => format!("{:?}", self.ints().unwrap_or_default().as_slice()),
        };
        match self.shape.is_empty() {
            true => values.trim_matches(['[', ']']).to_owned(),
            false => values,
        }
    }

    /// Number of elements.
    pub(crate) fn len(&self) -> usize {
        super::count(self.shape)
    }
}

impl TensorMut<'_> {
    /// The elements as `T`. A bool tensor is written as `u8`.
    pub(crate) fn slice<T: Element>(&mut self) -> Result<&mut [T], OpError> {
        let bool_as_u8 = self.storage == Storage::Bool && T::STORAGE == Storage::U8;
        if self.storage != T::STORAGE && !bool_as_u8 {
            return Err(wrong_storage(T::STORAGE, self.element, self.storage));
        }
        bytemuck::try_cast_slice_mut(self.bytes)
            .map_err(|error| OpError::unsupported(format!("a tensor in memory: {error}")))
    }

    /// The elements as `f32`.
    pub(crate) fn f32s(&mut self) -> Result<&mut [f32], OpError> {
        self.slice()
    }
}
