//! AVX-512 F, BW and VL: 32 half-precision look-ups at a time, sixteen float lanes.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use half::f16;

use super::generic::fold;
use super::{Block, LookupTable, Number, PackedRow, SUMS, avx2};
use crate::isa::Avx512;

const LANES: usize = 16;
/// Elements decoded at a time.
const GROUP: usize = 32;

pub(super) fn dot_f32(_proof: Avx512, w: &[f32], x: &[f32]) -> f32 {
    // SAFETY: the token proves that the CPU has the features.
    unsafe { dot_f32_vector(w, x) }
}

pub(super) fn dot_f16(_proof: Avx512, w: &[f16], x: &[f32]) -> f32 {
    // SAFETY: the token proves that the CPU has the features.
    unsafe { dot_f16_vector(w, x) }
}

pub(super) fn lane_dots<T: Number>(
    _proof: Avx512,
    b: &[T],
    stride: usize,
    x: &[f32],
    out: &mut [f32],
) {
    // SAFETY: the token proves that the CPU has the features.
    unsafe { lane_dots_vector(b, stride, x, out) }
}

pub(super) fn lane_sums<T: Number>(
    _proof: Avx512,
    b: &[T],
    stride: usize,
    x: &[f32],
    out: &mut [f32],
) {
    // SAFETY: the token proves that the CPU has the features.
    unsafe { lane_sums_vector(b, stride, x, out) }
}

pub(super) fn widen(_proof: Avx512, from: &[f16], to: &mut [f32]) {
    // SAFETY: the token proves that the CPU has the features.
    unsafe { widen_vector(from, to) }
}

pub(super) fn narrow(_proof: Avx512, from: &[f32], to: &mut [f16]) {
    // SAFETY: the token proves that the CPU has the features.
    unsafe { narrow_vector(from, to) }
}

/// As the generic twin; the table must be exact in half precision.
pub(super) fn dot_table(_proof: Avx512, row: &PackedRow, table: &LookupTable, x: &[f32]) -> f32 {
    // SAFETY: the token proves that the CPU has the features.
    unsafe {
        match (row.bits, row.bytes) {
            (1, _) => dot_table_vector::<1>(row, table, x),
            (2, _) => dot_table_vector::<2>(row, table, x),
            (3, _) => dot_table_vector::<3>(row, table, x),
            (4, _) => dot_table_vector::<4>(row, table, x),
            (6, _) => dot_table_vector::<6>(row, table, x),
            (_, None) => dot_table_vector::<8>(row, table, x),
            (_, Some(signed)) => dot_bytes_vector(row, signed, x),
        }
    }
}

/// As the generic twin; the table must be exact in half precision.
pub(super) fn expand_table(_proof: Avx512, row: &PackedRow, table: &LookupTable, out: &mut [f32]) {
    // SAFETY: the token proves that the CPU has the features.
    unsafe {
        match row.bits {
            1 => expand_table_vector::<1>(row, table, out),
            2 => expand_table_vector::<2>(row, table, out),
            3 => expand_table_vector::<3>(row, table, out),
            4 => expand_table_vector::<4>(row, table, out),
            6 => expand_table_vector::<6>(row, table, out),
            _ => expand_table_vector::<8>(row, table, out),
        }
    }
}

/// The lowest `count` of 16 lanes.
fn lanes(count: usize) -> __mmask16 {
    if count >= LANES { !0 } else { (1 << count) - 1 }
}

