//! Products of few rows, each straight from the numbers of a matrix: [`Order::Lanes`].
//!
//! [`Order::Lanes`]: crate::Order::Lanes

use crate::arch::{self, Number};
use crate::context::Context;
use crate::error::KernelError;
use crate::matrix::{Block, Matrix, Threads, check_product};
use crate::thresholds;

/// Columns that lie apart and are computed together.
const DOTS: usize = 4;

/// `c = a * b`. Divided among threads if large.
///
/// # Errors
/// If the sizes do not fit each other, a slice ends before its matrix or there is no memory.
pub(crate) fn multiply<T: Number>(
    kernel: &'static str,
    ctx: &Context,
    threads: Threads,
    a: Matrix<f32>,
    b: Matrix<T>,
    c: Block,
) -> Result<(), KernelError> {
    a.check(kernel, "a")?;
    b.check(kernel, "b")?;
    check_product(kernel, &a, &b, (c.rows, c.cols))?;
    if c.is_empty() {
        return Ok(());
    }
    if b.row_stride != 1 && b.rows != 1 && b.col_stride != 1 && b.cols != 1 {
        let mut copy = ctx.scratch().take::<T>(count(kernel, b.rows, b.cols)?)?;
        b.copy_to(&mut copy);
        let b = Matrix::row_major(&copy, b.rows, b.cols);
        return divided(kernel, ctx, threads, a, b, c);
    }
    divided(kernel, ctx, threads, a, b, c)
}

fn divided<T: Number>(
    kernel: &'static str,
    ctx: &Context,
    threads: Threads,
    a: Matrix<f32>,
    b: Matrix<T>,
    c: Block,
) -> Result<(), KernelError> {
    let (work, workers) = (a.rows * b.rows * b.cols, ctx.workers().threads());
    if threads == Threads::One || workers == 1 || work < thresholds::FEW_ROWS {
        return columns(kernel, ctx, a, b, c);
    }
    // The columns are divided: they are the rows of the transposed result.
    let part = c.cols.div_ceil(workers).next_multiple_of(arch::SUMS);
    c.transposed().try_for_each_rows(ctx.workers(), part, |first, part| {
        let b = b.transposed().rows_from(first, part.rows).transposed();
        columns(kernel, ctx, a, b, part.transposed())
    })
}

/// The products of each row with each column.
fn columns<T: Number>(
    kernel: &'static str,
    ctx: &Context,
    a: Matrix<f32>,
    b: Matrix<T>,
    mut c: Block,
) -> Result<(), KernelError> {
    if a.cols == 0 {
        // Nothing to sum up.
        (0..c.rows).for_each(|row| (0..c.cols).for_each(|col| c.set(row, col, 0.0)));
        return Ok(());
    }
    if a.cols == 1 {
        outer(a, b, c);
        return Ok(());
    }
    let apart = b.row_stride == 1 || b.rows == 1;
    let (width, stride) = if apart { (DOTS, b.col_stride) } else { (arch::SUMS, b.row_stride) };
    let mut copy = None;
    if a.col_stride != 1 && a.cols != 1 {
        let mut rows = ctx.scratch().take::<f32>(count(kernel, a.rows, a.cols)?)?;
        a.copy_to(&mut rows);
        copy = Some(rows);
    }
    let a = match &copy {
        Some(rows) => Matrix::row_major(rows, a.rows, a.cols),
        None => a,
    };
    for first in (0..b.cols).step_by(width) {
        let b = b.offset(first * b.col_stride).data;
        let width = width.min(c.cols - first);
        for row in 0..a.rows {
            let x = &a.offset(row * a.row_stride).data[..a.cols];
            let mut out = [0.0; arch::SUMS];
            let out = &mut out[..width];
            if apart {
                arch::lane_dots(ctx.isa(), b, stride, x, out);
            } else {
                arch::lane_sums(ctx.isa(), b, stride, x, out);
            }
            out.iter().enumerate().for_each(|(j, &sum)| c.set(row, first + j, sum));
        }
    }
    Ok(())
}

/// Products of a column and a row: nothing is summed up but one product and the sums' zeros.
fn outer<T: Number>(a: Matrix<f32>, b: Matrix<T>, c: Block) {
    let mut c = c.transposed();
    for row in 0..a.rows {
        let x = a.data[row * a.row_stride];
        let product = |y: T| x * y.wide() + 0.0;
        match c.column_mut(row) {
            Some(out) if b.col_stride == 1 => {
                out.iter_mut().zip(b.data).for_each(|(out, &y)| *out = product(y));
            }
            _ => (0..b.cols).for_each(|j| c.set(j, row, product(b.data[j * b.col_stride]))),
        }
    }
}

fn count(kernel: &'static str, rows: usize, cols: usize) -> Result<usize, KernelError> {
    rows.checked_mul(cols).ok_or(KernelError::Overflow { kernel, argument: "sizes" })
}
