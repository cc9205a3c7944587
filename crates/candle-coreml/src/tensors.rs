//! Candle tensors to the engine's values and back. This is the only place that knows both.

use std::ops::Range;

use candle_core::{CpuStorage, DType, Device, Storage as CandleStorage, Tensor, WithDType};
use coreml_engine::{Buffer, Element, OpError, Storage, TensorRef};
use coreml_format::mil::ElementType;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use smallvec::SmallVec;

use crate::error::ValueError;
use crate::values::{self, Array, Numbers};
use crate::words::numpy_dtype;

/// Bytes of an input: a tensor's own where its dtype and layout are what the engine holds, else written
/// into memory that serves again.
#[derive(Default)]
pub(crate) struct InputBytes {
    /// The tensor whose memory it is, and from where to where, in elements.
    borrowed: Option<(Tensor, usize, usize)>,
    buffer: Buffer,
    /// Bytes of the buffer in use.
    len: usize,
}

impl InputBytes {
    /// Takes a tensor for an input of this element type.
    pub(crate) fn set(
        &mut self,
        tensor: &Tensor,
        element: ElementType,
        storage: Storage,
    ) -> Result<(), ValueError> {
        self.borrowed = None;
        let wants_floats = matches!(storage, Storage::F16 | Storage::F32 | Storage::F64);
        if tensor.dtype().is_float() != wants_floats {
            return Err(values::wrong_dtype(wants_floats, element, &numpy_dtype(tensor.dtype())));
        }
        let tensor = on_the_cpu(tensor)?;
        let place = tensor.storage_and_layout().1.contiguous_offsets();
        if let Some((start, end)) = place
            && with_array(&tensor, |array| values::fits_as_it_is(array, element, storage))?
        {
            self.borrowed = Some((tensor, start, end));
            return Ok(());
        }
        with_array(&tensor, |array| self.set_array(array, element, storage))
    }

    /// Takes a copy of an array.
    pub(crate) fn set_array(
        &mut self,
        array: &Array,
        element: ElementType,
        storage: Storage,
    ) -> Result<(), ValueError> {
        self.borrowed = None;
        self.len = values::convert(array, element, storage, &mut self.buffer)?;
        Ok(())
    }

    /// Lets `write` write the elements of a shape, which mean this type. Those of the write before are
    /// still there, if there were as many.
    pub(crate) fn write<T: Element>(
        &mut self,
        shape: &[usize],
        element: ElementType,
        write: &mut dyn FnMut(&mut [T]) -> Result<(), ValueError>,
    ) -> Result<(), ValueError> {
        let len = T::STORAGE.byte_len(shape).unwrap_or(usize::MAX);
        let room = self.room(len)?;
        write(bytemuck::cast_slice_mut(room))?;
        match T::STORAGE {
            Storage::F32 => values::check_floats::<f32>(bytemuck::cast_slice(room), shape, element),
            _ => Ok(()),
        }
    }

    /// Takes one number for all elements of a shape: the nearest that the input holds.
    pub(crate) fn fill(
        &mut self,
        value: f64,
        shape: &[usize],
        element: ElementType,
        storage: Storage,
    ) -> Result<(), ValueError> {
        match storage {
            Storage::F16 | Storage::F32 | Storage::F64 => {
                self.set_array(&Array::new(&[], [value].as_slice())?, element, storage)?;
            }
            _ => {
                let value = [value as i64];
                self.set_array(&Array::new(&[], value.as_slice())?, element, storage)?;
            }
        }
        let one: SmallVec<[u8; 8]> = self.bytes().into();
        let room = self.room(storage.byte_len(shape).unwrap_or(usize::MAX))?;
        room.chunks_exact_mut(one.len()).for_each(|element| element.copy_from_slice(&one));
        Ok(())
    }

    /// Forgets the tensor, so that its memory is not held any longer.
    pub(crate) fn let_go(&mut self) {
        self.borrowed = None;
    }

    /// So many bytes to write.
    fn room(&mut self, len: usize) -> Result<&mut [u8], ValueError> {
        self.borrowed = None;
        self.buffer.grow(len)?;
        self.len = len;
        Ok(&mut self.buffer.bytes_mut()[..len])
    }

    /// Calls `use_bytes` with the bytes of all inputs: of those with an array the array's.
    pub(crate) fn with_all<'i, R>(
        inputs: impl Iterator<Item = (&'i InputBytes, Option<&'i [u8]>)> + Clone,
        use_bytes: impl FnOnce(&[&[u8]]) -> R,
    ) -> R {
        let borrowed = |(input, array): (&'i InputBytes, Option<_>)| {
            let (tensor, start, end) = input.borrowed.as_ref().filter(|_| array.is_none())?;
            Some((tensor.storage_and_layout().0, *start, *end))
        };
        let guards: SmallVec<[_; MOST_INLINE]> = inputs.clone().map(borrowed).collect();
        let bytes: SmallVec<[&[u8]; MOST_INLINE]> = inputs
            .zip(&guards)
            .map(|((input, array), guard)| match (array, guard) {
                (Some(array), _) => array,
                (None, Some((held, start, end))) => elements_of(held, *start..*end),
                (None, None) => input.bytes(),
            })
            .collect();
        use_bytes(&bytes)
    }

    /// The bytes that were written.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer.bytes()[..self.len]
    }
}

/// Inputs of a call that take no memory to be listed; few functions have more.
const MOST_INLINE: usize = 8;

