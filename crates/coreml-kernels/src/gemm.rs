//! Single-precision matrix products.
#![allow(unsafe_code)]

use ::gemm::Parallelism;

use crate::error::{KernelError, check_distinct, check_strided};

/// `c[i, j] = alpha * sum over p of a[i, p] * b[p, j]`, for `a` of `m` x `k`, `b` of `k` x `n`
/// and `c` of `m` x `n`. `_rs` and `_cs` are the distances in elements between rows and columns.
/// Spread over rayon's threads if large.
///
/// # Errors
/// If a slice is shorter than its sizes and strides reach, or elements of `c` coincide.
#[expect(clippy::too_many_arguments, reason = "the argument order every matrix library has")]
pub fn gemm(
    m: usize,
    n: usize,
    k: usize,
    a: &[f32],
    a_rs: usize,
    a_cs: usize,
    b: &[f32],
    b_rs: usize,
    b_cs: usize,
    c: &mut [f32],
    c_rs: usize,
    c_cs: usize,
    alpha: f32,
) -> Result<(), KernelError> {
    let a = Matrix { data: a, rs: a_rs, cs: a_cs };
    let b = Matrix { data: b, rs: b_rs, cs: b_cs };
    multiply([m, n, k], a, b, c, [c_rs, c_cs], alpha, false)
}

/// A strided matrix.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) rs: usize,
    pub(crate) cs: usize,
}

/// As [`gemm`]; `accumulate` adds to what `c` holds.
pub(crate) fn multiply(
    [m, n, k]: [usize; 3],
    a: Matrix,
    b: Matrix,
    c: &mut [f32],
    [c_rs, c_cs]: [usize; 2],
    alpha: f32,
    accumulate: bool,
) -> Result<(), KernelError> {
    check_strided("gemm", "a", &[(m, a.rs), (k, a.cs)], a.data.len())?;
    check_strided("gemm", "b", &[(k, b.rs), (n, b.cs)], b.data.len())?;
    check_strided("gemm", "c", &[(m, c_rs), (n, c_cs)], c.len())?;
    check_distinct("gemm", "c", (m, c_rs), (n, c_cs))?;
    if m == 0 || n == 0 {
        return Ok(());
    }
    if k == 0 {
        if !accumulate {
            fill(m, n, c, c_rs, c_cs);
        }
        return Ok(());
    }
    // Strides of dimensions that never step may be anything: make them harmless.
    let stride = |size: usize, stride: usize| if size == 1 { 1 } else { stride.cast_signed() };
    // SAFETY: the checks above bound every element that the sizes and strides reach, in all three
    // slices; `c` is borrowed mutably and its elements are distinct.
    unsafe {
        ::gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            stride(n, c_cs),
            stride(m, c_rs),
            accumulate,
            a.data.as_ptr(),
            stride(k, a.cs),
            stride(m, a.rs),
            b.data.as_ptr(),
            stride(n, b.cs),
            stride(k, b.rs),
            1.0,
            alpha,
            false,
            false,
            false,
            Parallelism::Rayon(0),
        );
    }
    Ok(())
}

fn fill(m: usize, n: usize, c: &mut [f32], c_rs: usize, c_cs: usize) {
    for i in 0..m {
        for j in 0..n {
            c[i * c_rs + j * c_cs] = 0.0;
        }
    }
}
