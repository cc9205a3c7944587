//! Compressed constants. The common forms stay compressed, for kernels that read them so; all
//! others become plain ones.

use coreml_format::mil::{ElementType, Opset};
use coreml_kernels::unpack::{packed_len, unpack_signed, unpack_unsigned};
use coreml_kernels::{Blockwise, Encoding, Palettized, Table, Weights, decompress};
use half::f16;

use super::strided::{count, same_count};
use super::{
    Binder, Inputs, Op, OpDef, OpError, Outputs, ResultType, ResultTypes, Scratch, axis, def, one,
};
use crate::value::{
    BlockwiseData, Buffer, Bytes, Constant, ConstantData, PalettizedData, Shape, Storage,
    TensorMut, TensorRef, element_count,
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

/// A constant as a matrix of `rows` and `cols` that kernels multiply with; `None` when it has other
/// elements or its groups don't lie regularly in such a matrix.
pub(crate) fn weights(constant: &Constant, rows: usize, cols: usize) -> Option<Weights<'_>> {
    let shape = &constant.shape;
    let encoding = match &constant.data {
        ConstantData::Dense(storage, bytes) => match table(bytes, *storage)? {
            Table::F16(values) => Encoding::F16(values),
            Table::F32(values) => Encoding::F32(values),
        },
        ConstantData::Palettized(data) => {
            let (rows_per_group, cols_per_group) = parts(shape, &data.groups, rows, cols)?;
            Encoding::Palettized(Palettized {
                bits: data.bits,
                indices: data.indices.as_slice(),
                lut: table(&data.lut, data.lut_storage)?,
                rows_per_group,
                cols_per_group,
            })
        }
        ConstantData::Blockwise(data) => {
            let (rows_per_block, cols_per_block) = parts(shape, &data.blocks, rows, cols)?;
            Encoding::Blockwise(Blockwise {
                bits: data.bits,
                signed: data.signed,
                data: data.data.as_slice(),
                scale: table(&data.scale, data.scale_storage)?,
                offset: match &data.offset {
                    Some(offset) => Some(table(offset, Storage::F32)?),
                    None => None,
                },
                rows_per_block,
                cols_per_block,
            })
        }
        ConstantData::Packed(_) | ConstantData::Strings(_) => return None,
    };
    let weights = Weights { rows, cols, encoding };
    weights.validate().is_ok().then_some(weights)
}

fn table(bytes: &Bytes, storage: Storage) -> Option<Table<'_>> {
    match storage {
        Storage::F16 => bytemuck::try_cast_slice(bytes.as_slice()).ok().map(Table::F16),
        Storage::F32 => bytemuck::try_cast_slice(bytes.as_slice()).ok().map(Table::F32),
        _ => None,
    }
}

/// How many rows and columns of a matrix share a group, given the number of groups on each axis.
fn parts(shape: &[usize], groups: &[usize], rows: usize, cols: usize) -> Option<(usize, usize)> {
    if groups.len() != shape.len() {
        return None;
    }
    let at =
        (0..=shape.len()).find(|&at| count(&shape[..at]) == rows && count(&shape[at..]) == cols)?;
    Some((regular(&shape[..at], &groups[..at])?, regular(&shape[at..], &groups[at..])?))
}

/// How many consecutive elements share a group, if groups are made of consecutive elements: axes
/// are split to the last element before one is split in part, and not at all after it.
fn regular(shape: &[usize], groups: &[usize]) -> Option<usize> {
    let whole = shape.iter().zip(groups).take_while(|(size, groups)| size == groups).count();
    if groups.iter().skip(whole + 1).any(|&groups| groups != 1) {
        return None;
    }
    count(shape).checked_div(count(groups)).filter(|&part| part > 0)
}

fn elements(shape: &[usize]) -> Result<usize, OpError> {
    element_count(shape).ok_or_else(|| OpError::invalid(format!("the shape {shape:?} overflows")))
}

/// Bits of a small integer type, and whether it is signed.
fn integer(element: ElementType) -> Result<(u8, bool), OpError> {
    match element.bits() {
        bits @ 1..=8 if element.is_int() => {
            Ok((bits as u8, matches!(element, ElementType::Int4 | ElementType::Int8)))
        }
        _ => Err(OpError::unsupported(format!("`{element}` where small integers are needed"))),
    }
}

