//! Products with half-precision matrices that change at run time: key-value caches.

use half::f16;

use crate::arch;
use crate::context::Context;
use crate::error::KernelError;
use crate::gemm::{Sum, multiply};
use crate::lanes;
use crate::matrix::{Batch, BatchStrides, Block, Matrix, MatrixMut, Order, Threads};
use crate::thresholds;

const KERNEL: &str = "attention_matmul";

/// `c = a * b`, for each head of an attention. The matrices describe the first product, their
/// slices hold all; those of `b` may be views into a larger buffer. [`Order::Lanes`] takes the
/// halves as they are, [`Order::Chain`] widens them first. Divided among threads if large.
///
/// # Errors
/// If the sizes do not fit each other, a slice ends before its matrix, `b_repeat` is zero, elements
/// of `c` coincide or there is no memory.
pub fn attention_matmul(
    ctx: &Context,
    order: Order,
    batch: BatchStrides,
    a: Matrix<f32>,
    b: Matrix<f16>,
    c: MatrixMut,
) -> Result<(), KernelError> {
    let products = Batch { kernel: KERNEL, strides: batch, a, b };
    products.each(ctx.workers(), thresholds::FEW_ROWS, c, |threads, a, b, c| match order {
        Order::Lanes => lanes::multiply(KERNEL, ctx, threads, a, b, c),
        Order::Chain => widened(ctx, threads, a, b, c),
    })
}

/// `c = a * b` in the order [`Order::Chain`].
///
/// # Errors
/// As [`attention_matmul`].
pub(crate) fn widened(
    ctx: &Context,
    threads: Threads,
    a: Matrix<f32>,
    b: Matrix<f16>,
    c: Block,
) -> Result<(), KernelError> {
    b.check(KERNEL, "b")?;
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
    multiply(ctx, threads, a, wide, c, Sum::New)
}
