//! Scaled dot-product attention, without the scores of all queries at a time.

use crate::arch::compiled::{self, Loop};
use crate::context::Context;
use crate::error::{KernelError, check_len, check_strided, product};
use crate::gemm::{Sum, multiply};
use crate::isa::Isa;
use crate::lanes;
use crate::matmul_f16::widened;
use crate::matrix::{Block, Matrix, MatrixMut, Order, Threads};
use crate::softmax;
use crate::thresholds;
use crate::weights::Table;

const KERNEL: &str = "attention";

/// The most queries of a head that are taken at a time: as many rows as fill the tiles of a product.
const QUERIES: usize = 64;

/// Scores that are kept at a time where the keys are many: 4 MB.
const SCORES: usize = 1 << 20;

/// The fewest queries that are taken at a time, however many keys there are.
const FEW_QUERIES: usize = 8;

/// Matrices of several heads in a slice: that of a head starts at the sum of its place on each batch
/// axis times the axis' step, which is 0 where heads share one.
#[derive(Debug, Clone, Copy)]
pub struct Heads<'a, D> {
    /// The elements, from those of the first head on.
    pub data: D,
    /// Elements from head to head on each batch axis.
    pub batch: &'a [usize],
    /// Elements from row to row.
    pub row: usize,
    /// Elements from column to column.
    pub col: usize,
}

/// Which keys a query sees, or what is added to its scores: a row for each query, a column for each key.
#[derive(Debug, Clone, Copy)]
pub enum Mask<'a> {
    /// Where it is 0, a query does not see a key.
    Bool(&'a [u8]),
    /// It is added.
    Float(&'a [f32]),
}

/// Sizes of an attention.
#[derive(Debug, Clone, Copy)]
pub struct AttentionSizes<'a> {
    /// The batch axes: their product is the number of heads.
    pub batch: &'a [usize],
    /// Queries of a head.
    pub queries: usize,
    /// Keys, and values, of a head.
    pub keys: usize,
    /// Elements of a query and of a key.
    pub width: usize,
    /// Elements of a value and of a result.
    pub value_width: usize,
}

/// `softmax(query · keyᵀ · scale + mask) · value`, for each head; `out` has the heads' rows one after
/// the other. A query that sees no key, because all of its scores are `-inf`, gets zeros, as PyTorch
/// has it since version 2.5. Divided among threads if large.
///
/// # Errors
/// If sizes overflow, a slice ends before its matrices do, or there is no memory.
#[expect(clippy::too_many_arguments, reason = "operands, each with its layout")]
pub fn attention(
    ctx: &Context,
    sizes: AttentionSizes,
    scale: f32,
    query: Heads<&[f32]>,
    key: Heads<Table>,
    value: Heads<Table>,
    mask: Option<Heads<Mask>>,
    out: &mut [f32],
) -> Result<(), KernelError> {
    let AttentionSizes { batch, queries, keys, width, value_width } = sizes;
    let heads = product(KERNEL, "batch", batch)?;
    let rows = product(KERNEL, "query", &[heads, queries])?;
    check_len(KERNEL, "out", product(KERNEL, "out", &[rows, value_width])?, out.len())?;
    query.check("query", query.data.len(), batch, (queries, width))?;
    key.check("key", len(key.data), batch, (keys, width))?;
    value.check("value", len(value.data), batch, (keys, value_width))?;
    if let Some(mask) = mask {
        let len = match mask.data {
            Mask::Bool(mask) => mask.len(),
            Mask::Float(mask) => mask.len(),
        };
        mask.check("mask", len, batch, (queries, keys))?;
    }
    if out.is_empty() {
        return Ok(());
    }
    let heads = Attention { ctx, sizes, scale, query, key, value, mask };
    let most = (SCORES / keys.max(1)).clamp(FEW_QUERIES, QUERIES);
    let part = queries.div_ceil(queries.div_ceil(most));
    let work =
        [keys, width.saturating_add(value_width)].into_iter().fold(rows, usize::saturating_mul);
    let run = |index: usize, out: &mut [f32]| heads.rows(index * part, out);
    if work < thresholds::FEW_ROWS {
        let mut parts = out.chunks_mut(part * value_width).enumerate();
        return parts.try_for_each(|(index, out)| run(index, out));
    }
    ctx.workers().try_for_each_chunk_mut(out, part * value_width, run)
}

fn len(table: Table) -> usize {
    match table {
        Table::F32(values) => values.len(),
        Table::F16(values) => values.len(),
    }
}