/// Up to sixteen values, the rest zero.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma,f16c")]
fn load_some(values: &[f32]) -> __m512 {
    // SAFETY: the mask covers no more lanes than the slice has, and masked lanes are not read.
    unsafe { _mm512_maskz_loadu_ps(lanes(values.len()), values.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma,f16c")]
fn load(values: &[f32; LANES]) -> __m512 {
    // SAFETY: the array is as long as the unaligned load.
    unsafe { _mm512_loadu_ps(values.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma,f16c")]
fn load_half(values: &[f16; LANES]) -> __m512 {
    // SAFETY: sixteen halves are the 32 bytes of the unaligned load.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(values.as_ptr().cast()) })
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma,f16c")]
fn load_half_some(values: &[f16]) -> __m512 {
    // SAFETY: the mask covers no more lanes than the slice has, and masked lanes are not read.
    let halves = unsafe { _mm256_maskz_loadu_epi16(lanes(values.len()), values.as_ptr().cast()) };
    _mm512_cvtph_ps(halves)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma,f16c")]
fn store_some(to: &mut [f32], values: __m512) {
    // SAFETY: the mask covers no more lanes than the slice has, and masked lanes are not written.
    unsafe { _mm512_mask_storeu_ps(to.as_mut_ptr(), lanes(to.len()), values) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma,f16c")]
pub(super) fn sum4([a, b, c, d]: [__m512; 4]) -> f32 {
    _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(a, b), _mm512_add_ps(c, d)))
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma,f16c")]
fn dot_f32_vector(w: &[f32], x: &[f32]) -> f32 {
    let mut sums = [_mm512_setzero_ps(); 4];
    let (w_body, w_tail) = w.as_chunks::<LANES>();
    let (x_body, x_tail) = x.as_chunks::<LANES>();
    let (w_fours, w_rest) = w_body.as_chunks::<4>();
    let (x_fours, x_rest) = x_body.as_chunks::<4>();
    for (w, x) in w_fours.iter().zip(x_fours) {
        for i in 0..4 {
            sums[i] = _mm512_fmadd_ps(load(&w[i]), load(&x[i]), sums[i]);
        }
    }
    for (w, x) in w_rest.iter().zip(x_rest) {
        sums[0] = _mm512_fmadd_ps(load(w), load(x), sums[0]);
    }
    sums[1] = _mm512_fmadd_ps(load_some(w_tail), load_some(x_tail), sums[1]);
    sum4(sums)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma,f16c")]
fn dot_f16_vector(w: &[f16], x: &[f32]) -> f32 {
    sum4(accumulate_f16([_mm512_setzero_ps(); 4], w, x))
}

/// Adds the products of two slices to partial sums.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma,f16c")]
pub(super) fn accumulate_f16(mut sums: [__m512; 4], w: &[f16], x: &[f32]) -> [__m512; 4] {
    let (w_body, w_tail) = w.as_chunks::<LANES>();
    let (x_body, x_tail) = x.as_chunks::<LANES>();
    let (w_fours, w_rest) = w_body.as_chunks::<4>();
    let (x_fours, x_rest) = x_body.as_chunks::<4>();
    for (w, x) in w_fours.iter().zip(x_fours) {
        for i in 0..4 {
            sums[i] = _mm512_fmadd_ps(load_half(&w[i]), load(&x[i]), sums[i]);
        }
    }
    for (w, x) in w_rest.iter().zip(x_rest) {
        sums[0] = _mm512_fmadd_ps(load_half(w), load(x), sums[0]);
    }
    if !w_tail.is_empty() {
        sums[1] = _mm512_fmadd_ps(load_half_some(w_tail), load_some(x_tail), sums[1]);
    }
    sums
}

/// Up to sixteen numbers, the rest zero.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma,f16c")]
fn load_numbers<T: Number>(values: &[T]) -> __m512 {
    if T::HALF {
        load_half_some(bytemuck::cast_slice(values))
    } else {
        load_some(bytemuck::cast_slice(values))
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma,f16c")]
fn lane_dots_vector<T: Number>(b: &[T], stride: usize, x: &[f32], out: &mut [f32]) {
    let Some(last) = out.len().checked_sub(1) else { return };
    let columns: [&[T]; 4] = std::array::from_fn(|j| &b[j.min(last) * stride..][..x.len()]);
    let mut sums = [_mm512_setzero_ps(); 4];
    let (body, tail) = x.as_chunks::<LANES>();
    for (i, x) in body.iter().enumerate() {
        let x = load(x);
        for (sum, column) in sums.iter_mut().zip(&columns) {
            *sum = _mm512_fmadd_ps(x, load_numbers(&column[i * LANES..][..LANES]), *sum);
        }
    }
    let (mask, x) = (lanes(tail.len()), load_some(tail));
    for ((sum, column), out) in sums.iter().zip(&columns).zip(out) {
        let column = load_numbers(&column[body.len() * LANES..]);
        *out = fold_lanes(_mm512_mask3_fmadd_ps(x, column, *sum, mask));
    }
}

/// Adds the upper half of the lanes to the lower half until one is left.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma,f16c")]
pub(super) fn fold_lanes(sums: __m512) -> f32 {
    let upper = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(sums)));
    avx2::sum(_mm256_add_ps(_mm512_castps512_ps256(sums), upper))
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma,f16c")]
fn lane_sums_vector<T: Number>(b: &[T], stride: usize, x: &[f32], out: &mut [f32]) {
    let mut sums = [_mm512_setzero_ps(); SUMS];
    let (body, tail) = x.as_chunks::<SUMS>();
    let row = |p: usize| &b[p * stride..][..out.len()];
    for (i, x) in body.iter().enumerate() {
        for lane in 0..SUMS {
            let row = load_numbers(row(i * SUMS + lane));
            sums[lane] = _mm512_fmadd_ps(_mm512_set1_ps(x[lane]), row, sums[lane]);
        }
    }
    // A copy, so that the sums above need not lie in memory.
    let mut all = sums;
    for (lane, (sum, &x)) in all.iter_mut().zip(tail).enumerate() {
        let row = load_numbers(row(body.len() * SUMS + lane));
        *sum = _mm512_fmadd_ps(_mm512_set1_ps(x), row, *sum);
    }
    store_some(out, fold(all, |a, b| _mm512_add_ps(a, b)));
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma,f16c")]
pub(super) fn widen_vector(from: &[f16], to: &mut [f32]) {
    for (from, to) in from.chunks(LANES).zip(to.chunks_mut(LANES)) {
        store_some(to, load_half_some(from));
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma,f16c")]
fn narrow_vector(from: &[f32], to: &mut [f16]) {
    for (from, to) in from.chunks(LANES).zip(to.chunks_mut(LANES)) {
        let halves = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(load_some(from));
        // SAFETY: the mask covers no more lanes than the slice has; masked ones are not written.
        unsafe { _mm256_mask_storeu_epi16(to.as_mut_ptr().cast(), lanes(to.len()), halves) }
    }
}

/// What table values count for in a block's sum: see [`Block::weighed`].
struct Weigh {
    scale: __m512,
    offset: __m512,
    rounded: bool,
}

impl Weigh {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma,f16c")]
    fn new(block: &Block) -> Self {
        let (scale, offset) = (_mm512_set1_ps(block.scale), _mm512_set1_ps(block.offset));
        Self { scale, offset, rounded: block.rounded }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma,f16c")]
    fn values(&self, values: __m512) -> __m512 {
        let shifted = _mm512_sub_ps(values, self.offset);
        if !self.rounded {
            return shifted;
        }
        let scaled = _mm512_mul_ps(self.scale, shifted);
        _mm512_cvtph_ps(_mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(scaled))
    }
}

/// Turns 32 packed elements of `BITS` (1, 2, 3, 4, 6 or 8) bits into table values.
struct Decoder<const BITS: usize> {
    /// Brings the six bytes of eight 6-bit elements to each 128-bit lane.
    words: __m512i,
    /// Puts the two bytes that hold an element into its 16-bit lane.
    shuffle: __m512i,
    /// Where in these the element starts.
    shift: __m512i,
    /// The table, 32 halves to a register.
    table: [__m512i; 8],
}

impl<const BITS: usize> Decoder<BITS> {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma,f16c")]
    fn new(table: &LookupTable) -> Self {
        let mut words = [0u16; GROUP];
        let mut shuffle = [0u8; 2 * GROUP];
        let mut shift = [0u16; GROUP];
        for element in 0..GROUP {
            // Up to 4 bits, all 32 elements fit 16 bytes, which every lane gets whole.
            let bit = if BITS <= 4 { element * BITS } else { element % 8 * BITS };
            shuffle[element * 2] = (bit / 8) as u8;
            // Past the lane there is nothing the element could need: 0x80 makes a zero.
            shuffle[element * 2 + 1] = if bit / 8 < 15 { (bit / 8 + 1) as u8 } else { 0x80 };
            shift[element] = (bit % 8) as u16;
            words[element] = (element / 8 * 3 + element % 8) as u16;
        }
        // SAFETY: every array is the 64 bytes of an unaligned load; the table is eight times that.
        unsafe {
            let start: *const __m512i = table.half.as_ptr().cast();
            let mut registers = [_mm512_setzero_si512(); 8];
            for (i, register) in registers.iter_mut().enumerate() {
                *register = _mm512_loadu_si512(start.add(i));
            }
            Self {
                words: _mm512_loadu_si512(words.as_ptr().cast()),
                shuffle: _mm512_loadu_si512(shuffle.as_ptr().cast()),
                shift: _mm512_loadu_si512(shift.as_ptr().cast()),
                table: registers,
            }
        }
    }

    /// The elements in the first bytes of `packed`, as 16-bit numbers with stray bits above
    /// `BITS`. Bytes beyond the slice read as zero.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma,f16c")]
    fn indices(&self, packed: &[u8]) -> __m512i {
        let mask = if packed.len() >= 4 * BITS {
            ((1u64 << (4 * BITS)) - 1) as u32
        } else {
            (1u32 << packed.len()) - 1
        };
        // SAFETY: the mask covers no more bytes than the slice has; masked ones are not read.
        let bytes = unsafe { _mm256_maskz_loadu_epi8(mask, packed.as_ptr().cast()) };
        if BITS == 8 {
            return _mm512_cvtepu8_epi16(bytes);
        }
        let spread = if BITS <= 4 {
            _mm512_broadcast_i32x4(_mm256_castsi256_si128(bytes))
        } else {
            _mm512_permutexvar_epi16(self.words, _mm512_castsi256_si512(bytes))
        };
        _mm512_srlv_epi16(_mm512_shuffle_epi8(spread, self.shuffle), self.shift)
    }

    /// The half-precision table values at 32 indices. The permutations ignore the bits above
    /// those they need; short tables repeat to fill a register.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma,f16c")]
    fn look_up(&self, indices: __m512i) -> __m512i {
        let table = &self.table;
        match BITS {
            8 => {
                let bit6 = _mm512_test_epi16_mask(indices, _mm512_set1_epi16(0x40));
                let bit7 = _mm512_test_epi16_mask(indices, _mm512_set1_epi16(0x80));
                let quarter =
                    |i: usize| _mm512_permutex2var_epi16(table[2 * i], indices, table[2 * i + 1]);
                let low = _mm512_mask_blend_epi16(bit6, quarter(0), quarter(1));
                let high = _mm512_mask_blend_epi16(bit6, quarter(2), quarter(3));
                _mm512_mask_blend_epi16(bit7, low, high)
            }
            6 => _mm512_permutex2var_epi16(table[0], indices, table[1]),
            _ => _mm512_permutexvar_epi16(indices, table[0]),
        }
    }

    /// The first 32 values of `packed`, as they count.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma,f16c")]
    fn values(&self, packed: &[u8], weigh: &Weigh) -> [__m512; 2] {
        let halves = self.look_up(self.indices(packed));
        let low = _mm512_cvtph_ps(_mm512_castsi512_si256(halves));
        let high = _mm512_cvtph_ps(_mm512_extracti64x4_epi64::<1>(halves));
        [weigh.values(low), weigh.values(high)]
    }
}

/// The sum of products of up to 32 values; lanes without an `x` do not count, even if infinite.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma,f16c")]
fn add_some(sums: [__m512; 2], values: [__m512; 2], x: &[f32]) -> [__m512; 2] {
    let (low, high) = x.split_at(x.len().min(LANES));
    [
        _mm512_mask3_fmadd_ps(values[0], load_some(low), sums[0], lanes(low.len())),
        _mm512_mask3_fmadd_ps(values[1], load_some(high), sums[1], lanes(high.len())),
    ]
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma,f16c")]
fn add_all(sums: [__m512; 2], values: [__m512; 2], x: &[f32; GROUP]) -> [__m512; 2] {
    // SAFETY: the array is as long as the two unaligned loads.
    let (low, high) =
        unsafe { (_mm512_loadu_ps(x.as_ptr()), _mm512_loadu_ps(x.as_ptr().add(LANES))) };
    [_mm512_fmadd_ps(values[0], low, sums[0]), _mm512_fmadd_ps(values[1], high, sums[1])]
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma,f16c")]
fn dot_table_vector<const BITS: usize>(row: &PackedRow, table: &LookupTable, x: &[f32]) -> f32 {
    let decode = Decoder::<BITS>::new(table);
    let mut total = _mm512_setzero_ps();
    for block in row.blocks() {
        let (body, tail) = x[block.start..block.start + block.count].as_chunks::<GROUP>();
        let mut packed = block.packed.chunks(4 * BITS);
        let weigh = Weigh::new(&block);
        let mut sums = [_mm512_setzero_ps(); 2];
        for (x, packed) in body.iter().zip(packed.by_ref()) {
            sums = add_all(sums, decode.values(packed, &weigh), x);
        }
        if let Some(packed) = packed.next() {
            sums = add_some(sums, decode.values(packed, &weigh), tail);
        }
        let sum = _mm512_add_ps(sums[0], sums[1]);
        total = _mm512_fmadd_ps(sum, _mm512_set1_ps(block.factor()), total);
    }
    _mm512_reduce_add_ps(total)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma,f16c")]
fn expand_table_vector<const BITS: usize>(row: &PackedRow, table: &LookupTable, out: &mut [f32]) {
    let decode = Decoder::<BITS>::new(table);
    for block in row.blocks() {
        let (weigh, factor) = (Weigh::new(&block), _mm512_set1_ps(block.factor()));
        let out = &mut out[block.start..block.start + block.count];
        for (out, packed) in out.chunks_mut(GROUP).zip(block.packed.chunks(4 * BITS)) {
            let [low, high] = decode.values(packed, &weigh);
            let (out_low, out_high) = out.split_at_mut(out.len().min(LANES));
            store_some(out_low, _mm512_mul_ps(factor, low));
            store_some(out_high, _mm512_mul_ps(factor, high));
        }
    }
}

/// Sixteen bytes as floats.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma,f16c")]
fn load_bytes(bytes: &[u8], signed: bool) -> __m512 {
    // SAFETY: the mask covers no more bytes than the slice has; masked ones are not read.
    let bytes = unsafe { _mm_maskz_loadu_epi8(lanes(bytes.len()), bytes.as_ptr().cast()) };
    let wide = if signed { _mm512_cvtepi8_epi32(bytes) } else { _mm512_cvtepu8_epi32(bytes) };
    _mm512_cvtepi32_ps(wide)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma,f16c")]
fn dot_bytes_vector(row: &PackedRow, signed: bool, x: &[f32]) -> f32 {
    let mut total = _mm512_setzero_ps();
    for block in row.blocks() {
        let (x, x_tail) = x[block.start..block.start + block.count].as_chunks::<GROUP>();
        let (packed, packed_tail) = block.packed.as_chunks::<GROUP>();
        let weigh = Weigh::new(&block);
        let values = |bytes: &[u8]| {
            let (low, high) = bytes.split_at(bytes.len().min(LANES));
            let (low, high) = (load_bytes(low, signed), load_bytes(high, signed));
            [weigh.values(low), weigh.values(high)]
        };
        let (mut sums, mut others) = ([_mm512_setzero_ps(); 2], [_mm512_setzero_ps(); 2]);
        let (pairs, last) = packed.as_chunks::<2>();
        let (x_pairs, x_last) = x.as_chunks::<2>();
        for (x, packed) in x_pairs.iter().zip(pairs) {
            sums = add_all(sums, values(&packed[0]), &x[0]);
            others = add_all(others, values(&packed[1]), &x[1]);
        }
        for (x, packed) in x_last.iter().zip(last) {
            sums = add_all(sums, values(packed), x);
        }
        if !x_tail.is_empty() {
            others = add_some(others, values(packed_tail), x_tail);
        }
        let sums = [_mm512_add_ps(sums[0], others[0]), _mm512_add_ps(sums[1], others[1])];
        let sum = _mm512_add_ps(sums[0], sums[1]);
        total = _mm512_fmadd_ps(sum, _mm512_set1_ps(block.factor()), total);
    }
    _mm512_reduce_add_ps(total)
}
