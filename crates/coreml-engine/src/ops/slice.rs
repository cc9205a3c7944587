//! Parts of tensors: `slice_by_index`, `slice_by_size`, `slice_update`.

use coreml_format::mil::Opset;
use coreml_kernels::convert::{f16_to_f32, f32_to_f16};
use coreml_kernels::{Context, KernelError};
use half::f16;
use smallvec::{SmallVec, smallvec};

use super::movement::{Moved, Movement, dense_strides};
use crate::error::OpError;
use crate::op::{Binder, Inputs, Kernel, Moves, Op, OpDef, ResultTypes, bound, def, kernel, one};
use crate::value::{Layout, Shape, Storage, Strides, TensorMut, TensorRef, View, same_count};
use crate::weights::Weights;

/// The part of one axis: `count` elements from `start`, `step` apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Part {
    start: usize,
    step: isize,
    count: usize,
    squeezed: bool,
}

/// The arguments that `slice_by_index` and `slice_update` share.
#[derive(Clone, Debug)]
pub(crate) struct Range {
    begin: usize,
    end: usize,
    stride: Option<SmallVec<[i64; 8]>>,
    begin_mask: SmallVec<[bool; 8]>,
    end_mask: SmallVec<[bool; 8]>,
    squeeze_mask: SmallVec<[bool; 8]>,
}

fn masked(mask: &[bool], axis: usize) -> bool {
    mask.get(axis).copied().unwrap_or(false)
}

impl Range {
    fn bind(binder: &mut Binder) -> Result<Self, OpError> {
        Ok(Range {
            begin: binder.input("begin")?,
            end: binder.input("end")?,
            stride: binder.optional_ints("stride")?,
            begin_mask: binder.bools("begin_mask")?,
            end_mask: binder.bools("end_mask")?,
            squeeze_mask: binder.bools("squeeze_mask")?,
        })
    }

    /// The parts of all axes of a tensor of `shape`, by NumPy's rules.
    fn parts(&self, inputs: &Inputs, shape: &[usize]) -> Result<SmallVec<[Part; 6]>, OpError> {
        let begin = inputs.ints(self.begin)?;
        let end = inputs.ints(self.end)?;
        let strides = self.stride.as_ref().map_or(shape.len(), |strides| strides.len());
        for (name, len) in [("begin", begin.len()), ("end", end.len()), ("stride", strides)] {
            if len != shape.len() {
                let expected = format!("{} integers, the rank of `x`", shape.len());
                return Err(OpError::argument(name, expected, len.to_string()));
            }
        }
        let mut parts = SmallVec::new();
        for (axis, &size) in shape.iter().enumerate() {
            let step = self.stride.as_ref().map_or(1, |strides| strides[axis]);
            let from = (!masked(&self.begin_mask, axis)).then_some(begin[axis]);
            let to = (!masked(&self.end_mask, axis)).then_some(end[axis]);
            parts.push(if masked(&self.squeeze_mask, axis) {
                single(axis, size, from.unwrap_or(0))?
            } else {
                range(size, from, to, step)?
            });
        }
        Ok(parts)
    }
}

impl Range {
    /// Bounds that lie beyond their axes.
    fn beyond(&self, inputs: &Inputs, shape: &[usize]) -> Option<String> {
        let bounds = [("begin", self.begin, &self.begin_mask), ("end", self.end, &self.end_mask)];
        let mut found = Vec::new();
        for (name, input, mask) in bounds {
            let values = inputs.ints(input).ok()?;
            for (axis, (&value, &size)) in values.iter().zip(shape).enumerate() {
                let size = i64::try_from(size).unwrap_or(i64::MAX);
                if !masked(mask, axis) && !(-size..=size).contains(&value) {
                    let elements = if size == 1 { "element" } else { "elements" };
                    found.push(format!(
                        "`{name}` is {value} on axis {axis}, which has {size} {elements}"
                    ));
                }
            }
        }
        (!found.is_empty()).then(|| found.join("; "))
    }
}

