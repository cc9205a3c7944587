//! Core ML's `constexpr_*` operations: compressed constants to plain arrays.
//!
//! Semantics follow coremltools' definitions (`mil/ops/defs/iOS16/constexpr_ops.py` and
//! `iOS18/compression.py`). Arrays are row-major. Functions for iOS 16 take packed bits as they
//! are stored; those for iOS 18 take one byte per index or mask element (see
//! [`crate::unpack::unpack_unsigned`]).

use half::f16;

use crate::context::Context;
use crate::error::{KernelError, check_len, product};
use crate::thresholds;
use crate::unpack::{element, packed_len};

/// An element that arithmetic can read: `i8`, `u8`, `f16` or `f32`.
pub trait Number: Copy + Send + Sync {
    /// The value; exact for all implementors.
    fn to_f32(self) -> f32;
}

/// An element that arithmetic can produce: `f16` or `f32`.
pub trait Real: Number {
    /// The nearest value, ties to even.
    fn from_f32(value: f32) -> Self;
}

impl Number for i8 {
    fn to_f32(self) -> f32 {
        f32::from(self)
    }
}

impl Number for u8 {
    fn to_f32(self) -> f32 {
        f32::from(self)
    }
}

impl Number for f16 {
    fn to_f32(self) -> f32 {
        f16::to_f32(self)
    }
}

impl Number for f32 {
    fn to_f32(self) -> f32 {
        self
    }
}

impl Real for f16 {
    fn from_f32(value: f32) -> Self {
        f16::from_f32(value)
    }
}

impl Real for f32 {
    fn from_f32(value: f32) -> Self {
        value
    }
}

/// iOS 16 `constexpr_lut_to_dense`: `count` indices of log2(`lut.len()`) bits, packed, into one
/// table.
///
/// # Errors
/// If the table does not have 2, 4, 16, 64 or 256 entries (8 is accepted too) or `indices` is not
/// as long as `count` indices are.
pub fn lut_to_dense_packed<T: Copy + Send + Sync>(
    ctx: &Context,
    indices: &[u8],
    lut: &[T],
    count: usize,
) -> Result<Vec<T>, KernelError> {
    const KERNEL: &str = "constexpr_lut_to_dense";
    let bits = index_bits(KERNEL, lut.len())?;
    check_packed(KERNEL, "indices", bits, count, indices.len())?;
    let mut out = vec![lut[0]; count];
    let part = thresholds::task(thresholds::DECOMPRESS);
    ctx.workers().for_each_row_mut(&mut out, part, thresholds::DECOMPRESS, |index, out| {
        for (i, value) in out.iter_mut().enumerate() {
            *value = lut[usize::from(element(bits, indices, index * part + i))];
        }
    });
    Ok(out)
}

/// iOS 16 `constexpr_affine_dequantize`: `scale * (data - zero_point)`, where scale and zero
/// point are one number each or one per element of `axis` (negative from the end).
///
/// # Errors
/// If lengths do not fit the shape or there is no such axis.
pub fn affine_dequantize<Q: Number, T: Real>(
    ctx: &Context,
    data: &[Q],
    shape: &[usize],
    scale: &[T],
    zero_point: &[f32],
    axis: isize,
) -> Result<Vec<T>, KernelError> {
    const KERNEL: &str = "constexpr_affine_dequantize";
    check_len(KERNEL, "quantized_data", product(KERNEL, "shape", shape)?, data.len())?;
    let axis = find_axis(KERNEL, "axis", axis, shape.len())?;
    let (size, inner) = (shape[axis], product(KERNEL, "shape", &shape[axis + 1..])?);
    for (argument, len) in [("scale", scale.len()), ("zero_point", zero_point.len())] {
        if len != 1 {
            check_len(KERNEL, argument, size, len)?;
        }
    }
    let mut out = vec![T::from_f32(0.0); data.len()];
    ctx.workers().for_each_row_mut(&mut out, inner, thresholds::DECOMPRESS, |i, out| {
        let scale = scale[if scale.len() == 1 { 0 } else { i % size }].to_f32();
        let zero = zero_point[if zero_point.len() == 1 { 0 } else { i % size }];
        for (out, q) in out.iter_mut().zip(&data[i * inner..]) {
            *out = T::from_f32(scale * (q.to_f32() - zero));
        }
    });
    Ok(out)
}

