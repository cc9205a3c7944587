//! AVX-512 VBMI: 64 look-ups of a byte at a time.
//!
//! A table of halves is kept as one table of low bytes and one of high bytes. Rows are decoded
//! piece by piece into a buffer in the first-level cache: reading halves back from memory widens
//! them for free, while registers would have to be taken apart on the one port that also does the
//! look-ups.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use half::f16;

use super::avx512::{accumulate_f16, sum4, widen_vector};
use super::{LookupTable, PackedRows};
use crate::isa::Avx512Vbmi;

/// Elements decoded at a time.
const GROUP: usize = 64;
/// Elements that the buffer holds.
const PIECE: usize = 512;
/// Bytes that are asked of memory ahead of their use: beyond the page at hand, where the CPU's own
/// prefetching ends.
const AHEAD: usize = 4096;

/// As the generic twin; the table must be exact in half precision.
pub(super) fn dot_rows(
    _proof: Avx512Vbmi,
    rows: &PackedRows,
    table: &LookupTable,
    x: &[f32],
    out: &mut [f32],
) {
    // SAFETY: the token proves that the CPU has the features.
    unsafe {
        match rows.bits {
            1 => dot_rows_vector::<1>(rows, table, x, out),
            2 => dot_rows_vector::<2>(rows, table, x, out),
            3 => dot_rows_vector::<3>(rows, table, x, out),
            4 => dot_rows_vector::<4>(rows, table, x, out),
            6 => dot_rows_vector::<6>(rows, table, x, out),
            _ => dot_rows_vector::<8>(rows, table, x, out),
        }
    }
}

/// As the generic twin; the table must be exact in half precision.
pub(super) fn expand_rows(
    _proof: Avx512Vbmi,
    rows: &PackedRows,
    table: &LookupTable,
    out: &mut [f32],
    stride: usize,
) {
    // SAFETY: the token proves that the CPU has the features.
    unsafe {
        match rows.bits {
            1 => expand_rows_vector::<1>(rows, table, out, stride),
            2 => expand_rows_vector::<2>(rows, table, out, stride),
            3 => expand_rows_vector::<3>(rows, table, out, stride),
            4 => expand_rows_vector::<4>(rows, table, out, stride),
            6 => expand_rows_vector::<6>(rows, table, out, stride),
            _ => expand_rows_vector::<8>(rows, table, out, stride),
        }
    }
}

/// See [`super::look_up_words`].
pub(super) fn look_up_words(
    _proof: Avx512Vbmi,
    rows: &PackedRows,
    table: &[u16; 256],
    out: &mut [i16],
    stride: usize,
) {
    // SAFETY: the token proves that the CPU has the features.
    unsafe {
        match rows.bits {
            1 => look_up_words_vector::<1>(rows, table, out, stride),
            2 => look_up_words_vector::<2>(rows, table, out, stride),
            3 => look_up_words_vector::<3>(rows, table, out, stride),
            4 => look_up_words_vector::<4>(rows, table, out, stride),
            6 => look_up_words_vector::<6>(rows, table, out, stride),
            _ => look_up_words_vector::<8>(rows, table, out, stride),
        }
    }
}

/// Table values of a piece of a row.
#[repr(align(64))]
struct Buffer([[f16; GROUP]; PIECE / GROUP]);

/// Turns 64 packed elements of `BITS` (1, 2, 3, 4, 6 or 8) bits into table values.
struct Decoder<const BITS: usize> {
    /// Brings the bytes of eight elements to each 64-bit lane, in the order that interleaving
    /// low and high bytes of values within 128-bit lanes turns into the natural one.
    spread: __m512i,
    /// Where in such a lane each element starts, in bits.
    shifts: __m512i,
    /// Low bytes of the table, 64 to a register.
    low: [__m512i; 4],
    /// High bytes of the table.
    high: [__m512i; 4],
}

impl<const BITS: usize> Decoder<BITS> {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx2,fma,f16c")]
    fn new(table: &[u16; 256]) -> Self {
        let (mut spread, mut shifts, mut even) = ([0u8; GROUP], [0u8; GROUP], [0u8; GROUP]);
        for i in 0..GROUP {
            let (lane, byte) = (i / 8, i % 8);
            // Elements 0..32 to the low halves of the 128-bit lanes, 32..64 to the high ones.
            spread[i] = ((lane / 2 + lane % 2 * 4) * BITS + byte) as u8;
            shifts[i] = (byte * BITS) as u8;
            even[i] = (2 * i) as u8;
        }
        // SAFETY: the arrays are the 64 bytes of unaligned loads; the table is eight times that.
        let (spread, shifts, even, halves) = unsafe {
            let start: *const __m512i = table.as_ptr().cast();
            let mut halves = [_mm512_setzero_si512(); 8];
            for (i, register) in halves.iter_mut().enumerate() {
                *register = _mm512_loadu_si512(start.add(i));
            }
            (
                _mm512_loadu_si512(spread.as_ptr().cast()),
                _mm512_loadu_si512(shifts.as_ptr().cast()),
                _mm512_loadu_si512(even.as_ptr().cast()),
                halves,
            )
        };
        let odd = _mm512_or_si512(even, _mm512_set1_epi8(1));
        let (mut low, mut high) = ([_mm512_setzero_si512(); 4], [_mm512_setzero_si512(); 4]);
        for i in 0..4 {
            let (first, second) = (halves[2 * i], halves[2 * i + 1]);
            low[i] = _mm512_permutex2var_epi8(first, even, second);
            high[i] = _mm512_permutex2var_epi8(first, odd, second);
        }
        Self { spread, shifts, low, high }
    }

