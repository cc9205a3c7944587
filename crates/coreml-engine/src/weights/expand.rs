//! Compressed constants made plain.

use std::borrow::Cow;

use coreml_format::mil::ElementType;
use coreml_kernels::unpack::{packed_len, unpack_signed, unpack_unsigned};
use coreml_kernels::{Context, Workers, decompress};
use half::f16;

use crate::error::OpError;
use crate::value::{
    Buffer, Bytes, Constant, ConstantData, Element, Shape, Storage, TensorRef, Visitor,
    element_count,
};

/// The threads of the process: weights belong to no session whose threads they could use.
fn context() -> Context {
    Context::new(Workers::shared())
}

/// The dense form of a constant: tables' values as these are held, scaled ones as `F16` or `F32` by the
/// scales' type, integers as they are computed with, packed ones one to a byte.
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
            let mut shape = data.groups.clone();
            shape.extend([1 << data.bits, 1]);
            let tables = data.lut.as_slice();
            let lut = TensorRef::dense(constant.element, data.lut_storage, &shape, tables);
            look_up(&indices, &constant.shape, &lut, None)
        }
        ConstantData::Blockwise(data) => {
            let (element, shape) = (constant.element, &constant.shape);
            let bytes = unpack(data.data.as_slice(), data.bits, data.signed, elements(shape)?)?;
            let storage = if data.signed { Storage::I8 } else { Storage::U8 };
            let scales = data.scale.as_slice();
            shift_scale(
                &TensorRef::dense(element, storage, shape, &bytes),
                &TensorRef::dense(element, data.scale_storage, &data.blocks, scales),
                data.offset.as_ref().map(|offset| bytemuck::cast_slice(offset.as_slice())),
            )
        }
    }
}

/// Number of elements of a shape.
pub(crate) fn elements(shape: &[usize]) -> Result<usize, OpError> {
    element_count(shape).ok_or_else(|| OpError::invalid(format!("the shape {shape:?} overflows")))
}

/// Bits of a small integer type, and whether it is signed.
pub(crate) fn integer(element: ElementType) -> Result<(u8, bool), OpError> {
    match element.bits() {
        bits @ 1..=8 if element.is_int() => {
            Ok((bits as u8, matches!(element, ElementType::Int4 | ElementType::Int8)))
        }
        _ => Err(OpError::unsupported(format!("`{element}` where small integers are needed"))),
    }
}

/// So many packed integers, one to a byte.
pub(crate) fn unpack(
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

/// A dense constant that copies these bytes.
pub(crate) fn dense(
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

/// Elements as the unsigned integers of their size.
fn bits<'a, T: Element>(tensor: &TensorRef<'a>) -> Result<&'a [T], OpError> {
    bytemuck::try_cast_slice(tensor.dense_bytes()?)
        .map_err(|error| OpError::unsupported(format!("a constant in memory: {error}")))
}

/// `constexpr_lut_to_dense`: what indices of `shape` stand for in tables of shape
/// `[groups of each axis…, entries, values of an entry]`.
pub(crate) fn look_up(
    indices: &[u8],
    shape: &[usize],
    lut: &TensorRef,
    vector_axis: Option<usize>,
) -> Result<Constant, OpError> {
    lut.storage.visit_bits(LookUp { indices, shape, lut, vector_axis })
}

struct LookUp<'a> {
    indices: &'a [u8],
    shape: &'a [usize],
    lut: &'a TensorRef<'a>,
    vector_axis: Option<usize>,
}

impl Visitor for LookUp<'_> {
    type Output = Result<Constant, OpError>;

    fn visit<T: Element>(self) -> Self::Output {
        let LookUp { indices, shape, lut, vector_axis } = self;
        let along = vector_axis.map(|axis| axis as isize);
        let tables = bits::<T>(lut)?;
        let values =
            decompress::lut_to_dense(&context(), indices, shape, tables, lut.shape, along)?;
        let mut shape = Shape::from_slice(shape);
        if let (Some(axis), Some(size)) = (vector_axis, lut.shape.last()) {
            shape[axis] = shape[axis].saturating_mul(*size);
        }
        dense(lut.element, lut.storage, &shape, bytemuck::cast_slice(&values))
    }
}

