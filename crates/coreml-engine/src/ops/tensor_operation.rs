//! Operations that repeat tensors, tell their shape or make them; `concat`, `stack`, `split` and
//! `pad`, which belong to the family, have files of their own.

use coreml_format::mil::{ElementType, Opset};
use half::f16;
use smallvec::{SmallVec, smallvec};

use super::concat::{concat, split, stack};
use super::movement::{Moved, Movement};
use super::pad::pad;
use super::tensor_transformation::identity;
use crate::error::OpError;
use crate::op::{Binder, Inputs, Kernel, Op, OpDef, ResultTypes, bound, def, kernel, one};
use crate::value::{Constant, Shape, Storage, Strides, TensorMut};
use crate::weights::Weights;

/// A tensor repeated along its axes.
#[derive(Clone, Debug)]
pub(crate) struct Tile {
    pub(crate) x: usize,
    pub(crate) reps: usize,
}

impl Tile {
    /// How often each axis is repeated, of which some sizes need not be known.
    ///
    /// Positive counts say so. Others come from an expansion to a shape that was found at run time, by the
    /// quotient of the sizes: -1, which keeps an axis, over its size is 0 or less. So such an axis stays as
    /// it is; only one of size 1 has a count of 0 where it is to be empty.
    pub(crate) fn repetitions(
        &self,
        inputs: &Inputs,
        shape: &[Option<usize>],
    ) -> Result<SmallVec<[usize; 6]>, OpError> {
        let reps = inputs.ints(self.reps)?;
        if reps.len() != shape.len() {
            let expected = format!("{} integers, the rank of `x`", shape.len());
            return Err(OpError::argument("reps", expected, format!("{:?}", reps.as_slice())));
        }
        let repetition = |(&rep, &size): (&i64, &Option<usize>)| match usize::try_from(rep) {
            Ok(0) if size.is_none() => Err(OpError::NotYetKnown),
            Ok(0) if size == Some(1) => Ok(0),
            Ok(rep) => Ok(rep.max(1)),
            Err(_) => Ok(1),
        };
        reps.iter().zip(shape).map(repetition).collect()
    }
}

impl Movement for Tile {
    fn x(&self) -> usize {
        self.x
    }

    fn moved(
        &self,
        inputs: &Inputs,
        shape: &[usize],
        strides: &Strides,
    ) -> Result<SmallVec<[Moved; 1]>, OpError> {
        let known: SmallVec<[Option<usize>; 6]> = shape.iter().copied().map(Some).collect();
        let reps = self.repetitions(inputs, &known)?;
        let sizes = shape.iter().zip(&reps);
        let result: Option<Shape> = sizes.map(|(size, &rep)| size.checked_mul(rep)).collect();
        let axes: SmallVec<[(usize, isize); 12]> = shape
            .iter()
            .zip(strides)
            .zip(&reps)
            .flat_map(|((&size, &stride), &rep)| [(rep, 0), (size, stride)])
            .collect();
        Ok(smallvec![Moved::joined(result.ok_or_else(OpError::too_large)?, &axes)])
    }
}

fn tile(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    bound(Tile { x: binder.input("x")?, reps: binder.input("reps")? })
}

/// The shape of a tensor.
#[derive(Clone, Debug)]
struct ShapeOf {
    x: usize,
}

impl Op for ShapeOf {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        one(ElementType::Int32, Shape::from_slice(&[inputs.shape(self.x)?.len()]))
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let size = |&size: &usize| i32::try_from(size).unwrap_or(i32::MAX);
        let shape: SmallVec<[i32; 6]> = inputs.shape(self.x)?.iter().map(size).collect();
        kernel(move |_inputs, outputs, _context| {
            for (out, &size) in outputs.tensor(0)?.slice::<i32>()?.iter_mut().zip(&shape) {
                *out = size;
            }
            Ok(())
        })
    }

    fn reads_half(&self, _input: usize) -> bool {
        true
    }

    fn reads_strided(&self, _input: usize) -> bool {
        true
    }

    fn reads_shape_only(&self, _input: usize) -> bool {
        true
    }

    fn reads_compressed(&self, _input: usize, _constant: &Constant) -> bool {
        true
    }
}

fn shape_of(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    bound(ShapeOf { x: binder.input("x")? })
}

