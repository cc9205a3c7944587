//! Activations to small integers and back, with a scale and a zero point for all or for each slice of
//! an axis.

use crate::arch::compiled::{self, Loop};
use crate::context::Context;
use crate::error::{KernelError, check_len};
use crate::thresholds;

/// A small integer: `i8` or `u8`.
pub trait Quantized: Copy + Send + Sync {
    /// The nearest one of a number without a fraction; 0 of NaN.
    fn saturated(value: f32) -> Self;
    /// The value.
    fn to_f32(self) -> f32;
}

impl Quantized for i8 {
    #[inline(always)]
    fn saturated(value: f32) -> Self {
        value as i8
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        self.into()
    }
}

impl Quantized for u8 {
    #[inline(always)]
    fn saturated(value: f32) -> Self {
        value as u8
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        self.into()
    }
}

/// How numbers and integers belong together: by a scale and a zero point for each of as many slices, in
/// which `inner` elements lie side by side.
#[derive(Debug, Clone, Copy)]
pub struct Affine<'a> {
    /// Scales.
    pub scale: &'a [f32],
    /// Zero points, as many.
    pub zero_point: &'a [f32],
    /// Elements side by side that have the same.
    pub inner: usize,
}

impl Affine<'_> {
    /// Scale and zero point of row `number`.
    fn of_row(&self, number: usize) -> (f32, f32) {
        let slice = number % self.scale.len();
        (self.scale[slice], self.zero_point[slice])
    }

    fn check(&self, kernel: &'static str, from: usize, to: usize) -> Result<(), KernelError> {
        check_len(kernel, "zero_point", self.scale.len(), self.zero_point.len())?;
        check_len(kernel, "output", from, to)?;
        let whole = self.inner.checked_mul(self.scale.len()).filter(|&whole| whole > 0);
        match whole {
            Some(whole) if from.is_multiple_of(whole) => Ok(()),
            _ => Err(KernelError::value(
                kernel,
                "scale",
                format!("as many as divide {from} elements in rows of {}", self.inner),
                self.scale.len(),
            )),
        }
    }
}

/// `round(x / scale) + zero point`, rounded to even and saturated.
///
/// # Errors
/// If there are not as many zero points as scales, or their slices do not divide `x`, or `out` has
/// another length.
pub fn quantize<Q: Quantized>(
    ctx: &Context,
    affine: Affine,
    x: &[f32],
    out: &mut [Q],
) -> Result<(), KernelError> {
    if x.is_empty() && out.is_empty() {
        return Ok(());
    }
    affine.check("quantize", x.len(), out.len())?;
    let inner = affine.inner;
    ctx.workers().for_each_row_mut(out, inner, thresholds::CONVERSION, |row, out| {
        let (scale, zero_point) = affine.of_row(row);
        let x = &x[row * inner..][..inner];
        compiled::run(ctx.isa(), Quantize { x, out, scale, zero_point });
    });
    Ok(())
}

/// `scale · (q - zero point)`.
///
/// # Errors
/// As [`quantize`].
pub fn dequantize<Q: Quantized>(
    ctx: &Context,
    affine: Affine,
    q: &[Q],
    out: &mut [f32],
) -> Result<(), KernelError> {
    if q.is_empty() && out.is_empty() {
        return Ok(());
    }
    affine.check("dequantize", q.len(), out.len())?;
    let inner = affine.inner;
    ctx.workers().for_each_row_mut(out, inner, thresholds::CONVERSION, |row, out| {
        let (scale, zero_point) = affine.of_row(row);
        let q = &q[row * inner..][..inner];
        compiled::run(ctx.isa(), Dequantize { q, out, scale, zero_point });
    });
    Ok(())
}

struct Quantize<'a, Q> {
    x: &'a [f32],
    out: &'a mut [Q],
    scale: f32,
    zero_point: f32,
}

impl<Q: Quantized> Loop for Quantize<'_, Q> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (out, x) in self.out.iter_mut().zip(self.x) {
            *out = Q::saturated((x / self.scale).round_ties_even() + self.zero_point);
        }
    }
}

struct Dequantize<'a, Q> {
    q: &'a [Q],
    out: &'a mut [f32],
    scale: f32,
    zero_point: f32,
}

impl<Q: Quantized> Loop for Dequantize<'_, Q> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (out, q) in self.out.iter_mut().zip(self.q) {
            *out = self.scale * (q.to_f32() - self.zero_point);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Workers;
    use crate::isa::Isa;

    #[test]
    fn numbers_are_rounded_to_even_and_saturate() {
        let x = [0.5, 1.5, -0.5, -2.5, 1e9, -1e9, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
        let affine = Affine { scale: &[1.0], zero_point: &[3.0], inner: 9 };
        for isa in Isa::available() {
            let ctx = Context::with_isa(Workers::serial(), isa);
            let mut signed = [0i8; 9];
            quantize(&ctx, affine, &x, &mut signed).unwrap();
            assert_eq!(signed, [3, 5, 3, 1, 127, -128, 127, -128, 0]);
            let mut unsigned = [0u8; 9];
            quantize(&ctx, affine, &x, &mut unsigned).unwrap();
            assert_eq!(unsigned, [3, 5, 3, 1, 255, 0, 255, 0, 0]);
        }
    }

    #[test]
    fn slices_have_their_own_scale() {
        // Two slices of an axis, two elements each, twice.
        let affine = Affine { scale: &[0.5, 2.0], zero_point: &[1.0, -1.0], inner: 2 };
        let ctx = Context::new(Workers::serial());
        let q = [1i8, 3, -1, 4, 0, 2, 7, -3];
        let mut x = [0.0; 8];
        dequantize(&ctx, affine, &q, &mut x).unwrap();
        assert_eq!(x, [0.0, 1.0, 0.0, 10.0, -0.5, 0.5, 16.0, -4.0]);
        let mut again = [0i8; 8];
        quantize(&ctx, affine, &x, &mut again).unwrap();
        assert_eq!(again, q);
    }

    /// Enough for several tasks.
    #[test]
    fn many_rows() {
        let ctx = Context::new(Workers::new(3).unwrap());
        let scale: Vec<f32> = (1..=500).map(|i| i as f32 / 64.0).collect();
        let affine = Affine { scale: &scale, zero_point: &vec![0.0; 500], inner: 300 };
        let q: Vec<u8> = (0..300_000).map(|i| (i * 7 % 256) as u8).collect();
        let mut x = vec![0.0; q.len()];
        dequantize(&ctx, affine, &q, &mut x).unwrap();
        assert!((0..q.len()).all(|i| x[i] == f32::from(q[i]) * scale[i / 300 % 500]));
        let mut again = vec![0u8; q.len()];
        quantize(&ctx, affine, &x, &mut again).unwrap();
        assert_eq!(again, q);
    }

    #[test]
    fn scales_that_do_not_fit_are_errors() {
        let ctx = Context::new(Workers::serial());
        let run = |scale: &[f32], zero_point: &[f32], inner, out: usize| {
            quantize(&ctx, Affine { scale, zero_point, inner }, &[0.0; 6], &mut vec![0u8; out])
        };
        assert!(run(&[1.0; 3], &[0.0; 3], 2, 6).is_ok());
        assert!(run(&[1.0; 3], &[0.0; 2], 2, 6).is_err());
        assert!(run(&[1.0; 4], &[0.0; 4], 1, 6).is_err());
        assert!(run(&[], &[], 1, 6).is_err());
        assert!(run(&[1.0], &[0.0], usize::MAX, 6).is_err());
        assert!(run(&[1.0], &[0.0], 1, 5).is_err());
    }
}
