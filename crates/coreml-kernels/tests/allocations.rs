//! Kernels that have run before ask nothing of the allocator, on any number of threads.
#![allow(unsafe_code, clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use coreml_kernels::{
    BatchStrides, Blockwise, ColumnLayout, Context, ConvParams, ConvTransposeParams, Encoding,
    Matrix, MatrixMut, Numerics, Order, OutputLayout, Palettized, PoolParams, Pooling, SpatialDim,
    Table, Weights, Workers, attention_matmul, conv, conv_transpose, convert, norm, pool, project,
    softmax, vecmath,
};
use half::f16;

/// The system's allocator, counting how often any thread asks it for memory.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is left to the system's allocator; growing a block in place (`realloc`) goes
// through `alloc` by default and is thus counted too.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above; the memory comes from `alloc`.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often each case runs before and while it is counted. A case has up to 24 tasks, so that one
/// allocation per call or task would show as 40 to 1000.
const RUNS: usize = 40;

/// Allocations of all those runs that are no fault: two threads may have met in a task for the
/// first time only now, so that a buffer of each kind (tables, scales, offsets, unpacked elements,
/// results) is needed twice; the test's own harness takes a block of memory now and then.
const ALLOWED: usize = 12;

/// Each of the products of the `gemm-f32` crate takes two blocks of memory.
const FOR_A_PRODUCT: usize = 2;

/// Counts what `run` allocates once it has run before.
fn check(name: &str, ctx: &Context, run: impl FnMut() + Send) {
    check_products(name, ctx, 0, run);
}

/// As [`check`], of what consists of at most so many products of the `gemm-f32` crate.
fn check_products(name: &str, ctx: &Context, products: usize, mut run: impl FnMut() + Send) {
    let count = ctx.workers().enter(|| {
        (0..RUNS).for_each(|_| run());
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        (0..RUNS).for_each(|_| run());
        ALLOCATIONS.load(Ordering::Relaxed) - before
    });
    let threads = ctx.workers().threads();
    let allowed = ALLOWED + FOR_A_PRODUCT * products * RUNS;
    assert!(count <= allowed, "{name}, {threads} threads: {count} allocations in {RUNS} runs");
}

/// Products of a few columns and expansion.
fn check_weights(name: &str, ctx: &Context, w: &Weights) {
    let x = vec![0.5; w.cols * 3];
    let mut out = vec![0.0; w.rows * 3];
    for count_s in [1, 3] {
        let from = ColumnLayout { stride_k: count_s, stride_s: 1 };
        let to = OutputLayout { stride_n: count_s, stride_s: 1 };
        check(&format!("{name}, {count_s} columns"), ctx, || {
            project(ctx, Numerics::Halves, w, &x, from, count_s, None, &mut out, to).unwrap();
        });
    }
    let mut values = vec![0.0; w.rows * w.cols];
    check(&format!("{name}, expanded"), ctx, || {
        w.dequantize_rows(ctx, 0..w.rows, &mut values).unwrap();
    });
}

/// Every encoding, in rows that start on bytes and rows that do not.
fn check_encodings(ctx: &Context) {
    // An odd number of columns makes rows of less than a byte's elements start anywhere.
    for cols in [1024, 1025] {
        let rows = 192;
        let (halves, floats) = (vec![f16::ONE; rows * cols], vec![1.0f32; rows * cols]);
        let encodings = [Encoding::F16(&halves), Encoding::F32(&floats)];
        for (name, encoding) in ["f16", "f32"].into_iter().zip(encodings) {
            check_weights(name, ctx, &Weights { rows, cols, encoding });
        }
        for bits in [1u8, 2, 3, 4, 6, 8] {
            let packed = vec![0x5a; (rows * cols * usize::from(bits)).div_ceil(8)];
            for (parts, half) in [(1, true), (1, false), (if cols == 1024 { 4 } else { 5 }, true)] {
                let size = (rows / 8 * parts) << bits;
                let table =
                    if half { Table::F16(&halves[..size]) } else { Table::F32(&floats[..size]) };
                let p = Palettized {
                    bits,
                    indices: &packed,
                    lut: table,
                    rows_per_group: 8,
                    cols_per_group: cols / parts,
                };
                let w = Weights { rows, cols, encoding: Encoding::Palettized(p) };
                check_weights(&format!("{bits} bits, {parts} tables"), ctx, &w);
                let b = Blockwise {
                    bits,
                    signed: half,
                    data: &packed,
                    scale: Table::F16(&halves[..rows * parts]),
                    offset: half.then_some(Table::F32(&floats[..rows * parts])),
                    rows_per_block: 1,
                    cols_per_block: cols / parts,
                    rounded: half,
                };
                let w = Weights { rows, cols, encoding: Encoding::Blockwise(b) };
                check_weights(&format!("{bits} bits, {parts} scales"), ctx, &w);
            }
        }
    }
}