    /// The elements in the first bytes of `packed`, as bytes with stray bits above `BITS`. Bytes
    /// beyond the slice read as zero.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx2,fma,f16c")]
    fn indices(&self, packed: &[u8]) -> __m512i {
        let mask = if packed.len() >= 8 * BITS {
            !0 >> (GROUP - 8 * BITS)
        } else {
            (1u64 << packed.len()) - 1
        };
        // SAFETY: the mask covers no more bytes than the slice has; masked ones are not read.
        let bytes = unsafe { _mm512_maskz_loadu_epi8(mask, packed.as_ptr().cast()) };
        prefetch(packed.as_ptr());
        let spread = _mm512_permutexvar_epi8(self.spread, bytes);
        if BITS == 8 { spread } else { _mm512_multishift_epi64_epi8(self.shifts, spread) }
    }

    /// Writes the values of the first 64 elements of `packed`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx2,fma,f16c")]
    fn values(&self, packed: &[u8], to: &mut [f16; GROUP]) {
        let indices = self.indices(packed);
        let (low, high) = if BITS == 8 {
            let bit6 = _mm512_movepi8_mask(_mm512_add_epi8(indices, indices));
            let bit7 = _mm512_movepi8_mask(indices);
            (look_up(&self.low, indices, bit6, bit7), look_up(&self.high, indices, bit6, bit7))
        } else {
            // The permutation ignores bits above the sixth; shorter tables repeat.
            let [low, high] = [self.low[0], self.high[0]];
            (_mm512_permutexvar_epi8(indices, low), _mm512_permutexvar_epi8(indices, high))
        };
        let first = _mm512_unpacklo_epi8(low, high);
        let second = _mm512_unpackhi_epi8(low, high);
        // SAFETY: 64 halves are the 128 bytes of the two unaligned stores.
        unsafe {
            let start: *mut __m512i = to.as_mut_ptr().cast();
            _mm512_storeu_si512(start, first);
            _mm512_storeu_si512(start.add(1), second);
        }
    }

    /// Decodes all of `packed`, at most as much as the buffer holds.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx2,fma,f16c")]
    fn piece<'b>(&self, packed: &[u8], count: usize, buffer: &'b mut Buffer) -> &'b [f16] {
        let body = packed.chunks_exact(8 * BITS);
        let tail = body.remainder();
        let mut to = buffer.0.iter_mut();
        for (packed, to) in body.zip(to.by_ref()) {
            self.values(packed, to);
        }
        if let (false, Some(to)) = (tail.is_empty(), to.next()) {
            self.values(tail, to);
        }
        &buffer.0.as_flattened()[..count]
    }
}

/// Asks for the bytes that will be read some time after those at an address, which may be any.
#[inline]
#[allow(unused_unsafe, reason = "the intrinsic became safe after Rust 1.89")]
pub(super) fn prefetch(address: *const u8) {
    // SAFETY: a prefetch never faults and changes nothing that a program sees.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address.wrapping_add(AHEAD).cast()) }
}

/// Bytes of a table of 256 at 64 indices, of which the masks hold the two highest bits.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx2,fma,f16c")]
fn look_up(table: &[__m512i; 4], indices: __m512i, bit6: u64, bit7: u64) -> __m512i {
    let low = _mm512_permutexvar_epi8(indices, table[0]);
    let low = _mm512_mask_permutexvar_epi8(low, bit6, indices, table[1]);
    let high = _mm512_permutexvar_epi8(indices, table[2]);
    let high = _mm512_mask_permutexvar_epi8(high, bit6, indices, table[3]);
    _mm512_mask_blend_epi8(bit7, low, high)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx2,fma,f16c")]
fn dot_rows_vector<const BITS: usize>(
    rows: &PackedRows,
    table: &LookupTable,
    x: &[f32],
    out: &mut [f32],
) {
    let decode = Decoder::<BITS>::new(&table.half);
    let mut buffer = Buffer([[f16::ZERO; GROUP]; PIECE / GROUP]);
    for (i, out) in out.iter_mut().enumerate() {
        let mut sums = [_mm512_setzero_ps(); 4];
        for (packed, x) in rows.bytes(i).chunks(PIECE / 8 * BITS).zip(x.chunks(PIECE)) {
            sums = accumulate_f16(sums, decode.piece(packed, x.len(), &mut buffer), x);
        }
        *out += sum4(sums);
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx2,fma,f16c")]
fn expand_rows_vector<const BITS: usize>(
    rows: &PackedRows,
    table: &LookupTable,
    out: &mut [f32],
    stride: usize,
) {
    let decode = Decoder::<BITS>::new(&table.half);
    let mut buffer = Buffer([[f16::ZERO; GROUP]; PIECE / GROUP]);
    for (i, out) in out.chunks_mut(stride).enumerate() {
        let out = &mut out[..rows.count];
        for (packed, out) in rows.bytes(i).chunks(PIECE / 8 * BITS).zip(out.chunks_mut(PIECE)) {
            widen_vector(decode.piece(packed, out.len(), &mut buffer), out);
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx2,fma,f16c")]
fn look_up_words_vector<const BITS: usize>(
    rows: &PackedRows,
    table: &[u16; 256],
    out: &mut [i16],
    stride: usize,
) {
    let decode = Decoder::<BITS>::new(table);
    for (i, out) in out.chunks_mut(stride).enumerate() {
        let groups = bytemuck::cast_slice_mut(out).as_chunks_mut::<GROUP>().0;
        for (packed, to) in rows.bytes(i).chunks(8 * BITS).zip(groups) {
            decode.values(packed, to);
        }
    }
}
