//! AVX2: 16 products of 16-bit integers at a time, added in pairs, for elements of 4 and of 8 bits. (Tables of
//! more than 16 values are looked up value by value, so that nothing is faster than floats.)
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{PackedRows, avx2};
use crate::fixed::{
    FixedColumns, FixedScales, FixedTable, LANES, PIECE, Piece, STEP, Zeros, lane_blocks,
};
use crate::isa::Avx2;

/// Lanes of a vector: half of those that have scales.
const HALF: usize = LANES / 2;

/// As the generic twin, for elements of 4 bits.
pub(super) fn dot_fixed(
    _proof: Avx2,
    rows: &PackedRows,
    table: &FixedTable,
    x: &FixedColumns,
    out: &mut [f32],
) {
    // SAFETY: the token proves that the CPU has the features.
    unsafe { dot_rows(rows, table, x, out) }
}

/// As the generic twin, for elements of 4 and of 8 bits.
pub(super) fn dot_scaled(
    _proof: Avx2,
    rows: &PackedRows,
    flip: u8,
    scales: &FixedScales,
    x: &FixedColumns,
    out: &mut [f32],
) {
    // SAFETY: the token proves that the CPU has the features.
    unsafe {
        match rows.bits {
            4 => scaled_rows::<4>(rows, flip, scales, x, out),
            _ => scaled_rows::<8>(rows, flip, scales, x, out),
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn dot_rows(rows: &PackedRows, table: &FixedTable, x: &FixedColumns, out: &mut [f32]) {
    let look_up = LookUp::new(table);
    for (i, out) in out.iter_mut().enumerate() {
        let mut packed = rows.packed[i / x.count * rows.stride..].chunks(STEP / 2);
        let mut totals = [_mm256_setzero_ps(); 2];
        for (piece, count) in pieces(rows, x.column(i % x.count)) {
            let (mut high, mut low) = ([_mm256_setzero_si256(); 4], [_mm256_setzero_si256(); 4]);
            for step in 0..count {
                let w = look_up.words(elements::<4>(packed.next().unwrap_or_default()));
                for j in 0..4 {
                    let (x_high, x_low) = (words(&piece.high[step], j), words(&piece.low[step], j));
                    high[j] = _mm256_add_epi32(high[j], _mm256_madd_epi16(w[j], x_high));
                    low[j] = _mm256_add_epi32(low[j], _mm256_madd_epi16(w[j], x_low));
                }
            }
            let (high, low) = (lanes(high), lanes(low));
            for half in 0..2 {
                let (high, low) = (_mm256_cvtepi32_ps(high[half]), _mm256_cvtepi32_ps(low[half]));
                let sum = _mm256_fmadd_ps(high, _mm256_set1_ps(256.0), low);
                totals[half] = _mm256_fmadd_ps(sum, floats(&piece.scales, half), totals[half]);
            }
        }
        *out = avx2::sum(_mm256_add_ps(totals[0], totals[1])) * table.scale;
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn scaled_rows<const BITS: usize>(
    rows: &PackedRows,
    flip: u8,
    scales: &FixedScales,
    x: &FixedColumns,
    out: &mut [f32],
) {
    let (flip, of_lanes) = (_mm256_set1_epi8(flip.cast_signed()), OfLanes::new(scales.block));
    for (i, out) in out.iter_mut().enumerate() {
        let row = i / x.count;
        let mut packed = rows.packed[row * rows.stride..].chunks(8 * BITS);
        let mut blocks = scales.row(row, rows.count);
        let mut totals = [_mm256_setzero_ps(); 2];
        for (piece, count) in pieces(rows, x.column(i % x.count)) {
            let mut sums = [_mm256_setzero_ps(); 2];
            for step in 0..count {
                let [first, second] = elements::<BITS>(packed.next().unwrap_or_default());
                let elements = [_mm256_xor_si256(first, flip), _mm256_xor_si256(second, flip)];
                let products = lanes(products(elements, piece, step));
                let at = blocks.next_step();
                for half in 0..2 {
                    let zero = match scales.zeros {
                        Zeros::All(zero) => _mm256_set1_ps(zero),
                        Zeros::Each(zeros) => of_lanes.load(zeros, at, half),
                    };
                    let x = floats(&piece.step_sums[step], half);
                    let shifted = _mm256_fnmadd_ps(zero, x, _mm256_cvtepi32_ps(products[half]));
                    let scale = of_lanes.load(scales.scales, at, half);
                    sums[half] = _mm256_fmadd_ps(scale, shifted, sums[half]);
                }
            }
            for half in 0..2 {
                totals[half] =
                    _mm256_fmadd_ps(sums[half], floats(&piece.scales, half), totals[half]);
            }
        }
        *out = avx2::sum(_mm256_add_ps(totals[0], totals[1]));
    }
}

/// Pieces of a column, and how many steps of each are within the rows.
fn pieces<'x>(rows: &PackedRows, column: &'x [Piece]) -> impl Iterator<Item = (&'x Piece, usize)> {
    let steps = (0..rows.count).step_by(PIECE);
    let count = rows.count;
    column.iter().zip(steps.map(move |start| (count - start).min(PIECE).div_ceil(STEP)))
}

/// The vector `index` of some bytes.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn bytes(values: &[u8], index: usize) -> __m256i {
    let values = &values[index * (STEP / 2)..][..STEP / 2];
    // SAFETY: the slice is the 32 bytes of the unaligned load.
    unsafe { _mm256_loadu_si256(values.as_ptr().cast()) }
}

/// Sixteen of a step's bytes as 16-bit integers.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn words(values: &[i8; STEP], index: usize) -> __m256i {
    // SAFETY: a chunk is the 16 bytes of the unaligned load.
    let bytes = unsafe { _mm_loadu_si128(values.as_chunks::<16>().0[index].as_ptr().cast()) };
    _mm256_cvtepi8_epi16(bytes)
}

/// Half of the lanes' values.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn floats(values: &[f32; LANES], half: usize) -> __m256 {
    // SAFETY: a chunk is as long as the unaligned load.
    unsafe { _mm256_loadu_ps(values.as_chunks::<HALF>().0[half].as_ptr()) }
}

/// A step's elements of `BITS` (4 or 8) bits as bytes. Bytes beyond the slice read as zero.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn elements<const BITS: usize>(packed: &[u8]) -> [__m256i; 2] {
    let mut padded = [0; STEP];
    let packed = if packed.len() < 8 * BITS {
        padded[..packed.len()].copy_from_slice(packed);
        &padded
    } else {
        packed
    };
    if BITS == 8 {
        return [bytes(packed, 0), bytes(packed, 1)];
    }
    let both = bytes(packed, 0);
    let spread = |bytes: __m128i| {
        // Both elements of a byte to a byte of their own.
        let pairs = _mm256_cvtepu8_epi16(bytes);
        let pairs = _mm256_or_si256(pairs, _mm256_slli_epi16::<4>(pairs));
        _mm256_and_si256(pairs, _mm256_set1_epi8(0x0f))
    };
    [spread(_mm256_castsi256_si128(both)), spread(_mm256_extracti128_si256::<1>(both))]
}

