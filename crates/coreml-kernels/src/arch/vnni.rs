//! AVX-512 VNNI: 64 products of bytes at a time, of which each of sixteen lanes sums up four.
//!
//! Rows are read one by one as they lie: more streams at once are slower from memory. What a step reads beyond
//! a row's end is multiplied by zeros.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::PackedRows;
use super::avx512::fold_lanes;
use super::vbmi::prefetch;
use crate::fixed::{
    FixedColumns, FixedScales, FixedTable, LANES, PIECE, Piece, STEP, Zeros, lane_blocks,
};
use crate::isa::Avx512Vnni;

/// Columns that are multiplied at a time: registers hold their sums.
const COLUMNS: usize = 4;

/// As the generic twin.
pub(super) fn dot_fixed(
    _proof: Avx512Vnni,
    rows: &PackedRows,
    table: &FixedTable,
    x: &FixedColumns,
    out: &mut [f32],
) {
    // SAFETY: the token proves that the CPU has the features.
    unsafe {
        match rows.bits {
            1 => dot_columns::<1>(rows, table, x, out),
            2 => dot_columns::<2>(rows, table, x, out),
            3 => dot_columns::<3>(rows, table, x, out),
            4 => dot_columns::<4>(rows, table, x, out),
            6 => dot_columns::<6>(rows, table, x, out),
            _ => dot_columns::<8>(rows, table, x, out),
        }
    }
}

