//! Products of 16-bit integers, of which those of a block share a scale.
//!
//! A block is 64 inputs of a column, or 64 weights of a row. The largest weight of a block, or of a table where
//! weights are looked up, is 11585 steps. Inputs of a column have as many bits as sums allow: up to 16, and their
//! magnitudes add up to less than 2^31 / 11585, so that the sum of a block's products stays below 2^31. Then it is
//! exact; the sums of blocks are scaled and added in single precision.
//!
//! Errors: a weight is off by at most half a step, which is 1/11585 of the largest in its block or table, an input
//! of a column by half of its step, which is the larger one of 1/32767 of the largest and 1/185300 of the
//! magnitudes' sum. Relative to exact products of random weights with random columns, the root mean square of
//! errors is 1.1e-4, also where one value in a hundred is ten times as large. (Columns in half precision give
//! 2.1e-4.)

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Columns, Division, Product, Rows, written};
use crate::arch::compiled::{self, Loop};
use crate::arch::{self, WordPanel};
use crate::context::{Context, Lease};
use crate::error::KernelError;
use crate::isa::Isa;
use crate::matrix::Block;
use crate::numerics::Numerics;
use crate::thresholds;
use crate::weights::{Encoding, Palettized, Weights};

/// Values that share a scale: inputs of a column, and weights that have no table.
pub(crate) const BLOCK: usize = 64;

/// Pairs of them, which are multiplied at a time.
pub(crate) const PAIRS: usize = BLOCK / 2;

/// The largest integer of a weight.
const LARGEST_WEIGHT: f32 = 11_585.0;

/// The largest integer of a column.
const LARGEST_INPUT: f32 = 32767.0;

/// What the magnitudes of a column's integers in a block add up to, before they are rounded: 64 halves more, and
/// what summing them up in single precision is off by, still leave the products' sum below 2^31.
const LARGEST_SUM: f32 = 185_300.0;

/// The range of magnitudes that make a scale: smaller ones are as good as zero, larger ones, infinity and what
/// is no number have no integers.
const MAGNITUDES: (f32, f32) = (1e-18, 1e18);

/// Adding this to a float below 2^22 leaves its nearest integer in the lowest bits, ties to even.
const ROUND: f32 = 12_582_912.0;

/// The nearest integer of a value below 2^15.
#[inline(always)]
fn round(value: f32) -> u16 {
    (value + ROUND).to_bits() as u16
}

/// Rows as integers, in whole blocks, and a scale for each block.
pub(crate) struct RowWords<'a> {
    pub(crate) pairs: Lease<'a, i32>,
    pub(crate) scales: Lease<'a, f32>,
    /// Blocks of a row.
    pub(crate) blocks: usize,
}

