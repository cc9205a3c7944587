//! Compressed constants: the `constexpr_*` operators, whose results are constants. The common forms
//! stay compressed, for kernels that read them so; all others become plain ones.

use coreml_format::mil::{ElementType, Opset};
use coreml_kernels::unpack::packed_len;

use crate::error::OpError;
use crate::op::{Binder, OpDef, axis, constant_def};
use crate::value::{
    BlockwiseData, Buffer, Bytes, Constant, ConstantData, PalettizedData, Shape, Storage,
    TensorRef, same_count,
};
use crate::weights::{
    Folded, dense, elements, expand, floats, integer, look_up, marked, shift_scale, spread, unpack,
};

/// A constant argument in its dense form.
fn plain(binder: &Binder, name: &str) -> Result<Constant, OpError> {
    expand(binder.required_constant(name)?)
}

/// The tensor of a constant that has been expanded.
fn tensor(constant: &Constant) -> Result<TensorRef<'_>, OpError> {
    constant.tensor().ok_or_else(|| OpError::unsupported("a constant that is not dense"))
}

/// A constant as the only result.
fn single(constant: Constant) -> Result<Folded, OpError> {
    Ok(vec![constant])
}

/// A table and packed indices into it.
fn packed_lut(indices: &Constant, lut: &Constant, shape: &[usize]) -> Result<Constant, OpError> {
    let entries = tensor(lut)?.len();
    let bits = entries.checked_ilog2().unwrap_or(0) as u8;
    if !matches!(entries, 2 | 4 | 8 | 16 | 64 | 256) {
        let expected = "a table of 2, 4, 8, 16, 64 or 256 entries";
        return Err(OpError::argument("lut", expected, entries.to_string()));
    }
    let (ConstantData::Dense(_, indices), ConstantData::Dense(storage, table)) =
        (&indices.data, &lut.data)
    else {
        return Err(OpError::unsupported("a table that is not dense"));
    };
    let groups = Shape::from_elem(1, shape.len());
    keep_palettized(lut.element, shape, bits, indices, table, *storage, groups)
}

/// A palettized constant; with tables of integers, the dense one.
fn keep_palettized(
    element: ElementType,
    shape: &[usize],
    bits: u8,
    indices: &Bytes,
    lut: &Bytes,
    lut_storage: Storage,
    groups: Shape,
) -> Result<Constant, OpError> {
    let (needed, got) = (packed_len(elements(shape)?, bits), indices.as_slice().len());
    if needed != Some(got) {
        let expected = format!("{bits} bits for each element of shape {shape:?}");
        return Err(OpError::argument("indices", expected, format!("{got} bytes")));
    }
    let (indices, lut) = (indices.clone(), lut.clone());
    let data = PalettizedData { bits, indices, lut, lut_storage, groups };
    let constant =
        Constant { element, shape: Shape::from_slice(shape), data: ConstantData::Palettized(data) };
    match lut_storage {
        Storage::F16 | Storage::F32 => Ok(constant),
        _ => expand(&constant),
    }
}

/// The bytes of packed or 8-bit integers, as they lie in the file, with their width.
fn packed(constant: &Constant) -> Option<(&Bytes, u8, bool)> {
    let (bits, signed) = integer(constant.element).ok()?;
    match &constant.data {
        ConstantData::Packed(bytes) => Some((bytes, bits, signed)),
        ConstantData::Dense(_, bytes) if bits == 8 => Some((bytes, bits, signed)),
        _ => None,
    }
}

/// True when groups can be made: as many axes, each split in equal parts.
fn divides(groups: &[usize], shape: &[usize]) -> bool {
    groups.len() == shape.len()
        && groups.iter().zip(shape).all(|(&groups, &size)| groups > 0 && size % groups == 0)
}

/// Indices into tables of groups of the elements.
fn grouped_lut(
    indices: &Constant,
    lut: &Constant,
    vector_axis: Option<usize>,
) -> Result<Constant, OpError> {
    let values = tensor(lut)?;
    let ConstantData::Dense(storage, table) = &lut.data else {
        return Err(OpError::unsupported("a table that is not dense"));
    };
    if let (Some((bytes, bits, false)), [groups @ .., entries, 1]) = (packed(indices), values.shape)
        && *entries == 1 << bits
        && divides(groups, &indices.shape)
    {
        let groups = Shape::from_slice(groups);
        let (element, shape) = (lut.element, &indices.shape);
        return keep_palettized(element, shape, bits, bytes, table, *storage, groups);
    }
    let indices = expand(indices)?;
    let index = tensor(&indices)?;
    look_up(index.dense_bytes()?, index.shape, &values, vector_axis)
}

