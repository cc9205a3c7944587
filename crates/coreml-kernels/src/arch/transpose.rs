//! Transposed copies.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use crate::isa::Avx2;
use crate::matrix::{Block, Matrix};

/// Rows and columns of the squares that registers transpose.
const SIDE: usize = 8;

/// Copies a matrix whose rows lie in one piece each to one whose columns do, as far as whole squares reach;
/// gives how many rows and columns these are.
///
/// # Panics
/// If the matrices do not have these sizes and strides.
pub(super) fn squares(token: Avx2, from: Matrix<f32>, to: &mut Block) -> (usize, usize) {
    let in_rows = from.check("transpose", "from").is_ok() && from.col_stride == 1;
    let same = (from.rows, from.cols) == (to.rows, to.cols);
    assert!(in_rows && same && to.row_stride == 1, "rows, and as many columns, in one piece each");
    let (rows, cols) = (from.rows / SIDE * SIDE, from.cols / SIDE * SIDE);
    let (source, target) = (from.data.as_ptr(), to.as_mut_ptr());
    for col in (0..cols).step_by(SIDE) {
        for row in (0..rows).step_by(SIDE) {
            // SAFETY: the square lies within both matrices, and these in their slices, as checked.
            unsafe {
                let source = source.add(row * from.row_stride + col);
                let target = target.add(row + col * to.col_stride);
                square(token, (source, from.row_stride), (target, to.col_stride));
            }
        }
    }
    (rows, cols)
}

/// # Safety
/// The addresses must be those of eight times eight values, at the strides.
unsafe fn square(_proof: Avx2, from: (*const f32, usize), to: (*mut f32, usize)) {
    // SAFETY: the token proves that the CPU has the features; the rest is the caller's.
    unsafe { square_vector(from, to) }
}

#[target_feature(enable = "avx2")]
unsafe fn square_vector(
    (from, from_stride): (*const f32, usize),
    (to, to_stride): (*mut f32, usize),
) {
    let mut rows = [_mm256_setzero_ps(); SIDE];
    // SAFETY: the caller's promise.
    unsafe {
        for (i, row) in rows.iter_mut().enumerate() {
            *row = _mm256_loadu_ps(from.add(i * from_stride));
        }
    }
    // Pairs of rows, then fours, then halves change places.
    let mut pairs = rows;
    for i in 0..4 {
        pairs[2 * i] = _mm256_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
        pairs[2 * i + 1] = _mm256_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
    }
    let mut fours = rows;
    for i in [0, 4] {
        for j in [0, 1] {
            let (a, b) = (_mm256_castps_pd(pairs[i + j]), _mm256_castps_pd(pairs[i + 2 + j]));
            fours[i + 2 * j] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, b));
            fours[i + 2 * j + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, b));
        }
    }
    // SAFETY: the caller's promise.
    unsafe {
        for i in 0..4 {
            let (low, high) = (fours[i], fours[i + 4]);
            _mm256_storeu_ps(to.add(i * to_stride), _mm256_permute2f128_ps::<0x20>(low, high));
            _mm256_storeu_ps(
                to.add((i + 4) * to_stride),
                _mm256_permute2f128_ps::<0x31>(low, high),
            );
        }
    }
}