impl<C: Columns> Product<'_, C> {
    /// Whether weights are compressed or halves, products may be of integers, and that is faster: many rows and
    /// columns make up for the conversion of each other, and whole blocks for their zeros.
    pub(super) fn has_words(&self, isa: Isa, rows: usize, columns: usize) -> bool {
        let Rows::Weights(w, _) = self.rows else { return false };
        let padding = self.depth.next_multiple_of(BLOCK) - self.depth;
        self.numerics != Numerics::Strict
            && arch::has_words(isa)
            && !matches!(w.encoding, Encoding::F32(_))
            && rows >= thresholds::WORDS.0
            && columns >= thresholds::WORDS.1
            && padding <= self.depth / 8
    }

    /// As [`by_rows`](Self::by_rows), with integers. Says whether that was possible: not with columns of which a
    /// value is not finite.
    pub(super) fn words_by_rows(
        &self,
        by: &Division,
        columns: Range<usize>,
        c: &mut Block,
    ) -> Result<bool, KernelError> {
        let (ctx, blocks) = (by.ctx, self.depth.div_ceil(BLOCK));
        // A panel's integers, and then its scales.
        let lines = blocks * (PAIRS + 1);
        let mut panels = ctx.scratch().take::<u32>(lines * c.cols.next_multiple_of(by.lanes))?;
        let finite = AtomicBool::new(true);
        let arrange = |index: usize, panel: &mut [u32]| {
            let first = columns.start + index * by.width;
            let part = first..columns.end.min(first + by.width);
            if !self.arrange_words(ctx, part, panel, blocks)? {
                finite.store(false, Ordering::Relaxed);
            }
            Ok(())
        };
        by.each_panel(&mut panels, lines * by.width, arrange)?;
        if !finite.into_inner() {
            return Ok(false);
        }
        let at_once = self.rows_at_once(c.rows, by.threads);
        c.reborrow().try_for_each_rows(by.workers(), at_once, |first, mut c| {
            let Some(rows) = self.row_words(ctx, first..first + c.rows, blocks)? else {
                return self.from(first).by_rows(&by.alone(), columns.clone(), c);
            };
            let starts = (0..c.cols).step_by(by.width);
            for (panel, column) in panels.chunks(lines * by.width).zip(starts) {
                let c = c.part(0..rows.count(), column..c.cols.min(column + by.width));
                let (pairs, scales) = panel.split_at(panel.len() / (PAIRS + 1) * PAIRS);
                let (pairs, scales) = (bytemuck::cast_slice(pairs), bytemuck::cast_slice(scales));
                let panel = WordPanel { pairs, scales, width: scales.len() / blocks };
                written(ctx, c, |c| {
                    match self.bias {
                        Some(bias) => c.fill_rows(&bias[first..first + c.rows]),
                        None => c.fill(0.0),
                    }
                    arch::add_words(ctx.isa(), &rows, &panel, c);
                })?;
            }
            Ok(())
        })?;
        Ok(true)
    }

    /// Lays out some columns as integers, with zeros up to whole vectors and blocks; says whether all are finite.
    fn arrange_words(
        &self,
        ctx: &Context,
        columns: Range<usize>,
        panel: &mut [u32],
        blocks: usize,
    ) -> Result<bool, KernelError> {
        let width = panel.len() / (blocks * (PAIRS + 1));
        let mut floats = ctx.scratch().take(blocks * BLOCK * width)?;
        let (values, rest) = floats.split_at_mut(self.depth * width);
        rest.fill(0.0);
        self.arrange(ctx.isa(), columns, values)?;
        let (pairs, scales) = panel.split_at_mut(blocks * PAIRS * width);
        let scales = bytemuck::cast_slice_mut(scales);
        let mut finite = true;
        for (block, values) in floats.chunks_exact(BLOCK * width).enumerate() {
            let pairs = &mut pairs[block * PAIRS * width..][..PAIRS * width];
            let scales = &mut scales[block * width..][..width];
            finite &= compiled::run(ctx.isa(), InputWords { values, width, pairs, scales });
        }
        Ok(finite)
    }

    /// Some rows as integers; none if a weight is not finite.
    fn row_words<'s>(
        &self,
        ctx: &'s Context,
        rows: Range<usize>,
        blocks: usize,
    ) -> Result<Option<RowWords<'s>>, KernelError> {
        let pairs = ctx.scratch().take(rows.len() * blocks * PAIRS)?;
        let scales = ctx.scratch().take(rows.len() * blocks)?;
        let mut words = RowWords { pairs, scales, blocks };
        let finite = match &self.rows {
            Rows::Weights(Weights { encoding: Encoding::Palettized(p), .. }, start)
                if p.cols_per_group.is_multiple_of(BLOCK) || p.cols_per_group == self.depth =>
            {
                self.look_up(ctx, p, start + rows.start..start + rows.end, &mut words)?
            }
            _ => self.round(ctx, rows, &mut words)?,
        };
        Ok(finite.then_some(words))
    }

    /// Looks up the integers of some rows; says whether there are such.
    fn look_up(
        &self,
        ctx: &Context,
        p: &Palettized,
        rows: Range<usize>,
        RowWords { pairs, scales, blocks }: &mut RowWords,
    ) -> Result<bool, KernelError> {
        let (stride, mut finite) = (*blocks * BLOCK, true);
        let words: &mut [i16] = bytemuck::cast_slice_mut(pairs);
        p.rows_from(ctx, self.depth)?.each(rows.clone(), |part| {
            let (mut table, mut scale) = ([0; 256], 0.0);
            let values = part.table.values(p.bits);
            finite &= compiled::run(
                ctx.isa(),
                TableWords { values, table: &mut table, scale: &mut scale },
            );
            let (row, block) = (part.first - rows.start, part.col / BLOCK);
            let out = &mut words[row * stride..][..part.rows * stride];
            let table = bytemuck::cast_ref(&table);
            arch::look_up_words(ctx.isa(), &part.packed, table, &mut out[part.col..], stride);
            let scales = &mut scales[row * *blocks..][..part.rows * *blocks];
            for scales in scales.chunks_exact_mut(*blocks) {
                scales[block..][..part.packed.count.div_ceil(BLOCK)].fill(scale);
            }
        });
        Ok(finite)
    }

    /// Rounds some rows to integers; says whether there are such.
    fn round(
        &self,
        ctx: &Context,
        rows: Range<usize>,
        RowWords { pairs, scales, blocks }: &mut RowWords,
    ) -> Result<bool, KernelError> {
        let blocks = *blocks;
        let step = thresholds::WORD_ROWS.next_multiple_of(self.rows.group());
        for first in rows.clone().step_by(step) {
            let count = step.min(rows.end - first);
            let dense = self.rows.dense(ctx, first..first + count)?;
            let at = (first - rows.start) * blocks;
            let pairs = pairs[at * PAIRS..].chunks_exact_mut(blocks * PAIRS);
            let scales = scales[at..].chunks_exact_mut(blocks);
            for (row, (pairs, scales)) in (0..count).zip(pairs.zip(scales)) {
                let words = bytemuck::cast_slice_mut(pairs);
                let values = &dense.rows_from(row, 1).data[..self.depth];
                if !compiled::run(ctx.isa(), WeightWords { values, words, scales }) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

impl RowWords<'_> {
    fn count(&self) -> usize {
        self.scales.len() / self.blocks
    }
}

/// The larger magnitude, as bits, of which those of infinity and of no number are the largest.
#[inline(always)]
fn larger(bits: u32, value: f32) -> u32 {
    bits.max(value.abs().to_bits())
}

/// Turns a block of inputs of some columns into pairs of integers. Says whether there are such.
struct InputWords<'a> {
    /// Input `k` of column `s` at `k * width + s`.
    values: &'a [f32],
    width: usize,
    pairs: &'a mut [u32],
    scales: &'a mut [f32],
}

/// Columns that are converted at a time.
const LANES: usize = 8;

impl Loop for InputWords<'_> {
    type Output = bool;

    #[inline(always)]
    fn run(self) -> bool {
        let mut finite = true;
        for (lane, scales) in self.scales.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            let at = |line: usize| line * self.width + lane * LANES;
            let (mut largest, mut sums) = ([0u32; LANES], [0.0f32; LANES]);
            for k in 0..BLOCK {
                let values = &self.values[at(k)..][..LANES];
                for i in 0..LANES {
                    largest[i] = larger(largest[i], values[i]);
                    sums[i] += values[i].abs();
                }
            }
            let mut inverse = [0.0f32; LANES];
            for i in 0..LANES {
                let largest = f32::from_bits(largest[i]);
                finite &= largest <= MAGNITUDES.1;
                let largest = largest.max(MAGNITUDES.0);
                inverse[i] = (LARGEST_INPUT / largest).min(LARGEST_SUM / sums[i].max(MAGNITUDES.0));
                scales[i] = 1.0 / inverse[i];
            }
            for pair in 0..PAIRS {
                let (low, high) = (&self.values[at(2 * pair)..], &self.values[at(2 * pair + 1)..]);
                let (low, high) = (&low[..LANES], &high[..LANES]);
                let pairs = &mut self.pairs[at(pair)..][..LANES];
                for i in 0..LANES {
                    let (low, high) = (round(low[i] * inverse[i]), round(high[i] * inverse[i]));
                    pairs[i] = u32::from(low) | u32::from(high) << 16;
                }
            }
        }
        finite
    }
}

