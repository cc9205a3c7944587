//! `topk` and `argsort`, of the `tensor_operation` family.

use std::cmp::Ordering;

use coreml_format::mil::{ElementType, Opset};
use coreml_kernels::Context;

use super::reduction::{index_type, indices_fit};
use crate::error::OpError;
use crate::op::{
    Binder, Inputs, Kernel, Moves, Op, OpDef, Outputs, ResultType, ResultTypes, axis, bound, def,
    kernel, one,
};
use crate::value::{Element, Lines, Shape, Storage, TensorMut, TensorRef, Visitor, same_count};
use crate::weights::Weights;

/// The largest or smallest elements along an axis, the best first, with their indices.
///
/// Of equal elements the one with the lower index comes first. NaN comes last in either order, as
/// `value_inference` of coremltools' definition has it (`np.argsort` of `x`, or of `-x`);
/// `torch.topk` takes NaN for the largest number instead.
#[derive(Clone, Debug)]
pub(crate) struct TopK {
    pub(crate) x: usize,
    /// How many elements; -1 for all, which the definition of iOS 17 added.
    pub(crate) k: i64,
    pub(crate) axis: i64,
    /// The smallest elements, in rising order.
    pub(crate) ascending: bool,
    /// Type of the indices (`Int32` or `UInt16`), if they are a result.
    pub(crate) indices: Option<ElementType>,
}

impl TopK {
    /// The size of the axis in an input of this shape.
    pub(crate) fn size(&self, shape: &[usize]) -> Option<usize> {
        Some(shape[axis(self.axis, shape.len(), "axis").ok()?])
    }

    /// The axis and how many of its elements are taken.
    fn taken(&self, shape: &[usize]) -> Result<(usize, usize), OpError> {
        let axis = axis(self.axis, shape.len(), "axis")?;
        let size = shape[axis];
        let taken = match self.k {
            -1 => Some(size),
            k => usize::try_from(k).ok().filter(|&k| k <= size),
        };
        let taken = taken.ok_or_else(|| {
            let expected = format!("at most {size}, the size of axis {axis}, or -1");
            OpError::argument("k", expected, self.k.to_string())
        })?;
        Ok((axis, taken))
    }
}

/// The order of values, NaN last.
fn nan_last<T: PartialOrd>(x: &T, y: &T, ascending: bool) -> Ordering {
    let order = x.partial_cmp(y).map(|order| if ascending { order } else { order.reverse() });
    let is_nan = |value: &T| value.partial_cmp(value).is_none();
    order.unwrap_or_else(|| is_nan(x).cmp(&is_nan(y)))
}

/// A run of a [`TopK`] or an [`Argsort`], whatever the type of the elements.
struct Select<'a, 's, 'o> {
    x: TensorRef<'a>,
    lines: Lines,
    taken: Lines,
    ascending: bool,
    outputs: &'a mut Outputs<'s, 'o>,
    /// The outputs that values and indices go to, if they are results.
    values: Option<usize>,
    indices: Option<usize>,
    context: &'a Context,
}

impl Visitor for Select<'_, '_, '_> {
    type Output = Result<(), OpError>;

    fn visit<T: Element>(self) -> Result<(), OpError> {
        let Select { lines, taken, outputs, .. } = self;
        let x = self.x.slice::<T>()?;
        same_count(lines.elements(), x.len())?;
        if taken.elements() == 0 {
            return Ok(());
        }
        let scratch = self.context.scratch();
        let (mut values, mut places) = (scratch.take::<T>(lines.size)?, scratch.take(lines.size)?);
        for line in 0..lines.count() {
            values.iter_mut().zip(lines.line(x, line)).for_each(|(value, &x)| *value = x);
            (0u32..).zip(places.iter_mut()).for_each(|(index, place)| *place = index);
            let value = |place: u32| values[place as usize];
            let best = first(&mut places, taken.size, |&x, &y| {
                nan_last(&value(x), &value(y), self.ascending).then(x.cmp(&y))
            });
            if let Some(output) = self.values {
                let out = outputs.tensor(output)?.slice::<T>()?;
                same_count(taken.elements(), out.len())?;
                taken.line_mut(out, line).zip(best).for_each(|(out, &place)| *out = value(place));
            }
            if let Some(output) = self.indices {
                write_indices(outputs.tensor(output)?, taken, line, best)?;
            }
        }
        Ok(())
    }
}

/// The first `count` elements in this order, in which no two are equal.
fn first<T>(values: &mut [T], count: usize, order: impl Fn(&T, &T) -> Ordering) -> &[T] {
    if count < values.len() {
        values.select_nth_unstable_by(count, &order);
    }
    let first = &mut values[..count];
    first.sort_unstable_by(&order);
    first
}

