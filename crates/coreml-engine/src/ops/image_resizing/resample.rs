//! Images at any places: `resample`, and `affine`, whose places are those of a transformed image.

use coreml_kernels::Context;
use coreml_kernels::sample::{Padding, Sample, Sampler, sample};

use crate::error::OpError;
use crate::op::{Binder, Inputs, Kernel, Op, ResultTypes, bound, kernel, one};
use crate::value::{Shape, Storage, TensorRef};
use crate::weights::Weights;

/// Samples that are laid out at a time, unless one result has more: 2 MB.
const SAMPLES: usize = 1 << 16;

/// The sizes of a tensor of images.
#[derive(Clone, Copy, Debug)]
pub(super) struct Images {
    pub(super) count: usize,
    pub(super) channels: usize,
    /// Height and width.
    pub(super) size: [usize; 2],
}

impl Images {
    /// Those of an input, `[count, channels, height, width]`.
    pub(super) fn of(inputs: &Inputs, x: usize) -> Result<Self, OpError> {
        let shape = inputs.shape(x)?;
        let &[count, channels, height, width] = shape else {
            let got = format!("one of shape {shape:?}");
            return Err(OpError::argument("x", "a tensor of rank 4", got));
        };
        Ok(Images { count, channels, size: [height, width] })
    }

    /// Pixels of a channel, which samples count in 32 bits.
    fn pixels(&self) -> Result<usize, OpError> {
        let pixels = self.size[0].checked_mul(self.size[1]);
        pixels.filter(|&pixels| u32::try_from(pixels).is_ok()).ok_or_else(OpError::too_large)
    }
}

/// Computes `results` results of `each` samples of all channels. `samples_of` writes the samples of a
/// result and says which image they are of.
pub(super) fn sample_groups(
    context: &Context,
    images: &Images,
    x: &[f32],
    results: usize,
    each: usize,
    out: &mut [f32],
    samples_of: impl Fn(usize, &mut [Sample]) -> Result<u32, OpError>,
) -> Result<(), OpError> {
    let pixels = images.pixels()?;
    if out.is_empty() {
        return Ok(());
    }
    if pixels == 0 {
        let got = format!("images of {:?} pixels", images.size);
        return Err(OpError::argument("x", "images with pixels", got));
    }
    let group = (SAMPLES / each.max(1)).clamp(1, results);
    let mut samples = context.scratch().take::<Sample>(group.saturating_mul(each))?;
    let mut numbers = context.scratch().take::<u32>(group)?;
    let size = each.saturating_mul(images.channels).max(1);
    for (first, out) in (0..results).step_by(group).zip(out.chunks_mut(group.saturating_mul(size)))
    {
        let count = group.min(results - first);
        let parts = samples.chunks_exact_mut(each.max(1)).zip(numbers.iter_mut());
        for (result, (samples, number)) in (first..first + count).zip(parts) {
            *number = samples_of(result, samples)?;
        }
        let (samples, numbers) = (&samples[..count * each], &numbers[..count]);
        sample(context, images.channels, pixels, x, numbers, samples, out)?;
    }
    Ok(())
}

/// What coordinates mean.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Coordinates {
    /// Pixels, from the middle of the first one.
    Pixels,
    /// From -1 to 1 over an image.
    MinusOneToOne,
    /// From 0 to 1 over an image.
    ZeroToOne,
}

/// How images are sampled.
#[derive(Clone, Copy, Debug)]
struct Sampled {
    bilinear: bool,
    padding: Padding,
    coordinates: Coordinates,
    /// The extremes are the middles of the outermost pixels, not their edges.
    align_corners: bool,
}

