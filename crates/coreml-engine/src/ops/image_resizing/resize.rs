//! Axes stretched or shrunk.

use coreml_format::mil::{Dimension, ValueType};
use coreml_kernels::resize::{self as kernels, Axis, MOST_AXES};
use coreml_kernels::{Context, convert};
use smallvec::SmallVec;

use super::sampling::{Interpolation, Sampling};
use crate::error::OpError;
use crate::op::{Binder, Inputs, Kernel, Op, ResultTypes, bound, kernel, one};
use crate::value::{Shape, Storage};
use crate::weights::Weights;

/// A tensor with other sizes of its last axes.
#[derive(Clone, Debug)]
struct Resize {
    x: usize,
    target: Target,
    interpolation: Interpolation,
    sampling: Sampling,
}

/// The sizes of the result's last axes.
#[derive(Clone, Debug)]
enum Target {
    /// Height and width.
    Sizes([usize; 2]),
    /// Those of the input's last two axes times these, rounded down.
    Scales([Scale; 2]),
    /// As many of the last elements of the input `shape`; a 0 keeps a size.
    Given { shape: usize, axes: usize },
}

/// How much larger an axis becomes.
#[derive(Clone, Copy, Debug)]
struct Scale {
    by: f32,
    /// The size that the program says the result has.
    declared: Option<usize>,
}

impl Resize {
    /// The result's shape, and how many of its last axes may have another size than the input's.
    fn shape(&self, inputs: &Inputs) -> Result<(Shape, usize), OpError> {
        let x = inputs.shape(self.x)?;
        let sizes: SmallVec<[usize; 8]> = match self.target {
            Target::Given { shape, axes } => given(x, &inputs.ints(shape)?, axes)?,
            Target::Sizes(_) | Target::Scales(_) if x.len() < 3 => {
                let expected = "a tensor of rank 3 or more, of which the last two axes are resized";
                return Err(OpError::argument("x", expected, format!("one of shape {x:?}")));
            }
            Target::Sizes(sizes) => SmallVec::from_slice(&sizes),
            Target::Scales(scales) => {
                let last = x[x.len() - 2..].iter().zip(scales);
                last.map(|(&size, scale)| scale.of(size)).collect::<Result<_, _>>()?
            }
        };
        let kept = x.len() - sizes.len();
        let mut shape = Shape::from_slice(&x[..kept]);
        shape.extend_from_slice(&sizes);
        Ok((shape, sizes.len()))
    }
}

/// The last `axes` sizes that an input `shape` asks for.
fn given(x: &[usize], shape: &[i64], axes: usize) -> Result<SmallVec<[usize; 8]>, OpError> {
    if axes > shape.len() || axes > x.len() {
        let expected = format!("at most {}, the sizes given, and the rank of `x`", shape.len());
        return Err(OpError::argument("resized_dims", expected, axes.to_string()));
    }
    if axes > MOST_AXES {
        return Err(OpError::unsupported(format!("resizing more than {MOST_AXES} axes at once")));
    }
    let sizes = shape[shape.len() - axes..].iter().zip(&x[x.len() - axes..]);
    let size = |(&size, &kept): (&i64, &usize)| match size {
        0 => Ok(kept),
        _ => usize::try_from(size).map_err(|_| {
            OpError::argument("shape", "sizes, 0 for those that stay", format!("{shape:?}"))
        }),
    };
    sizes.map(size).collect()
}

impl Scale {
    /// A size times the scale. Versions of coremltools compute it in single or in double precision; of two
    /// results the one that the program says, else that of single precision.
    fn of(&self, size: usize) -> Result<usize, OpError> {
        let single = f64::from((size as f32 * self.by).floor());
        let double = (size as f64 * f64::from(self.by)).floor();
        let result =
            if self.declared.is_some_and(|size| size as f64 == double) { double } else { single };
        // What is larger than an `i32` is no size of a tensor of Core ML's.
        if self.by > 0.0 && result <= f64::from(i32::MAX) {
            return Ok(result as usize);
        }
        let expected = "a positive number that gives a size of a tensor";
        Err(OpError::argument("scale_factor", expected, format!("{} for {size} elements", self.by)))
    }
}