/// Writes a line of the indices.
fn write_indices(
    out: &mut TensorMut,
    taken: Lines,
    line: usize,
    best: &[u32],
) -> Result<(), OpError> {
    same_count(taken.elements() * out.storage.size(), out.bytes.len())?;
    match out.storage {
        Storage::U16 => {
            let out = taken.line_mut(out.slice::<u16>()?, line);
            out.zip(best).for_each(|(out, &place)| *out = place as u16);
        }
        _ => {
            let out = taken.line_mut(out.slice::<i32>()?, line);
            out.zip(best).for_each(|(out, &place)| *out = place as i32);
        }
    }
    Ok(())
}

impl Op for TopK {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let mut shape = Shape::from_slice(inputs.shape(self.x)?);
        let (axis, taken) = self.taken(&shape)?;
        shape[axis] = taken;
        let mut types = one(inputs.element(self.x)?, shape.clone())?;
        types.extend(self.indices.map(|element| ResultType::new(element, shape)));
        Ok(types)
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let (x, ascending, shape) = (self.x, self.ascending, inputs.shape(self.x)?);
        let (axis, taken) = self.taken(shape)?;
        let lines = Lines::along(shape, axis);
        let taken = Lines { size: taken, ..lines };
        indices_fit(self.indices.unwrap_or(ElementType::Int32), lines.size)?;
        let (values, indices) = (Some(0), self.indices.map(|_| 1));
        kernel(move |inputs, outputs, context| {
            let x = inputs.tensor(x)?;
            x.storage.visit(Select {
                x,
                lines,
                taken,
                ascending,
                outputs,
                values,
                indices,
                context,
            })
        })
    }

    fn moves(&self) -> Option<Moves> {
        let indices = self.indices.map(|_| ElementType::Int32);
        Moves::new(&TopK { indices, ..self.clone() }, [self.x])
    }
}

/// The indices of the elements along an axis in their order, which is that of [`TopK`].
#[derive(Clone, Debug)]
struct Argsort {
    x: usize,
    axis: i64,
    ascending: bool,
}

impl Op for Argsort {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let shape = inputs.shape(self.x)?;
        axis(self.axis, shape.len(), "axis")?;
        one(ElementType::Int32, shape)
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let (x, ascending, shape) = (self.x, self.ascending, inputs.shape(self.x)?);
        let lines = Lines::along(shape, axis(self.axis, shape.len(), "axis")?);
        indices_fit(ElementType::Int32, lines.size)?;
        kernel(move |inputs, outputs, context| {
            let x = inputs.tensor(x)?;
            let (taken, values, indices) = (lines, None, Some(0));
            x.storage.visit(Select {
                x,
                lines,
                taken,
                ascending,
                outputs,
                values,
                indices,
                context,
            })
        })
    }
}

fn argsort(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    bound(Argsort { x, axis: binder.int("axis")?, ascending: binder.bool("ascending")? })
}

fn topk_with(binder: &mut Binder, indices: Option<ElementType>) -> Result<Box<dyn Op>, OpError> {
    let (x, k) = (binder.input("x")?, binder.int("k")?);
    let (axis, ascending) = (binder.int("axis")?, binder.bool("ascending")?);
    bound(TopK { x, k, axis, ascending, indices })
}

fn topk(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    topk_with(binder, Some(ElementType::Int32))
}

fn topk_ios16(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    // Any order will do where none is asked for: the results are always sorted.
    binder.bool("sort")?;
    let indices = binder.bool("return_indices")?.then_some(ElementType::Int32);
    topk_with(binder, indices)
}

fn topk_ios17(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    binder.bool("sort")?;
    let element = index_type(binder, "output_indices_dtype")?;
    let indices = binder.bool("return_indices")?.then_some(element);
    topk_with(binder, indices)
}

