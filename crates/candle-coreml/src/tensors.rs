//! Candle tensors to the engine's values and back. This is the only place that knows both.

use std::ops::Range;

use candle_core::{CpuStorage, DType, Device, Storage as CandleStorage, Tensor, WithDType};
use coreml_engine::{Buffer, Element, OpError, Storage, TensorRef};
use coreml_format::mil::ElementType;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use smallvec::SmallVec;

use crate::error::ValueError;

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
            self.borrowed = Some((tensor, start, end));
            return Ok(());
        }
        if self.widen(&tensor, storage)? { Ok(()) } else { self.convert(&tensor, element, storage) }
    }

    /// Lets `write` write the elements of a shape. Those of the write before are still there, if there
    /// were as many.
    pub(crate) fn write<T: Element>(
        &mut self,
        shape: &[usize],
        write: &mut dyn FnMut(&mut [T]) -> Result<(), ValueError>,
    ) -> Result<(), ValueError> {
        let len = T::STORAGE.byte_len(shape).unwrap_or(usize::MAX);
        write(bytemuck::cast_slice_mut(self.room(len)?))
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
                Storage::F32 | Storage::F64 | Storage::F16 => "a float dtype (F16, BF16, F32, F64)",
                _ => "an integer dtype (U8, U32, I16, I32, I64)",
            };
            ValueError::mismatch(format!("{wanted} for `{element}`"), format!("{given:?}"))
        };
        let flat = tensor.flatten_all()?;
        match storage {
            Storage::F32 | Storage::F16 | Storage::F64 if !given.is_float() => Err(wrong()),
            Storage::F32 => self.copy(&flat.to_dtype(DType::F32)?.to_vec1::<f32>()?),
            Storage::F16 => self.copy(&flat.to_dtype(DType::F16)?.to_vec1::<f16>()?),
            Storage::F64 => self.copy(&flat.to_dtype(DType::F64)?.to_vec1::<f64>()?),
            _ if given.is_float() => Err(wrong()),
            _ => self.integers(&flat.to_dtype(DType::I64)?.to_vec1()?, element, storage),
        }
    }

    fn integers(
        &mut self,
        values: &[i64],
        element: ElementType,
        storage: Storage,
    ) -> Result<(), ValueError> {
        match storage {
            Storage::Bool => {
                self.copy(&values.iter().map(|&value| u8::from(value != 0)).collect::<Vec<u8>>())
            }
            Storage::I8 => self.copy(&narrowed::<i8>(values, element)?),
            Storage::U8 => self.copy(&narrowed::<u8>(values, element)?),
            Storage::I16 => self.copy(&narrowed::<i16>(values, element)?),
            Storage::U16 => self.copy(&narrowed::<u16>(values, element)?),
            Storage::U32 => self.copy(&narrowed::<u32>(values, element)?),
            Storage::U64 => self.copy(&narrowed::<u64>(values, element)?),
            Storage::I64 => self.copy(values),
            _ => self.copy(&narrowed::<i32>(values, element)?),
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
    element: ElementType,
) -> Result<Vec<T>, ValueError> {
    let narrow =
        |&value: &i64| T::try_from(value).map_err(|_| ValueError::OutOfRange { value, element });
    values.iter().map(narrow).collect()
}

/// A tensor of one number everywhere, of a dtype for inputs that are held so.
pub(crate) fn filled(value: f64, shape: &[usize], storage: Storage) -> Result<Tensor, ValueError> {
    let dtype = match storage {
        Storage::F32 | Storage::F16 | Storage::F64 => DType::F32,
        _ => DType::I64,
    };
    Ok(Tensor::full(value as f32, shape, &Device::Cpu)?.to_dtype(dtype)?)
}

/// A tensor of elements that `write` writes.
pub(crate) fn written<T: WithDType + Element>(
    shape: &[usize],
    write: &mut dyn FnMut(&mut [T]) -> Result<(), ValueError>,
) -> Result<Tensor, ValueError> {
    let mut bytes = InputBytes::default();
    bytes.write(shape, write)?;
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