impl Sampled {
    /// The place of a coordinate on an axis of `size` pixels, as PyTorch's `grid_sample` computes it.
    fn place(&self, coordinate: f32, size: usize) -> f32 {
        let size = size as f32;
        match (self.coordinates, self.align_corners) {
            (Coordinates::Pixels, _) => coordinate,
            (Coordinates::MinusOneToOne, true) => (coordinate + 1.0) * ((size - 1.0) / 2.0),
            (Coordinates::MinusOneToOne, false) => (coordinate + 1.0).mul_add(size / 2.0, -0.5),
            (Coordinates::ZeroToOne, true) => coordinate * (size - 1.0),
            (Coordinates::ZeroToOne, false) => coordinate.mul_add(size, -0.5),
        }
    }

    fn at(&self, [x, y]: [f32; 2], size: [usize; 2]) -> Sample {
        let sampler = Sampler { size, bilinear: self.bilinear, padding: self.padding };
        sampler.at(self.place(y, size[0]), self.place(x, size[1]))
    }
}

/// Images at given places.
#[derive(Clone, Debug)]
struct Resample {
    x: usize,
    coordinates: usize,
    how: Sampled,
}

impl Resample {
    /// The images, and height and width of the results.
    fn sizes(&self, inputs: &Inputs) -> Result<(Images, [usize; 2]), OpError> {
        let (images, places) = (Images::of(inputs, self.x)?, inputs.shape(self.coordinates)?);
        match places {
            &[count, height, width, 2] if count == images.count => Ok((images, [height, width])),
            got => {
                let expected = format!("shape [{}, height, width, 2]", images.count);
                Err(OpError::argument("coordinates", expected, format!("shape {got:?}")))
            }
        }
    }
}

/// The places of a row of pixels, in pairs `x, y`.
fn pairs(
    tensor: &TensorRef,
    first: usize,
    mut place: impl FnMut(usize, [f32; 2]),
    count: usize,
) -> Result<(), OpError> {
    let missing = || OpError::invalid("fewer coordinates than pixels");
    if tensor.storage == Storage::F32 {
        let numbers = tensor.f32s()?.get(2 * first..).ok_or_else(missing)?;
        for (i, pair) in numbers.as_chunks::<2>().0.iter().take(count).enumerate() {
            place(i, *pair);
        }
        return Ok(());
    }
    let ints = tensor.int_elements()?;
    for i in 0..count {
        let number = |at: usize| ints.get(2 * (first + i) + at).map(|value| value as f32);
        place(i, [number(0).ok_or_else(missing)?, number(1).ok_or_else(missing)?]);
    }
    Ok(())
}

impl Op for Resample {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let (images, [height, width]) = self.sizes(inputs)?;
        let shape = Shape::from_slice(&[images.count, images.channels, height, width]);
        one(inputs.element(self.x)?, shape)
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let (images, [height, width]) = self.sizes(inputs)?;
        let each = height.saturating_mul(width);
        let &Resample { x, coordinates, how } = self;
        kernel(move |inputs, outputs, context| {
            let (x, places) = (inputs.tensor(x)?.f32s()?, inputs.tensor(coordinates)?);
            let out = outputs.tensor(0)?.f32s()?;
            sample_groups(context, &images, x, images.count, each, out, |image, samples| {
                let count = samples.len();
                let write = |i: usize, place| samples[i] = how.at(place, images.size);
                pairs(&places, image * each, write, count)?;
                Ok(image as u32)
            })
        })
    }
}

/// Binds `resample`.
pub(super) fn resample(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let (x, coordinates) = (binder.input("x")?, binder.input("coordinates")?);
    let value = binder.float("padding_value")?;
    let how = Sampled {
        bilinear: binder.one_of("sampling_mode", &[("bilinear", true), ("nearest", false)])?,
        padding: binder.one_of(
            "padding_mode",
            &[
                ("constant", Padding::Constant(value)),
                ("border", Padding::Border),
                ("reflection", Padding::Reflection),
                ("symmetric", Padding::Symmetric),
            ],
        )?,
        coordinates: binder.one_of(
            "coordinates_mode",
            &[
                ("unnormalized", Coordinates::Pixels),
                ("normalized_minus_one_to_one", Coordinates::MinusOneToOne),
                ("normalized_zero_to_one", Coordinates::ZeroToOne),
            ],
        )?,
        align_corners: binder.bool("align_corners")?,
    };
    bound(Resample { x, coordinates, how })
}

