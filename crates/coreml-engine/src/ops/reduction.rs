//! Reductions over axes.

use coreml_format::mil::{ElementType, Opset};
use smallvec::SmallVec;

use crate::error::OpError;
use crate::op::{
    Binder, Inputs, Kernel, Op, OpDef, ResultTypes, axis, bound, def, kernel, marked_axes, one,
};
use crate::value::{
    Element, Layout, Shape, Storage, Strides, TensorMut, TensorRef, count, same_count,
};
use crate::weights::Weights;

/// Number of partial results that are kept beside each other, so that one addition need not wait
/// for the last.
const LANES: usize = 8;

/// The elements of a tensor in parts, one for each result.
struct Parts {
    /// Where the first element of each part lies.
    firsts: Layout,
    /// Where the elements of a part lie, from its first one.
    within: Layout,
}

impl Parts {
    /// Parts along the axes that are reduced.
    fn new(shape: &[usize], strides: &Strides, reduced: &[bool]) -> Self {
        let along = |wanted: bool| {
            let axes = shape.iter().copied().zip(strides.iter().copied()).zip(reduced);
            Layout::new(0, axes.filter(|(_, reduced)| **reduced == wanted).map(|(axis, _)| axis))
        };
        Parts { firsts: along(false), within: along(true) }
    }

    /// Writes what `function` makes of each part.
    fn reduce<T: Element, R>(
        &self,
        x: &TensorRef,
        out: &mut [R],
        function: impl Fn(&Part<T>) -> R,
    ) -> Result<(), OpError> {
        let buffer = x.buffer::<T>()?;
        Layout::of(x).check(buffer.len())?;
        same_count(self.firsts.count(), out.len())?;
        let (len, stride) = self.firsts.row();
        self.firsts.for_each_row(|number, position| {
            // Strides may be negative, and then positions from the tensor's first element on.
            let mut first = (x.start as isize).wrapping_add(position as isize);
            for out in &mut out[number..number + len] {
                *out = function(&Part { buffer, first, within: &self.within });
                first = first.wrapping_add(stride);
            }
        });
        Ok(())
    }
}

/// The elements that one result is made of.
struct Part<'a, T> {
    buffer: &'a [T],
    first: isize,
    within: &'a Layout,
}

impl<T: Copy> Part<'_, T> {
    /// Number of elements.
    fn count(&self) -> usize {
        self.within.count()
    }

    /// The elements of a part along a single axis.
    fn line(&self) -> impl Iterator<Item = T> {
        let (len, stride) = self.within.row();
        (0..len as isize).map(move |i| self.buffer[(self.first + i * stride) as usize])
    }

    /// The elements combined; `start` is what combining with changes nothing.
    fn fold<A: Copy>(&self, start: A, map: impl Fn(T) -> A, combine: impl Fn(A, A) -> A) -> A {
        let mut lanes = [start; LANES];
        let (len, stride) = self.within.row();
        self.within.for_each_row(|_, position| {
            let first = self.first.wrapping_add(position as isize);
            if stride == 1 {
                let row = &self.buffer[first as usize..][..len];
                let (chunks, rest) = row.as_chunks::<LANES>();
                for chunk in chunks {
                    for (lane, &value) in lanes.iter_mut().zip(chunk) {
                        *lane = combine(*lane, map(value));
                    }
                }
                for (lane, &value) in lanes.iter_mut().zip(rest) {
                    *lane = combine(*lane, map(value));
                }
                return;
            }
            for i in 0..len {
                let value = self.buffer[(first + i as isize * stride) as usize];
                let lane = &mut lanes[i % LANES];
                *lane = combine(*lane, map(value));
            }
        });
        lanes.into_iter().fold(start, combine)
    }
}

impl<T: Copy + Into<f64>> Part<'_, T> {
    /// The sum of what becomes of the elements, in double precision.
    fn sum(&self, map: impl Fn(f64) -> f64) -> f64 {
        self.fold(0.0, |x| map(x.into()), |x, y| x + y)
    }

    /// The largest element, or negative infinity.
    fn max(&self) -> f64 {
        self.fold(f64::NEG_INFINITY, T::into, larger)
    }

    /// `log(sum(exp(x)))`, computed from the maximum so that nothing overflows.
    fn log_sum_exp(&self) -> f64 {
        let top = self.max();
        // An infinite maximum is the result: subtracting it would give NaN.
        let shift = if top.is_finite() { top } else { 0.0 };
        self.sum(|x| (x - shift).exp()).ln() + shift
    }
}

