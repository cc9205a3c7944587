//! Speed of the kernels at the sizes that language models have, next to what reading memory allows.
//!
//! `cargo bench -p coreml-kernels --bench project [-- FILTER]`; `RAYON_NUM_THREADS=1` for a single
//! thread. One line per case: its name, microseconds of the fastest run, work per second.
#![allow(clippy::print_stdout)]

mod common;

use std::hint::black_box;

use common::{Bench, expect};
use coreml_kernels::{
    BatchStrides, Blockwise, ColumnLayout, Encoding, Matrix, MatrixMut, Numerics, Order,
    OutputLayout, Palettized, Table, Weights, attention_matmul, gemm_batch, norm, project, softmax,
    vecmath,
};
use half::f16;

impl Bench {
    /// Adds up a large buffer.
    fn read(&self, buffer: &mut [u64]) {
        let bytes = size_of_val(buffer);
        let part = buffer.len().div_ceil(self.ctx.workers().threads());
        self.report("read 512 MB", bytes, "B", || {
            self.ctx.workers().for_each_chunk_mut(buffer, part, |_, part| {
                black_box(part.iter().fold(0u64, |sum, &x| sum.wrapping_add(x)));
            });
        });
    }

    /// A product with `columns` columns, which lie as in a convolution: channel by channel.
    fn project(&self, name: &str, numerics: Numerics, w: &Weights, columns: usize) {
        let (x, mut out) = (vec![0.5f32; w.cols * columns], vec![0.0f32; w.rows * columns]);
        let x_layout = ColumnLayout { stride_k: columns, stride_s: 1 };
        let out_layout = OutputLayout { stride_n: columns, stride_s: 1 };
        let name = format!("{name} {}x{} {columns}", w.rows, w.cols);
        self.report(&name, w.rows * w.cols * columns, "MAC", || {
            expect(project(
                &self.ctx, numerics, w, &x, x_layout, columns, None, &mut out, out_layout,
            ));
        });
    }

    /// All encodings of one size.
    fn encodings(&self, bytes: &[u8], rows: usize, cols: usize, columns: usize) {
        let count = rows * cols;
        let (values, wide) = (vec![f16::ONE; count], vec![1.0; count]);
        let project = |name: &str, encoding: Encoding| {
            let w = Weights { rows, cols, encoding };
            self.project(name, Numerics::Halves, &w, columns);
            self.project(&format!("{name} strict"), Numerics::Strict, &w, columns);
        };
        project("f16", Encoding::F16(&values));
        project("f32", Encoding::F32(&wide));
        for bits in [4u8, 6, 8] {
            let lut = vec![f16::ONE; (rows / 8) << bits];
            let indices = &bytes[..count * usize::from(bits) / 8];
            let lut = Table::F16(&lut);
            let p = Palettized { bits, indices, lut, rows_per_group: 8, cols_per_group: cols };
            project(&format!("lut{bits}"), Encoding::Palettized(p));
        }
        for (bits, cols_per_block) in [(4u8, 32), (8, cols)] {
            let scale = vec![f16::ONE; count / cols_per_block];
            let data = &bytes[..count * usize::from(bits) / 8];
            let scale = Table::F16(&scale);
            let (signed, offset, rows_per_block) = (true, None, 1);
            let (scale, rounded) = (scale, true);
            let b = Blockwise {
                bits,
                signed,
                data,
                scale,
                offset,
                rows_per_block,
                cols_per_block,
                rounded,
            };
            project(&format!("int{bits}"), Encoding::Blockwise(b));
        }
    }

    /// Queries times keys and weights times values: 16 heads of 128 over 448 positions.
    fn attention(&self, queries: usize) {
        let (heads, size, positions) = (16, 128, 448);
        let (x, cache) = (vec![0.5; heads * queries * positions], vec![f16::ONE; 8 * size * 512]);
        let mut out = vec![0.0; heads * queries * positions];
        for (name, n, k) in [("keys", positions, size), ("values", size, positions)] {
            let (a, c) = (queries * k, queries * n);
            let batch = BatchStrides { count: heads, a, b: size * 512, b_repeat: 2, c };
            let b = Matrix::row_major(&cache, positions, size);
            let b = if name == "keys" { b.transposed() } else { b };
            let work = heads * queries * size * positions;
            self.report(&format!("attention {name} {queries}"), work, "MAC", || {
                let a = Matrix::row_major(&x, queries, k);
                let c = MatrixMut::row_major(&mut out, queries, n);
                expect(attention_matmul(&self.ctx, Order::of_halves(queries), batch, a, b, c));
            });
        }
    }

    fn elementwise(&self, rows: usize) {
        let (hidden, inner, positions) = (1024, 3072, 512);
        let mut values = vec![0.5; rows * inner];
        self.report(&format!("silu {rows}x{inner}"), values.len(), "", || {
            vecmath::silu(&self.ctx, &mut values);
        });
        let (mut values, gamma) = (vec![0.5; rows * hidden], vec![1.0; hidden]);
        self.report(&format!("rms_norm {rows}x{hidden}"), values.len(), "", || {
            expect(norm::rms_norm(&self.ctx, &mut values, hidden, Some(&gamma), 1e-6));
        });
        self.report(&format!("layer_norm {rows}x{hidden}"), values.len(), "", || {
            expect(norm::layer_norm(&self.ctx, &mut values, hidden, Some(&gamma), None, 1e-6));
        });
        let mut values = vec![0.5; 16 * rows * positions];
        self.report(&format!("softmax {}x{positions}", 16 * rows), values.len(), "", || {
            expect(softmax::softmax(&self.ctx, &mut values, 16 * rows, positions, 1));
        });
    }

    fn gemm(&self, m: usize, n: usize, k: usize) {
        let (a, b, mut c) = (vec![0.5; m * k], vec![0.5; k * n], vec![0.0; m * n]);
        self.report(&format!("gemm {m}x{n}x{k}"), m * n * k, "MAC", || {
            let (a, b) = (Matrix::row_major(&a, m, k), Matrix::row_major(&b, k, n));
            let batch = BatchStrides { count: 1, a: 0, b: 0, b_repeat: 1, c: 0 };
            let c = MatrixMut::row_major(&mut c, m, n);
            expect(gemm_batch(&self.ctx, Order::of_floats(m, n, k), batch, a, b, c));
        });
    }
}

fn main() {
    let bench = Bench::new();
    let mut buffer: Vec<u64> = (0..1u64 << 26).collect();
    bench.ctx.workers().enter(|| {
        bench.read(&mut buffer);
        let bytes: &[u8] = bytemuck::cast_slice(&buffer);
        for (rows, cols, columns) in [
            (1024, 3072, 1),
            (131_072, 1024, 1),
            (3072, 1024, 2),
            (3072, 1024, 3),
            (3072, 1024, 4),
            (3072, 1024, 8),
            (3072, 1024, 64),
            (4096, 1024, 448),
        ] {
            bench.encodings(bytes, rows, cols, columns);
        }
        for rows in [1, 64] {
            bench.attention(rows);
            bench.elementwise(rows);
        }
        bench.gemm(512, 512, 512);
        bench.gemm(64, 3072, 1024);
        bench.gemm(1, 3072, 1024);
    });
}