/// Images transformed: the value at each place is that at another place, which a matrix gives.
#[derive(Clone, Debug)]
struct Affine {
    x: usize,
    matrix: usize,
    /// Height and width of the results.
    target: [usize; 2],
    how: Sampled,
}

impl Affine {
    /// The images, and whether each has a matrix of its own.
    fn sizes(&self, inputs: &Inputs) -> Result<(Images, bool), OpError> {
        let images = Images::of(inputs, self.x)?;
        match inputs.shape(self.matrix)? {
            &[1, 6] => Ok((images, false)),
            &[count, 6] if count == images.count => Ok((images, true)),
            got => {
                let expected = format!("shape [1, 6] or [{}, 6]", images.count);
                Err(OpError::argument("transform_matrix", expected, format!("shape {got:?}")))
            }
        }
    }

    /// The coordinate of a pixel of a result of `count` on an axis, as PyTorch's `affine_grid` has it.
    fn coordinate(&self, index: usize, count: usize) -> f32 {
        if count == 1 {
            return 0.0;
        }
        // From the nearer end, so that the axis is symmetric.
        let (last, number) = (count - 1, count as f32);
        let step = 2.0 / last as f32;
        let place = match index < count / 2 {
            true => step.mul_add(index as f32, -1.0),
            false => 1.0 - step * (last - index) as f32,
        };
        if self.how.align_corners { place } else { place * ((number - 1.0) / number) }
    }

    fn samples(&self, matrix: &[f32; 6], size: [usize; 2], samples: &mut [Sample]) {
        let ([height, width], [a0, a1, a2, b0, b1, b2]) = (self.target, *matrix);
        for (row, samples) in samples.chunks_exact_mut(width).enumerate() {
            let y = self.coordinate(row, height);
            for (column, sample) in samples.iter_mut().enumerate() {
                let x = self.coordinate(column, width);
                *sample = self.how.at([a0 * x + a1 * y + a2, b0 * x + b1 * y + b2], size);
            }
        }
    }
}

impl Op for Affine {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let (images, _) = self.sizes(inputs)?;
        let [height, width] = self.target;
        let shape = Shape::from_slice(&[images.count, images.channels, height, width]);
        one(inputs.element(self.x)?, shape)
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let (op, (images, own)) = (self.clone(), self.sizes(inputs)?);
        let each = op.target[0].saturating_mul(op.target[1]);
        kernel(move |inputs, outputs, context| {
            let (x, matrices) = (inputs.tensor(op.x)?.f32s()?, inputs.tensor(op.matrix)?.f32s()?);
            let out = outputs.tensor(0)?.f32s()?;
            sample_groups(context, &images, x, images.count, each, out, |image, samples| {
                let (matrices, _) = matrices.as_chunks::<6>();
                let matrix = matrices.get(if own { image } else { 0 });
                let missing = || OpError::invalid("an image without a matrix");
                op.samples(matrix.ok_or_else(missing)?, images.size, samples);
                Ok(image as u32)
            })
        })
    }
}

/// Binds `affine`, which has one mode of each kind; coremltools takes their names in any case.
pub(super) fn affine(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let (x, matrix) = (binder.input("x")?, binder.input("transform_matrix")?);
    for (name, only) in [
        ("sampling_mode", "bilinear"),
        ("padding_mode", "constant"),
        ("coordinates_mode", "normalized_minus_one_to_one"),
    ] {
        let mode = binder.string(name)?;
        if !mode.eq_ignore_ascii_case(only) {
            return Err(OpError::argument(name, format!("`{only}`"), format!("`{mode}`")));
        }
    }
    let target = [binder.positive("output_height")?, binder.positive("output_width")?];
    let how = Sampled {
        bilinear: true,
        padding: Padding::Constant(binder.float("padding_value")?),
        coordinates: Coordinates::MinusOneToOne,
        align_corners: binder.bool("align_corners")?,
    };
    bound(Affine { x, matrix, target, how })
}