/// The axis that entries of several values are laid along.
fn vector_axis(binder: &Binder, rank: usize) -> Result<Option<usize>, OpError> {
    let along = binder.optional_int("vector_axis")?;
    along.map(|along| axis(along, rank, "vector_axis")).transpose()
}

/// Integers with scales and offsets for blocks of them.
fn blockwise(
    data: &Constant,
    scale: &Constant,
    offset: Option<Vec<f32>>,
) -> Result<Constant, OpError> {
    let scales = tensor(scale)?;
    if offset.as_ref().is_some_and(|offset| offset.len() != scales.len()) {
        return Err(OpError::argument("offset", "the shape of `scale`", "another one"));
    }
    let ConstantData::Dense(scale_storage @ (Storage::F16 | Storage::F32), bytes) = &scale.data
    else {
        return Err(OpError::argument("scale", "`fp16` or `fp32`", format!("`{}`", scale.element)));
    };
    let half = scale.element == ElementType::Float16;
    if let Some((integers, bits, signed)) = packed(data)
        && !(half && offset.as_deref().is_some_and(rounds_differences))
        && divides(scales.shape, &data.shape)
        && packed_len(elements(&data.shape)?, bits) == Some(integers.as_slice().len())
    {
        let offset = offset.filter(|offset| offset.iter().any(|&value| value != 0.0));
        let offset = match offset {
            Some(offset) => {
                Some(Bytes::from_buffer(Buffer::copy_of(bytemuck::cast_slice(&offset))?))
            }
            None => None,
        };
        let (data_bytes, scale_bytes) = (integers.clone(), bytes.clone());
        return Ok(Constant {
            element: scale.element,
            shape: data.shape.clone(),
            data: ConstantData::Blockwise(BlockwiseData {
                bits,
                signed,
                data: data_bytes,
                scale: scale_bytes,
                scale_storage: *scale_storage,
                offset,
                blocks: scale.shape.clone(),
            }),
        });
    }
    let data = expand(data)?;
    shift_scale(&tensor(&data)?, &scales, offset.as_deref())
}

/// Whether `fp16` can't hold some difference of a small integer and an offset: it is rounded before it
/// is scaled then, which kernels do not do.
fn rounds_differences(offset: &[f32]) -> bool {
    offset.iter().any(|value| value.fract() != 0.0 || value.abs() > 1024.0)
}

/// `offset`, which has one number for each scale.
fn offset(binder: &Binder) -> Result<Option<Vec<f32>>, OpError> {
    match binder.constant("offset")? {
        Some(offset) => floats(&tensor(&expand(offset)?)?).map(Some),
        None => Ok(None),
    }
}

/// Scales and zero points for slices of an axis, as blocks that are whole slices.
fn affine_dequantize(binder: &Binder) -> Result<Folded, OpError> {
    let data = plain(binder, "quantized_data")?;
    let (scale, zero_point) = (plain(binder, "scale")?, plain(binder, "zero_point")?);
    let (scales, zeros) = (tensor(&scale)?, floats(&tensor(&zero_point)?)?);
    let along = axis(binder.int("axis")?, data.shape.len(), "axis")?;
    let size = data.shape[along];
    let blocks = scales.len().max(zeros.len());
    for (name, len) in [("scale", scales.len()), ("zero_point", zeros.len())] {
        if len != 1 && len != size {
            let expected = format!("1 or {size} numbers, the size of axis {along}");
            return Err(OpError::argument(name, expected, len.to_string()));
        }
    }
    let width = scales.storage.size();
    let repeated = if scales.len() == blocks { 1 } else { blocks };
    let bytes = scales.dense_bytes()?.repeat(repeated);
    same_count(blocks * width, bytes.len())?;
    let zeros = if zeros.len() == blocks { zeros } else { zeros.repeat(blocks) };
    let mut shape = Shape::from_elem(1, data.shape.len());
    shape[along] = blocks;
    let scale = dense(scale.element, scales.storage, &shape, &bytes)?;
    single(blockwise(&data, &scale, Some(zeros))?)
}

fn blockwise_shift_scale(binder: &Binder) -> Result<Folded, OpError> {
    let (data, scale) = (binder.required_constant("data")?, plain(binder, "scale")?);
    single(blockwise(data, &scale, offset(binder)?)?)
}

fn constexpr_cast(binder: &Binder) -> Result<Folded, OpError> {
    let to = binder.element_type("output_dtype")?;
    if to != ElementType::Float32 {
        return Err(OpError::argument("output_dtype", "`fp32`", format!("`{to}`")));
    }
    let source = plain(binder, "source_val")?;
    let values = floats(&tensor(&source)?)?;
    single(dense(to, Storage::F32, &source.shape, bytemuck::cast_slice(&values))?)
}