/// As the generic twin.
pub(super) fn dot_scaled(
    _proof: Avx512Vnni,
    rows: &PackedRows,
    flip: u8,
    scales: &FixedScales,
    x: &FixedColumns,
    out: &mut [f32],
) {
    // SAFETY: the token proves that the CPU has the features.
    unsafe {
        match rows.bits {
            1 => scaled_columns::<1>(rows, flip, scales, x, out),
            2 => scaled_columns::<2>(rows, flip, scales, x, out),
            3 => scaled_columns::<3>(rows, flip, scales, x, out),
            4 => scaled_columns::<4>(rows, flip, scales, x, out),
            6 => scaled_columns::<6>(rows, flip, scales, x, out),
            _ => scaled_columns::<8>(rows, flip, scales, x, out),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
fn dot_columns<const BITS: usize>(
    rows: &PackedRows,
    table: &FixedTable,
    x: &FixedColumns,
    out: &mut [f32],
) {
    for first in (0..x.count).step_by(COLUMNS) {
        match x.count - first {
            1 => dot_rows::<BITS, 1>(rows, table, x, first, out),
            2 => dot_rows::<BITS, 2>(rows, table, x, first, out),
            3 => dot_rows::<BITS, 3>(rows, table, x, first, out),
            _ => dot_rows::<BITS, COLUMNS>(rows, table, x, first, out),
        }
    }
}

/// Products of all rows with some columns.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
fn dot_rows<const BITS: usize, const COUNT: usize>(
    rows: &PackedRows,
    table: &FixedTable,
    x: &FixedColumns,
    first: usize,
    out: &mut [f32],
) {
    let (unpack, look_up) = (Unpack::<BITS>::new(), LookUp::new(table));
    let mut buffer = Buffer::new();
    let columns: [&[Piece]; COUNT] = std::array::from_fn(|c| x.column(first + c));
    for (i, out) in out.chunks_exact_mut(x.count).enumerate() {
        let packed = &rows.packed[i * rows.stride..];
        let mut totals = [_mm512_setzero_ps(); COUNT];
        for (p, start) in (0..rows.count).step_by(PIECE).enumerate() {
            let mut pieces = [&columns[0][p]; COUNT];
            for c in 1..COUNT {
                pieces[c] = &columns[c][p];
            }
            let mut sums = [Sums::new(pieces[0]); COUNT];
            for c in 1..COUNT {
                sums[c] = Sums::new(pieces[c]);
            }
            let steps = Steps::<BITS>::new(packed, start..rows.count, &mut buffer);
            for step in 0..steps.count {
                let (high, low) = look_up.values::<BITS>(unpack.bytes(steps.load(step)));
                for c in 0..COUNT {
                    sums[c].add(high, low, integers(pieces[c], step));
                }
            }
            for c in 0..COUNT {
                totals[c] = sums[c].scaled(pieces[c], totals[c]);
            }
        }
        for c in 0..COUNT {
            out[first + c] = fold_lanes(totals[c]) * table.scale;
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
fn scaled_columns<const BITS: usize>(
    rows: &PackedRows,
    flip: u8,
    scales: &FixedScales,
    x: &FixedColumns,
    out: &mut [f32],
) {
    for first in (0..x.count).step_by(COLUMNS) {
        match x.count - first {
            1 => scaled_rows::<BITS, 1>(rows, flip, scales, x, first, out),
            2 => scaled_rows::<BITS, 2>(rows, flip, scales, x, first, out),
            3 => scaled_rows::<BITS, 3>(rows, flip, scales, x, first, out),
            _ => scaled_rows::<BITS, COLUMNS>(rows, flip, scales, x, first, out),
        }
    }
}

/// Products of all rows with some columns. Each step is scaled, as its blocks' scales are its own.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
fn scaled_rows<const BITS: usize, const COUNT: usize>(
    rows: &PackedRows,
    flip: u8,
    scales: &FixedScales,
    x: &FixedColumns,
    first: usize,
    out: &mut [f32],
) {
    let (unpack, lane_blocks) = (Unpack::<BITS>::new(), load(&lane_blocks(scales.block)));
    let mut buffer = Buffer::new();
    let of_lanes = |values: &[f32], at: usize| {
        let values = values[at..].first_chunk::<LANES>().expect("values after all scales");
        _mm512_permutexvar_ps(lane_blocks, _mm512_castsi512_ps(load(values)))
    };
    let zero_of_lanes = |at: usize| match scales.zeros {
        Zeros::All(zero) => _mm512_set1_ps(zero),
        Zeros::Each(zeros) => of_lanes(zeros, at),
    };
    let columns: [&[Piece]; COUNT] = std::array::from_fn(|c| x.column(first + c));
    for (i, out) in out.chunks_exact_mut(x.count).enumerate() {
        let packed = &rows.packed[i * rows.stride..];
        let mut blocks = scales.row(i, rows.count);
        let mut totals = [_mm512_setzero_ps(); COUNT];
        for (p, start) in (0..rows.count).step_by(PIECE).enumerate() {
            let mut pieces = [&columns[0][p]; COUNT];
            for c in 1..COUNT {
                pieces[c] = &columns[c][p];
            }
            let mut sums = [_mm512_setzero_ps(); COUNT];
            let steps = Steps::<BITS>::new(packed, start..rows.count, &mut buffer);
            for step in 0..steps.count {
                let w = unpack.flipped(steps.load(step), flip);
                let at = blocks.next_step();
                let (scale, zero) = (of_lanes(scales.scales, at), zero_of_lanes(at));
                for c in 0..COUNT {
                    let (high, low) = integers(pieces[c], step);
                    let high = _mm512_dpbusd_epi32(_mm512_setzero_si512(), w, high);
                    let sum = _mm512_dpbusd_epi32(_mm512_slli_epi32::<8>(high), w, low);
                    let x = _mm512_castsi512_ps(load(&pieces[c].step_sums[step]));
                    let shifted = _mm512_fnmadd_ps(zero, x, _mm512_cvtepi32_ps(sum));
                    sums[c] = _mm512_fmadd_ps(scale, shifted, sums[c]);
                }
            }
            for c in 0..COUNT {
                let scale = _mm512_castsi512_ps(load(&pieces[c].scales));
                totals[c] = _mm512_fmadd_ps(sums[c], scale, totals[c]);
            }
        }
        for c in 0..COUNT {
            out[first + c] = fold_lanes(totals[c]);
        }
    }
}

/// The upper and the lower bytes of a step.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
fn integers(x: &Piece, step: usize) -> (__m512i, __m512i) {
    (load(&x.high[step]), load(&x.low[step]))
}

/// The bytes of a vector.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
fn load<T: bytemuck::Pod, const COUNT: usize>(values: &[T; COUNT]) -> __m512i {
    const { assert!(size_of::<T>() * COUNT == STEP) }
    // SAFETY: the array is the 64 bytes of the unaligned load.
    unsafe { _mm512_loadu_si512(values.as_ptr().cast()) }
}

/// Turns 64 packed elements of `BITS` (1, 2, 3, 4, 6 or 8) bits to bytes.
struct Unpack<const BITS: usize> {
    /// Brings the bytes of eight elements to each 64-bit lane.
    spread: __m512i,
    /// Where in such a lane each element starts, in bits.
    shifts: __m512i,
}

impl<const BITS: usize> Unpack<BITS> {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
    fn new() -> Self {
        let spread: [u8; STEP] = std::array::from_fn(|i| (i / 8 * BITS + i % 8) as u8);
        let shifts: [u8; STEP] = std::array::from_fn(|i| (i % 8 * BITS) as u8);
        Self { spread: load(&spread), shifts: load(&shifts) }
    }

    /// The first 64 elements, with stray bits above `BITS`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
    fn bytes(&self, packed: __m512i) -> __m512i {
        if BITS == 8 {
            return packed;
        }
        _mm512_multishift_epi64_epi8(self.shifts, _mm512_permutexvar_epi8(self.spread, packed))
    }

    /// The same without stray bits, turned by `flip`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
    fn flipped(&self, packed: __m512i, flip: u8) -> __m512i {
        let mask = _mm512_set1_epi8((u8::MAX >> (8 - BITS)).cast_signed());
        let flip = _mm512_set1_epi8(flip.cast_signed());
        // `(a & b) ^ c`
        _mm512_ternarylogic_epi32::<0x6a>(self.bytes(packed), mask, flip)
    }
}

/// Room for the end of the last row, of which vectors reach beyond the stream's.
struct Buffer([u8; PIECE + STEP]);

impl Buffer {
    fn new() -> Self {
        Self([0; PIECE + STEP])
    }
}

/// The steps of a piece of a row of packed elements, each of which starts a vector of bytes.
struct Steps<'a, const BITS: usize> {
    /// All of the vectors' bytes.
    bytes: &'a [u8],
    count: usize,
}

impl<'a, const BITS: usize> Steps<'a, BITS> {
    /// Those of the first piece of some elements of a row; zeros follow the stream.
    #[inline(always)]
    fn new(row: &'a [u8], elements: std::ops::Range<usize>, buffer: &'a mut Buffer) -> Self {
        let packed = &row[elements.start / 8 * BITS..];
        let count = elements.len().min(PIECE).div_ceil(STEP);
        let length = count.saturating_sub(1) * 8 * BITS + STEP;
        let bytes = match packed.get(..length) {
            Some(bytes) => bytes,
            None => {
                buffer.0[..packed.len()].copy_from_slice(packed);
                buffer.0[packed.len()..].fill(0);
                &buffer.0[..length]
            }
        };
        Self { bytes, count }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
    fn load(&self, step: usize) -> __m512i {
        assert!(step < self.count, "a step of the piece");
        // SAFETY: the bytes reach a vector's length beyond the start of the last step.
        let start = unsafe { self.bytes.as_ptr().add(step * 8 * BITS) };
        prefetch(start);
        // SAFETY: as above.
        unsafe { _mm512_loadu_si512(start.cast()) }
    }
}

/// The bytes of a table, 64 to a register.
struct LookUp {
    high: [__m512i; 4],
    low: [__m512i; 4],
}

impl LookUp {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
    fn new(table: &FixedTable) -> Self {
        let registers = |bytes: &[u8; 256]| {
            let quarters = bytes.as_chunks::<STEP>().0;
            [load(&quarters[0]), load(&quarters[1]), load(&quarters[2]), load(&quarters[3])]
        };
        Self { high: registers(&table.high), low: registers(&table.low) }
    }

    /// Upper and lower bytes at 64 indices.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
    fn values<const BITS: usize>(&self, indices: __m512i) -> (__m512i, __m512i) {
        if BITS < 8 {
            // The permutation ignores bits above the sixth; shorter tables repeat.
            let value = |table: &[__m512i; 4]| _mm512_permutexvar_epi8(indices, table[0]);
            return (value(&self.high), value(&self.low));
        }
        let upper = _mm512_movepi8_mask(indices);
        let value = |table: &[__m512i; 4]| {
            let [a, b, c, d] = *table;
            let first = _mm512_permutex2var_epi8(a, indices, b);
            _mm512_mask_blend_epi8(upper, first, _mm512_permutex2var_epi8(c, indices, d))
        };
        (value(&self.high), value(&self.low))
    }
}

/// Sums of products of bytes: those of upper bytes, of both, of lower bytes.
#[derive(Clone, Copy)]
struct Sums {
    high: __m512i,
    low_high: __m512i,
    high_low: __m512i,
    low: __m512i,
}

impl Sums {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
    fn new(x: &Piece) -> Self {
        let zero = _mm512_setzero_si512();
        Self { high: load(&x.starts[0]), low_high: zero, high_low: load(&x.starts[1]), low: zero }
    }

    /// Adds the products of a table's bytes with those of a column.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
    fn add(&mut self, high: __m512i, low: __m512i, (x_high, x_low): (__m512i, __m512i)) {
        self.high = _mm512_dpbusd_epi32(self.high, high, x_high);
        self.low_high = _mm512_dpbusd_epi32(self.low_high, low, x_high);
        self.high_low = _mm512_dpbusd_epi32(self.high_low, high, x_low);
        self.low = _mm512_dpbusd_epi32(self.low, low, x_low);
    }

    /// Adds the sums of a piece, scaled, to those of the pieces before.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
    fn scaled(self, piece: &Piece, total: __m512) -> __m512 {
        let sum =
            |high, low| _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32::<8>(high), low));
        let (high, low) = (sum(self.high, self.low_high), sum(self.high_low, self.low));
        let sum = _mm512_fmadd_ps(high, _mm512_set1_ps(256.0), low);
        _mm512_fmadd_ps(sum, _mm512_castsi512_ps(load(&piece.scales)), total)
    }
}