/// iOS 16 `constexpr_sparse_to_dense`: spreads `nonzero` over the set bits of a packed mask of
/// `count` elements; the rest is zero.
///
/// # Errors
/// If the mask's length is not `count` bits or its set bits do not number `nonzero.len()`.
pub fn sparse_to_dense_packed<T: Copy + Default>(
    nonzero: &[T],
    mask: &[u8],
    count: usize,
) -> Result<Vec<T>, KernelError> {
    check_packed("constexpr_sparse_to_dense", "mask", 1, count, mask.len())?;
    let set = |i: usize| element(1, mask, i) != 0;
    spread(nonzero, (0..count).map(set))
}

/// iOS 18 `constexpr_sparse_to_dense`: spreads `nonzero` over the elements of `mask` that are not
/// zero; the rest is zero.
///
/// # Errors
/// If the mask's set elements do not number `nonzero.len()`.
pub fn sparse_to_dense<T: Copy + Default>(
    nonzero: &[T],
    mask: &[u8],
) -> Result<Vec<T>, KernelError> {
    spread(nonzero, mask.iter().map(|&m| m != 0))
}

/// iOS 18 `constexpr_lut_to_dense`: one index per element of `shape`; tables `[groups of each
/// axis…, entries, vector size]`. An index stands for a vector laid along `vector_axis` (negative
/// from the end; needed if the vector size is not 1), which makes that axis so much longer.
///
/// # Errors
/// If lengths do not fit the shapes, the groups of an axis do not divide it, an index lies beyond
/// the table, or the vector axis is missing or out of range.
pub fn lut_to_dense<T: Copy + Send + Sync>(
    ctx: &Context,
    indices: &[u8],
    shape: &[usize],
    lut: &[T],
    lut_shape: &[usize],
    vector_axis: Option<isize>,
) -> Result<Vec<T>, KernelError> {
    let tables = Tables::new(shape, lut, lut_shape, vector_axis)?;
    check_len(LUT, "indices", tables.count, indices.len())?;
    if let Some(&index) = indices.iter().find(|&&index| usize::from(index) >= tables.entries) {
        let expected = format!("below {}, the entries of a table", tables.entries);
        return Err(KernelError::value(LUT, "index", expected, index));
    }
    tables.dense(ctx, indices, lut)
}

/// iOS 18 `constexpr_lut_to_sparse`: look-up of those elements that `mask` (of `shape`) marks.
/// Gives the mask, lengthened along `vector_axis` by the vector size, and the values it marks, in
/// row-major order of the lengthened mask.
///
/// # Errors
/// As [`lut_to_dense`] and [`sparse_to_dense`].
pub fn lut_to_sparse<T: Copy + Send + Sync>(
    ctx: &Context,
    mask: &[u8],
    shape: &[usize],
    nonzero_indices: &[u8],
    lut: &[T],
    lut_shape: &[usize],
    vector_axis: Option<isize>,
) -> Result<(Vec<u8>, Vec<T>), KernelError> {
    let indices = sparse_to_dense(nonzero_indices, mask)?;
    let dense = lut_to_dense(ctx, &indices, shape, lut, lut_shape, vector_axis)?;
    let tables = Tables::new(shape, lut, lut_shape, vector_axis)?;
    let mask = tables.repeat(mask);
    let values = marked(&dense, &mask);
    Ok((mask, values))
}

/// iOS 18 `constexpr_blockwise_shift_scale`: `scale * (data - offset)`, with scale and offset of
/// the block, in the precision of the scale after each step. Each axis of `scale_shape` divides
/// that of `shape`; offsets have the scales' shape.
///
/// # Errors
/// If lengths do not fit the shapes or the blocks of an axis do not divide it.
pub fn blockwise_shift_scale<Q: Number, T: Real>(
    ctx: &Context,
    data: &[Q],
    shape: &[usize],
    scale: &[T],
    scale_shape: &[usize],
    offset: Option<&[f32]>,
) -> Result<Vec<T>, KernelError> {
    const KERNEL: &str = "constexpr_blockwise_shift_scale";
    check_len(KERNEL, "data", product(KERNEL, "shape", shape)?, data.len())?;
    check_len(KERNEL, "scale", product(KERNEL, "scale_shape", scale_shape)?, scale.len())?;
    if let Some(offset) = offset {
        check_len(KERNEL, "offset", scale.len(), offset.len())?;
    }
    let grid = Grid::new(KERNEL, shape, scale_shape)?;
    let mut out = vec![T::from_f32(0.0); data.len()];
    let width = grid.width();
    ctx.workers().for_each_row_mut(&mut out, width, thresholds::DECOMPRESS, |row, out| {
        let data = &data[row * width..][..width];
        grid.each_run(row, |run, block| {
            let scale = scale[block].to_f32();
            let offset = offset.map_or(0.0, |offset| offset[block]);
            for (out, q) in out[run.clone()].iter_mut().zip(&data[run]) {
                let shifted = T::from_f32(q.to_f32() - offset).to_f32();
                *out = T::from_f32(scale * shifted);
            }
        });
    });
    Ok(out)
}

