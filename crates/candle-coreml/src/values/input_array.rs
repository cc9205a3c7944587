//! A caller's array in the form in which the engine holds an input.

use coreml_engine::{Buffer, Element, Storage};
use coreml_format::mil::ElementType;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::Array;
use crate::error::ValueError;
use crate::words::numpy_element;

/// Whether an input that is held so takes the bytes of an array as they are.
///
/// # Errors
/// When a number does not fit into the input's type.
pub(crate) fn fits_as_it_is(
    array: &Array,
    element: ElementType,
    storage: Storage,
) -> Result<bool, ValueError> {
    if array.0.storage != storage {
        return Ok(false);
    }
    match storage {
        Storage::F32 => check_floats(array.elements::<f32>()?, array.shape(), element)?,
        Storage::F64 => check_floats(array.elements::<f64>()?, array.shape(), element)?,
        _ => {}
    }
    Ok(true)
}

/// Writes an array's numbers as an input's of this element type, which is held so; says how many bytes
/// that are.
///
/// # Errors
/// When they are floats and the input's are integers, or the other way around, or one does not fit.
pub(crate) fn convert(
    array: &Array,
    element: ElementType,
    storage: Storage,
    to: &mut Buffer,
) -> Result<usize, ValueError> {
    let len = storage.byte_len(array.shape()).unwrap_or(usize::MAX);
    to.grow(len)?;
    let to = &mut to.bytes_mut()[..len];
    if fits_as_it_is(array, element, storage)? {
        to.copy_from_slice(array.bytes()?);
        return Ok(len);
    }
    let is_float = |storage| matches!(storage, Storage::F16 | Storage::F32 | Storage::F64);
    match (is_float(array.0.storage), is_float(storage)) {
        (true, true) => convert_floats(array, element, storage, to)?,
        (false, false) => convert_integers(array, element, storage, to)?,
        (_, wants_floats) => {
            return Err(wrong_dtype(wants_floats, element, &numpy_element(array.element())));
        }
    }
    Ok(len)
}

/// The error of floats, by NumPy's name of their type, where integers are wanted, or the other way around.
pub(crate) fn wrong_dtype(wants_floats: bool, element: ElementType, got: &str) -> ValueError {
    let wanted = match wants_floats {
        true => "a float dtype (float16, bfloat16, float32, float64)",
        false => "an integer dtype (bool, or int or uint of 8, 16, 32 or 64 bits)",
    };
    let expected = format!("{wanted} for `{}`", numpy_element(element));
    ValueError::Dtype { expected, got: format!("`{got}`") }
}

fn convert_floats(
    array: &Array,
    element: ElementType,
    storage: Storage,
    to: &mut [u8],
) -> Result<(), ValueError> {
    let shape = array.shape();
    match (array.0.storage, storage) {
        (Storage::F16, Storage::F32) => {
            array.elements::<f16>()?.convert_to_f32_slice(bytemuck::cast_slice_mut(to));
        }
        (Storage::F16, _) => write(array.elements::<f16>()?, f16::to_f64, to),
        (Storage::F32, Storage::F16) => {
            let floats = array.elements::<f32>()?;
            check_floats(floats, shape, element)?;
            bytemuck::cast_slice_mut::<u8, f16>(to).convert_from_f32_slice(floats);
        }
        (Storage::F32, _) => write(array.elements::<f32>()?, f64::from, to),
        (_, Storage::F16) => {
            let floats = array.elements::<f64>()?;
            check_floats(floats, shape, element)?;
            write(floats, f16::from_f64, to);
        }
        (_, _) => {
            let floats = array.elements::<f64>()?;
            check_floats(floats, shape, element)?;
            write(floats, |float| float as f32, to);
        }
    }
    Ok(())
}

