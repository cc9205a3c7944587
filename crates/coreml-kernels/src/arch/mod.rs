//! Inner loops over one row of weights, one file per instruction set.
//!
//! The functions here choose by [`Isa`]; slices have been checked against each other by the
//! callers and are cut to the shorter one where they differ.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub(crate) mod compiled;
mod generic;
#[cfg(target_arch = "x86_64")]
mod madd;
pub(crate) mod peak;
#[cfg(target_arch = "x86_64")]
mod tile;
#[cfg(target_arch = "x86_64")]
mod transpose;
#[cfg(target_arch = "x86_64")]
mod vbmi;
#[cfg(target_arch = "x86_64")]
mod vnni;
#[cfg(target_arch = "x86_64")]
mod words;

use bytemuck::{Pod, Zeroable};
use half::f16;

use crate::fixed::{FixedColumns, FixedScales, FixedTable};
use crate::isa::Isa;
use crate::matrix::{self, Matrix};
use crate::panels::words::RowWords;
use crate::thresholds;

/// Values by index, in both widths, so that each instruction set finds what it can look up.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct LookupTable {
    /// The values.
    wide: [f32; 256],
    /// The same as half-precision bits; valid if `exact`. The first entries repeat up to the
    /// 64 that look-ups reach, so that stray index bits above a short index are harmless.
    half: [u16; 256],
    /// Not zero if every value is a half-precision number. (Scratch memory holds no `bool`s.)
    exact: u32,
}

impl LookupTable {
    /// Loads up to 256 single-precision values.
    pub(crate) fn load_f32(&mut self, values: &[f32]) {
        let mut exact = true;
        for (i, &value) in values.iter().enumerate().take(256) {
            let half = f16::from_f32(value);
            exact &= half.to_f32().to_bits() == value.to_bits();
            self.wide[i] = value;
            self.half[i] = half.to_bits();
        }
        self.exact = exact.into();
        self.repeat(values.len());
    }

    /// Loads up to 256 half-precision values.
    pub(crate) fn load_f16(&mut self, isa: Isa, values: &[f16]) {
        let count = values.len().min(256);
        self.exact = 1;
        widen(isa, &values[..count], &mut self.wide[..count]);
        for (to, from) in self.half.iter_mut().zip(values) {
            *to = from.to_bits();
        }
        self.repeat(values.len());
    }

    /// The table of the `bits`-wide integers themselves.
    pub(crate) fn integers(bits: u8, signed: bool) -> &'static Self {
        static ALL: [[LookupTable; 9]; 2] = [every_width(false), every_width(true)];
        &ALL[usize::from(signed)][usize::from(bits.min(8))]
    }

    /// The values in single precision, of elements of so many bits.
    pub(crate) fn values(&self, bits: u8) -> &[f32] {
        &self.wide[..self.wide.len().min(1 << bits)]
    }

    fn repeat(&mut self, count: usize) {
        for i in count..64 {
            self.half[i] = self.half[i % count.max(1)];
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn is_exact(&self) -> bool {
        self.exact != 0
    }
}

/// The tables of integers of up to 8 bits, by width.
const fn every_width(signed: bool) -> [LookupTable; 9] {
    let mut tables = [LookupTable { wide: [0.0; 256], half: [0; 256], exact: 1 }; 9];
    let mut bits = 0;
    while bits <= 8 {
        let count = 1 << bits;
        let mut i = 0;
        while i < 256 {
            let pattern = i % count;
            let negative = signed && bits > 0 && pattern >= count / 2;
            let value = if negative { pattern - count } else { pattern } as f32;
            tables[bits].wide[i as usize] = value;
            tables[bits].half[i as usize] = f16::from_f32_const(value).to_bits();
            i += 1;
        }
        bits += 1;
    }
    tables
}

/// One row of packed elements that starts on a byte. Each stands for
/// `scale * (table[element] - offset)`, with scale and offset of its block, rounded to half precision
/// if the row says so. (Else the scale is taken out of a block's sum.)
#[derive(Clone, Copy)]
pub(crate) struct PackedRow<'a> {
    /// Bits per element: 1 to 8.
    pub(crate) bits: u8,
    /// The elements: as many blocks as there are scales.
    pub(crate) packed: &'a [u8],
    /// One scale per block.
    pub(crate) scales: &'a [f32],
    /// One offset per block.
    pub(crate) offsets: &'a [f32],
    /// Elements per block; whole bytes if there are several blocks.
    pub(crate) block: usize,
    /// Set if elements are whole bytes that stand for themselves: whether these are signed.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "vector loops alone ask"))]
    pub(crate) bytes: Option<bool>,
    /// Whether each value is rounded to half precision.
    pub(crate) rounded: bool,
}