impl<D> Heads<'_, D> {
    fn check(
        &self,
        argument: &'static str,
        len: usize,
        batch: &[usize],
        (rows, cols): (usize, usize),
    ) -> Result<(), KernelError> {
        check_len(KERNEL, argument, batch.len(), self.batch.len())?;
        if batch.contains(&0) {
            return Ok(());
        }
        let each = batch.iter().zip(self.batch);
        let mut reach = each.map(|(&size, &step)| (size - 1).checked_mul(step));
        let last = reach.try_fold(0, |last: usize, reach| last.checked_add(reach?));
        // Where the last head starts, as a size of steps of one element.
        let heads = last.and_then(|last| last.checked_add(1));
        let heads = heads.ok_or(KernelError::Overflow { kernel: KERNEL, argument })?;
        check_strided(KERNEL, argument, &[(heads, 1), (rows, self.row), (cols, self.col)], len)
    }

    /// Where a head starts.
    fn start(&self, batch: &[usize], head: usize) -> usize {
        let (mut rest, mut start) = (head, 0);
        for (&size, &step) in batch.iter().zip(self.batch).rev() {
            start += rest % size * step;
            rest /= size;
        }
        start
    }

    /// The matrix of `data`, some head's rows from some row on.
    fn matrix<'a, T>(&self, data: &'a [T], rows: usize, cols: usize) -> Matrix<'a, T> {
        Matrix { data, rows, cols, row_stride: self.row, col_stride: self.col }
    }
}

/// An attention whose sizes have been checked.
struct Attention<'a> {
    ctx: &'a Context,
    sizes: AttentionSizes<'a>,
    scale: f32,
    query: Heads<'a, &'a [f32]>,
    key: Heads<'a, Table<'a>>,
    value: Heads<'a, Table<'a>>,
    mask: Option<Heads<'a, Mask<'a>>>,
}

impl Attention<'_> {
    /// The results of rows from `first` on, as many as `out` holds, of one head or of several.
    fn rows(&self, first: usize, out: &mut [f32]) -> Result<(), KernelError> {
        let AttentionSizes { queries, keys, value_width, .. } = self.sizes;
        let (mut row, mut out) = (first, out);
        let most = (out.len() / value_width).min(queries);
        let count = most.checked_mul(keys);
        let count = count.ok_or(KernelError::Overflow { kernel: KERNEL, argument: "scores" })?;
        let mut scores = self.ctx.scratch().take::<f32>(count)?;
        while !out.is_empty() {
            let (head, query) = (row / queries, row % queries);
            let rows = (queries - query).min(out.len() / value_width);
            let (here, behind) = out.split_at_mut(rows * value_width);
            self.rows_of_head(head, query, rows, &mut scores[..rows * keys], here)?;
            (row, out) = (row + rows, behind);
        }
        Ok(())
    }

    fn rows_of_head(
        &self,
        head: usize,
        first: usize,
        rows: usize,
        scores: &mut [f32],
        out: &mut [f32],
    ) -> Result<(), KernelError> {
        let AttentionSizes { batch, keys, width, value_width, .. } = self.sizes;
        let start = self.query.start(batch, head) + first * self.query.row;
        let query = self.query.matrix(from(self.query.data, start), rows, width);
        let transposed = Heads { row: self.key.col, col: self.key.row, ..self.key };
        let at = self.key.start(batch, head);
        self.multiply(query, &transposed, at, (width, keys), scores)?;
        self.weigh(head, first, scores);
        let weights = Matrix::row_major(scores, rows, keys);
        let at = self.value.start(batch, head);
        self.multiply(weights, &self.value, at, (keys, value_width), out)
    }

    /// `out = a * b`, on the calling thread; `b` starts at `at`.
    fn multiply(
        &self,
        a: Matrix<f32>,
        b: &Heads<Table>,
        at: usize,
        (rows, cols): (usize, usize),
        out: &mut [f32],
    ) -> Result<(), KernelError> {
        let c = Block::new(KERNEL, MatrixMut::row_major(out, a.rows, cols))?;
        let (ctx, one) = (self.ctx, Threads::One);
        match b.data {
            Table::F32(data) => {
                let b = b.matrix(from(data, at), rows, cols);
                match Order::of_floats(a.rows, cols, rows) {
                    Order::Lanes => lanes::multiply(KERNEL, ctx, one, a, b, c),
                    Order::Chain => multiply(ctx, one, a, b, c, Sum::New),
                }
            }
            Table::F16(data) => {
                let b = b.matrix(from(data, at), rows, cols);
                match Order::of_halves(a.rows) {
                    Order::Lanes => lanes::multiply(KERNEL, ctx, one, a, b, c),
                    Order::Chain => widened(ctx, one, a, b, c),
                }
            }
        }
    }

    /// From products to weights, for rows of a head from `first` on.
    fn weigh(&self, head: usize, first: usize, scores: &mut [f32]) {
        let AttentionSizes { batch, keys, .. } = self.sizes;
        let start = self.mask.map(|mask| mask.start(batch, head));
        for (row, scores) in scores.chunks_exact_mut(keys.max(1)).enumerate() {
            let at = start.zip(self.mask).map(|(start, mask)| start + (first + row) * mask.row);
            let mask = at.zip(self.mask);
            compiled::run(self.ctx.isa(), Scores { scores, scale: self.scale, mask });
            weights(self.ctx.isa(), scores);
        }
    }
}

