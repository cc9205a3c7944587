//! Reductions over axes.

use coreml_format::mil::{ElementType, Opset};
use smallvec::SmallVec;

use super::strided::{Layout, count, row_major, same_count};
use super::{Binder, Inputs, Op, OpDef, OpError, Outputs, ResultTypes, Scratch, axis, def, one};
use crate::value::{Shape, Storage};

/// Which axes a reduction takes.
struct Axes {
    /// All axes if `None`.
    axes: Option<SmallVec<[i64; 8]>>,
    keep: bool,
}

impl Axes {
    fn bind(binder: &Binder) -> Result<Self, OpError> {
        Ok(Axes { axes: binder.ints("axes")?, keep: binder.bool("keep_dims", false)? })
    }

    fn reduced(&self, rank: usize) -> Result<SmallVec<[bool; 8]>, OpError> {
        let mut reduced = SmallVec::from_elem(self.axes.is_none(), rank);
        for &place in self.axes.iter().flatten() {
            let place = axis(place, rank, "axes")?;
            if std::mem::replace(&mut reduced[place], true) {
                let got = format!("axis {place} twice");
                return Err(OpError::argument("axes", "axes that differ", got));
            }
        }
        Ok(reduced)
    }

    fn shape(&self, x: &[usize]) -> Result<Shape, OpError> {
        let reduced = self.reduced(x.len())?;
        let sizes = x.iter().zip(&reduced);
        Ok(sizes
            .filter(|(_, reduced)| self.keep || !**reduced)
            .map(|(&size, &reduced)| if reduced { 1 } else { size })
            .collect())
    }

    /// Where the first element for each result lies in `x`, and where the others lie from there.
    fn layouts(&self, x: &[usize]) -> Result<(Layout, Layout), OpError> {
        let reduced = self.reduced(x.len())?;
        let part = |wanted: bool| {
            let axes = x.iter().zip(row_major(x)).zip(&reduced);
            let axes = axes.filter(|(_, reduced)| **reduced == wanted);
            Layout::new(0, axes.map(|((&size, stride), _)| (size, stride as isize)))
        };
        Ok((part(false), part(true)))
    }
}

/// Calls `visit` with the number of each element of a layout and its position.
fn for_each(layout: &Layout, mut visit: impl FnMut(usize, usize)) {
    let (len, stride) = layout.row();
    layout.for_each_row(|first, position| {
        for i in 0..len {
            visit(first + i, (position as isize + i as isize * stride) as usize);
        }
    });
}

/// Number of partial results that are kept beside each other, so that one addition need not wait
/// for the last.
const LANES: usize = 8;

/// A reduction of floats: values are mapped, combined in double precision, and the result is
/// finished with the number of values.
struct Floats<M, C> {
    start: f64,
    map: M,
    combine: C,
    finish: fn(f64, usize) -> f64,
}

impl<M: Fn(f64) -> f64, C: Fn(f64, f64) -> f64> Floats<M, C> {
    /// Reduces the elements that lie so from `base` on.
    fn reduce(&self, x: &[f32], base: usize, layout: &Layout) -> f64 {
        let mut lanes = [self.start; LANES];
        let (len, stride) = layout.row();
        layout.for_each_row(|_, position| {
            let from = base + position;
            if stride == 1 {
                self.row(&x[from..from + len], &mut lanes);
                return;
            }
            for i in 0..len {
                let value = f64::from(x[(from as isize + i as isize * stride) as usize]);
                let lane = &mut lanes[i % LANES];
                *lane = (self.combine)(*lane, (self.map)(value));
            }
        });
        lanes.into_iter().fold(self.start, &self.combine)
    }

    fn row(&self, row: &[f32], lanes: &mut [f64; LANES]) {
        let (chunks, rest) = row.as_chunks::<LANES>();
        for chunk in chunks {
            for (lane, &value) in lanes.iter_mut().zip(chunk) {
                *lane = (self.combine)(*lane, (self.map)(f64::from(value)));
            }
        }
        for (lane, &value) in lanes.iter_mut().zip(rest) {
            *lane = (self.combine)(*lane, (self.map)(f64::from(value)));
        }
    }
}

/// A reduction of integers, exact where the result fits 64 bits.
#[derive(Clone, Copy)]
struct Ints {
    start: i64,
    map: fn(i64) -> i64,
    combine: fn(i64, i64) -> i64,
    finish: fn(i64, usize) -> i64,
}

/// A reduction over axes.
struct Reduce<M, C> {
    x: usize,
    axes: Axes,
    floats: Floats<M, C>,
    ints: Ints,
}

