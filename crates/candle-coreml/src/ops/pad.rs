//! `pad`, of the `tensor_operation` family.

use smallvec::SmallVec;

use super::strided::{count, row_major, same_count};
use super::tensor_operation::element_bytes;
use super::{Binder, Inputs, Op, OpError, Outputs, ResultTypes, Scratch, one};
use crate::value::Shape;

/// What stands where `x` has nothing.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Constant(f32),
    /// The elements mirrored at the border, which is not repeated.
    Reflect,
    /// The element at the border.
    Replicate,
}

impl Mode {
    /// The element of an axis of `size` that stands at `position`, which counts from the first
    /// element and may lie outside.
    fn source(self, position: isize, size: usize) -> Option<usize> {
        let last = size as isize - 1;
        let inside = match self {
            Mode::Constant(_) => position,
            Mode::Reflect if position < 0 => -position,
            Mode::Reflect if position > last => 2 * last - position,
            Mode::Reflect => position,
            Mode::Replicate => position.clamp(0, last.max(0)),
        };
        usize::try_from(inside).ok().filter(|&inside| inside < size)
    }
}

/// Adds elements around a tensor.
struct Pad {
    x: usize,
    pad: usize,
    mode: Mode,
}

impl Pad {
    /// How many elements to add before and after each axis; the last axes are those given.
    fn widths(
        &self,
        inputs: &Inputs,
        shape: &[usize],
    ) -> Result<SmallVec<[[usize; 2]; 6]>, OpError> {
        let pad = inputs.ints(self.pad)?;
        let fail = || {
            let expected = match self.mode {
                Mode::Reflect => "sizes that are smaller than the axis",
                _ => "two sizes for each of the last axes",
            };
            let got = format!("{:?} for shape {shape:?}", pad.as_slice());
            OpError::argument("pad", expected, got)
        };
        let pairs = pad.len() / 2;
        if pad.len() % 2 != 0 || pairs > shape.len() {
            return Err(fail());
        }
        let mut widths: SmallVec<[[usize; 2]; 6]> = SmallVec::from_elem([0; 2], shape.len());
        let given = shape.len() - pairs;
        for ((widths, pair), &size) in
            widths[given..].iter_mut().zip(pad.chunks_exact(2)).zip(&shape[given..])
        {
            for (width, &value) in widths.iter_mut().zip(pair) {
                *width = usize::try_from(value).map_err(|_| fail())?;
                let enough = match self.mode {
                    Mode::Constant(_) => true,
                    Mode::Reflect => *width < size.max(1),
                    Mode::Replicate => size > 0 || *width == 0,
                };
                if !enough {
                    return Err(fail());
                }
            }
        }
        Ok(widths)
    }

    fn copy<const N: usize>(
        &self,
        from: (&[[u8; N]], &[usize]),
        to: (&mut [[u8; N]], &[usize]),
        widths: &[[usize; 2]],
        value: [u8; N],
    ) -> Result<(), OpError> {
        let ((from, shape), (to, result)) = (from, to);
        same_count(count(shape), from.len())?;
        same_count(count(result), to.len())?;
        let Some((&row, outer)) = result.split_last() else {
            to.copy_from_slice(from);
            return Ok(());
        };
        let size = shape[outer.len()];
        let before = widths[outer.len()][0];
        let strides = row_major(shape);
        for (number, out) in to.chunks_exact_mut(row.max(1)).enumerate() {
            let Some(start) = self.row_start(number, outer, shape, &strides, widths) else {
                out.fill(value);
                continue;
            };
            let line = &from[start..start + size];
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
    fn row_start(
        &self,
        mut number: usize,
        outer: &[usize],
        shape: &[usize],
        strides: &[usize],
        widths: &[[usize; 2]],
    ) -> Option<usize> {
        let mut start = 0;
        for axis in (0..outer.len()).rev() {
            let index = number % outer[axis];
            number /= outer[axis];
            let position = index as isize - widths[axis][0] as isize;
            start += self.mode.source(position, shape[axis])? * strides[axis];
        }
        Some(start)
    }
}

impl Op for Pad {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let shape = inputs.shape(self.x)?;
        let widths = self.widths(inputs, shape)?;
        let sizes = shape.iter().zip(widths);
        let result: Option<Shape> = sizes
            .map(|(size, [before, after])| size.checked_add(before)?.checked_add(after))
            .collect();
        one(
            inputs.element(self.x)?,
            result.ok_or_else(|| OpError::invalid("the result's size overflows"))?,
        )
    }

    fn run(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        _scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        let x = inputs.tensor(self.x)?;
        let widths = self.widths(inputs, x.shape)?;
        let out = outputs.tensor(0)?;
        let constant = if let Mode::Constant(value) = self.mode { value } else { 0.0 };
        let ([a, b, c, d, e, f, g, h], size) = element_bytes(constant, out);
        let (shape, bytes) = (out.shape, &mut *out.bytes);
        match size {
            1 => {
                let to = (bytes.as_chunks_mut().0, shape);
                self.copy((x.bytes.as_chunks().0, x.shape), to, &widths, [a])
            }
            2 => {
                let to = (bytes.as_chunks_mut().0, shape);
                self.copy((x.bytes.as_chunks().0, x.shape), to, &widths, [a, b])
            }
            4 => {
                let to = (bytes.as_chunks_mut().0, shape);
                self.copy((x.bytes.as_chunks().0, x.shape), to, &widths, [a, b, c, d])
            }
            _ => {
                let to = (bytes.as_chunks_mut().0, shape);
                let value = [a, b, c, d, e, f, g, h];
                self.copy((x.bytes.as_chunks().0, x.shape), to, &widths, value)
            }
        }
    }
}

/// Binds `pad`.
pub(super) fn pad(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let (x, pad) = (binder.input("x")?, binder.input("pad")?);
    let mode = match binder.string("mode")?.unwrap_or("constant") {
        "constant" => Mode::Constant(binder.float("constant_val")?.unwrap_or(0.0)),
        "reflect" => Mode::Reflect,
        "replicate" => Mode::Replicate,
        other => {
            let expected = "`constant`, `reflect` or `replicate`";
            return Err(OpError::argument("mode", expected, format!("`{other}`")));
        }
    };
    Ok(Box::new(Pad { x, pad, mode }))
}
