//! Normalisation over trailing axes, of channels and over neighbouring channels.

use crate::arch::compiled::{self, Loop};
use crate::context::Context;
use crate::error::{KernelError, check_len, product};
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

/// What normalises channels, each of them by parameters of its own.
#[derive(Debug, Clone, Copy)]
pub struct ChannelParams<'a> {
    /// Mean and variance of each channel; without them, those of each run of values.
    pub given: Option<(&'a [f32], &'a [f32])>,
    /// The scale of each channel.
    pub gamma: Option<&'a [f32]>,
    /// The shift of each channel.
    pub beta: Option<&'a [f32]>,
    /// What is added to variances.
    pub epsilon: f32,
}

/// Normalises channels in place: values are `[batch, channels, size]`, and each becomes
/// `(x - mean) / sqrt(variance + epsilon) * gamma + beta` of its channel (`batch_norm`) or its run of
/// `size` values (`instance_norm`).
///
/// # Errors
/// If runs of `channels` times `size` values do not make up all, or a parameter has not one value for each
/// channel.
pub fn channel_norm(
    ctx: &Context,
    values: &mut [f32],
    channels: usize,
    size: usize,
    params: &ChannelParams,
) -> Result<(), KernelError> {
    const KERNEL: &str = "channel_norm";
    check(KERNEL, values.len(), product(KERNEL, "values", &[channels, size])?, None, None)?;
    let given = params.given.map(|(mean, variance)| [("mean", mean), ("variance", variance)]);
    let affine = [("gamma", params.gamma), ("beta", params.beta)];
    let affine = affine.into_iter().filter_map(|(name, values)| Some((name, values?)));
    for (name, values) in given.into_iter().flatten().chain(affine) {
        check_len(KERNEL, name, channels, values.len())?;
    }
    ctx.workers().for_each_row_mut(values, size, thresholds::NORM, |number, row| {
        compiled::run(ctx.isa(), ChannelNorm { row, channel: number % channels, params });
    });
    Ok(())
}

struct ChannelNorm<'a> {
    row: &'a mut [f32],
    channel: usize,
    params: &'a ChannelParams<'a>,
}

impl Loop for ChannelNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { row, channel, params } = self;
        let (mean, variance) = match params.given {
            Some((mean, variance)) => (mean[channel], f64::from(variance[channel])),
            None => moments(row),
        };
        let gamma = params.gamma.map_or(1.0, |gamma| f64::from(gamma[channel]));
        let scale = (gamma / (variance + f64::from(params.epsilon)).sqrt()) as f32;
        let shift = params.beta.map_or(0.0, |beta| beta[channel]);
        for value in row.iter_mut() {
            *value = (*value - mean) * scale + shift;
        }
    }
}

/// What `local_response_norm` computes with.
#[derive(Debug, Clone, Copy)]
pub struct ResponseParams {
    /// Channels that are looked at: from `size / 2` before a channel to `(size - 1) / 2` after it.
    pub size: usize,
    /// What the mean of their squares is multiplied with.
    pub alpha: f32,
    /// The exponent.
    pub beta: f32,
    /// What is added.
    pub k: f32,
}

/// `local_response_norm`: `x` and `out` are `[batch, channels, inner]`, and each value becomes
/// `x / (k + alpha * mean of squares)^beta`, the mean being that of `size` neighbouring channels at its
/// place, with zeros for those that there are not.
///
/// # Errors
/// If runs of `channels` times `inner` values do not make up all, the lengths differ or `size` is zero.
pub fn local_response_norm(
    ctx: &Context,
    x: &[f32],
    out: &mut [f32],
    channels: usize,
    inner: usize,
    params: &ResponseParams,
) -> Result<(), KernelError> {
    const KERNEL: &str = "local_response_norm";
    let block = product(KERNEL, "x", &[channels, inner])?;
    check(KERNEL, x.len(), block, None, None)?;
    check_len(KERNEL, "out", x.len(), out.len())?;
    if params.size == 0 {
        return Err(KernelError::value(KERNEL, "size", "at least 1", params.size));
    }
    ctx.workers().for_each_row_mut(out, inner, thresholds::RESPONSE, |number, out| {
        let (first, channel) = (number / channels * block, number % channels);
        let start = channel.saturating_sub(params.size / 2);
        let end = channel.saturating_add((params.size - 1) / 2).saturating_add(1).min(channels);
        let around = &x[first + start * inner..first + end * inner];
        let x = &x[first + channel * inner..][..inner];
        compiled::run(ctx.isa(), LocalResponse { x, around, out, params });
    });
    Ok(())
}

struct LocalResponse<'a> {
    x: &'a [f32],
    /// The neighbouring channels, one after the other.
    around: &'a [f32],
    out: &'a mut [f32],
    params: &'a ResponseParams,
}