impl<M, C> Op for Reduce<M, C>
where
    M: Fn(f64) -> f64 + Send + Sync,
    C: Fn(f64, f64) -> f64 + Send + Sync,
{
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        one(inputs.element(self.x)?, self.axes.shape(inputs.shape(self.x)?)?)
    }

    fn run(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        _scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        let x = inputs.tensor(self.x)?;
        let (kept, reduced) = self.axes.layouts(x.shape)?;
        let number = reduced.count();
        let out = outputs.tensor(0)?;
        if x.storage == Storage::I32 {
            let (values, out) = (x.slice::<i32>()?, out.slice::<i32>()?);
            same_count(out.len(), kept.count())?;
            for_each(&kept, |i, base| {
                let mut total = self.ints.start;
                for_each(&reduced, |_, position| {
                    let value = (self.ints.map)(i64::from(values[base + position]));
                    total = (self.ints.combine)(total, value);
                });
                out[i] = (self.ints.finish)(total, number) as i32;
            });
            return Ok(());
        }
        let (values, out) = (x.f32s()?, out.f32s()?);
        same_count(out.len(), kept.count())?;
        for_each(&kept, |i, base| {
            let total = self.floats.reduce(values, base, &reduced);
            out[i] = (self.floats.finish)(total, number) as f32;
        });
        Ok(())
    }
}

fn numbers(binder: &mut Binder) -> Result<usize, OpError> {
    let x = binder.input("x")?;
    match Storage::natural(binder.element(x)) {
        Some(Storage::F32 | Storage::I32) => Ok(x),
        _ => {
            let got = format!("`{}`", binder.element(x));
            Err(OpError::argument("x", "`fp16`, `fp32` or `int32`", got))
        }
    }
}

fn reduce(
    binder: &mut Binder,
    floats: Floats<
        impl Fn(f64) -> f64 + Send + Sync + 'static,
        impl Fn(f64, f64) -> f64 + Send + Sync + 'static,
    >,
    ints: Ints,
) -> Result<Box<dyn Op>, OpError> {
    let x = numbers(binder)?;
    Ok(Box::new(Reduce { x, axes: Axes::bind(binder)?, floats, ints }))
}

fn total(value: f64, _count: usize) -> f64 {
    value
}

fn add(x: f64, y: f64) -> f64 {
    x + y
}

/// The sum of integers; others start from it.
const SUM: Ints =
    Ints { start: 0, map: |x| x, combine: i64::wrapping_add, finish: |total, _| total };

fn reduce_sum(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    reduce(binder, Floats { start: 0.0, map: |x| x, combine: add, finish: total }, SUM)
}

fn reduce_mean(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let ints = Ints {
        finish: |total, count| total.checked_div(count as i64).unwrap_or(0),
        ..SUM
    };
    let finish = |total, count| total / count as f64;
    reduce(binder, Floats { start: 0.0, map: |x| x, combine: add, finish }, ints)
}

fn reduce_prod(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let ints = Ints { start: 1, combine: i64::wrapping_mul, ..SUM };
    reduce(binder, Floats { start: 1.0, map: |x| x, combine: |x, y| x * y, finish: total }, ints)
}

/// The larger number; NaN if one is, as NumPy has it.
fn larger(x: f64, y: f64) -> f64 {
    if x > y || x.is_nan() { x } else { y }
}

/// The smaller number; NaN if one is.
fn smaller(x: f64, y: f64) -> f64 {
    if x < y || x.is_nan() { x } else { y }
}

fn reduce_max(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let ints = Ints { start: i64::from(i32::MIN), combine: Ord::max, ..SUM };
    let start = f64::NEG_INFINITY;
    reduce(binder, Floats { start, map: |x| x, combine: larger, finish: total }, ints)
}

fn reduce_min(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let ints = Ints { start: i64::from(i32::MAX), combine: Ord::min, ..SUM };
    let start = f64::INFINITY;
    reduce(binder, Floats { start, map: |x| x, combine: smaller, finish: total }, ints)
}

fn reduce_l1_norm(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let ints = Ints { map: i64::wrapping_abs, ..SUM };
    reduce(binder, Floats { start: 0.0, map: f64::abs, combine: add, finish: total }, ints)
}

fn reduce_l2_norm(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let ints = Ints {
        map: |x| x.wrapping_mul(x),
        finish: |total, _| (total as f64).sqrt() as i64,
        ..SUM
    };
    let finish = |total: f64, _| total.sqrt();
    reduce(binder, Floats { start: 0.0, map: |x| x * x, combine: add, finish }, ints)
}

fn reduce_sum_square(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let ints = Ints { map: |x| x.wrapping_mul(x), ..SUM };
    reduce(binder, Floats { start: 0.0, map: |x| x * x, combine: add, finish: total }, ints)
}

fn reduce_log_sum(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let ints = Ints { finish: |total, _| (total as f64).ln() as i64, ..SUM };
    let finish = |total: f64, _| total.ln();
    reduce(binder, Floats { start: 0.0, map: |x| x, combine: add, finish }, ints)
}

/// `log(sum(exp(x)))`, computed from the maximum so that nothing overflows.
struct LogSumExp {
    x: usize,
    axes: Axes,
}

