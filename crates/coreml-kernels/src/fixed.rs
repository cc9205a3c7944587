//! Numbers as 16-bit integers that share a scale, for products of compressed weights with a few columns.
//!
//! A value `x` of a column is `scale * q` with `q = 256 * high + low`, two signed bytes. A scale belongs to 64
//! values of a piece of 1024: those that meet in one lane of a vector of sixteen, so that sums of integers run
//! through a piece and are scaled at its end. A table's value is `scale * w` with a `w` of 16 bits; what its
//! two bytes hold is `w + 32768`, as the instructions multiply unsigned bytes by signed ones. Integers of
//! blockwise weights are taken as they are.
//!
//! Sums of integers are exact in any order, and the few steps in floats after them are the same everywhere:
//! every instruction set gives the same bits, whatever other columns there are.
//!
//! Errors: a value is off by at most half a step, which is 1/65278 of the largest value it shares a scale
//! with, a table's by 1/65534 of its largest. Half precision is off by up to 1/2048 of the value itself.
//! Relative to exact products of random weights with random columns, the root mean square of errors is below
//! 5e-5, and below 1e-4 where one value in a hundred is ten times as large. (Activations in half precision
//! give 2e-4.) Columns whose values differ too much in size have no integers, and are multiplied exactly: see
//! [`MOST_SPREAD`]. Where a program rounds weights of scaled integers to half precision, these are not rounded
//! here: that is closer to what the model's maker quantized.

use bytemuck::{Pod, Zeroable};

use crate::arch::compiled::{self, Loop};
use crate::context::{Context, Lease};
use crate::error::KernelError;
use crate::isa::Isa;
use crate::matrix::Matrix;

/// Values that are multiplied at a time: a vector of bytes.
pub(crate) const STEP: usize = 64;

/// Lanes of a vector, of which each sums up four products at a time.
pub(crate) const LANES: usize = 16;

/// Values of a lane in a step.
const RUN: usize = STEP / LANES;

/// Steps of a piece.
pub(crate) const STEPS: usize = 16;

/// Values of a column that are summed up before they are scaled. Each lane sums up 64 products of a 16-bit
/// integer with a byte: less than 2^28.
pub(crate) const PIECE: usize = STEP * STEPS;

/// The largest integer that two signed bytes hold whichever way its lower one rounds.
const LARGEST: f32 = 127.0 * 256.0 + 127.0;

/// The largest integer of a table.
const LARGEST_OF_TABLE: f32 = 32767.0;

/// What a table's unsigned bytes hold for zero.
const ZERO: i32 = 32768;

/// The range of magnitudes that make a scale: smaller ones are as good as zero, larger ones, infinity and what
/// is no number have no integers.
const MAGNITUDES: (f32, f32) = (1e-30, 1e19);

/// How far the values that share a scale may lie below the largest one, in powers of two, on the average and
/// without zeros: 2 is what Gaussian ones do, 5 where one of them is ten times as large. Of those that lie further
/// below, integers of 16 bits would keep less than half precision does.
const MOST_SPREAD: u32 = 6;

/// The exponent of a value, given its bits; that of zero is zero.
#[inline(always)]
fn exponent(bits: u32) -> u32 {
    bits << 1 >> 24
}

/// Adding this to a float below 2^22 leaves its nearest integer in the lowest bits, ties to even.
const ROUND: f32 = 12_582_912.0;

/// The nearest integer of a value below 2^22.
#[inline(always)]
fn round(value: f32) -> i32 {
    (value + ROUND).to_bits().wrapping_sub(ROUND.to_bits()).cast_signed()
}

/// The larger magnitude, as bits, of which those of infinity and of no number are the largest.
#[inline(always)]
fn larger(bits: u32, value: f32) -> u32 {
    bits.max(value.abs().to_bits())
}

/// Up to [`PIECE`] values of a column, the rest zero.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct Piece {
    /// The upper bytes of the integers, -127 to 127.
    pub(crate) high: [[i8; STEP]; STEPS],
    /// The lower bytes.
    pub(crate) low: [[i8; STEP]; STEPS],
    /// Each lane's scale.
    pub(crate) scales: [f32; LANES],
    /// What sums of a table's upper bytes with a lane's upper and lower ones start with, to take off that
    /// 32768 above each integer is 128 above its upper byte.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "vector loops alone ask"))]
    pub(crate) starts: [[i32; LANES]; 2],
    /// Sums of each lane's integers in each step, which are exact.
    pub(crate) step_sums: [[f32; LANES]; STEPS],
}

/// Columns as integers.
pub(crate) struct FixedColumns<'s> {
    pieces: Lease<'s, Piece>,
    /// The number of columns.
    pub(crate) count: usize,
}