impl Part<'_, i32> {
    /// The sum of what becomes of the elements; wraps beyond 64 bits.
    fn int_sum(&self, map: impl Fn(i64) -> i64) -> i64 {
        self.fold(0, |x| map(x.into()), i64::wrapping_add)
    }
}

/// The larger number; NaN if one is, as NumPy has it.
fn larger(x: f64, y: f64) -> f64 {
    if x > y || x.is_nan() { x } else { y }
}

/// The smaller number; NaN if one is.
fn smaller(x: f64, y: f64) -> f64 {
    if x < y || x.is_nan() { x } else { y }
}

/// What a reduction makes of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reduction {
    /// The sum of the absolute values.
    L1Norm,
    /// The root of the sum of the squares.
    L2Norm,
    /// The logarithm of the sum.
    LogSum,
    /// The logarithm of the sum of the exponentials.
    LogSumExp,
    /// The largest.
    Max,
    /// The sum divided by the number.
    Mean,
    /// The smallest.
    Min,
    /// The product.
    Prod,
    /// The sum.
    Sum,
    /// The sum of the squares.
    SumSquare,
}

impl Reduction {
    /// Of floats, computed in double precision.
    fn of_floats(self, part: &Part<f32>) -> f64 {
        match self {
            Reduction::L1Norm => part.sum(f64::abs),
            Reduction::L2Norm => part.sum(|x| x * x).sqrt(),
            Reduction::LogSum => part.sum(|x| x).ln(),
            Reduction::LogSumExp => part.log_sum_exp(),
            Reduction::Max => part.max(),
            Reduction::Mean => part.sum(|x| x) / part.count() as f64,
            Reduction::Min => part.fold(f64::INFINITY, f64::from, smaller),
            Reduction::Prod => part.fold(1.0, f64::from, |x, y| x * y),
            Reduction::Sum => part.sum(|x| x),
            Reduction::SumSquare => part.sum(|x| x * x),
        }
    }

    /// Of integers, exact where the result fits 64 bits; what is no integer is cut.
    fn of_ints(self, part: &Part<i32>) -> i64 {
        match self {
            Reduction::L1Norm => part.int_sum(i64::wrapping_abs),
            Reduction::L2Norm => (part.int_sum(|x| x.wrapping_mul(x)) as f64).sqrt() as i64,
            Reduction::LogSum => (part.int_sum(|x| x) as f64).ln() as i64,
            Reduction::LogSumExp => part.log_sum_exp() as i64,
            Reduction::Max => part.fold(i64::from(i32::MIN), i64::from, i64::max),
            Reduction::Mean => part.int_sum(|x| x).checked_div(part.count() as i64).unwrap_or(0),
            Reduction::Min => part.fold(i64::from(i32::MAX), i64::from, i64::min),
            Reduction::Prod => part.fold(1, i64::from, i64::wrapping_mul),
            Reduction::Sum => part.int_sum(|x| x),
            Reduction::SumSquare => part.int_sum(|x| x.wrapping_mul(x)),
        }
    }
}

/// The shape without the axes that are reduced, or with 1 in their place.
fn reduced_shape(x: &[usize], reduced: &[bool], keep: bool) -> Shape {
    let sizes = x.iter().zip(reduced).filter(|(_, reduced)| keep || !**reduced);
    sizes.map(|(&size, &reduced)| if reduced { 1 } else { size }).collect()
}

/// A reduction over axes.
#[derive(Clone, Debug)]
pub(crate) struct Reduce {
    pub(crate) x: usize,
    /// All axes if `None`.
    pub(crate) axes: Option<SmallVec<[i64; 8]>>,
    /// Whether axes that are reduced stay, with 1 element.
    pub(crate) keep: bool,
    pub(crate) function: Reduction,
}