fn unpack(packed: &[u8], bits: u8, signed: bool, count: usize) -> Result<Vec<u8>, OpError> {
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

fn dense(
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
fn look_up(
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
fn floats(tensor: &TensorRef) -> Result<Vec<f32>, OpError> {
    Ok(match tensor.storage {
        Storage::U8 => tensor.slice::<u8>()?.iter().map(|&value| f32::from(value)).collect(),
        Storage::I8 => tensor.slice::<i8>()?.iter().map(|&value| f32::from(value)).collect(),
        Storage::F16 => tensor.slice::<f16>()?.iter().map(|value| value.to_f32()).collect(),
        _ => tensor.f32s()?.to_vec(),
    })
}

/// `constexpr_blockwise_shift_scale`; the result is held as the scales are.
fn shift_scale(
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
fn spread(nonzero: &[u8], size: usize, mask: &[u8]) -> Result<Vec<u8>, OpError> {
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
fn marked(values: &[u8], size: usize, mask: &[u8]) -> Vec<u8> {
    let elements = values.chunks_exact(size).zip(mask);
    elements.filter(|(_, mask)| **mask != 0).flat_map(|(element, _)| element).copied().collect()
}

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
    fn result(&self, inputs: &Inputs) -> Result<Constant, OpError> {
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

impl Op for Decompress {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let result = self.result(inputs)?;
        one(result.element, result.shape)
    }

    fn run(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        _scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        let result = expand(&self.result(inputs)?)?;
        store(&tensor(&result)?, outputs.tensor(0)?)
    }

    fn accepts_half(&self, _input: usize) -> bool {
        true
    }

    fn accepts_compressed(&self, _input: usize, _constant: &Constant) -> bool {
        true
    }

    fn fold(&self, inputs: &Inputs) -> Result<Option<Constant>, OpError> {
        self.result(inputs).map(Some)
    }
}

/// Writes a constant's elements, widened where the output is wider.
fn store(values: &TensorRef, out: &mut TensorMut) -> Result<(), OpError> {
    if (values.storage, out.storage) == (Storage::F16, Storage::F32) {
        let widened = floats(values)?;
        let out = out.f32s()?;
        same_count(out.len(), widened.len())?;
        out.copy_from_slice(&widened);
        return Ok(());
    }
    same_count(out.bytes.len(), values.bytes.len())?;
    out.bytes.copy_from_slice(values.bytes);
    Ok(())
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

/// The results of [`SparseToSparse`]: the mask with its shape, and the elements it marks.
struct SparseResult {
    shape: Shape,
    mask: Vec<u8>,
    element: ElementType,
    storage: Storage,
    values: Vec<u8>,
}

impl SparseToSparse {
    fn result(&self, inputs: &Inputs) -> Result<SparseResult, OpError> {
        let (mask, nonzero) = (plain(inputs, self.mask)?, plain(inputs, self.nonzero)?);
        let (mask, shape) = (tensor(&mask)?.bytes, mask.shape.clone());
        let data = sparse(&nonzero, mask, &shape)?;
        match self.kind {
            SparseKind::Lut { lut, vector_axis } => {
                let lut = plain(inputs, lut)?;
                let dense = expand(&grouped_lut(&data, &lut, vector_axis)?)?;
                let mask = repeated_mask(mask, &shape, &lut.shape, vector_axis)?;
                sparse_result(&dense, mask)
            }
            SparseKind::Blockwise { scale, offset } => {
                let offset = match offset {
                    Some(offset) => Some(floats(&tensor(&plain(inputs, offset)?)?)?),
                    None => None,
                };
                let scale = plain(inputs, scale)?;
                let dense = expand(&blockwise(&data, &scale, offset)?)?;
                sparse_result(&dense, mask.to_vec())
            }
        }
    }
}

fn sparse_result(dense: &Constant, mask: Vec<u8>) -> Result<SparseResult, OpError> {
    let tensor = tensor(dense)?;
    let values = marked(tensor.bytes, tensor.storage.size(), &mask);
    let (element, storage) = (tensor.element, tensor.storage);
    Ok(SparseResult { shape: dense.shape.clone(), mask, element, storage, values })
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

impl Op for SparseToSparse {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let result = self.result(inputs)?;
        let number = result.values.len() / result.storage.size();
        Ok(ResultTypes::from_iter([
            ResultType::new(ElementType::UInt1, result.shape),
            ResultType::new(result.element, Shape::from_slice(&[number])),
        ]))
    }

    fn run(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        _scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        let SparseResult { shape, mask, element, storage, values } = self.result(inputs)?;
        let uint1 = ElementType::UInt1;
        let mask = TensorRef { element: uint1, storage: Storage::U8, shape: &shape, bytes: &mask };
        store(&mask, outputs.tensor(0)?)?;
        let values = dense(element, storage, &[values.len() / storage.size()], &values)?;
        store(&tensor(&values)?, outputs.tensor(1)?)
    }

    fn accepts_half(&self, _input: usize) -> bool {
        true
    }
}

fn decompress(kind: Kind) -> Result<Box<dyn Op>, OpError> {
    Ok(Box::new(Decompress { kind }))
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
    Ok(Box::new(SparseToSparse { mask, nonzero, kind: SparseKind::Lut { lut, vector_axis } }))
}

fn sparse_blockwise_shift_scale(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let (mask, nonzero) = (binder.input("data_mask")?, binder.input("nonzero_data")?);
    let (scale, offset) = (binder.input("scale")?, binder.optional_input("offset")?);
    Ok(Box::new(SparseToSparse { mask, nonzero, kind: SparseKind::Blockwise { scale, offset } }))
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
