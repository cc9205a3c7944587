//! `concat`, `stack` and `split`, of the `tensor_operation` family.

use std::ops::Range;

use smallvec::SmallVec;

use super::strided::{Layout, count, row_major};
use super::{Binder, Inputs, Op, OpError, Outputs, ResultType, ResultTypes, Scratch, axis, one};
use crate::value::Shape;

/// Tensors one after the other along an axis.
struct Concat {
    values: Range<usize>,
    axis: i64,
    interleave: bool,
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
            total = total.checked_add(size).ok_or_else(too_large)?;
        }
        let mut shape = Shape::from_slice(first);
        shape[axis] = total;
        Ok((shape, axis))
    }
}

/// The error for a size that does not fit a `usize`.
pub(super) fn too_large() -> OpError {
    OpError::invalid("the result's size overflows")
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

    fn run(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        _scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        let (shape, axis) = self.result(inputs)?;
        let out = outputs.tensor(0)?;
        let stride = row_major(&shape)[axis];
        let outer = count(&shape[..axis]);
        let mut start = 0;
        for value in self.values.clone() {
            let x = inputs.tensor(value)?;
            if x.storage != out.storage {
                let got = format!("`{}`", x.element);
                return Err(OpError::argument("values", format!("`{}`", out.element), got));
            }
            let size = x.shape.get(axis).copied().unwrap_or(1);
            let step =
                if self.interleave { stride.saturating_mul(self.values.len()) } else { stride };
            let rows = (outer, stride.saturating_mul(shape[axis]) as isize);
            let layout = Layout::new(start, [rows, (size, step as isize), (stride, 1)]);
            layout.write(x.bytes, out.bytes, x.storage.size())?;
            start += if self.interleave { stride } else { size.saturating_mul(stride) };
        }
        Ok(())
    }
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
    let axis = binder.required_int("axis")?;
    let interleave = binder.bool("interleave", false)?;
    Ok(Box::new(Concat { values, axis, interleave }))
}

/// Tensors of one shape along a new axis.
struct Stack {
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

    fn run(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        _scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        let out = outputs.tensor(0)?;
        let axis = axis(self.axis, out.shape.len(), "axis")?;
        let (outer, inner) = (count(&out.shape[..axis]), count(&out.shape[axis + 1..]));
        for (number, value) in self.values.clone().enumerate() {
            let x = inputs.tensor(value)?;
            if x.storage != out.storage {
                let got = format!("`{}`", x.element);
                return Err(OpError::argument("values", format!("`{}`", out.element), got));
            }
            let rows = (outer, inner.saturating_mul(self.values.len()) as isize);
            let layout = Layout::new(number.saturating_mul(inner), [rows, (inner, 1)]);
            layout.write(x.bytes, out.bytes, x.storage.size())?;
        }
        Ok(())
    }
}

/// Binds `stack`.
pub(super) fn stack(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let values = some_values(binder)?;
    Ok(Box::new(Stack { values, axis: binder.required_int("axis")? }))
}

/// Parts of a tensor along an axis.
struct Split {
    x: usize,
    axis: i64,
    sizes: Sizes,
}

/// How [`Split`] is told its parts.
enum Sizes {
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

    fn layout(&self, shape: &[usize], output: usize) -> Result<Layout, OpError> {
        let axis = axis(self.axis, shape.len(), "axis")?;
        let part = self.parts(shape[axis])?.get(output).cloned().unwrap_or(0..0);
        let strides = row_major(shape);
        let walk = shape.iter().zip(&strides).enumerate();
        Ok(Layout::new(
            part.start.saturating_mul(strides[axis]),
            walk.map(|(i, (&size, &stride))| {
                (if i == axis { part.len() } else { size }, stride as isize)
            }),
        ))
    }
}

impl Op for Split {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let shape = inputs.shape(self.x)?;
        let axis = axis(self.axis, shape.len(), "axis")?;
        let element = inputs.element(self.x)?;
        let result = |part: Range<usize>| {
            let mut shape = Shape::from_slice(shape);
            shape[axis] = part.len();
            ResultType::new(element, shape)
        };
        Ok(self.parts(shape[axis])?.into_iter().map(result).collect())
    }

    fn run(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        _scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        let x = inputs.tensor(self.x)?;
        for output in 0..outputs.len() {
            let layout = self.layout(x.shape, output)?;
            layout.read(x.bytes, outputs.tensor(output)?.bytes, x.storage.size())?;
        }
        Ok(())
    }

    fn accepts_half(&self, _input: usize) -> bool {
        true
    }

    fn keeps_storage_of(&self) -> Option<usize> {
        Some(self.x)
    }

    fn view(&self, inputs: &Inputs, output: usize) -> Option<(usize, usize)> {
        let layout = self.layout(inputs.shape(self.x).ok()?, output).ok()?;
        layout.contiguous().map(|start| (self.x, start))
    }
}

/// Binds `split`.
pub(super) fn split(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    let axis = binder.required_int("axis")?;
    let sizes = match (binder.ints("split_sizes")?, binder.int("num_splits")?) {
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
    Ok(Box::new(Split { x, axis, sizes }))
}

#[cfg(test)]
mod tests {
    use coreml_format::mil::Opset;
    use half::f16;
    use proptest::prelude::*;

    use crate::ops::testing::{Case, arange, indices, position};

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
