//! `crop_resize`: boxes of images, each made as large as the others.

use coreml_kernels::sample::{Padding, Sample, Sampler};

use super::resample::{Images, sample_groups};
use super::sampling::Sampling;
use crate::error::OpError;
use crate::op::{Binder, Inputs, Kernel, Op, ResultTypes, bound, kernel, one};
use crate::value::{Shape, Storage, TensorRef};
use crate::weights::Weights;

/// Boxes of images, sampled between pixels.
#[derive(Clone, Debug)]
struct CropResize {
    x: usize,
    boxes: usize,
    of: Of,
    how: Boxes,
}

/// Which image a box is of.
#[derive(Clone, Copy, Debug)]
enum Of {
    /// That which a number before its coordinates says, or every one: boxes `[N, 1, 4 or 5, 1, 1]`, results
    /// `[N, images, …]`.
    Itself,
    /// That which this input says; without one the boxes are of the images in order: boxes `[N, 4]`,
    /// results `[N, …]`.
    Indices(Option<usize>),
}

/// How boxes are read and sampled.
#[derive(Clone, Copy, Debug)]
struct Boxes {
    /// Height and width of the results.
    target: [usize; 2],
    /// Coordinates are parts of the way from the first pixel to the last one.
    normalized: bool,
    scale: f32,
    /// Coordinates are the middle and the size, not the first and the last place.
    centers: bool,
    /// Horizontal coordinates come first.
    width_first: bool,
    sampling: Sampling,
    /// What lies outside of an image.
    outside: f32,
}

/// What there is to compute: boxes of `x`.
#[derive(Clone, Copy)]
struct Work {
    images: Images,
    /// Numbers of a box.
    numbers: usize,
    boxes: usize,
    /// Whether every box is of every image.
    all: bool,
}

impl Work {
    fn results(&self) -> usize {
        self.boxes.saturating_mul(if self.all { self.images.count } else { 1 })
    }
}

impl CropResize {
    fn work(&self, inputs: &Inputs) -> Result<Work, OpError> {
        let (images, boxes) = (Images::of(inputs, self.x)?, inputs.shape(self.boxes)?);
        let fail = |name: &str, expected: &str, got: &[usize]| {
            Err(OpError::argument(name, expected, format!("shape {got:?}")))
        };
        match (self.of, boxes) {
            (Of::Itself, &[boxes, 1, numbers @ (4 | 5), 1, 1]) => {
                Ok(Work { images, numbers, boxes, all: numbers == 4 })
            }
            (Of::Itself, got) => fail("roi", "boxes of shape [N, 1, 4 or 5, 1, 1]", got),
            (Of::Indices(indices), &[boxes, 4]) => {
                match indices {
                    Some(indices) if inputs.shape(indices)? != [boxes] => {
                        let expected = format!("shape [{boxes}], an image for each box");
                        return fail("box_indices", &expected, inputs.shape(indices)?);
                    }
                    None if boxes > images.count => {
                        let expected = format!("one for each of {} images or fewer", images.count);
                        return fail("boxes", &expected, &[boxes, 4]);
                    }
                    _ => {}
                }
                Ok(Work { images, numbers: 4, boxes, all: false })
            }
            (Of::Indices(_), got) => fail("boxes", "boxes of shape [N, 4]", got),
        }
    }

    /// The image of a result.
    fn image(&self, work: &Work, inputs: &Inputs, result: usize) -> Result<u32, OpError> {
        let wrong = |name: &str, got: String| {
            OpError::argument(name, format!("images below {}", work.images.count), got)
        };
        let known = |index: &i64| usize::try_from(*index).is_ok_and(|i| i < work.images.count);
        let index = match self.of {
            Of::Itself if work.all => (result % work.images.count) as i64,
            Of::Itself => {
                let number = number(&inputs.tensor(self.boxes)?, result * work.numbers)?;
                let index = number as i64;
                if index as f32 != number || !known(&index) {
                    return Err(wrong("roi", number.to_string()));
                }
                index
            }
            Of::Indices(None) => result as i64,
            Of::Indices(Some(indices)) => {
                inputs.tensor(indices)?.int_elements()?.get(result).unwrap_or(-1)
            }
        };
        let index =
            Some(index).filter(known).ok_or_else(|| wrong("box_indices", index.to_string()));
        Ok(index? as u32)
    }
}

/// An element of a tensor of floats or integers.
fn number(tensor: &TensorRef, index: usize) -> Result<f32, OpError> {
    let missing = || OpError::invalid("a box without its numbers");
    match tensor.storage {
        Storage::F32 => tensor.f32s()?.get(index).copied().ok_or_else(missing),
        _ => Ok(tensor.int_elements()?.get(index).ok_or_else(missing)? as f32),
    }
}

