//! AVX2, FMA and F16C: eight lanes.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use half::f16;

use super::generic::fold;
use super::{Block, COLUMNS, LookupTable, Number, PackedRow, SUMS};
use crate::isa::Avx2;
use crate::unpack::{element, read_word};

const LANES: usize = 8;

pub(super) fn dot_f32(_proof: Avx2, w: &[f32], x: &[f32]) -> f32 {
    // SAFETY: the token proves that the CPU has the features.
    unsafe { dot_f32_vector(w, x) }
}

pub(super) fn dot_f16(_proof: Avx2, w: &[f16], x: &[f32]) -> f32 {
    // SAFETY: the token proves that the CPU has the features.
    unsafe { dot_f16_vector(w, x) }
}

pub(super) fn lane_dots<T: Number>(
    _proof: Avx2,
    b: &[T],
    stride: usize,
    x: &[f32],
    out: &mut [f32],
) {
    // SAFETY: the token proves that the CPU has the features.
    unsafe { lane_dots_vector(b, stride, x, out) }
}

pub(super) fn lane_sums<T: Number>(
    _proof: Avx2,
    b: &[T],
    stride: usize,
    x: &[f32],
    out: &mut [f32],
) {
    // SAFETY: the token proves that the CPU has the features.
    unsafe { lane_sums_vector(b, stride, x, out) }
}

pub(super) fn widen(_proof: Avx2, from: &[f16], to: &mut [f32]) {
    // SAFETY: the token proves that the CPU has the features.
    unsafe { widen_vector(from, to) }
}

pub(super) fn narrow(_proof: Avx2, from: &[f32], to: &mut [f16]) {
    // SAFETY: the token proves that the CPU has the features.
    unsafe { narrow_vector(from, to) }
}

pub(super) fn dot_table(_proof: Avx2, row: &PackedRow, table: &LookupTable, x: &[f32]) -> f32 {
    // SAFETY: the token proves that the CPU has the features.
    unsafe {
        match row.bits {
            1 => dot_table_vector::<1>(row, table, x),
            2 => dot_table_vector::<2>(row, table, x),
            3 => dot_table_vector::<3>(row, table, x),
            4 => dot_table_vector::<4>(row, table, x),
            6 => dot_table_vector::<6>(row, table, x),
            _ => dot_table_vector::<8>(row, table, x),
        }
    }
}

