//! Constant arguments, by what their names mean beside a tensor of some shape. What has no meaning
//! here is taken from a fixture's example.

use std::sync::Arc;

use coreml_format::mil::{ElementType, TensorData, TensorType, TensorValue, Value};
use half::f16;

use super::RUNS;
use super::recipe::Choices;
use crate::definitions::Argument;

/// What an argument goes with.
pub(super) struct Subject {
    /// The sizes of the first tensor's axes, in each run.
    pub(super) shape: Vec<[usize; RUNS]>,
    /// How many results the operation is to have.
    pub(super) outputs: usize,
}

impl Subject {
    fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The size of an axis if it is the same in all runs.
    fn fixed(&self, axis: usize) -> Option<usize> {
        let sizes = self.shape[axis];
        sizes.iter().all(|&size| size == sizes[0]).then_some(sizes[0])
    }

    /// The smallest size of an axis over the runs.
    pub(super) fn least(&self, axis: usize) -> usize {
        self.shape[axis].into_iter().min().unwrap_or(0)
    }
}

/// A value for a constant argument, if its name has a meaning. `example` is a fixture's value.
pub(super) fn constant(
    argument: &Argument,
    example: Option<&Value>,
    subject: &Subject,
    choices: &mut Choices,
) -> Option<Value> {
    let is_scalar = example.and_then(Value::tensor_type).is_some_and(|ty| ty.shape.is_empty());
    if argument.types.contains(&ElementType::Int32) {
        return integers(argument.name, is_scalar, subject, choices);
    }
    match argument.name {
        "dtype" => Some(Value::string(*choices.of(&["fp16", "fp32", "int32", "bool", "int8"])?)),
        name if name.ends_with("_mask") && argument.types == [ElementType::Bool] => {
            Some(bools(&(0..subject.rank()).map(|_| choices.one_in(4)).collect::<Vec<bool>>()))
        }
        _ if argument.types == [ElementType::Bool] => Some(bool(choices.one_in(2))),
        _ => None,
    }
}

fn integers(
    name: &str,
    is_scalar: bool,
    subject: &Subject,
    choices: &mut Choices,
) -> Option<Value> {
    let rank = subject.rank();
    let each = |choices: &mut Choices, f: &dyn Fn(&mut Choices, usize) -> i32| {
        Some(ints(&(0..rank).map(|axis| f(choices, axis)).collect::<Vec<i32>>()))
    };
    let size = |axis: usize| subject.least(axis) as i32;
    match name {
        "axis" if rank > 0 => Some(int(choices.between(-(rank as i32), rank as i32 - 1))),
        "axes" => Some(ints(&axes(subject, choices))),
        "perm" => Some(ints(&permutation(rank, choices))),
        "shape" => Some(ints(&target(subject, choices))),
        "begin" => each(choices, &|choices, axis| choices.between(-1, size(axis) / 2)),
        "end" => each(choices, &|choices, axis| choices.between(size(axis) / 2, size(axis) + 1)),
        "stride" => each(choices, &|choices, _| *choices.of(&[1, 1, 1, 2, -1]).unwrap_or(&1)),
        "size" if !is_scalar => each(choices, &|choices, axis| choices.between(-1, size(axis))),
        "reps" => each(choices, &|choices, _| choices.between(1, 2)),
        "num_splits" => Some(int(subject.outputs as i32)),
        "split_sizes" => {
            let axis = choices.below(rank.max(1));
            Some(ints(&parts(subject.fixed(axis.min(rank.checked_sub(1)?))?, subject, choices)))
        }
        "k" => Some(int(choices.between(0, 2))),
        "size" | "batch_dims" => Some(int(choices.between(0, 2))),
        _ => None,
    }
}

/// Some of the axes of a tensor, each once; one in two times those of size 1.
fn axes(subject: &Subject, choices: &mut Choices) -> Vec<i32> {
    let rank = subject.rank();
    let only_ones = choices.one_in(2);
    let mut axes = permutation(rank, choices);
    axes.retain(|&axis| !only_ones || subject.fixed(axis as usize) == Some(1));
    axes.truncate(1 + choices.below(2));
    let from_end = choices.one_in(2);
    axes.iter().map(|&axis| if from_end { axis - rank as i32 } else { axis }).collect()
}

