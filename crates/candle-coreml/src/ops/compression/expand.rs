//! Compressed constants made plain.

use coreml_format::mil::ElementType;
use coreml_kernels::decompress;
use coreml_kernels::unpack::{packed_len, unpack_signed, unpack_unsigned};
use half::f16;

use crate::ops::OpError;
use crate::value::{
    Buffer, Bytes, Constant, ConstantData, Shape, Storage, TensorRef, element_count,
};

/// The dense form of a constant: `F16` or `F32` as its tables or scales are held, integers as they
/// are computed with, packed ones one to a byte.
///
/// # Errors
/// When parts of the constant do not fit each other, there is no memory, or it holds strings.
pub(crate) fn expand(constant: &Constant) -> Result<Constant, OpError> {
    match &constant.data {
        ConstantData::Dense(..) => Ok(constant.clone()),
        ConstantData::Strings(_) => Err(OpError::unsupported("strings as elements of a tensor")),
        ConstantData::Packed(bytes) => {
            let (bits, signed) = integer(constant.element)?;
            let data = unpack(bytes.as_slice(), bits, signed, elements(&constant.shape)?)?;
            let storage = if signed { Storage::I8 } else { Storage::U8 };
            dense(constant.element, storage, &constant.shape, &data)
        }
        ConstantData::Palettized(data) => {
            let indices =
                unpack(data.indices.as_slice(), data.bits, false, elements(&constant.shape)?)?;
            let mut lut_shape = data.groups.clone();
            lut_shape.extend([1 << data.bits, 1]);
            let lut = data.lut.as_slice();
            let size = data.lut_storage.size();
            let bytes = look_up(&indices, &constant.shape, lut, size, &lut_shape, None)?;
            dense(constant.element, data.lut_storage, &constant.shape, &bytes)
        }
        ConstantData::Blockwise(data) => {
            let (shape, bits) = (&constant.shape, data.bits);
            let bytes = unpack(data.data.as_slice(), bits, data.signed, elements(shape)?)?;
            let storage = if data.signed { Storage::I8 } else { Storage::U8 };
            let bytes = shift_scale(
                &TensorRef { element: constant.element, storage, shape, bytes: &bytes },
                &TensorRef {
                    element: constant.element,
                    storage: data.scale_storage,
                    shape: &data.blocks,
                    bytes: data.scale.as_slice(),
                },
                data.offset.as_ref().map(|offset| bytemuck::cast_slice(offset.as_slice())),
            )?;
            dense(constant.element, data.scale_storage, shape, &bytes)
        }
    }
}

pub(super) fn elements(shape: &[usize]) -> Result<usize, OpError> {
    element_count(shape).ok_or_else(|| OpError::invalid(format!("the shape {shape:?} overflows")))
}

/// Bits of a small integer type, and whether it is signed.
pub(super) fn integer(element: ElementType) -> Result<(u8, bool), OpError> {
    match element.bits() {
        bits @ 1..=8 if element.is_int() => {
            Ok((bits as u8, matches!(element, ElementType::Int4 | ElementType::Int8)))
        }
        _ => Err(OpError::unsupported(format!("`{element}` where small integers are needed"))),
    }
}

pub(super) fn unpack(
    packed: &[u8],
    bits: u8,
    signed: bool,
    count: usize,
) -> Result<Vec<u8>, OpError> {
    // Checked before memory is taken: the shape alone may ask for any amount.
    if packed_len(count, bits) != Some(packed.len()) {
        return Err(OpError::invalid(format!(
            "{} bytes hold no {count} elements of {bits} bits",
            packed.len()
        )));
    }
    let mut bytes = vec![0u8; count];
    if signed {
        unpack_signed(bits, packed, bytemuck::cast_slice_mut(&mut bytes))?;
    } else {
        unpack_unsigned(bits, packed, &mut bytes)?;
    }
    Ok(bytes)
}

pub(super) fn dense(
    element: ElementType,
    storage: Storage,
    shape: &[usize],
    bytes: &[u8],
) -> Result<Constant, OpError> {
    if storage.byte_len(shape) != Some(bytes.len()) {
        let got = format!("{} bytes", bytes.len());
        return Err(OpError::invalid(format!("a constant of shape {shape:?} does not have {got}")));
    }
    let bytes = Bytes::from_buffer(Buffer::copy_of(bytes)?);
    Ok(Constant::dense(element, storage, Shape::from_slice(shape), bytes))
}

