//! Products with a few columns as products of integers, where [`Numerics`] allows.

use std::ops::Range;

use half::f16;

use super::Call;
use crate::arch::{self, PackedRows};
use crate::context::Context;
use crate::error::KernelError;
use crate::fixed::{FixedColumns, FixedScales, FixedTable, LANES, Zeros};
use crate::isa::Isa;
use crate::matrix::{Block, Matrix};
use crate::numerics::Numerics;
use crate::thresholds;
use crate::unpack::packed_len;
use crate::weights::{Blockwise, Encoding, LOADED, Palettized, Table, aligned};

/// Columns in single precision and as integers.
struct Columns<'a> {
    /// A column to a row.
    exact: Matrix<'a, f32>,
    fixed: FixedColumns<'a>,
}

impl Call<'_> {
    /// Writes products of integers. Says whether that was possible: not with weights that have none, nor with
    /// columns of which a value is not finite.
    pub(super) fn integers(&self, ctx: &Context, out: &mut Block) -> Result<bool, KernelError> {
        if self.numerics == Numerics::Strict || !self.has_integers(ctx.isa()) {
            return Ok(false);
        }
        let dense = self.dense_columns(ctx)?;
        let exact = match &dense {
            Some(values) => Matrix::row_major(values, self.x.cols, self.w.cols),
            None => self.x.transposed(),
        };
        let Some(fixed) = FixedColumns::new(ctx, exact)? else { return Ok(false) };
        let columns = Columns { exact, fixed };
        let task = |first: usize, mut out: Block| {
            let mut products = ctx.scratch().take(out.rows * out.cols)?;
            let rows = self.rows.start + first..self.rows.start + first + out.rows;
            self.rows_of_integers(ctx, rows, &columns, &mut products)?;
            for (row, products) in products.chunks_exact(out.cols).enumerate() {
                let bias = self.bias.map_or(0.0, |bias| bias[first + row]);
                products.iter().enumerate().for_each(|(col, &sum)| out.set(row, col, sum + bias));
            }
            Ok(())
        };
        let workers = self.w.cols.saturating_mul(out.rows) >= thresholds::WEIGHTS;
        let workers = workers.then(|| ctx.workers());
        out.reborrow().try_for_each_rows(workers, self.w.rows_per_task(), task)?;
        Ok(true)
    }

    /// Whether the weights are integers with few scales, or tables of a whole row, that lie as fast kernels need.
    fn has_integers(&self, isa: Isa) -> bool {
        let cols = self.w.cols;
        let (bits, table, fit) = match &self.w.encoding {
            Encoding::Palettized(p) => (p.bits, true, p.cols_per_group == cols),
            Encoding::Blockwise(b) => (b.bits, false, FixedScales::fit(b.cols_per_block, cols)),
            Encoding::F32(_) | Encoding::F16(_) => return false,
        };
        let fit = fit && cols > 0 && aligned(bits, cols, cols);
        fit && arch::has_fast_integers(isa, bits, table, self.x.cols)
    }

    /// Products of some rows, row after row.
    fn rows_of_integers(
        &self,
        ctx: &Context,
        rows: Range<usize>,
        x: &Columns,
        products: &mut [f32],
    ) -> Result<(), KernelError> {
        match &self.w.encoding {
            Encoding::Palettized(p) => self.palettized(ctx, p, rows, x, products),
            Encoding::Blockwise(b) => self.blockwise(ctx, b, rows, x, products),
            Encoding::F32(_) | Encoding::F16(_) => self.exact_rows(ctx, rows.start, x, products),
        }
    }

    fn palettized(
        &self,
        ctx: &Context,
        p: &Palettized,
        rows: Range<usize>,
        x: &Columns,
        mut products: &mut [f32],
    ) -> Result<(), KernelError> {
        let mut table = FixedTable::new();
        let mut first = rows.start;
        while first < rows.end {
            let group = first / p.rows_per_group;
            let end = rows.end.min((group + 1) * p.rows_per_group);
            let part;
            (part, products) = products.split_at_mut((end - first) * x.fixed.count);
            let start = group << p.bits;
            let read = |values: &mut [f32]| p.lut.copy_to(ctx.isa(), start, values);
            if table.load(ctx.isa(), p.bits, read) {
                let rows = self.packed_rows(p.bits, p.indices, first);
                arch::dot_fixed(ctx.isa(), &rows, &table, &x.fixed, part);
            } else {
                self.exact_rows(ctx, first, x, part)?;
            }
            first = end;
        }
        Ok(())
    }

    fn blockwise(
        &self,
        ctx: &Context,
        b: &Blockwise,
        rows: Range<usize>,
        x: &Columns,
        mut products: &mut [f32],
    ) -> Result<(), KernelError> {
        let blocks = self.w.cols / b.cols_per_block;
        let mut scales = ctx.scratch().take(blocks * LOADED + LANES)?;
        let mut zeros = ctx.scratch().take(scales.len())?;
        let most = if b.rounded { f16::MAX.to_f32() } else { FixedScales::MOST };
        let mut first = rows.start;
        while first < rows.end {
            let row_block = first / b.rows_per_block;
            let end = rows.end.min((row_block + LOADED).saturating_mul(b.rows_per_block));
            let part;
            (part, products) = products.split_at_mut((end - first) * x.fixed.count);
            let start = row_block * blocks;
            let count = (b.scale.len() - start).min(blocks * LOADED);
            let (scales, zeros) = (&mut scales[..count + LANES], &mut zeros[..count + LANES]);
            load_padded(ctx.isa(), &b.scale, start, scales);
            let scales = FixedScales {
                scales,
                zeros: b.zeros(ctx.isa(), start, zeros),
                block: b.cols_per_block,
                rows: (b.rows_per_block, first % b.rows_per_block),
            };
            if scales.within(ctx.isa(), b.bits, most) {
                let rows = self.packed_rows(b.bits, b.data, first);
                arch::dot_scaled(ctx.isa(), &rows, b.signed, &scales, &x.fixed, part);
            } else {
                self.exact_rows(ctx, first, x, part)?;
            }
            first = end;
        }
        Ok(())
    }

    /// The rows from `first` on of a stream in which each starts on a byte.
    fn packed_rows<'p>(&self, bits: u8, stream: &'p [u8], first: usize) -> PackedRows<'p> {
        let stride = packed_len(self.w.cols, bits).unwrap_or(0);
        PackedRows { bits, packed: &stream[first * stride..], stride, count: self.w.cols }
    }

    /// Products in single precision of as many rows from `first` on as `products` holds.
    fn exact_rows(
        &self,
        ctx: &Context,
        first: usize,
        x: &Columns,
        products: &mut [f32],
    ) -> Result<(), KernelError> {
        let count = x.fixed.count;
        let mut column = ctx.scratch().take(products.len() / count)?;
        for col in 0..count {
            let values = &x.exact.rows_from(col, 1).data[..self.w.cols];
            self.w.matvec(ctx, first, values, &mut column)?;
            for (products, &product) in products.chunks_exact_mut(count).zip(column.iter()) {
                products[col] = product;
            }
        }
        Ok(())
    }
}

impl Blockwise<'_> {
    /// The integers that stand for zero, in the form of a vector's unsigned bytes: those of the blocks from
    /// `start` on, in `loaded`, if they differ.
    fn zeros<'l>(&self, isa: Isa, start: usize, loaded: &'l mut [f32]) -> Zeros<'l> {
        let zero = if self.signed { f32::from(1u8 << (self.bits - 1)) } else { 0.0 };
        let Some(offset) = &self.offset else { return Zeros::All(zero) };
        load_padded(isa, offset, start, loaded);
        loaded.iter_mut().for_each(|value| *value += zero);
        Zeros::Each(loaded)
    }
}

/// Loads a table's values from `start` on, followed by zeros for a vector's lanes.
fn load_padded(isa: Isa, table: &Table, start: usize, to: &mut [f32]) {
    let (values, padding) = to.split_at_mut(to.len() - LANES);
    table.copy_to(isa, start, values);
    padding.fill(0.0);
}

#[cfg(test)]
mod tests;
