//! Windows that move over spatial axes: what convolutions and pooling share.

use coreml_kernels::SpatialDim;
use smallvec::SmallVec;

use crate::error::OpError;
use crate::op::Binder;

/// The spatial axes of an operation, outermost first.
pub(super) type SpatialDims = SmallVec<[SpatialDim; 3]>;

/// What is added around the input.
#[derive(Clone, Debug)]
pub(crate) enum Padding {
    Valid,
    /// As much as makes the output's size that of the input over the stride; the odd one at the end
    /// or at the beginning.
    Same {
        lower: bool,
    },
    /// Before and after each spatial axis; nothing without a list.
    Custom(Option<SmallVec<[i64; 8]>>),
}

impl Padding {
    fn bind(binder: &Binder) -> Result<Self, OpError> {
        let pad = binder.optional_ints("pad")?;
        // Pooling of coremltools takes names in any case.
        match binder.string("pad_type")?.to_ascii_lowercase().as_str() {
            "valid" => Ok(Padding::Valid),
            "same" => Ok(Padding::Same { lower: false }),
            "same_lower" => Ok(Padding::Same { lower: true }),
            "custom" => Ok(Padding::Custom(pad)),
            other => {
                let expected = "`valid`, `same`, `same_lower` or `custom`";
                Err(OpError::argument("pad_type", expected, format!("`{other}`")))
            }
        }
    }

    /// Before and after spatial axis `i` of `rank`, where windows need `missing` elements more than the
    /// input has to be as many as `Same` says.
    fn of(&self, i: usize, rank: usize, missing: usize) -> Result<(usize, usize), OpError> {
        match self {
            Padding::Valid | Padding::Custom(None) => Ok((0, 0)),
            Padding::Same { lower } => {
                let (small, large) = (missing / 2, missing.div_ceil(2));
                Ok(if *lower { (large, small) } else { (small, large) })
            }
            Padding::Custom(Some(pad)) => {
                let side = |at: usize| pad.get(at).and_then(|&size| usize::try_from(size).ok());
                let sides = side(2 * i).zip(side(2 * i + 1)).filter(|_| pad.len() == 2 * rank);
                sides.ok_or_else(|| {
                    let expected = "two sizes, 0 or more, for each spatial axis";
                    OpError::argument("pad", expected, format!("{:?}", pad.as_slice()))
                })
            }
        }
    }
}

/// How windows move, but for their sizes.
#[derive(Clone, Debug)]
pub(crate) struct Windows {
    padding: Padding,
    strides: Option<SmallVec<[i64; 8]>>,
    dilations: Option<SmallVec<[i64; 8]>>,
}

/// Entry `i` of a list with a size for each of `rank` axes, 1 if there is no list.
fn entry(name: &str, sizes: Option<&[i64]>, i: usize, rank: usize) -> Result<usize, OpError> {
    let Some(sizes) = sizes else { return Ok(1) };
    let size = sizes.get(i).and_then(|&size| usize::try_from(size).ok());
    size.filter(|&size| size > 0 && sizes.len() == rank).ok_or_else(|| {
        let expected = format!("a positive integer for each of {rank} spatial axes");
        OpError::argument(name, expected, format!("{sizes:?}"))
    })
}

impl Windows {
    /// Reads `pad_type`, `pad`, `strides` and, if the operator has them, `dilations`.
    pub(super) fn bind(binder: &Binder) -> Result<Self, OpError> {
        Ok(Windows {
            padding: Padding::bind(binder)?,
            strides: binder.optional_ints("strides")?,
            dilations: binder.optional_ints("dilations")?,
        })
    }

    /// Axis `i` of `rank`, without padding.
    fn unpadded(
        &self,
        i: usize,
        rank: usize,
        input: usize,
        kernel: usize,
    ) -> Result<(SpatialDim, usize), OpError> {
        let dim = SpatialDim {
            input,
            kernel,
            stride: entry("strides", self.strides.as_deref(), i, rank)?,
            dilation: entry("dilations", self.dilations.as_deref(), i, rank)?,
            pad_begin: 0,
            pad_end: 0,
        };
        let extent = dim.extent()?;
        Ok((dim, extent))
    }

    /// Spatial axes of these sizes with windows of these sizes.
    pub(super) fn over(&self, input: &[usize], kernel: &[usize]) -> Result<SpatialDims, OpError> {
        let rank = input.len();
        let one = |(i, (&input, &kernel)): (usize, (&usize, &usize))| {
            let (mut dim, extent) = self.unpadded(i, rank, input, kernel)?;
            let covered = input.div_ceil(dim.stride).saturating_mul(dim.stride);
            let missing =
                covered.saturating_add(extent).saturating_sub(input.saturating_add(dim.stride));
            (dim.pad_begin, dim.pad_end) = self.padding.of(i, rank, missing)?;
            Ok(dim)
        };
        input.iter().zip(kernel).enumerate().map(one).collect()
    }

    /// Spatial axes of the convolution of which another one is the transpose: that one's input has these
    /// sizes, and its output, which is this one's input, those that are asked for, or else as many as the
    /// windows reach or `same` says.
    pub(super) fn under(
        &self,
        input: &[usize],
        kernel: &[usize],
        output: Option<&[i64]>,
    ) -> Result<SpatialDims, OpError> {
        let rank = input.len();
        let one = |(i, (&input, &kernel)): (usize, (&usize, &usize))| {
            let (mut dim, extent) = self.unpadded(i, rank, 0, kernel)?;
            let number = |size: usize| i128::try_from(size).unwrap_or(i128::MAX);
            let reached = (number(input) - 1) * number(dim.stride) + number(extent);
            let wanted = match (output.and_then(|sizes| sizes.get(i)), &self.padding) {
                (Some(&size), _) => Some(size.into()),
                (None, Padding::Same { .. }) => Some(number(input) * number(dim.stride)),
                (None, _) => None,
            };
            let missing = usize::try_from(reached - wanted.unwrap_or(reached)).unwrap_or(0);
            (dim.pad_begin, dim.pad_end) = self.padding.of(i, rank, missing)?;
            let size = wanted.unwrap_or(reached - number(dim.pad_begin) - number(dim.pad_end));
            dim.input = usize::try_from(size).ok().filter(|&size| size > 0).ok_or_else(|| {
                let axis = i + 2;
                OpError::invalid(format!(
                    "axis {axis} of the result would have {size} elements, expected 1 or more"
                ))
            })?;
            Ok(dim)
        };
        input.iter().zip(kernel).enumerate().map(one).collect()
    }
}
