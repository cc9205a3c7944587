//! Products of rows with many columns, which are arranged in panels first: [`Order::Chain`].
//!
//! [`Order::Chain`]: crate::Order::Chain

pub(crate) mod words;

use std::ops::Range;

use crate::arch::{self, Onto, PanelWidth};
use crate::context::{Context, Workers};
use crate::error::KernelError;
use crate::gemm::DEPTH;
use crate::isa::Isa;
use crate::matrix::{Block, Matrix, MatrixMut, Threads};
use crate::numerics::Numerics;
use crate::thresholds;
use crate::weights::{Encoding, Floats, Weights};

const KERNEL: &str = "panels";

/// Rows that are computed together, at least: fewer take almost as long.
const ROWS: usize = 4;

/// The rows of a product.
#[derive(Clone, Copy)]
pub(crate) enum Rows<'a> {
    /// Those of weights from one on.
    Weights(&'a Weights<'a>, usize),
    /// Those of a matrix.
    Matrix(Matrix<'a, f32>),
}

/// Some rows, each in one piece.
struct Dense<'a> {
    floats: Floats<'a>,
    depth: usize,
    stride: usize,
}

impl Dense<'_> {
    /// `count` of them from `first` on.
    fn rows_from(&self, first: usize, count: usize) -> Matrix<'_, f32> {
        let (data, row_stride) = (&self.floats[..], self.stride);
        let all = Matrix { data, rows: count, cols: self.depth, row_stride, col_stride: 1 };
        all.rows_from(first, count)
    }
}

impl Rows<'_> {
    /// Some rows as they lie where each lies in one piece, else a copy.
    ///
    /// # Errors
    /// If there is no memory.
    fn dense<'s>(&'s self, ctx: &'s Context, rows: Range<usize>) -> Result<Dense<'s>, KernelError> {
        match self {
            Self::Weights(w, first) => {
                let floats = w.rows_in_floats(ctx, first + rows.start..first + rows.end)?;
                Ok(Dense { floats, depth: w.cols, stride: w.cols })
            }
            Self::Matrix(a) if a.col_stride == 1 || a.cols == 1 => {
                let from = a.offset(rows.start * a.row_stride).data;
                Ok(Dense { floats: Floats::Borrowed(from), depth: a.cols, stride: a.row_stride })
            }
            Self::Matrix(a) => {
                let mut copy = ctx.scratch().take(rows.len() * a.cols)?;
                let to = MatrixMut::row_major(&mut copy, rows.len(), a.cols);
                Block::new(KERNEL, to)?.copy_from(ctx.isa(), a.rows_from(rows.start, rows.len()));
                Ok(Dense { floats: Floats::Expanded(copy), depth: a.cols, stride: a.cols })
            }
        }
    }

    /// Whether rows are at hand without work.
    fn in_place(&self) -> bool {
        match self {
            Self::Weights(w, _) => matches!(w.encoding, Encoding::F32(_)),
            Self::Matrix(a) => a.col_stride == 1 || a.cols == 1,
        }
    }

    /// Rows that are best kept together.
    fn group(&self) -> usize {
        match self {
            Self::Weights(w, _) => w.group(),
            Self::Matrix(_) => 1,
        }
    }
}

/// The columns of a product.
pub(crate) trait Columns: Sync {
    /// Writes input `k` of the `i`th of some columns to row `k` and column `i` of `to`.
    fn copy_to(&self, isa: Isa, columns: Range<usize>, to: &mut Block);
}

impl Columns for Matrix<'_, f32> {
    fn copy_to(&self, isa: Isa, columns: Range<usize>, to: &mut Block) {
        to.copy_from(isa, self.transposed().rows_from(columns.start, columns.len()).transposed());
    }
}

/// A product of rows with columns, each of `depth` inputs.
pub(crate) struct Product<'a, C> {
    pub(crate) rows: Rows<'a>,
    pub(crate) columns: &'a C,
    pub(crate) depth: usize,
    /// A value per row that the sums are added to.
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) numerics: Numerics,
}