/// Rows of packed elements that share a table and stand for its bare values.
#[derive(Clone, Copy)]
pub(crate) struct PackedRows<'a> {
    /// Bits per element: 1 to 8.
    pub(crate) bits: u8,
    /// The elements from the first row's first one on.
    pub(crate) packed: &'a [u8],
    /// Bytes from row to row.
    pub(crate) stride: usize,
    /// Elements per row.
    pub(crate) count: usize,
}

impl<'a> PackedRows<'a> {
    /// The elements of row `i`.
    fn bytes(&self, i: usize) -> &'a [u8] {
        let length = (self.count * usize::from(self.bits)).div_ceil(8);
        &self.packed[i * self.stride..][..length]
    }

    fn row(&self, i: usize) -> PackedRow<'a> {
        PackedRow {
            bits: self.bits,
            packed: self.bytes(i),
            scales: &[1.0],
            offsets: &[0.0],
            block: self.count,
            bytes: None,
            rounded: false,
        }
    }
}

/// One block of a [`PackedRow`].
#[derive(Clone, Copy)]
struct Block<'a> {
    packed: &'a [u8],
    start: usize,
    count: usize,
    scale: f32,
    offset: f32,
    rounded: bool,
}

impl Block<'_> {
    /// What a table's value, less the offset, counts for in the block's sum.
    #[inline(always)]
    fn weighed(&self, value: f32) -> f32 {
        if self.rounded { f16::from_f32(self.scale * value).to_f32() } else { value }
    }

    /// What the block's sum is multiplied by.
    fn factor(&self) -> f32 {
        if self.rounded { 1.0 } else { self.scale }
    }
}

impl<'a> PackedRow<'a> {
    fn blocks(&self) -> impl Iterator<Item = Block<'a>> {
        let count = self.block;
        let bytes = (count * usize::from(self.bits)).div_ceil(8).max(1);
        let (scales, rounded) = (self.scales.iter().zip(self.offsets), self.rounded);
        self.packed.chunks(bytes).zip(scales).enumerate().map(
            move |(i, (packed, (&scale, &offset)))| Block {
                packed,
                start: i * count,
                count,
                scale,
                offset,
                rounded,
            },
        )
    }
}

/// The sum of products of two slices.
pub(crate) fn dot_f32(isa: Isa, w: &[f32], x: &[f32]) -> f32 {
    match isa.of_floats() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(token) => avx512::dot_f32(token, w, x),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(token) => avx2::dot_f32(token, w, x),
        _ => generic::dot_f32(w, x),
    }
}

/// The sum of products of a half-precision and a single-precision slice.
pub(crate) fn dot_f16(isa: Isa, w: &[f16], x: &[f32]) -> f32 {
    match isa.of_floats() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(token) => avx512::dot_f16(token, w, x),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(token) => avx2::dot_f16(token, w, x),
        _ => generic::dot_f16(w, x),
    }
}

/// A number of a matrix: of single or half precision.
pub(crate) trait Number: Pod + Send + Sync {
    /// Whether it is [`f16`]; it is `f32` otherwise.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "vector loops alone ask"))]
    const HALF: bool;

    fn wide(self) -> f32;
}

impl Number for f32 {
    const HALF: bool = false;

    fn wide(self) -> f32 {
        self
    }
}

impl Number for f16 {
    const HALF: bool = true;

    fn wide(self) -> f32 {
        self.to_f32()
    }
}

/// Sums that [`lane_dots`] and [`lane_sums`] keep for each element of a result: products `l`,
/// `l + 16`, `l + 32`, … go to sum `l`. The upper half of the sums is then added to the lower half
/// until one is left.
pub(crate) const SUMS: usize = 16;

/// The products of `x` with up to four columns, each of which lies in one piece, `stride` elements
/// after the one before.
pub(crate) fn lane_dots<T: Number>(isa: Isa, b: &[T], stride: usize, x: &[f32], out: &mut [f32]) {
    match isa.of_floats() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(token) => avx512::lane_dots(token, b, stride, x, out),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(token) => avx2::lane_dots(token, b, stride, x, out),
        _ => generic::lane_products(b, (1, stride), x, out),
    }
}

/// The most columns that [`lane_sums`] is given at once.
pub(crate) const COLUMNS: usize = 256;

