//! Where the elements of a resized axis lie on the input.

use coreml_kernels::resize::Axis;

use crate::error::OpError;
use crate::op::Binder;

/// How an axis is sampled. Formulas are those of coremltools' `resize_bilinear`, in the order in which
/// PyTorch's `interpolate` computes the same in single precision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Sampling {
    /// From the first element to the last one; a single sample is the first.
    StrictAlignCorners,
    /// From the first element to the last one; a single sample is the middle.
    AlignCorners,
    /// From the first element on, in steps of the ratio of the sizes.
    Default,
    /// In the middle of as many parts of the way from the first element to the last one, or of 1 if
    /// there is no way.
    OffsetCorners,
    /// In the middle of as many parts of the axis, with its elements taken for areas.
    UnalignCorners,
}

impl Sampling {
    /// The mode that an argument of an operator names.
    pub(super) fn bind(binder: &Binder) -> Result<Self, OpError> {
        binder.one_of(
            "sampling_mode",
            &[
                ("STRICT_ALIGN_CORNERS", Sampling::StrictAlignCorners),
                ("ALIGN_CORNERS", Sampling::AlignCorners),
                ("DEFAULT", Sampling::Default),
                ("OFFSET_CORNERS", Sampling::OffsetCorners),
                ("UNALIGN_CORNERS", Sampling::UnalignCorners),
            ],
        )
    }

    /// Where sample `index` of `count` lies on an axis of `size` elements (a box may have a fraction of
    /// one more), from 0 to `size - 1`.
    pub(super) fn place(self, index: usize, size: f32, count: usize) -> f32 {
        let (at, number, last) = (index as f32, count as f32, (size - 1.0).max(0.0));
        let place = match self {
            Sampling::StrictAlignCorners if count == 1 => 0.0,
            Sampling::AlignCorners if count == 1 => last / 2.0,
            Sampling::StrictAlignCorners | Sampling::AlignCorners => last / (number - 1.0) * at,
            Sampling::Default => size / number * at,
            Sampling::OffsetCorners => {
                let part = last.max(1.0) / number;
                0.5 * part + at * part
            }
            // PyTorch rounds once here, which shows in large images.
            Sampling::UnalignCorners => (size / number).mul_add(at + 0.5, -0.5),
        };
        place.clamp(0.0, last)
    }
}

/// What of the elements around its place a sample is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Interpolation {
    /// A mixture of both.
    Linear,
    /// The nearer one.
    Nearest,
    /// The one before.
    Before,
}

impl Interpolation {
    /// An axis of `input` elements that gets `output` of them.
    pub(super) fn axis(
        self,
        sampling: Sampling,
        input: usize,
        output: usize,
    ) -> Result<Axis, OpError> {
        let places = (0..output).map(|index| sampling.place(index, input as f32, output));
        Ok(match self {
            Interpolation::Linear => Axis::linear(input, places),
            Interpolation::Nearest => Axis::nearest(input, places),
            Interpolation::Before => Axis::before(input, places),
        }?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of coremltools' documentation of `resize_bilinear`.
    #[test]
    fn places_are_those_of_the_documentation() {
        let places = |sampling: Sampling, count| -> Vec<f32> {
            (0..count)
                .map(|index| (sampling.place(index, 2.0, count) * 100.0).round() / 100.0)
                .collect()
        };
        assert_eq!(places(Sampling::UnalignCorners, 5), [0.0, 0.1, 0.5, 0.9, 1.0]);
        assert_eq!(places(Sampling::AlignCorners, 5), [0.0, 0.25, 0.5, 0.75, 1.0]);
        assert_eq!(places(Sampling::Default, 5), [0.0, 0.4, 0.8, 1.0, 1.0]);
        assert_eq!(places(Sampling::OffsetCorners, 5), [0.1, 0.3, 0.5, 0.7, 0.9]);
        assert_eq!(places(Sampling::UnalignCorners, 6), [0.0, 0.0, 0.33, 0.67, 1.0, 1.0]);
        assert_eq!(places(Sampling::StrictAlignCorners, 6), [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
        assert_eq!(places(Sampling::Default, 6), [0.0, 0.33, 0.67, 1.0, 1.0, 1.0]);
        assert_eq!(places(Sampling::OffsetCorners, 6), [0.08, 0.25, 0.42, 0.58, 0.75, 0.92]);
    }

    #[test]
    fn single_samples_and_single_elements() {
        let one = |sampling: Sampling, size| sampling.place(0, size, 1);
        assert_eq!(one(Sampling::StrictAlignCorners, 5.0), 0.0);
        assert_eq!(one(Sampling::AlignCorners, 5.0), 2.0);
        assert_eq!(one(Sampling::Default, 5.0), 0.0);
        assert_eq!(one(Sampling::OffsetCorners, 5.0), 2.0);
        assert_eq!(one(Sampling::UnalignCorners, 5.0), 2.0);
        for sampling in [Sampling::AlignCorners, Sampling::OffsetCorners, Sampling::UnalignCorners]
        {
            assert_eq!(sampling.place(2, 1.0, 3), 0.0);
        }
    }
}
