//! Products of few rows, each straight from the numbers of a matrix: [`Order::Lanes`].
//!
//! [`Order::Lanes`]: crate::Order::Lanes

use crate::arch::{self, Number};
use crate::context::{Context, Lease};
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
    let dense = b.row_stride == 1 || b.rows == 1 || b.col_stride == 1 || b.cols == 1;
    let copy = if dense { None } else { Some(rows_of(kernel, ctx, b)?) };
    let b = match &copy {
        Some(rows) => Matrix::row_major(rows, b.rows, b.cols),
        None => b,
    };
    let (work, workers) = (a.rows * b.rows * b.cols, ctx.workers().threads());
    if threads == Threads::One || workers == 1 || work < thresholds::GEMM {
        return columns(kernel, ctx, a, b, c);
    }
    // The columns are divided: they are the rows of the transposed result.
    let part = c.cols.div_ceil(workers).next_multiple_of(arch::SUMS);
    c.transposed().try_for_each_rows(Some(ctx.workers()), part, |first, part| {
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
    let (width, stride) = if apart { (DOTS, b.col_stride) } else { (arch::COLUMNS, b.row_stride) };
    let dense = a.col_stride == 1;
    let copy = if dense { None } else { Some(rows_of(kernel, ctx, a)?) };
    let a = match &copy {
        Some(rows) => Matrix::row_major(rows, a.rows, a.cols),
        None => a,
    };
    for first in (0..b.cols).step_by(width) {
        let b = b.offset(first * b.col_stride).data;
        let width = width.min(c.cols - first);
        for row in 0..a.rows {
            let x = &a.offset(row * a.row_stride).data[..a.cols];
            let mut out = [0.0; arch::COLUMNS];
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

/// A copy of a matrix, one row after the other.
fn rows_of<'s, T: Number>(
    kernel: &'static str,
    ctx: &'s Context,
    matrix: Matrix<T>,
) -> Result<Lease<'s, T>, KernelError> {
    let count = matrix.rows.checked_mul(matrix.cols);
    let count = count.ok_or(KernelError::Overflow { kernel, argument: "sizes" })?;
    let mut copy = ctx.scratch().take(count)?;
    matrix.copy_to(&mut copy);
    Ok(copy)
}