fn convert_integers(
    array: &Array,
    element: ElementType,
    storage: Storage,
    to: &mut [u8],
) -> Result<(), ValueError> {
    let to = (array.shape(), element, storage, to);
    match array.0.storage {
        Storage::Bool | Storage::U8 => narrow_into(array.elements::<u8>()?, to),
        Storage::I8 => narrow_into(array.elements::<i8>()?, to),
        Storage::I16 => narrow_into(array.elements::<i16>()?, to),
        Storage::U16 => narrow_into(array.elements::<u16>()?, to),
        Storage::I32 => narrow_into(array.elements::<i32>()?, to),
        Storage::U32 => narrow_into(array.elements::<u32>()?, to),
        Storage::I64 => narrow_into(array.elements::<i64>()?, to),
        _ => narrow_into(array.elements::<u64>()?, to),
    }
}

/// Integers of one type as those of another: shape, element type, storage and room.
fn narrow_into<F: Element + Into<i128>>(
    from: &[F],
    (shape, element, storage, to): (&[usize], ElementType, Storage, &mut [u8]),
) -> Result<(), ValueError> {
    match storage {
        Storage::Bool => {
            write(from, |value| u8::from(value.into() != 0), to);
            Ok(())
        }
        Storage::I8 => narrow::<F, i8>(from, shape, element, to),
        Storage::U8 => narrow::<F, u8>(from, shape, element, to),
        Storage::I16 => narrow::<F, i16>(from, shape, element, to),
        Storage::U16 => narrow::<F, u16>(from, shape, element, to),
        Storage::U32 => narrow::<F, u32>(from, shape, element, to),
        Storage::I64 => narrow::<F, i64>(from, shape, element, to),
        Storage::U64 => narrow::<F, u64>(from, shape, element, to),
        _ => narrow::<F, i32>(from, shape, element, to),
    }
}

fn narrow<F: Element + Into<i128>, T: Element + TryFrom<i128>>(
    from: &[F],
    shape: &[usize],
    element: ElementType,
    to: &mut [u8],
) -> Result<(), ValueError> {
    for (place, (to, &from)) in bytemuck::cast_slice_mut(to).iter_mut().zip(from).enumerate() {
        let value: i128 = from.into();
        *to = T::try_from(value).map_err(|_| out_of_range(value, place, shape, element))?;
    }
    Ok(())
}

fn write<F: Element, T: Element>(from: &[F], convert: impl Fn(F) -> T, to: &mut [u8]) {
    let to = bytemuck::cast_slice_mut::<u8, T>(to);
    to.iter_mut().zip(from).for_each(|(to, &from)| *to = convert(from));
}

/// Fails where a finite number would be infinite in its type.
pub(crate) fn check_floats<T: Copy + Into<f64> + std::fmt::Debug>(
    values: &[T],
    shape: &[usize],
    element: ElementType,
) -> Result<(), ValueError> {
    // Half a unit of the last place beyond the largest number: from there on, rounding goes to infinity.
    let (digits, exponent) = match element {
        ElementType::Float16 => (f16::MANTISSA_DIGITS, f16::MAX_EXP),
        ElementType::BFloat16 => (bf16::MANTISSA_DIGITS, bf16::MAX_EXP),
        ElementType::Float32 if size_of::<T>() > size_of::<f32>() => {
            (f32::MANTISSA_DIGITS, f32::MAX_EXP)
        }
        _ => return Ok(()),
    };
    let infinite = (2.0 - 0.5f64.powi(digits as i32)) * 2f64.powi(exponent - 1);
    let fits = |value: T| {
        let value: f64 = value.into();
        value.abs() < infinite || !value.is_finite()
    };
    match values.iter().position(|&value| !fits(value)) {
        Some(place) => Err(out_of_range(values[place], place, shape, element)),
        None => Ok(()),
    }
}

/// The error of a number at a place among those of a shape.
fn out_of_range(
    value: impl std::fmt::Debug,
    mut place: usize,
    shape: &[usize],
    element: ElementType,
) -> ValueError {
    let mut index = vec![0; shape.len()];
    for (index, &size) in index.iter_mut().zip(shape).rev() {
        *index = place % size.max(1);
        place /= size.max(1);
    }
    ValueError::OutOfRange { value: format!("{value:?}"), index, element }
}
