//! `non_zero`, of the `tensor_operation` family.

use coreml_format::mil::{ElementType, Opset};

use super::reduction::indices_fit;
use crate::error::OpError;
use crate::op::{Binder, Inputs, Kernel, Op, OpDef, ResultTypes, bound, def, kernel, one};
use crate::value::{Element, Shape, TensorRef, Visitor, row_major, same_count};
use crate::weights::Weights;

/// The indices of all elements that are not zero, one a row. Only a run can tell how many there are.
#[derive(Clone, Debug)]
struct NonZero {
    x: usize,
}

/// Counts elements that are not zero.
struct Count<'a>(&'a TensorRef<'a>);

impl Visitor for Count<'_> {
    type Output = Result<usize, OpError>;

    fn visit<T: Element>(self) -> Self::Output {
        Ok(self.0.slice::<T>()?.iter().filter(|&&value| value != T::default()).count())
    }
}

/// Writes the indices of elements that are not zero.
struct Find<'a> {
    x: &'a TensorRef<'a>,
    strides: &'a Shape,
    out: &'a mut [i32],
}

impl Visitor for Find<'_> {
    type Output = Result<(), OpError>;

    fn visit<T: Element>(self) -> Self::Output {
        let (rank, values) = (self.strides.len(), self.x.slice::<T>()?);
        let mut places = (0..).zip(values).filter(|(_, value)| **value != T::default());
        for row in self.out.chunks_exact_mut(rank.max(1)) {
            let Some((mut place, _)) = places.next() else { break };
            for (out, &stride) in row.iter_mut().zip(self.strides) {
                *out = (place / stride) as i32;
                place %= stride;
            }
        }
        Ok(())
    }
}

impl Op for NonZero {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let rank = inputs.shape(self.x)?.len();
        let x = inputs.tensor(self.x)?;
        one(ElementType::Int32, Shape::from_slice(&[x.storage.visit(Count(&x))?, rank]))
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let (x, shape) = (self.x, inputs.shape(self.x)?);
        shape.iter().try_for_each(|&size| indices_fit(ElementType::Int32, size))?;
        let strides = row_major(shape);
        kernel(move |inputs, outputs, _context| {
            let (x, out) = (inputs.tensor(x)?, outputs.tensor(0)?.slice::<i32>()?);
            same_count(x.storage.visit(Count(&x))?.saturating_mul(strides.len()), out.len())?;
            x.storage.visit(Find { x: &x, strides: &strides, out })
        })
    }
}

fn non_zero(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    bound(NonZero { x: binder.input("x")? })
}

pub(super) const OPS: &[OpDef] = &[def("non_zero", Opset::Ios15, non_zero)];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{Case, Value};

    #[test]
    fn rows_are_indices_in_the_order_of_the_elements() {
        let x = [0.0, -0.0, 2.0, f32::NAN, 0.0, 1e-40];
        let case = Case::new().floats("x", &[3, 2], &x);
        assert_eq!(case.run_ints("non_zero", Opset::Ios15), (vec![3, 2], vec![1, 0, 1, 1, 2, 1]));
        let bools = Value::tensor(ElementType::Bool, &[2], &[0u8, 1]);
        let case = Case::new().value("x", bools);
        assert_eq!(case.run_ints("non_zero", Opset::Ios15), (vec![1, 1], vec![1]));
    }

    #[test]
    fn none_and_scalars() {
        let none = Case::new().ints("x", &[2, 0], &[]);
        assert_eq!(none.run_ints("non_zero", Opset::Ios15), (vec![0, 2], vec![]));
        let zero = Case::new().ints("x", &[1, 1], &[0]);
        assert_eq!(zero.run_ints("non_zero", Opset::Ios15), (vec![0, 2], vec![]));
        let scalar = Case::new().ints("x", &[], &[7]);
        assert_eq!(scalar.run_ints("non_zero", Opset::Ios15), (vec![1, 0], vec![]));
    }
}
