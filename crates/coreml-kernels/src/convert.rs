//! Conversions between element types, slice to slice.

use half::{bf16, f16};

use crate::arch;
use crate::arch::compiled::{self, Loop};
use crate::context::Context;
use crate::error::{KernelError, check_len};
use crate::thresholds;

/// Widens `f16` to `f32`.
///
/// # Errors
/// If the slices differ in length.
pub fn f16_to_f32(ctx: &Context, from: &[f16], to: &mut [f32]) -> Result<(), KernelError> {
    slices("f16_to_f32", ctx, from, to, |from, to| arch::widen(ctx.isa(), from, to))
}

/// Rounds `f32` to `f16`, to nearest even; what is too large becomes infinite.
///
/// # Errors
/// If the slices differ in length.
pub fn f32_to_f16(ctx: &Context, from: &[f32], to: &mut [f16]) -> Result<(), KernelError> {
    slices("f32_to_f16", ctx, from, to, |from, to| arch::narrow(ctx.isa(), from, to))
}

/// Rounds `f32` in place to the numbers that `f16` has, to nearest even; what is too large becomes
/// infinite.
pub fn round_to_f16(ctx: &Context, values: &mut [f32]) {
    let part = thresholds::task(thresholds::CONVERSION);
    ctx.workers().for_each_row_mut(values, part, thresholds::CONVERSION, |_, values| {
        let mut halves = [f16::ZERO; 256];
        for values in values.chunks_mut(halves.len()) {
            let halves = &mut halves[..values.len()];
            arch::narrow(ctx.isa(), values, halves);
            arch::widen(ctx.isa(), halves, values);
        }
    });
}

/// Widens `bf16` to `f32`.
///
/// # Errors
/// If the slices differ in length.
pub fn bf16_to_f32(ctx: &Context, from: &[bf16], to: &mut [f32]) -> Result<(), KernelError> {
    each("bf16_to_f32", ctx, from, to, bf16::to_f32)
}

/// Rounds `f32` to `bf16`, to nearest even.
///
/// # Errors
/// If the slices differ in length.
pub fn f32_to_bf16(ctx: &Context, from: &[f32], to: &mut [bf16]) -> Result<(), KernelError> {
    each("f32_to_bf16", ctx, from, to, bf16::from_f32)
}

/// Rounds `f64` to `f32`, to nearest even.
///
/// # Errors
/// If the slices differ in length.
pub fn f64_to_f32(ctx: &Context, from: &[f64], to: &mut [f32]) -> Result<(), KernelError> {
    each("f64_to_f32", ctx, from, to, |value| value as f32)
}

/// Widens `f32` to `f64`.
///
/// # Errors
/// If the slices differ in length.
pub fn f32_to_f64(ctx: &Context, from: &[f32], to: &mut [f64]) -> Result<(), KernelError> {
    each("f32_to_f64", ctx, from, to, f64::from)
}

/// Converts `i32` to `f32`, rounding to nearest even beyond 2^24.
///
/// # Errors
/// If the slices differ in length.
pub fn i32_to_f32(ctx: &Context, from: &[i32], to: &mut [f32]) -> Result<(), KernelError> {
    each("i32_to_f32", ctx, from, to, |value| value as f32)
}

/// Converts `f32` to `i32`, towards zero; out of range saturates and NaN becomes zero.
///
/// # Errors
/// If the slices differ in length.
pub fn f32_to_i32(ctx: &Context, from: &[f32], to: &mut [i32]) -> Result<(), KernelError> {
    each("f32_to_i32", ctx, from, to, |value| value as i32)
}

/// Converts `u8` to `f32`.
///
/// # Errors
/// If the slices differ in length.
pub fn u8_to_f32(ctx: &Context, from: &[u8], to: &mut [f32]) -> Result<(), KernelError> {
    each("u8_to_f32", ctx, from, to, f32::from)
}

/// Converts `i8` to `f32`.
///
/// # Errors
/// If the slices differ in length.
pub fn i8_to_f32(ctx: &Context, from: &[i8], to: &mut [f32]) -> Result<(), KernelError> {
    each("i8_to_f32", ctx, from, to, f32::from)
}

