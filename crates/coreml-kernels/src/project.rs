//! Activations times constant weights: linear layers, 1x1 convolutions, constant `matmul`s.

use std::ops::Range;

use crate::arch;
use crate::context::{Context, Lease};
use crate::error::{KernelError, check_len};
use crate::gemm::{Sum, multiply};
use crate::lanes;
use crate::matrix::{Block, Matrix, MatrixMut, Threads};
use crate::numerics::Numerics;
use crate::panels::{Product, Rows};
use crate::thresholds;
use crate::weights::{Encoding, Weights};

mod integers;

const KERNEL: &str = "project";

/// Where input `k` of column `s` lies: at `k * stride_k + s * stride_s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColumnLayout {
    /// Elements between inputs of one column.
    pub stride_k: usize,
    /// Elements between columns.
    pub stride_s: usize,
}

/// Where output `n` of column `s` goes: to `n * stride_n + s * stride_s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputLayout {
    /// Elements between outputs of one column.
    pub stride_n: usize,
    /// Elements between columns.
    pub stride_s: usize,
}

/// `out[n, s] = sum over k of w[n, k] * x[k, s] + bias[n]`, with `n < w.rows`, `k < w.cols` and
/// `s < count_s`. A few columns are computed straight from the compressed weights, one by one; some more
/// row by row; many are arranged in panels, with which rows are multiplied while these are at hand. Divided
/// among threads if large.
///
/// Unless the numerics are strict, compressed weights are multiplied with few columns (up to eight) as integers
/// of 16 bits, where the CPU is faster with these, and with many columns as integers of 14 to 16 bits: see
/// [`Numerics::Halves`] for when that is exact.
///
/// # Errors
/// If the weights are not valid, a slice is shorter than its layout reaches, `bias` does not have
/// `w.rows` values, outputs coincide or there is no memory.
#[expect(clippy::too_many_arguments, reason = "a product's operands, each with its layout")]
pub fn project(
    ctx: &Context,
    numerics: Numerics,
    w: &Weights,
    x: &[f32],
    x_layout: ColumnLayout,
    count_s: usize,
    bias: Option<&[f32]>,
    out: &mut [f32],
    out_layout: OutputLayout,
) -> Result<(), KernelError> {
    project_rows(ctx, numerics, w, 0..w.rows, x, x_layout, count_s, bias, out, out_layout)
}

/// [`project`] with some rows of the weights alone: `bias` has a value for each of them, and the first
/// one's outputs are the first of `out`.
///
/// # Errors
/// As [`project`], and if there are no such rows.
#[expect(clippy::too_many_arguments, reason = "a product's operands, each with its layout")]
pub fn project_rows(
    ctx: &Context,
    numerics: Numerics,
    w: &Weights,
    rows: Range<usize>,
    x: &[f32],
    x_layout: ColumnLayout,
    count_s: usize,
    bias: Option<&[f32]>,
    out: &mut [f32],
    out_layout: OutputLayout,
) -> Result<(), KernelError> {
    if rows.start > rows.end || rows.end > w.rows {
        let expected = format!("a range within 0..{}", w.rows);
        return Err(KernelError::value(KERNEL, "rows", expected, format!("{rows:?}")));
    }
    let x = Matrix {
        data: x,
        rows: w.cols,
        cols: count_s,
        row_stride: x_layout.stride_k,
        col_stride: x_layout.stride_s,
    };
    Call { numerics, w, rows, x, bias }.run(ctx, out, out_layout)
}

/// A product of some rows of the weights with the columns of `x`; `bias` starts at the first of
/// these rows.
#[derive(Clone)]
pub(crate) struct Call<'a> {
    pub(crate) numerics: Numerics,
    pub(crate) w: &'a Weights<'a>,
    pub(crate) rows: Range<usize>,
    pub(crate) x: Matrix<'a, f32>,
    pub(crate) bias: Option<&'a [f32]>,
}

