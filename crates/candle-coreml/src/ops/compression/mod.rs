//! Compressed constants: the `constexpr_*` operations, which are done when a model is loaded. The
//! common forms stay compressed, for kernels that read them so; all others become plain ones.

mod expand;
mod matrix;

pub(crate) use expand::expand;
pub(super) use matrix::weights;

use coreml_format::mil::{ElementType, Opset};
use coreml_kernels::unpack::packed_len;

use self::expand::{
    dense, elements, floats, integer, look_up, marked, shift_scale, spread, unpack,
};
use super::strided::same_count;
use super::{Binder, Folded, Inputs, Op, OpDef, OpError, Outputs, ResultTypes, Scratch, axis, def};
use crate::value::{
    BlockwiseData, Buffer, Bytes, Constant, ConstantData, PalettizedData, Shape, Storage, TensorRef,
};

/// An input that has to be a constant, as it is held.
fn constant<'a>(inputs: &Inputs<'a>, input: usize) -> Result<&'a Constant, OpError> {
    inputs
        .constant(input)
        .ok_or_else(|| OpError::invalid(format!("input {input} has to be a constant")))
}

/// An input that has to be a constant, in its dense form.
fn plain(inputs: &Inputs, input: usize) -> Result<Constant, OpError> {
    expand(constant(inputs, input)?)
}

/// The tensor of a constant that has been expanded.
fn tensor(constant: &Constant) -> Result<TensorRef<'_>, OpError> {
    constant.tensor().ok_or_else(|| OpError::unsupported("a constant that is not dense"))
}

/// An operation with one constant as its result.
struct Decompress {
    kind: Kind,
}

/// What [`Decompress`] does; numbers are inputs.
enum Kind {
    Affine { data: usize, zero_point: usize, scale: usize, axis: i64 },
    Cast { source: usize },
    PackedLut { indices: usize, lut: usize, shape: Shape },
    PackedSparse { nonzero: usize, mask: usize, shape: Shape },
    Lut { indices: usize, lut: usize, vector_axis: Option<i64> },
    Blockwise { data: usize, scale: usize, offset: Option<usize> },
    Sparse { nonzero: usize, mask: usize },
}

impl Decompress {
    fn fold(&self, inputs: &Inputs) -> Result<Constant, OpError> {
        match &self.kind {
            &Kind::Affine { data, zero_point, scale, axis } => {
                affine(inputs, data, zero_point, scale, axis)
            }
            &Kind::Cast { source } => {
                let source = plain(inputs, source)?;
                let values = floats(&tensor(&source)?)?;
                let bytes = bytemuck::cast_slice(&values);
                dense(ElementType::Float32, Storage::F32, &source.shape, bytes)
            }
            Kind::PackedLut { indices, lut, shape } => packed_lut(inputs, *indices, *lut, shape),
            Kind::PackedSparse { nonzero, mask, shape } => {
                let (nonzero, mask) = (plain(inputs, *nonzero)?, plain(inputs, *mask)?);
                let mask = unpack(tensor(&mask)?.bytes, 1, false, elements(shape)?)?;
                sparse(&nonzero, &mask, shape)
            }
            &Kind::Lut { indices, lut, vector_axis } => {
                grouped_lut(constant(inputs, indices)?, &plain(inputs, lut)?, vector_axis)
            }
            &Kind::Blockwise { data, scale, offset } => {
                let offset = match offset {
                    Some(offset) => Some(floats(&tensor(&plain(inputs, offset)?)?)?),
                    None => None,
                };
                blockwise(constant(inputs, data)?, &plain(inputs, scale)?, offset)
            }
            &Kind::Sparse { nonzero, mask } => {
                let (nonzero, mask) = (plain(inputs, nonzero)?, plain(inputs, mask)?);
                sparse(&nonzero, tensor(&mask)?.bytes, &mask.shape)
            }
        }
    }
}

fn sparse(nonzero: &Constant, mask: &[u8], shape: &[usize]) -> Result<Constant, OpError> {
    let values = tensor(nonzero)?;
    let bytes = spread(values.bytes, values.storage.size(), mask)?;
    dense(values.element, values.storage, shape, &bytes)
}