impl Op for Resize {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        one(inputs.element(self.x)?, self.shape(inputs)?.0)
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let (x, shape) = (self.x, inputs.shape(self.x)?);
        let (result, resized) = self.shape(inputs)?;
        let first = shape.len() - resized;
        let mut axes: SmallVec<[Axis; 2]> = SmallVec::new();
        for (&input, &output) in shape[first..].iter().zip(&result[first..]) {
            axes.push(self.interpolation.axis(self.sampling, input, output)?);
        }
        if axes.is_empty() {
            axes.push(self.interpolation.axis(self.sampling, 1, 1)?);
        }
        let linear = self.interpolation == Interpolation::Linear;
        kernel(move |inputs, outputs, context| {
            let (x, out) = (inputs.tensor(x)?, outputs.tensor(0)?);
            match (x.storage, linear) {
                (Storage::I32, true) => between_ints(context, &axes, x.slice()?, out.slice()?),
                (Storage::I32, false) => {
                    Ok(kernels::nearest::<i32>(context, &axes, x.slice()?, out.slice()?)?)
                }
                (_, true) => Ok(kernels::linear(context, &axes, x.f32s()?, out.f32s()?)?),
                (_, false) => Ok(kernels::nearest(context, &axes, x.f32s()?, out.f32s()?)?),
            }
        })
    }
}

/// Linear interpolation of integers, rounded to the nearest one. The definition does not say how they are
/// rounded.
fn between_ints(
    context: &Context,
    axes: &[Axis],
    x: &[i32],
    out: &mut [i32],
) -> Result<(), OpError> {
    let mut from = context.scratch().take(x.len())?;
    let mut to = context.scratch().take::<f32>(out.len())?;
    convert::i32_to_f32(context, x, &mut from)?;
    kernels::linear(context, axes, &from, &mut to)?;
    to.iter_mut().for_each(|value| *value = value.round_ties_even());
    Ok(convert::f32_to_i32(context, &to, out)?)
}

fn target_sizes(binder: &Binder) -> Result<Target, OpError> {
    let size = |name: &str| binder.positive(name);
    Ok(Target::Sizes([size("target_size_height")?, size("target_size_width")?]))
}

fn scales(binder: &Binder) -> Result<Target, OpError> {
    let declared = binder.outputs().first().and_then(ValueType::as_tensor);
    let scale = |name: &str, from_the_end: usize| -> Result<Scale, OpError> {
        let dimension = declared.and_then(|ty| ty.shape.iter().rev().nth(from_the_end));
        let declared = match dimension {
            Some(Dimension::Fixed(size)) => Some(*size),
            _ => None,
        };
        Ok(Scale { by: binder.float(name)?, declared })
    };
    Ok(Target::Scales([scale("scale_factor_height", 1)?, scale("scale_factor_width", 0)?]))
}

pub(super) fn resize(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let (x, shape) = (binder.input("x")?, binder.input("shape")?);
    let axes = binder.int("resized_dims")?;
    let axes = usize::try_from(axes).map_err(|_| {
        OpError::argument("resized_dims", "the number of axes to resize", axes.to_string())
    })?;
    let interpolation = binder.one_of(
        "interpolation_mode",
        &[("LINEAR", Interpolation::Linear), ("NEAREST_NEIGHBOR", Interpolation::Nearest)],
    )?;
    let sampling = match (Sampling::bind(binder)?, interpolation) {
        // By default neighbours are found as by `resize_nearest_neighbor`: coremltools' TensorFlow frontend
        // writes this for `half_pixel_centers`, and its tests compare with it.
        (Sampling::Default, Interpolation::Nearest) => Sampling::UnalignCorners,
        (sampling, _) => sampling,
    };
    bound(Resize { x, target: Target::Given { shape, axes }, interpolation, sampling })
}

pub(super) fn resize_bilinear(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let (x, target) = (binder.input("x")?, target_sizes(binder)?);
    let sampling = Sampling::bind(binder)?;
    bound(Resize { x, target, interpolation: Interpolation::Linear, sampling })
}

/// Neighbours are found with pixels taken for areas, as TensorFlow's `half_pixel_centers` has it, for
/// which coremltools writes this operator.
pub(super) fn resize_nearest_neighbor(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let (x, target) = (binder.input("x")?, target_sizes(binder)?);
    let (interpolation, sampling) = (Interpolation::Nearest, Sampling::UnalignCorners);
    bound(Resize { x, target, interpolation, sampling })
}

pub(super) fn upsample_bilinear(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let (x, target) = (binder.input("x")?, scales(binder)?);
    let align = binder.bool("align_corners")?;
    // Absent before iOS 16, and by default the opposite.
    let half_pixels = binder.optional_int("half_pixel_centers")?.map_or(!align, |half| half != 0);
    let sampling = match (align, half_pixels) {
        (true, false) => Sampling::StrictAlignCorners,
        (false, true) => Sampling::UnalignCorners,
        (false, false) => Sampling::Default,
        (true, true) => {
            let expected = "`false` where `align_corners` is `true`: corners or centers can be aligned, \
                            not both";
            return Err(OpError::argument("half_pixel_centers", expected, "`true`"));
        }
    };
    bound(Resize { x, target, interpolation: Interpolation::Linear, sampling })
}