/// The one element at `index`.
fn single(axis: usize, size: usize, index: i64) -> Result<Part, OpError> {
    let resolved = if index < 0 { index + size as i64 } else { index };
    match usize::try_from(resolved).ok().filter(|&start| start < size) {
        Some(start) => Ok(Part { start, step: 1, count: 1, squeezed: true }),
        None => Err(OpError::argument(
            "begin",
            format!("an index of axis {axis} of size {size}"),
            index.to_string(),
        )),
    }
}

/// The elements from `begin` up to but not including `end`; `None` is the end of the axis that the
/// step starts or stops at.
fn range(size: usize, begin: Option<i64>, end: Option<i64>, step: i64) -> Result<Part, OpError> {
    if step == 0 || isize::try_from(step).is_err() {
        return Err(OpError::argument("stride", "strides other than 0", step.to_string()));
    }
    // An axis of one element gives it also where the bounds have different signs, such as -1 and 0:
    // converters write so when they take the last element.
    if let (1, Some(from), Some(to)) = (size, begin, end)
        && (from < 0) != (to < 0)
    {
        return Ok(Part { start: 0, step: 1, count: 1, squeezed: false });
    }
    let len = i64::try_from(size).unwrap_or(i64::MAX);
    let (low, high) = if step > 0 { (0, len) } else { (-1, len - 1) };
    let clamp = |index: i64| {
        let index = if index < 0 { index.saturating_add(len) } else { index };
        index.clamp(low, high)
    };
    let (first, last) = if step > 0 { (low, high) } else { (high, low) };
    let start = begin.map_or(first, clamp);
    let stop = end.map_or(last, clamp);
    let distance = if step > 0 { stop - start } else { start - stop };
    let count =
        if distance > 0 { (distance as u64).div_ceil(step.unsigned_abs()) as usize } else { 0 };
    let start = if count == 0 { 0 } else { start as usize };
    Ok(Part { start, step: step as isize, count, squeezed: false })
}

fn part_shape(parts: &[Part]) -> Shape {
    parts.iter().filter(|part| !part.squeezed).map(|part| part.count).collect()
}

/// Where the elements of these parts lie in a tensor of these strides.
fn part_view(strides: &Strides, parts: &[Part]) -> View {
    let start = parts.iter().zip(strides).fold(0isize, |start, (part, stride)| {
        start.saturating_add((part.start as isize).saturating_mul(*stride))
    });
    let kept = parts.iter().zip(strides).filter(|(part, _)| !part.squeezed);
    View { start, strides: kept.map(|(part, &stride)| part.step.saturating_mul(stride)).collect() }
}

/// Takes a part of `x`.
#[derive(Clone, Debug)]
pub(crate) struct Slice {
    pub(crate) x: usize,
    pub(crate) bounds: Bounds,
}

/// How [`Slice`] is told its part.
#[derive(Clone, Debug)]
pub(crate) enum Bounds {
    Range(Range),
    /// First elements and sizes; the size -1 means all that follow.
    Sizes {
        begin: usize,
        size: usize,
    },
}

impl Bounds {
    pub(crate) fn parts(
        &self,
        inputs: &Inputs,
        shape: &[usize],
    ) -> Result<SmallVec<[Part; 6]>, OpError> {
        match self {
            Bounds::Range(range) => range.parts(inputs, shape),
            Bounds::Sizes { begin, size } => {
                sized_parts(shape, &inputs.ints(*begin)?, &inputs.ints(*size)?)
            }
        }
    }
}

