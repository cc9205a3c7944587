//! Products of matrices: the same bits whatever strides, threads and neighbours.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use coreml_kernels::{
    BatchStrides, Context, Isa, KernelError, Matrix, MatrixMut, Order, Workers, attention_matmul,
    gemm_batch,
};
use half::f16;
use proptest::prelude::*;

const ONE: BatchStrides = BatchStrides { count: 1, a: 0, b: 0, b_repeat: 1, c: 0 };

fn sample(count: usize, seed: u32) -> Vec<f32> {
    let hash = |i: usize| (i as u32).wrapping_add(seed).wrapping_mul(2_654_435_761) >> 8;
    // Halves, so that both precisions give the same.
    let value = |i: usize| f16::from_f32(hash(i) as f32 / 8_388_608.0 - 1.0).to_f32();
    (0..count).map(value).collect()
}

/// A matrix laid out in one of many ways, in memory of its own.
#[derive(Clone)]
struct Laid {
    data: Vec<f32>,
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

const LAYOUTS: usize = 5;

impl Laid {
    fn new(rows: usize, cols: usize, values: &[f32], layout: usize) -> Self {
        // Dense rows, dense columns, rows apart, columns apart, and neither dense.
        let (row_stride, col_stride) =
            [(cols, 1), (1, rows), (cols + 3, 1), (1, rows + 5), (2 * cols, 2)][layout];
        let size = rows.max(1) * row_stride.max(1) + cols.max(1) * col_stride.max(1);
        let mut laid = Laid { data: vec![f32::NAN; size], rows, cols, row_stride, col_stride };
        for i in 0..rows {
            for j in 0..cols {
                laid.data[i * row_stride + j * col_stride] = values[i * cols + j];
            }
        }
        laid
    }

    fn matrix<'a, T>(&self, data: &'a [T]) -> Matrix<'a, T> {
        let &Laid { rows, cols, row_stride, col_stride, .. } = self;
        Matrix { data, rows, cols, row_stride, col_stride }
    }
}

/// The sum of products in an order; `fused` without rounding before each is added.
fn sum(order: Order, fused: bool, products: &[(f32, f32)]) -> f32 {
    let chain = |products: &mut dyn Iterator<Item = &(f32, f32)>| {
        products.fold(0.0f32, |sum, &(a, b)| if fused { a.mul_add(b, sum) } else { sum + a * b })
    };
    match order {
        Order::Chain => {
            let blocks = products.chunks(512).map(|block| chain(&mut block.iter()));
            blocks.reduce(|sum, block| sum + block).unwrap_or(0.0)
        }
        Order::Lanes => {
            let lane = |lane: usize| chain(&mut products.iter().skip(lane).step_by(16));
            let mut sums: Vec<f32> = (0..16).map(lane).collect();
            while sums.len() > 1 {
                let upper = sums.split_off(sums.len() / 2);
                sums.iter_mut().zip(upper).for_each(|(sum, upper)| *sum += upper);
            }
            sums[0]
        }
    }
}

/// Whether sums are fused: the portable code's are not, the library goes by the CPU.
fn fused(ctx: &Context, order: Order) -> bool {
    #[cfg(target_arch = "x86_64")]
    let library = is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    let library = cfg!(target_arch = "aarch64");
    if order == Order::Chain { library } else { ctx.isa() != Isa::Generic }
}

/// Checks one product in every layout and both precisions against the definition.
fn check(ctx: &Context, order: Order, (m, n, k): (usize, usize, usize)) {
    let (x, y) = (sample(m * k, 1), sample(k * n, 2));
    let element = |i: usize, j: usize| {
        let products: Vec<_> = (0..k).map(|p| (x[i * k + p], y[p * n + j])).collect();
        let exact: f64 = products.iter().map(|&(a, b)| f64::from(a) * f64::from(b)).sum();
        let sum = sum(order, fused(ctx, order), &products);
        assert!((f64::from(sum) - exact).abs() < 1e-6 * k as f64 + 1e-6);
        sum.to_bits()
    };
    let expected: Vec<u32> = (0..m * n).map(|at| element(at / n, at % n)).collect();
    for (of_a, of_b) in (0..LAYOUTS).flat_map(|a| (0..LAYOUTS).map(move |b| (a, b))) {
        let (a, b) = (Laid::new(m, k, &x, of_a), Laid::new(k, n, &y, of_b));
        let halves: Vec<f16> = b.data.iter().map(|&b| f16::from_f32(b)).collect();
        let by_column = of_b == 1;
        let mut c = [0, 1].map(|_| vec![f32::NAN; m * n]);
        let [floats, half] = c.each_mut().map(|c| match by_column {
            true => MatrixMut::row_major(c, n, m).transposed(),
            false => MatrixMut::row_major(c, m, n),
        });
        let (left, right) = (a.matrix(&a.data), b.matrix(&b.data));
        gemm_batch(ctx, order, ONE, left, right, floats).unwrap();
        attention_matmul(ctx, order, ONE, left, b.matrix(&halves), half).unwrap();
        for c in c {
            let at = |at: usize| if by_column { at % n * m + at / n } else { at };
            let got: Vec<u32> = (0..m * n).map(|i| c[at(i)].to_bits()).collect();
            assert_eq!(got, expected, "{ctx:?} {order:?} {m} {n} {k}, layouts {of_a} {of_b}");
        }
    }
}

