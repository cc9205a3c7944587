//! What is measured of the elements of a result.

use bytemuck::AnyBitPattern;
use coreml_format::mil::ElementType;
use half::f16;

use crate::run::Shown;
use crate::value::Storage;

/// Elements as they were computed.
pub(crate) type Values = Vec<f32>;

/// The elements of a result of any type as the nearest `f32`; those of `fp16` as they are going to be, if
/// the result is going to be rounded.
pub(crate) fn numbers(result: &Shown, rounds: bool) -> Values {
    let bytes = result.bytes;
    match result.storage {
        Storage::F32 if rounds && result.element == ElementType::Float16 => {
            each(bytes, |value: f32| f16::from_f32(value).to_f32())
        }
        Storage::F32 => each(bytes, |value: f32| value),
        Storage::F16 => each(bytes, f16::to_f32),
        Storage::F64 => each(bytes, |value: f64| value as f32),
        Storage::Bool | Storage::U8 => each(bytes, |value: u8| f32::from(value)),
        Storage::I8 => each(bytes, |value: i8| f32::from(value)),
        Storage::I16 => each(bytes, |value: i16| f32::from(value)),
        Storage::U16 => each(bytes, |value: u16| f32::from(value)),
        Storage::I32 => each(bytes, |value: i32| value as f32),
        Storage::U32 => each(bytes, |value: u32| value as f32),
        Storage::I64 => each(bytes, |value: i64| value as f32),
        Storage::U64 => each(bytes, |value: u64| value as f32),
    }
}

fn each<T: AnyBitPattern>(bytes: &[u8], number: impl Fn(T) -> f32) -> Values {
    let elements = bytes.chunks_exact(size_of::<T>());
    elements.map(|bytes| number(bytemuck::pod_read_unaligned(bytes))).collect()
}

/// The smallest magnitude that `fp16` has with all of its bits: 2^-14.
const SMALLEST_NORMAL: f32 = 6.103_515_6e-5;

/// Magnitudes from here on are rounded to infinity.
const OVERFLOWS: f32 = 65_520.0;

/// How many elements are what.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Counts {
    pub(super) nan: usize,
    pub(super) infinite: usize,
    /// Finite, and beyond what `fp16` holds.
    pub(super) overflowing: usize,
    /// The largest finite magnitude.
    pub(super) largest: f32,
}

impl Counts {
    pub(super) fn of(values: &[f32]) -> Self {
        let mut counts = Counts::default();
        for value in values {
            let magnitude = value.abs();
            counts.nan += usize::from(value.is_nan());
            counts.infinite += usize::from(value.is_infinite());
            if magnitude.is_finite() {
                counts.overflowing += usize::from(magnitude >= OVERFLOWS);
                counts.largest = counts.largest.max(magnitude);
            }
        }
        counts
    }
}

/// Elements that are, or become, zero or subnormal in `fp16` though they are not zero.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Faint {
    pub(super) count: usize,
    nonzero: usize,
    /// Sums of squares.
    weight: f64,
    whole: f64,
}

impl Faint {
    /// Among values that are rounded, or are going to be.
    pub(super) fn of(values: &[f32]) -> Self {
        let mut faint = Faint::default();
        for &value in values.iter().filter(|value| value.is_finite() && **value != 0.0) {
            let square = f64::from(value).powi(2);
            faint.nonzero += 1;
            faint.whole += square;
            if f16::from_f32(value).to_f32().abs() < SMALLEST_NORMAL {
                faint.count += 1;
                faint.weight += square;
            }
        }
        faint
    }

    /// Whether they are most, by number and by weight.
    pub(super) fn is_most(&self) -> bool {
        self.count * 2 > self.nonzero && self.weight * 2.0 > self.whole
    }
}

/// Elements beside those of `f32`.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Against {
    /// NaN, or infinite, where the other is a number, or finite.
    pub(super) nan: usize,
    pub(super) infinite: usize,
    pub(super) differing: usize,
    pub(super) largest_difference: f64,
    /// Sums of squares over what is finite on both sides.
    difference: f64,
    size: f64,
    own_size: f64,
    product: f64,
    /// The largest finite magnitude of the other.
    largest: f64,
}

/// How far numbers are from those of a reference.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Difference {
    /// How many there are.
    pub elements: usize,
    /// How many of them are others at all.
    pub differing: usize,
    /// The largest difference of two that are finite.
    pub largest_difference: f64,
    /// The largest finite magnitude of the reference.
    pub largest: f64,
    /// The root of the mean square of the differences of what is finite on both sides, as a part of that of
    /// the reference; infinite where all of that is zero and this is not.
    pub error: f64,
    /// The cosine of the angle between both as vectors, of what is finite on both sides; 1 for two of zeros.
    pub cosine: f64,
    /// NaN where the reference has a number.
    pub nan: usize,
    /// Infinite where the reference is finite.
    pub infinite: usize,
}

impl Difference {
    /// Of `values` from those of a `reference`. `None` if there are not as many.
    pub fn between(values: &[f32], reference: &[f32]) -> Option<Self> {
        let against = Against::of(values, reference)?;
        Some(Difference {
            elements: values.len(),
            differing: against.differing,
            largest_difference: against.largest_difference,
            largest: against.largest,
            error: against.error(),
            cosine: against.cosine(),
            nan: against.nan,
            infinite: against.infinite,
        })
    }

