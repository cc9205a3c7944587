//! `concat`, `stack` and `split`, of the `tensor_operation` family.

use std::ops::Range;

use smallvec::SmallVec;

use super::movement::{Moved, Movement};
use crate::error::OpError;
use crate::op::{Binder, Inputs, Kernel, Moves, Op, ResultTypes, axis, bound, kernel, one};
use crate::value::{Layout, Lines, Shape, Strides, View, count};
use crate::weights::Weights;

/// Tensors one after the other along an axis.
#[derive(Clone, Debug)]
pub(crate) struct Concat {
    pub(crate) values: Range<usize>,
    pub(crate) axis: i64,
    pub(crate) interleave: bool,
}

impl Concat {
    /// The result's shape and the axis. Scalars become a vector.
    fn result(&self, inputs: &Inputs) -> Result<(Shape, usize), OpError> {
        let first = inputs.shape(self.values.start)?;
        if first.is_empty() {
            for value in self.values.clone() {
                same_shape(&[], inputs.shape(value)?)?;
            }
            return Ok((Shape::from_slice(&[self.values.len()]), 0));
        }
        let axis = axis(self.axis, first.len(), "axis")?;
        let mut total = 0usize;
        for value in self.values.clone() {
            let mut shape = Shape::from_slice(inputs.shape(value)?);
            let size = shape.get(axis).copied().unwrap_or(0);
            if let Some(size) = shape.get_mut(axis).filter(|_| !self.interleave) {
                *size = first[axis];
            }
            same_shape(first, &shape)?;
            total = total.checked_add(size).ok_or_else(OpError::too_large)?;
        }
        let mut shape = Shape::from_slice(first);
        shape[axis] = total;
        Ok((shape, axis))
    }
}

fn same_shape(expected: &[usize], got: &[usize]) -> Result<(), OpError> {
    if expected == got {
        return Ok(());
    }
    Err(OpError::argument(
        "values",
        format!("tensors that fit the first one, of shape {expected:?}"),
        format!(
            "one of shape {got:?} (along the axis, sizes may differ only without `interleave`)"
        ),
    ))
}

impl Op for Concat {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        one(inputs.element(self.values.start)?, self.result(inputs)?.0)
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let (shape, axis) = self.result(inputs)?;
        let lines = Lines::along(&shape, axis);
        let mut parts: Parts = SmallVec::new();
        let mut start = 0;
        for value in self.values.clone() {
            let size = inputs.shape(value)?.get(axis).copied().unwrap_or(1);
            let step = if self.interleave {
                lines.inner.saturating_mul(self.values.len())
            } else {
                lines.inner
            };
            let rows = (lines.outer, lines.inner.saturating_mul(lines.size) as isize);
            parts
                .push((value, Layout::new(start, [rows, (size, step as isize), (lines.inner, 1)])));
            start += if self.interleave { lines.inner } else { size.saturating_mul(lines.inner) };
        }
        write_parts(parts)
    }

    fn moves(&self) -> Option<Moves> {
        Moves::new(self, self.values.clone())
    }
}

/// Inputs with where their elements go in the result.
type Parts = SmallVec<[(usize, Layout); 4]>;

/// A kernel that puts inputs where they belong.
fn write_parts(parts: Parts) -> Result<Kernel, OpError> {
    kernel(move |inputs, outputs, _context| {
        let out = outputs.tensor(0)?;
        for (value, layout) in &parts {
            let x = inputs.tensor(*value)?;
            if x.storage != out.storage {
                let got = format!("`{}`", x.element);
                return Err(OpError::argument("values", format!("`{}`", out.element), got));
            }
            layout.write(x.dense_bytes()?, out.bytes, x.storage)?;
        }
        Ok(())
    })
}

/// The values of a list argument that has to have some.
fn some_values(binder: &mut Binder) -> Result<Range<usize>, OpError> {
    let values = binder.inputs("values")?;
    if values.is_empty() {
        return Err(OpError::argument("values", "at least one tensor", "none"));
    }
    Ok(values)
}

/// Binds `concat`.
pub(super) fn concat(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let values = some_values(binder)?;
    bound(Concat { values, axis: binder.int("axis")?, interleave: binder.bool("interleave")? })
}

/// Tensors of one shape along a new axis.
#[derive(Clone, Debug)]
pub(crate) struct Stack {
    values: Range<usize>,
    axis: i64,
}

impl Op for Stack {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let first = inputs.shape(self.values.start)?;
        for value in self.values.clone() {
            same_shape(first, inputs.shape(value)?)?;
        }
        let mut shape = Shape::from_slice(first);
        shape.insert(axis(self.axis, first.len() + 1, "axis")?, self.values.len());
        one(inputs.element(self.values.start)?, shape)
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let shape = inputs.shape(self.values.start)?;
        let axis = axis(self.axis, shape.len() + 1, "axis")?;
        let (outer, inner) = (count(&shape[..axis]), count(&shape[axis..]));
        let rows = (outer, inner.saturating_mul(self.values.len()) as isize);
        let part = |(number, value): (usize, usize)| {
            (value, Layout::new(number.saturating_mul(inner), [rows, (inner, 1)]))
        };
        write_parts(self.values.clone().enumerate().map(part).collect())
    }

    fn moves(&self) -> Option<Moves> {
        Moves::new(self, self.values.clone())
    }
}

/// Binds `stack`.
pub(super) fn stack(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let values = some_values(binder)?;
    bound(Stack { values, axis: binder.int("axis")? })
}

/// Parts of a tensor along an axis.
#[derive(Clone, Debug)]
pub(crate) struct Split {
    x: usize,
    axis: i64,
    sizes: Sizes,
}