fn packed_lut(
    inputs: &Inputs,
    indices: usize,
    lut: usize,
    shape: &[usize],
) -> Result<Constant, OpError> {
    let (indices, lut) = (plain(inputs, indices)?, plain(inputs, lut)?);
    let entries = tensor(&lut)?.len();
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

fn grouped_lut(
    indices: &Constant,
    lut: &Constant,
    vector_axis: Option<i64>,
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
    let along = vector_axis.map(|axis| axis as isize);
    let bytes =
        look_up(index.bytes, index.shape, values.bytes, storage.size(), values.shape, along)?;
    dense(lut.element, *storage, &vector_shape(index.shape, values.shape, vector_axis)?, &bytes)
}

/// The shape of what indices of a shape stand for.
fn vector_shape(
    indices: &[usize],
    lut: &[usize],
    vector_axis: Option<i64>,
) -> Result<Shape, OpError> {
    let mut shape = Shape::from_slice(indices);
    if let (Some(&size), Some(along)) = (lut.last(), vector_axis) {
        let along = axis(along, shape.len(), "vector_axis")?;
        shape[along] = shape[along].saturating_mul(size);
    }
    Ok(shape)
}

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
    if let Some((integers, bits, signed)) = packed(data)
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
    let bytes = shift_scale(&tensor(&data)?, &scales, offset.as_deref())?;
    dense(scale.element, *scale_storage, &data.shape, &bytes)
}

/// `constexpr_affine_dequantize`, as blocks that are whole slices of the axis.
fn affine(
    inputs: &Inputs,
    data: usize,
    zero_point: usize,
    scale: usize,
    along: i64,
) -> Result<Constant, OpError> {
    let data = plain(inputs, data)?;
    let (scale, zero_point) = (plain(inputs, scale)?, plain(inputs, zero_point)?);
    let (scales, zeros) = (tensor(&scale)?, floats(&tensor(&zero_point)?)?);
    let along = axis(along, data.shape.len(), "axis")?;
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
    let bytes = scales.bytes.repeat(repeated);
    same_count(blocks * width, bytes.len())?;
    let zeros = if zeros.len() == blocks { zeros } else { zeros.repeat(blocks) };
    let mut shape = Shape::from_elem(1, data.shape.len());
    shape[along] = blocks;
    let scale = dense(scale.element, scales.storage, &shape, &bytes)?;
    blockwise(&data, &scale, Some(zeros))
}

/// An operation on the elements that a mask marks; gives the mask and the elements.
struct SparseToSparse {
    mask: usize,
    nonzero: usize,
    kind: SparseKind,
}

/// What [`SparseToSparse`] does; numbers are inputs.
enum SparseKind {
    Lut { lut: usize, vector_axis: Option<i64> },
    Blockwise { scale: usize, offset: Option<usize> },
}

impl SparseToSparse {
    fn fold(&self, inputs: &Inputs) -> Result<Folded, OpError> {
        let (mask, nonzero) = (plain(inputs, self.mask)?, plain(inputs, self.nonzero)?);
        let (mask, shape) = (tensor(&mask)?.bytes, mask.shape.clone());
        let data = sparse(&nonzero, mask, &shape)?;
        match self.kind {
            SparseKind::Lut { lut, vector_axis } => {
                let lut = plain(inputs, lut)?;
                let dense = expand(&grouped_lut(&data, &lut, vector_axis)?)?;
                let mask = repeated_mask(mask, &shape, &lut.shape, vector_axis)?;
                sparse_result(&dense, &mask)
            }
            SparseKind::Blockwise { scale, offset } => {
                let offset = match offset {
                    Some(offset) => Some(floats(&tensor(&plain(inputs, offset)?)?)?),
                    None => None,
                };
                let scale = plain(inputs, scale)?;
                let dense = expand(&blockwise(&data, &scale, offset)?)?;
                sparse_result(&dense, mask)
            }
        }
    }
}

/// A mask and the elements that it marks, as the two results have them.
fn sparse_result(values: &Constant, mask: &[u8]) -> Result<Folded, OpError> {
    let values_as = tensor(values)?;
    let kept = marked(values_as.bytes, values_as.storage.size(), mask);
    let number = kept.len() / values_as.storage.size();
    Ok(Folded::from_iter([
        dense(ElementType::UInt1, Storage::U8, &values.shape, mask)?,
        dense(values_as.element, values_as.storage, &[number], &kept)?,
    ]))
}

/// The mask of the vectors that marked indices stand for: as a table that gives them as they are.
fn repeated_mask(
    mask: &[u8],
    shape: &[usize],
    lut: &[usize],
    vector_axis: Option<i64>,
) -> Result<Vec<u8>, OpError> {
    let vector = lut.last().copied().unwrap_or(1);
    let mut table = vec![0u8; vector];
    table.resize(vector * 2, 1);
    let mut table_shape = Shape::from_elem(1, shape.len());
    table_shape.extend([2, vector]);
    let along = vector_axis.map(|axis| axis as isize);
    look_up(mask, shape, &table, 1, &table_shape, along)
}

/// A `constexpr_*` operation: its inputs are constants, and so are its results.
enum Constexpr {
    One(Decompress),
    Two(SparseToSparse),
}