fn sized_parts(
    shape: &[usize],
    begin: &[i64],
    sizes: &[i64],
) -> Result<SmallVec<[Part; 6]>, OpError> {
    if begin.len() != shape.len() || sizes.len() != shape.len() {
        let got = format!("{} and {}", begin.len(), sizes.len());
        let expected = format!("{} integers in `begin` and `size`", shape.len());
        return Err(OpError::argument("begin", expected, got));
    }
    let mut parts = SmallVec::new();
    for (axis, &available) in shape.iter().enumerate() {
        let from = if begin[axis] < 0 { begin[axis] + available as i64 } else { begin[axis] };
        let start = usize::try_from(from).ok().filter(|&start| start <= available);
        let count = start.and_then(|start| match sizes[axis] {
            -1 => Some(available - start),
            size => usize::try_from(size).ok().filter(|&size| size <= available - start),
        });
        let (Some(start), Some(count)) = (start, count) else {
            let got = format!("{} elements from {}", sizes[axis], begin[axis]);
            let expected = format!("a part of the {available} elements of axis {axis}");
            return Err(OpError::argument("size", expected, got));
        };
        parts.push(Part { start, step: 1, count, squeezed: false });
    }
    Ok(parts)
}

impl Movement for Slice {
    fn x(&self) -> usize {
        self.x
    }

    fn places(&self) -> SmallVec<[usize; 2]> {
        match &self.bounds {
            Bounds::Range(range) => smallvec![range.begin, range.end],
            Bounds::Sizes { begin, size } => smallvec![*begin, *size],
        }
    }

    fn beyond(&self, inputs: &Inputs) -> Option<String> {
        match &self.bounds {
            Bounds::Range(range) => range.beyond(inputs, inputs.shape(self.x).ok()?),
            Bounds::Sizes { .. } => None,
        }
    }

    fn moved(
        &self,
        inputs: &Inputs,
        shape: &[usize],
        strides: &Strides,
    ) -> Result<SmallVec<[Moved; 1]>, OpError> {
        let parts = self.bounds.parts(inputs, shape)?;
        Ok(smallvec![Moved::view(part_shape(&parts), part_view(strides, &parts))])
    }
}

fn slice_by_index(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    bound(Slice { x, bounds: Bounds::Range(Range::bind(binder)?) })
}

fn slice_by_size(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    let bounds = Bounds::Sizes { begin: binder.input("begin")?, size: binder.input("size")? };
    bound(Slice { x, bounds })
}

/// `x` with a part replaced by `update`.
#[derive(Clone, Debug)]
pub(crate) struct SliceUpdate {
    pub(crate) x: usize,
    pub(crate) update: usize,
    pub(crate) range: Range,
}

impl SliceUpdate {
    /// Where the part lies in `x`, checked against the shape of the update.
    fn part(&self, inputs: &Inputs) -> Result<Layout, OpError> {
        let shape = inputs.shape(self.x)?;
        let parts = self.range.parts(inputs, shape)?;
        let (expected, update) = (part_shape(&parts), inputs.shape(self.update)?);
        if expected.as_slice() != update {
            let why = self.range.beyond(inputs, shape).map(|why| format!(" ({why})"));
            return Err(OpError::argument(
                "update",
                format!(
                    "a tensor of shape {:?}, that of the part of `x`{}",
                    expected.as_slice(),
                    why.unwrap_or_default()
                ),
                format!("shape {update:?}"),
            ));
        }
        Ok(Layout::of_view(&part_view(&dense_strides(shape), &parts), &expected))
    }
}

impl Op for SliceUpdate {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        one(inputs.element(self.x)?, inputs.shape(self.x)?)
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let update = self.clone();
        let planned = match self.part(inputs) {
            Ok(layout) => Some(layout),
            Err(OpError::NotYetKnown) => None,
            Err(error) => return Err(error),
        };
        kernel(move |inputs, outputs, context| {
            let found = if planned.is_none() { Some(update.part(inputs)?) } else { None };
            let Some(layout) = planned.as_ref().or(found.as_ref()) else { return Ok(()) };
            let out = outputs.tensor(0)?;
            if !inputs.is_in_place(update.x) {
                let x = inputs.tensor(update.x)?;
                Layout::of(&x).read(x.bytes, out.bytes, x.storage)?;
            }
            write_part(context, layout, &inputs.tensor(update.update)?, out)
        })
    }

    fn reads_half(&self, input: usize) -> bool {
        input == self.x || input == self.update
    }

    fn reads_strided(&self, input: usize) -> bool {
        input == self.x
    }

    fn keeps_storage_of(&self) -> Option<usize> {
        Some(self.x)
    }

    fn in_place(&self) -> &[usize] {
        std::slice::from_ref(&self.x)
    }

    fn beyond(&self, inputs: &Inputs) -> Option<String> {
        self.range.beyond(inputs, inputs.shape(self.x).ok()?)
    }

    fn overwrites(&self, inputs: &Inputs) -> Result<Option<Layout>, OpError> {
        self.part(inputs).map(Some)
    }

    fn moves(&self) -> Option<Moves> {
        Moves::new(self, [self.x, self.update])
    }

    fn places(&self) -> SmallVec<[usize; 2]> {
        smallvec![self.range.begin, self.range.end]
    }
}

