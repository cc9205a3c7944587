//! Normalisation over trailing axes.

use crate::arch::compiled::{self, Loop};
use crate::context::Context;
use crate::error::{KernelError, check_len};
use crate::thresholds;

/// Lanes a sum is kept in.
const LANES: usize = 16;

/// Chunks of lanes that are summed in single precision before they join the double sum.
const RUN: usize = 32;

/// `layer_norm` in place: each run of `size` values becomes
/// `(x - mean) / sqrt(variance + epsilon) * gamma + beta`, with the variance of the whole
/// population. `gamma` and `beta` have `size` values each.
///
/// # Errors
/// If `size` is zero or does not divide the number of values, or a parameter has another length.
pub fn layer_norm(
    ctx: &Context,
    values: &mut [f32],
    size: usize,
    gamma: Option<&[f32]>,
    beta: Option<&[f32]>,
    epsilon: f32,
) -> Result<(), KernelError> {
    check("layer_norm", values.len(), size, gamma, beta)?;
    ctx.workers().for_each_row_mut(values, size, thresholds::NORM, |_, row| {
        compiled::run(ctx.isa(), LayerNorm { row, gamma, beta, epsilon });
    });
    Ok(())
}

/// Root-mean-square normalisation in place: each run of `size` values becomes
/// `x / sqrt(mean of squares + epsilon) * gamma`. This is what `layer_norm` of `concat(x, -x)`
/// computes in its first half.
///
/// # Errors
/// As [`layer_norm`].
pub fn rms_norm(
    ctx: &Context,
    values: &mut [f32],
    size: usize,
    gamma: Option<&[f32]>,
    epsilon: f32,
) -> Result<(), KernelError> {
    check("rms_norm", values.len(), size, gamma, None)?;
    ctx.workers().for_each_row_mut(values, size, thresholds::NORM, |_, row| {
        compiled::run(ctx.isa(), RmsNorm { row, gamma, epsilon });
    });
    Ok(())
}

fn check(
    kernel: &'static str,
    count: usize,
    size: usize,
    gamma: Option<&[f32]>,
    beta: Option<&[f32]>,
) -> Result<(), KernelError> {
    if size == 0 || !count.is_multiple_of(size) {
        return Err(KernelError::value(kernel, "size", format!("a divisor of {count}"), size));
    }
    gamma.map_or(Ok(()), |gamma| check_len(kernel, "gamma", size, gamma.len()))?;
    beta.map_or(Ok(()), |beta| check_len(kernel, "beta", size, beta.len()))
}

struct LayerNorm<'a> {
    row: &'a mut [f32],
    gamma: Option<&'a [f32]>,
    beta: Option<&'a [f32]>,
    epsilon: f32,
}

impl Loop for LayerNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let count = self.row.len() as f64;
        let mean = (sum(self.row, |x| x) / count) as f32;
        let variance = sum(self.row, |x| (x - mean) * (x - mean)) / count;
        let factor = (1.0 / (variance + f64::from(self.epsilon)).sqrt()) as f32;
        for value in self.row.iter_mut() {
            *value = (*value - mean) * factor;
        }
        affine(self.row, self.gamma, self.beta);
    }
}

struct RmsNorm<'a> {
    row: &'a mut [f32],
    gamma: Option<&'a [f32]>,
    epsilon: f32,
}

impl Loop for RmsNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let mean = sum(self.row, |x| x * x) / self.row.len() as f64;
        let factor = (1.0 / (mean + f64::from(self.epsilon)).sqrt()) as f32;
        for value in self.row.iter_mut() {
            *value *= factor;
        }
        affine(self.row, self.gamma, None);
    }
}

#[inline(always)]
fn affine(row: &mut [f32], gamma: Option<&[f32]>, beta: Option<&[f32]>) {
    if let Some(gamma) = gamma {
        row.iter_mut().zip(gamma).for_each(|(value, gamma)| *value *= gamma);
    }
    if let Some(beta) = beta {
        row.iter_mut().zip(beta).for_each(|(value, beta)| *value += beta);
    }
}