/// As PyTorch's `interpolate` with the scale recomputed from the sizes.
pub(super) fn upsample_nearest_neighbor(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let (x, target) = (binder.input("x")?, scales(binder)?);
    let (interpolation, sampling) = (Interpolation::Before, Sampling::Default);
    bound(Resize { x, target, interpolation, sampling })
}

#[cfg(test)]
mod tests {
    use coreml_format::mil::{ElementType, Opset};

    use crate::op::testing::{Case, Value};

    fn message(case: Case, operator: &str, opset: Opset) -> String {
        case.run(operator, opset).err().unwrap().to_string()
    }

    #[test]
    fn integers_between_integers() {
        let case = |mode: &str| {
            let case = Case::new().ints("x", &[1, 2], &[i32::MAX, 0]).ints("shape", &[1], &[4]);
            let one = case.dense("resized_dims", ElementType::UInt32, &[], &[1u32]);
            let mode = one.string("interpolation_mode", mode);
            mode.string("sampling_mode", "STRICT_ALIGN_CORNERS")
        };
        let near = case("NEAREST_NEIGHBOR").run_ints("resize", Opset::Ios17);
        assert_eq!(near, (vec![1, 4], vec![i32::MAX, i32::MAX, 0, 0]));
        let (_, between) = case("LINEAR").run_ints("resize", Opset::Ios17);
        assert_eq!((between[0], between[3]), (i32::MAX, 0));
        assert!((between[1] - 1_431_655_765).abs() < 1 << 8, "{between:?}");
    }

    #[test]
    fn no_axis_may_be_resized_and_a_scalar_has_none() {
        let none = |shape: &[usize], x: &[f32]| {
            let case = Case::new().floats("x", shape, x).ints("shape", &[0], &[]);
            case.dense("resized_dims", ElementType::UInt32, &[], &[0u32])
        };
        assert_eq!(none(&[2], &[1.0, 2.0]).run_floats("resize", Opset::Ios17).1, [1.0, 2.0]);
        assert_eq!(none(&[], &[3.0]).run_floats("resize", Opset::Ios17), (vec![], vec![3.0]));
        assert_eq!(none(&[0], &[]).run_floats("resize", Opset::Ios17), (vec![0], vec![]));
    }

    #[test]
    fn empty_batches_and_empty_axes() {
        let case = |shape: &[usize]| {
            let case =
                Case::new().value("x", Value::tensor::<f32>(ElementType::Float32, shape, &[]));
            case.int("target_size_height", 2).int("target_size_width", 3)
        };
        let (shape, _) = case(&[0, 4, 4]).run_floats("resize_bilinear", Opset::Ios15);
        assert_eq!(shape, [0, 2, 3]);
        let text = message(case(&[1, 0, 4]), "resize_bilinear", Opset::Ios15);
        assert!(text.contains("without any"), "{text}");
    }

    #[test]
    fn what_can_not_be_is_an_error() {
        let x = || Case::new().floats("x", &[1, 1, 2], &[1.0, 2.0]);
        let scaled =
            |scale: f32| x().float("scale_factor_width", scale).float("scale_factor_height", 1.0);
        for scale in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e30] {
            let text = message(scaled(scale), "upsample_bilinear", Opset::Ios16);
            assert!(text.contains("scale_factor"), "{text}");
        }
        let both = x().bools("half_pixel_centers", &[1]);
        assert!(message(both, "upsample_bilinear", Opset::Ios16).contains("half_pixel_centers"));
        let flat = Case::new().floats("x", &[1, 2], &[1.0, 2.0]);
        assert!(message(flat, "upsample_nearest_neighbor", Opset::Ios15).contains("rank 3"));
        let resize = |shape: &[i32], axes: u32| {
            let case = x().ints("shape", &[shape.len()], shape);
            message(
                case.dense("resized_dims", ElementType::UInt32, &[], &[axes]),
                "resize",
                Opset::Ios17,
            )
        };
        assert!(resize(&[1, 2], 3).contains("resized_dims"));
        assert!(resize(&[1, 2, 3, 4], 4).contains("resized_dims"));
        assert!(resize(&[1, -2], 2).contains("shape"));
    }
}
