//! Random numbers. A seed gives the same ones on any machine and any number of threads: ChaCha is fixed
//! by its definition, and each part of a result, of a fixed size, has a stream of its own.

use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::context::Context;
use crate::error::{KernelError, check_len};

/// Numbers of a part: some tens of microseconds.
const PART: usize = 1 << 13;

/// Where random numbers come from.
#[derive(Debug, Clone)]
pub struct Source(ChaCha8Rng);

impl Source {
    /// The one that belongs to a seed.
    pub fn seeded(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// One that nobody can foresee.
    ///
    /// # Errors
    /// If the system has no entropy to give.
    pub fn fresh() -> Result<Self, KernelError> {
        let source = ChaCha8Rng::try_from_os_rng();
        source.map(Self).map_err(|error| KernelError::Entropy { source: Arc::new(error) })
    }

    /// Fills parts of `out`, each by its own stream.
    fn fill(
        &self,
        ctx: &Context,
        out: &mut [f32],
        fill: impl Fn(&mut ChaCha8Rng, &mut [f32]) + Sync,
    ) {
        ctx.workers().for_each_chunk_mut(out, PART, |index, part| {
            fill(&mut self.stream(index), part);
        });
    }

    fn stream(&self, number: usize) -> ChaCha8Rng {
        let mut stream = self.0.clone();
        stream.set_stream(number as u64);
        stream
    }

    /// Numbers from `low` up to, but without, `high`: multiples of `2^-bits` of the distance, at most
    /// 24 bits. What is asked of `high` not above `low` is all `low`.
    pub fn uniform(&self, ctx: &Context, low: f32, high: f32, bits: u32, out: &mut [f32]) {
        let (wide, bits) = (f64::from(high) - f64::from(low), bits.clamp(1, 24));
        self.fill(ctx, out, |random, part| {
            for value in part {
                let x = (f64::from(low) + wide * unit(random, bits)) as f32;
                // What is rounded up to the end is not below it.
                *value = if x < high { x } else { low.max(high.next_down()) };
            }
        });
    }

    /// Ones with this probability, else zeros.
    pub fn bernoulli(&self, ctx: &Context, probability: f32, out: &mut [f32]) {
        self.fill(ctx, out, |random, part| {
            for value in part {
                *value = if unit(random, 24) < f64::from(probability) { 1.0 } else { 0.0 };
            }
        });
    }

    /// Numbers that are normally distributed, by Box and Muller's transform of two uniform ones.
    pub fn normal(&self, ctx: &Context, mean: f32, deviation: f32, out: &mut [f32]) {
        let (mean, deviation) = (f64::from(mean), f64::from(deviation));
        self.fill(ctx, out, |random, part| {
            for pair in part.chunks_mut(2) {
                // Above 0, of which there is no logarithm.
                let distance = (-2.0 * (1.0 - fraction(random)).ln()).sqrt();
                let (sin, cos) = (std::f64::consts::TAU * fraction(random)).sin_cos();
                for (value, side) in pair.iter_mut().zip([cos, sin]) {
                    *value = (mean + deviation * (distance * side)) as f32;
                }
            }
        });
    }

    /// Numbers of classes, drawn by weights that need not sum up to 1: `out` has as many for each line
    /// of `classes` weights.
    ///
    /// # Errors
    /// If lengths do not fit, or the weights of a line are no probabilities: one is negative or NaN, or
    /// they sum up to nothing or to infinity.
    pub fn categorical(
        &self,
        ctx: &Context,
        weights: &[f32],
        classes: usize,
        out: &mut [f32],
    ) -> Result<(), KernelError> {
        const KERNEL: &str = "random_categorical";
        let lines = weights.len().checked_div(classes).unwrap_or(0);
        check_len(KERNEL, "weights", lines.saturating_mul(classes), weights.len())?;
        let draws = out.len().checked_div(lines).unwrap_or(0);
        check_len(KERNEL, "output", lines.saturating_mul(draws), out.len())?;
        let mut sums = ctx.scratch().take::<f64>(classes)?;
        for (line, weights) in weights.chunks_exact(classes.max(1)).enumerate() {
            let total = sum_up(weights, &mut sums);
            let Some(total) = total.filter(|total| *total > 0.0 && total.is_finite()) else {
                return Err(KernelError::Value {
                    kernel: KERNEL,
                    argument: "x",
                    expected: "probabilities from 0 on with a finite sum above 0".to_owned(),
                    got: format!("others in line {line}"),
                });
            };
            let mut random = self.stream(line);
            for draw in &mut out[line * draws..][..draws] {
                let at = fraction(&mut random) * total;
                let class = sums.partition_point(|&sum| sum <= at);
                // A product may be rounded up to the total.
                *draw = class.min(last(weights)) as f32;
            }
        }
        Ok(())
    }
}

/// The sums of weights up to each of them; gives the last one, or `None` of what is no weight.
fn sum_up(weights: &[f32], sums: &mut [f64]) -> Option<f64> {
    let mut total = 0.0;
    for (sum, &weight) in sums.iter_mut().zip(weights) {
        if weight.is_nan() || weight < 0.0 {
            return None;
        }
        total += f64::from(weight);
        *sum = total;
    }
    Some(total)
}

/// The last class that can be drawn.
fn last(weights: &[f32]) -> usize {
    weights.iter().rposition(|&weight| weight > 0.0).unwrap_or(0)
}

/// A number from 0 up to, but without, 1, of so many bits.
fn unit(random: &mut ChaCha8Rng, bits: u32) -> f64 {
    f64::from(random.next_u32() >> (32 - bits)) / f64::from(1u32 << bits)
}

/// A number from 0 up to, but without, 1, of all bits that a double holds.
fn fraction(random: &mut ChaCha8Rng) -> f64 {
    (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests;