impl Loop for LocalResponse<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { x, around, out, params } = self;
        out.fill(0.0);
        for line in around.chunks_exact(x.len()) {
            out.iter_mut().zip(line).for_each(|(sum, x)| *sum += x * x);
        }
        let size = params.size as f32;
        for (out, x) in out.iter_mut().zip(x) {
            *out = x / (*out / size * params.alpha + params.k).powf(params.beta);
        }
    }
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
        let (mean, variance) = moments(self.row);
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

/// Mean and variance of the whole population.
#[inline(always)]
fn moments(values: &[f32]) -> (f32, f64) {
    let count = values.len() as f64;
    let mean = (sum(values, |x| x) / count) as f32;
    (mean, sum(values, |x| (x - mean) * (x - mean)) / count)
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
    fn channels_by_given_statistics_and_by_their_own() {
        let (batch, channels, size) = (3, 7, 4000);
        let x = sample(batch * channels * size, 1);
        let (gamma, beta) = (sample(channels, 2), sample(channels, 3));
        let (mean, variance) = (sample(channels, 4), vec![0.75; channels]);
        for ctx in contexts() {
            for given in [None, Some((&mean[..], &variance[..]))] {
                let (gamma, beta) = (Some(&gamma[..]), Some(&beta[..]));
                let params = ChannelParams { given, gamma, beta, epsilon: 1e-5 };
                let mut y = x.clone();
                channel_norm(&ctx, &mut y, channels, size, &params).unwrap();
                for (i, (x, y)) in x.chunks(size).zip(y.chunks(size)).enumerate() {
                    let channel = i % channels;
                    let (g, b) =
                        (vec![gamma.unwrap()[channel]; size], vec![beta.unwrap()[channel]; size]);
                    let own = oracle(x, &g, &b, 1e-5);
                    let by_given = |x: f32| {
                        (f64::from(x) - f64::from(mean[channel])) / (0.75f64 + 1e-5).sqrt()
                            * f64::from(g[0])
                            + f64::from(b[0])
                    };
                    for (j, y) in y.iter().enumerate() {
                        let e = if given.is_some() { by_given(x[j]) } else { own[j] };
                        assert!((f64::from(*y) - e).abs() < 2e-6, "{y}, expected {e}");
                    }
                }
            }
        }
    }

    #[test]
    fn responses_of_neighbouring_channels() {
        let (batch, channels, inner) = (2, 6, 1500);
        let x = sample(batch * channels * inner, 1);
        let both = contexts().flat_map(|ctx| [1, 2, 3, 5, 100].map(|size| (ctx.isa(), size)));
        for (isa, size) in both {
            let ctx = Context::with_isa(Workers::shared(), isa);
            let params = ResponseParams { size, alpha: 0.5, beta: 0.75, k: 1.5 };
            let mut y = vec![f32::NAN; x.len()];
            local_response_norm(&ctx, &x, &mut y, channels, inner, &params).unwrap();
            for (i, y) in y.iter().enumerate() {
                let channel = i / inner % channels;
                let square = |c: usize| f64::from(x[i - channel * inner + c * inner]).powi(2);
                let near = |c: &usize| c + size / 2 >= channel && *c <= channel + (size - 1) / 2;
                let squares: f64 = (0..channels).filter(near).map(square).sum();
                let e = f64::from(x[i]) / (squares / size as f64 * 0.5 + 1.5).powf(0.75);
                assert!((f64::from(*y) - e).abs() < 2e-6, "{y}, expected {e}");
            }
        }
    }

    #[test]
    fn refuses_bad_sizes() {
        let ctx = Context::new(Workers::shared());
        let params = ChannelParams { given: None, gamma: None, beta: None, epsilon: 1e-5 };
        assert!(channel_norm(&ctx, &mut [0.0; 4], 2, 3, &params).is_err());
        let short = ChannelParams { beta: Some(&[0.0]), ..params };
        assert!(channel_norm(&ctx, &mut [0.0; 4], 2, 2, &short).is_err());
        let response = ResponseParams { size: 0, alpha: 1.0, beta: 1.0, k: 1.0 };
        assert!(local_response_norm(&ctx, &[0.0; 4], &mut [0.0; 4], 2, 2, &response).is_err());
        let response = ResponseParams { size: 1, ..response };
        assert!(local_response_norm(&ctx, &[0.0; 4], &mut [0.0; 3], 2, 2, &response).is_err());
        assert!(layer_norm(&ctx, &mut [0.0; 4], 0, None, None, 1e-5).is_err());
        assert!(layer_norm(&ctx, &mut [0.0; 4], 3, None, None, 1e-5).is_err());
        assert!(rms_norm(&ctx, &mut [0.0; 4], 4, Some(&[1.0]), 1e-5).is_err());
    }
}
