//! `one_hot`, of the `tensor_operation` family.

use coreml_format::mil::{ElementType, Opset};

use super::tensor_operation::element_bytes;
use crate::error::OpError;
use crate::op::{Binder, Inputs, Kernel, Op, OpDef, ResultTypes, axis, bound, def, kernel, one};
use crate::value::{Lines, Shape, same_count};
use crate::weights::Weights;

/// Vectors along a new axis, each with one value at an index and another value elsewhere.
#[derive(Clone, Debug)]
struct OneHot {
    indices: usize,
    /// How long the vectors are.
    size: usize,
    axis: i64,
    element: ElementType,
    on: f64,
    off: f64,
}

impl OneHot {
    /// The result's shape and its new axis.
    fn shape(&self, inputs: &Inputs) -> Result<(Shape, usize), OpError> {
        let mut shape = Shape::from_slice(inputs.shape(self.indices)?);
        let axis = axis(self.axis, shape.len() + 1, "axis")?;
        let size = inputs.tensor(self.size)?.scalar_int()?;
        let size = usize::try_from(size).map_err(|_| {
            OpError::argument("one_hot_vector_size", "a size, 0 or more", size.to_string())
        })?;
        shape.insert(axis, size);
        Ok((shape, axis))
    }
}

impl Op for OneHot {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        one(self.element, self.shape(inputs)?.0)
    }

    /// A vector whose index is not one of its places has no place with the value.
    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let op = self.clone();
        let (shape, axis) = self.shape(inputs)?;
        let lines = Lines::along(&shape, axis);
        kernel(move |inputs, outputs, _context| {
            let (indices, out) = (inputs.tensor(op.indices)?.int_elements()?, outputs.tensor(0)?);
            let (off, size) = element_bytes(op.off, out);
            let (on, _) = element_bytes(op.on, out);
            same_count(lines.elements().saturating_mul(size), out.bytes.len())?;
            out.bytes.chunks_exact_mut(size).for_each(|out| out.copy_from_slice(&off[..size]));
            if lines.elements() == 0 {
                return Ok(());
            }
            for line in 0..lines.count() {
                let index = indices.get(line).and_then(|index| usize::try_from(index).ok());
                if let Some(index) = index.filter(|&index| index < lines.size) {
                    let place = (lines.start(line) + index * lines.inner) * size;
                    out.bytes[place..place + size].copy_from_slice(&on[..size]);
                }
            }
            Ok(())
        })
    }
}

fn one_hot(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let (indices, size) = (binder.input("indices")?, binder.input("one_hot_vector_size")?);
    let constants = [binder.constant("on_value")?, binder.constant("off_value")?];
    let element = constants.into_iter().flatten().next().map_or(ElementType::Int32, |v| v.element);
    let (on, off) = (binder.number("on_value")?, binder.number("off_value")?);
    bound(OneHot { indices, size, axis: binder.int("axis")?, element, on, off })
}

pub(super) const OPS: &[OpDef] = &[def("one_hot", Opset::Ios15, one_hot)];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::Case;

    fn case(indices: &[i32], size: i32) -> Case {
        Case::new().ints("indices", &[indices.len()], indices).ints(
            "one_hot_vector_size",
            &[],
            &[size],
        )
    }

    #[test]
    fn indices_that_are_no_places_mark_none() {
        let (shape, got) = case(&[1, -1, 2, 0], 2).run_ints("one_hot", Opset::Ios15);
        assert_eq!((shape, got), (vec![4, 2], vec![0, 1, 0, 0, 0, 0, 1, 0]));
    }

    #[test]
    fn large_values_are_exact_and_vectors_may_be_empty() {
        let marked = case(&[1], 2).int("on_value", i32::MAX).int("off_value", -16_777_217);
        assert_eq!(marked.run_ints("one_hot", Opset::Ios15).1, [-16_777_217, i32::MAX]);
        assert_eq!(case(&[1], 0).run_ints("one_hot", Opset::Ios15), (vec![1, 0], vec![]));
        assert_eq!(case(&[], 3).run_ints("one_hot", Opset::Ios15), (vec![0, 3], vec![]));
        let scalar = Case::new().ints("indices", &[], &[1]).int("one_hot_vector_size", 3);
        assert_eq!(scalar.run_ints("one_hot", Opset::Ios15), (vec![3], vec![0, 1, 0]));
    }

    #[test]
    fn sizes_and_axes_that_can_not_be() {
        let message = |case: Case| case.run("one_hot", Opset::Ios15).err().unwrap().to_string();
        assert!(message(case(&[1], -1)).contains("one_hot_vector_size"));
        assert!(message(case(&[1], 2).int("axis", 2)).contains("axis"));
        assert!(message(case(&[1], 2).int("axis", -3)).contains("axis"));
    }
}