impl<'s> FixedColumns<'s> {
    /// The rows of `x`, each of which lies in one piece; none if a value has no integer.
    ///
    /// # Errors
    /// If there is no memory.
    pub(crate) fn new(ctx: &'s Context, x: Matrix<f32>) -> Result<Option<Self>, KernelError> {
        let pieces = ctx.scratch().take(x.rows * x.cols.div_ceil(PIECE))?;
        let mut columns = Self { pieces, count: x.rows };
        let per_column = columns.pieces_per_column();
        for (i, piece) in columns.pieces.iter_mut().enumerate() {
            let start = i % per_column * PIECE;
            let column = x.offset(i / per_column * x.row_stride).data;
            let values = &column[start..x.cols.min(start + PIECE)];
            if !compiled::run(ctx.isa(), Quantize { values, piece }) {
                return Ok(None);
            }
        }
        Ok(Some(columns))
    }

    fn pieces_per_column(&self) -> usize {
        self.pieces.len() / self.count.max(1)
    }

    /// The pieces of a column.
    pub(crate) fn column(&self, index: usize) -> &[Piece] {
        let count = self.pieces_per_column();
        &self.pieces[index * count..][..count]
    }
}

/// Turns values to integers; says whether all have some.
struct Quantize<'a> {
    values: &'a [f32],
    piece: &'a mut Piece,
}

impl Loop for Quantize<'_> {
    type Output = bool;

    #[inline(always)]
    fn run(self) -> bool {
        let mut padded = [[0.0f32; STEP]; STEPS];
        padded.as_flattened_mut()[..self.values.len()].copy_from_slice(self.values);
        let Some(factors) = scale_lanes(&padded, &mut self.piece.scales) else { return false };
        let mut sums = [[0; STEP]; 2];
        for (step, values) in padded.iter().enumerate() {
            let mut integers = [0; STEP];
            for i in 0..STEP {
                integers[i] = round(values[i] * factors[i]);
                let high = (integers[i] + 128) >> 8;
                self.piece.high[step][i] = high as i8;
                // The lower byte as it is: what is left without the upper one is -128 to 127.
                self.piece.low[step][i] = integers[i] as i8;
                sums[0][i] += high;
                sums[1][i] += integers[i] - 256 * high;
            }
            self.piece.step_sums[step] = fold(&integers, |a, b| a + b).map(|sum| sum as f32);
        }
        self.piece.starts = sums.map(|sums| fold(&sums, |a, b| a + b).map(|sum| -128 * sum));
        true
    }
}

/// Sets each lane's scale; gives what each value of a step is multiplied by.
#[inline(always)]
fn scale_lanes(values: &[[f32; STEP]; STEPS], scales: &mut [f32; LANES]) -> Option<[f32; STEP]> {
    let mut largest = [0u32; STEP];
    let (mut exponents, mut counts) = ([0u32; STEP], [0u32; STEP]);
    for values in values {
        for i in 0..STEP {
            largest[i] = larger(largest[i], values[i]);
            exponents[i] += exponent(values[i].to_bits());
            counts[i] += u32::from(values[i] != 0.0);
        }
    }
    let sum = |of: &[u32; STEP]| fold(of, |a, b| a + b);
    let (exponents, counts) = (sum(&exponents), sum(&counts));
    let mut factors = [0.0; STEP];
    for (lane, bits) in fold(&largest, u32::max).into_iter().enumerate() {
        let largest = magnitude(bits)?;
        if counts[lane] * exponent(bits) > exponents[lane] + counts[lane] * MOST_SPREAD {
            return None;
        }
        scales[lane] = largest / LARGEST;
        factors[lane * RUN..][..RUN].fill(LARGEST / largest);
    }
    Some(factors)
}

/// The largest of some magnitudes, given its bits, if these make a scale.
#[inline(always)]
fn magnitude(bits: u32) -> Option<f32> {
    let (least, most) = MAGNITUDES;
    let largest = f32::from_bits(bits).max(least);
    (bits <= most.to_bits()).then_some(largest)
}

/// What `join` makes of each lane's values of a step.
#[inline(always)]
fn fold<T: Copy>(values: &[T; STEP], join: impl Fn(T, T) -> T) -> [T; LANES] {
    std::array::from_fn(|lane| {
        let [a, b, c, d] = [0, 1, 2, 3].map(|i| values[lane * RUN + i]);
        join(join(a, b), join(c, d))
    })
}

/// Scales of some rows' blocks, and the integers that stand for zero in these.
#[derive(Clone, Copy)]
pub(crate) struct FixedScales<'a> {
    /// Scales row after row, followed by as many more values as a vector has lanes.
    pub(crate) scales: &'a [f32],
    /// What to subtract from the integers.
    pub(crate) zeros: Zeros<'a>,
    /// Integers per block: a multiple or a divisor of [`STEP`], at least a lane's run, or a whole row.
    pub(crate) block: usize,
    /// Rows that share scales, and how many of those of the first block of rows there are before the first one.
    pub(crate) rows: (usize, usize),
}

/// Integers that stand for zero.
#[derive(Clone, Copy)]
pub(crate) enum Zeros<'a> {
    /// The same everywhere.
    All(f32),
    /// One for each scale, laid out as these.
    Each(&'a [f32]),
}

impl Zeros<'_> {
    /// What belongs to a scale.
    pub(crate) fn at(&self, index: usize) -> f32 {
        match self {
            Self::All(zero) => *zero,
            Self::Each(zeros) => zeros[index],
        }
    }
}