fn lut_to_dense(binder: &Binder) -> Result<Folded, OpError> {
    let (indices, lut) = (plain(binder, "indices")?, plain(binder, "lut")?);
    single(packed_lut(&indices, &lut, &binder.shape("shape")?)?)
}

fn lut_to_dense_ios18(binder: &Binder) -> Result<Folded, OpError> {
    let (indices, lut) = (binder.required_constant("indices")?, plain(binder, "lut")?);
    single(grouped_lut(indices, &lut, vector_axis(binder, indices.shape.len())?)?)
}

fn sparse_to_dense(binder: &Binder) -> Result<Folded, OpError> {
    let (nonzero, mask) = (plain(binder, "nonzero_data")?, plain(binder, "mask")?);
    let shape = binder.shape("shape")?;
    let mask = unpack(tensor(&mask)?.dense_bytes()?, 1, false, elements(&shape)?)?;
    single(spread(&tensor(&nonzero)?, &mask, &shape)?)
}

fn sparse_to_dense_ios18(binder: &Binder) -> Result<Folded, OpError> {
    let (nonzero, mask) = (plain(binder, "nonzero_data")?, plain(binder, "mask")?);
    single(spread(&tensor(&nonzero)?, tensor(&mask)?.dense_bytes()?, &mask.shape)?)
}

/// The elements that a mask marks and zeros elsewhere, with the mask.
fn marked_data(
    binder: &Binder,
    mask: &str,
    nonzero: &str,
) -> Result<(Constant, Constant), OpError> {
    let (mask, nonzero) = (plain(binder, mask)?, plain(binder, nonzero)?);
    let data = spread(&tensor(&nonzero)?, tensor(&mask)?.dense_bytes()?, &mask.shape)?;
    Ok((mask, data))
}

/// A mask and the elements that it marks, as the two results have them.
fn sparse(mask: Constant, values: &Constant) -> Result<Folded, OpError> {
    let kept = marked(&tensor(values)?, tensor(&mask)?.dense_bytes()?)?;
    Ok(vec![Constant { element: ElementType::UInt1, ..mask }, kept])
}

fn lut_to_sparse(binder: &Binder) -> Result<Folded, OpError> {
    let (mask, data) = marked_data(binder, "indices_mask", "indices_nonzero_data")?;
    let (lut, along) = (plain(binder, "lut")?, vector_axis(binder, data.shape.len())?);
    let values = expand(&grouped_lut(&data, &lut, along)?)?;
    sparse(repeated(&mask, &lut.shape, along)?, &values)
}

/// The mask of the vectors that marked indices stand for: as a table that gives them as they are.
fn repeated(
    mask: &Constant,
    lut: &[usize],
    vector_axis: Option<usize>,
) -> Result<Constant, OpError> {
    let vector = lut.last().copied().unwrap_or(1);
    let mut table = vec![0u8; vector];
    table.resize(vector * 2, 1);
    let mut shape = Shape::from_elem(1, mask.shape.len());
    shape.extend([2, vector]);
    let table = TensorRef::dense(mask.element, Storage::U8, &shape, &table);
    look_up(tensor(mask)?.dense_bytes()?, &mask.shape, &table, vector_axis)
}

fn sparse_blockwise_shift_scale(binder: &Binder) -> Result<Folded, OpError> {
    let (mask, data) = marked_data(binder, "data_mask", "nonzero_data")?;
    let values = expand(&blockwise(&data, &plain(binder, "scale")?, offset(binder)?)?)?;
    sparse(mask, &values)
}

pub(super) const OPS: &[OpDef] = &[
    constant_def("constexpr_affine_dequantize", Opset::Ios16, affine_dequantize),
    constant_def("constexpr_blockwise_shift_scale", Opset::Ios18, blockwise_shift_scale),
    constant_def("constexpr_cast", Opset::Ios16, constexpr_cast),
    constant_def("constexpr_cast", Opset::Ios18, constexpr_cast),
    constant_def("constexpr_lut_to_dense", Opset::Ios16, lut_to_dense),
    constant_def("constexpr_lut_to_dense", Opset::Ios18, lut_to_dense_ios18),
    constant_def("constexpr_lut_to_sparse", Opset::Ios18, lut_to_sparse),
    constant_def(
        "constexpr_sparse_blockwise_shift_scale",
        Opset::Ios18,
        sparse_blockwise_shift_scale,
    ),
    constant_def("constexpr_sparse_to_dense", Opset::Ios16, sparse_to_dense),
    constant_def("constexpr_sparse_to_dense", Opset::Ios18, sparse_to_dense_ios18),
];
