//! Constant matrices as they lie in a model file: dense or compressed.

use std::ops::{Deref, Range};

use half::f16;

use crate::arch::{self, LookupTable, PackedRow, PackedRows};
use crate::context::{Context, Lease};
use crate::error::{KernelError, check_len, product};
use crate::isa::Isa;
use crate::thresholds;
use crate::unpack::{packed_len, unpack_from};

/// A constant matrix of `rows` x `cols`, row-major: row `n` makes output channel `n`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weights<'a> {
    /// Output channels.
    pub rows: usize,
    /// Weights per output channel.
    pub cols: usize,
    /// How the values are stored.
    pub encoding: Encoding<'a>,
}

/// How the values of [`Weights`] are stored.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Encoding<'a> {
    /// Plain `f32` values, `rows * cols`.
    F32(&'a [f32]),
    /// Plain `f16` values, `rows * cols`.
    F16(&'a [f16]),
    /// Indices into look-up tables.
    Palettized(Palettized<'a>),
    /// Integers with a scale and an offset per block.
    Blockwise(Blockwise<'a>),
}

/// A table of floats in either width.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Table<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// Half precision.
    F16(&'a [f16]),
}

/// Values stored as indices into tables (`constexpr_lut_to_dense` with scalar entries).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Palettized<'a> {
    /// Bits per index: 1, 2, 3, 4, 6 or 8.
    pub bits: u8,
    /// `rows * cols` indices, row-major, as a packed little-endian bit stream.
    pub indices: &'a [u8],
    /// Tables, `[row groups, col groups, 2^bits]`, row-major.
    pub lut: Table<'a>,
    /// Consecutive rows that share a table; divides `rows`.
    pub rows_per_group: usize,
    /// Consecutive columns that share a table; divides `cols`.
    pub cols_per_group: usize,
}

/// Integers of which each is `scale * (q - offset)` (`constexpr_blockwise_shift_scale`,
/// `constexpr_affine_dequantize`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Blockwise<'a> {
    /// Bits per integer: 1, 2, 3, 4, 6 or 8.
    pub bits: u8,
    /// Whether the integers are two's complement.
    pub signed: bool,
    /// `rows * cols` integers, row-major, as a packed little-endian bit stream.
    pub data: &'a [u8],
    /// Scales, `[row blocks, col blocks]`, row-major.
    pub scale: Table<'a>,
    /// Offsets in the scales' layout; zero if absent. Integer offsets come as floats.
    pub offset: Option<Table<'a>>,
    /// Consecutive rows that share a scale; divides `rows`.
    pub rows_per_block: usize,
    /// Consecutive columns that share a scale; divides `cols`.
    pub cols_per_block: usize,
    /// Whether each value is rounded to half precision, overflow included, as where the scales are of
    /// that type.
    pub rounded: bool,
}

const VALIDATE: &str = "weights";

/// Values in single precision.
pub(crate) enum Floats<'a> {
    Borrowed(&'a [f32]),
    Expanded(Lease<'a, f32>),
}

impl Deref for Floats<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match self {
            Self::Borrowed(values) => values,
            Self::Expanded(values) => values,
        }
    }
}

impl Table<'_> {
    /// The number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F16(values) => values.len(),
        }
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies values `start..start + out.len()`, widened to `f32`.
    pub(crate) fn copy_to(&self, isa: Isa, start: usize, out: &mut [f32]) {
        let range = start..start + out.len();
        match self {
            Self::F32(values) => out.copy_from_slice(&values[range]),
            Self::F16(values) => arch::widen(isa, &values[range], out),
        }
    }
}