impl Call<'_> {
    /// Writes the product to `out`, which starts at the first of the rows.
    pub(crate) fn run(
        &self,
        ctx: &Context,
        out: &mut [f32],
        OutputLayout { stride_n, stride_s }: OutputLayout,
    ) -> Result<(), KernelError> {
        self.w.validate()?;
        self.x.check(KERNEL, "x")?;
        let (rows, cols) = (self.rows.len(), self.x.cols);
        self.bias.map_or(Ok(()), |bias| check_len(KERNEL, "bias", rows, bias.len()))?;
        let out = MatrixMut { data: out, rows, cols, row_stride: stride_n, col_stride: stride_s };
        let mut out = Block::new(KERNEL, out)?;
        if out.is_empty() || self.integers(ctx, &mut out)? {
            return Ok(());
        }
        // In single precision, what hangs on shapes alone, for every form of weights to give the same sums.
        if cols <= thresholds::FEW_COLUMNS {
            self.few(ctx, out)
        } else if cols <= thresholds::SOME_COLUMNS {
            self.some(ctx, out)
        } else {
            self.many(ctx, out)
        }
    }

    /// Columns one by one, straight from the weights.
    fn few(&self, ctx: &Context, out: Block) -> Result<(), KernelError> {
        let dense = self.dense_columns(ctx)?;
        let x = match &dense {
            Some(values) => Matrix::row_major(values, self.x.cols, self.w.cols).transposed(),
            None => self.x,
        };
        let task = |first: usize, mut out: Block| {
            for col in 0..out.cols {
                // Without rows to sum over, x may be empty.
                let column = &x.offset(col * x.col_stride).data[..x.rows];
                self.column(ctx, first, column, &mut out, col)?;
            }
            Ok(())
        };
        if self.w.cols.saturating_mul(out.rows) < thresholds::WEIGHTS {
            return task(0, out);
        }
        out.try_for_each_rows(Some(ctx.workers()), self.w.rows_per_task(), task)
    }

    /// A copy of the columns one after the other, unless each is dense already.
    pub(super) fn dense_columns<'s>(
        &self,
        ctx: &'s Context,
    ) -> Result<Option<Lease<'s, f32>>, KernelError> {
        if self.x.row_stride == 1 || self.x.rows <= 1 {
            return Ok(None);
        }
        let mut copy = ctx.scratch().take(self.x.rows * self.x.cols)?;
        self.x.transposed().copy_to(&mut copy);
        Ok(Some(copy))
    }

    /// Products of the rows of `out`, of which the first is `first`, with a dense column.
    fn column(
        &self,
        ctx: &Context,
        first: usize,
        x: &[f32],
        out: &mut Block,
        col: usize,
    ) -> Result<(), KernelError> {
        let products = |products: &mut [f32]| {
            self.w.matvec(ctx, self.rows.start + first, x, products)?;
            if let Some(bias) = self.bias {
                products.iter_mut().zip(&bias[first..]).for_each(|(out, bias)| *out += bias);
            }
            Ok(())
        };
        if let Some(column) = out.column_mut(col) {
            return products(column);
        }
        let mut scattered = ctx.scratch().take(out.rows)?;
        products(&mut scattered)?;
        scattered.iter().enumerate().for_each(|(row, &value)| out.set(row, col, value));
        Ok(())
    }

    /// Some columns: each row with all of them, while it is at hand. Compressed rows are expanded first.
    fn some(&self, ctx: &Context, out: Block) -> Result<(), KernelError> {
        let dense = self.dense_columns(ctx)?;
        let x = match &dense {
            Some(values) => Matrix::row_major(values, self.x.cols, self.w.cols),
            None => self.x.transposed(),
        };
        let task = |first: usize, mut out: Block| {
            let rows = self.rows.start + first..self.rows.start + first + out.rows;
            let one = Threads::One;
            if let Encoding::F16(halves) = &self.w.encoding {
                let w = Matrix::row_major(halves, self.w.rows, self.w.cols);
                let w = w.rows_from(rows.start, rows.len()).transposed();
                lanes::multiply(KERNEL, ctx, one, x, w, out.reborrow().transposed())?;
            } else {
                let floats = self.w.rows_in_floats(ctx, rows.clone())?;
                let w = Matrix::row_major(&floats, rows.len(), self.w.cols).transposed();
                lanes::multiply(KERNEL, ctx, one, x, w, out.reborrow().transposed())?;
            }
            if let Some(bias) = self.bias {
                out.add_to_rows(&bias[first..first + out.rows]);
            }
            Ok(())
        };
        let work = self.w.cols.saturating_mul(out.rows).saturating_mul(out.cols);
        let workers = (work >= thresholds::GEMM).then(|| ctx.workers());
        out.try_for_each_rows(workers, self.rows_in_cache(), task)
    }

    /// Rows of a task that multiplies each with some columns: so many that they stay at hand when expanded.
    fn rows_in_cache(&self) -> usize {
        (thresholds::EXPANDED / self.w.cols.max(1)).max(1).next_multiple_of(self.w.group())
    }

    /// Many columns: arranged in panels where there are tiles for these, else blocks of rows are expanded
    /// and multiplied.
    fn many(&self, ctx: &Context, out: Block) -> Result<(), KernelError> {
        if let (Some(width), true) = (arch::panel_width(ctx.isa()), self.w.cols > 0) {
            let rows = Rows::Weights(self.w, self.rows.start);
            let (depth, bias, numerics) = (self.w.cols, self.bias, self.numerics);
            let product = Product { rows, columns: &self.x, depth, bias, numerics };
            return product.run(ctx, Threads::All, width, out);
        }
        let per_block = self.rows_per_block();
        if out.rows <= per_block || matches!(self.w.encoding, Encoding::F32(_)) {
            return self.block(ctx, Threads::All, 0, out);
        }
        let (weights, columns) = (out.rows.saturating_mul(self.w.cols), out.cols);
        let small =
            weights < thresholds::WEIGHTS && weights.saturating_mul(columns) < thresholds::GEMM;
        let workers = if small { None } else { Some(ctx.workers()) };
        let share = out.rows.div_ceil(ctx.workers().threads()).max(thresholds::GEMM_ROWS);
        let per_block = per_block.min(share).next_multiple_of(self.w.group());
        out.try_for_each_rows(workers, per_block, |first, out| {
            self.block(ctx, Threads::One, first, out)
        })
    }

    /// Rows that are expanded at a time.
    fn rows_per_block(&self) -> usize {
        let cols = self.w.cols.max(1);
        let arranged = self.x.cols.saturating_mul(thresholds::ROWS_PER_COLUMN);
        arranged.max(thresholds::EXPANDED / cols).min(thresholds::MOST_EXPANDED / cols).max(1)
    }

    /// Products of the rows of `out`, of which the first is `first`, with all columns.
    fn block(
        &self,
        ctx: &Context,
        threads: Threads,
        first: usize,
        mut out: Block,
    ) -> Result<(), KernelError> {
        let rows = self.rows.start + first..self.rows.start + first + out.rows;
        let values = self.w.rows_in_floats(ctx, rows)?;
        let w = Matrix::row_major(&values, out.rows, self.w.cols);
        let Some(bias) = self.bias else {
            return multiply(ctx, threads, w, self.x, out, Sum::New);
        };
        out.fill_rows(&bias[first..first + out.rows]);
        multiply(ctx, threads, w, self.x, out, Sum::Added)
    }
}

#[cfg(test)]
mod tests;