/// iOS 18 `constexpr_sparse_blockwise_shift_scale`: [`blockwise_shift_scale`] of those elements
/// that `mask` (of `shape`) marks, in row-major order. The mask stays as it is.
///
/// # Errors
/// As [`blockwise_shift_scale`] and [`sparse_to_dense`].
pub fn sparse_blockwise_shift_scale<Q: Number + Default, T: Real>(
    ctx: &Context,
    mask: &[u8],
    shape: &[usize],
    nonzero: &[Q],
    scale: &[T],
    scale_shape: &[usize],
    offset: Option<&[f32]>,
) -> Result<Vec<T>, KernelError> {
    let data = sparse_to_dense(nonzero, mask)?;
    let dense = blockwise_shift_scale(ctx, &data, shape, scale, scale_shape, offset)?;
    Ok(marked(&dense, mask))
}

const LUT: &str = "constexpr_lut_to_dense";

fn index_bits(kernel: &'static str, entries: usize) -> Result<u8, KernelError> {
    match entries {
        2 | 4 | 8 | 16 | 64 | 256 => Ok(entries.ilog2() as u8),
        _ => Err(KernelError::value(kernel, "entries of `lut`", "2, 4, 8, 16, 64 or 256", entries)),
    }
}

fn check_packed(
    kernel: &'static str,
    argument: &'static str,
    bits: u8,
    count: usize,
    got: usize,
) -> Result<(), KernelError> {
    let expected = packed_len(count, bits).ok_or(KernelError::Overflow { kernel, argument })?;
    check_len(kernel, argument, expected, got)
}

fn find_axis(
    kernel: &'static str,
    argument: &'static str,
    axis: isize,
    rank: usize,
) -> Result<usize, KernelError> {
    let from_end = if axis < 0 { rank } else { 0 };
    from_end.checked_add_signed(axis).filter(|&axis| axis < rank).ok_or_else(|| {
        KernelError::value(kernel, argument, format!("an axis of an array of rank {rank}"), axis)
    })
}

/// So many of a value: vectors of a table make a large array of a small file.
fn filled<T: Copy>(value: T, count: usize) -> Result<Vec<T>, KernelError> {
    let mut values = Vec::new();
    let bytes = count.saturating_mul(size_of::<T>());
    values.try_reserve_exact(count).map_err(|_| KernelError::Memory { bytes })?;
    values.resize(count, value);
    Ok(values)
}

fn spread<T: Copy + Default>(
    nonzero: &[T],
    mask: impl Iterator<Item = bool> + Clone,
) -> Result<Vec<T>, KernelError> {
    let set = mask.clone().filter(|&set| set).count();
    check_len("constexpr_sparse_to_dense", "nonzero_data", set, nonzero.len())?;
    let mut values = nonzero.iter();
    let mut next = || values.next().copied().unwrap_or_default();
    Ok(mask.map(|set| if set { next() } else { T::default() }).collect())
}

fn marked<T: Copy>(values: &[T], mask: &[u8]) -> Vec<T> {
    values.iter().zip(mask).filter(|&(_, &set)| set != 0).map(|(&value, _)| value).collect()
}

/// An array divided into equal blocks along each axis.
struct Grid<'a> {
    shape: &'a [usize],
    blocks: &'a [usize],
}

impl<'a> Grid<'a> {
    fn new(
        kernel: &'static str,
        shape: &'a [usize],
        blocks: &'a [usize],
    ) -> Result<Self, KernelError> {
        let divides =
            |(&size, &blocks): (&usize, &usize)| blocks > 0 && size.is_multiple_of(blocks);
        let ranks = !shape.is_empty() && shape.len() == blocks.len();
        if !ranks || !shape.iter().zip(blocks).all(divides) {
            let expected = format!("divisors of the sizes {shape:?}, axis by axis");
            return Err(KernelError::value(kernel, "number of blocks", expected, blocks));
        }
        Ok(Self { shape, blocks })
    }

