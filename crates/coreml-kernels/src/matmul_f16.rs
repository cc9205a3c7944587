//! Products with half-precision matrices that change at run time: key-value caches.

use half::f16;
use rayon::prelude::*;

use crate::arch;
use crate::convert::widen;
use crate::error::{KernelError, check_distinct, check_strided};
use crate::gemm::{Matrix, multiply};
use crate::isa::Isa;
use crate::project::grown;

/// Rows of `a` up to which products are taken straight from the halves.
const DIRECT_ROWS: usize = 8;

/// Multiplications below which a second thread costs more than it brings.
const PARALLEL: usize = 1 << 17;

/// `c[i, j] = alpha * sum over p of a[i, p] * b[p, j]`, for `a` of `m` x `k`, `b` of `k` x `n`
/// and `c` of `m` x `n`; `_rs` and `_cs` are the distances in elements between rows and columns.
/// Few rows are computed straight from the halves on the calling thread; for many, `b` is widened
/// into `scratch`.
///
/// # Errors
/// If a slice is shorter than its sizes and strides reach, or elements of `c` coincide.
#[expect(clippy::too_many_arguments, reason = "the argument order every matrix library has")]
pub fn matmul_f16(
    m: usize,
    n: usize,
    k: usize,
    a: &[f32],
    a_rs: usize,
    a_cs: usize,
    b: &[f16],
    b_rs: usize,
    b_cs: usize,
    c: &mut [f32],
    c_rs: usize,
    c_cs: usize,
    alpha: f32,
    scratch: &mut Vec<f32>,
) -> Result<(), KernelError> {
    let a = Matrix { data: a, rs: a_rs, cs: a_cs };
    let call = Call { m, n, k, a, b, b_rs, b_cs, c_rs, c_cs, alpha };
    call.run(Isa::detect(), c, scratch)
}

/// Where the matrices of a batch start; see [`attention_matmul`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchStrides {
    /// The number of products.
    pub count: usize,
    /// Elements between the matrices `a`.
    pub a: usize,
    /// Elements between the matrices `b`.
    pub b: usize,
    /// Consecutive products that share a matrix `b`: query heads per key-value head.
    pub b_repeat: usize,
    /// Elements between the matrices `c`; each ends before the next one starts.
    pub c: usize,
}

/// [`matmul_f16`] for each head of an attention, spread over rayon's threads if large.
///
/// # Errors
/// As [`matmul_f16`]; also if `b_repeat` is zero or the matrices `c` overlap.
#[expect(clippy::too_many_arguments, reason = "the argument order every matrix library has")]
pub fn attention_matmul(
    batch: BatchStrides,
    m: usize,
    n: usize,
    k: usize,
    a: &[f32],
    a_rs: usize,
    a_cs: usize,
    b: &[f16],
    b_rs: usize,
    b_cs: usize,
    c: &mut [f32],
    c_rs: usize,
    c_cs: usize,
    alpha: f32,
    scratch: &mut Vec<f32>,
) -> Result<(), KernelError> {
    let a = Matrix { data: a, rs: a_rs, cs: a_cs };
    let call = Call { m, n, k, a, b, b_rs, b_cs, c_rs, c_cs, alpha };
    call.check_batch(batch, c.len())?;
    if batch.count == 0 || m == 0 || n == 0 {
        return Ok(());
    }
    let isa = Isa::detect();
    let run = |i: usize, c: &mut [f32], scratch: &mut Vec<f32>| {
        call.at(i * batch.a, i / batch.b_repeat * batch.b).run(isa, c, scratch)
    };
    let step = if batch.count == 1 { c.len() } else { batch.c };
    let work = batch.count.saturating_mul(m).saturating_mul(n).saturating_mul(k);
    if batch.count == 1 || work < PARALLEL {
        let mut matrices = c.chunks_mut(step).take(batch.count).enumerate();
        return matrices.try_for_each(|(i, c)| run(i, c, scratch));
    }
    c.par_chunks_mut(step)
        .take(batch.count)
        .enumerate()
        .try_for_each_init(Vec::new, |scratch, (i, c)| run(i, c, scratch))
}

