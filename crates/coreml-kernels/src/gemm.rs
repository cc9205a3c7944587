//! Matrix products in single precision, and [`Order::Chain`].
#![allow(unsafe_code)]

use gemm_common::Parallelism;

use crate::context::Context;
use crate::error::KernelError;
use crate::lanes;
use crate::matrix::{Batch, BatchStrides, Block, Matrix, MatrixMut, Order, Threads, check_product};
use crate::thresholds;

const KERNEL: &str = "gemm";

/// Products that are summed up at a time: up to so many, the library makes one block of them,
/// whatever the matrices' sizes and the CPU's caches.
pub(crate) const DEPTH: usize = 512;

/// `c = a * b`, for each of many products of one size. The matrices describe the first one, their
/// slices hold all. Divided among threads if large.
///
/// # Errors
/// If the sizes do not fit each other, a slice ends before its matrix, `b_repeat` is zero, elements
/// of `c` coincide or there is no memory.
pub fn gemm_batch(
    ctx: &Context,
    order: Order,
    batch: BatchStrides,
    a: Matrix<f32>,
    b: Matrix<f32>,
    c: MatrixMut,
) -> Result<(), KernelError> {
    let products = Batch { kernel: KERNEL, strides: batch, a, b };
    let threshold = match order {
        Order::Lanes => thresholds::FEW_ROWS,
        Order::Chain => thresholds::GEMM,
    };
    products.each(ctx.workers(), threshold, c, |threads, a, b, c| match order {
        Order::Chain => multiply(ctx, threads, a, b, c, Sum::New),
        // Few columns are few rows of the transposed product.
        Order::Lanes if c.cols < c.rows => {
            let (a, b) = (b.transposed(), a.transposed());
            lanes::multiply(KERNEL, ctx, threads, a, b, c.transposed())
        }
        Order::Lanes => lanes::multiply(KERNEL, ctx, threads, a, b, c),
    })
}

/// What becomes of a product.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Sum {
    /// It is written.
    New,
    /// It is added to what is there.
    Added,
}

/// `c = a * b` or `c += a * b`, in the order [`Order::Chain`].
///
/// # Errors
/// If the sizes do not fit each other or a slice ends before its matrix.
pub(crate) fn multiply(
    ctx: &Context,
    threads: Threads,
    a: Matrix<f32>,
    b: Matrix<f32>,
    c: Block,
    sum: Sum,
) -> Result<(), KernelError> {
    let count = ctx.workers().threads();
    let work = [c.rows, c.cols, a.cols].into_iter().fold(1, usize::saturating_mul);
    if threads == Threads::One || count == 1 || work < thresholds::GEMM {
        return multiply_here(a, b, c, sum);
    }
    if c.cols > c.rows {
        // Rows are what is divided: the transposed product has more of them.
        return multiply(ctx, threads, b.transposed(), a.transposed(), c.transposed(), sum);
    }
    check_product(KERNEL, &a, &b, (c.rows, c.cols))?;
    let rows = c.rows.div_ceil(count).next_multiple_of(thresholds::GEMM_ROWS);
    c.try_for_each_rows(Some(ctx.workers()), rows, |first, c| {
        multiply_here(a.rows_from(first, c.rows), b, c, sum)
    })
}

/// [`multiply`] on the calling thread.
pub(crate) fn multiply_here(
    a: Matrix<f32>,
    b: Matrix<f32>,
    mut c: Block,
    sum: Sum,
) -> Result<(), KernelError> {
    a.check(KERNEL, "a")?;
    b.check(KERNEL, "b")?;
    check_product(KERNEL, &a, &b, (c.rows, c.cols))?;
    if c.is_empty() {
        return Ok(());
    }
    if a.cols == 0 && sum == Sum::New {
        // Nothing to sum up.
        (0..c.rows).for_each(|row| (0..c.cols).for_each(|col| c.set(row, col, 0.0)));
    }
    if c.col_stride < c.row_stride {
        // The library's tiles are written by column.
        in_blocks(b.transposed(), a.transposed(), c.transposed(), sum);
    } else {
        in_blocks(a, b, c, sum);
    }
    Ok(())
}

/// Sums up blocks of products; the sizes have been checked.
fn in_blocks(a: Matrix<f32>, b: Matrix<f32>, mut c: Block, sum: Sum) {
    for first in (0..a.cols).step_by(DEPTH) {
        let depth = DEPTH.min(a.cols - first);
        let a = Matrix { cols: depth, ..a.offset(first * a.col_stride) };
        let b = b.rows_from(first, depth);
        block(a, b, &mut c, sum == Sum::Added || first > 0);
    }
}

/// Writes or adds the products of at most [`DEPTH`] columns and rows.
fn block(a: Matrix<f32>, b: Matrix<f32>, c: &mut Block, added: bool) {
    // Strides of dimensions that never step may be anything: make them harmless.
    let stride = |size: usize, stride: usize| if size == 1 { 1 } else { stride.cast_signed() };
    // The library sums in other orders where sizes and strides suit them, but not into a conjugate,
    // which of real numbers is the number itself.
    let conjugate = true;
    let multiply = gemm_f32::gemm::f32::get_gemm_fn();
    // SAFETY: `a` and `b` lie within their slices, as the caller has checked, `c` by construction,
    // which also makes its elements distinct and ours alone.
    unsafe {
        multiply(
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
            1.0,
            conjugate,
            false,
            false,
            Parallelism::None,
        );
    }
}