/// The products of `x` with up to [`COLUMNS`] columns that lie next to each other: row `p` starts at
/// `p * stride`.
pub(crate) fn lane_sums<T: Number>(isa: Isa, b: &[T], stride: usize, x: &[f32], out: &mut [f32]) {
    match isa.of_floats() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(token) => {
            // As many columns as a line of the cache has, and as registers have sums for.
            for (block, out) in out.chunks_mut(SUMS).enumerate() {
                avx512::lane_sums(token, &b[block * SUMS..], stride, x, out);
            }
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(token) => avx2::lane_sums(token, b, stride, x, out),
        _ => generic::lane_products(b, (stride, 1), x, out),
    }
}

/// Widens half-precision values.
pub(crate) fn widen(isa: Isa, from: &[f16], to: &mut [f32]) {
    match isa.of_floats() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(token) => avx512::widen(token, from, to),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(token) => avx2::widen(token, from, to),
        _ => generic::widen(from, to),
    }
}

/// Rounds to half precision, to nearest even.
pub(crate) fn narrow(isa: Isa, from: &[f32], to: &mut [f16]) {
    match isa.of_floats() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(token) => avx512::narrow(token, from, to),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(token) => avx2::narrow(token, from, to),
        _ => generic::narrow(from, to),
    }
}

/// The product of a packed row with `x` (a value per element).
pub(crate) fn dot_table(isa: Isa, row: &PackedRow, table: &LookupTable, x: &[f32]) -> f32 {
    match isa.of_floats() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(token) if table.is_exact() => avx512::dot_table(token, row, table, x),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(token) => avx2::dot_table(token.avx2(), row, table, x),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(token) => avx2::dot_table(token, row, table, x),
        _ => generic::dot_table(row, table, x),
    }
}

/// Writes the values of a packed row to `out` (a value per element).
pub(crate) fn expand_table(isa: Isa, row: &PackedRow, table: &LookupTable, out: &mut [f32]) {
    match isa.of_floats() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(token) if table.is_exact() => avx512::expand_table(token, row, table, out),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(token) => avx2::expand_table(token.avx2(), row, table, out),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(token) => avx2::expand_table(token, row, table, out),
        _ => generic::expand_table(row, table, out),
    }
}

/// Adds the product of each row with `x` (`rows.count` values) to its place in `out`.
pub(crate) fn dot_rows(
    isa: Isa,
    rows: &PackedRows,
    table: &LookupTable,
    x: &[f32],
    out: &mut [f32],
) {
    #[cfg(target_arch = "x86_64")]
    if let (Some(token), true) = (isa.vbmi(), table.is_exact()) {
        return vbmi::dot_rows(token, rows, table, x, out);
    }
    for (i, out) in out.iter_mut().enumerate() {
        *out += dot_table(isa, &rows.row(i), table, x);
    }
}

/// Whether products of integers with so many columns are faster than those in single precision, for elements
/// of so many bits that stand for a table's values or for themselves.
pub(crate) fn has_fast_integers(isa: Isa, bits: u8, table: bool, columns: usize) -> bool {
    let few = columns <= thresholds::FEW_COLUMNS;
    match (isa, table) {
        (Isa::Avx512Vnni(_), _) => columns <= thresholds::SOME_COLUMNS,
        (Isa::Avx2(_), true) => few && bits == 4,
        (Isa::Avx2(_) | Isa::Avx512(_), false) => few && matches!(bits, 4 | 8),
        _ => false,
    }
}

/// Writes the products of each row with all columns, row after row; see [`crate::fixed`]. Rows start on bytes,
/// and what follows a row in `rows.packed` is not looked at.
pub(crate) fn dot_fixed(
    isa: Isa,
    rows: &PackedRows,
    table: &FixedTable,
    x: &FixedColumns,
    out: &mut [f32],
) {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni(token) => vnni::dot_fixed(token, rows, table, x, out),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(token) if rows.bits == 4 => madd::dot_fixed(token, rows, table, x, out),
        _ => generic::dot_fixed(rows, table, x, out),
    }
}

/// As [`dot_fixed`], for rows of integers that are `signed` or not and have scales.
pub(crate) fn dot_scaled(
    isa: Isa,
    rows: &PackedRows,
    signed: bool,
    scales: &FixedScales,
    x: &FixedColumns,
    out: &mut [f32],
) {
    // An integer with its sign bit turned is what stands 2^(bits - 1) above it.
    let flip = if signed { 1 << (rows.bits - 1) } else { 0 };
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni(token) => vnni::dot_scaled(token, rows, flip, scales, x, out),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(token) => dot_scaled(Isa::Avx2(token.avx2()), rows, signed, scales, x, out),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(token) if matches!(rows.bits, 4 | 8) => {
            madd::dot_scaled(token, rows, flip, scales, x, out);
        }
        _ => generic::dot_scaled(rows, flip, scales, x, out),
    }
}