/// Numbers from `start` up to but not including `end`, `step` apart.
#[derive(Clone, Debug)]
struct Range1d {
    start: usize,
    end: usize,
    step: usize,
}

impl Range1d {
    fn count(&self, inputs: &Inputs) -> Result<usize, OpError> {
        let [start, end, step] = [self.start, self.end, self.step].map(|input| {
            let tensor = inputs.tensor(input)?;
            // An `i32` is exact in `f64`, not in `f32`.
            match tensor.storage {
                Storage::F32 => tensor.scalar_f32().map(f64::from),
                _ => tensor.scalar_int().map(|value| value as f64),
            }
        });
        let (start, end, step) = (start?, end?, step?);
        let count = ((end - start) / step).ceil();
        if step == 0.0 || !count.is_finite() || count > f64::from(i32::MAX) {
            let got = format!("{start} to {end} in steps of {step}");
            return Err(OpError::argument("step", "a step that gets from `start` to `end`", got));
        }
        Ok(count.max(0.0) as usize)
    }
}

impl Op for Range1d {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        one(inputs.element(self.start)?, Shape::from_slice(&[self.count(inputs)?]))
    }

    fn prepare(&self, _inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let Range1d { start, step, .. } = *self;
        kernel(move |inputs, outputs, _context| {
            let (start, step) = (inputs.tensor(start)?, inputs.tensor(step)?);
            let out = outputs.tensor(0)?;
            if out.storage == Storage::F32 {
                let (start, step) = (start.scalar_f32()?, step.scalar_f32()?);
                for (i, out) in out.f32s()?.iter_mut().enumerate() {
                    *out = start + i as f32 * step;
                }
                return Ok(());
            }
            let (start, step) = (start.scalar_int()?, step.scalar_int()?);
            for (i, out) in out.slice::<i32>()?.iter_mut().enumerate() {
                *out = start.wrapping_add((i as i64).wrapping_mul(step)) as i32;
            }
            Ok(())
        })
    }
}

fn range_1d(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let (start, end, step) = (binder.input("start")?, binder.input("end")?, binder.input("step")?);
    bound(Range1d { start, end, step })
}

/// A tensor of one value.
#[derive(Clone, Debug)]
struct Fill {
    shape: usize,
    /// `fill_like`: the shape is that of the input, not its elements.
    like: bool,
    element: ElementType,
    value: f64,
}

impl Op for Fill {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        if self.like {
            return one(self.element, inputs.shape(self.shape)?);
        }
        let sizes = inputs.ints(self.shape)?;
        let shape: Option<Shape> = sizes.iter().map(|&size| usize::try_from(size).ok()).collect();
        let fail = || OpError::argument("shape", "sizes", format!("{:?}", sizes.as_slice()));
        one(self.element, shape.ok_or_else(fail)?)
    }

    fn prepare(&self, _inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let value = self.value;
        kernel(move |_inputs, outputs, _context| {
            let out = outputs.tensor(0)?;
            let (value, size) = element_bytes(value, out);
            out.bytes.chunks_exact_mut(size).for_each(|out| out.copy_from_slice(&value[..size]));
            Ok(())
        })
    }

    fn reads_half(&self, _input: usize) -> bool {
        self.like
    }

    fn reads_strided(&self, _input: usize) -> bool {
        self.like
    }
}

/// The bytes of a number as an element of `out`, and how many they are.
pub(super) fn element_bytes(value: f64, out: &TensorMut) -> ([u8; 8], usize) {
    let size = out.storage.size();
    let mut bytes = [0; 8];
    let mut set = |value: &[u8]| bytes[..value.len()].copy_from_slice(value);
    match out.storage {
        Storage::Bool => set(&[u8::from(value != 0.0)]),
        Storage::U8 => set(&[value as u8]),
        Storage::I8 => set(&(value as i8).to_ne_bytes()),
        Storage::U16 => set(&(value as u16).to_ne_bytes()),
        Storage::I16 => set(&(value as i16).to_ne_bytes()),
        Storage::U32 => set(&(value as u32).to_ne_bytes()),
        Storage::I32 => set(&(value as i32).to_ne_bytes()),
        Storage::U64 => set(&(value as u64).to_ne_bytes()),
        Storage::I64 => set(&(value as i64).to_ne_bytes()),
        Storage::F16 => set(&f16::from_f64(value).to_ne_bytes()),
        Storage::F32 => set(&(value as f32).to_ne_bytes()),
        Storage::F64 => set(&value.to_ne_bytes()),
    }
    (bytes, size)
}

