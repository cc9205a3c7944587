//! Single-precision matrix products.
#![allow(unsafe_code)]

use ::gemm::Parallelism;

use crate::context::Context;
use crate::error::KernelError;
use crate::matrix::{Batch, BatchStrides, Block, Matrix, MatrixMut, Threads, check_product};
use crate::thresholds;

const KERNEL: &str = "gemm";

/// `c = alpha * a * b`. Divided among threads if large.
///
/// # Errors
/// If the sizes do not fit each other, a slice ends before its matrix or elements of `c` coincide.
pub fn gemm(
    ctx: &Context,
    a: Matrix<f32>,
    b: Matrix<f32>,
    c: MatrixMut,
    alpha: f32,
) -> Result<(), KernelError> {
    let c = Block::new(KERNEL, c)?;
    multiply(ctx, Threads::All, a, b, c, Sum::New(alpha))
}

/// [`gemm()`] for many products of one size. The matrices describe the first one, their slices hold
/// all.
///
/// # Errors
/// As [`gemm()`]; also if `b_repeat` is zero or the matrices `c` overlap.
pub fn gemm_batch(
    ctx: &Context,
    batch: BatchStrides,
    a: Matrix<f32>,
    b: Matrix<f32>,
    c: MatrixMut,
    alpha: f32,
) -> Result<(), KernelError> {
    let products = Batch { kernel: KERNEL, strides: batch, a, b };
    products.each(ctx.workers(), thresholds::GEMM, c, |threads, a, b, c| {
        multiply(ctx, threads, a, b, c, Sum::New(alpha))
    })
}

/// What becomes of a product.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Sum {
    /// It is written, so many times.
    New(f32),
    /// It is added to what is there.
    Added,
}

/// `c = a * b` or `c += a * b`.
///
/// # Errors
/// If the sizes do not fit each other or a slice ends before its matrix.
pub(crate) fn multiply(
    ctx: &Context,
    threads: Threads,
    a: Matrix<f32>,
    b: Matrix<f32>,
    mut c: Block,
    sum: Sum,
) -> Result<(), KernelError> {
    let count = ctx.workers().threads();
    let work = [c.rows, c.cols, a.cols].into_iter().fold(1, usize::saturating_mul);
    if threads == Threads::One || count == 1 || work < thresholds::GEMM {
        return multiply_here(a, b, &mut c, sum);
    }
    if c.cols > c.rows {
        // Rows are what is divided: the transposed product has more of them.
        return multiply(ctx, threads, b.transposed(), a.transposed(), c.transposed(), sum);
    }
    check_product(KERNEL, &a, &b, (c.rows, c.cols))?;
    let rows = c.rows.div_ceil(count).next_multiple_of(thresholds::GEMM_ROWS);
    c.try_for_each_rows(ctx.workers(), rows, |first, mut c| {
        multiply_here(a.rows_from(first, c.rows), b, &mut c, sum)
    })
}

/// [`multiply`] on the calling thread.
pub(crate) fn multiply_here(
    a: Matrix<f32>,
    b: Matrix<f32>,
    c: &mut Block,
    sum: Sum,
) -> Result<(), KernelError> {
    a.check(KERNEL, "a")?;
    b.check(KERNEL, "b")?;
    check_product(KERNEL, &a, &b, (c.rows, c.cols))?;
    if c.is_empty() {
        return Ok(());
    }
    let (added, alpha) = match sum {
        Sum::New(alpha) => (false, alpha),
        Sum::Added => (true, 1.0),
    };
    if a.cols == 0 {
        // Nothing to sum up.
        if !added {
            (0..c.rows).for_each(|row| (0..c.cols).for_each(|col| c.set(row, col, 0.0)));
        }
        return Ok(());
    }
    // Strides of dimensions that never step may be anything: make them harmless.
    let stride = |size: usize, stride: usize| if size == 1 { 1 } else { stride.cast_signed() };
    // SAFETY: `a` and `b` lie within their slices as checked above, `c` by construction, which
    // also makes its elements distinct and ours alone.
    unsafe {
        ::gemm::gemm(
            c.rows,
            c.cols,
            a.cols,
            c.as_mut_ptr(),
            stride(c.cols, c.col_stride),
            stride(c.rows, c.row_stride),
            added,
            a.data.as_ptr(),
            stride(a.cols, a.col_stride),
            stride(a.rows, a.row_stride),
            b.data.as_ptr(),
            stride(b.cols, b.col_stride),
            stride(b.rows, b.row_stride),
            1.0,
            alpha,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
    Ok(())
}
