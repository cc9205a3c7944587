//! Products of rows with a panel of columns, in tiles of registers: [`Order::Chain`].
//!
//! Columns lie in lanes, side by side for each input, and every weight is broadcast from its row as it lies.
//! So nothing of the rows has to be arranged, and no sum crosses lanes.
//!
//! [`Order::Chain`]: crate::Order::Chain
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::Onto;
use crate::isa::{Avx2, Avx512};
use crate::matrix::{Block, Matrix};

/// Steps that a panel is asked for ahead of its use: it lies in the cache of the second level.
const AHEAD: usize = 8;

/// See [`super::multiply_panel`].
pub(super) fn multiply_avx2(
    _proof: Avx2,
    a: Matrix<f32>,
    (panel, width): (&[f32], usize),
    onto: Onto,
    c: &mut Block,
) {
    let added = matches!(onto, Onto::Result);
    let job = Job::new(a, (panel, width), onto, c);
    // SAFETY: the token proves that the CPU has the features.
    unsafe {
        match (width / F32x8::LANES, added) {
            (1, false) => job.rows::<F32x8, 12, 1, false>(),
            (1, true) => job.rows::<F32x8, 12, 1, true>(),
            (2, false) => job.rows::<F32x8, 6, 2, false>(),
            (2, true) => job.rows::<F32x8, 6, 2, true>(),
            _ => unreachable!("a panel of one or two vectors"),
        }
    }
}

/// See [`super::multiply_panel`].
pub(super) fn multiply_avx512(
    _proof: Avx512,
    a: Matrix<f32>,
    (panel, width): (&[f32], usize),
    onto: Onto,
    c: &mut Block,
) {
    let added = matches!(onto, Onto::Result);
    let job = Job::new(a, (panel, width), onto, c);
    // SAFETY: the token proves that the CPU has the features.
    unsafe {
        match (width / F32x16::LANES, added) {
            (1, false) => job.rows::<F32x16, 12, 1, false>(),
            (1, true) => job.rows::<F32x16, 12, 1, true>(),
            (2, false) => job.rows::<F32x16, 12, 2, false>(),
            (2, true) => job.rows::<F32x16, 12, 2, true>(),
            (3, false) => job.rows::<F32x16, 8, 3, false>(),
            (3, true) => job.rows::<F32x16, 8, 3, true>(),
            (4, false) => job.rows::<F32x16, 6, 4, false>(),
            (4, true) => job.rows::<F32x16, 6, 4, true>(),
            _ => unreachable!("a panel of one to four vectors"),
        }
    }
}

/// The operands of a product, which lie within their slices.
struct Job {
    a: *const f32,
    a_stride: usize,
    depth: usize,
    panel: *const f32,
    width: usize,
    /// What the sums of row `r` are added to, if not to the result: `bias[r * bias_step]`.
    bias: *const f32,
    bias_step: usize,
    c: *mut f32,
    c_stride: usize,
    rows: usize,
    cols: usize,
}

impl Job {
    fn new(a: Matrix<f32>, (panel, width): (&[f32], usize), onto: Onto, c: &mut Block) -> Self {
        assert!(
            a.check("tile", "a").is_ok() && panel.len() >= a.cols * width,
            "operands in slices"
        );
        assert!(a.rows == c.rows && c.cols <= width, "as many rows, and no more columns");
        assert!(a.col_stride == 1 && c.col_stride == 1, "elements of rows side by side");
        let (bias, bias_step): (&[f32], _) = match onto {
            Onto::Bias(bias) => (bias, 1),
            Onto::Zero | Onto::Result => (&[0.0], 0),
        };
        assert!(bias_step == 0 || bias.len() >= a.rows, "a bias for each row");
        let Matrix { data, rows, cols: depth, row_stride: a_stride, .. } = a;
        let (c_stride, cols) = (c.row_stride, c.cols);
        let (a, panel, bias) = (data.as_ptr(), panel.as_ptr(), bias.as_ptr());
        let c = c.as_mut_ptr();
        Self { a, a_stride, depth, panel, width, bias, bias_step, c, c_stride, rows, cols }
    }

    /// All rows, `R` at a time, and the rest in smaller tiles.
    ///
    /// # Safety
    /// The CPU must have the vectors.
    unsafe fn rows<V: Vector, const R: usize, const N: usize, const ADDED: bool>(&self) {
        assert!(self.width == N * V::LANES, "a panel of whole vectors");
        assert!(self.cols > (N - 1) * V::LANES, "columns in each vector");
        let mut row = 0;
        while let left @ 1.. = self.rows - row {
            // SAFETY: there are as many rows left, and the panel is as wide; the rest is the caller's.
            unsafe {
                row += match left {
                    1 => V::tile::<1, N, ADDED>(self, row),
                    2 | 3 => V::tile::<2, N, ADDED>(self, row),
                    _ if left < R => V::tile::<4, N, ADDED>(self, row),
                    _ => V::tile::<R, N, ADDED>(self, row),
                }
            }
        }
    }
}

