//! Attention as one kernel beside its steps apart, at the sizes of a small language model: 16 query heads on
//! 8 key-value heads of 128, whose caches of `fp16` are those of several layers, as a token goes through.
//!
//! `cargo bench -p coreml-kernels --bench attention [-- FILTER]`. Two lines per case: queries, the context and
//! how much of it is seen; microseconds of the fastest run apart and together, timed in turns, and their
//! ratio; then the speed together where the cache is near.
#![allow(clippy::print_stdout)]

mod common;

use std::time::Instant;

use common::{Bench, expect};
use coreml_kernels::{
    AttentionSizes, BatchStrides, Context, Heads, Mask, Matrix, MatrixMut, Order, Scoring, Table,
    attention, attention_matmul, softmax,
};
use half::f16;

const HEADS: usize = 16;
const SHARED: usize = 8;
const WIDTH: usize = 128;
const SCALE: f32 = 0.088_388_35;

/// Caches that take turns: more than the processor's own.
const LAYERS: usize = 12;
const ROUNDS: usize = 60;

struct Layers<'a> {
    ctx: &'a Context,
    queries: usize,
    context: usize,
    query: Vec<f32>,
    caches: Vec<f16>,
    mask: Vec<f32>,
    scores: Vec<f32>,
    out: Vec<f32>,
}

impl<'a> Layers<'a> {
    /// The last queries of those that see `seen` keys.
    fn new(ctx: &'a Context, queries: usize, context: usize, seen: usize) -> Self {
        let sees = |i: usize| i % context + queries <= seen + i / context;
        let hidden = |i: usize| if sees(i) { 0.0 } else { f32::NEG_INFINITY };
        Self {
            ctx,
            queries,
            context,
            query: (0..HEADS * queries * WIDTH).map(|i| (i % 7) as f32 / 7.0 - 0.4).collect(),
            caches: vec![f16::from_f32(0.25); LAYERS * 2 * SHARED * context * WIDTH],
            mask: (0..queries * context).map(hidden).collect(),
            scores: vec![0.0; HEADS * queries * context],
            out: vec![0.0; HEADS * queries * WIDTH],
        }
    }

    fn product(&self, values: bool, a: &[f32], cache: &[f16], c: &mut [f32]) {
        let (depth, cols) = if values { (self.context, WIDTH) } else { (WIDTH, self.context) };
        let b = Matrix::row_major(cache, self.context, WIDTH);
        let b = if values { b } else { b.transposed() };
        // Heads that share a cache, of a query each, are the rows of one product.
        let rows = if self.queries == 1 { HEADS / SHARED } else { self.queries };
        let count = HEADS * self.queries / rows;
        let b_repeat = count / SHARED;
        let (a_step, c_step) = (rows * depth, rows * cols);
        let batch = BatchStrides { count, a: a_step, b: self.context * WIDTH, b_repeat, c: c_step };
        let a = Matrix::row_major(a, rows, depth);
        let c = MatrixMut::row_major(c, rows, cols);
        let order = Order::of_halves(self.queries * HEADS / SHARED);
        expect(attention_matmul(self.ctx, order, batch, a, b, c));
    }

    fn apart(&mut self, key: usize) {
        let size = SHARED * self.context * WIDTH;
        let (mut scores, mut out) =
            (std::mem::take(&mut self.scores), std::mem::take(&mut self.out));
        self.product(false, &self.query, &self.caches[key..][..size], &mut scores);
        scores.iter_mut().for_each(|score| *score *= SCALE);
        for scores in scores.chunks_mut(self.mask.len()) {
            scores.iter_mut().zip(&self.mask).for_each(|(score, mask)| *score += mask);
        }
        expect(softmax::softmax(self.ctx, &mut scores, HEADS * self.queries, self.context, 1));
        self.product(true, &scores, &self.caches[key + size..][..size], &mut out);
        (self.scores, self.out) = (scores, out);
    }

    fn together(&mut self, key: usize) {
        let (queries, context) = (self.queries, self.context);
        let size = SHARED * context * WIDTH;
        let cache = |at: usize| Table::F16(&self.caches[at..][..size]);
        // As above: the queries of a head are those of heads that share a cache.
        let (rows, group) =
            if queries == 1 { (HEADS / SHARED, 1) } else { (queries, HEADS / SHARED) };
        let step = rows * WIDTH;
        let steps = [group * step, step];
        let shared = [context * WIDTH, 0];
        let mask_row = if queries == 1 { 0 } else { context };
        let mask = Heads { data: Mask::Float(&self.mask), batch: &[0, 0], row: mask_row, col: 1 };
        let sizes = AttentionSizes {
            batch: &[SHARED, group],
            queries: rows,
            keys: context,
            width: WIDTH,
            value_width: WIDTH,
        };
        expect(attention(
            self.ctx,
            sizes,
            Scoring { scale: SCALE, mask: Some(mask), unseen: 0.0 },
            Heads { data: &self.query, batch: &steps, row: WIDTH, col: 1 },
            Heads { data: cache(key), batch: &shared, row: WIDTH, col: 1 },
            Heads { data: cache(key + size), batch: &shared, row: WIDTH, col: 1 },
            &mut self.out,
        ));
    }

    /// Microseconds of the fastest run apart and together.
    fn compare(&mut self) -> (f64, f64) {
        let step = 2 * SHARED * self.context * WIDTH;
        let mut best = [f64::INFINITY; 2];
        for round in 0..ROUNDS {
            let key = round % LAYERS * step;
            let start = Instant::now();
            self.apart(key);
            let middle = Instant::now();
            // Another layer, which the run before has not brought near.
            self.together((round + LAYERS / 2) % LAYERS * step);
            best[0] = best[0].min((middle - start).as_secs_f64());
            best[1] = best[1].min(middle.elapsed().as_secs_f64());
        }
        (best[0] * 1e6, best[1] * 1e6)
    }
}

fn main() {
    let bench = Bench::new();
    bench.ctx.workers().enter(|| {
        for (queries, context, seen) in [
            (1, 512, 16),
            (1, 512, 256),
            (1, 512, 512),
            (1, 4096, 128),
            (1, 4096, 2048),
            (1, 4096, 4096),
            (64, 512, 64),
            (64, 512, 512),
            (64, 4096, 64),
            (64, 4096, 2048),
        ] {
            let name = format!("{queries} of {context}, {seen} seen");
            if !bench.wants(&name) {
                continue;
            }
            let mut layers = Layers::new(&bench.ctx, queries, context, seen);
            let (apart, together) = layers.compare();
            let ratio = apart / together;
            println!("{name:<32} {apart:>10.2} us apart {together:>10.2} us, {ratio:.2} times");
            let work = 2 * HEADS * queries * seen * WIDTH;
            bench.report(&name, work, "MAC", || layers.together(0));
        }
    });
}