fn contexts() -> impl Iterator<Item = Context> {
    let workers = [Workers::serial(), Workers::new(3).unwrap()];
    workers.into_iter().flat_map(|workers| {
        let of = move |isa| Context::with_isa(workers.clone(), isa);
        Isa::available().into_iter().map(of)
    })
}

proptest! {
    #[test]
    fn small_products_match_the_definition(m in 0usize..20, n in 0usize..40, k in 0usize..70) {
        for isa in Isa::available() {
            let ctx = Context::with_isa(Workers::shared(), isa);
            check(&ctx, Order::Lanes, (m, n, k));
            check(&ctx, Order::Chain, (m, n, k));
        }
    }
}

/// Deeper than a block, and large enough to be divided.
#[test]
fn large_products_match_the_definition() {
    for sizes in [(1, 190, 1100), (190, 1, 1100), (3, 300, 513), (33, 70, 600), (200, 17, 512)] {
        for ctx in contexts() {
            check(&ctx, Order::Lanes, sizes);
            check(&ctx, Order::Chain, sizes);
        }
    }
}

/// Products of a batch are what each is alone; large ones are divided by products, or within them.
#[test]
fn batches_are_many_products() {
    let (n, k) = (190, 170);
    for (count, m, b_repeat) in [(6, 1, 2), (4, 20, 2), (3, 6, 1), (2, 33, 3), (7, 2, 4)] {
        let (a, b) = (sample(count * m * k, 1), sample(count * n * k, 2));
        let halves: Vec<f16> = b.iter().map(|&b| f16::from_f32(b)).collect();
        let batch = BatchStrides { count, a: m * k, b: n * k, b_repeat, c: m * n + 5 };
        let orders = [Order::Lanes, Order::Chain].into_iter();
        for (order, ctx) in orders.flat_map(|order| contexts().map(move |ctx| (order, ctx))) {
            let run = |batch, a, b, halves, half, c: &mut [f32]| {
                let (a, c) = (Matrix::row_major(a, m, k), MatrixMut::row_major(c, m, n));
                if half {
                    let b = Matrix::row_major(halves, n, k).transposed();
                    attention_matmul(&ctx, order, batch, a, b, c).unwrap();
                } else {
                    let b = Matrix::row_major(b, n, k).transposed();
                    gemm_batch(&ctx, order, batch, a, b, c).unwrap();
                }
            };
            for half in [false, true] {
                let mut all = vec![f32::NAN; count * batch.c];
                run(batch, &a, &b, &halves, half, &mut all);
                for h in 0..count {
                    let (a, at) = (&a[h * batch.a..], h / b_repeat * batch.b);
                    let mut one = vec![f32::NAN; m * n];
                    run(ONE, a, &b[at..], &halves[at..], half, &mut one);
                    assert_eq!(all[h * batch.c..][..m * n], one, "{ctx:?} {order:?} {h}");
                }
            }
        }
    }
}

#[test]
fn refuses_what_does_not_fit() {
    let (a, b) = ([0.0; 6], [f16::ZERO; 6]);
    let ctx = Context::new(Workers::serial());
    for order in [Order::Lanes, Order::Chain] {
        let run = |b_rows, b_stride, c_stride| -> Result<(), KernelError> {
            let b = Matrix { row_stride: b_stride, ..Matrix::row_major(&b, b_rows, 2) };
            let mut c = [0.0; 4];
            let c = MatrixMut { row_stride: c_stride, ..MatrixMut::row_major(&mut c, 2, 2) };
            attention_matmul(&ctx, order, ONE, Matrix::row_major(&a, 2, 3), b, c)
        };
        assert!(run(3, 2, 2).is_ok());
        assert!(run(3, 3, 2).is_err());
        assert!(run(3, 2, 0).is_err());
        assert!(run(3, usize::MAX, 2).is_err());
        let error = run(2, 2, 2).unwrap_err();
        assert_eq!(error.to_string(), "attention_matmul: `b.rows` is 2, expected 3");
    }
}

#[test]
fn refuses_batches_that_do_not_fit() {
    let (a, b) = ([0.0; 12], [0.0; 12]);
    let ctx = Context::new(Workers::serial());
    let good = BatchStrides { count: 2, a: 6, b: 6, b_repeat: 1, c: 4 };
    let run = |batch| {
        let mut c = [f32::NAN; 8];
        let (a, b) = (Matrix::row_major(&a, 2, 3), Matrix::row_major(&b, 3, 2));
        let c_all = MatrixMut::row_major(&mut c, 2, 2);
        gemm_batch(&ctx, Order::Chain, batch, a, b, c_all).map(|()| c)
    };
    assert_eq!(run(good).unwrap(), [0.0; 8]);
    assert!(run(BatchStrides { b_repeat: 0, ..good }).is_err());
    assert!(run(BatchStrides { c: 3, ..good }).is_err());
    assert!(run(BatchStrides { c: 0, ..good }).is_err());
    assert!(run(BatchStrides { a: 7, ..good }).is_err());
    assert!(run(BatchStrides { b: usize::MAX, ..good }).is_err());
    assert!(run(BatchStrides { b: 7, b_repeat: 2, ..good }).is_ok(), "one `b` only");
    assert!(run(BatchStrides { count: usize::MAX, ..good }).is_err());
}