fn fill_with(binder: &mut Binder, argument: &str, like: bool) -> Result<Box<dyn Op>, OpError> {
    let shape = binder.input(argument)?;
    let element = binder.constant("value")?.map_or(ElementType::Float32, |value| value.element);
    bound(Fill { shape, like, element, value: binder.number("value")? })
}

fn fill(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    fill_with(binder, "shape", false)
}

fn fill_like(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    fill_with(binder, "ref_tensor", true)
}

pub(super) const OPS: &[OpDef] = &[
    def("concat", Opset::Ios15, concat),
    def("fill", Opset::Ios15, fill),
    def("fill_like", Opset::Ios16, fill_like),
    def("identity", Opset::Ios15, identity),
    def("pad", Opset::Ios15, pad),
    def("range_1d", Opset::Ios15, range_1d),
    def("shape", Opset::Ios15, shape_of),
    def("split", Opset::Ios15, split),
    def("stack", Opset::Ios15, stack),
    def("tile", Opset::Ios15, tile),
];

#[cfg(test)]
mod tests {
    use coreml_format::mil::Opset;
    use proptest::prelude::*;

    use crate::op::testing::{Case, arange, indices, position};

    /// Beyond what `f32` holds exactly.
    #[test]
    fn integers_fill_as_they_are() {
        let case = Case::new().vector("shape", &[2]).int("value", 16_777_217);
        assert_eq!(case.run_ints("fill", Opset::Ios15), (vec![2], vec![16_777_217; 2]));
    }

    /// torch.arange(3).reshape(3, 1).expand(shape), with `reps` as coremltools' converter computes them of
    /// `shape`: the quotients of its sizes and those of `x`.
    #[test]
    fn counts_of_an_expansion_that_keeps_axes_repeat_them_once() {
        let case = |reps: &[i32; 2]| {
            Case::new()
                .ints("x", &[3, 1], &[0, 1, 2])
                .vector("reps", reps)
                .run_ints("tile", Opset::Ios15)
        };
        let (kept, twice) = ((vec![3, 1], vec![0, 1, 2]), (vec![3, 2], vec![0, 0, 1, 1, 2, 2]));
        assert_eq!(case(&[0, 2]), twice); // (-1, 2)
        assert_eq!(case(&[1, -1]), kept); // (3, -1)
        assert_eq!(case(&[-1, -1]), kept);
        assert_eq!(case(&[1, 0]), (vec![3, 0], vec![])); // (3, 0)
    }

    proptest! {
        #[test]
        fn tiles_repeat(axes in prop::collection::vec((1usize..4, 1usize..4), 0..4)) {
            let (shape, reps): (Vec<usize>, Vec<usize>) = axes.into_iter().unzip();
            let result: Vec<usize> = shape.iter().zip(&reps).map(|(size, rep)| size * rep).collect();
            let expected: Vec<i32> = indices(&result)
                .iter()
                .map(|index| {
                    let at: Vec<usize> = index.iter().zip(&shape).map(|(i, size)| i % size).collect();
                    position(&shape, &at) as i32
                })
                .collect();
            let reps: Vec<i32> = reps.iter().map(|&rep| rep as i32).collect();
            let case = Case::new().ints("x", &shape, &arange(&shape)).vector("reps", &reps);
            prop_assert_eq!(case.run_ints("tile", Opset::Ios15), (result, expected));
        }
    }

    #[test]
    fn tensors_are_filled_with_exact_numbers() {
        let case = Case::new().vector("shape", &[2]).int("value", 16_777_217);
        assert_eq!(case.run_ints("fill", Opset::Ios15), (vec![2], vec![16_777_217; 2]));
        let case = Case::new().floats("ref_tensor", &[1], &[0.0]).int("value", i32::MIN);
        assert_eq!(case.run_ints("fill_like", Opset::Ios16), (vec![1], vec![i32::MIN]));
    }
}
