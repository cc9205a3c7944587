//! Candle tensors to the engine's values and back. This is the only place that knows both.

use std::ops::Range;

use candle_core::{CpuStorage, DType, Device, Storage as CandleStorage, Tensor, WithDType};
use coreml_engine::{Buffer, Element, OpError, Storage, TensorRef};
use coreml_format::mil::ElementType;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use smallvec::SmallVec;

use crate::error::ValueError;
use crate::words::{numpy_dtype, numpy_element};

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
        let tensor = match tensor.device() {
            Device::Cpu => tensor.clone(),
            _ => tensor.to_device(&Device::Cpu)?,
        };
        let same = matches!(
            (tensor.dtype(), storage),
            (DType::F32, Storage::F32) | (DType::I32, Storage::I32) | (DType::I16, Storage::I16)
        );
        let offsets = tensor.storage_and_layout().1.contiguous_offsets();
        if let (true, Some((start, end))) = (same, offsets) {
            if storage == Storage::F32 {
                let held = tensor.storage_and_layout().0;
                let values = elements_of(&held, start..end);
                check_floats::<f32>(bytemuck::cast_slice(values), tensor.dims(), element)?;
            }
            self.borrowed = Some((tensor, start, end));
            return Ok(());
        }
        if self.widen(&tensor, storage)? { Ok(()) } else { self.convert(&tensor, element, storage) }
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
            Storage::F32 => check_floats::<f32>(bytemuck::cast_slice(room), shape, element),
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
        let dtype = match storage {
            Storage::F32 | Storage::F16 | Storage::F64 => DType::F64,
            _ => DType::I64,
        };
        self.set(&Tensor::new(value, &Device::Cpu)?.to_dtype(dtype)?, element, storage)?;
        let one: SmallVec<[u8; 8]> = self.buffer.bytes()[..self.len].into();
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

    /// Halves as floats, the usual case, without a detour; false for other tensors.
    fn widen(&mut self, tensor: &Tensor, storage: Storage) -> Result<bool, ValueError> {
        let (held, layout) = tensor.storage_and_layout();
        let (CandleStorage::Cpu(CpuStorage::F16(halves)), Storage::F32, Some((start, end))) =
            (&*held, storage, layout.contiguous_offsets())
        else {
            return Ok(false);
        };
        let halves = halves.get(start..end).unwrap_or_default();
        let room = self.room(size_of_val(halves) * 2)?;
        halves.convert_to_f32_slice(bytemuck::cast_slice_mut(room));
        Ok(true)
    }

    /// A converted copy of a tensor's elements.
    fn convert(
        &mut self,
        tensor: &Tensor,
        element: ElementType,
        storage: Storage,
    ) -> Result<(), ValueError> {
        let given = tensor.dtype();
        let wrong = || {
            let wanted = match storage {
                Storage::F32 | Storage::F64 | Storage::F16 => {
                    "a float dtype (float16, bfloat16, float32, float64)"
                }
                _ => "an integer dtype (uint8, uint32, int16, int32, int64)",
            };
            let expected = format!("{wanted} for `{}`", numpy_element(element));
            ValueError::mismatch(expected, format!("`{}`", numpy_dtype(given)))
        };
        let flat = tensor.flatten_all()?;
        let is_float = matches!(storage, Storage::F32 | Storage::F16 | Storage::F64);
        if is_float && given == DType::F64 {
            check_floats(&flat.to_vec1::<f64>()?, tensor.dims(), element)?;
        } else if is_float && given.is_float() && given != DType::F16 {
            check_floats(&flat.to_dtype(DType::F32)?.to_vec1::<f32>()?, tensor.dims(), element)?;
        }
        match storage {
            Storage::F32 | Storage::F16 | Storage::F64 if !given.is_float() => Err(wrong()),
            Storage::F32 => self.copy(&flat.to_dtype(DType::F32)?.to_vec1::<f32>()?),
            Storage::F16 => self.copy(&flat.to_dtype(DType::F16)?.to_vec1::<f16>()?),
            Storage::F64 => self.copy(&flat.to_dtype(DType::F64)?.to_vec1::<f64>()?),
            _ if given.is_float() => Err(wrong()),
            _ => {
                let values = flat.to_dtype(DType::I64)?.to_vec1()?;
                self.integers(&values, tensor.dims(), element, storage)
            }
        }
    }

    fn integers(
        &mut self,
        values: &[i64],
        shape: &[usize],
        element: ElementType,
        storage: Storage,
    ) -> Result<(), ValueError> {
        match storage {
            Storage::Bool => {
                self.copy(&values.iter().map(|&value| u8::from(value != 0)).collect::<Vec<u8>>())
            }
            Storage::I8 => self.copy(&narrowed::<i8>(values, shape, element)?),
            Storage::U8 => self.copy(&narrowed::<u8>(values, shape, element)?),
            Storage::I16 => self.copy(&narrowed::<i16>(values, shape, element)?),
            Storage::U16 => self.copy(&narrowed::<u16>(values, shape, element)?),
            Storage::U32 => self.copy(&narrowed::<u32>(values, shape, element)?),
            Storage::U64 => self.copy(&narrowed::<u64>(values, shape, element)?),
            Storage::I64 => self.copy(values),
            _ => self.copy(&narrowed::<i32>(values, shape, element)?),
        }
    }

    fn copy<T: Element>(&mut self, values: &[T]) -> Result<(), ValueError> {
        self.room(size_of_val(values))?.copy_from_slice(bytemuck::cast_slice(values));
        Ok(())
    }

    /// Calls `use_bytes` with the bytes of all inputs.
    pub(crate) fn with_all<'i, R>(
        inputs: impl Iterator<Item = &'i InputBytes> + Clone,
        use_bytes: impl FnOnce(&[&[u8]]) -> R,
    ) -> R {
        let borrowed = |input: &'i InputBytes| {
            let (tensor, start, end) = input.borrowed.as_ref()?;
            Some((tensor.storage_and_layout().0, *start, *end))
        };
        let guards: SmallVec<[_; MOST_INLINE]> = inputs.clone().map(borrowed).collect();
        let bytes: SmallVec<[&[u8]; MOST_INLINE]> = inputs
            .zip(&guards)
            .map(|(input, guard)| match guard {
                Some((held, start, end)) => elements_of(held, *start..*end),
                None => &input.buffer.bytes()[..input.len],
            })
            .collect();
        use_bytes(&bytes)
    }
}

