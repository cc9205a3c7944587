//! `pad`, of the `tensor_operation` family.

use smallvec::SmallVec;

use crate::error::OpError;
use crate::op::{Binder, Inputs, Kernel, Op, ResultTypes, bound, kernel, one};
use crate::value::{Shape, count, row_major, same_count};
use crate::weights::Weights;

/// What stands where `x` has nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum PadMode {
    /// This number.
    Constant(f32),
    /// The elements mirrored at the border, which is not repeated.
    Reflect,
    /// The element at the border.
    Replicate,
}

impl PadMode {
    /// The element of an axis of `size` that stands at `position`, which counts from the first
    /// element and may lie outside.
    fn source(self, position: isize, size: usize) -> Option<usize> {
        let last = size as isize - 1;
        let inside = match self {
            PadMode::Constant(_) => position,
            PadMode::Reflect if position < 0 => -position,
            PadMode::Reflect if position > last => 2 * last - position,
            PadMode::Reflect => position,
            PadMode::Replicate => position.clamp(0, last.max(0)),
        };
        usize::try_from(inside).ok().filter(|&inside| inside < size)
    }
}

/// How many elements are added before and after each axis.
type Widths = SmallVec<[[usize; 2]; 6]>;

/// Adds elements around a tensor.
#[derive(Clone, Debug)]
pub(crate) struct Pad {
    pub(crate) x: usize,
    pub(crate) pad: usize,
    pub(crate) mode: PadMode,
}

impl Pad {
    /// How many elements to add; the last axes are those given.
    fn widths(&self, inputs: &Inputs) -> Result<Widths, OpError> {
        let (shape, pad) = (inputs.shape(self.x)?, inputs.ints(self.pad)?);
        let fail = || {
            let expected = match self.mode {
                PadMode::Reflect => "sizes that are smaller than the axis",
                _ => "two sizes for each of the last axes",
            };
            let got = format!("{:?} for shape {shape:?}", pad.as_slice());
            OpError::argument("pad", expected, got)
        };
        let pairs = pad.len() / 2;
        if pad.len() % 2 != 0 || pairs > shape.len() {
            return Err(fail());
        }
        let mut widths: Widths = SmallVec::from_elem([0; 2], shape.len());
        let given = shape.len() - pairs;
        for ((widths, pair), &size) in
            widths[given..].iter_mut().zip(pad.chunks_exact(2)).zip(&shape[given..])
        {
            for (width, &value) in widths.iter_mut().zip(pair) {
                *width = usize::try_from(value).map_err(|_| fail())?;
                let enough = match self.mode {
                    PadMode::Constant(_) => true,
                    PadMode::Reflect => *width < size.max(1),
                    PadMode::Replicate => size > 0 || *width == 0,
                };
                if !enough {
                    return Err(fail());
                }
            }
        }
        Ok(widths)
    }
}

fn padded(shape: &[usize], widths: &Widths) -> Result<Shape, OpError> {
    let sizes = shape.iter().zip(widths);
    let result: Option<Shape> = sizes
        .map(|(size, [before, after])| size.checked_add(*before)?.checked_add(*after))
        .collect();
    result.ok_or_else(OpError::too_large)
}

/// All that a run of a [`Pad`] has to know.
struct Padding {
    mode: PadMode,
    shape: Shape,
    strides: Shape,
    widths: Widths,
    result: Shape,
}

impl Padding {
    fn copy(&self, x: &[f32], out: &mut [f32]) -> Result<(), OpError> {
        same_count(count(&self.shape), x.len())?;
        same_count(count(&self.result), out.len())?;
        let (Some(&row), Some(&size)) = (self.result.last(), self.shape.last()) else {
            out.copy_from_slice(x);
            return Ok(());
        };
        let before = self.widths[self.shape.len() - 1][0];
        let value = if let PadMode::Constant(value) = self.mode { value } else { 0.0 };
        for (number, out) in out.chunks_exact_mut(row.max(1)).enumerate() {
            let Some(start) = self.row_start(number) else {
                out.fill(value);
                continue;
            };
            let line = &x[start..start + size];
            out[before..before + size].copy_from_slice(line);
            for (i, out) in out.iter_mut().enumerate() {
                if i < before || i >= before + size {
                    let source = self.mode.source(i as isize - before as isize, size);
                    *out = source.map_or(value, |source| line[source]);
                }
            }
        }
        Ok(())
    }

    /// Where the row of `x` that row `number` of the result shows starts.
    fn row_start(&self, mut number: usize) -> Option<usize> {
        let mut start = 0;
        for axis in (0..self.result.len() - 1).rev() {
            let index = number % self.result[axis];
            number /= self.result[axis];
            let position = index as isize - self.widths[axis][0] as isize;
            start += self.mode.source(position, self.shape[axis])? * self.strides[axis];
        }
        Some(start)
    }
}