/// The bytes of a table of 16 values, of which the upper ones have a sign.
struct LookUp {
    high: __m256i,
    low: __m256i,
}

impl LookUp {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn new(table: &FixedTable) -> Self {
        let register = |bytes: &[u8; 256]| {
            // SAFETY: the table has more than the 16 bytes of the unaligned load.
            _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
        };
        let high = _mm256_xor_si256(register(&table.high), _mm256_set1_epi8(i8::MIN));
        Self { high, low: register(&table.low) }
    }

    /// The integers at a step's indices.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn words(&self, [first, second]: [__m256i; 2]) -> [__m256i; 4] {
        let values = |indices| {
            // Interleaving takes the lower halves of both 128-bit lanes, then the upper ones.
            let indices = _mm256_permute4x64_epi64::<0b11_01_10_00>(indices);
            let high = _mm256_shuffle_epi8(self.high, indices);
            let low = _mm256_shuffle_epi8(self.low, indices);
            [_mm256_unpacklo_epi8(low, high), _mm256_unpackhi_epi8(low, high)]
        };
        let (first, second) = (values(first), values(second));
        [first[0], first[1], second[0], second[1]]
    }
}

/// Sums of two products of bytes with a step's integers: below 2^25.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn products([first, second]: [__m256i; 2], x: &Piece, step: usize) -> [__m256i; 4] {
    let w = [
        _mm256_castsi256_si128(first),
        _mm256_extracti128_si256::<1>(first),
        _mm256_castsi256_si128(second),
        _mm256_extracti128_si256::<1>(second),
    ];
    let mut products = [_mm256_setzero_si256(); 4];
    for (j, product) in products.iter_mut().enumerate() {
        let high = _mm256_slli_epi16::<8>(words(&x.high[step], j));
        let x = _mm256_add_epi16(high, words(&x.low[step], j));
        *product = _mm256_madd_epi16(_mm256_cvtepu8_epi16(w[j]), x);
    }
    products
}

/// Each lane's sum of two pairs.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn lanes([a, b, c, d]: [__m256i; 4]) -> [__m256i; 2] {
    let sum = |a, b| _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_hadd_epi32(a, b));
    [sum(a, b), sum(c, d)]
}

/// Picks each lane's value among those of a step's blocks.
struct OfLanes {
    /// Where half the lanes' values start.
    starts: [usize; 2],
    /// Where from there on each one's is.
    offsets: [__m256i; 2],
}

impl OfLanes {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn new(block: usize) -> Self {
        let blocks = lane_blocks(block);
        let starts = [blocks[0], blocks[HALF]];
        let offsets = [0, 1].map(|half| {
            let offsets = blocks.as_chunks::<HALF>().0[half].map(|block| block - starts[half]);
            // SAFETY: the array is the 32 bytes of the unaligned load.
            unsafe { _mm256_loadu_si256(offsets.as_ptr().cast()) }
        });
        Self { starts: starts.map(|start| start as usize), offsets }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn load(&self, values: &[f32], at: usize, half: usize) -> __m256 {
        let values = &values[at + self.starts[half]..][..HALF];
        // SAFETY: the slice is as long as the unaligned load.
        let values = unsafe { _mm256_loadu_ps(values.as_ptr()) };
        _mm256_permutevar8x32_ps(values, self.offsets[half])
    }
}