    /// The largest difference as a part of the largest magnitude of the reference.
    pub fn relative(&self) -> f64 {
        match self.largest_difference == 0.0 {
            true => 0.0,
            false => self.largest_difference / self.largest,
        }
    }

    /// The ratio of signal to noise in decibels: how much larger the reference is than the difference, by their
    /// powers; infinite where there is no difference.
    pub fn signal_to_noise(&self) -> f64 {
        -20.0 * self.error.log10()
    }
}

impl Against {
    /// `None` if there are not as many.
    pub(super) fn of(values: &[f32], wide: &[f32]) -> Option<Self> {
        if values.len() != wide.len() {
            return None;
        }
        let mut against = Against::default();
        for (&value, &wide) in values.iter().zip(wide) {
            against.nan += usize::from(value.is_nan() && !wide.is_nan());
            against.infinite += usize::from(value.is_infinite() && wide.is_finite());
            let same = value == wide || value.is_nan() && wide.is_nan();
            against.differing += usize::from(!same);
            if value.is_finite() && wide.is_finite() {
                let difference = (f64::from(value) - f64::from(wide)).abs();
                against.largest_difference = against.largest_difference.max(difference);
                against.difference += difference.powi(2);
                against.size += f64::from(wide).powi(2);
                against.own_size += f64::from(value).powi(2);
                against.product += f64::from(value) * f64::from(wide);
                against.largest = against.largest.max(f64::from(wide.abs()));
            }
        }
        Some(against)
    }

    /// The cosine of the angle between both as vectors.
    fn cosine(&self) -> f64 {
        match self.difference == 0.0 {
            true => 1.0,
            false => self.product / (self.own_size * self.size).sqrt().max(f64::MIN_POSITIVE),
        }
    }

    /// The difference as a part of the size, both as roots of mean squares.
    pub(super) fn error(&self) -> f64 {
        match self.difference == 0.0 {
            true => 0.0,
            false => (self.difference / self.size).sqrt(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_counted_by_what_half_precision_makes_of_them() {
        let values = [65_519.0, -65_520.0, 1e30, f32::NAN, f32::NEG_INFINITY, 0.0];
        let expected = Counts { nan: 1, infinite: 1, overflowing: 2, largest: 1e30 };
        assert_eq!(Counts::of(&values), expected);
        assert_eq!(Counts::of(&[]), Counts::default());
    }

    #[test]
    fn few_large_elements_outweigh_many_small_ones() {
        let probabilities = [[1e-6f32; 9].as_slice(), &[0.9]].concat();
        let faint = Faint::of(&probabilities);
        assert_eq!((faint.count, faint.is_most()), (9, false));
        assert!(Faint::of(&[1e-6, 1e-9, 0.0, 0.0, 0.0]).is_most());
        // The smallest normal number, and what is rounded up to it.
        assert!(!Faint::of(&[SMALLEST_NORMAL, 6.103e-5]).is_most());
        assert!(!Faint::of(&[0.0]).is_most());
    }

    #[test]
    fn differences_are_those_of_finite_elements() {
        let (nan, infinite) = (f32::NAN, f32::INFINITY);
        let values = [3.0, 4.5, infinite, nan, nan, infinite];
        let wide = [3.0, 4.0, 1e6, 1.0, nan, infinite];
        let against = Against::of(&values, &wide).unwrap();
        assert_eq!((against.nan, against.infinite, against.differing), (1, 1, 3));
        assert_eq!(against.largest_difference, 0.5);
        assert_eq!(against.error(), 0.1);
        assert_eq!(Against::of(&[0.0], &[0.0]).unwrap().error(), 0.0);
        assert_eq!(Against::of(&[1.0], &[0.0]).unwrap().error(), f64::INFINITY);
        assert_eq!(Against::of(&[1.0], &[]), None);
    }

    #[test]
    fn a_difference_tells_size_angle_and_noise() {
        let difference = Difference::between(&[3.0, 0.0, f32::NAN], &[0.0, 4.0, 1.0]).unwrap();
        assert_eq!((difference.largest_difference, difference.largest), (4.0, 4.0));
        assert_eq!((difference.cosine, difference.error), (0.0, 1.25));
        assert_eq!((difference.nan, difference.differing, difference.elements), (1, 3, 3));
        let close = Difference::between(&[1.1, 1.1], &[1.0, 1.0]).unwrap();
        assert!((close.signal_to_noise() - 20.0).abs() < 1e-4, "{close:?}");
        assert!((close.relative() - 0.1).abs() < 1e-6 && (close.cosine - 1.0).abs() < 1e-12);
        let same = Difference::between(&[0.0, 5.0], &[0.0, 5.0]).unwrap();
        assert_eq!((same.cosine, same.relative(), same.error), (1.0, 0.0, 0.0));
        assert_eq!(same.signal_to_noise(), f64::INFINITY);
        assert_eq!(Difference::between(&[1.0], &[]), None);
    }
}