/// Turns a row of weights into integers. Says whether there are such.
struct WeightWords<'a> {
    values: &'a [f32],
    words: &'a mut [i16],
    scales: &'a mut [f32],
}

impl Loop for WeightWords<'_> {
    type Output = bool;

    #[inline(always)]
    fn run(self) -> bool {
        let (blocks, tail) = self.values.as_chunks::<BLOCK>();
        let mut finite = true;
        let (words, rest) = self.words.as_chunks_mut::<BLOCK>();
        debug_assert!(rest.is_empty(), "whole blocks");
        let mut each = words.iter_mut().zip(self.scales);
        for (values, (words, scale)) in blocks.iter().zip(each.by_ref()) {
            finite &= weight_words(values, words, scale);
        }
        if let (false, Some((words, scale))) = (tail.is_empty(), each.next()) {
            let mut values = [0.0; BLOCK];
            values[..tail.len()].copy_from_slice(tail);
            finite &= weight_words(&values, words, scale);
        }
        finite
    }
}

/// Turns a table of weights into one of integers, which repeats up to a block. Says whether there are such.
struct TableWords<'a> {
    values: &'a [f32],
    table: &'a mut [i16; 256],
    scale: &'a mut f32,
}

impl Loop for TableWords<'_> {
    type Output = bool;

    #[inline(always)]
    fn run(self) -> bool {
        let count = self.values.len();
        let finite = weight_words(self.values, &mut self.table[..count], self.scale);
        (count..BLOCK).for_each(|i| self.table[i] = self.table[i % count]);
        finite
    }
}

#[inline(always)]
fn weight_words(values: &[f32], words: &mut [i16], scale: &mut f32) -> bool {
    let largest = f32::from_bits(values.iter().fold(0, |bits, &value| larger(bits, value)));
    let inverse = LARGEST_WEIGHT / largest.max(MAGNITUDES.0);
    *scale = 1.0 / inverse;
    for (word, value) in words.iter_mut().zip(values) {
        *word = round(value * inverse).cast_signed();
    }
    largest <= MAGNITUDES.1
}

#[cfg(test)]
mod tests;