/// For what the planner never asks of these operations, since it folds them or fails.
fn always_folded() -> OpError {
    OpError::invalid("a constant expression is computed when the model is loaded")
}

impl Op for Constexpr {
    fn infer(&self, _inputs: &Inputs) -> Result<ResultTypes, OpError> {
        Err(always_folded())
    }

    fn run(
        &self,
        _inputs: &Inputs,
        _outputs: &mut Outputs,
        _scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        Err(always_folded())
    }

    fn fold(&self, inputs: &Inputs) -> Result<Option<Folded>, OpError> {
        match self {
            Constexpr::One(decompress) => Ok(Some(Folded::from_elem(decompress.fold(inputs)?, 1))),
            Constexpr::Two(sparse) => sparse.fold(inputs).map(Some),
        }
    }
}

fn decompress(kind: Kind) -> Result<Box<dyn Op>, OpError> {
    Ok(Box::new(Constexpr::One(Decompress { kind })))
}

fn sparse_to_sparse(mask: usize, nonzero: usize, kind: SparseKind) -> Result<Box<dyn Op>, OpError> {
    Ok(Box::new(Constexpr::Two(SparseToSparse { mask, nonzero, kind })))
}

/// The shape that the iOS 16 operations are told.
fn given_shape(binder: &Binder) -> Result<Shape, OpError> {
    let sizes = binder.required_ints("shape")?;
    let shape: Option<Shape> = sizes.iter().map(|&size| usize::try_from(size).ok()).collect();
    shape.ok_or_else(|| OpError::argument("shape", "sizes", format!("{:?}", sizes.as_slice())))
}

fn affine_dequantize(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    decompress(Kind::Affine {
        data: binder.input("quantized_data")?,
        zero_point: binder.input("zero_point")?,
        scale: binder.input("scale")?,
        axis: binder.required_int("axis")?,
    })
}

fn constexpr_cast(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let to = binder.element_type("output_dtype")?;
    if to != ElementType::Float32 {
        return Err(OpError::argument("output_dtype", "`fp32`", format!("`{to}`")));
    }
    decompress(Kind::Cast { source: binder.input("source_val")? })
}

fn lut_to_dense(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let shape = given_shape(binder)?;
    let (indices, lut) = (binder.input("indices")?, binder.input("lut")?);
    decompress(Kind::PackedLut { indices, lut, shape })
}

fn sparse_to_dense(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let shape = given_shape(binder)?;
    let (nonzero, mask) = (binder.input("nonzero_data")?, binder.input("mask")?);
    decompress(Kind::PackedSparse { nonzero, mask, shape })
}

fn blockwise_shift_scale(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let (data, scale) = (binder.input("data")?, binder.input("scale")?);
    decompress(Kind::Blockwise { data, scale, offset: binder.optional_input("offset")? })
}

fn lut_to_dense_ios18(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let (indices, lut) = (binder.input("indices")?, binder.input("lut")?);
    decompress(Kind::Lut { indices, lut, vector_axis: binder.int("vector_axis")? })
}

fn sparse_to_dense_ios18(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let (nonzero, mask) = (binder.input("nonzero_data")?, binder.input("mask")?);
    decompress(Kind::Sparse { nonzero, mask })
}

fn lut_to_sparse(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let (mask, nonzero) = (binder.input("indices_mask")?, binder.input("indices_nonzero_data")?);
    let (lut, vector_axis) = (binder.input("lut")?, binder.int("vector_axis")?);
    sparse_to_sparse(mask, nonzero, SparseKind::Lut { lut, vector_axis })
}

fn sparse_blockwise_shift_scale(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let (mask, nonzero) = (binder.input("data_mask")?, binder.input("nonzero_data")?);
    let (scale, offset) = (binder.input("scale")?, binder.optional_input("offset")?);
    sparse_to_sparse(mask, nonzero, SparseKind::Blockwise { scale, offset })
}

pub(super) const OPS: &[OpDef] = &[
    def("constexpr_affine_dequantize", Opset::Ios16, affine_dequantize),
    def("constexpr_blockwise_shift_scale", Opset::Ios18, blockwise_shift_scale),
    def("constexpr_cast", Opset::Ios16, constexpr_cast),
    def("constexpr_lut_to_dense", Opset::Ios16, lut_to_dense),
    def("constexpr_lut_to_dense", Opset::Ios18, lut_to_dense_ios18),
    def("constexpr_lut_to_sparse", Opset::Ios18, lut_to_sparse),
    def("constexpr_sparse_blockwise_shift_scale", Opset::Ios18, sparse_blockwise_shift_scale),
    def("constexpr_sparse_to_dense", Opset::Ios16, sparse_to_dense),
    def("constexpr_sparse_to_dense", Opset::Ios18, sparse_to_dense_ios18),
];