/// `constexpr_lut_to_dense` of entries of `size` bytes.
pub(super) fn look_up(
    indices: &[u8],
    shape: &[usize],
    lut: &[u8],
    size: usize,
    lut_shape: &[usize],
    vector_axis: Option<isize>,
) -> Result<Vec<u8>, OpError> {
    fn sized<const N: usize>(
        indices: &[u8],
        shape: &[usize],
        lut: &[u8],
        lut_shape: &[usize],
        vector_axis: Option<isize>,
    ) -> Result<Vec<u8>, OpError> {
        let lut = lut.as_chunks::<N>().0;
        let values = decompress::lut_to_dense(indices, shape, lut, lut_shape, vector_axis)?;
        Ok(values.into_flattened())
    }
    match size {
        1 => sized::<1>(indices, shape, lut, lut_shape, vector_axis),
        2 => sized::<2>(indices, shape, lut, lut_shape, vector_axis),
        4 => sized::<4>(indices, shape, lut, lut_shape, vector_axis),
        _ => Err(OpError::unsupported("tables of elements wider than 32 bits")),
    }
}

/// Numbers widened to `f32`.
pub(super) fn floats(tensor: &TensorRef) -> Result<Vec<f32>, OpError> {
    Ok(match tensor.storage {
        Storage::U8 => tensor.slice::<u8>()?.iter().map(|&value| f32::from(value)).collect(),
        Storage::I8 => tensor.slice::<i8>()?.iter().map(|&value| f32::from(value)).collect(),
        Storage::F16 => tensor.slice::<f16>()?.iter().map(|value| value.to_f32()).collect(),
        _ => tensor.f32s()?.to_vec(),
    })
}

/// `constexpr_blockwise_shift_scale`; the result is held as the scales are.
pub(super) fn shift_scale(
    data: &TensorRef,
    scale: &TensorRef,
    offset: Option<&[f32]>,
) -> Result<Vec<u8>, OpError> {
    fn of<Q: decompress::Number>(
        data: &[Q],
        shape: &[usize],
        scale: &TensorRef,
        offset: Option<&[f32]>,
    ) -> Result<Vec<u8>, OpError> {
        if scale.storage == Storage::F16 {
            let (values, blocks) = (scale.slice::<f16>()?, scale.shape);
            let values = decompress::blockwise_shift_scale(data, shape, values, blocks, offset)?;
            return Ok(bytemuck::cast_slice(&values).to_vec());
        }
        let (values, blocks) = (scale.f32s()?, scale.shape);
        let values = decompress::blockwise_shift_scale(data, shape, values, blocks, offset)?;
        Ok(bytemuck::cast_slice(&values).to_vec())
    }
    match data.storage {
        Storage::U8 => of(data.slice::<u8>()?, data.shape, scale, offset),
        Storage::I8 => of(data.slice::<i8>()?, data.shape, scale, offset),
        _ => of(&floats(data)?, data.shape, scale, offset),
    }
}

/// Elements of `size` bytes where the mask is set, zeros elsewhere.
pub(super) fn spread(nonzero: &[u8], size: usize, mask: &[u8]) -> Result<Vec<u8>, OpError> {
    fn sized<const N: usize>(nonzero: &[u8], mask: &[u8]) -> Result<Vec<u8>, OpError>
    where
        [u8; N]: Default,
    {
        let nonzero = nonzero.as_chunks::<N>().0;
        Ok(decompress::sparse_to_dense(nonzero, mask)?.into_flattened())
    }
    match size {
        1 => sized::<1>(nonzero, mask),
        2 => sized::<2>(nonzero, mask),
        4 => sized::<4>(nonzero, mask),
        _ => Err(OpError::unsupported("sparse elements wider than 32 bits")),
    }
}

/// The elements of `size` bytes where the mask is set.
pub(super) fn marked(values: &[u8], size: usize, mask: &[u8]) -> Vec<u8> {
    let elements = values.chunks_exact(size).zip(mask);
    elements.filter(|(_, mask)| **mask != 0).flat_map(|(element, _)| element).copied().collect()
}