/// The axes of a tensor in some order.
fn permutation(rank: usize, choices: &mut Choices) -> Vec<i32> {
    let mut order: Vec<i32> = (0..rank as i32).collect();
    for end in (1..rank).rev() {
        order.swap(end, choices.below(end + 1));
    }
    order
}

/// A shape for a tensor's elements; -1 where its sizes change from run to run.
fn target(subject: &Subject, choices: &mut Choices) -> Vec<i32> {
    let size = |axis| subject.fixed(axis).map_or(-1, |size| size as i32);
    let mut target: Vec<i32> = (0..subject.rank()).map(size).collect();
    for _ in 0..1 + choices.below(3) {
        let place = choices.below(target.len() + 1);
        match (choices.below(4), target.get(place).copied(), target.get(place + 1).copied()) {
            (0, Some(1), _) => drop(target.remove(place)),
            (0 | 1, _, _) if target.len() < 5 => target.insert(place, 1),
            (2, Some(size), _) if size > 2 && size % 2 == 0 && target.len() < 5 => {
                target[place] = 2;
                target.insert(place + 1, size / 2);
            }
            (_, Some(a), Some(b)) => {
                target[place] = if a < 0 || b < 0 { -1 } else { a * b };
                target.remove(place + 1);
            }
            _ => {}
        }
    }
    if !target.contains(&-1) && !target.is_empty() && choices.one_in(3) {
        let place = choices.below(target.len());
        target[place] = -1;
    }
    target
}

/// As many parts of a size as there are results.
fn parts(size: usize, subject: &Subject, choices: &mut Choices) -> Vec<i32> {
    let mut rest = size as i32;
    let mut parts: Vec<i32> = Vec::new();
    for _ in 1..subject.outputs {
        let part = choices.between(0, rest);
        rest -= part;
        parts.push(part);
    }
    parts.push(rest);
    parts
}

/// Small numbers as a constant of an element type of whole bytes.
pub(super) fn numbers(element: ElementType, shape: &[usize], choices: &mut Choices) -> Value {
    let count = shape.iter().product();
    let numbers: Vec<i32> = (0..count).map(|_| choices.between(-3, 3)).collect();
    let number = |number: &i32| *number as f32 / 2.0;
    let bytes: Vec<u8> = match element {
        ElementType::Bool => numbers.iter().map(|&number| u8::from(number > 0)).collect(),
        ElementType::Float16 => {
            numbers.iter().flat_map(|n| f16::from_f32(number(n)).to_le_bytes()).collect()
        }
        ElementType::Float32 => numbers.iter().flat_map(|n| number(n).to_le_bytes()).collect(),
        _ => {
            let width = element.bits() / 8;
            numbers.iter().flat_map(|number| number.to_le_bytes().into_iter().take(width)).collect()
        }
    };
    tensor(element, shape, bytes)
}

fn tensor(element: ElementType, shape: &[usize], bytes: Vec<u8>) -> Value {
    let (ty, data) = (TensorType::fixed(element, shape), TensorData::Bytes(Arc::from(bytes)));
    Value::Tensor(TensorValue { ty, data })
}

/// An integer.
pub(super) fn int(value: i32) -> Value {
    tensor(ElementType::Int32, &[], value.to_le_bytes().to_vec())
}

/// Integers.
pub(super) fn ints(values: &[i32]) -> Value {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor(ElementType::Int32, &[values.len()], bytes)
}

/// A number.
pub(super) fn float(value: f32) -> Value {
    tensor(ElementType::Float32, &[], value.to_le_bytes().to_vec())
}

/// A bool.
pub(super) fn bool(value: bool) -> Value {
    tensor(ElementType::Bool, &[], vec![value.into()])
}

fn bools(values: &[bool]) -> Value {
    tensor(ElementType::Bool, &[values.len()], values.iter().map(|&value| value.into()).collect())
}