impl Op for Reduce {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let shape = inputs.shape(self.x)?;
        let reduced = marked_axes(self.axes.as_deref(), shape.len())?;
        one(inputs.element(self.x)?, reduced_shape(shape, &reduced, self.keep))
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let (x, function) = (self.x, self.function);
        let shape = inputs.shape(x)?;
        let reduced = marked_axes(self.axes.as_deref(), shape.len())?;
        let parts = Parts::new(shape, &inputs.strides(x)?, &reduced);
        kernel(move |inputs, outputs, _context| {
            let (x, out) = (inputs.tensor(x)?, outputs.tensor(0)?);
            match x.storage {
                Storage::I32 => {
                    parts.reduce(&x, out.slice()?, |part| function.of_ints(part) as i32)
                }
                _ => parts.reduce(&x, out.f32s()?, |part| function.of_floats(part) as f32),
            }
        })
    }

    fn reads_strided(&self, _input: usize) -> bool {
        // Over several axes the order of summation, and so the rounding, would hang on the strides.
        self.axes.as_ref().is_some_and(|axes| axes.len() == 1)
    }
}

fn reduce(binder: &mut Binder, function: Reduction) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    let (axes, keep) = (binder.optional_ints("axes")?, binder.bool("keep_dims")?);
    bound(Reduce { x, axes, keep, function })
}

/// The type of results that are indices, an argument of iOS 17 and later.
pub(super) fn index_type(binder: &Binder, argument: &str) -> Result<ElementType, OpError> {
    binder.one_of(argument, &[("int32", ElementType::Int32), ("uint16", ElementType::UInt16)])
}

/// Fails unless the indices of an axis of `size` fit this type, as [`index_type`] gives it.
pub(super) fn indices_fit(element: ElementType, size: usize) -> Result<(), OpError> {
    let most = match element {
        ElementType::UInt16 => 1 << 16,
        _ => 1 << 31,
    };
    if size <= most {
        return Ok(());
    }
    Err(OpError::invalid(format!("indices of an axis of {size} elements do not fit `{element}`")))
}

/// The index of the first maximum or minimum along an axis.
#[derive(Clone, Debug)]
pub(crate) struct ArgReduce {
    pub(crate) x: usize,
    pub(crate) axis: i64,
    /// Whether the axis stays, with 1 element.
    pub(crate) keep: bool,
    /// Type of the indices: `Int32` or `UInt16`.
    pub(crate) element: ElementType,
    /// The maximum's index, not the minimum's.
    pub(crate) largest: bool,
}

/// The index of the first value that none beats; a NaN beats all.
fn first_best<T: PartialOrd>(mut values: impl Iterator<Item = T>, largest: bool) -> usize {
    let is_nan = |value: &T| value.partial_cmp(value).is_none();
    let Some(mut best) = values.next() else { return 0 };
    let mut index = 0;
    for (i, value) in (1..).zip(values) {
        let better = if largest { value > best } else { value < best };
        if better || (is_nan(&value) && !is_nan(&best)) {
            (index, best) = (i, value);
        }
    }
    index
}

fn write_best<T: Element>(
    parts: &Parts,
    largest: bool,
    x: &TensorRef,
    out: &mut TensorMut,
) -> Result<(), OpError> {
    let best = |part: &Part<T>| first_best(part.line(), largest);
    match out.storage {
        Storage::U16 => parts.reduce(x, out.slice()?, |part| best(part) as u16),
        _ => parts.reduce(x, out.slice()?, |part| best(part) as i32),
    }
}

impl ArgReduce {
    /// Which of `rank` axes is reduced.
    fn reduced(&self, rank: usize) -> Result<SmallVec<[bool; 8]>, OpError> {
        let axis = axis(self.axis, rank, "axis")?;
        Ok((0..rank).map(|other| other == axis).collect())
    }
}

impl Op for ArgReduce {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let shape = inputs.shape(self.x)?;
        one(self.element, reduced_shape(shape, &self.reduced(shape.len())?, self.keep))
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let (x, largest) = (self.x, self.largest);
        let shape = inputs.shape(x)?;
        let reduced = self.reduced(shape.len())?;
        let parts = Parts::new(shape, &inputs.strides(x)?, &reduced);
        let size = parts.within.count();
        if size == 0 && count(&reduced_shape(shape, &reduced, false)) > 0 {
            return Err(OpError::invalid(format!("axis {} of `x` is empty", self.axis)));
        }
        indices_fit(self.element, size)?;
        kernel(move |inputs, outputs, _context| {
            let (x, out) = (inputs.tensor(x)?, outputs.tensor(0)?);
            match x.storage {
                Storage::I32 => write_best::<i32>(&parts, largest, &x, out),
                _ => write_best::<f32>(&parts, largest, &x, out),
            }
        })
    }

    fn reads_strided(&self, _input: usize) -> bool {
        true
    }
}

