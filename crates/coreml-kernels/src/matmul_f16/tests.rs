use super::*;
use crate::context::Workers;
use crate::gemm::{gemm, gemm_batch};
use crate::isa::Isa;

fn sample(count: usize, seed: u32) -> Vec<f32> {
    let hash = |i: usize| (i as u32).wrapping_add(seed).wrapping_mul(2_654_435_761) >> 8;
    (0..count).map(|i| hash(i) as f32 / 8_388_608.0 - 1.0).collect()
}

/// The definition, for product `h` of a batch.
fn exact(
    batch: &BatchStrides,
    a: &Matrix<f32>,
    b: &Matrix<f16>,
    h: usize,
    i: usize,
    j: usize,
) -> f64 {
    let (a_from, b_from) = (h * batch.a, h / batch.b_repeat * batch.b);
    let a_at = |p: usize| a.data[a_from + i * a.row_stride + p * a.col_stride];
    let b_at = |p: usize| b.data[b_from + p * b.row_stride + j * b.col_stride];
    (0..a.cols).map(|p| f64::from(a_at(p)) * b_at(p).to_f64()).sum()
}

/// Checks the batch, and its products one by one, in both precisions.
fn check(
    ctx: &Context,
    batch: BatchStrides,
    a: Matrix<f32>,
    b: Matrix<f16>,
    by_row: bool,
    alpha: f32,
) {
    let (m, n) = (a.rows, b.cols);
    let wide: Vec<f32> = b.data.iter().map(|b| b.to_f32()).collect();
    let wide = Matrix {
        data: &wide,
        rows: b.rows,
        cols: n,
        row_stride: b.row_stride,
        col_stride: b.col_stride,
    };
    let (row_stride, col_stride) = if by_row { (n, 1) } else { (1, m) };
    fn out<'a>(data: &'a mut [f32], sizes: (usize, usize), by_row: bool) -> MatrixMut<'a> {
        let (rows, cols) = sizes;
        if by_row {
            MatrixMut::row_major(data, rows, cols)
        } else {
            MatrixMut::row_major(data, cols, rows).transposed()
        }
    }
    let sizes = (m, n);
    let mut all = [0, 1].map(|_| vec![f32::NAN; batch.count * batch.c]);
    attention_matmul(ctx, batch, a, b, out(&mut all[0], sizes, by_row), alpha).unwrap();
    gemm_batch(ctx, batch, a, wide, out(&mut all[1], sizes, by_row), alpha).unwrap();
    let mut one = [0, 1].map(|_| vec![f32::NAN; batch.c]);
    for h in 0..batch.count {
        let (a_from, b_from) = (h * batch.a, h / batch.b_repeat * batch.b);
        matmul_f16(ctx, a.offset(a_from), b.offset(b_from), out(&mut one[0], sizes, by_row), alpha)
            .unwrap();
        gemm(ctx, a.offset(a_from), wide.offset(b_from), out(&mut one[1], sizes, by_row), alpha)
            .unwrap();
        for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
            let exact = exact(&batch, &a, &b, h, i, j) * f64::from(alpha);
            let limit = 1e-6 * a.cols as f64 + 2e-6;
            let at = i * row_stride + j * col_stride;
            let got = [&all[0][h * batch.c..], &all[1][h * batch.c..], &one[0], &one[1]];
            for got in got.map(|c| c[at]) {
                let error = (f64::from(got) - exact).abs();
                assert!(error < limit, "{ctx:?}: {h} {i} {j}: {got}, expected {exact}");
            }
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

/// Strides of `b` that are dense down the columns, dense along the rows, or neither.
fn strides(which: usize, n: usize, k: usize) -> (usize, usize) {
    [(1, k), (n, 1), (2 * n, 2)][which]
}

fn halves(count: usize, seed: u32) -> Vec<f16> {
    sample(count, seed).into_iter().map(f16::from_f32).collect()
}

proptest::proptest! {
    #[test]
    fn heads_match_the_definition(m in 0usize..12, n in 0usize..40, k in 0usize..40,
                                  count in 0usize..5, b_repeat in 1usize..4, dense in 0usize..3,
                                  by_row in proptest::bool::ANY, alpha in -2.0f32..2.0) {
        let a = sample(count * m * k, 1);
        let b = halves(count.div_ceil(b_repeat) * n * k * 2, 2);
        let (row_stride, col_stride) = strides(dense, n, k);
        let batch = BatchStrides { count, a: m * k, b: 2 * n * k, b_repeat, c: m * n };
        let b = Matrix { data: &b, rows: k, cols: n, row_stride, col_stride };
        for isa in Isa::available() {
            let ctx = Context::with_isa(Workers::shared(), isa);
            check(&ctx, batch, Matrix::row_major(&a, m, k), b, by_row, alpha);
        }
    }
}

/// Large enough to be divided: by heads where these suffice, within them where they do not.
#[test]
fn large() {
    let (n, k) = (190, 170);
    for (count, m) in [(6, 1), (4, 20), (2, 6), (1, 8), (1, 33), (1, 300)] {
        let (a, b) = (sample(count * m * k, 1), halves(2 * count * n * k, 2));
        for which in 0..3 {
            let (row_stride, col_stride) = strides(which, n, k);
            let batch = BatchStrides { count, a: m * k, b: n * k, b_repeat: 2, c: m * n + 5 };
            let b = Matrix { data: &b, rows: k, cols: n, row_stride, col_stride };
            for ctx in contexts() {
                check(&ctx, batch, Matrix::row_major(&a, m, k), b, which == 1, 0.5);
            }
        }
    }
}

#[test]
fn refuses_what_does_not_fit() {
    let (a, b) = ([0.0; 6], [f16::ZERO; 6]);
    let ctx = Context::new(Workers::serial());
    let run = |b_rows, b_stride, c_stride| {
        let b = Matrix { row_stride: b_stride, ..Matrix::row_major(&b, b_rows, 2) };
        let mut c = [0.0; 4];
        let c = MatrixMut { row_stride: c_stride, ..MatrixMut::row_major(&mut c, 2, 2) };
        matmul_f16(&ctx, Matrix::row_major(&a, 2, 3), b, c, 1.0)
    };
    assert!(run(3, 2, 2).is_ok());
    assert!(run(3, 3, 2).is_err());
    assert!(run(3, 2, 0).is_err());
    assert!(run(3, usize::MAX, 2).is_err());
    let error = run(2, 2, 2).unwrap_err();
    assert_eq!(error.to_string(), "matmul_f16: `b.rows` is 2, expected 3");
}

#[test]
fn refuses_batches_that_do_not_fit() {
    let (a, b) = ([0.0; 12], [0.0; 12]);
    let ctx = Context::new(Workers::serial());
    let good = BatchStrides { count: 2, a: 6, b: 6, b_repeat: 1, c: 4 };
    let run = |batch| {
        let mut c = [f32::NAN; 8];
        let (a, b) = (Matrix::row_major(&a, 2, 3), Matrix::row_major(&b, 3, 2));
        gemm_batch(&ctx, batch, a, b, MatrixMut::row_major(&mut c, 2, 2), 1.0).map(|()| c)
    };
    assert_eq!(run(good), Ok([0.0; 8]));
    assert!(run(BatchStrides { b_repeat: 0, ..good }).is_err());
    assert!(run(BatchStrides { c: 3, ..good }).is_err());
    assert!(run(BatchStrides { c: 0, ..good }).is_err());
    assert!(run(BatchStrides { a: 7, ..good }).is_err());
    assert!(run(BatchStrides { b: usize::MAX, ..good }).is_err());
    assert!(run(BatchStrides { b: 7, b_repeat: 2, ..good }).is_ok(), "one `b` only");
    assert!(run(BatchStrides { count: usize::MAX, ..good }).is_err());
}