    /// Elements of a row: the last axis.
    fn width(&self) -> usize {
        self.shape.last().copied().unwrap_or(0)
    }

    /// Calls `visit` with each run of elements of a row that lie in one block, and the block's
    /// position in row-major order.
    fn each_run(&self, row: usize, mut visit: impl FnMut(std::ops::Range<usize>, usize)) {
        let blocks = self.blocks.last().copied().unwrap_or(1);
        let (run, first) = (self.width() / blocks, self.outer_block(row) * blocks);
        for block in 0..blocks {
            visit(block * run..(block + 1) * run, first + block);
        }
    }

    /// The position among the blocks of all axes but the last.
    fn outer_block(&self, row: usize) -> usize {
        let (mut rest, mut block, mut stride) = (row, 0, 1);
        let axes = self.shape.iter().zip(self.blocks).rev().skip(1);
        for (&size, &blocks) in axes {
            block += rest % size / (size / blocks) * stride;
            stride *= blocks;
            rest /= size;
        }
        block
    }
}

/// The checked shapes of a look-up.
struct Tables<'a> {
    grid: Grid<'a>,
    /// The number of indices.
    count: usize,
    /// Entries per table.
    entries: usize,
    /// Values per entry.
    vector: usize,
    /// Elements between steps along the vector axis.
    inner: usize,
}

impl<'a> Tables<'a> {
    fn new<T>(
        shape: &'a [usize],
        lut: &[T],
        lut_shape: &'a [usize],
        vector_axis: Option<isize>,
    ) -> Result<Self, KernelError> {
        check_len(
            LUT,
            "rank of `lut` (two above that of `indices`)",
            shape.len() + 2,
            lut_shape.len(),
        )?;
        check_len(LUT, "lut", product(LUT, "lut", lut_shape)?, lut.len())?;
        let (groups, table) = lut_shape.split_at(shape.len());
        let (entries, vector) = (table[0], table[1]);
        index_bits(LUT, entries)?;
        let axis = match vector_axis {
            Some(axis) => find_axis(LUT, "vector_axis", axis, shape.len())?,
            // Which axis does not matter; the last one allows the finest division.
            None if vector == 1 => shape.len().saturating_sub(1),
            None => {
                let expected = "given, as the vectors have more than one value";
                return Err(KernelError::value(LUT, "vector_axis", expected, vector_axis));
            }
        };
        let grid = Grid::new(LUT, shape, groups)?;
        let count = product(LUT, "indices", shape)?;
        product(LUT, "output", &[count, vector])?;
        let inner = product(LUT, "indices", &shape[axis + 1..])?;
        Ok(Self { grid, count, entries, vector, inner })
    }

    /// Where value `v` of the vector for element `i` goes.
    fn target(&self, i: usize, v: usize) -> usize {
        (i / self.inner * self.vector + v) * self.inner + i % self.inner
    }

    fn dense<T: Copy + Send + Sync>(
        &self,
        ctx: &Context,
        indices: &[u8],
        lut: &[T],
    ) -> Result<Vec<T>, KernelError> {
        let (Some(&first), width) = (lut.first(), self.grid.width()) else {
            return Ok(Vec::new());
        };
        let mut out = filled(first, self.count * self.vector)?;
        // Vectors mix the elements of rows within `inner` only: such a part stands for itself.
        let part = if self.inner > 1 { self.inner } else { width };
        let size = self.entries * self.vector;
        let fill = |index: usize, out: &mut [T]| {
            for row in (0..part).step_by(width) {
                let start = index * part + row;
                self.grid.each_run(start / width, |run, group| {
                    let table = &lut[group * size..][..size];
                    for i in run {
                        let entry = usize::from(indices[start + i]) * self.vector;
                        for (v, &value) in table[entry..entry + self.vector].iter().enumerate() {
                            out[self.target(row + i, v)] = value;
                        }
                    }
                });
            }
        };
        let part_out = part * self.vector;
        ctx.workers().for_each_row_mut(&mut out, part_out, thresholds::DECOMPRESS, fill);
        Ok(out)
    }

    /// Each mask element once for every value of its vector.
    fn repeat(&self, mask: &[u8]) -> Vec<u8> {
        let mut out = vec![0; mask.len() * self.vector];
        for (i, &set) in mask.iter().enumerate() {
            for v in 0..self.vector {
                out[self.target(i, v)] = set;
            }
        }
        out
    }
}

#[cfg(test)]
mod tests;