/// How a product is divided.
struct Division<'a> {
    ctx: &'a Context,
    threads: usize,
    /// Columns of a panel.
    width: usize,
    /// Columns of a vector, of which the last panel has as many as it needs.
    lanes: usize,
}

impl Division<'_> {
    fn workers(&self) -> Option<&Workers> {
        (self.threads > 1).then(|| self.ctx.workers())
    }

    /// The same on the calling thread.
    fn alone(&self) -> Self {
        Self { threads: 1, ..*self }
    }

    /// Calls `arrange` with each panel of `size` values, and its number.
    fn each_panel<T: Send>(
        &self,
        panels: &mut [T],
        size: usize,
        arrange: impl Fn(usize, &mut [T]) -> Result<(), KernelError> + Sync,
    ) -> Result<(), KernelError> {
        if self.threads > 1 && panels.len() >= thresholds::CONVERSION {
            return self.ctx.workers().try_for_each_chunk_mut(panels, size, arrange);
        }
        panels.chunks_mut(size).enumerate().try_for_each(|(i, panel)| arrange(i, panel))
    }
}

impl<C: Columns> Product<'_, C> {
    /// Writes the product to `c`; sizes have been checked, and none is zero.
    ///
    /// # Errors
    /// If there is no memory.
    pub(crate) fn run(
        &self,
        ctx: &Context,
        threads: Threads,
        PanelWidth { lanes, vectors }: PanelWidth,
        mut c: Block,
    ) -> Result<(), KernelError> {
        let needed = c.cols.div_ceil(lanes);
        let panels = needed.div_ceil(vectors);
        // Panels as even as can be: those of few vectors are slow.
        let width = needed.div_ceil(panels) * lanes;
        let weights = c.rows.saturating_mul(self.depth);
        let large =
            weights >= thresholds::WEIGHTS || weights.saturating_mul(c.cols) >= thresholds::GEMM;
        let all = threads == Threads::All && large;
        let threads = if all { ctx.workers().threads() } else { 1 };
        let by = Division { ctx, threads, width, lanes };
        let words = self.has_words(ctx.isa(), c.rows, c.cols);
        let many = panels >= threads.saturating_mul(thresholds::PANELS) && c.cols >= c.rows;
        if !words && many && (self.rows.in_place() || weights <= thresholds::MOST_EXPANDED) {
            return self.by_columns(&by, c);
        }
        let at_once = (thresholds::PACKED / self.depth).max(1).next_multiple_of(width);
        for first in (0..c.cols).step_by(at_once) {
            let columns = first..c.cols.min(first.saturating_add(at_once));
            let mut c = c.part(0..c.rows, columns.clone());
            if !words || !self.words_by_rows(&by, columns.clone(), &mut c)? {
                self.by_rows(&by, columns, c)?;
            }
        }
        Ok(())
    }

    /// Each task multiplies all rows with some columns.
    fn by_columns(&self, by: &Division, c: Block) -> Result<(), KernelError> {
        let all = self.rows.dense(by.ctx, 0..c.rows)?;
        let product = Product { rows: Rows::Matrix(all.rows_from(0, c.rows)), ..*self };
        let share = c.cols.div_ceil(by.threads * thresholds::PANELS);
        let at_once = (thresholds::COLUMNS_AT_HAND / self.depth).min(share);
        let at_once = at_once.max(1).next_multiple_of(by.width);
        c.transposed().try_for_each_rows(by.workers(), at_once, |first, c| {
            product.by_rows(&by.alone(), first..first + c.rows, c.transposed())
        })
    }

    /// All columns are arranged in panels, with which each task multiplies some rows.
    fn by_rows(&self, by: &Division, columns: Range<usize>, c: Block) -> Result<(), KernelError> {
        let Division { ctx, width, lanes, .. } = *by;
        let mut panels = ctx.scratch().take(self.depth * c.cols.next_multiple_of(lanes))?;
        let arrange = |index: usize, panel: &mut [f32]| {
            let first = columns.start + index * width;
            self.arrange(ctx.isa(), first..columns.end.min(first + width), panel)
        };
        let one = self.depth * width;
        by.each_panel(&mut panels, one, arrange)?;
        let at_once = self.rows_at_once(c.rows, by.threads);
        c.try_for_each_rows(by.workers(), at_once, |first, mut c| {
            let rows = self.rows.dense(ctx, first..first + c.rows)?;
            for (panel, column) in panels.chunks(one).zip((0..c.cols).step_by(width)) {
                let c = c.part(0..c.rows, column..c.cols.min(column + width));
                self.strip(ctx, rows.rows_from(0, c.rows), panel, first, c)?;
            }
            Ok(())
        })
    }

    /// Rows that stay in a near cache while they are multiplied with one panel after the other, out of `count`
    /// that threads share.
    fn rows_at_once(&self, count: usize, threads: usize) -> usize {
        let most = (thresholds::ROWS_AT_HAND / self.depth)
            .clamp(thresholds::TILE_ROWS.0, thresholds::TILE_ROWS.1);
        let share = count.div_ceil(threads);
        let even = share.div_ceil(share.div_ceil(most));
        even.next_multiple_of(ROWS).next_multiple_of(self.rows.group())
    }

    /// Lays out some columns input by input, with zeros up to a whole number of vectors.
    fn arrange(
        &self,
        isa: Isa,
        columns: Range<usize>,
        panel: &mut [f32],
    ) -> Result<(), KernelError> {
        let (cols, row_stride) = (columns.len(), panel.len() / self.depth);
        if cols < row_stride {
            panel.fill(0.0);
        }
        let to = MatrixMut { data: panel, rows: self.depth, cols, row_stride, col_stride: 1 };
        self.columns.copy_to(isa, columns, &mut Block::new(KERNEL, to)?);
        Ok(())
    }

    /// The products of some rows, of which the first is `first`, with a panel.
    fn strip(
        &self,
        ctx: &Context,
        rows: Matrix<f32>,
        panel: &[f32],
        first: usize,
        c: Block,
    ) -> Result<(), KernelError> {
        let bias = self.bias.map(|bias| &bias[first..first + c.rows]);
        written(ctx, c, |c| blocks(ctx.isa(), rows, panel, bias, c))
    }

    /// The same with the rows from `first` on.
    fn from(&self, first: usize) -> Self {
        let rows = match self.rows {
            Rows::Weights(w, start) => Rows::Weights(w, start + first),
            Rows::Matrix(a) => Rows::Matrix(a.offset(first * a.row_stride)),
        };
        Self { rows, bias: self.bias.map(|bias| &bias[first..]), ..*self }
    }
}

