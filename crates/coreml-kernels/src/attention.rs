//! Scaled dot-product attention, without the scores of all queries at a time, and over those keys alone
//! that queries see.

mod seen;

use std::ops::Range;

use crate::arch::compiled::{self, Loop};
use crate::arch::{self, SUMS};
use crate::context::Context;
use crate::error::{KernelError, check_len, check_strided, product};
use crate::gemm::{DEPTH, Sum, multiply};
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

/// What becomes of the products of queries and keys before they are weights.
#[derive(Debug, Clone, Copy)]
pub struct Scoring<'a> {
    /// What they are multiplied by.
    pub scale: f32,
    /// Which of them count.
    pub mask: Option<Heads<'a, Mask<'a>>>,
    /// The weights of a query that sees no key, because all of its scores are `-inf`: 0, as PyTorch has
    /// it since version 2.5, or NaN, as `softmax` has it.
    pub unseen: f32,
}

/// `softmax(query · keyᵀ · scale + mask) · value`, for each head; `out` has the heads' rows one after
/// the other. Divided among threads if large.
///
/// What the mask hides costs nothing at either end of a row: keys before the first and after the last
/// one that a query sees are not read, nor are their values, whatever these are. A mask hides a key
/// where it is false or `-inf`, and where it is so far below its row's largest number that the weight is
/// 0 in single precision, whatever the product of query and key is.
///
/// # Errors
/// If sizes overflow, a slice ends before its matrices do, or there is no memory.
pub fn attention(
    ctx: &Context,
    sizes: AttentionSizes,
    scoring: Scoring,
    query: Heads<&[f32]>,
    key: Heads<Table>,
    value: Heads<Table>,
    out: &mut [f32],
) -> Result<(), KernelError> {
    let AttentionSizes { batch, queries, keys, width, value_width } = sizes;
    let heads = product(KERNEL, "batch", batch)?;
    let rows = product(KERNEL, "query", &[heads, queries])?;
    check_len(KERNEL, "out", product(KERNEL, "out", &[rows, value_width])?, out.len())?;
    query.check(KERNEL, "query", query.data.len(), batch, (queries, width))?;
    key.check(KERNEL, "key", len(key.data), batch, (keys, width))?;
    value.check(KERNEL, "value", len(value.data), batch, (keys, value_width))?;
    if let Some(mask) = scoring.mask {
        let len = match mask.data {
            Mask::Bool(mask) => mask.len(),
            Mask::Float(mask) => mask.len(),
        };
        mask.check(KERNEL, "mask", len, batch, (queries, keys))?;
    }
    if out.is_empty() {
        return Ok(());
    }
    let heads = Attention { ctx, sizes, scoring, query, key, value };
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
    /// Fails unless there is a step for each batch axis and all heads lie within `len` elements.
    pub(crate) fn check(
        &self,
        kernel: &'static str,
        argument: &'static str,
        len: usize,
        batch: &[usize],
        (rows, cols): (usize, usize),
    ) -> Result<(), KernelError> {
        check_len(kernel, argument, batch.len(), self.batch.len())?;
        if batch.contains(&0) {
            return Ok(());
        }
        let each = batch.iter().zip(self.batch);
        let mut reach = each.map(|(&size, &step)| (size - 1).checked_mul(step));
        let last = reach.try_fold(0, |last: usize, reach| last.checked_add(reach?));
        // Where the last head starts, as a size of steps of one element.
        let heads = last.and_then(|last| last.checked_add(1));
        let heads = heads.ok_or(KernelError::Overflow { kernel, argument })?;
        check_strided(kernel, argument, &[(heads, 1), (rows, self.row), (cols, self.col)], len)
    }

    /// Where a head starts.
    pub(crate) fn start(&self, batch: &[usize], head: usize) -> usize {
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

impl Heads<'_, Table<'_>> {
    /// Copies the row that starts at a place, in single precision.
    fn copy_row(&self, isa: Isa, start: usize, wide: &mut [f32]) {
        let dense = start..start + wide.len();
        let each = wide.iter_mut().enumerate().map(|(i, wide)| (wide, start + i * self.col));
        match self.data {
            Table::F16(data) if self.col == 1 => arch::widen(isa, &data[dense], wide),
            Table::F16(data) => each.for_each(|(wide, at)| *wide = data[at].to_f32()),
            Table::F32(data) if self.col == 1 => wide.copy_from_slice(&data[dense]),
            Table::F32(data) => each.for_each(|(wide, at)| *wide = data[at]),
        }
    }
}

/// An attention whose sizes have been checked.
struct Attention<'a> {
    ctx: &'a Context,
    sizes: AttentionSizes<'a>,
    scoring: Scoring<'a>,
    query: Heads<'a, &'a [f32]>,
    key: Heads<'a, Table<'a>>,
    value: Heads<'a, Table<'a>>,
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
            self.rows_of_head(head, query..query + rows, &mut scores[..rows * keys], here)?;
            (row, out) = (row + rows, behind);
        }
        Ok(())
    }

    /// The results of some queries of a head; `scores` has a place for each of them and each key.
    fn rows_of_head(
        &self,
        head: usize,
        queries: Range<usize>,
        scores: &mut [f32],
        out: &mut [f32],
    ) -> Result<(), KernelError> {
        let AttentionSizes { batch, keys, width, value_width, .. } = self.sizes;
        let rows = queries.len();
        // All keys decide on the order, not those that are seen.
        let score_order = order(self.key.data, rows, keys, width);
        let value_order = order(self.value.data, rows, value_width, keys);
        let seen = whole_sums(self.seen(head, &queries)?, value_order, keys);
        if seen.is_empty() {
            out.fill(if keys == 0 { 0.0 } else { self.scoring.unseen });
            return Ok(());
        }
        let scores = &mut scores[..rows * seen.len()];
        let start = self.query.start(batch, head) + queries.start * self.query.row;
        let query = self.query.matrix(from(self.query.data, start), rows, width);
        let transposed = Heads { row: self.key.col, col: self.key.row, ..self.key };
        let at = self.key.start(batch, head) + seen.start * self.key.row;
        self.multiply(score_order, query, &transposed, at, (width, seen.len()), scores)?;
        self.weigh(head, queries.start, &seen, scores);
        let weights = Matrix::row_major(scores, rows, seen.len());
        let at = self.value.start(batch, head) + seen.start * self.value.row;
        self.multiply(value_order, weights, &self.value, at, (seen.len(), value_width), out)
    }

    /// From the first to the last key that one of some queries sees.
    fn seen(&self, head: usize, queries: &Range<usize>) -> Result<Range<usize>, KernelError> {
        let AttentionSizes { batch, keys, .. } = self.sizes;
        let Some(mask) = self.scoring.mask else { return Ok(0..keys) };
        let start = mask.start(batch, head) + queries.start * mask.row;
        let rows = if mask.row == 0 { 1 } else { queries.len() };
        let range = |depth: f32| {
            let rows = (0..rows).map(|row| start + row * mask.row);
            seen::range(self.ctx.isa(), &mask, rows, keys, depth)
        };
        let seen = range(seen::ANY_SCORES);
        // How large scores are is read off the keys, which a few queries are not worth.
        if queries.len() < FEW_QUERIES || range(seen::depth(0.0)) == seen {
            return Ok(seen);
        }
        Ok(range(seen::depth(self.most(head, queries)?)))
    }

    /// What no score of some queries exceeds on either side, before the mask.
    fn most(&self, head: usize, queries: &Range<usize>) -> Result<f32, KernelError> {
        let AttentionSizes { batch, keys, .. } = self.sizes;
        let start = self.query.start(batch, head) + queries.start * self.query.row;
        let Heads { data, batch: of_heads, row, col } = self.query;
        let query = Heads { data: Table::F32(data), batch: of_heads, row, col };
        let query = self.longest(&query, start, queries.len())?;
        let key = self.longest(&self.key, self.key.start(batch, head), keys)?;
        Ok(query * key * self.scoring.scale.abs())
    }

    /// The largest root of a sum of squares of rows of the queries' width; NaN counts as infinite.
    fn longest(&self, heads: &Heads<Table>, start: usize, rows: usize) -> Result<f32, KernelError> {
        let (isa, width) = (self.ctx.isa(), self.sizes.width);
        let mut wide = self.ctx.scratch().take::<f32>(width)?;
        let mut most = 0.0f32;
        for row in 0..rows {
            heads.copy_row(isa, start + row * heads.row, &mut wide);
            let squares = arch::dot_f32(isa, &wide, &wide);
            most = if squares <= most { most } else { squares };
            if most.is_nan() {
                return Ok(f32::INFINITY);
            }
        }
        Ok(most.sqrt())
    }

    /// `out = a * b`, on the calling thread; `b` starts at `at`.
    fn multiply(
        &self,
        order: Order,
        a: Matrix<f32>,
        b: &Heads<Table>,
        at: usize,
        (rows, cols): (usize, usize),
        out: &mut [f32],
    ) -> Result<(), KernelError> {
        let c = Block::new(KERNEL, MatrixMut::row_major(out, a.rows, cols))?;
        let (ctx, one) = (self.ctx, Threads::One);
        match (b.data, order) {
            (Table::F32(data), Order::Lanes) => {
                lanes::multiply(KERNEL, ctx, one, a, b.matrix(from(data, at), rows, cols), c)
            }
            (Table::F32(data), Order::Chain) => {
                multiply(ctx, one, a, b.matrix(from(data, at), rows, cols), c, Sum::New)
            }
            (Table::F16(data), Order::Lanes) => {
                lanes::multiply(KERNEL, ctx, one, a, b.matrix(from(data, at), rows, cols), c)
            }
            (Table::F16(data), Order::Chain) => {
                widened(ctx, one, a, b.matrix(from(data, at), rows, cols), c)
            }
        }
    }

    /// From products to weights, for rows of a head from `first` on and the keys that they see.
    fn weigh(&self, head: usize, first: usize, seen: &Range<usize>, scores: &mut [f32]) {
        let Scoring { scale, mask, unseen } = self.scoring;
        let start = mask.map(|mask| mask.start(self.sizes.batch, head) + seen.start * mask.col);
        for (row, scores) in scores.chunks_exact_mut(seen.len().max(1)).enumerate() {
            let at = start.zip(mask).map(|(start, mask)| start + (first + row) * mask.row);
            let mask = at.zip(mask);
            compiled::run(self.ctx.isa(), Scores { scores, scale, mask });
            if scores.iter().all(|&score| score == f32::NEG_INFINITY) {
                scores.fill(unseen);
            } else {
                softmax::row(self.ctx.isa(), scores);
            }
        }
    }
}

