//! Conversions between element types, slice to slice.

use half::{bf16, f16};

use crate::arch;
use crate::error::{KernelError, check_len};
use crate::isa::Isa;

/// Widens `f16` to `f32`.
///
/// # Errors
/// If the slices differ in length.
pub fn f16_to_f32(from: &[f16], to: &mut [f32]) -> Result<(), KernelError> {
    check_len("f16_to_f32", "to", from.len(), to.len())?;
    arch::widen(Isa::detect(), from, to);
    Ok(())
}

/// Rounds `f32` to `f16`, to nearest even; what is too large becomes infinite.
///
/// # Errors
/// If the slices differ in length.
pub fn f32_to_f16(from: &[f32], to: &mut [f16]) -> Result<(), KernelError> {
    check_len("f32_to_f16", "to", from.len(), to.len())?;
    arch::narrow(Isa::detect(), from, to);
    Ok(())
}

/// Widens `bf16` to `f32`.
///
/// # Errors
/// If the slices differ in length.
pub fn bf16_to_f32(from: &[bf16], to: &mut [f32]) -> Result<(), KernelError> {
    each("bf16_to_f32", from, to, bf16::to_f32)
}

/// Rounds `f32` to `bf16`, to nearest even.
///
/// # Errors
/// If the slices differ in length.
pub fn f32_to_bf16(from: &[f32], to: &mut [bf16]) -> Result<(), KernelError> {
    each("f32_to_bf16", from, to, bf16::from_f32)
}

/// Rounds `f64` to `f32`, to nearest even.
///
/// # Errors
/// If the slices differ in length.
pub fn f64_to_f32(from: &[f64], to: &mut [f32]) -> Result<(), KernelError> {
    each("f64_to_f32", from, to, |value| value as f32)
}

/// Widens `f32` to `f64`.
///
/// # Errors
/// If the slices differ in length.
pub fn f32_to_f64(from: &[f32], to: &mut [f64]) -> Result<(), KernelError> {
    each("f32_to_f64", from, to, f64::from)
}

/// Converts `i32` to `f32`, rounding to nearest even beyond 2^24.
///
/// # Errors
/// If the slices differ in length.
pub fn i32_to_f32(from: &[i32], to: &mut [f32]) -> Result<(), KernelError> {
    each("i32_to_f32", from, to, |value| value as f32)
}

/// Converts `f32` to `i32`, towards zero; out of range saturates and NaN becomes zero.
///
/// # Errors
/// If the slices differ in length.
pub fn f32_to_i32(from: &[f32], to: &mut [i32]) -> Result<(), KernelError> {
    each("f32_to_i32", from, to, |value| value as i32)
}

/// Converts `u8` to `f32`.
///
/// # Errors
/// If the slices differ in length.
pub fn u8_to_f32(from: &[u8], to: &mut [f32]) -> Result<(), KernelError> {
    each("u8_to_f32", from, to, f32::from)
}

/// Converts `i8` to `f32`.
///
/// # Errors
/// If the slices differ in length.
pub fn i8_to_f32(from: &[i8], to: &mut [f32]) -> Result<(), KernelError> {
    each("i8_to_f32", from, to, f32::from)
}

fn each<A: Copy, B>(
    kernel: &'static str,
    from: &[A],
    to: &mut [B],
    convert: impl Fn(A) -> B,
) -> Result<(), KernelError> {
    check_len(kernel, "to", from.len(), to.len())?;
    for (to, &from) in to.iter_mut().zip(from) {
        *to = convert(from);
    }
    Ok(())
}

/// Widens `f16` slices of equal length, which the callers have checked.
pub(crate) fn widen(isa: Isa, from: &[f16], to: &mut [f32]) {
    arch::widen(isa, from, to);
}