/// Where the scales of a row's steps stand.
pub(crate) struct Blocks {
    at: usize,
    /// Steps until the next ones.
    left: usize,
    /// Steps from ones to the next, and how many there are in a step.
    step: (usize, usize),
}

impl Blocks {
    /// Where those of the next step stand.
    #[inline(always)]
    pub(crate) fn next_step(&mut self) -> usize {
        let (steps, count) = self.step;
        let at = self.at;
        self.left -= 1;
        if self.left == 0 {
            (self.at, self.left) = (at + count, steps);
        }
        at
    }
}

impl FixedScales<'_> {
    /// Whether blocks of a row of `cols` integers are such that a lane of a step lies in one.
    pub(crate) fn fit(block: usize, cols: usize) -> bool {
        let divides = STEP.is_multiple_of(block) && block.is_multiple_of(RUN);
        block == cols || block.is_multiple_of(STEP) || divides
    }

    /// Where the scales of a row of `cols` integers stand.
    pub(crate) fn row(&self, row: usize, cols: usize) -> Blocks {
        let (per_block, before) = self.rows;
        let steps = self.block.div_ceil(STEP);
        let count = if self.block < cols { (STEP / self.block).max(1) } else { 1 };
        let at = (before + row) / per_block * (cols / self.block);
        Blocks { at, left: steps, step: (steps, count) }
    }

    /// Whether no integer of so many bits stands for a magnitude above `most`.
    pub(crate) fn within(&self, isa: Isa, bits: u8, most: f32) -> bool {
        let middle = f32::from((1u16 << bits) - 1) / 2.0;
        compiled::run(isa, Reach { scales: self, middle }) <= most.to_bits()
    }

    /// The largest magnitude that values have where their weights are not rounded.
    pub(crate) const MOST: f32 = MAGNITUDES.1;
}

/// The largest magnitude that an integer with some scale can stand for, as bits.
struct Reach<'a> {
    scales: &'a FixedScales<'a>,
    /// The middle of the integers' range.
    middle: f32,
}

impl Loop for Reach<'_> {
    type Output = u32;

    #[inline(always)]
    fn run(self) -> u32 {
        let reach = |bits, scale: f32, zero: f32| {
            larger(bits, scale * (self.middle + (zero - self.middle).abs()))
        };
        let scales = self.scales.scales.iter();
        match self.scales.zeros {
            Zeros::All(zero) => scales.fold(0, |bits, &scale| reach(bits, scale, zero)),
            Zeros::Each(zeros) => {
                scales.zip(zeros).fold(0, |bits, (&scale, &zero)| reach(bits, scale, zero))
            }
        }
    }
}

/// Where each lane's scale stands among those of a step.
pub(crate) fn lane_blocks(block: usize) -> [u32; LANES] {
    std::array::from_fn(|lane| if block < STEP { (lane * RUN / block) as u32 } else { 0 })
}

/// A table of up to 256 values as integers.
#[derive(Clone, Copy)]
pub(crate) struct FixedTable {
    /// The upper bytes of the integers, to which 32768 is added.
    pub(crate) high: [u8; 256],
    /// The lower bytes. In both, the first entries repeat up to the 64 that look-ups reach, so that stray
    /// index bits above a short index are harmless.
    pub(crate) low: [u8; 256],
    /// What an integer counts for.
    pub(crate) scale: f32,
}

impl FixedTable {
    /// A table of nothing.
    pub(crate) fn new() -> Self {
        Self { high: [0; 256], low: [0; 256], scale: 0.0 }
    }

    /// Loads a table of `2^bits` values, of which `read` writes any; says whether all have integers.
    pub(crate) fn load(&mut self, isa: Isa, bits: u8, read: impl FnOnce(&mut [f32])) -> bool {
        let count = 1 << bits.min(8);
        let mut values = [0.0; 256];
        read(&mut values[..count]);
        let reached = count.max(STEP);
        for start in (count..reached).step_by(count) {
            values.copy_within(..count, start);
        }
        compiled::run(isa, QuantizeTable { values: &values[..reached], table: self })
    }

    /// The integer at an index.
    pub(crate) fn integer(&self, index: u8) -> i32 {
        let index = usize::from(index);
        i32::from(u16::from_be_bytes([self.high[index], self.low[index]])) - ZERO
    }
}

/// Turns a table's values to integers; says whether all have some.
struct QuantizeTable<'a> {
    values: &'a [f32],
    table: &'a mut FixedTable,
}

impl Loop for QuantizeTable<'_> {
    type Output = bool;

    #[inline(always)]
    fn run(self) -> bool {
        let largest = self.values.iter().fold(0, |bits, &value| larger(bits, value));
        let Some(largest) = magnitude(largest) else { return false };
        self.table.scale = largest / LARGEST_OF_TABLE;
        let factor = LARGEST_OF_TABLE / largest;
        let bytes = self.table.high.iter_mut().zip(&mut self.table.low);
        for (&value, (high, low)) in self.values.iter().zip(bytes) {
            let integer = round(value * factor) + ZERO;
            *high = (integer >> 8) as u8;
            *low = integer as u8;
        }
        true
    }
}