/// Inputs of a call that take no memory to be listed; few functions have more.
const MOST_INLINE: usize = 8;

/// Elements in Candle's memory that the engine takes as they are.
fn elements_of(held: &CandleStorage, range: Range<usize>) -> &[u8] {
    let CandleStorage::Cpu(storage) = held else { return &[] };
    match storage {
        CpuStorage::F32(values) => bytemuck::cast_slice(&values[range]),
        CpuStorage::I32(values) => bytemuck::cast_slice(&values[range]),
        CpuStorage::I16(values) => bytemuck::cast_slice(&values[range]),
        _ => &[],
    }
}

fn narrowed<T: Element + TryFrom<i64>>(
    values: &[i64],
    shape: &[usize],
    element: ElementType,
) -> Result<Vec<T>, ValueError> {
    let narrow = |(place, &value): (usize, &i64)| {
        T::try_from(value).map_err(|_| out_of_range(value, place, shape, element))
    };
    values.iter().enumerate().map(narrow).collect()
}

/// Fails where a finite number would be infinite in its type.
fn check_floats<T: Copy + Into<f64> + std::fmt::Debug>(
    values: &[T],
    shape: &[usize],
    element: ElementType,
) -> Result<(), ValueError> {
    // Half a unit of the last place beyond the largest number: from there on, rounding goes to infinity.
    let (digits, exponent) = match element {
        ElementType::Float16 => (f16::MANTISSA_DIGITS, f16::MAX_EXP),
        ElementType::BFloat16 => (bf16::MANTISSA_DIGITS, bf16::MAX_EXP),
        ElementType::Float32 => (f32::MANTISSA_DIGITS, f32::MAX_EXP),
        _ => return Ok(()),
    };
    let infinite = (2.0 - 0.5f64.powi(digits as i32)) * 2f64.powi(exponent - 1);
    let fits = |value: T| {
        let value: f64 = value.into();
        value.abs() < infinite || !value.is_finite()
    };
    match values.iter().position(|&value| !fits(value)) {
        Some(place) => Err(out_of_range(values[place], place, shape, element)),
        None => Ok(()),
    }
}

/// The error of a number at a place among those of a shape.
fn out_of_range(
    value: impl std::fmt::Debug,
    mut place: usize,
    shape: &[usize],
    element: ElementType,
) -> ValueError {
    let mut index = vec![0; shape.len()];
    for (index, &size) in index.iter_mut().zip(shape).rev() {
        *index = place % size.max(1);
        place /= size.max(1);
    }
    ValueError::OutOfRange { value: format!("{value:?}"), index, element }
}

/// A tensor of elements that `write` writes.
pub(crate) fn written<T: WithDType + Element>(
    shape: &[usize],
    write: &mut dyn FnMut(&mut [T]) -> Result<(), ValueError>,
) -> Result<Tensor, ValueError> {
    let mut bytes = InputBytes::default();
    bytes.write(shape, ElementType::Float32, write)?;
    let values = bytemuck::cast_slice::<u8, T>(&bytes.buffer.bytes()[..bytes.len]);
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
