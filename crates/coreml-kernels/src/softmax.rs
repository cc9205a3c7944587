//! Softmax along one axis.

use crate::arch::compiled::{self, Loop};
use crate::context::Context;
use crate::error::{KernelError, check_len, product};
use crate::isa::Isa;
use crate::thresholds;
use crate::vecmath::exp_one;

/// Lanes a sum is kept in.
const LANES: usize = 16;

/// Softmax in place over the middle axis of `values`, shaped `[outer, axis, inner]`. A slice of
/// which every value is `-inf`, or one is NaN, becomes NaN.
///
/// # Errors
/// If `values` does not have `outer * axis * inner` elements.
pub fn softmax(
    ctx: &Context,
    values: &mut [f32],
    outer: usize,
    axis: usize,
    inner: usize,
) -> Result<(), KernelError> {
    let count = product("softmax", "values", &[outer, axis, inner])?;
    check_len("softmax", "values", count, values.len())?;
    if count == 0 {
        return Ok(());
    }
    let run = |_, slice: &mut [f32]| {
        if inner == 1 {
            row(ctx.isa(), slice);
        } else {
            compiled::run(ctx.isa(), Columns { values: slice, inner });
        }
    };
    ctx.workers().for_each_row_mut(values, axis * inner, thresholds::SOFTMAX, run);
    Ok(())
}

/// Softmax in place of one row.
pub(crate) fn row(isa: Isa, values: &mut [f32]) {
    compiled::run(isa, Row(values));
}

/// Softmax of one dense row.
struct Row<'a>(&'a mut [f32]);

impl Loop for Row<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let peak = fold(self.0, f32::NEG_INFINITY, larger);
        for value in self.0.iter_mut() {
            *value = exp_one(*value - peak);
        }
        let factor = 1.0 / fold(self.0, 0.0, |a, b| a + b);
        for value in self.0.iter_mut() {
            *value *= factor;
        }
    }
}

/// The larger of two; a NaN on the left stays, one on the right is found by the exponential.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// Reduces in lanes, so that the compiler may use vectors.
#[inline(always)]
fn fold(values: &[f32], start: f32, step: impl Fn(f32, f32) -> f32) -> f32 {
    let (body, tail) = values.as_chunks::<LANES>();
    let mut lanes = [start; LANES];
    for chunk in body {
        for lane in 0..LANES {
            lanes[lane] = step(lanes[lane], chunk[lane]);
        }
    }
    let total = lanes.iter().fold(start, |a, &b| step(a, b));
    tail.iter().fold(total, |a, &b| step(a, b))
}

/// Softmax down the columns of `[axis, inner]`, a strip of columns at a time.
struct Columns<'a> {
    values: &'a mut [f32],
    inner: usize,
}

impl Loop for Columns<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        const STRIP: usize = 64;
        for first in (0..self.inner).step_by(STRIP) {
            let width = STRIP.min(self.inner - first);
            let mut peaks = [f32::NEG_INFINITY; STRIP];
            for row in self.values.chunks_exact(self.inner) {
                for (peak, &value) in peaks.iter_mut().zip(&row[first..first + width]) {
                    *peak = larger(*peak, value);
                }
            }
            let mut sums = [0.0f32; STRIP];
            for row in self.values.chunks_exact_mut(self.inner) {
                let row = &mut row[first..first + width];
                for ((value, peak), sum) in row.iter_mut().zip(&peaks).zip(&mut sums) {
                    *value = exp_one(*value - peak);
                    *sum += *value;
                }
            }
            for row in self.values.chunks_exact_mut(self.inner) {
                for (value, sum) in row[first..first + width].iter_mut().zip(&sums) {
                    *value /= sum;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Workers;

    /// The definition, in double precision.
    fn oracle(x: &[f32], outer: usize, axis: usize, inner: usize) -> Vec<f64> {
        let mut y = vec![0.0; x.len()];
        for o in 0..outer {
            for i in 0..inner {
                let at = |a: usize| (o * axis + a) * inner + i;
                let peak = (0..axis).map(|a| f64::from(x[at(a)])).fold(f64::MIN, f64::max);
                let sum: f64 = (0..axis).map(|a| (f64::from(x[at(a)]) - peak).exp()).sum();
                for a in 0..axis {
                    y[at(a)] = (f64::from(x[at(a)]) - peak).exp() / sum;
                }
            }
        }
        y
    }

    proptest::proptest! {
        #[test]
        fn matches_definition(outer in 0usize..4, axis in 0usize..70, inner in 0usize..70,
                              scale in 0.1f32..40.0, seed in 0u32..1000) {
            let x: Vec<f32> = (0..outer * axis * inner)
                .map(|i| ((i as u32).wrapping_mul(2_654_435_761).wrapping_add(seed) % 1000) as f32
                     / 1000.0 * scale).collect();
            let expected = oracle(&x, outer, axis, inner);
            for isa in Isa::available() {
                let mut y = x.clone();
                softmax(&Context::with_isa(Workers::shared(), isa), &mut y, outer, axis, inner).unwrap();
                for (y, e) in y.iter().zip(&expected) {
                    // A difference of up to 40 is itself rounded by 2e-6.
                    proptest::prop_assert!((f64::from(*y) - e).abs() <= 5e-6 * e + 1e-37);
                }
            }
        }
    }

    /// Enough slices to be divided among threads.
    #[test]
    fn many_slices() {
        for (outer, axis, inner) in [(700, 61, 1), (40, 30, 70)] {
            let x: Vec<f32> =
                (0..outer * axis * inner).map(|i| (i * 7 % 1000) as f32 * 0.01).collect();
            let mut y = x.clone();
            let ctx = Context::new(Workers::new(3).unwrap());
            softmax(&ctx, &mut y, outer, axis, inner).unwrap();
            for (y, e) in y.iter().zip(oracle(&x, outer, axis, inner)) {
                assert!((f64::from(*y) - e).abs() <= 5e-6 * e, "{y}, expected {e}");
            }
        }
    }

    #[test]
    fn masked_and_hopeless_rows() {
        let ctx = Context::new(Workers::shared());
        let inf = f32::NEG_INFINITY;
        let mut y = [inf, 1.0, inf, 1.0, inf, inf, inf, inf, f32::NAN, 1.0, 2.0, 3.0];
        softmax(&ctx, &mut y, 3, 4, 1).unwrap();
        assert_eq!(y[..4], [0.0, 0.5, 0.0, 0.5]);
        assert!(y[4..].iter().all(|y| y.is_nan()));
        assert!(softmax(&ctx, &mut y, 5, 4, 1).is_err());
    }
}