/// The weights of the values, by the scores of their keys.
fn weights(isa: Isa, scores: &mut [f32]) {
    if scores.iter().all(|&score| score == f32::NEG_INFINITY) {
        scores.fill(0.0);
    } else {
        softmax::row(isa, scores);
    }
}

/// Elements from `start` on; none, where there are no more.
fn from<T>(data: &[T], start: usize) -> &[T] {
    data.get(start..).unwrap_or(&[])
}

/// The scores of a query, scaled and masked. The mask's row starts at a place.
struct Scores<'a> {
    scores: &'a mut [f32],
    scale: f32,
    mask: Option<(usize, Heads<'a, Mask<'a>>)>,
}

impl Loop for Scores<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let scale = self.scale;
        let Some((at, Heads { data, col, .. })) = self.mask else {
            self.scores.iter_mut().for_each(|score| *score *= scale);
            return;
        };
        match data {
            Mask::Bool(mask) => masked(self.scores, &mask[at..], col, |score, seen| {
                if seen == 0 { f32::NEG_INFINITY } else { score * scale }
            }),
            Mask::Float(mask) => {
                masked(self.scores, &mask[at..], col, |score, added| score * scale + added);
            }
        }
    }
}

#[inline(always)]
fn masked<T: Copy>(scores: &mut [f32], mask: &[T], step: usize, function: impl Fn(f32, T) -> f32) {
    match step {
        1 => scores.iter_mut().zip(mask).for_each(|(score, &mask)| *score = function(*score, mask)),
        _ => {
            let each = scores.iter_mut().enumerate();
            each.for_each(|(i, score)| *score = function(*score, mask[i * step]));
        }
    }
}

#[cfg(test)]
mod tests {
    use half::f16;
    use proptest::prelude::*;

    use super::*;
    use crate::context::Workers;