/// Calls `write` with `c` where its columns lie side by side, else with room for a copy.
fn written(ctx: &Context, mut c: Block, write: impl FnOnce(&mut Block)) -> Result<(), KernelError> {
    if c.col_stride == 1 {
        write(&mut c);
        return Ok(());
    }
    let mut copy = ctx.scratch().take(c.rows * c.cols)?;
    write(&mut Block::new(KERNEL, MatrixMut::row_major(&mut copy, c.rows, c.cols))?);
    c.copy_from(ctx.isa(), Matrix::row_major(&copy, c.rows, c.cols));
    Ok(())
}

/// The products of rows with a panel, [`DEPTH`] inputs at a time.
fn blocks(isa: Isa, rows: Matrix<f32>, panel: &[f32], bias: Option<&[f32]>, c: &mut Block) {
    let width = panel.len() / rows.cols;
    for first in (0..rows.cols).step_by(DEPTH) {
        let cols = DEPTH.min(rows.cols - first);
        let part = Matrix { cols, ..rows.offset(first) };
        let panel = (&panel[first * width..][..cols * width], width);
        let onto = match bias {
            _ if first > 0 => Onto::Result,
            Some(bias) => Onto::Bias(bias),
            None => Onto::Zero,
        };
        arch::multiply_panel(isa, part, panel, onto, c);
    }
}

#[cfg(test)]
mod tests;