impl Weights<'_> {
    /// Checks that all lengths fit the sizes. Takes constant time; the kernels call it too.
    ///
    /// # Errors
    /// If a slice has the wrong length, a group does not divide its dimension or a bit width
    /// is unknown.
    pub fn validate(&self) -> Result<(), KernelError> {
        let count = product(VALIDATE, "weights", &[self.rows, self.cols])?;
        match &self.encoding {
            Encoding::F32(values) => check_len(VALIDATE, "values", count, values.len()),
            Encoding::F16(values) => check_len(VALIDATE, "values", count, values.len()),
            Encoding::Palettized(p) => p.validate(self.rows, self.cols, count),
            Encoding::Blockwise(b) => b.validate(self.rows, self.cols, count),
        }
    }

    /// Writes the values of `rows` as `f32`, row-major, to `out` (`rows.len() * cols`). Divided
    /// among threads if large.
    ///
    /// # Errors
    /// If the weights are not valid, the rows lie beyond them, `out` has another length or there
    /// is no memory.
    pub fn dequantize_rows(
        &self,
        ctx: &Context,
        rows: Range<usize>,
        out: &mut [f32],
    ) -> Result<(), KernelError> {
        const KERNEL: &str = "dequantize_rows";
        self.validate()?;
        if rows.start > rows.end || rows.end > self.rows {
            let expected = format!("a range within 0..{}", self.rows);
            return Err(KernelError::value(KERNEL, "rows", expected, rows));
        }
        let expected = product(KERNEL, "out", &[rows.len(), self.cols])?;
        check_len(KERNEL, "out", expected, out.len())?;
        if out.len() < thresholds::WEIGHTS {
            return self.expand(ctx, rows.start, out);
        }
        let count = self.rows_per_task();
        ctx.workers().try_for_each_chunk_mut(out, count * self.cols, |index, out| {
            self.expand(ctx, rows.start + index * count, out)
        })
    }

    /// Rows that make a task: whole groups, as these share a table that is costly to load.
    pub(crate) fn rows_per_task(&self) -> usize {
        (thresholds::TASK_WEIGHTS / self.cols.max(1)).max(1).next_multiple_of(self.group())
    }

    /// Rows that are best kept together.
    pub(crate) fn group(&self) -> usize {
        match &self.encoding {
            Encoding::Palettized(p) if p.rows_per_group <= 64 => p.rows_per_group.max(1),
            _ => 1,
        }
    }

    /// Some rows in single precision: as they lie where they are, else expanded on the calling
    /// thread; sizes have been checked.
    ///
    /// # Errors
    /// If there is no memory.
    pub(crate) fn rows_in_floats<'s>(
        &'s self,
        ctx: &'s Context,
        rows: Range<usize>,
    ) -> Result<Floats<'s>, KernelError> {
        let (first, count) = (rows.start, rows.len() * self.cols);
        if let Encoding::F32(values) = &self.encoding {
            return Ok(Floats::Borrowed(&values[first * self.cols..][..count]));
        }
        let mut values = ctx.scratch().take(count)?;
        self.expand(ctx, first, &mut values)?;
        Ok(Floats::Expanded(values))
    }

    /// Expands as many whole rows from `first` on as `out` holds, on the calling thread; sizes
    /// have been checked.
    ///
    /// # Errors
    /// If there is no memory.
    pub(crate) fn expand(
        &self,
        ctx: &Context,
        first: usize,
        out: &mut [f32],
    ) -> Result<(), KernelError> {
        if out.is_empty() {
            return Ok(());
        }
        let (isa, cols) = (ctx.isa(), self.cols);
        let start = first * cols;
        match &self.encoding {
            Encoding::F32(values) => out.copy_from_slice(&values[start..start + out.len()]),
            Encoding::F16(values) => arch::widen(isa, &values[start..start + out.len()], out),
            Encoding::Palettized(p) => {
                p.rows_from(ctx, cols)?.each(first..first + out.len() / cols, |part| {
                    let out = &mut out[(part.first - first) * cols..][..part.rows * cols];
                    arch::expand_rows(isa, &part.packed, part.table, &mut out[part.col..], cols);
                });
            }
            Encoding::Blockwise(b) => {
                let mut rows = b.rows_from(ctx, cols)?;
                for (i, out) in out.chunks_exact_mut(cols).enumerate() {
                    rows.expand(first + i, out);
                }
            }
        }
        Ok(())
    }

    /// Products of rows `first..first + out.len()` with `x` (`cols` values), on the calling
    /// thread; sizes have been checked.
    ///
    /// # Errors
    /// If there is no memory.
    pub(crate) fn matvec(
        &self,
        ctx: &Context,
        first: usize,
        x: &[f32],
        out: &mut [f32],
    ) -> Result<(), KernelError> {
        if out.is_empty() {
            return Ok(());
        }
        let (isa, cols) = (ctx.isa(), self.cols);
        match &self.encoding {
            Encoding::F32(values) => {
                for (i, out) in out.iter_mut().enumerate() {
                    *out = arch::dot_f32(isa, &values[(first + i) * cols..][..cols], x);
                }
            }
            Encoding::F16(values) => {
                for (i, out) in out.iter_mut().enumerate() {
                    *out = arch::dot_f16(isa, &values[(first + i) * cols..][..cols], x);
                }
            }
            Encoding::Palettized(p) => {
                out.fill(0.0);
                p.rows_from(ctx, cols)?.each(first..first + out.len(), |part| {
                    let out = &mut out[part.first - first..][..part.rows];
                    let x = &x[part.col..][..part.packed.count];
                    arch::dot_rows(isa, &part.packed, part.table, x, out);
                });
            }
            Encoding::Blockwise(b) => {
                let mut rows = b.rows_from(ctx, cols)?;
                for (i, out) in out.iter_mut().enumerate() {
                    *out = rows.dot(first + i, x);
                }
            }
        }
        Ok(())
    }
}