/// How [`Split`] is told its parts.
#[derive(Clone, Debug)]
pub(crate) enum Sizes {
    Equal(usize),
    Given(SmallVec<[i64; 8]>),
}

impl Split {
    /// The parts of the axis.
    fn parts(&self, size: usize) -> Result<SmallVec<[Range<usize>; 4]>, OpError> {
        let fail = |got: String| {
            OpError::argument("split_sizes", format!("parts of an axis of size {size}"), got)
        };
        let mut start = 0;
        let mut parts = SmallVec::new();
        let mut push = |part: usize| {
            parts.push(start..start + part);
            start += part;
        };
        match &self.sizes {
            Sizes::Equal(number) => {
                if *number == 0 || !size.is_multiple_of(*number) {
                    return Err(fail(format!("{number} equal ones")));
                }
                (0..*number).for_each(|_| push(size / number));
            }
            Sizes::Given(sizes) => {
                let total: i128 = sizes.iter().map(|&size| i128::from(size)).sum();
                if total != size as i128 || sizes.iter().any(|&size| size < 0) {
                    return Err(fail(format!("{:?}", sizes.as_slice())));
                }
                sizes.iter().for_each(|&size| push(size as usize));
            }
        }
        Ok(parts)
    }
}

impl Movement for Split {
    fn x(&self) -> usize {
        self.x
    }

    fn moved(
        &self,
        _inputs: &Inputs,
        shape: &[usize],
        strides: &Strides,
    ) -> Result<SmallVec<[Moved; 1]>, OpError> {
        let axis = axis(self.axis, shape.len(), "axis")?;
        let part = |part: Range<usize>| {
            let mut result = Shape::from_slice(shape);
            result[axis] = part.len();
            let start = (part.start as isize).saturating_mul(strides[axis]);
            Moved::view(result, View { start, strides: strides.clone() })
        };
        Ok(self.parts(shape[axis])?.into_iter().map(part).collect())
    }
}

/// Binds `split`.
pub(super) fn split(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    let axis = binder.int("axis")?;
    let sizes = match (binder.optional_ints("split_sizes")?, binder.optional_int("num_splits")?) {
        (Some(sizes), _) => Sizes::Given(sizes),
        (None, Some(number)) => {
            // As many as there are results, so that a wrong number can't make endless parts.
            let outputs = binder.outputs().len();
            Sizes::Equal(usize::try_from(number).ok().filter(|&n| n == outputs).ok_or_else(
                || OpError::argument("num_splits", format!("{outputs}"), number.to_string()),
            )?)
        }
        (None, None) => return Err(OpError::Missing("num_splits".to_owned())),
    };
    bound(Split { x, axis, sizes })
}

#[cfg(test)]
mod tests {
    use coreml_format::mil::Opset;
    use half::f16;
    use proptest::prelude::*;

    use crate::op::testing::{Case, arange, indices, position};

    fn shape_and_axis() -> impl Strategy<Value = (Vec<usize>, usize)> {
        (prop::collection::vec(1usize..4, 1..4), any::<prop::sample::Index>())
            .prop_map(|(shape, axis)| (shape.clone(), axis.index(shape.len())))
    }

    /// The shape with another size of one axis.
    fn resized(shape: &[usize], axis: usize, size: usize) -> Vec<usize> {
        let mut shape = shape.to_vec();
        shape[axis] = size;
        shape
    }

    proptest! {
        #[test]
        fn concat_then_split_gives_the_parts(
            (shape, axis) in shape_and_axis(),
            sizes in prop::collection::vec(0usize..4, 1..4),
        ) {
            let mut case = Case::new().int("axis", axis as i32);
            let parts: Vec<Vec<usize>> =
                sizes.iter().map(|&size| resized(&shape, axis, size)).collect();
            for (number, part) in parts.iter().enumerate() {
                let values: Vec<i32> =
                    arange(part).iter().map(|value| value + 1000 * number as i32).collect();
                case = case.ints("values", part, &values);
            }
            let whole = resized(&shape, axis, sizes.iter().sum());
            let (got_shape, got) = case.run_ints("concat", Opset::Ios15);
            prop_assert_eq!(&got_shape, &whole);
            let expected: Vec<i32> = indices(&whole).iter().map(|index| {
                let (mut number, mut at) = (0, index.clone());
                while at[axis] >= sizes[number] {
                    at[axis] -= sizes[number];
                    number += 1;
                }
                position(&parts[number], &at) as i32 + 1000 * number as i32
            }).collect();
            prop_assert_eq!(&got, &expected);

            let sizes: Vec<i32> = sizes.iter().map(|&size| size as i32).collect();
            let case = Case::new().ints("x", &whole, &got).int("axis", axis as i32);
            let back = case.vector("split_sizes", &sizes).run("split", Opset::Ios15).unwrap();
            for (number, (part, got)) in parts.iter().zip(&back).enumerate() {
                let values: Vec<i32> =
                    arange(part).iter().map(|value| value + 1000 * number as i32).collect();
                prop_assert_eq!(got.shape(), part.clone());
                prop_assert_eq!(got.values::<i32>(), values);
            }
        }
    }

    #[test]
    fn split_keeps_halves() {
        // np.split(np.float16([[1, 2, 3], [4, 5, 6]]), [1], axis=1)
        let case = Case::new().halves("x", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let parts = case.int("axis", 1).vector("split_sizes", &[1, 2]);
        let parts = parts.run("split", Opset::Ios15).unwrap();
        let floats = |part: usize| -> Vec<f32> {
            parts[part].values::<f16>().iter().map(|value| value.to_f32()).collect()
        };
        assert_eq!((floats(0), floats(1)), (vec![1.0, 4.0], vec![2.0, 3.0, 5.0, 6.0]));
    }
}