/// The sum of `term` over all values: short runs in single precision, these in double.
#[inline(always)]
fn sum(values: &[f32], term: impl Fn(f32) -> f32) -> f64 {
    let (body, tail) = values.as_chunks::<LANES>();
    let mut total: f64 = tail.iter().map(|&x| f64::from(term(x))).sum();
    for run in body.chunks(RUN) {
        let mut lanes = [0.0f32; LANES];
        for chunk in run {
            for lane in 0..LANES {
                lanes[lane] += term(chunk[lane]);
            }
        }
        total += lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>();
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Workers;
    use crate::isa::Isa;

    fn contexts() -> impl Iterator<Item = Context> {
        Isa::available().into_iter().map(|isa| Context::with_isa(Workers::shared(), isa))
    }

    fn sample(count: usize, seed: u32) -> Vec<f32> {
        let hash = |i: usize| (i as u32).wrapping_add(seed).wrapping_mul(2_654_435_761) >> 8;
        (0..count).map(|i| hash(i) as f32 / 8_388_608.0 - 1.0).collect()
    }

    /// The definition, in double precision.
    fn oracle(x: &[f32], gamma: &[f32], beta: &[f32], epsilon: f64) -> Vec<f64> {
        let n = x.len() as f64;
        let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
        let variance = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
        let scale = 1.0 / (variance + epsilon).sqrt();
        let one = |((&x, &g), &b): ((&f32, &f32), &f32)| {
            (f64::from(x) - mean) * scale * f64::from(g) + f64::from(b)
        };
        x.iter().zip(gamma).zip(beta).map(one).collect()
    }

    proptest::proptest! {
        #[test]
        fn layer_norm_matches_definition(rows in 0usize..5, size in 1usize..1200,
                                         shift in -3.0f32..3.0, seed in 0u32..1000) {
            let x: Vec<f32> = sample(rows * size, seed).iter().map(|x| x + shift).collect();
            let (gamma, beta) = (sample(size, seed + 1), sample(size, seed + 2));
            for ctx in contexts() {
                let mut y = x.clone();
                layer_norm(&ctx, &mut y, size, Some(&gamma), Some(&beta), 1e-5).unwrap();
                for (x, y) in x.chunks(size).zip(y.chunks(size)) {
                    for (y, e) in y.iter().zip(oracle(x, &gamma, &beta, 1e-5)) {
                        proptest::prop_assert!((f64::from(*y) - e).abs() < 2e-4, "{y} {e}");
                    }
                }
            }
        }

        #[test]
        fn rms_norm_is_layer_norm_of_both_signs(size in 1usize..700, seed in 0u32..1000) {
            let x = sample(size, seed);
            let gamma = sample(size, seed + 1);
            let both: Vec<f32> = x.iter().copied().chain(x.iter().map(|x| -x)).collect();
            let expected = oracle(&both, &vec![1.0; 2 * size], &vec![0.0; 2 * size], 1e-6);
            for ctx in contexts() {
                let mut y = x.clone();
                rms_norm(&ctx, &mut y, size, Some(&gamma), 1e-6).unwrap();
                for ((y, e), g) in y.iter().zip(&expected).zip(&gamma) {
                    proptest::prop_assert!((f64::from(*y) - e * f64::from(*g)).abs() < 2e-6);
                }
            }
        }
    }

    /// Enough rows to be divided among threads.
    #[test]
    fn many_rows() {
        let (rows, size) = (301, 250);
        let (x, gamma, beta) = (sample(rows * size, 1), sample(size, 2), sample(size, 3));
        let ctx = Context::new(Workers::new(3).unwrap());
        let (mut y, mut z) = (x.clone(), x.clone());
        layer_norm(&ctx, &mut y, size, Some(&gamma), Some(&beta), 1e-5).unwrap();
        rms_norm(&ctx, &mut z, size, None, 1e-5).unwrap();
        for (i, x) in x.chunks(size).enumerate() {
            for (y, e) in y[i * size..].iter().zip(oracle(x, &gamma, &beta, 1e-5)) {
                assert!((f64::from(*y) - e).abs() < 1e-5, "{y}, expected {e}");
            }
            let mean = x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / size as f64;
            for (z, &x) in z[i * size..].iter().zip(x) {
                let e = f64::from(x) / (mean + 1e-5).sqrt();
                assert!((f64::from(*z) - e).abs() < 2e-6, "{z}, expected {e}");
            }
        }
    }

    #[test]
    fn refuses_bad_sizes() {
        let ctx = Context::new(Workers::shared());
        assert!(layer_norm(&ctx, &mut [0.0; 4], 0, None, None, 1e-5).is_err());
        assert!(layer_norm(&ctx, &mut [0.0; 4], 3, None, None, 1e-5).is_err());
        assert!(rms_norm(&ctx, &mut [0.0; 4], 4, Some(&[1.0]), 1e-5).is_err());
    }
}