/// Fails on widths that no Core ML type has.
fn check_bits(bits: u8) -> Result<(), KernelError> {
    if matches!(bits, 1 | 2 | 3 | 4 | 6 | 8) {
        return Ok(());
    }
    Err(KernelError::value(VALIDATE, "bits", "1, 2, 3, 4, 6 or 8", bits))
}

/// `size / part`, or an error if `part` does not divide it.
fn groups(argument: &'static str, size: usize, part: usize) -> Result<usize, KernelError> {
    if part == 0 || !size.is_multiple_of(part) {
        return Err(KernelError::value(VALIDATE, argument, format!("a divisor of {size}"), part));
    }
    Ok(size / part)
}

/// Checks the length of a packed stream of `count` elements.
fn check_packed(
    argument: &'static str,
    bits: u8,
    count: usize,
    got: usize,
) -> Result<(), KernelError> {
    let expected =
        packed_len(count, bits).ok_or(KernelError::Overflow { kernel: VALIDATE, argument })?;
    check_len(VALIDATE, argument, expected, got)
}

impl<'a> Palettized<'a> {
    fn validate(&self, rows: usize, cols: usize, count: usize) -> Result<(), KernelError> {
        check_bits(self.bits)?;
        check_packed("indices", self.bits, count, self.indices.len())?;
        let row_groups = groups("rows_per_group", rows, self.rows_per_group)?;
        let col_groups = groups("cols_per_group", cols, self.cols_per_group)?;
        let expected = product(VALIDATE, "lut", &[row_groups, col_groups, 1 << self.bits])?;
        check_len(VALIDATE, "lut", expected, self.lut.len())
    }

    pub(crate) fn rows_from<'s>(
        &self,
        ctx: &'s Context,
        cols: usize,
    ) -> Result<PalettizedRows<'a, 's>, KernelError> {
        let aligned = aligned(self.bits, cols, self.cols_per_group);
        Ok(PalettizedRows {
            source: *self,
            isa: ctx.isa(),
            cols,
            loaded: None,
            tables: ctx.scratch().take(cols / self.cols_per_group)?,
            unpacked: if aligned { None } else { Some(ctx.scratch().take(cols)?) },
        })
    }
}

impl<'a> Blockwise<'a> {
    fn validate(&self, rows: usize, cols: usize, count: usize) -> Result<(), KernelError> {
        check_bits(self.bits)?;
        check_packed("data", self.bits, count, self.data.len())?;
        let row_blocks = groups("rows_per_block", rows, self.rows_per_block)?;
        let col_blocks = groups("cols_per_block", cols, self.cols_per_block)?;
        let expected = product(VALIDATE, "scale", &[row_blocks, col_blocks])?;
        check_len(VALIDATE, "scale", expected, self.scale.len())?;
        match self.offset {
            Some(offset) => check_len(VALIDATE, "offset", expected, offset.len()),
            None => Ok(()),
        }
    }

    fn rows_from<'s>(
        &self,
        ctx: &'s Context,
        cols: usize,
    ) -> Result<BlockwiseRows<'a, 's>, KernelError> {
        let blocks = cols / self.cols_per_block;
        let aligned = aligned(self.bits, cols, self.cols_per_block);
        let mut offsets = ctx.scratch().take(blocks * LOADED)?;
        offsets.fill(0.0);
        Ok(BlockwiseRows {
            source: *self,
            isa: ctx.isa(),
            cols,
            blocks,
            loaded: 0..0,
            scales: ctx.scratch().take(blocks * LOADED)?,
            offsets,
            unpacked: if aligned { None } else { Some(ctx.scratch().take(cols)?) },
        })
    }
}

/// Row blocks of which the scales are loaded at a time: reading a value right after it was written
/// is slow.
pub(crate) const LOADED: usize = 16;

/// Whether every row and every group of columns starts on a byte, as the vector code needs.
pub(crate) fn aligned(bits: u8, cols: usize, part: usize) -> bool {
    let whole = |count: usize| (count % 8 * usize::from(bits)).is_multiple_of(8);
    whole(cols) && (part == cols || whole(part))
}

/// The packed bytes of some rows, or the elements of a single one unpacked to `buffer`, which is
/// there if rows do not start on bytes.
fn row_bytes<'b>(
    (bits, packed): (u8, &'b [u8]),
    rows: Range<usize>,
    cols: usize,
    buffer: Option<&'b mut Lease<u8>>,
) -> (u8, &'b [u8]) {
    match buffer {
        None => {
            let bytes = cols * usize::from(bits) / 8;
            (bits, &packed[rows.start * bytes..rows.end * bytes])
        }
        Some(buffer) => {
            unpack_from(bits, packed, rows.start * cols, buffer);
            (8, buffer)
        }
    }
}