fn write_part(
    context: &Context,
    layout: &Layout,
    update: &TensorRef,
    out: &mut TensorMut,
) -> Result<(), OpError> {
    match (update.storage, out.storage) {
        (from, to) if from == to => layout.write(update.dense_bytes()?, out.bytes, to),
        (Storage::F32, Storage::F16) => {
            let (from, to) = (update.f32s()?, out.slice::<f16>()?);
            let rows = |from: &[f32], to: &mut [f16]| f32_to_f16(context, from, to);
            write_rows(layout, from, to, rows, f16::from_f32)
        }
        (Storage::F16, Storage::F32) => {
            let (from, to) = (update.slice::<f16>()?, out.f32s()?);
            let rows = |from: &[f16], to: &mut [f32]| f16_to_f32(context, from, to);
            write_rows(layout, from, to, rows, f16::to_f32)
        }
        _ => Err(OpError::argument(
            "update",
            format!("elements of type `{}`", out.element),
            format!("`{}`", update.element),
        )),
    }
}

/// Writes converted elements: gap-free rows as a whole, others one by one.
fn write_rows<A: Copy, B: Copy>(
    layout: &Layout,
    from: &[A],
    to: &mut [B],
    rows: impl Fn(&[A], &mut [B]) -> Result<(), KernelError>,
    element: impl Fn(A) -> B,
) -> Result<(), OpError> {
    layout.check(to.len())?;
    same_count(layout.count(), from.len())?;
    let (len, stride) = layout.row();
    let mut result = Ok(());
    layout.for_each_row(|first, position| {
        let row = &from[first..first + len];
        if stride == 1 {
            let converted = rows(row, &mut to[position..position + len]);
            result = std::mem::replace(&mut result, Ok(())).and(converted);
            return;
        }
        for (i, &value) in row.iter().enumerate() {
            to[(position as isize + i as isize * stride) as usize] = element(value);
        }
    });
    Ok(result?)
}

fn slice_update(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let x = binder.input("x")?;
    let update = binder.input("update")?;
    bound(SliceUpdate { x, update, range: Range::bind(binder)? })
}

