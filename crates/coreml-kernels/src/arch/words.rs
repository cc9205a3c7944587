//! AVX-512 VNNI: products of rows with a panel of columns, both of 16-bit integers, in tiles of registers. See
//! [`crate::panels`].
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::WordPanel;
use crate::isa::Avx512Vnni;
use crate::matrix::Block;
use crate::panels::words::{PAIRS, RowWords};

const LANES: usize = 16;

/// Steps that a panel is asked for ahead of its use: it lies in the cache of the second level.
const AHEAD: usize = 8;

/// Blocks that all rows are multiplied with before the next ones: the nearest cache holds their part of a panel.
const NEAR: usize = 2;

/// See [`super::add_words`].
pub(super) fn add(_proof: Avx512Vnni, rows: &RowWords, panel: &WordPanel, c: &mut Block) {
    let job = Job::new(rows, panel, c);
    // Tiles of more rows are left in memory by the compiler, as are their scales.
    // SAFETY: the token proves that the CPU has the features.
    unsafe {
        match panel.width / LANES {
            1 => job.rows::<12, 1>(),
            2 => job.rows::<4, 2>(),
            3 => job.rows::<4, 3>(),
            4 => job.rows::<4, 4>(),
            _ => unreachable!("a panel of one to four vectors"),
        }
    }
}

/// The operands of a product, which lie within their slices.
struct Job {
    /// Pairs of the rows' integers, and a scale for each block.
    rows: *const i32,
    row_scales: *const f32,
    blocks: usize,
    panel: *const i32,
    panel_scales: *const f32,
    width: usize,
    c: *mut f32,
    c_stride: usize,
    count: usize,
    cols: usize,
}

impl Job {
    fn new(rows: &RowWords, panel: &WordPanel, c: &mut Block) -> Self {
        let (blocks, width) = (rows.blocks, panel.width);
        assert!(rows.pairs.len() >= c.rows * blocks * PAIRS, "integers of every row");
        assert!(rows.scales.len() >= c.rows * blocks, "scales of every row");
        assert!(panel.pairs.len() >= blocks * PAIRS * width, "integers of every column");
        assert!(panel.scales.len() >= blocks * width, "scales of every column");
        assert!(c.cols <= width && c.col_stride == 1, "columns side by side");
        Self {
            rows: rows.pairs.as_ptr(),
            row_scales: rows.scales.as_ptr(),
            blocks,
            panel: panel.pairs.as_ptr(),
            panel_scales: panel.scales.as_ptr(),
            width,
            c_stride: c.row_stride,
            count: c.rows,
            cols: c.cols,
            c: c.as_mut_ptr(),
        }
    }

    /// All rows, `R` at a time, and the rest in smaller tiles.
    ///
    /// # Safety
    /// The CPU must have the features of [`tile`].
    unsafe fn rows<const R: usize, const N: usize>(&self) {
        assert!(self.width == N * LANES, "a panel of whole vectors");
        assert!(self.cols > (N - 1) * LANES, "columns in each vector");
        for first in (0..self.blocks).step_by(NEAR) {
            let blocks = (first, self.blocks.min(first + NEAR));
            let mut row = 0;
            while let left @ 1.. = self.count - row {
                // SAFETY: there are as many rows left, and the panel is as wide; the rest is the caller's.
                unsafe {
                    row += match left {
                        1 => tile::<1, N>(self, blocks, row),
                        2 | 3 => tile::<2, N>(self, blocks, row),
                        _ if left < R => tile::<4, N>(self, blocks, row),
                        _ => tile::<R, N>(self, blocks, row),
                    }
                }
            }
        }
    }
}

/// Adds to `R` rows from `row` on the products of some blocks, with `N` vectors of columns; gives the rows' number.
///
/// Nothing but loops of known length and no conditions, as the sums of a block must be in registers.
///
/// # Safety
/// There must be these rows and blocks, and the panel be as wide.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn tile<const R: usize, const N: usize>(
    job: &Job,
    (start, end): (usize, usize),
    row: usize,
) -> usize {
    let last = job.cols - (N - 1) * LANES;
    let last = if last >= LANES { !0 } else { (1 << last) - 1 };
    let stride = job.blocks * PAIRS;
    // SAFETY: every address is one of an element that the operands have, as the caller sees to; what is
    // prefetched may lie anywhere, and masked lanes are not touched.
    unsafe {
        for block in start..end {
            let weights = job.rows.add(row * stride + block * PAIRS);
            let panel = job.panel.add(block * PAIRS * N * LANES);
            let mut sums = [[_mm512_setzero_si512(); N]; R];
            for pair in 0..PAIRS {
                let line = panel.add(pair * N * LANES);
                let mut x = [_mm512_setzero_si512(); N];
                for (n, x) in x.iter_mut().enumerate() {
                    _mm_prefetch::<_MM_HINT_T0>(line.wrapping_add((AHEAD * N + n) * LANES).cast());
                    *x = _mm512_loadu_si512(line.add(n * LANES).cast());
                }
                for (r, sums) in sums.iter_mut().enumerate() {
                    let weight = _mm512_set1_epi32(*weights.add(r * stride + pair));
                    for (sum, &x) in sums.iter_mut().zip(&x) {
                        *sum = _mm512_dpwssd_epi32(*sum, weight, x);
                    }
                }
            }
            let mut scales = [_mm512_setzero_ps(); N];
            for (n, scales) in scales.iter_mut().enumerate() {
                *scales = _mm512_loadu_ps(job.panel_scales.add((block * N + n) * LANES));
            }
            for (r, sums) in sums.iter().enumerate() {
                let scale = _mm512_set1_ps(*job.row_scales.add((row + r) * job.blocks + block));
                let to = job.c.add((row + r) * job.c_stride);
                for (n, (&sum, &scales)) in sums.iter().zip(&scales).enumerate() {
                    let (to, mask) = (to.add(n * LANES), if n + 1 < N { !0 } else { last });
                    let before = _mm512_maskz_loadu_ps(mask, to);
                    let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), scale);
                    _mm512_mask_storeu_ps(to, mask, _mm512_fmadd_ps(scaled, scales, before));
                }
            }
        }
    }
    R
}