    /// Numbers that look random.
    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let mix = |i: usize| (i as u32).wrapping_add(seed).wrapping_mul(2_654_435_761) >> 8;
        (0..count).map(|i| mix(i) as f32 / (1 << 23) as f32 - 1.0).collect()
    }

    /// The definition for one head, in double precision; `added` is the mask.
    fn head(sizes: AttentionSizes, q: &[f32], k: &[f32], v: &[f32], added: &[f64]) -> Vec<f64> {
        let AttentionSizes { queries, keys, width, value_width, .. } = sizes;
        let mut out = Vec::new();
        for i in 0..queries {
            let score = |j: usize| {
                let product = |e: usize| f64::from(q[i * width + e]) * f64::from(k[j * width + e]);
                (0..width).map(product).sum::<f64>() * 0.5 + added[i * keys + j]
            };
            let scores: Vec<f64> = (0..keys).map(score).collect();
            let peak = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|score| (score - peak).exp()).collect();
            let sum: f64 = weights.iter().sum();
            for e in 0..value_width {
                let each = weights.iter().enumerate();
                let value = each.map(|(j, w)| w / sum * f64::from(v[j * value_width + e]));
                out.push(if peak == f64::NEG_INFINITY { 0.0 } else { value.sum() });
            }
        }
        out
    }

    /// Compares with the definition: heads that share keys on the last batch axis, and a mask for each
    /// query, of either kind.
    fn check(sizes: AttentionSizes, halves: bool, bools: bool, threads: usize) {
        let AttentionSizes { batch, queries, keys, width, value_width } = sizes;
        let heads: usize = batch.iter().product();
        let groups = batch[0];
        let q = numbers(heads * queries * width, 1);
        let round = |values: Vec<f32>| -> Vec<f32> {
            values.iter().map(|&value| f16::from_f32(value).to_f32()).collect()
        };
        let (k, v) = (
            round(numbers(groups * keys * width, 2)),
            round(numbers(groups * keys * value_width, 3)),
        );
        let half = |values: &[f32]| values.iter().map(|&v| f16::from_f32(v)).collect::<Vec<_>>();
        let (k16, v16) = (half(&k), half(&v));
        let table = |wide, narrow| if halves { Table::F16(narrow) } else { Table::F32(wide) };
        let seen: Vec<u8> =
            (0..queries * keys).map(|i| u8::from(i * 7 % 5 != 0 && i / keys != 1)).collect();
        let added: Vec<f32> =
            seen.iter().map(|&seen| if seen == 0 { f32::NEG_INFINITY } else { 0.25 }).collect();
        let mask = if bools { Mask::Bool(&seen) } else { Mask::Float(&added) };
        let mut out = vec![9.0; heads * queries * value_width];
        let steps = [batch[1] * queries * width, queries * width];
        attention(
            &Context::new(Workers::new(threads).unwrap()),
            sizes,
            0.5,
            Heads { data: &q, batch: &steps, row: width, col: 1 },
            Heads { data: table(&k, &k16), batch: &[keys * width, 0], row: width, col: 1 },
            Heads {
                data: table(&v, &v16),
                batch: &[keys * value_width, 0],
                row: value_width,
                col: 1,
            },
            Some(Heads { data: mask, batch: &[0, 0], row: keys, col: 1 }),
            &mut out,
        )
        .unwrap();
        let mask: Vec<f64> =
            added.iter().map(|&x| f64::from(if bools { x.min(0.0) } else { x })).collect();
        for (number, out) in out.chunks(queries * value_width).enumerate() {
            let group = number / batch[1];
            let q = &q[number * queries * width..][..queries * width];
            let k = &k[group * keys * width..][..keys * width];
            let v = &v[group * keys * value_width..][..keys * value_width];
            for (got, expected) in out.iter().zip(head(sizes, q, k, v, &mask)) {
                assert!((f64::from(*got) - expected).abs() <= 1e-5, "{got}, expected {expected}");
            }
        }
    }

    proptest! {
        #[test]
        fn heads_are_those_of_the_definition(
            batch in [1usize..3, 1usize..4],
            queries in 1usize..90,
            keys in 1usize..40,
            width in 1usize..20,
            value_width in 1usize..12,
            (halves, bools) in (any::<bool>(), any::<bool>()),
        ) {
            check(AttentionSizes { batch: &batch, queries, keys, width, value_width }, halves, bools, 1);
        }
    }

    /// Enough for several tasks of several heads, and for queries that are taken in parts.
    #[test]
    fn many_heads_and_queries() {
        for (batch, queries) in [([2, 5], 40), ([1, 1], 300), ([3, 16], 1)] {
            let sizes =
                AttentionSizes { batch: &batch, queries, keys: 70, width: 32, value_width: 48 };
            check(sizes, false, true, 3);
            check(sizes, true, false, 3);
        }
    }

    #[test]
    fn sizes_that_do_not_fit_are_errors() {
        let ctx = Context::new(Workers::serial());
        let sizes = AttentionSizes { batch: &[], queries: 2, keys: 2, width: 2, value_width: 2 };
        let data = [0.0; 4];
        let run = |query: &[f32], value: &[f32], out: usize, sizes| {
            let heads = Heads { data: Table::F32(&data), batch: &[], row: 2, col: 1 };
            let query = Heads { data: query, batch: &[], row: 2, col: 1 };
            let value = Heads { data: Table::F32(value), ..heads };
            attention(&ctx, sizes, 1.0, query, heads, value, None, &mut vec![0.0; out])
        };
        assert!(run(&data, &data, 4, sizes).is_ok());
        assert!(run(&data[1..], &data, 4, sizes).is_err());
        assert!(run(&data, &data[1..], 4, sizes).is_err());
        assert!(run(&data, &data, 3, sizes).is_err());
        let endless = AttentionSizes { queries: usize::MAX, ..sizes };
        assert!(run(&data, &data, 4, endless).is_err());
        // No keys: nothing is seen.
        let none = AttentionSizes { keys: 0, ..sizes };
        assert!(run(&data, &data, 4, none).is_ok());
    }
}