impl Op for LogSumExp {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        one(inputs.element(self.x)?, self.axes.shape(inputs.shape(self.x)?)?)
    }

    fn run(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        _scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        let x = inputs.tensor(self.x)?;
        let (kept, reduced) = self.axes.layouts(x.shape)?;
        let (values, out) = (x.f32s()?, outputs.tensor(0)?.f32s()?);
        same_count(out.len(), kept.count())?;
        let start = f64::NEG_INFINITY;
        let maximum = Floats { start, map: |x| x, combine: larger, finish: total };
        for_each(&kept, |i, base| {
            let top = maximum.reduce(values, base, &reduced);
            // An infinite maximum is the result: subtracting it would give NaN.
            let shift = if top.is_finite() { top } else { 0.0 };
            let map = |x: f64| (x - shift).exp();
            let sum = Floats { start: 0.0, map, combine: add, finish: total };
            out[i] = (sum.reduce(values, base, &reduced).ln() + shift) as f32;
        });
        Ok(())
    }
}

fn reduce_log_sum_exp(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    Ok(Box::new(LogSumExp { x, axes: Axes::bind(binder)? }))
}

/// The index of the first maximum or minimum along an axis.
struct ArgReduce {
    x: usize,
    axis: i64,
    keep: bool,
    element: ElementType,
    largest: bool,
}

/// The index of the first value that none beats; a NaN beats all.
fn first_best(values: impl Iterator<Item = f64>, largest: bool) -> usize {
    let mut best = (0, f64::NAN);
    for (i, value) in values.enumerate() {
        let better = if largest { value > best.1 } else { value < best.1 };
        if i == 0 || better || (value.is_nan() && !best.1.is_nan()) {
            best = (i, value);
        }
    }
    best.0
}

impl ArgReduce {
    fn indices<T: Copy + Into<f64>>(
        &self,
        x: &[T],
        shape: &[usize],
        mut store: impl FnMut(usize, usize),
    ) -> Result<(), OpError> {
        let axis = axis(self.axis, shape.len(), "axis")?;
        let (size, inner) = (shape[axis], count(&shape[axis + 1..]));
        let results = count(&shape[..axis]).saturating_mul(inner);
        if size == 0 && results > 0 {
            return Err(OpError::invalid(format!("axis {axis} of `x` is empty")));
        }
        for result in 0..results {
            let start = result / inner * size * inner + result % inner;
            let values = x[start..].iter().step_by(inner).take(size).map(|&value| value.into());
            store(result, first_best(values, self.largest));
        }
        Ok(())
    }

    fn reduce(&self, inputs: &Inputs, store: impl FnMut(usize, usize)) -> Result<(), OpError> {
        let x = inputs.tensor(self.x)?;
        match x.storage {
            Storage::I32 => self.indices(x.slice::<i32>()?, x.shape, store),
            _ => self.indices(x.f32s()?, x.shape, store),
        }
    }
}

impl Op for ArgReduce {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let mut shape = Shape::from_slice(inputs.shape(self.x)?);
        let axis = axis(self.axis, shape.len(), "axis")?;
        if self.keep {
            shape[axis] = 1;
        } else {
            shape.remove(axis);
        }
        one(self.element, shape)
    }

    fn run(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        _scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        let out = outputs.tensor(0)?;
        if self.element == ElementType::UInt16 {
            let out = out.slice::<u16>()?;
            return self.reduce(inputs, |i, index| out[i] = index as u16);
        }
        let out = out.slice::<i32>()?;
        self.reduce(inputs, |i, index| out[i] = index as i32)
    }
}

fn arg_reduce(binder: &mut Binder, largest: bool) -> Result<Box<dyn Op>, OpError> {
    let x = numbers(binder)?;
    let element = match binder.has("output_dtype") {
        true => binder.element_type("output_dtype")?,
        false => ElementType::Int32,
    };
    if !matches!(element, ElementType::Int32 | ElementType::UInt16) {
        let got = format!("`{element}`");
        return Err(OpError::argument("output_dtype", "`int32` or `uint16`", got));
    }
    let axis = binder.int("axis")?.unwrap_or(-1);
    let keep = binder.bool("keep_dims", false)?;
    Ok(Box::new(ArgReduce { x, axis, keep, element, largest }))
}

fn reduce_argmax(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    arg_reduce(binder, true)
}

fn reduce_argmin(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    arg_reduce(binder, false)
}

pub(super) const OPS: &[OpDef] = &[
    def("reduce_argmax", Opset::Ios15, reduce_argmax),
    def("reduce_argmin", Opset::Ios15, reduce_argmin),
    def("reduce_l1_norm", Opset::Ios15, reduce_l1_norm),
    def("reduce_l2_norm", Opset::Ios15, reduce_l2_norm),
    def("reduce_log_sum", Opset::Ios15, reduce_log_sum),
    def("reduce_log_sum_exp", Opset::Ios15, reduce_log_sum_exp),
    def("reduce_max", Opset::Ios15, reduce_max),
    def("reduce_mean", Opset::Ios15, reduce_mean),
    def("reduce_min", Opset::Ios15, reduce_min),
    def("reduce_prod", Opset::Ios15, reduce_prod),
    def("reduce_sum", Opset::Ios15, reduce_sum),
    def("reduce_sum_square", Opset::Ios15, reduce_sum_square),
];