/// Numbers widened to `f32`.
pub(crate) fn floats(tensor: &TensorRef) -> Result<Vec<f32>, OpError> {
    Ok(match tensor.storage {
        Storage::U8 => tensor.slice::<u8>()?.iter().map(|&value| f32::from(value)).collect(),
        Storage::I8 => tensor.slice::<i8>()?.iter().map(|&value| f32::from(value)).collect(),
        Storage::F16 => tensor.slice::<f16>()?.iter().map(|value| value.to_f32()).collect(),
        _ => tensor.f32s()?.to_vec(),
    })
}

/// `constexpr_blockwise_shift_scale`; the result has the scales' type, and `fp16` is rounded to that.
pub(crate) fn shift_scale(
    data: &TensorRef,
    scale: &TensorRef,
    offset: Option<&[f32]>,
) -> Result<Constant, OpError> {
    match data.storage {
        Storage::U8 => scaled(data.slice::<u8>()?, data.shape, scale, offset),
        Storage::I8 => scaled(data.slice::<i8>()?, data.shape, scale, offset),
        _ => scaled(&floats(data)?, data.shape, scale, offset),
    }
}

fn scaled<Q: decompress::Number>(
    data: &[Q],
    shape: &[usize],
    scale: &TensorRef,
    offset: Option<&[f32]>,
) -> Result<Constant, OpError> {
    let (context, blocks, element) = (context(), scale.shape, scale.element);
    if element == ElementType::Float16 {
        let scale = halves(scale)?;
        let values =
            decompress::blockwise_shift_scale(&context, data, shape, &scale, blocks, offset)?;
        return dense(element, Storage::F16, shape, bytemuck::cast_slice(&values));
    }
    let scale = scale.f32s()?;
    let values = decompress::blockwise_shift_scale(&context, data, shape, scale, blocks, offset)?;
    dense(element, Storage::F32, shape, bytemuck::cast_slice(&values))
}

/// Numbers of half precision, however they are held.
fn halves<'a>(tensor: &TensorRef<'a>) -> Result<Cow<'a, [f16]>, OpError> {
    Ok(match tensor.storage {
        Storage::F16 => Cow::Borrowed(tensor.slice()?),
        _ => tensor.f32s()?.iter().map(|&value| f16::from_f32(value)).collect(),
    })
}

/// `constexpr_sparse_to_dense`: the elements where the mask (of `shape`) is set, zeros elsewhere.
pub(crate) fn spread(
    nonzero: &TensorRef,
    mask: &[u8],
    shape: &[usize],
) -> Result<Constant, OpError> {
    nonzero.storage.visit_bits(Spread { nonzero, mask, shape })
}

struct Spread<'a> {
    nonzero: &'a TensorRef<'a>,
    mask: &'a [u8],
    shape: &'a [usize],
}

impl Visitor for Spread<'_> {
    type Output = Result<Constant, OpError>;

    fn visit<T: Element>(self) -> Self::Output {
        let Spread { nonzero, mask, shape } = self;
        let values = decompress::sparse_to_dense(bits::<T>(nonzero)?, mask)?;
        dense(nonzero.element, nonzero.storage, shape, bytemuck::cast_slice(&values))
    }
}

/// The elements where the mask is set.
pub(crate) fn marked(values: &TensorRef, mask: &[u8]) -> Result<Constant, OpError> {
    let size = values.storage.size();
    let elements = values.dense_bytes()?.chunks_exact(size).zip(mask);
    let set = elements.filter(|(_, mask)| **mask != 0).flat_map(|(element, _)| element);
    let kept: Vec<u8> = set.copied().collect();
    dense(values.element, values.storage, &[kept.len() / size], &kept)
}