/// Walks rows of palettized weights, keeping the tables of the current row group at hand.
pub(crate) struct PalettizedRows<'a, 's> {
    source: Palettized<'a>,
    isa: Isa,
    cols: usize,
    loaded: Option<usize>,
    tables: Lease<'s, LookupTable>,
    /// Room for a row's elements, if rows do not start on bytes.
    unpacked: Option<Lease<'s, u8>>,
}

impl PalettizedRows<'_, '_> {
    fn load(&mut self, row: usize) {
        let group = row / self.source.rows_per_group;
        if self.loaded == Some(group) {
            return;
        }
        let entries = 1usize << self.source.bits;
        let first = group * self.tables.len();
        for (i, table) in self.tables.iter_mut().enumerate() {
            let start = (first + i) * entries;
            match self.source.lut {
                Table::F32(lut) => table.load_f32(&lut[start..start + entries]),
                Table::F16(lut) => table.load_f16(self.isa, &lut[start..start + entries]),
            }
        }
        self.loaded = Some(group);
    }

    /// Calls `visit` with every part of `rows` that has one table.
    pub(crate) fn each(&mut self, rows: Range<usize>, mut visit: impl FnMut(Part)) {
        let (group, part) = (self.source.rows_per_group, self.source.cols_per_group);
        let stream = (self.source.bits, self.source.indices);
        let mut first = rows.start;
        while first < rows.end {
            self.load(first);
            // Rows that do not start on a byte are unpacked, one at a time.
            let count = if self.unpacked.is_none() { group - first % group } else { 1 };
            let lines = first..rows.end.min(first + count);
            let (bits, bytes) = row_bytes(stream, lines.clone(), self.cols, self.unpacked.as_mut());
            let width = usize::from(bits);
            for (i, table) in self.tables.iter().enumerate() {
                let packed = &bytes[i * part * width / 8..];
                let stride = self.cols * width / 8;
                let packed = PackedRows { bits, packed, stride, count: part };
                visit(Part { first, rows: lines.len(), col: i * part, packed, table });
            }
            first = lines.end;
        }
    }
}

/// Consecutive rows of one column group, and their table.
pub(crate) struct Part<'a> {
    pub(crate) first: usize,
    pub(crate) rows: usize,
    pub(crate) col: usize,
    pub(crate) packed: PackedRows<'a>,
    pub(crate) table: &'a LookupTable,
}

/// Walks rows of integers, keeping the scales of some row blocks at hand.
struct BlockwiseRows<'a, 's> {
    source: Blockwise<'a>,
    isa: Isa,
    cols: usize,
    /// Blocks per row.
    blocks: usize,
    /// Row blocks of which the scales and offsets are at hand.
    loaded: Range<usize>,
    scales: Lease<'s, f32>,
    offsets: Lease<'s, f32>,
    /// Room for a row's elements, if rows do not start on bytes.
    unpacked: Option<Lease<'s, u8>>,
}

impl BlockwiseRows<'_, '_> {
    fn load(&mut self, block: usize) {
        let start = block * self.blocks;
        let count = self.scales.len().min(self.source.scale.len() - start);
        self.source.scale.copy_to(self.isa, start, &mut self.scales[..count]);
        if let Some(offset) = self.source.offset {
            offset.copy_to(self.isa, start, &mut self.offsets[..count]);
        }
        self.loaded = block..block + LOADED;
    }

    /// The row, of which the integers' values stand in the table.
    fn row(&mut self, row: usize) -> (PackedRow<'_>, &'static LookupTable) {
        let block = row / self.source.rows_per_block;
        if !self.loaded.contains(&block) {
            self.load(block);
        }
        let at = (block - self.loaded.start) * self.blocks;
        let Blockwise { bits: width, signed, data, rounded, .. } = self.source;
        let lines = row..row + 1;
        let (bits, packed) = row_bytes((width, data), lines, self.cols, self.unpacked.as_mut());
        let row = PackedRow {
            bits,
            packed,
            scales: &self.scales[at..at + self.blocks],
            offsets: &self.offsets[at..at + self.blocks],
            block: self.source.cols_per_block,
            bytes: (width == 8).then_some(signed),
            rounded,
        };
        (row, LookupTable::integers(width, signed))
    }

    fn dot(&mut self, row: usize, x: &[f32]) -> f32 {
        let isa = self.isa;
        let (row, table) = self.row(row);
        arch::dot_table(isa, &row, table, x)
    }

    fn expand(&mut self, row: usize, out: &mut [f32]) {
        let isa = self.isa;
        let (row, table) = self.row(row);
        arch::expand_table(isa, &row, table, out);
    }
}