pub(super) const OPS: &[OpDef] = &[
    def("slice_by_index", Opset::Ios15, slice_by_index),
    def("slice_by_index", Opset::Ios17, slice_by_index),
    def("slice_by_size", Opset::Ios15, slice_by_size),
    def("slice_by_size", Opset::Ios17, slice_by_size),
    def("slice_update", Opset::Ios18, slice_update),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop, prop_assert_eq, prop_oneof, proptest};

    use super::*;
    use crate::op::testing::{Case, Value, arange, indices, position};
    use coreml_format::mil::ElementType;

    /// `x = arange(24).reshape(4, 6)` with bounds on both axes.
    fn slice(begin: [i32; 2], end: [i32; 2], stride: [i32; 2]) -> Case {
        let x: Vec<i32> = (0..24).collect();
        let bounds = Case::new().ints("x", &[4, 6], &x).vector("begin", &begin);
        bounds.vector("end", &end).vector("stride", &stride)
    }

    #[test]
    fn bounds_and_strides_are_numpys() {
        // x[1:4:2, 4:0:-2], x[-3:-1, -2:100], x[2:1, 0:6]
        let run = |case: Case| case.run_ints("slice_by_index", Opset::Ios15);
        assert_eq!(run(slice([1, 4], [4, 0], [2, -2])), (vec![2, 2], vec![10, 8, 22, 20]));
        assert_eq!(run(slice([-3, -2], [-1, 100], [1, 1])), (vec![2, 2], vec![10, 11, 16, 17]));
        assert_eq!(run(slice([2, 0], [1, 6], [1, 1])), (vec![0, 6], vec![]));
    }

    #[test]
    fn masks_replace_bounds() {
        // x[-1, ::-3]
        let case = slice([-1, 9], [0, 9], [1, -3]).bools("begin_mask", &[0, 1]);
        let case = case.bools("end_mask", &[0, 1]).bools("squeeze_mask", &[1, 0]);
        assert_eq!(case.run_ints("slice_by_index", Opset::Ios15), (vec![2], vec![23, 20]));
        let case = slice([4, 0], [0, 6], [1, 1]).bools("squeeze_mask", &[1, 0]);
        assert!(case.run("slice_by_index", Opset::Ios15).is_err());
    }

    #[test]
    fn updates_are_rounded_into_halves() {
        // x = zeros((2, 3), float16); x[:, 1:3] = [[0.1, 1], [65519, 65520]]
        let case = Case::new().halves("x", &[2, 3], &[0.0; 6]);
        let update = [0.1f32, 1.0, 65519.0, 65520.0];
        let case = case.value("update", Value::tensor(ElementType::Float16, &[2, 2], &update));
        let case = case.vector("begin", &[0, 1]).vector("end", &[2, 3]);
        let result = case.run("slice_update", Opset::Ios18).unwrap();
        let bits: Vec<u16> =
            result[0].values::<f16>().iter().map(|value| value.to_bits()).collect();
        assert_eq!(bits, [0, 0x2e66, 0x3c00, 0, 0x7bff, 0x7c00]);
    }

    /// The indices that Python's `slice(begin, end, step)` takes of `size` elements.
    fn taken(size: i64, begin: i64, end: i64, step: i64) -> Vec<usize> {
        let (low, high) = if step > 0 { (0, size) } else { (-1, size - 1) };
        let bound = |index: i64| (if index < 0 { index + size } else { index }).clamp(low, high);
        let (mut at, stop) = (bound(begin), bound(end));
        let mut taken = Vec::new();
        while if step > 0 { at < stop } else { at > stop } {
            taken.push(at as usize);
            at += step;
        }
        taken
    }

    proptest! {
        #[test]
        fn strided_slices_take_what_python_takes(
            axes in prop::collection::vec(
                (2usize..6, -7i32..8, -7i32..8, prop_oneof![-3i32..0, 1i32..4]), 1..4,
            ),
        ) {
            let shape: Vec<usize> = axes.iter().map(|axis| axis.0).collect();
            let parts: Vec<Vec<usize>> = axes
                .iter()
                .map(|&(size, b, e, s)| taken(size as i64, b.into(), e.into(), s.into()))
                .collect();
            let result: Vec<usize> = parts.iter().map(Vec::len).collect();
            let expected: Vec<i32> = indices(&result)
                .iter()
                .map(|index| {
                    let at: Vec<usize> = index.iter().zip(&parts).map(|(&i, part)| part[i]).collect();
                    position(&shape, &at) as i32
                })
                .collect();
            let bounds = |pick: fn(&(usize, i32, i32, i32)) -> i32| -> Vec<i32> {
                axes.iter().map(pick).collect()
            };
            let case = Case::new().ints("x", &shape, &arange(&shape));
            let case = case.vector("begin", &bounds(|axis| axis.1));
            let case = case.vector("end", &bounds(|axis| axis.2));
            let case = case.vector("stride", &bounds(|axis| axis.3));
            prop_assert_eq!(case.run_ints("slice_by_index", Opset::Ios15), (result, expected));
        }
    }
}
