//! `cumsum`, of the `tensor_operation` family.

use coreml_format::mil::Opset;

use crate::error::OpError;
use crate::op::{Binder, Inputs, Kernel, Op, OpDef, ResultTypes, axis, bound, def, kernel, one};
use crate::value::{Layout, Lines, Storage, same_count};
use crate::weights::Weights;

/// Sums of the elements along an axis up to each of them.
#[derive(Clone, Debug)]
pub(crate) struct Cumsum {
    pub(crate) x: usize,
    pub(crate) axis: i64,
    /// Whether an element is not part of its own sum, so that the first sum is 0.
    pub(crate) exclusive: bool,
    /// Whether sums begin at the end of the axis.
    pub(crate) reverse: bool,
}

impl Cumsum {
    /// Replaces the elements along each line by their sums, which `add` adds up from `zero` and
    /// `round` makes elements.
    fn sum<T: Copy, A: Copy>(
        &self,
        lines: Lines,
        values: &mut [T],
        zero: A,
        add: impl Fn(A, T) -> A,
        round: impl Fn(A) -> T,
    ) -> Result<(), OpError> {
        same_count(lines.elements(), values.len())?;
        for line in 0..lines.count() {
            let start = lines.start(line);
            let mut total = zero;
            for step in 0..lines.size {
                let place = if self.reverse { lines.size - 1 - step } else { step };
                let value = &mut values[start + place * lines.inner];
                let before = total;
                total = add(total, *value);
                *value = round(if self.exclusive { before } else { total });
            }
        }
        Ok(())
    }
}

impl Op for Cumsum {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let shape = inputs.shape(self.x)?;
        axis(self.axis, shape.len(), "axis")?;
        one(inputs.element(self.x)?, shape)
    }

    /// Floats are added up in double precision; integers wrap.
    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let shape = inputs.shape(self.x)?;
        let lines = Lines::along(shape, axis(self.axis, shape.len(), "axis")?);
        let op = self.clone();
        kernel(move |inputs, outputs, _context| {
            let out = outputs.tensor(0)?;
            if !inputs.is_in_place(op.x) {
                let x = inputs.tensor(op.x)?;
                Layout::of(&x).read(x.bytes, out.bytes, x.storage)?;
            }
            match out.storage {
                Storage::I32 => op.sum(lines, out.slice()?, 0, i32::wrapping_add, |total| total),
                _ => op.sum(lines, out.f32s()?, 0.0, |total, x| total + f64::from(x), |x| x as f32),
            }
        })
    }

    fn reads_strided(&self, _input: usize) -> bool {
        true
    }

    fn in_place(&self) -> &[usize] {
        std::slice::from_ref(&self.x)
    }
}

fn cumsum(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let (x, axis) = (binder.input("x")?, binder.int("axis")?);
    let (exclusive, reverse) = (binder.bool("exclusive")?, binder.bool("reverse")?);
    bound(Cumsum { x, axis, exclusive, reverse })
}

pub(super) const OPS: &[OpDef] = &[def("cumsum", Opset::Ios15, cumsum)];

#[cfg(test)]
mod tests {
    use coreml_format::mil::ElementType;
    use proptest::prelude::*;

    use super::*;
    use crate::op::testing::{Case, Value, indices, position};

    /// Each element's sum, by the definition: of all elements of its line before it, or behind it
    /// in reverse.
    fn naive(x: &[i32], shape: &[usize], axis: usize, exclusive: bool, reverse: bool) -> Vec<i32> {
        let sum = |index: Vec<usize>| {
            (0..shape[axis])
                .filter(|&other| match (other == index[axis], reverse) {
                    (true, _) => !exclusive,
                    (false, true) => other > index[axis],
                    (false, false) => other < index[axis],
                })
                .map(|other| {
                    let mut at = index.clone();
                    at[axis] = other;
                    x[position(shape, &at)]
                })
                .sum()
        };
        indices(shape).into_iter().map(sum).collect()
    }

    proptest! {
        #[test]
        fn sums_are_those_of_the_definition(
            (shape, x) in prop::collection::vec(1usize..6, 1..4).prop_flat_map(|shape| {
                let count = shape.iter().product::<usize>();
                (Just(shape), prop::collection::vec(-99i32..99, count))
            }),
            place in 0usize..3,
            from_the_end in any::<bool>(),
            exclusive in any::<bool>(),
            reverse in any::<bool>(),
        ) {
            let axis = place % shape.len();
            let argument = if from_the_end { axis as i32 - shape.len() as i32 } else { axis as i32 };
            let with = |case: Case| {
                case.int("axis", argument)
                    .bools("exclusive", &[exclusive.into()])
                    .bools("reverse", &[reverse.into()])
            };
            let expected = naive(&x, &shape, axis, exclusive, reverse);
            let ints = with(Case::new().ints("x", &shape, &x));
            prop_assert_eq!(ints.run_ints("cumsum", Opset::Ios15), (shape.clone(), expected.clone()));
            // Halves of small integers: exact in floats.
            let floats: Vec<f32> = x.iter().map(|&x| x as f32 / 2.0).collect();
            let expected: Vec<f32> = expected.iter().map(|&sum| sum as f32 / 2.0).collect();
            let floats = with(Case::new().floats("x", &shape, &floats));
            prop_assert_eq!(floats.run_floats("cumsum", Opset::Ios18), (shape, expected));
        }
    }

    #[test]
    fn the_first_axis_is_summed_up_by_default() {
        // np.cumsum([[1, 2], [3, 4]], axis=0)
        let case = Case::new().ints("x", &[2, 2], &[1, 2, 3, 4]);
        assert_eq!(case.run_ints("cumsum", Opset::Ios15), (vec![2, 2], vec![1, 2, 4, 6]));
    }

    #[test]
    fn halves_and_what_is_no_number_are_summed_as_floats() {
        let x = [1.0, f32::NAN, 2.0];
        let case = Case::new().value("x", Value::tensor(ElementType::Float16, &[3], &x));
        let results = case.run("cumsum", Opset::Ios15).unwrap();
        assert_eq!(results[0].element(), ElementType::Float16);
        let values = results[0].values::<f32>();
        assert!(values[0] == 1.0 && values[1].is_nan() && values[2].is_nan(), "{values:?}");
    }

    #[test]
    fn empty_tensors_have_no_sums_and_scalars_no_axis() {
        let case = Case::new().floats("x", &[2, 0], &[]);
        assert_eq!(case.run_floats("cumsum", Opset::Ios15), (vec![2, 0], vec![]));
        let error = Case::new().floats("x", &[], &[1.0]).run("cumsum", Opset::Ios15);
        assert!(error.err().unwrap().to_string().contains("`axis`"));
    }
}