pub(super) fn expand_table(_proof: Avx2, row: &PackedRow, table: &LookupTable, out: &mut [f32]) {
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

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn load(values: &[f32; LANES]) -> __m256 {
    // SAFETY: the array is as long as the unaligned load.
    unsafe { _mm256_loadu_ps(values.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn load_half(values: &[f16; LANES]) -> __m256 {
    // SAFETY: eight halves are the 16 bytes of the unaligned load.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(values.as_ptr().cast()) })
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn store(to: &mut [f32; LANES], values: __m256) {
    // SAFETY: the array is as long as the unaligned store.
    unsafe { _mm256_storeu_ps(to.as_mut_ptr(), values) }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn sum(values: __m256) -> f32 {
    let half = _mm_add_ps(_mm256_castps256_ps128(values), _mm256_extractf128_ps::<1>(values));
    let pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
    _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)))
}

#[target_feature(enable = "avx2,fma,f16c")]
fn dot_f32_vector(w: &[f32], x: &[f32]) -> f32 {
    let mut sums = [_mm256_setzero_ps(); 4];
    let (w_body, w_tail) = w.as_chunks::<LANES>();
    let (x_body, x_tail) = x.as_chunks::<LANES>();
    for (w, x) in w_body.chunks(4).zip(x_body.chunks(4)) {
        for ((sum, w), x) in sums.iter_mut().zip(w).zip(x) {
            *sum = _mm256_fmadd_ps(load(w), load(x), *sum);
        }
    }
    let tail: f32 = w_tail.iter().zip(x_tail).map(|(w, x)| w * x).sum();
    sum4(sums) + tail
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn sum4([a, b, c, d]: [__m256; 4]) -> f32 {
    sum(_mm256_add_ps(_mm256_add_ps(a, b), _mm256_add_ps(c, d)))
}

#[target_feature(enable = "avx2,fma,f16c")]
fn dot_f16_vector(w: &[f16], x: &[f32]) -> f32 {
    let mut sums = [_mm256_setzero_ps(); 4];
    let (w_body, w_tail) = w.as_chunks::<LANES>();
    let (x_body, x_tail) = x.as_chunks::<LANES>();
    for (w, x) in w_body.chunks(4).zip(x_body.chunks(4)) {
        for ((sum, w), x) in sums.iter_mut().zip(w).zip(x) {
            *sum = _mm256_fmadd_ps(load_half(w), load(x), *sum);
        }
    }
    let tail: f32 = w_tail.iter().zip(x_tail).map(|(w, x)| w.to_f32() * x).sum();
    sum4(sums) + tail
}

/// Eight numbers.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn load_numbers<T: Number>(values: &[T; LANES]) -> __m256 {
    if T::HALF { load_half(bytemuck::cast_ref(values)) } else { load(bytemuck::cast_ref(values)) }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn lane_dots_vector<T: Number>(b: &[T], stride: usize, x: &[f32], out: &mut [f32]) {
    let Some(last) = out.len().checked_sub(1) else { return };
    let columns: [&[T]; 4] = std::array::from_fn(|j| &b[j.min(last) * stride..][..x.len()]);
    let mut sums = [[_mm256_setzero_ps(); 2]; 4];
    let (body, tail) = x.as_chunks::<SUMS>();
    for (i, x) in body.iter().enumerate() {
        for (sums, column) in sums.iter_mut().zip(&columns) {
            let parts = column[i * SUMS..][..SUMS].as_chunks().0.iter().zip(x.as_chunks().0);
            for (sum, (column, x)) in sums.iter_mut().zip(parts) {
                *sum = _mm256_fmadd_ps(load(x), load_numbers(column), *sum);
            }
        }
    }
    for ((sums, column), out) in sums.iter().zip(&columns).zip(out) {
        let mut all = [0.0; SUMS];
        let [lower, upper] = bytemuck::cast_mut::<_, [[f32; LANES]; 2]>(&mut all);
        store(lower, sums[0]);
        store(upper, sums[1]);
        for ((sum, column), x) in all.iter_mut().zip(&column[body.len() * SUMS..]).zip(tail) {
            *sum = x.mul_add(column.wide(), *sum);
        }
        *out = fold(all, |a, b| a + b);
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn lane_sums_vector<T: Number>(b: &[T], stride: usize, x: &[f32], out: &mut [f32]) {
    // Long pieces of rows are read one after the other, as prefetching likes it: the sums of all
    // columns are in memory, of which a core's own cache holds them.
    let mut sums = [[0.0; COLUMNS]; SUMS];
    for (p, &x) in x.iter().enumerate() {
        let sums = &mut sums[p % SUMS][..out.len()];
        let (row, row_tail) = b[p * stride..][..sums.len()].as_chunks::<LANES>();
        let (sums, sums_tail) = sums.as_chunks_mut::<LANES>();
        for (sum, row) in sums.iter_mut().zip(row) {
            let total = _mm256_fmadd_ps(_mm256_set1_ps(x), load_numbers(row), load(sum));
            store(sum, total);
        }
        for (sum, row) in sums_tail.iter_mut().zip(row_tail) {
            *sum = x.mul_add(row.wide(), *sum);
        }
    }
    let (vectors, tail) = out.as_chunks_mut::<LANES>();
    let whole = vectors.len();
    for (i, out) in vectors.iter_mut().enumerate() {
        let mut all = [_mm256_setzero_ps(); SUMS];
        for (sum, sums) in all.iter_mut().zip(&sums) {
            *sum = load(&sums.as_chunks().0[i]);
        }
        store(out, fold(all, |a, b| _mm256_add_ps(a, b)));
    }
    for (j, out) in tail.iter_mut().enumerate() {
        let all = std::array::from_fn(|lane| sums[lane][whole * LANES + j]);
        *out = fold(all, |a: f32, b| a + b);
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn widen_vector(from: &[f16], to: &mut [f32]) {
    let (from_body, from_tail) = from.as_chunks::<LANES>();
    let (to_body, to_tail) = to.as_chunks_mut::<LANES>();
    for (from, to) in from_body.iter().zip(to_body) {
        store(to, load_half(from));
    }
    for (from, to) in from_tail.iter().zip(to_tail) {
        *to = from.to_f32();
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn narrow_vector(from: &[f32], to: &mut [f16]) {
    let (from_body, from_tail) = from.as_chunks::<LANES>();
    let (to_body, to_tail) = to.as_chunks_mut::<LANES>();
    for (from, to) in from_body.iter().zip(to_body) {
        let halves = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(load(from));
        // SAFETY: eight halves are the 16 bytes of the unaligned store.
        unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), halves) }
    }
    for (from, to) in from_tail.iter().zip(to_tail) {
        *to = f16::from_f32(*from);
    }
}

/// How eight packed elements are moved to the eight 32-bit lanes.
struct Spread {
    shuffle: __m256i,
    shift: __m256i,
    mask: __m256i,
}

impl Spread {
    #[target_feature(enable = "avx2,fma,f16c")]
    fn new(bits: usize) -> Self {
        let mut shuffle = [0x80u8; 32];
        let mut shift = [0i32; LANES];
        for lane in 0..LANES {
            let bit = lane * bits;
            // Two bytes suffice: an element of at most 8 bits touches no more.
            shuffle[lane * 4] = (bit / 8) as u8;
            shuffle[lane * 4 + 1] = (bit / 8 + 1) as u8;
            shift[lane] = (bit % 8) as i32;
        }
        Self {
            // SAFETY: both arrays are the 32 bytes of the unaligned loads.
            shuffle: unsafe { _mm256_loadu_si256(shuffle.as_ptr().cast()) },
            // SAFETY: as above.
            shift: unsafe { _mm256_loadu_si256(shift.as_ptr().cast()) },
            mask: _mm256_set1_epi32((1 << bits) - 1),
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn apply(&self, word: u64) -> __m256i {
        let pairs = _mm256_shuffle_epi8(_mm256_set1_epi64x(word.cast_signed()), self.shuffle);
        _mm256_and_si256(_mm256_srlv_epi32(pairs, self.shift), self.mask)
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn dot_table_vector<const BITS: usize>(row: &PackedRow, table: &LookupTable, x: &[f32]) -> f32 {
    let decode = Decoder::<BITS>::new(table);
    let mut total = _mm256_setzero_ps();
    let mut tails = 0.0;
    for block in row.blocks() {
        let (body, tail) = x[block.start..block.start + block.count].as_chunks::<LANES>();
        let weigh = Weigh::new(&block);
        let mut sums = [_mm256_setzero_ps(); 2];
        let mut words = Words::<BITS>::new(block.packed);
        let (pairs, last) = body.as_chunks::<2>();
        for x in pairs {
            for (sum, x) in sums.iter_mut().zip(x) {
                let value = weigh.values(decode.values(words.next()));
                *sum = _mm256_fmadd_ps(value, load(x), *sum);
            }
        }
        for x in last {
            let value = weigh.values(decode.values(words.next()));
            sums[0] = _mm256_fmadd_ps(value, load(x), sums[0]);
        }
        let sum = _mm256_add_ps(sums[0], sums[1]);
        total = _mm256_fmadd_ps(sum, _mm256_set1_ps(block.factor()), total);
        let tail: f32 =
            tail.iter().enumerate().map(|(i, x)| x * decode.one(&block, body.len(), i)).sum();
        tails += block.factor() * tail;
    }
    sum(total) + tails
}

#[target_feature(enable = "avx2,fma,f16c")]
fn expand_table_vector<const BITS: usize>(row: &PackedRow, table: &LookupTable, out: &mut [f32]) {
    let decode = Decoder::<BITS>::new(table);
    for block in row.blocks() {
        let out = &mut out[block.start..block.start + block.count];
        let (body, tail) = out.as_chunks_mut::<LANES>();
        let (weigh, factor) = (Weigh::new(&block), _mm256_set1_ps(block.factor()));
        let groups = body.len();
        let mut words = Words::<BITS>::new(block.packed);
        for out in body {
            let value = weigh.values(decode.values(words.next()));
            store(out, _mm256_mul_ps(factor, value));
        }
        for (i, out) in tail.iter_mut().enumerate() {
            *out = block.factor() * decode.one(&block, groups, i);
        }
    }
}

/// What table values count for in a block's sum: see [`Block::weighed`].
struct Weigh {
    scale: __m256,
    offset: __m256,
    rounded: bool,
}

impl Weigh {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn new(block: &Block) -> Self {
        let (scale, offset) = (_mm256_set1_ps(block.scale), _mm256_set1_ps(block.offset));
        Self { scale, offset, rounded: block.rounded }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn values(&self, values: __m256) -> __m256 {
        let shifted = _mm256_sub_ps(values, self.offset);
        if !self.rounded {
            return shifted;
        }
        let scaled = _mm256_mul_ps(self.scale, shifted);
        _mm256_cvtph_ps(_mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(scaled))
    }
}

/// Packed elements, eight at a time, each time as the lowest bits of a word.
struct Words<'a, const BITS: usize> {
    packed: &'a [u8],
    at: usize,
}

impl<'a, const BITS: usize> Words<'a, BITS> {
    fn new(packed: &'a [u8]) -> Self {
        Self { packed, at: 0 }
    }

    #[inline(always)]
    fn next(&mut self) -> u64 {
        // Eight elements are `BITS` whole bytes. What is read beyond them is not looked at.
        let word = read_word(self.packed.get(self.at..).unwrap_or_default());
        self.at += BITS;
        word
    }
}

/// Turns packed elements of one width into table values.
struct Decoder<'a, const BITS: usize> {
    table: &'a LookupTable,
    spread: Spread,
    low: __m256,
    high: __m256,
}

impl<'a, const BITS: usize> Decoder<'a, BITS> {
    #[target_feature(enable = "avx2,fma,f16c")]
    fn new(table: &'a LookupTable) -> Self {
        // SAFETY: the table has 256 entries, of which the first 16 are loaded.
        let (low, high) = unsafe {
            let start = table.wide.as_ptr();
            (_mm256_loadu_ps(start), _mm256_loadu_ps(start.add(LANES)))
        };
        Self { table, spread: Spread::new(BITS), low, high }
    }

    /// The values of the eight elements in a word, without offset and scale.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn values(&self, word: u64) -> __m256 {
        if BITS <= 3 {
            return _mm256_permutevar8x32_ps(self.low, self.spread.apply(word));
        }
        if BITS == 4 {
            let indices = self.spread.apply(word);
            // Bit 3 of the index, moved to the sign, picks the half of the table.
            let upper = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(indices));
            let from_low = _mm256_permutevar8x32_ps(self.low, indices);
            let from_high = _mm256_permutevar8x32_ps(self.high, indices);
            return _mm256_blendv_ps(from_low, from_high, upper);
        }
        // One load for each value: faster than gathering on the CPUs that have no AVX-512.
        let value = |lane: usize| {
            let index = (word >> (lane * BITS)) as u8 & ((1u16 << BITS) - 1) as u8;
            self.table.wide[usize::from(index)]
        };
        _mm256_setr_ps(
            value(0),
            value(1),
            value(2),
            value(3),
            value(4),
            value(5),
            value(6),
            value(7),
        )
    }

    /// Element `i` after `groups` groups of eight, as [`Block::weighed`] has it.
    fn one(&self, block: &Block, groups: usize, i: usize) -> f32 {
        let index = element(BITS as u8, block.packed, groups * LANES + i);
        block.weighed(self.table.wide[usize::from(index)] - block.offset)
    }
}
