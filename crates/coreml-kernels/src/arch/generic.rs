//! Portable Rust: what every CPU can run and what the vector code is tested against.

use half::f16;

use super::{LookupTable, Number, PackedRow, PackedRows, SUMS};
use crate::fixed::{
    FixedColumns, FixedScales, FixedTable, LANES as FIXED_LANES, PIECE, Piece, STEP, lane_blocks,
};
use crate::unpack::{element, unpack_from};

/// Partial sums kept apart, so that the compiler may use vectors and rounding errors stay small.
const LANES: usize = 16;

pub(super) fn dot_f32(w: &[f32], x: &[f32]) -> f32 {
    let (w_body, w_tail) = w.as_chunks::<LANES>();
    let (x_body, x_tail) = x.as_chunks::<LANES>();
    let mut sums = [0.0f32; LANES];
    for (w, x) in w_body.iter().zip(x_body) {
        for lane in 0..LANES {
            sums[lane] += w[lane] * x[lane];
        }
    }
    let tail: f32 = w_tail.iter().zip(x_tail).map(|(w, x)| w * x).sum();
    sums.iter().sum::<f32>() + tail
}

pub(super) fn dot_f16(w: &[f16], x: &[f32]) -> f32 {
    let mut wide = [0.0f32; 256];
    let mut sum = 0.0;
    for (w, x) in w.chunks(wide.len()).zip(x.chunks(wide.len())) {
        let wide = &mut wide[..w.len()];
        widen(w, wide);
        sum += dot_f32(wide, x);
    }
    sum
}

/// One column after the other; the strides are those of rows and columns.
pub(super) fn lane_products<T: Number>(
    b: &[T],
    (row, col): (usize, usize),
    x: &[f32],
    out: &mut [f32],
) {
    for (j, out) in out.iter_mut().enumerate() {
        *out = lane_column(b, j * col, row, x, |a, b, sum| sum + a * b);
    }
}

/// The product of `x` with a column that starts at `first`; `add` adds a product to a sum.
#[inline(always)]
fn lane_column<T: Number>(
    b: &[T],
    first: usize,
    stride: usize,
    x: &[f32],
    add: impl Fn(f32, f32, f32) -> f32,
) -> f32 {
    let mut sums = [0.0f32; SUMS];
    for (p, &x) in x.iter().enumerate() {
        sums[p % SUMS] = add(x, b[first + p * stride].wide(), sums[p % SUMS]);
    }
    fold(sums, |a, b| a + b)
}

/// Adds the upper half of the sums, or of vectors of sums, to the lower half until one is left.
#[inline(always)]
pub(super) fn fold<T: Copy>(mut sums: [T; SUMS], add: impl Fn(T, T) -> T) -> T {
    let mut half = SUMS / 2;
    while half > 0 {
        for lane in 0..half {
            sums[lane] = add(sums[lane], sums[lane + half]);
        }
        half /= 2;
    }
    sums[0]
}

pub(super) fn widen(from: &[f16], to: &mut [f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = from.to_f32();
    }
}

pub(super) fn narrow(from: &[f32], to: &mut [f16]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = f16::from_f32(*from);
    }
}

pub(super) fn dot_table(row: &PackedRow, table: &LookupTable, x: &[f32]) -> f32 {
    let mut bytes = [0u8; 256];
    let mut values = [0.0f32; 256];
    let mut sum = 0.0;
    for block in row.blocks() {
        let mut block_sum = 0.0;
        let x = &x[block.start..block.start + block.count];
        for (i, x) in x.chunks(values.len()).enumerate() {
            let bytes = &mut bytes[..x.len()];
            unpack_from(row.bits, block.packed, i * values.len(), bytes);
            for (value, &byte) in values.iter_mut().zip(bytes.iter()) {
                *value = block.weighed(table.wide[usize::from(byte)] - block.offset);
            }
            block_sum += dot_f32(&values[..x.len()], x);
        }
        sum += block.factor() * block_sum;
    }
    sum
}

pub(super) fn dot_fixed(rows: &PackedRows, table: &FixedTable, x: &FixedColumns, out: &mut [f32]) {
    each_piece(rows, x, out, |_, _, indices, x, totals| {
        let mut sums = [[0i32; FIXED_LANES]; 2];
        for (i, &index) in indices.iter().enumerate() {
            let (step, at) = (i / STEP, i % STEP);
            let (integer, lane) = (table.integer(index), at * FIXED_LANES / STEP);
            sums[0][lane] += integer * i32::from(x.high[step][at]);
            sums[1][lane] += integer * i32::from(x.low[step][at]);
        }
        for (lane, total) in totals.iter_mut().enumerate() {
            let sum = 256.0 * sums[0][lane] as f32 + sums[1][lane] as f32;
            *total = sum.mul_add(x.scales[lane], *total);
        }
    });
    out.iter_mut().for_each(|out| *out *= table.scale);
}

/// `flip` is what the integers' bits are turned by.
pub(super) fn dot_scaled(
    rows: &PackedRows,
    flip: u8,
    scales: &FixedScales,
    x: &FixedColumns,
    out: &mut [f32],
) {
    let lane_blocks = lane_blocks(scales.block);
    each_piece(rows, x, out, |row, start, integers, x, totals| {
        let mut blocks = scales.row(row, rows.count);
        (0..start).step_by(STEP).for_each(|_| _ = blocks.next_step());
        let mut sums = [0.0f32; FIXED_LANES];
        for (step, integers) in integers.chunks(STEP).enumerate() {
            let mut products = [0i32; FIXED_LANES];
            for (i, &integer) in integers.iter().enumerate() {
                let value = 256 * i32::from(x.high[step][i]) + i32::from(x.low[step][i]);
                products[i * FIXED_LANES / STEP] += i32::from(integer ^ flip) * value;
            }
            let block = blocks.next_step();
            for lane in 0..FIXED_LANES {
                let at = block + lane_blocks[lane] as usize;
                let (scale, zero) = (scales.scales[at], scales.zeros.at(at));
                let shifted = (-zero).mul_add(x.step_sums[step][lane], products[lane] as f32);
                sums[lane] = scale.mul_add(shifted, sums[lane]);
            }
        }
        for (lane, total) in totals.iter_mut().enumerate() {
            *total = sums[lane].mul_add(x.scales[lane], *total);
        }
    });
}

/// Calls `add` with every piece of every row and column: with the row's number, where the piece starts, its
/// elements, the column's piece and the lanes' sums so far. Writes the sums of these.
fn each_piece(
    rows: &PackedRows,
    x: &FixedColumns,
    out: &mut [f32],
    add: impl Fn(usize, usize, &[u8], &Piece, &mut [f32; FIXED_LANES]),
) {
    let mut elements = [0u8; PIECE];
    for (i, out) in out.iter_mut().enumerate() {
        let (row, column) = (i / x.count, i % x.count);
        let mut totals = [0.0; FIXED_LANES];
        for (p, piece) in x.column(column).iter().enumerate() {
            let start = p * PIECE;
            let elements = &mut elements[..PIECE.min(rows.count - start)];
            unpack_from(rows.bits, rows.bytes(row), start, elements);
            add(row, start, elements, piece, &mut totals);
        }
        *out = fold(totals, |a, b| a + b);
    }
}

pub(super) fn expand_table(row: &PackedRow, table: &LookupTable, out: &mut [f32]) {
    for block in row.blocks() {
        for (i, value) in out[block.start..block.start + block.count].iter_mut().enumerate() {
            let index = usize::from(element(row.bits, block.packed, i));
            *value = block.factor() * block.weighed(table.wide[index] - block.offset);
        }
    }
}