pub(super) const OPS: &[OpDef] = &[
    def("argsort", Opset::Ios15, argsort),
    def("topk", Opset::Ios15, topk),
    def("topk", Opset::Ios16, topk_ios16),
    def("topk", Opset::Ios17, topk_ios17),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::op::testing::{Case, Value, indices, position};

    /// The indices of all elements of each line, lines in the order of their first elements: by
    /// counting how many others come before each.
    fn naive(x: &[f32], ascending: bool) -> Vec<usize> {
        let before = |a: usize, b: usize| match (x[a].is_nan(), x[b].is_nan()) {
            (true, true) => a < b,
            (false, false) if x[a] == x[b] => a < b,
            (false, false) => (x[a] < x[b]) == ascending,
            (nan, _) => !nan,
        };
        let mut order = vec![0; x.len()];
        for a in 0..x.len() {
            order[(0..x.len()).filter(|&b| b != a && before(b, a)).count()] = a;
        }
        order
    }

    /// Values and indices of the best `k` along an axis.
    fn expected(
        x: &[f32],
        shape: &[usize],
        axis: usize,
        k: usize,
        ascending: bool,
    ) -> (Vec<f32>, Vec<usize>) {
        let mut result = shape.to_vec();
        result[axis] = k;
        let best = |mut index: Vec<usize>| {
            let rank = std::mem::take(&mut index[axis]);
            let at = |place| {
                let mut index = index.clone();
                index[axis] = place;
                x[position(shape, &index)]
            };
            let line: Vec<f32> = (0..shape[axis]).map(at).collect();
            let place = naive(&line, ascending)[rank];
            (line[place], place)
        };
        indices(&result).into_iter().map(best).unzip()
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    proptest! {
        #[test]
        fn the_best_are_found_in_order(
            (shape, x) in prop::collection::vec(1usize..7, 1..4).prop_flat_map(|shape| {
                let count = shape.iter().product::<usize>();
                // Few different values, so that many are equal; 5 stands for NaN.
                (Just(shape), prop::collection::vec(-4i8..6, count))
            }),
            place in 0usize..3,
            k in 0usize..7,
            ascending in any::<bool>(),
        ) {
            let axis = place % shape.len();
            let k = k.min(shape[axis]);
            let with = |case: Case| {
                case.int("axis", axis as i32).int("k", k as i32).bools("ascending", &[ascending.into()])
            };
            let floats: Vec<f32> =
                x.iter().map(|&x| if x == 5 { f32::NAN } else { x.into() }).collect();
            let (values, places) = expected(&floats, &shape, axis, k, ascending);
            let got = with(Case::new().floats("x", &shape, &floats)).run("topk", Opset::Ios15).unwrap();
            prop_assert_eq!(got.len(), 2);
            prop_assert_eq!(got[0].shape()[axis], k);
            prop_assert_eq!(bits(&got[0].values::<f32>()), bits(&values));
            let got: Vec<usize> = got[1].values::<i32>().iter().map(|&place| place as usize).collect();
            prop_assert_eq!(got, places);

            let numbers: Vec<f32> = x.iter().map(|&x| x.into()).collect();
            let (values, places) = expected(&numbers, &shape, axis, k, ascending);
            let bytes = Case::new().value("x", Value::tensor(ElementType::Int8, &shape, &x));
            let bytes = with(bytes).string("output_indices_dtype", "uint16");
            let got = bytes.run("topk", Opset::Ios17).unwrap();
            prop_assert_eq!(got[0].element(), ElementType::Int8);
            let got_values: Vec<f32> = got[0].values::<i8>().into_iter().map(f32::from).collect();
            prop_assert_eq!(got_values, values);
            let got: Vec<usize> = got[1].values::<u16>().into_iter().map(usize::from).collect();
            prop_assert_eq!(got, places);
        }
    }

    #[test]
    fn one_of_the_last_axis_is_the_default() {
        let case = Case::new().ints("x", &[2, 3], &[1, 3, 2, 6, 4, 5]);
        let got = case.run("topk", Opset::Ios15).unwrap();
        assert_eq!((got[0].shape(), got[0].values::<i32>()), (vec![2, 1], vec![3, 6]));
        assert_eq!((got[1].shape(), got[1].values::<i32>()), (vec![2, 1], vec![1, 0]));
        assert_eq!(got[1].element(), ElementType::Int32);
    }

    #[test]
    fn indices_are_left_out_where_they_are_not_asked_for() {
        for opset in [Opset::Ios16, Opset::Ios17] {
            let case = Case::new().ints("x", &[3], &[1, 3, 2]).int("k", 2).bools("sort", &[0]);
            let got = case.bools("return_indices", &[0]).run("topk", opset).unwrap();
            assert_eq!(got.len(), 1);
            let mut values = got[0].values::<i32>();
            values.sort_unstable();
            assert_eq!(values, [2, 3]);
        }
    }

    #[test]
    fn minus_one_takes_all_and_more_than_there_are_is_an_error() {
        let run = |k| Case::new().ints("x", &[3], &[1, 3, 2]).int("k", k).run("topk", Opset::Ios17);
        assert_eq!(run(-1).unwrap()[0].values::<i32>(), [3, 2, 1]);
        for k in [4, -2] {
            let message = run(k).err().unwrap().to_string();
            assert!(message.contains("`k`") && message.contains("at most 3"), "{message}");
        }
    }

    #[test]
    fn extremes_are_not_negated() {
        // The negative of the smallest integer is itself.
        let x = [i32::MIN, 0, i32::MAX];
        let got = Case::new().ints("x", &[3], &x).int("k", 3).run("topk", Opset::Ios18).unwrap();
        assert_eq!(got[0].values::<i32>(), [i32::MAX, 0, i32::MIN]);
    }

    #[test]
    fn indices_beyond_their_type_are_refused() {
        let size = (1 << 16) + 1;
        let x = Value::tensor(ElementType::UInt8, &[size], &vec![0u8; size]);
        let run = |element| {
            let case = Case::new().value("x", x.clone());
            case.string("output_indices_dtype", element).run("topk", Opset::Ios17)
        };
        assert_eq!(run("int32").unwrap()[1].values::<i32>(), [0]);
        assert!(run("uint16").err().unwrap().to_string().contains("do not fit `uint16`"));
        assert!(run("int8").err().unwrap().to_string().contains("`uint16`"));
    }
}