impl Boxes {
    /// The first and the last place of a box on each axis of an image of `size`.
    fn bounds(&self, coordinates: [f32; 4], size: [usize; 2]) -> [[f32; 2]; 2] {
        let [a, b, c, d] = coordinates;
        let axes = if self.width_first { [[b, d], [a, c]] } else { [[a, c], [b, d]] };
        let mut bounds = axes;
        for (bounds, size) in bounds.iter_mut().zip(size) {
            let [first, last] = *bounds;
            let pixels = if self.normalized { size.saturating_sub(1) as f32 } else { 1.0 };
            let corners =
                if self.centers { [first - last / 2.0, first + last / 2.0] } else { [first, last] };
            *bounds = corners.map(|place| place * pixels * self.scale);
        }
        bounds
    }

    /// Where sample `index` of `count` lies, of a box from `first` to `last` on an axis of `size` pixels.
    /// The samples of a box that runs backwards do, too.
    fn place(&self, index: usize, count: usize, [first, last]: [f32; 2], size: usize) -> f32 {
        let way = last - first;
        // What coremltools' test of iOS 15 has Core ML give.
        if self.sampling == Sampling::UnalignCorners && way < 0.0 {
            return self.sampling.place(index, size as f32, count);
        }
        if !way.is_finite() {
            return f32::NAN;
        }
        let along = self.sampling.place(index, way.abs() + 1.0, count);
        // The end is met as it is, not as steps that were rounded come to it.
        (first + along.copysign(way)).clamp(first.min(last), first.max(last))
    }

    fn samples(&self, coordinates: [f32; 4], size: [usize; 2], samples: &mut [Sample]) {
        let sampler = Sampler { size, bilinear: true, padding: Padding::Border };
        let [rows, columns] = self.bounds(coordinates, size);
        let [height, width] = self.target;
        let inside = |place: f32, size: usize| place >= 0.0 && place <= size as f32 - 1.0;
        for (row, samples) in samples.chunks_exact_mut(width.max(1)).enumerate() {
            let y = self.place(row, height, rows, size[0]);
            for (column, sample) in samples.iter_mut().enumerate() {
                let x = self.place(column, width, columns, size[1]);
                *sample = match inside(y, size[0]) && inside(x, size[1]) {
                    true => sampler.at(y, x),
                    false => Sample::constant(self.outside),
                };
            }
        }
    }
}

impl Op for CropResize {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let work = self.work(inputs)?;
        let mut shape = Shape::from_slice(&[work.boxes]);
        if let Of::Itself = self.of {
            shape.push(if work.all { work.images.count } else { 1 });
        }
        shape.push(work.images.channels);
        shape.extend(self.how.target);
        one(inputs.element(self.x)?, shape)
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let (op, work) = (self.clone(), self.work(inputs)?);
        let each = op.how.target[0].saturating_mul(op.how.target[1]);
        kernel(move |inputs, outputs, context| {
            let (x, boxes) = (inputs.tensor(op.x)?.f32s()?, inputs.tensor(op.boxes)?);
            let out = outputs.tensor(0)?.f32s()?;
            sample_groups(context, &work.images, x, work.results(), each, out, |result, samples| {
                let number_of = if work.all { result / work.images.count } else { result };
                let start = (number_of + 1) * work.numbers - 4;
                let mut coordinates = [0.0; 4];
                for (i, coordinate) in coordinates.iter_mut().enumerate() {
                    *coordinate = number(&boxes, start + i)?;
                }
                op.how.samples(coordinates, work.images.size, samples);
                op.image(&work, inputs, result)
            })
        })
    }
}

fn boxes(binder: &Binder) -> Result<Boxes, OpError> {
    let (centers, width_first) = binder.one_of(
        "box_coordinate_mode",
        &[
            ("CORNERS_HEIGHT_FIRST", (false, false)),
            ("CORNERS_WIDTH_FIRST", (false, true)),
            ("CENTER_SIZE_HEIGHT_FIRST", (true, false)),
            ("CENTER_SIZE_WIDTH_FIRST", (true, true)),
        ],
    )?;
    Ok(Boxes {
        target: [binder.positive("target_height")?, binder.positive("target_width")?],
        normalized: binder.bool("normalized_coordinates")?,
        scale: binder.float("spatial_scale")?,
        centers,
        width_first,
        sampling: Sampling::bind(binder)?,
        // Came with iOS 16.
        outside: binder.optional_float("pad_value")?.unwrap_or(0.0),
    })
}

