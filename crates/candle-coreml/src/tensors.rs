//! Candle tensors to the engine's values and back. This is the only place that knows both.

use candle_core::{CpuStorage, DType, Device, Storage as CandleStorage, Tensor};
use coreml_engine::{Buffer, Element, OpError, Storage, TensorRef};
use coreml_format::mil::ElementType;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::error::Result;

/// Bytes of an input: the tensor's own where its dtype and layout are what the engine holds, a
/// converted copy otherwise.
pub(crate) enum InputBytes {
    /// The tensor's own memory, from `start` to `end` in elements.
    Borrowed { tensor: Tensor, start: usize, end: usize },
    /// A copy.
    Converted(Buffer),
}

impl InputBytes {
    /// Prepares a tensor for an input of this element type. `Err` holds what is wrong with it.
    pub(crate) fn new(
        tensor: &Tensor,
        element: ElementType,
        storage: Storage,
    ) -> Result<Self, String> {
        let tensor = match tensor.device() {
            Device::Cpu => tensor.clone(),
            _ => tensor.to_device(&Device::Cpu).map_err(|error| error.to_string())?,
        };
        let same = matches!(
            (tensor.dtype(), storage),
            (DType::F32, Storage::F32) | (DType::I32, Storage::I32) | (DType::I16, Storage::I16)
        );
        if same {
            let offsets = tensor.storage_and_layout().1.contiguous_offsets();
            if let Some((start, end)) = offsets {
                return Ok(InputBytes::Borrowed { tensor, start, end });
            }
        }
        if let Some(widened) = widened(&tensor, storage)? {
            return Ok(InputBytes::Converted(widened));
        }
        convert(&tensor, element, storage).map(InputBytes::Converted)
    }

    /// Calls `use_bytes` with the bytes of all inputs.
    pub(crate) fn with_all<R>(inputs: &[InputBytes], use_bytes: impl FnOnce(&[&[u8]]) -> R) -> R {
        let guards: Vec<_> = inputs
            .iter()
            .map(|input| match input {
                InputBytes::Borrowed { tensor, .. } => Some(tensor.storage_and_layout().0),
                InputBytes::Converted(_) => None,
            })
            .collect();
        let mut bytes: Vec<&[u8]> = Vec::with_capacity(inputs.len());
        for (input, guard) in inputs.iter().zip(&guards) {
            bytes.push(match (input, guard.as_deref()) {
                (InputBytes::Converted(buffer), _) => buffer.bytes(),
                (InputBytes::Borrowed { start, end, .. }, Some(CandleStorage::Cpu(storage))) => {
                    match storage {
                        CpuStorage::F32(values) => bytemuck::cast_slice(&values[*start..*end]),
                        CpuStorage::I32(values) => bytemuck::cast_slice(&values[*start..*end]),
                        CpuStorage::I16(values) => bytemuck::cast_slice(&values[*start..*end]),
                        _ => &[],
                    }
                }
                _ => &[],
            });
        }
        use_bytes(&bytes)
    }
}

/// Halves as floats, the usual case, without a detour; `None` for other tensors.
fn widened(tensor: &Tensor, storage: Storage) -> Result<Option<Buffer>, String> {
    let (held, layout) = tensor.storage_and_layout();
    let (CandleStorage::Cpu(CpuStorage::F16(halves)), Storage::F32, Some((start, end))) =
        (&*held, storage, layout.contiguous_offsets())
    else {
        return Ok(None);
    };
    let halves = halves.get(start..end).unwrap_or_default();
    let mut buffer =
        Buffer::zeroed(halves.len() * size_of::<f32>()).map_err(|error| error.to_string())?;
    halves.convert_to_f32_slice(bytemuck::cast_slice_mut(buffer.bytes_mut()));
    Ok(Some(buffer))
}

/// A converted copy of a tensor's elements.
fn convert(tensor: &Tensor, element: ElementType, storage: Storage) -> Result<Buffer, String> {
    let given = tensor.dtype();
    let wrong = || {
        let wanted = match storage {
            Storage::F32 | Storage::F64 | Storage::F16 => "a float dtype (F16, BF16, F32, F64)",
            _ => "an integer dtype (U8, U32, I16, I32, I64)",
        };
        format!("expected {wanted} for `{element}`, got {given:?}")
    };
    let flat = tensor.flatten_all().map_err(|error| error.to_string())?;
    let is_float = given.is_float();
    match storage {
        Storage::F32 | Storage::F16 | Storage::F64 if !is_float => Err(wrong()),
        Storage::F32 => {
            let flat = flat.to_dtype(DType::F32).map_err(|error| error.to_string())?;
            copied(&flat.to_vec1::<f32>().map_err(|error| error.to_string())?)
        }
        Storage::F16 => {
            let flat = flat.to_dtype(DType::F16).map_err(|error| error.to_string())?;
            copied(&flat.to_vec1::<f16>().map_err(|error| error.to_string())?)
        }
        Storage::F64 => {
            let flat = flat.to_dtype(DType::F64).map_err(|error| error.to_string())?;
            copied(&flat.to_vec1::<f64>().map_err(|error| error.to_string())?)
        }
        _ if is_float => Err(wrong()),
        _ => {
            let flat = flat.to_dtype(DType::I64).map_err(|error| error.to_string())?;
            let values = flat.to_vec1::<i64>().map_err(|error| error.to_string())?;
            match storage {
                Storage::Bool => {
                    copied(&values.iter().map(|&value| u8::from(value != 0)).collect::<Vec<u8>>())
                }
                Storage::I8 => narrowed::<i8>(&values, element),
                Storage::U8 => narrowed::<u8>(&values, element),
                Storage::I16 => narrowed::<i16>(&values, element),
                Storage::U16 => narrowed::<u16>(&values, element),
                Storage::U32 => narrowed::<u32>(&values, element),
                Storage::U64 => narrowed::<u64>(&values, element),
                Storage::I64 => copied(&values),
                _ => narrowed::<i32>(&values, element),
            }
        }
    }
}

fn copied<T: Element>(values: &[T]) -> Result<Buffer, String> {
    Buffer::copy_of(bytemuck::cast_slice(values)).map_err(|error| error.to_string())
}

fn narrowed<T: Element + TryFrom<i64>>(
    values: &[i64],
    element: ElementType,
) -> Result<Buffer, String> {
    let narrow = |&value: &i64| {
        T::try_from(value).map_err(|_| format!("the value {value} does not fit into `{element}`"))
    };
    copied(&values.iter().map(narrow).collect::<Result<Vec<T>, String>>()?)
}

/// A value of the engine as a Candle tensor on the CPU, in the dtype nearest to its element type:
/// `bool` and `uint8` as `U8`, `int8` as `I16`, `uint16` as `U32`, `uint64` as `I64`.
pub(crate) fn to_candle(tensor: &TensorRef) -> Result<Tensor> {
    let shape = tensor.shape;
    let device = &Device::Cpu;
    let failed = |error: OpError| candle_core::Error::Msg(error.to_string());
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