impl Op for Pad {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let result = padded(inputs.shape(self.x)?, &self.widths(inputs)?)?;
        one(inputs.element(self.x)?, result)
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let (x, mode, shape) = (self.x, self.mode, inputs.shape(self.x)?);
        let widths = self.widths(inputs)?;
        let result = padded(shape, &widths)?;
        let padding =
            Padding { mode, shape: shape.into(), strides: row_major(shape), widths, result };
        kernel(move |inputs, outputs, _context| {
            padding.copy(inputs.tensor(x)?.f32s()?, outputs.tensor(0)?.f32s()?)
        })
    }
}

/// Binds `pad`.
pub(super) fn pad(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let (x, pad) = (binder.input("x")?, binder.input("pad")?);
    let constant = PadMode::Constant(binder.float("constant_val")?);
    let modes =
        [("constant", constant), ("reflect", PadMode::Reflect), ("replicate", PadMode::Replicate)];
    bound(Pad { x, pad, mode: binder.one_of("mode", &modes)? })
}

#[cfg(test)]
mod tests {
    use coreml_format::mil::Opset;
    use proptest::prelude::*;

    use crate::op::testing::{Case, arange, indices, position};

    /// Where NumPy's modes `reflect` and `edge` find the element `i` of a padded axis.
    fn source(mode: &str, i: usize, before: usize, size: usize) -> Option<usize> {
        let (mut at, last) = (i as i64 - before as i64, size as i64 - 1);
        match mode {
            "reflect" => {
                while at < 0 || at > last {
                    at = if at < 0 { -at } else { 2 * last - at };
                }
            }
            "replicate" => at = at.min(last).max(0),
            _ => {}
        }
        (0..=last).contains(&at).then_some(at as usize)
    }

    proptest! {
        #[test]
        fn elements_around_are_those_of_the_mode(
            axes in prop::collection::vec((1usize..4, 0usize..4, 0usize..4), 1..4),
            given in 1usize..4,
            mode in prop::sample::select(&["constant", "reflect", "replicate"]),
        ) {
            let shape: Vec<usize> = axes.iter().map(|axis| axis.0).collect();
            let first = shape.len().saturating_sub(given);
            let most = |size| if mode == "reflect" { size - 1 } else { 4 };
            let width = |(axis, &(size, before, after)): (usize, &(usize, usize, usize))| {
                let widths = [before.min(most(size)), after.min(most(size))];
                if axis < first { [0, 0] } else { widths }
            };
            let widths: Vec<[usize; 2]> = axes.iter().enumerate().map(width).collect();
            let result: Vec<usize> =
                shape.iter().zip(&widths).map(|(size, [before, after])| size + before + after).collect();
            let expected: Vec<f32> = indices(&result)
                .iter()
                .map(|index| {
                    let places = index.iter().zip(&widths).zip(&shape);
                    let at: Option<Vec<usize>> =
                        places.map(|((&i, widths), &size)| source(mode, i, widths[0], size)).collect();
                    at.map_or(-7.5, |at| position(&shape, &at) as f32)
                })
                .collect();
            let x: Vec<f32> = arange(&shape).into_iter().map(|x| x as f32).collect();
            let pad: Vec<i32> = widths[first..].as_flattened().iter().map(|&w| w as i32).collect();
            let case = Case::new().floats("x", &shape, &x).vector("pad", &pad);
            let case = case.string("mode", mode).float("constant_val", -7.5);
            prop_assert_eq!(case.run_floats("pad", Opset::Ios15), (result, expected));
        }
    }

    #[test]
    fn zeros_stand_around_by_default() {
        let case = Case::new().floats("x", &[1], &[5.0]).ints("pad", &[2], &[1, 2]);
        assert_eq!(case.run_floats("pad", Opset::Ios15), (vec![4], vec![0.0, 5.0, 0.0, 0.0]));
    }

    #[test]
    fn widths_that_do_not_fit_are_errors() {
        let fails = |mode: &str, pad: &[i32]| {
            let case = Case::new().floats("x", &[2], &[1.0, 2.0]).vector("pad", pad);
            let error = case.string("mode", mode).run("pad", Opset::Ios15);
            assert!(error.err().unwrap().to_string().contains("`pad`"), "{mode} {pad:?}");
        };
        fails("constant", &[1]);
        fails("constant", &[-1, 0]);
        fails("constant", &[0, 0, 1, 1]);
        fails("reflect", &[2, 0]);
    }
}