/// Binds the versions of iOS 15 and 16.
pub(super) fn crop_resize(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let (x, roi) = (binder.input("x")?, binder.input("roi")?);
    bound(CropResize { x, boxes: roi, of: Of::Itself, how: boxes(binder)? })
}

/// Binds the version of iOS 17.
pub(super) fn crop_resize_ios17(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let (x, input) = (binder.input("x")?, binder.input("boxes")?);
    let of = Of::Indices(binder.optional_input("box_indices")?);
    bound(CropResize { x, boxes: input, of, how: boxes(binder)? })
}

#[cfg(test)]
mod tests {
    use coreml_format::mil::{ElementType, Opset};

    use crate::op::testing::{Case, Value, arange};

    /// Two images of a channel of 2 x 3 pixels: 0 to 11.
    fn images() -> Case {
        let x: Vec<f32> = arange(&[12]).into_iter().map(|x| x as f32).collect();
        Case::new().floats("x", &[2, 1, 2, 3], &x)
    }

    fn message(case: Case, opset: Opset) -> String {
        case.run("crop_resize", opset).err().unwrap().to_string()
    }

    #[test]
    fn boxes_of_all_images_and_of_one() {
        let corner = [0.0, 1.0, 1.0, 2.0];
        let all = images().floats("roi", &[1, 1, 4, 1, 1], &corner);
        assert_eq!(
            all.run_floats("crop_resize", Opset::Ios16),
            (vec![1, 2, 1, 1, 1], vec![1.0, 7.0])
        );
        let one = images().floats("roi", &[1, 1, 5, 1, 1], &[1.0, 0.0, 1.0, 1.0, 2.0]);
        assert_eq!(one.run_floats("crop_resize", Opset::Ios15), (vec![1, 1, 1, 1, 1], vec![7.0]));
        let boxes = Value::tensor(ElementType::UInt16, &[1, 4], &[0u16, 1, 1, 2]);
        let indices = Value::tensor(ElementType::UInt16, &[1], &[1u16]);
        let whole = images().value("boxes", boxes).value("box_indices", indices);
        assert_eq!(whole.run_floats("crop_resize", Opset::Ios17), (vec![1, 1, 1, 1], vec![7.0]));
        let none = images().floats("boxes", &[0, 4], &[]);
        assert_eq!(none.run_floats("crop_resize", Opset::Ios17), (vec![0, 1, 1, 1], vec![]));
    }

    #[test]
    fn images_that_are_not_there() {
        for image in [2.0, -1.0, 0.5, f32::NAN] {
            let case = images().floats("roi", &[1, 1, 5, 1, 1], &[image, 0.0, 0.0, 1.0, 1.0]);
            assert!(message(case, Opset::Ios15).contains("images below 2"), "{image}");
        }
        let case = images().floats("boxes", &[1, 4], &[0.0; 4]).ints("box_indices", &[1], &[2]);
        assert!(message(case, Opset::Ios17).contains("box_indices"));
        let many = images().floats("boxes", &[3, 4], &[0.0; 12]);
        assert!(message(many, Opset::Ios17).contains("boxes"));
    }

    #[test]
    fn shapes_that_do_not_fit() {
        let flat = Case::new().floats("x", &[2, 3], &[0.0; 6]).floats("boxes", &[1, 4], &[0.0; 4]);
        assert!(message(flat, Opset::Ios17).contains("rank 4"));
        let roi = images().floats("roi", &[1, 4], &[0.0; 4]);
        assert!(message(roi, Opset::Ios15).contains("roi"));
        let boxes = images().floats("boxes", &[4], &[0.0; 4]);
        assert!(message(boxes, Opset::Ios17).contains("boxes"));
        let indices =
            images().floats("boxes", &[1, 4], &[0.0; 4]).ints("box_indices", &[1, 1], &[0]);
        assert!(message(indices, Opset::Ios17).contains("box_indices"));
        let empty = Case::new().floats("x", &[1, 1, 0, 3], &[]).floats("boxes", &[1, 4], &[0.0; 4]);
        assert!(message(empty, Opset::Ios17).contains("pixels"));
    }

    #[test]
    fn what_is_no_number_lies_outside() {
        let case = images().floats(
            "boxes",
            &[2, 4],
            &[
                0.0,
                f32::NAN,
                1.0,
                2.0, //
                0.0,
                f32::NEG_INFINITY,
                0.0,
                f32::INFINITY,
            ],
        );
        let case = case.float("pad_value", 5.0);
        assert_eq!(case.run_floats("crop_resize", Opset::Ios17).1, [5.0, 5.0]);
    }
}