/// Writes the values of each row to the start of its `stride` elements of `out`, of which the last
/// may be cut short.
pub(crate) fn expand_rows(
    isa: Isa,
    rows: &PackedRows,
    table: &LookupTable,
    out: &mut [f32],
    stride: usize,
) {
    #[cfg(target_arch = "x86_64")]
    if let (Some(token), true) = (isa.vbmi(), table.is_exact()) {
        return vbmi::expand_rows(token, rows, table, out, stride);
    }
    for (i, out) in out.chunks_mut(stride).enumerate() {
        expand_table(isa, &rows.row(i), table, &mut out[..rows.count]);
    }
}

/// How wide panels of columns are.
#[derive(Clone, Copy)]
pub(crate) struct PanelWidth {
    /// Columns of a vector, of which a panel has a multiple.
    pub(crate) lanes: usize,
    /// The most vectors of a panel.
    pub(crate) vectors: usize,
}

/// How wide the panels are that [`multiply_panel`] takes, where there is such a routine.
pub(crate) fn panel_width(isa: Isa) -> Option<PanelWidth> {
    match isa.of_floats() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(_) => Some(PanelWidth { lanes: 16, vectors: 4 }),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(_) => Some(PanelWidth { lanes: 8, vectors: 2 }),
        _ => None,
    }
}

/// What the products of rows with a panel are added to.
#[derive(Clone, Copy)]
pub(crate) enum Onto<'a> {
    Zero,
    /// A value for each row.
    Bias(&'a [f32]),
    /// What is there.
    Result,
}

/// Writes to `c` the products of the rows of `a`, each of which lies in one piece, with a panel of columns:
/// input `k` of column `s` is `panel[k * width + s]`. Columns of `c` lie side by side.
///
/// # Panics
/// If the operands do not fit each other, or there is no such routine.
pub(crate) fn multiply_panel(
    isa: Isa,
    a: Matrix<f32>,
    (panel, width): (&[f32], usize),
    onto: Onto,
    c: &mut matrix::Block,
) {
    match isa.of_floats() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(token) => tile::multiply_avx512(token, a, (panel, width), onto, c),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(token) => tile::multiply_avx2(token, a, (panel, width), onto, c),
        _ => unreachable!("no panel has a width"),
    }
}

/// Copies a matrix whose rows lie in one piece each to one whose columns do, as far as it is faster than value
/// by value; gives how many rows and columns these are.
///
/// # Panics
/// If the matrices do not have these sizes and strides.
pub(crate) fn transpose(isa: Isa, from: Matrix<f32>, to: &mut matrix::Block) -> (usize, usize) {
    match isa.of_floats() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(token) => transpose::squares(token.avx2(), from, to),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(token) => transpose::squares(token, from, to),
        _ => (0, 0),
    }
}

/// Whether [`add_words`] has a routine.
pub(crate) fn has_words(isa: Isa) -> bool {
    matches!(isa, Isa::Avx512Vnni(_))
}

/// Columns as integers, of which those of a block share a scale; see [`crate::panels`].
#[derive(Clone, Copy)]
pub(crate) struct WordPanel<'a> {
    /// Inputs `2 * k` and `2 * k + 1` of column `s` at `k * width + s`.
    pub(crate) pairs: &'a [i32],
    /// The scale of block `b` of column `s` at `b * width + s`.
    pub(crate) scales: &'a [f32],
    pub(crate) width: usize,
}

/// Adds the products of rows with a panel, both of integers, to what is in `c`, of which columns lie side by side.
///
/// # Panics
/// If the operands do not fit each other, or there is no such routine: see [`has_words`].
pub(crate) fn add_words(isa: Isa, rows: &RowWords, panel: &WordPanel, c: &mut matrix::Block) {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni(token) => words::add(token, rows, panel, c),
        _ => unreachable!("no panel has integers"),
    }
}

/// Writes to each `stride` elements of `out` what a table of 16-bit integers has for a row, in groups of 64, of
/// which the last is filled up with any. A table of fewer than 64 entries repeats.
///
/// # Panics
/// If there is no such routine: see [`has_words`].
pub(crate) fn look_up_words(
    isa: Isa,
    rows: &PackedRows,
    table: &[u16; 256],
    out: &mut [i16],
    stride: usize,
) {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni(token) => vbmi::look_up_words(token.vbmi(), rows, table, out, stride),
        _ => unreachable!("no panel has integers"),
    }
}