fn arg_reduce(
    binder: &mut Binder,
    largest: bool,
    element: ElementType,
) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    let (axis, keep) = (binder.int("axis")?, binder.bool("keep_dims")?);
    bound(ArgReduce { x, axis, keep, element, largest })
}

fn arg_reduce_ios17(binder: &mut Binder, largest: bool) -> Result<Box<dyn Op>, OpError> {
    let element = index_type(binder, "output_dtype")?;
    arg_reduce(binder, largest, element)
}

pub(super) const OPS: &[OpDef] = &[
    def("reduce_argmax", Opset::Ios15, |binder| arg_reduce(binder, true, ElementType::Int32)),
    def("reduce_argmax", Opset::Ios17, |binder| arg_reduce_ios17(binder, true)),
    def("reduce_argmin", Opset::Ios15, |binder| arg_reduce(binder, false, ElementType::Int32)),
    def("reduce_argmin", Opset::Ios17, |binder| arg_reduce_ios17(binder, false)),
    def("reduce_l1_norm", Opset::Ios15, |binder| reduce(binder, Reduction::L1Norm)),
    def("reduce_l2_norm", Opset::Ios15, |binder| reduce(binder, Reduction::L2Norm)),
    def("reduce_log_sum", Opset::Ios15, |binder| reduce(binder, Reduction::LogSum)),
    def("reduce_log_sum_exp", Opset::Ios15, |binder| reduce(binder, Reduction::LogSumExp)),
    def("reduce_max", Opset::Ios15, |binder| reduce(binder, Reduction::Max)),
    def("reduce_mean", Opset::Ios15, |binder| reduce(binder, Reduction::Mean)),
    def("reduce_min", Opset::Ios15, |binder| reduce(binder, Reduction::Min)),
    def("reduce_prod", Opset::Ios15, |binder| reduce(binder, Reduction::Prod)),
    def("reduce_sum", Opset::Ios15, |binder| reduce(binder, Reduction::Sum)),
    def("reduce_sum_square", Opset::Ios15, |binder| reduce(binder, Reduction::SumSquare)),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::op::testing::{Case, Value, indices, position};

    /// The elements of each result in the order of the results, whose shape keeps reduced axes as 1.
    fn parts<T: Copy>(shape: &[usize], reduced: &[bool], x: &[T]) -> Vec<Vec<T>> {
        let kept: Vec<usize> = shape
            .iter()
            .zip(reduced)
            .map(|(&size, &reduced)| if reduced { 1 } else { size })
            .collect();
        let mut parts = vec![Vec::new(); kept.iter().product()];
        for index in indices(shape) {
            let at: Vec<usize> = index
                .iter()
                .zip(reduced)
                .map(|(&i, &reduced)| if reduced { 0 } else { i })
                .collect();
            parts[position(&kept, &at)].push(x[position(shape, &index)]);
        }
        parts
    }

    /// What the definitions say of each operator, of the elements one after the other.
    fn naive(operator: &str, x: &[f64]) -> f64 {
        let sum = |map: fn(f64) -> f64| x.iter().map(|&x| map(x)).sum::<f64>();
        match operator {
            "reduce_l1_norm" => sum(f64::abs),
            "reduce_l2_norm" => sum(|x| x * x).sqrt(),
            "reduce_log_sum" => sum(|x| x).ln(),
            "reduce_log_sum_exp" => sum(f64::exp).ln(),
            "reduce_max" => x.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            "reduce_mean" => sum(|x| x) / x.len() as f64,
            "reduce_min" => x.iter().copied().fold(f64::INFINITY, f64::min),
            "reduce_prod" => x.iter().product(),
            "reduce_sum" => sum(|x| x),
            "reduce_sum_square" => sum(|x| x * x),
            other => panic!("no oracle for {other}"),
        }
    }

    const OPERATORS: [&str; 10] = [
        "reduce_l1_norm",
        "reduce_l2_norm",
        "reduce_log_sum",
        "reduce_log_sum_exp",
        "reduce_max",
        "reduce_mean",
        "reduce_min",
        "reduce_prod",
        "reduce_sum",
        "reduce_sum_square",
    ];

    /// Sizes with the number of the axes that are reduced, and elements.
    fn tensors() -> impl Strategy<Value = (Vec<usize>, Vec<bool>, Vec<i32>)> {
        prop::collection::vec((1usize..12, any::<bool>()), 1..4).prop_flat_map(|axes| {
            let (shape, reduced): (Vec<usize>, Vec<bool>) = axes.into_iter().unzip();
            let count = shape.iter().product::<usize>();
            (Just(shape), Just(reduced), prop::collection::vec(-9..10, count))
        })
    }

    fn axes(reduced: &[bool]) -> Vec<i32> {
        (0..).zip(reduced).filter(|(_, reduced)| **reduced).map(|(axis, _)| axis).collect()
    }

    proptest! {
        #[test]
        fn floats_reduce_as_the_definitions_say(
            (shape, reduced, x) in tensors(),
            operator in prop::sample::select(&OPERATORS),
        ) {
            // Small products, and sums with a logarithm.
            let x: Vec<f32> = x.iter().map(|&x| 1.0 + x as f32 / 10.0).collect();
            let wide: Vec<f64> = x.iter().map(|&x| x.into()).collect();
            let case = Case::new().floats("x", &shape, &x).vector("axes", &axes(&reduced));
            let (_, got) = case.run_floats(operator, Opset::Ios15);
            let expected = parts(&shape, &reduced, &wide);
            prop_assert_eq!(got.len(), expected.len());
            for (got, part) in got.iter().zip(expected) {
                let expected = naive(operator, &part);
                let close = (f64::from(*got) - expected).abs() <= 1e-6 * expected.abs().max(1.0);
                prop_assert!(close, "{} of {:?}: {} for {}", operator, part, got, expected);
            }
        }

        #[test]
        fn ints_reduce_exactly((shape, reduced, x) in tensors()) {
            let parts = parts(&shape, &reduced, &x);
            let run = |operator| {
                let case = Case::new().ints("x", &shape, &x).vector("axes", &axes(&reduced));
                case.run_ints(operator, Opset::Ios15).1
            };
            let expected = |function: fn(&Vec<i32>) -> i32| -> Vec<i32> {
                parts.iter().map(function).collect()
            };
            prop_assert_eq!(run("reduce_sum"), expected(|part| part.iter().sum()));
            prop_assert_eq!(
                run("reduce_mean"),
                expected(|part| part.iter().sum::<i32>() / part.len() as i32)
            );
            prop_assert_eq!(run("reduce_max"), expected(|part| *part.iter().max().unwrap()));
            prop_assert_eq!(run("reduce_min"), expected(|part| *part.iter().min().unwrap()));
            prop_assert_eq!(
                run("reduce_sum_square"),
                expected(|part| part.iter().map(|x| x * x).sum())
            );
            prop_assert_eq!(
                run("reduce_prod"),
                expected(|part| part.iter().fold(1i64, |x, &y| x.wrapping_mul(y.into())) as i32)
            );
        }

        #[test]
        fn the_first_of_the_best_is_found((shape, _, x) in tensors(), place in 0usize..4) {
            let axis = place % shape.len();
            let reduced: Vec<bool> = (0..shape.len()).map(|other| other == axis).collect();
            let run = |operator| {
                let case = Case::new().ints("x", &shape, &x).int("axis", axis as i32);
                case.run_ints(operator, Opset::Ios15).1
            };
            let first = |part: &Vec<i32>, best: i32| part.iter().position(|&x| x == best);
            for (part, (largest, smallest)) in parts(&shape, &reduced, &x)
                .iter()
                .zip(run("reduce_argmax").into_iter().zip(run("reduce_argmin")))
            {
                let (max, min) = (*part.iter().max().unwrap(), *part.iter().min().unwrap());
                prop_assert_eq!(Some(largest as usize), first(part, max));
                prop_assert_eq!(Some(smallest as usize), first(part, min));
            }
        }
    }

    #[test]
    fn axes_stay_or_go_and_all_are_reduced_by_default() {
        let case = || Case::new().floats("x", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let run = |case: Case| case.run_floats("reduce_sum", Opset::Ios18);
        assert_eq!(run(case()), (vec![], vec![21.0]));
        assert_eq!(run(case().vector("axes", &[-1])), (vec![2], vec![6.0, 15.0]));
        let kept = case().vector("axes", &[0]).bools("keep_dims", &[1]);
        assert_eq!(run(kept), (vec![1, 3], vec![5.0, 7.0, 9.0]));
        let twice = case().vector("axes", &[1, -1]).run("reduce_sum", Opset::Ios15);
        assert!(twice.err().unwrap().to_string().contains("axis 1 twice"));
    }

    #[test]
    fn strided_tensors_reduce_as_dense_ones() {
        // Rows 4, 3, …, 0 of a matrix of 2 columns, of which every second element is taken.
        let buffer: Vec<f32> = (0..20).map(|i| (i as f32).sin()).collect();
        let strides = Strides::from_slice(&[-4, 2]);
        let (start, shape) = (16, [5, 2]);
        let bytes = bytemuck::cast_slice(&buffer);
        let dense = TensorRef::dense(ElementType::Float32, Storage::F32, &shape, bytes);
        let x = TensorRef { strides: Some(&strides), start, ..dense };
        let at = |row: usize, column: usize| buffer[start - 4 * row + 2 * column];
        let reduce = |reduced: [bool; 2], out: &mut [f32]| {
            let parts = Parts::new(&shape, &strides, &reduced);
            parts.reduce(&x, out, |part| Reduction::Max.of_floats(part) as f32)
        };
        let mut columns = [0.0; 2];
        reduce([true, false], &mut columns).unwrap();
        assert_eq!(columns, [0, 1].map(|j| (0..5).map(|i| at(i, j)).fold(f32::MIN, f32::max)));
        let mut rows = [0.0; 5];
        reduce([false, true], &mut rows).unwrap();
        assert_eq!(rows, [0, 1, 2, 3, 4].map(|i| at(i, 0).max(at(i, 1))));
        assert!(reduce([true, false], &mut rows).is_err());
    }

    #[test]
    fn not_a_number_is_what_it_makes_of_others() {
        let x = [1.0, f32::NAN, 3.0, f32::NAN];
        for operator in ["reduce_max", "reduce_min", "reduce_sum", "reduce_log_sum_exp"] {
            let (_, got) = Case::new().floats("x", &[4], &x).run_floats(operator, Opset::Ios15);
            assert!(got[0].is_nan(), "{operator}");
        }
        // np.argmax([1, nan, 3, nan]) is 1, and so is np.argmin.
        for operator in ["reduce_argmax", "reduce_argmin"] {
            let (_, got) = Case::new().floats("x", &[4], &x).run_ints(operator, Opset::Ios15);
            assert_eq!(got, [1], "{operator}");
        }
    }

    #[test]
    fn infinities_are_their_own_log_sum_exp() {
        let run = |x: &[f32]| {
            let case = Case::new().floats("x", &[x.len()], x);
            case.run_floats("reduce_log_sum_exp", Opset::Ios15).1[0]
        };
        assert_eq!(run(&[f32::NEG_INFINITY; 3]), f32::NEG_INFINITY);
        assert_eq!(run(&[f32::INFINITY, 0.0]), f32::INFINITY);
        // 1000 + ln 2: `exp(1000)` alone is infinite.
        assert_eq!(run(&[1000.0, 1000.0]), (1000.0 + 2f64.ln()) as f32);
    }

    #[test]
    fn what_an_empty_axis_gives() {
        let run =
            |operator| Case::new().floats("x", &[0], &[]).run_floats(operator, Opset::Ios15).1;
        assert_eq!(run("reduce_sum"), [0.0]);
        assert_eq!(run("reduce_prod"), [1.0]);
        assert!(run("reduce_mean")[0].is_nan());
        let error = Case::new().floats("x", &[0], &[]).run("reduce_argmax", Opset::Ios15);
        assert!(error.err().unwrap().to_string().contains("is empty"));
        let none = Case::new().floats("x", &[0, 2, 0], &[]).int("axis", 0);
        assert_eq!(none.run_ints("reduce_argmax", Opset::Ios15), (vec![2, 0], vec![]));
    }

    #[test]
    fn indices_have_the_type_that_is_asked_for() {
        let case = Case::new().floats("x", &[3], &[1.0, 3.0, 2.0]).string("output_dtype", "uint16");
        let results = case.run("reduce_argmax", Opset::Ios17).unwrap();
        assert_eq!(results[0].element(), ElementType::UInt16);
        assert_eq!(results[0].values::<u16>(), [1]);
        let size = (1 << 16) + 1;
        let wide =
            Case::new().value("x", Value::tensor(ElementType::Int32, &[size], &vec![0; size]));
        let error = wide.string("output_dtype", "uint16").run("reduce_argmax", Opset::Ios17);
        assert!(error.err().unwrap().to_string().contains("do not fit `uint16`"));
    }
}