/// The order in which products with a matrix are summed up.
fn order(table: Table, rows: usize, cols: usize, depth: usize) -> Order {
    match table {
        Table::F32(_) => Order::of_floats(rows, cols, depth),
        Table::F16(_) => Order::of_halves(rows),
    }
}

/// The range with the keys around it that are summed up together with its own: then what it leaves out
/// changes no sum, as it would only add zeros.
fn whole_sums(seen: Range<usize>, order: Order, keys: usize) -> Range<usize> {
    let together = match order {
        Order::Lanes => SUMS,
        Order::Chain => DEPTH,
    };
    if seen.is_empty() {
        return 0..0;
    }
    seen.start / together * together..seen.end.next_multiple_of(SUMS).min(keys)
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

    const UNMASKED: Scoring = Scoring { scale: 1.0, mask: None, unseen: 0.0 };

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
            Scoring {
                scale: 0.5,
                mask: Some(Heads { data: mask, batch: &[0, 0], row: keys, col: 1 }),
                unseen: 0.0,
            },
            Heads { data: &q, batch: &steps, row: width, col: 1 },
            Heads { data: table(&k, &k16), batch: &[keys * width, 0], row: width, col: 1 },
            Heads {
                data: table(&v, &v16),
                batch: &[keys * value_width, 0],
                row: value_width,
                col: 1,
            },
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

    /// An attention of one head, of queries one after the other.
    fn one_head(
        ctx: &Context,
        sizes: AttentionSizes,
        unseen: f32,
        mask: Mask,
        [query, key, value]: [&[f32]; 3],
        halves: bool,
    ) -> Vec<f32> {
        let AttentionSizes { queries, keys, width, value_width, .. } = sizes;
        let narrow = |wide: &[f32]| wide.iter().map(|&x| f16::from_f32(x)).collect::<Vec<_>>();
        let (key16, value16) = (narrow(key), narrow(value));
        let table = |wide, narrow| if halves { Table::F16(narrow) } else { Table::F32(wide) };
        let rows = |data, row| Heads { data, batch: &[], row, col: 1 };
        let mask = Some(Heads { data: mask, batch: &[], row: keys, col: 1 });
        let mut out = vec![9.0; queries * value_width];
        attention(
            ctx,
            sizes,
            Scoring { scale: 0.25, mask, unseen },
            Heads { data: query, batch: &[], row: width, col: 1 },
            rows(table(key, &key16), width),
            rows(table(value, &value16), value_width),
            &mut out,
        )
        .unwrap();
        out
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    /// What the mask hides at the ends of all rows changes no bit, and may be NaN; nor does it change one
    /// where it is far below the others, but finite.
    #[test]
    fn what_no_query_sees_changes_nothing() {
        let (width, value_width) = (29, 24);
        for (queries, keys, (first, last)) in
            [(1, 96, (3, 40)), (2, 1300, (530, 1270)), (20, 64, (17, 30)), (40, 1300, (600, 1250))]
        {
            let sizes = AttentionSizes { batch: &[], queries, keys, width, value_width };
            let query = numbers(queries * width, 1);
            let (key, value) = (numbers(keys * width, 2), numbers(keys * value_width, 3));
            let seen = |i: usize| (first + i / keys % 3..=last).contains(&(i % keys));
            let mask = |hidden: f32| -> Vec<f32> {
                (0..queries * keys).map(|i| if seen(i) { -0.5 } else { hidden }).collect()
            };
            let spoilt = |rows: &[f32], width: usize| -> Vec<f32> {
                // Those that are summed up together with others are read.
                let kept = first / 512 * 512..(last + 1).next_multiple_of(16);
                let each = rows.iter().enumerate();
                each.map(|(i, &x)| if kept.contains(&(i / width)) { x } else { f32::NAN }).collect()
            };
            let (bad_key, bad_value) = (spoilt(&key, width), spoilt(&value, value_width));
            let (infinite, finite) = (mask(f32::NEG_INFINITY), mask(-1e4));
            let bools: Vec<u8> = (0..queries * keys).map(|i| u8::from(seen(i))).collect();
            for (isa, halves) in
                Isa::available().into_iter().flat_map(|isa| [(isa, false), (isa, true)])
            {
                let ctx = Context::with_isa(Workers::serial(), isa);
                let run = |mask, [key, value]: [&[f32]; 2]| {
                    bits(&one_head(&ctx, sizes, 0.0, mask, [&query, key, value], halves))
                };
                let expected = run(Mask::Float(&infinite), [&key, &value]);
                let got = run(Mask::Float(&infinite), [&bad_key, &bad_value]);
                assert!(got == expected, "{}, {halves}, {sizes:?}", isa.name());
                let finite = run(Mask::Float(&finite), [&key, &value]);
                assert!(finite == expected, "{}, {halves}, {sizes:?}", isa.name());
                let shifted = run(Mask::Bool(&bools), [&bad_key, &bad_value]);
                let shifted = shifted.into_iter().map(f32::from_bits);
                let near = |(a, b): (f32, &u32)| (a - f32::from_bits(*b)).abs() <= 1e-6;
                assert!(shifted.zip(&expected).all(near), "{}, {halves}", isa.name());
            }
        }
    }

    proptest! {
        #[test]
        fn rows_are_copied_whole(width in 0usize..70, start in 0usize..5, col in 1usize..3) {
            let floats = numbers(start + width * col + 3, 1);
            let halves: Vec<f16> = floats.iter().map(|&x| f16::from_f32(x)).collect();
            let wide: Vec<f32> = halves.iter().map(|x| x.to_f32()).collect();
            for isa in Isa::available() {
                for (data, from) in [(Table::F32(&floats), &floats), (Table::F16(&halves), &wide)] {
                    let mut row = vec![9.0; width];
                    Heads { data, batch: &[], row: 0, col }.copy_row(isa, start, &mut row);
                    let expected: Vec<f32> = (0..width).map(|i| from[start + i * col]).collect();
                    prop_assert!(row == expected, "{}", isa.name());
                }
            }
        }
    }

    /// Scores so large that they reach beyond a finite mask: the keys count.
    #[test]
    fn a_finite_mask_hides_nothing_from_scores_that_are_as_large() {
        let sizes = AttentionSizes { batch: &[], queries: 8, keys: 32, width: 1, value_width: 1 };
        let query = [4000.0; 8];
        let key: Vec<f32> = (0..32).map(|key| if key == 31 { 100.0 } else { 0.0 }).collect();
        let value: Vec<f32> = (0..32).map(|key| key as f32).collect();
        let mask: Vec<f32> = (0..8 * 32).map(|i| if i % 32 < 8 { 0.0 } else { -1e4 }).collect();
        let ctx = Context::new(Workers::serial());
        let out = one_head(&ctx, sizes, 0.0, Mask::Float(&mask), [&query, &key, &value], false);
        assert_eq!(out, [31.0; 8]);
    }

    #[test]
    fn a_query_that_sees_nothing_gets_what_is_asked_for() {
        let sizes = AttentionSizes { batch: &[], queries: 2, keys: 3, width: 1, value_width: 1 };
        let ctx = Context::new(Workers::serial());
        let run = |mask: &[u8], unseen: f32| {
            let ones: [&[f32]; 3] = [&[1.0, 1.0], &[1.0, 1.0, 1.0], &[3.0, 4.0, 5.0]];
            one_head(&ctx, sizes, unseen, Mask::Bool(mask), ones, false)
        };
        assert_eq!(run(&[0, 0, 0, 0, 1, 0], 0.0), [0.0, 4.0]);
        assert_eq!(run(&[0; 6], 0.0), [0.0; 2]);
        let some = run(&[0, 0, 0, 0, 1, 0], f32::NAN);
        assert!(some[0].is_nan() && some[1] == 4.0, "{some:?}");
        assert!(run(&[0; 6], f32::NAN).iter().all(|x| x.is_nan()));
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
            attention(&ctx, sizes, UNMASKED, query, heads, value, &mut vec![0.0; out])
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