/// Elements in Candle's memory that the engine takes as they are.
fn elements_of(held: &CandleStorage, range: Range<usize>) -> &[u8] {
    let CandleStorage::Cpu(storage) = held else { return &[] };
    match storage {
        CpuStorage::U8(values) => &values[range],
        CpuStorage::U32(values) => bytemuck::cast_slice(&values[range]),
        CpuStorage::I16(values) => bytemuck::cast_slice(&values[range]),
        CpuStorage::I32(values) => bytemuck::cast_slice(&values[range]),
        CpuStorage::I64(values) => bytemuck::cast_slice(&values[range]),
        CpuStorage::F16(values) => bytemuck::cast_slice(&values[range]),
        CpuStorage::F32(values) => bytemuck::cast_slice(&values[range]),
        CpuStorage::F64(values) => bytemuck::cast_slice(&values[range]),
        _ => &[],
    }
}

/// A tensor in the computer's memory, of one of the types that arrays have.
fn on_the_cpu(tensor: &Tensor) -> Result<Tensor, ValueError> {
    let tensor = match tensor.device() {
        Device::Cpu => tensor.clone(),
        _ => tensor.to_device(&Device::Cpu)?,
    };
    Ok(match tensor.dtype() {
        DType::U8 | DType::U32 | DType::I16 | DType::I32 | DType::I64 => tensor,
        DType::F16 | DType::F32 | DType::F64 => tensor,
        _ => tensor.to_dtype(DType::F32)?,
    })
}

/// Calls `read` with a tensor as an array, which is a copy if its elements do not lie in a row.
pub(crate) fn with_array<R>(
    tensor: &Tensor,
    read: impl FnOnce(&Array) -> Result<R, ValueError>,
) -> Result<R, ValueError> {
    let tensor = on_the_cpu(tensor)?.contiguous()?;
    let (held, layout) = tensor.storage_and_layout();
    let (CandleStorage::Cpu(storage), Some((start, end))) = (&*held, layout.contiguous_offsets())
    else {
        return Err(ValueError::mismatch("a dense tensor on the CPU", format!("{layout:?}")));
    };
    let range = start..end;
    let numbers = match storage {
        CpuStorage::U8(numbers) => Numbers::from(&numbers[range]),
        CpuStorage::U32(numbers) => Numbers::from(&numbers[range]),
        CpuStorage::I16(numbers) => Numbers::from(&numbers[range]),
        CpuStorage::I32(numbers) => Numbers::from(&numbers[range]),
        CpuStorage::I64(numbers) => Numbers::from(&numbers[range]),
        CpuStorage::F16(numbers) => Numbers::from(&numbers[range]),
        CpuStorage::F32(numbers) => Numbers::from(&numbers[range]),
        CpuStorage::F64(numbers) => Numbers::from(&numbers[range]),
        _ => return Err(ValueError::mismatch("numbers", format!("{:?}", tensor.dtype()))),
    };
    read(&Array::new(tensor.dims(), numbers)?)
}

/// A tensor of elements that `write` writes.
pub(crate) fn written<T: WithDType + Element>(
    shape: &[usize],
    write: &mut dyn FnMut(&mut [T]) -> Result<(), ValueError>,
) -> Result<Tensor, ValueError> {
    let mut bytes = InputBytes::default();
    bytes.write(shape, ElementType::Float32, write)?;
    let values = bytemuck::cast_slice::<u8, T>(bytes.bytes());
    Ok(Tensor::from_slice(values, shape, &Device::Cpu)?)
}

/// An error of the engine's about a value.
pub(crate) fn refused(error: OpError) -> ValueError {
    ValueError::Engine(Box::new(error))
}

/// A value of the engine as a Candle tensor on the CPU, in the dtype nearest to its element type:
/// `bool` and `uint8` as `U8`, `int8` as `I16`, `uint16` as `U32`, `uint64` as `I64`.
pub(crate) fn to_candle(tensor: &TensorRef) -> Result<Tensor, ValueError> {
    let shape = tensor.shape;
    let device = &Device::Cpu;
    let failed = refused;
    let made = match tensor.storage {
        Storage::F32 => {
            let values = tensor.slice::<f32>().map_err(failed)?;
            match tensor.element {
                ElementType::Float16 => {
                    let mut halves = vec![f16::ZERO; values.len()];
                    halves.convert_from_f32_slice(values);
                    Tensor::from_vec(halves, shape, device)
                }
                ElementType::BFloat16 => {
                    let values: Vec<bf16> = values.iter().map(|&v| bf16::from_f32(v)).collect();
                    Tensor::from_vec(values, shape, device)
                }
                _ => Tensor::from_slice(values, shape, device),
            }
        }
        Storage::F16 => Tensor::from_slice(tensor.slice::<f16>().map_err(failed)?, shape, device),
        Storage::F64 => Tensor::from_slice(tensor.slice::<f64>().map_err(failed)?, shape, device),
        Storage::Bool | Storage::U8 => {
            Tensor::from_slice(tensor.slice::<u8>().map_err(failed)?, shape, device)
        }
        Storage::I16 => Tensor::from_slice(tensor.slice::<i16>().map_err(failed)?, shape, device),
        Storage::I32 => Tensor::from_slice(tensor.slice::<i32>().map_err(failed)?, shape, device),
        Storage::U32 => Tensor::from_slice(tensor.slice::<u32>().map_err(failed)?, shape, device),
        Storage::I64 => Tensor::from_slice(tensor.slice::<i64>().map_err(failed)?, shape, device),
        Storage::I8 => {
            let values = tensor.slice::<i8>().map_err(failed)?.iter().map(|&v| i16::from(v));
            Tensor::from_vec(values.collect(), shape, device)
        }
        Storage::U16 => {
            let values = tensor.slice::<u16>().map_err(failed)?.iter().map(|&v| u32::from(v));
            Tensor::from_vec(values.collect(), shape, device)
        }
        Storage::U64 => {
            let values: Vec<i64> = tensor.ints().map_err(failed)?.to_vec();
            Tensor::from_vec(values, shape, device)
        }
    };
    Ok(made?)
}