/// Converts one by one, in a loop that the compiler may vectorise.
fn each<A: Copy + Sync, B: Send>(
    kernel: &'static str,
    ctx: &Context,
    from: &[A],
    to: &mut [B],
    convert: impl Fn(A) -> B + Copy + Sync,
) -> Result<(), KernelError> {
    slices(kernel, ctx, from, to, |from, to| {
        compiled::run(ctx.isa(), Each { from, to, convert });
    })
}

struct Each<'a, A, B, F> {
    from: &'a [A],
    to: &'a mut [B],
    convert: F,
}

impl<A: Copy, B, F: Fn(A) -> B> Loop for Each<'_, A, B, F> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (to, &from) in self.to.iter_mut().zip(self.from) {
            *to = (self.convert)(from);
        }
    }
}

/// Converts slice by slice, on several threads if there is much.
fn slices<A: Sync, B: Send>(
    kernel: &'static str,
    ctx: &Context,
    from: &[A],
    to: &mut [B],
    convert: impl Fn(&[A], &mut [B]) + Sync,
) -> Result<(), KernelError> {
    check_len(kernel, "to", from.len(), to.len())?;
    let part = thresholds::task(thresholds::CONVERSION);
    ctx.workers().for_each_row_mut(to, part, thresholds::CONVERSION, |index, to| {
        convert(&from[index * part..][..to.len()], to);
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Workers;
    use crate::isa::Isa;

    /// Every half-precision number, often enough for several threads, both ways.
    #[test]
    fn halves_on_every_instruction_set() {
        let halves: Vec<f16> = (0..300_001u32).map(|i| f16::from_bits(i as u16)).collect();
        for isa in Isa::available() {
            let ctx = Context::with_isa(Workers::shared(), isa);
            let mut wide = vec![0.0; halves.len()];
            f16_to_f32(&ctx, &halves, &mut wide).unwrap();
            let mut back = vec![f16::ZERO; halves.len()];
            f32_to_f16(&ctx, &wide, &mut back).unwrap();
            for ((half, wide), back) in halves.iter().zip(&wide).zip(back) {
                assert!(half.to_f32() == *wide || half.is_nan() && wide.is_nan());
                assert!(back == *half || half.is_nan() && back.is_nan());
            }
        }
    }

    /// Numbers between any two halves and beyond the largest, often enough for several threads.
    #[test]
    fn rounded_in_place_on_every_instruction_set() {
        let between = |bits: u32| f32::from_bits(bits.wrapping_mul(0x9e37_79b9));
        let values: Vec<f32> = (0..300_001).map(between).collect();
        for isa in Isa::available() {
            let ctx = Context::with_isa(Workers::shared(), isa);
            let mut rounded = values.clone();
            round_to_f16(&ctx, &mut rounded);
            for (rounded, value) in rounded.iter().zip(&values) {
                let expected = f16::from_f32(*value).to_f32();
                let same = rounded.to_bits() == expected.to_bits();
                assert!(same || rounded.is_nan() && expected.is_nan(), "{value}: {rounded}");
            }
        }
    }

    #[test]
    fn numbers_of_other_types() {
        let ctx = Context::new(Workers::shared());
        let mut ints = [0; 5];
        f32_to_i32(&ctx, &[1.9, -1.9, f32::NAN, 3e9, -3e9], &mut ints).unwrap();
        assert_eq!(ints, [1, -1, 0, i32::MAX, i32::MIN]);
        let mut floats = [0.0; 2];
        i8_to_f32(&ctx, &[-128, 127], &mut floats).unwrap();
        assert_eq!(floats, [-128.0, 127.0]);
        i32_to_f32(&ctx, &[16_777_217, -5], &mut floats).unwrap();
        assert_eq!(floats, [16_777_216.0, -5.0]);
        assert!(u8_to_f32(&ctx, &[1], &mut floats).is_err());
    }
}
