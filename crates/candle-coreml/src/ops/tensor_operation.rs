//! Operations that put tensors together, take them apart or make them.

use std::ops::Range;

use coreml_format::mil::{ElementType, Opset};
use half::f16;
use smallvec::SmallVec;

use super::broadcast::{shape as broadcast_shape, strides};
use super::pad::pad;
use super::strided::{Layout, count, row_major, same_count};
use super::tensor_transformation::identity;
use super::{
    Binder, Inputs, Op, OpDef, OpError, Outputs, ResultType, ResultTypes, Scratch, axis, def, one,
};
use crate::value::{Shape, Storage, TensorMut};

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

fn too_large() -> OpError {
    OpError::invalid("the result's size overflows")
}

fn same_shape(expected: &[usize], got: &[usize]) -> Result<(), OpError> {
    if expected == got {
        return Ok(());
    }
    Err(OpError::argument(
        "values",
        format!("tensors that fit the first one, of shape {expected:?}"),
        format!("one of shape {got:?} (along the axis, sizes may differ only without `interleave`)"),
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
            let step = if self.interleave { stride.saturating_mul(self.values.len()) } else { stride };
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

fn concat(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
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

fn stack(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
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
                if *number == 0 || size % number != 0 {
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

fn split(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
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

/// A tensor repeated along its axes.
struct Tile {
    x: usize,
    reps: usize,
}

impl Tile {
    fn reps(&self, inputs: &Inputs) -> Result<SmallVec<[usize; 6]>, OpError> {
        let rank = inputs.shape(self.x)?.len();
        let reps = inputs.ints(self.reps)?;
        let fail = || {
            let expected = format!("{rank} positive integers, the rank of `x`");
            OpError::argument("reps", expected, format!("{:?}", reps.as_slice()))
        };
        if reps.len() != rank {
            return Err(fail());
        }
        let positive = |&rep: &i64| usize::try_from(rep).ok().filter(|&rep| rep > 0);
        reps.iter().map(|rep| positive(rep).ok_or_else(fail)).collect()
    }
}

impl Op for Tile {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let (shape, reps) = (inputs.shape(self.x)?, self.reps(inputs)?);
        let sizes = shape.iter().zip(reps);
        let shape: Option<Shape> = sizes.map(|(size, rep)| size.checked_mul(rep)).collect();
        one(inputs.element(self.x)?, shape.ok_or_else(too_large)?)
    }

    fn run(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        _scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        let (x, reps) = (inputs.tensor(self.x)?, self.reps(inputs)?);
        let axes = x.shape.iter().zip(row_major(x.shape)).zip(reps);
        let walk =
            axes.flat_map(|((&size, stride), rep)| [(rep, 0), (size, stride as isize)]);
        Layout::new(0, walk).read(x.bytes, outputs.tensor(0)?.bytes, x.storage.size())
    }

    fn accepts_half(&self, input: usize) -> bool {
        input == self.x
    }

    fn keeps_storage_of(&self) -> Option<usize> {
        Some(self.x)
    }

    fn as_repeat(&self, inputs: &Inputs) -> Option<(usize, usize, usize)> {
        let shape = inputs.shape(self.x).ok()?;
        let reps = self.reps(inputs).ok()?;
        let axis = reps.iter().position(|&rep| rep != 1)?;
        let others = reps.iter().skip(axis + 1).all(|&rep| rep == 1);
        others.then(|| (self.x, count(&shape[axis..]), reps[axis]))
    }
}

fn tile(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    Ok(Box::new(Tile { x: binder.input("x")?, reps: binder.input("reps")? }))
}

/// Elements of `a` where `cond` is true, of `b` elsewhere.
struct Select {
    cond: usize,
    a: usize,
    b: usize,
}

impl Op for Select {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let shape = broadcast_shape(inputs.shape(self.a)?, inputs.shape(self.b)?)?;
        let shape = broadcast_shape(&shape, inputs.shape(self.cond)?)?;
        one(inputs.element(self.a)?, shape)
    }

    fn run(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        _scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        match outputs.tensor(0)?.storage.size() {
            1 => self.choose::<1>(inputs, outputs),
            2 => self.choose::<2>(inputs, outputs),
            4 => self.choose::<4>(inputs, outputs),
            _ => self.choose::<8>(inputs, outputs),
        }
    }
}

impl Select {
    fn choose<const N: usize>(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
    ) -> Result<(), OpError> {
        let (cond, a, b) =
            (inputs.tensor(self.cond)?, inputs.tensor(self.a)?, inputs.tensor(self.b)?);
        let out = outputs.tensor(0)?;
        for operand in [&a, &b] {
            if operand.storage != out.storage {
                let got = format!("`{}`", operand.element);
                return Err(OpError::argument("b", format!("`{}`", out.element), got));
            }
        }
        let shape = out.shape;
        let out = out.bytes.as_chunks_mut::<N>().0;
        let walk = |operand: &[usize]| {
            let axes = shape.iter().copied().zip(strides(operand, shape));
            Layout::new(0, axes.map(|(size, stride)| (size, stride as isize)))
        };
        let (cond, walk_cond) = (cond.slice::<u8>()?, walk(cond.shape));
        let (a, walk_a) = (a.bytes.as_chunks::<N>().0, walk(a.shape));
        let (b, walk_b) = (b.bytes.as_chunks::<N>().0, walk(b.shape));
        if [&walk_cond, &walk_a, &walk_b].iter().all(|walk| walk.contiguous() == Some(0))
            && [cond.len(), a.len(), b.len()] == [out.len(); 3]
        {
            for ((out, &cond), (&a, &b)) in out.iter_mut().zip(cond).zip(a.iter().zip(b)) {
                *out = if cond != 0 { a } else { b };
            }
            return Ok(());
        }
        // `b` everywhere, and then `a` where the condition holds.
        place(&walk_b, b, out, |_| true)?;
        let mut holds: Vec<[u8; 1]> = vec![[0]; out.len()];
        place(&walk_cond, cond.as_chunks::<1>().0, &mut holds, |_| true)?;
        place(&walk_a, a, out, |i| holds[i] != [0])
    }
}

/// Copies the elements of a layout to where they are wanted.
fn place<T: Copy>(
    layout: &Layout,
    from: &[T],
    to: &mut [T],
    wanted: impl Fn(usize) -> bool,
) -> Result<(), OpError> {
    layout.check(from.len())?;
    same_count(to.len(), layout.count())?;
    let (len, stride) = layout.row();
    layout.for_each_row(|first, position| {
        for i in 0..len {
            if wanted(first + i) {
                to[first + i] = from[(position as isize + i as isize * stride) as usize];
            }
        }
    });
    Ok(())
}

fn select(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let (cond, a, b) = (binder.input("cond")?, binder.input("a")?, binder.input("b")?);
    Ok(Box::new(Select { cond, a, b }))
}

/// The shape of a tensor.
struct ShapeOf {
    x: usize,
}

impl Op for ShapeOf {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        one(ElementType::Int32, Shape::from_slice(&[inputs.shape(self.x)?.len()]))
    }

    fn run(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        _scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        let shape = inputs.shape(self.x)?;
        for (out, &size) in outputs.tensor(0)?.slice::<i32>()?.iter_mut().zip(shape) {
            *out = i32::try_from(size).unwrap_or(i32::MAX);
        }
        Ok(())
    }

    fn accepts_half(&self, _input: usize) -> bool {
        true
    }

    fn accepts_compressed(&self, _input: usize, _constant: &crate::value::Constant) -> bool {
        true
    }
}

fn shape_of(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    Ok(Box::new(ShapeOf { x: binder.input("x")? }))
}

/// Numbers from `start` up to but not including `end`, `step` apart.
struct Range1d {
    start: usize,
    end: usize,
    step: usize,
}

impl Range1d {
    fn count(&self, inputs: &Inputs) -> Result<usize, OpError> {
        let [start, end, step] = [self.start, self.end, self.step].map(|input| {
            let tensor = inputs.tensor(input)?;
            // An `i32` is exact in `f64`, not in `f32`.
            match tensor.storage {
                Storage::F32 => tensor.scalar_f32().map(f64::from),
                _ => tensor.scalar_int().map(|value| value as f64),
            }
        });
        let (start, end, step) = (start?, end?, step?);
        let count = ((end - start) / step).ceil();
        if step == 0.0 || !count.is_finite() || count > f64::from(i32::MAX) {
            let got = format!("{start} to {end} in steps of {step}");
            return Err(OpError::argument("step", "a step that gets from `start` to `end`", got));
        }
        Ok(count.max(0.0) as usize)
    }
}

impl Op for Range1d {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        one(inputs.element(self.start)?, Shape::from_slice(&[self.count(inputs)?]))
    }

    fn run(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        _scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        let (start, step) = (inputs.tensor(self.start)?, inputs.tensor(self.step)?);
        let out = outputs.tensor(0)?;
        if out.storage == Storage::F32 {
            let (start, step) = (start.scalar_f32()?, step.scalar_f32()?);
            for (i, out) in out.f32s()?.iter_mut().enumerate() {
                *out = start + i as f32 * step;
            }
            return Ok(());
        }
        let (start, step) = (start.scalar_int()?, step.scalar_int()?);
        for (i, out) in out.slice::<i32>()?.iter_mut().enumerate() {
            *out = start.wrapping_add((i as i64).wrapping_mul(step)) as i32;
        }
        Ok(())
    }
}

fn range_1d(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let (start, end, step) = (binder.input("start")?, binder.input("end")?, binder.input("step")?);
    Ok(Box::new(Range1d { start, end, step }))
}

/// A tensor of one value.
struct Fill {
    shape: usize,
    /// `fill_like`: the shape is that of the input, not its elements.
    like: bool,
    element: ElementType,
    value: f32,
}

impl Op for Fill {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        if self.like {
            return one(self.element, inputs.shape(self.shape)?);
        }
        let sizes = inputs.ints(self.shape)?;
        let shape: Option<Shape> = sizes.iter().map(|&size| usize::try_from(size).ok()).collect();
        let fail = || OpError::argument("shape", "sizes", format!("{:?}", sizes.as_slice()));
        one(self.element, shape.ok_or_else(fail)?)
    }

    fn run(
        &self,
        _inputs: &Inputs,
        outputs: &mut Outputs,
        _scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        let out = outputs.tensor(0)?;
        let (value, size) = element_bytes(self.value, out);
        out.bytes.chunks_exact_mut(size).for_each(|out| out.copy_from_slice(&value[..size]));
        Ok(())
    }

    fn accepts_half(&self, _input: usize) -> bool {
        self.like
    }
}

/// The bytes of a number as an element of `out`, and how many they are.
pub(super) fn element_bytes(value: f32, out: &TensorMut) -> ([u8; 8], usize) {
    let size = out.storage.size();
    let mut bytes = [0; 8];
    let mut set = |value: &[u8]| bytes[..value.len()].copy_from_slice(value);
    match out.storage {
        Storage::Bool => set(&[u8::from(value != 0.0)]),
        Storage::U8 => set(&[value as u8]),
        Storage::I8 => set(&(value as i8).to_ne_bytes()),
        Storage::U16 => set(&(value as u16).to_ne_bytes()),
        Storage::I16 => set(&(value as i16).to_ne_bytes()),
        Storage::U32 => set(&(value as u32).to_ne_bytes()),
        Storage::I32 => set(&(value as i32).to_ne_bytes()),
        Storage::U64 => set(&(value as u64).to_ne_bytes()),
        Storage::I64 => set(&(value as i64).to_ne_bytes()),
        Storage::F16 => set(&f16::from_f32(value).to_ne_bytes()),
        Storage::F32 => set(&value.to_ne_bytes()),
        Storage::F64 => set(&f64::from(value).to_ne_bytes()),
    }
    (bytes, size)
}

fn fill_with(binder: &mut Binder, argument: &str, like: bool) -> Result<Box<dyn Op>, OpError> {
    let shape = binder.input(argument)?;
    let element = binder.constant("value")?.map_or(ElementType::Float32, |value| value.element);
    let value = binder.float("value")?.unwrap_or(0.0);
    Ok(Box::new(Fill { shape, like, element, value }))
}

fn fill(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    fill_with(binder, "shape", false)
}

fn fill_like(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    fill_with(binder, "ref_tensor", true)
}

pub(super) const OPS: &[OpDef] = &[
    def("concat", Opset::Ios15, concat),
    def("fill", Opset::Ios15, fill),
    def("fill_like", Opset::Ios16, fill_like),
    def("identity", Opset::Ios15, identity),
    def("pad", Opset::Ios15, pad),
    def("range_1d", Opset::Ios15, range_1d),
    def("select", Opset::Ios15, select),
    def("shape", Opset::Ios15, shape_of),
    def("split", Opset::Ios15, split),
    def("stack", Opset::Ios15, stack),
    def("tile", Opset::Ios15, tile),
];
