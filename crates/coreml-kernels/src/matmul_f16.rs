//! Products with half-precision matrices that change at run time: key-value caches.

use half::f16;

use crate::arch;
use crate::context::Context;
use crate::error::KernelError;
use crate::gemm::{Sum, multiply};
use crate::matrix::{Batch, BatchStrides, Block, Matrix, MatrixMut, Threads, check_product};
use crate::thresholds;

const KERNEL: &str = "matmul_f16";

/// `c = alpha * a * b`. A few rows are computed straight from the halves; for many, `b` is widened
/// first. Divided among threads if large.
///
/// # Errors
/// If the sizes do not fit each other, a slice ends before its matrix, elements of `c` coincide or
/// there is no memory for the widened matrix.
pub fn matmul_f16(
    ctx: &Context,
    a: Matrix<f32>,
    b: Matrix<f16>,
    c: MatrixMut,
    alpha: f32,
) -> Result<(), KernelError> {
    product(ctx, Threads::All, a, b, Block::new(KERNEL, c)?, alpha)
}

/// [`matmul_f16`] for each head of an attention. The matrices describe the first product, their
/// slices hold all; those of `b` may be views into a larger buffer.
///
/// # Errors
/// As [`matmul_f16`]; also if `b_repeat` is zero or the matrices `c` overlap.
pub fn attention_matmul(
    ctx: &Context,
    batch: BatchStrides,
    a: Matrix<f32>,
    b: Matrix<f16>,
    c: MatrixMut,
    alpha: f32,
) -> Result<(), KernelError> {
    let products = Batch { kernel: KERNEL, strides: batch, a, b };
    products.each(ctx.workers(), thresholds::MATMUL_F16, c, |threads, a, b, c| {
        product(ctx, threads, a, b, c, alpha)
    })
}

fn product(
    ctx: &Context,
    threads: Threads,
    a: Matrix<f32>,
    b: Matrix<f16>,
    c: Block,
    alpha: f32,
) -> Result<(), KernelError> {
    a.check(KERNEL, "a")?;
    b.check(KERNEL, "b")?;
    check_product(KERNEL, &a, &b, (c.rows, c.cols))?;
    if c.is_empty() {
        return Ok(());
    }
    let dense = b.row_stride == 1 || b.rows == 1 || b.col_stride == 1 || b.cols == 1;
    if a.rows > thresholds::DIRECT_ROWS || a.cols == 0 || !dense {
        return widened(ctx, threads, a, b, c, alpha);
    }
    let (work, count) = (a.rows * b.rows * b.cols, ctx.workers().threads());
    if threads == Threads::One || count == 1 || work < thresholds::MATMUL_F16 {
        return direct(ctx, a, b, c, alpha);
    }
    // The columns are divided: they are the rows of the transposed output.
    let columns = c.cols.div_ceil(count);
    c.transposed().try_for_each_rows(ctx.workers(), columns, |first, part| {
        let b = b.transposed().rows_from(first, part.rows).transposed();
        direct(ctx, a, b, part.transposed(), alpha)
    })
}

/// The product with a matrix of which columns or rows are dense.
fn direct(
    ctx: &Context,
    a: Matrix<f32>,
    b: Matrix<f16>,
    c: Block,
    alpha: f32,
) -> Result<(), KernelError> {
    if b.row_stride == 1 || b.rows == 1 {
        dots(ctx, a, b, c, alpha)
    } else {
        sums(ctx, a, b, c, alpha)
    }
}

/// Columns of `b` are dense: one dot product per output.
fn dots(
    ctx: &Context,
    a: Matrix<f32>,
    b: Matrix<f16>,
    mut c: Block,
    alpha: f32,
) -> Result<(), KernelError> {
    let mut rows = ctx.scratch().take::<f32>(a.rows * a.cols)?;
    for (i, row) in rows.chunks_exact_mut(a.cols).enumerate() {
        for (p, value) in row.iter_mut().enumerate() {
            *value = alpha * a.data[i * a.row_stride + p * a.col_stride];
        }
    }
    let rows = &*rows;
    for j in 0..b.cols {
        let column = &b.data[j * b.col_stride..][..b.rows];
        for (i, row) in rows.chunks_exact(a.cols).enumerate() {
            c.set(i, j, arch::dot_f16(ctx.isa(), column, row));
        }
    }
    Ok(())
}

/// Rows of `b` are dense: each is added to the output rows with its factor.
fn sums(
    ctx: &Context,
    a: Matrix<f32>,
    b: Matrix<f16>,
    mut c: Block,
    alpha: f32,
) -> Result<(), KernelError> {
    let mut rows = ctx.scratch().take::<f32>(a.rows * b.cols)?;
    let rows = &mut *rows;
    rows.fill(0.0);
    for p in 0..b.rows {
        let row = &b.data[p * b.row_stride..][..b.cols];
        for (i, sums) in rows.chunks_exact_mut(b.cols).enumerate() {
            let factor = alpha * a.data[i * a.row_stride + p * a.col_stride];
            arch::axpy_f16(ctx.isa(), factor, row, sums);
        }
    }
    for (i, sums) in rows.chunks_exact(b.cols).enumerate() {
        sums.iter().enumerate().for_each(|(j, &sum)| c.set(i, j, sum));
    }
    Ok(())
}

fn widened(
    ctx: &Context,
    threads: Threads,
    a: Matrix<f32>,
    b: Matrix<f16>,
    c: Block,
    alpha: f32,
) -> Result<(), KernelError> {
    let count = b.rows.checked_mul(b.cols);
    let count = count.ok_or(KernelError::Overflow { kernel: KERNEL, argument: "b" })?;
    let mut wide = ctx.scratch().take::<f32>(count)?;
    // Lines are what is dense: columns or rows.
    let by_column = b.row_stride == 1;
    let lines = if by_column { b.transposed() } else { b };
    if lines.cols > 0 {
        for (i, line) in wide.chunks_exact_mut(lines.cols).enumerate() {
            let from = &lines.data[i * lines.row_stride..];
            if lines.col_stride == 1 || lines.cols == 1 {
                arch::widen(ctx.isa(), &from[..lines.cols], line);
            } else {
                let each = line.iter_mut().enumerate();
                each.for_each(|(j, x)| *x = from[j * lines.col_stride].to_f32());
            }
        }
    }
    let wide = Matrix::row_major(&wide, lines.rows, lines.cols);
    let wide = if by_column { wide.transposed() } else { wide };
    multiply(ctx, threads, a, wide, c, Sum::New(alpha))
}

#[cfg(test)]
mod tests;
