//! `FlexibleShapeInformation`: the shapes that a function's inputs may have, as an attribute of the
//! function. Packages have it in the description alone.

use super::digest::sha256;
use crate::description::{ArrayElementType, FeatureDescription, FeatureType, ShapeFlexibility};
use crate::mil::{Dimension, ElementType, TensorData, TensorType, TensorValue, Value, ValueType};

pub(super) const ATTRIBUTE: &str = "FlexibleShapeInformation";

/// An input that has several shapes.
struct Flexible<'a> {
    name: &'a str,
    default: Vec<usize>,
    shapes: ShapeFlexibility,
}

/// The attribute, if any input is flexible.
pub(super) fn information(inputs: &[FeatureDescription]) -> Option<Value> {
    let mut inputs: Vec<Flexible> = inputs.iter().filter_map(flexible).collect();
    if inputs.is_empty() {
        return None;
    }
    inputs.sort_by_key(|input| input.name);
    let defaults = inputs.iter().map(|input| named(input.name, sizes(&input.default)));
    let mut parts = vec![named("DefaultShapes", Value::Dictionary(defaults.collect()))];
    parts.extend(enumerated(&inputs).map(|shapes| named("EnumeratedShapes", shapes)));
    parts.extend(ranges(&inputs).map(|ranges| named("RangeDims", ranges)));
    let tuple = |(name, part)| Value::Tuple(vec![name, part]);
    Some(Value::Tuple(parts.into_iter().map(tuple).collect()))
}

fn flexible(input: &FeatureDescription) -> Option<Flexible<'_>> {
    let array = match &input.ty {
        FeatureType::MultiArray(array) => array.clone(),
        FeatureType::Image(image) => image.as_arrays(ArrayElementType::Float32),
        _ => return None,
    };
    let first = match &array.flexibility {
        ShapeFlexibility::Fixed => return None,
        ShapeFlexibility::Enumerated(shapes) => shapes.first().cloned().unwrap_or_default(),
        ShapeFlexibility::Ranges(ranges) => ranges.iter().map(|range| range.0).collect(),
    };
    // A description may leave the default shape out.
    let default = if array.shape.is_empty() { first } else { array.shape };
    Some(Flexible { name: &input.name, default, shapes: array.flexibility })
}

/// A dictionary of inputs with the list of their ranges.
fn ranges(inputs: &[Flexible]) -> Option<Value> {
    let pair = ValueType::Tensor(TensorType::fixed(ElementType::Int32, &[2]));
    let ty = ValueType::List(Box::new(pair), Dimension::Unknown);
    let of = |input: &Flexible| match &input.shapes {
        ShapeFlexibility::Ranges(ranges) => {
            let ranges = ranges.iter().map(|&(low, high)| integers(&[size(low), bound(high)]));
            Some(named(input.name, Value::List(ty.clone(), ranges.collect())))
        }
        _ => None,
    };
    let entries: Vec<_> = inputs.iter().filter_map(of).collect();
    (!entries.is_empty()).then_some(Value::Dictionary(entries))
}

/// A dictionary of shapes under keys that Apple's compiler computes; here they are hashes, too, but
/// others.
fn enumerated(inputs: &[Flexible]) -> Option<Value> {
    let mut entries = Vec::new();
    for input in inputs {
        let ShapeFlexibility::Enumerated(shapes) = &input.shapes else { continue };
        for shape in shapes {
            let [a, b, c, d, ..] = sha256(format!("{} {shape:?}", input.name).as_bytes());
            let key = format!("{a:02x}{b:02x}{c:02x}{d:02x}");
            entries.push((key, Value::Dictionary(vec![named(input.name, sizes(shape))])));
        }
    }
    entries.sort_by(|one, other| one.0.cmp(&other.0));
    let entries: Vec<_> = entries.into_iter().map(|(key, shape)| named(&key, shape)).collect();
    (!entries.is_empty()).then_some(Value::Dictionary(entries))
}

fn named(name: &str, value: Value) -> (Value, Value) {
    (Value::string(name), value)
}

fn sizes(shape: &[usize]) -> Value {
    integers(&shape.iter().map(|&of| size(of)).collect::<Vec<_>>())
}

/// Sizes stand as 32-bit integers.
fn size(size: usize) -> i32 {
    i32::try_from(size).unwrap_or(i32::MAX)
}

/// A largest size; -1 for none, as in descriptions.
fn bound(largest: Option<usize>) -> i32 {
    largest.map_or(-1, size)
}

fn integers(values: &[i32]) -> Value {
    Value::Tensor(TensorValue {
        ty: TensorType::fixed(ElementType::Int32, &[values.len()]),
        data: TensorData::Bytes(values.iter().flat_map(|value| value.to_le_bytes()).collect()),
    })
}