#[cfg(test)]
mod tests {
    use coreml_format::mil::{ElementType, Opset};

    use crate::op::testing::{Case, Value};

    fn resampled(x: &[usize], places: Value) -> Case {
        let values: Vec<f32> = (0..x.iter().product::<usize>()).map(|i| i as f32).collect();
        let case = Case::new().floats("x", x, &values).value("coordinates", places);
        let case = case.string("sampling_mode", "nearest").string("padding_mode", "border");
        let case = case.float("padding_value", 0.0).bools("align_corners", &[1]);
        case.string("coordinates_mode", "unnormalized")
    }

    #[test]
    fn images_more_than_a_group() {
        // Each image at its last pixel, then at its first; so many that they go in several groups.
        let (count, side) = (300, 16);
        let places: Vec<i32> = (0..count)
            .flat_map(|_| (0..2 * side * side).map(|i| if i < side * side { 9 } else { 0 }))
            .collect();
        let places = Value::tensor(ElementType::Int32, &[count, side, side, 2], &places);
        let (shape, got) =
            resampled(&[count, 1, 1, 2], places).run_floats("resample", Opset::Ios15);
        assert_eq!(shape, [count, 1, side, side]);
        for (image, got) in got.chunks(side * side).enumerate() {
            assert_eq!(got[0], (2 * image + 1) as f32);
            assert_eq!(got[side * side - 1], (2 * image) as f32);
        }
    }

    #[test]
    fn nothing_to_sample() {
        let places = Value::tensor::<i32>(ElementType::Int32, &[1, 0, 3, 2], &[]);
        let none = resampled(&[1, 2, 2, 2], places).run_floats("resample", Opset::Ios15);
        assert_eq!(none, (vec![1, 2, 0, 3], vec![]));
        let places = Value::tensor(ElementType::Int32, &[1, 1, 1, 2], &[0, 0]);
        let error = resampled(&[1, 2, 0, 2], places).run("resample", Opset::Ios15).err().unwrap();
        assert!(error.to_string().contains("with pixels"), "{error}");
    }

    #[test]
    fn shapes_and_modes_that_do_not_fit() {
        let places = |shape: &[usize]| {
            let count = shape.iter().product();
            Value::tensor(ElementType::Int32, shape, &vec![0; count])
        };
        for shape in [&[1, 1, 1, 2][..], &[2, 1, 1, 3], &[2, 1, 2]] {
            let case = resampled(&[2, 1, 2, 2], places(shape));
            let error = case.run("resample", Opset::Ios17).err().unwrap();
            assert!(error.to_string().contains("coordinates"), "{error}");
        }
        let affine = |matrix: &[usize], mode: &str| {
            let values = vec![0.0; matrix.iter().product()];
            let case = Case::new().floats("x", &[2, 1, 1, 1], &[1.0, 2.0]);
            let case = case.floats("transform_matrix", matrix, &values).float("padding_value", 0.0);
            let case = case.string("sampling_mode", mode).string("padding_mode", "CONSTANT");
            let case = case.string("coordinates_mode", "normalized_minus_one_to_one");
            let case = case.bools("align_corners", &[1]).int("output_height", 1);
            case.int("output_width", 1).run("affine", Opset::Ios15)
        };
        assert!(affine(&[3, 6], "bilinear").err().unwrap().to_string().contains("[2, 6]"));
        assert!(affine(&[1, 6], "nearest").err().unwrap().to_string().contains("sampling_mode"));
        assert_eq!(affine(&[1, 6], "Bilinear").unwrap()[0].values::<f32>(), [1.0, 2.0]);
    }
}