/// Writes `R` rows from `row` on, with `N` vectors of columns, or adds them to the result; gives their number.
///
/// Nothing but loops of known length and no conditions, as the sums must be in registers.
///
/// # Safety
/// There must be these rows, the panel be as wide, and the CPU have the vectors.
#[inline(always)]
unsafe fn tile<V: Vector, const R: usize, const N: usize, const ADDED: bool>(
    job: &Job,
    row: usize,
) -> usize {
    // SAFETY: every address is one of an element that the operands have, as the caller sees to; what is
    // prefetched may lie anywhere.
    unsafe {
        let a = job.a.add(row * job.a_stride);
        let mut sums = [[V::zero(); N]; R];
        for k in 0..job.depth {
            let line = job.panel.add(k * N * V::LANES);
            let mut x = [V::zero(); N];
            for (n, x) in x.iter_mut().enumerate() {
                prefetch(line.wrapping_add((AHEAD * N + n) * V::LANES));
                *x = V::load(line.add(n * V::LANES));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let weight = V::splat(*a.add(r * job.a_stride + k));
                for (sum, &x) in sums.iter_mut().zip(&x) {
                    *sum = V::multiply_add(weight, x, *sum);
                }
            }
        }
        let last = job.cols - (N - 1) * V::LANES;
        for (r, sums) in sums.iter().enumerate() {
            let to = job.c.add((row + r) * job.c_stride);
            let bias = V::splat(*job.bias.add((row + r) * job.bias_step));
            for (n, &sum) in sums.iter().enumerate() {
                let (to, count) = (to.add(n * V::LANES), if n + 1 < N { V::LANES } else { last });
                let base = if ADDED { V::load_some(to, count) } else { bias };
                base.add(sum).store_some(to, count);
            }
        }
    }
    R
}

/// Asks for the line of the cache at an address, which may be any.
#[inline(always)]
#[allow(unused_unsafe, reason = "the intrinsic became safe after Rust 1.89")]
fn prefetch(address: *const f32) {
    // SAFETY: a prefetch never faults and changes nothing that a program sees.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
}

/// Floats in a register. All functions ask for the CPU's features; those of memory for as many values there.
trait Vector: Copy {
    const LANES: usize;

    /// [`tile`] with the features that the vectors need.
    unsafe fn tile<const R: usize, const N: usize, const ADDED: bool>(
        job: &Job,
        row: usize,
    ) -> usize;
    unsafe fn zero() -> Self;
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn load_some(from: *const f32, count: usize) -> Self;
    unsafe fn store_some(self, to: *mut f32, count: usize);
    unsafe fn add(self, other: Self) -> Self;
    /// `a * b + sum`, rounded once.
    unsafe fn multiply_add(a: Self, b: Self, sum: Self) -> Self;
}

#[derive(Clone, Copy)]
struct F32x16(__m512);

impl F32x16 {
    #[inline(always)]
    fn mask(count: usize) -> __mmask16 {
        ((1u32 << count) - 1) as u16
    }
}

impl Vector for F32x16 {
    const LANES: usize = 16;

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma,f16c")]
    unsafe fn tile<const R: usize, const N: usize, const ADDED: bool>(
        job: &Job,
        row: usize,
    ) -> usize {
        // SAFETY: the caller's promise.
        unsafe { tile::<Self, R, N, ADDED>(job, row) }
    }

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller's promise, here and below.
        Self(unsafe { _mm512_setzero_ps() })
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: as above.
        Self(unsafe { _mm512_set1_ps(value) })
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: as above.
        Self(unsafe { _mm512_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn load_some(from: *const f32, count: usize) -> Self {
        // SAFETY: as above; masked lanes are not read.
        Self(unsafe { _mm512_maskz_loadu_ps(Self::mask(count), from) })
    }

    #[inline(always)]
    unsafe fn store_some(self, to: *mut f32, count: usize) {
        // SAFETY: as above; masked lanes are not written.
        unsafe { _mm512_mask_storeu_ps(to, Self::mask(count), self.0) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: as above.
        Self(unsafe { _mm512_add_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn multiply_add(a: Self, b: Self, sum: Self) -> Self {
        // SAFETY: as above.
        Self(unsafe { _mm512_fmadd_ps(a.0, b.0, sum.0) })
    }
}

#[derive(Clone, Copy)]
struct F32x8(__m256);

impl F32x8 {
    #[inline(always)]
    unsafe fn mask(count: usize) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe {
            let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            _mm256_cmpgt_epi32(_mm256_set1_epi32(count as i32), lanes)
        }
    }
}

impl Vector for F32x8 {
    const LANES: usize = 8;

    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn tile<const R: usize, const N: usize, const ADDED: bool>(
        job: &Job,
        row: usize,
    ) -> usize {
        // SAFETY: the caller's promise.
        unsafe { tile::<Self, R, N, ADDED>(job, row) }
    }

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller's promise, here and below.
        Self(unsafe { _mm256_setzero_ps() })
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: as above.
        Self(unsafe { _mm256_set1_ps(value) })
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: as above.
        Self(unsafe { _mm256_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn load_some(from: *const f32, count: usize) -> Self {
        // SAFETY: as above; masked lanes are not read.
        Self(unsafe { _mm256_maskload_ps(from, Self::mask(count)) })
    }

    #[inline(always)]
    unsafe fn store_some(self, to: *mut f32, count: usize) {
        // SAFETY: as above; masked lanes are not written.
        unsafe { _mm256_maskstore_ps(to, Self::mask(count), self.0) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: as above.
        Self(unsafe { _mm256_add_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn multiply_add(a: Self, b: Self, sum: Self) -> Self {
        // SAFETY: as above.
        Self(unsafe { _mm256_fmadd_ps(a.0, b.0, sum.0) })
    }
}