fn check_attention(ctx: &Context) {
    let (heads, size, positions) = (8, 64, 300);
    let (a, b) = (vec![0.5; heads * positions], vec![f16::ONE; heads * size * positions]);
    let mut c = vec![0.0; heads * positions];
    for (name, n, k) in [("keys", positions, size), ("values", size, positions)] {
        let batch = BatchStrides { count: heads, a: k, b: size * positions, b_repeat: 2, c: n };
        let b = Matrix::row_major(&b, positions, size);
        let b = if name == "keys" { b.transposed() } else { b };
        check(name, ctx, || {
            let (a, c) = (Matrix::row_major(&a, 1, k), MatrixMut::row_major(&mut c, 1, n));
            attention_matmul(ctx, Order::Lanes, batch, a, b, c).unwrap();
        });
    }
}

fn check_others(ctx: &Context) {
    let mut values = vec![0.5; 256 * 1024];
    let mut halves = vec![f16::ONE; values.len()];
    check("norm, softmax, silu, conversions", ctx, || {
        norm::rms_norm(ctx, &mut values, 1024, None, 1e-6).unwrap();
        softmax::softmax(ctx, &mut values, 256, 1024, 1).unwrap();
        vecmath::silu(ctx, &mut values);
        convert::f32_to_f16(ctx, &values, &mut halves).unwrap();
        convert::f16_to_f32(ctx, &halves, &mut values).unwrap();
    });
    let spatial = [64; 2].map(|input| SpatialDim {
        input,
        kernel: 3,
        stride: 1,
        dilation: 1,
        pad_begin: 1,
        pad_end: 1,
    });
    let params = ConvParams {
        batch: 1,
        in_channels: 64,
        out_channels: 64,
        groups: 64,
        spatial: &spatial,
        numerics: Numerics::Halves,
    };
    let filters = vec![f16::ONE; 64 * 9];
    let w = Weights { rows: 64, cols: 9, encoding: Encoding::F16(&filters) };
    let mut out = vec![0.0; values.len()];
    check("depthwise convolution", ctx, || {
        conv(ctx, &params, &values, &w, None, &mut out).unwrap();
    });
    let params = PoolParams {
        planes: 64,
        spatial: &spatial,
        output: &[64, 64],
        pooling: Pooling::Average { padding: false },
    };
    check("pooling", ctx, || pool(ctx, &params, &values, &mut out).unwrap());
    let params = ConvTransposeParams {
        batch: 1,
        in_channels: 64,
        out_channels: 64,
        groups: 1,
        input: &[64, 64],
        spatial: &spatial,
    };
    let filters = vec![0.5; 64 * 64 * 9];
    check_products("transposed convolution", ctx, 20, || {
        conv_transpose(ctx, &params, &values, &filters, None, &mut out).unwrap();
    });
}

/// One test, as other tests' allocations would count.
#[test]
fn no_kernel_allocates_twice() {
    for workers in [Workers::serial(), Workers::new(2).unwrap()] {
        let ctx = Context::new(workers);
        check_encodings(&ctx);
        check_attention(&ctx);
        check_others(&ctx);
    }
}