/// All operands but the output.
#[derive(Clone, Copy)]
struct Call<'a> {
    m: usize,
    n: usize,
    k: usize,
    a: Matrix<'a>,
    b: &'a [f16],
    b_rs: usize,
    b_cs: usize,
    c_rs: usize,
    c_cs: usize,
    alpha: f32,
}

const KERNEL: &str = "matmul_f16";

impl Call<'_> {
    fn check(&self, c_len: usize) -> Result<(), KernelError> {
        let Self { m, n, k, .. } = *self;
        check_strided(KERNEL, "a", &[(m, self.a.rs), (k, self.a.cs)], self.a.data.len())?;
        check_strided(KERNEL, "b", &[(k, self.b_rs), (n, self.b_cs)], self.b.len())?;
        check_strided(KERNEL, "c", &[(m, self.c_rs), (n, self.c_cs)], c_len)?;
        check_distinct(KERNEL, "c", (m, self.c_rs), (n, self.c_cs))
    }

    fn check_batch(&self, batch: BatchStrides, c_len: usize) -> Result<(), KernelError> {
        let Self { m, n, k, .. } = *self;
        if batch.b_repeat == 0 {
            return Err(KernelError::value(KERNEL, "b_repeat", "at least 1", 0));
        }
        let (count, shared) = (batch.count, batch.count.div_ceil(batch.b_repeat));
        let (a, b) = (self.a, self.b);
        check_strided(KERNEL, "a", &[(count, batch.a), (m, a.rs), (k, a.cs)], a.data.len())?;
        check_strided(KERNEL, "b", &[(shared, batch.b), (k, self.b_rs), (n, self.b_cs)], b.len())?;
        check_strided(KERNEL, "c", &[(count, batch.c), (m, self.c_rs), (n, self.c_cs)], c_len)?;
        let span = check_strided(KERNEL, "c", &[(m, self.c_rs), (n, self.c_cs)], batch.c);
        if count > 1 && m > 0 && n > 0 && (batch.c == 0 || span.is_err()) {
            let expected = "at least the extent of one matrix `c`";
            return Err(KernelError::value(KERNEL, "batch stride of `c`", expected, batch.c));
        }
        Ok(())
    }

    /// The same product with matrices that start further on; starts beyond the end are empty.
    fn at(&self, a: usize, b: usize) -> Self {
        let mut call = *self;
        call.a.data = self.a.data.get(a..).unwrap_or(&[]);
        call.b = self.b.get(b..).unwrap_or(&[]);
        call
    }

    fn run(&self, isa: Isa, c: &mut [f32], scratch: &mut Vec<f32>) -> Result<(), KernelError> {
        self.check(c.len())?;
        if self.m == 0 || self.n == 0 {
            return Ok(());
        }
        let few = self.m <= DIRECT_ROWS && self.k > 0;
        if few && (self.b_rs == 1 || self.k == 1) {
            self.dots(isa, c, scratch);
        } else if few && (self.b_cs == 1 || self.n == 1) {
            self.sums(isa, c, scratch);
        } else {
            return self.widened(isa, c, scratch);
        }
        Ok(())
    }

    /// Columns of `b` are dense: one dot product per output.
    fn dots(&self, isa: Isa, c: &mut [f32], scratch: &mut Vec<f32>) {
        let Self { m, n, k, a, .. } = *self;
        let rows = grown(scratch, m * k);
        for (i, row) in rows.chunks_exact_mut(k).enumerate() {
            for (p, value) in row.iter_mut().enumerate() {
                *value = self.alpha * a.data[i * a.rs + p * a.cs];
            }
        }
        for j in 0..n {
            let column = &self.b[j * self.b_cs..][..k];
            for (i, row) in rows.chunks_exact(k).enumerate() {
                c[i * self.c_rs + j * self.c_cs] = arch::dot_f16(isa, column, row);
            }
        }
    }

    /// Rows of `b` are dense: each is added to the output rows with its factor.
    fn sums(&self, isa: Isa, c: &mut [f32], scratch: &mut Vec<f32>) {
        let Self { m, n, k, a, .. } = *self;
        let rows = grown(scratch, m * n);
        rows.fill(0.0);
        for p in 0..k {
            let row = &self.b[p * self.b_rs..][..n];
            for (i, sums) in rows.chunks_exact_mut(n).enumerate() {
                arch::axpy_f16(isa, self.alpha * a.data[i * a.rs + p * a.cs], row, sums);
            }
        }
        for (i, sums) in rows.chunks_exact(n).enumerate() {
            for (j, &sum) in sums.iter().enumerate() {
                c[i * self.c_rs + j * self.c_cs] = sum;
            }
        }
    }

    fn widened(&self, isa: Isa, c: &mut [f32], scratch: &mut Vec<f32>) -> Result<(), KernelError> {
        let Self { m, n, k, b_rs, b_cs, .. } = *self;
        let wide = grown(scratch, n * k);
        let by_column = b_rs == 1;
        let (lines, length) = if by_column { (b_cs, k) } else { (b_rs, n) };
        if length > 0 {
            for (i, line) in wide.chunks_exact_mut(length).enumerate() {
                let from = &self.b[i * lines..];
                if by_column || b_cs == 1 {
                    widen(isa, &from[..length], line);
                } else {
                    line.iter_mut().enumerate().for_each(|(j, x)| *x = from[j * b_cs].to_f32());
                }
            }
        }
        let (rs, cs) = if by_column { (1, k) } else { (n, 1) };
        let b = Matrix { data: wide, rs, cs };
        multiply([m, n, k], self.a, b, c, [self.c_rs, self.c_cs], self.alpha, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(count: usize, seed: u32) -> Vec<f32> {
        let hash = |i: usize| (i as u32).wrapping_add(seed).wrapping_mul(2_654_435_761) >> 8;
        (0..count).map(|i| hash(i) as f32 / 8_388_608.0 - 1.0).collect()
    }

    proptest::proptest! {
        #[test]
        fn heads_match_the_definition(m in 0usize..12, n in 0usize..40, k in 0usize..40,
                                      heads in 0usize..5, repeat in 1usize..4, b_dense in 0usize..3,
                                      by_row in proptest::bool::ANY, alpha in -2.0f32..2.0) {
            let a = sample(heads * m * k, 1);
            let shared = heads.div_ceil(repeat);
            let b: Vec<f16> = sample(shared * n * k * 2, 2).into_iter().map(f16::from_f32).collect();
            // Dense down the columns, dense along the rows, or neither.
            let (b_rs, b_cs) = [(1, k), (n, 1), (2 * n, 2)][b_dense];
            let (c_rs, c_cs) = if by_row { (n, 1) } else { (1, m) };
            let batch = BatchStrides { count: heads, a: m * k, b: 2 * n * k, b_repeat: repeat, c: m * n };
            for isa in Isa::available() {
                let mut c = vec![f32::NAN; heads * m * n];
                let mut scratch = vec![f32::NAN; 7];
                attention_matmul(batch, m, n, k, &a, k, 1, &b, b_rs, b_cs, &mut c, c_rs, c_cs, alpha,
                                 &mut scratch).unwrap();
                for h in 0..heads {
                    let call = Call { m, n, k, a: Matrix { data: &a, rs: k, cs: 1 }, b: &b, b_rs,
                                      b_cs, c_rs, c_cs, alpha };
                    let mut alone = vec![f32::NAN; m * n];
                    call.at(h * m * k, h / repeat * 2 * n * k).run(isa, &mut alone, &mut scratch).unwrap();
                    for i in 0..m {
                        for j in 0..n {
                            let exact: f64 = (0..k).map(|p| f64::from(a[h * m * k + i * k + p])
                                * b[h / repeat * 2 * n * k + p * b_rs + j * b_cs].to_f64()).sum();
                            let exact = exact * f64::from(alpha);
                            let at = i * c_rs + j * c_cs;
                            for got in [c[h * m * n + at], alone[at]] {
                                proptest::prop_assert!((f64::from(got) - exact).abs() < 2e-5);
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let (a, b) = ([0.0; 6], [f16::ZERO; 6]);
        let mut c = [0.0; 4];
        let mut run = |b_rs, c_rs| {
            let mut scratch = Vec::new();
            matmul_f16(2, 2, 3, &a, 3, 1, &b, b_rs, 1, &mut c, c_rs, 1, 1.0, &mut scratch)
        };
        assert!(run(2, 2).is_ok());
        assert!(run(3, 2).is_err());
        assert!(run(2, 0).is_err());
        assert!(run(usize::MAX, 2).is_err());
    }
}
