//! Input values as tensors, from files and from JSON.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device, Tensor};
use candle_coreml::description::{ArrayElementType, FeatureDescription, MultiArrayType};
use serde_json::Value as Json;

use crate::npy;

/// A tensor from what stands behind `NAME=`: a file by its ending, else JSON.
pub fn read(feature: &FeatureDescription, value: &str) -> Result<Tensor> {
    let array = feature.ty.as_multi_array().with_context(|| {
        format!("is of type {}; only multi-arrays can be given here", feature.ty)
    })?;
    let path = Path::new(value);
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("npy") => npy::read_npy(path),
        Some("npz") => npy::read_npz(path, &feature.name),
        Some("json") => {
            let text = fs::read_to_string(path)
                .with_context(|| format!("can't read {}", path.display()))?;
            from_json(&text, array).with_context(|| path.display().to_string())
        }
        _ => from_json(value, array),
    }
}

/// JSON as the feature's type. Nested lists keep their shape where the feature takes it; otherwise
/// the numbers fill the declared shape in order, and a single number fills all of it.
fn from_json(text: &str, array: &MultiArrayType) -> Result<Tensor> {
    let json: Json = serde_json::from_str(text).with_context(|| {
        let start: String = text.chars().take(40).collect();
        format!("expected a .npy, .npz or .json file, or JSON such as [1, 2], got `{start}`")
    })?;
    let mut shape = Vec::new();
    let mut level = &json;
    while let Json::Array(items) = level {
        shape.push(items.len());
        match items.first() {
            Some(item) => level = item,
            None => break,
        }
    }
    let mut numbers = Vec::new();
    flatten(&json, &shape, &mut numbers)?;
    if !array.allows(&shape) {
        let count = array.shape.iter().try_fold(1usize, |count, &size| count.checked_mul(size));
        match (count, numbers.as_slice()) {
            (Some(count), &[number]) if shape.is_empty() => numbers = filled(number, count)?,
            (Some(count), numbers) if count == numbers.len() => {}
            _ => bail!("{} numbers do not fit into {array}", numbers.len()),
        }
        shape.clone_from(&array.shape);
    }
    to_tensor(numbers, shape, array.element)
}

fn filled(number: f64, count: usize) -> Result<Vec<f64>> {
    let mut numbers = Vec::new();
    numbers.try_reserve_exact(count).context("the input's shape is too large")?;
    numbers.resize(count, number);
    Ok(numbers)
}

/// The numbers of lists that are nested as `shape` says.
fn flatten(json: &Json, shape: &[usize], numbers: &mut Vec<f64>) -> Result<()> {
    match (json, shape) {
        (Json::Array(items), [length, inner @ ..]) if items.len() == *length => {
            items.iter().try_for_each(|item| flatten(item, inner, numbers))
        }
        (Json::Array(_), _) => bail!("the lists are not equally long"),
        (_, [_, ..]) => bail!("a list is missing around `{json}`"),
        (Json::Bool(value), []) => {
            numbers.push(f64::from(u8::from(*value)));
            Ok(())
        }
        (value, []) => {
            numbers.push(value.as_f64().with_context(|| format!("`{value}` is not a number"))?);
            Ok(())
        }
    }
}

fn to_tensor(numbers: Vec<f64>, shape: Vec<usize>, element: ArrayElementType) -> Result<Tensor> {
    let dtype = match element {
        ArrayElementType::Float16 => DType::F16,
        ArrayElementType::Float32 => DType::F32,
        ArrayElementType::Double => DType::F64,
        ArrayElementType::Int8 | ArrayElementType::Int32 => {
            let integers: Vec<i32> = numbers.into_iter().map(integer).collect::<Result<_>>()?;
            return Ok(Tensor::from_vec(integers, shape, &Device::Cpu)?);
        }
        other => bail!("numbers of the command line can't be made {}", other.name()),
    };
    Ok(Tensor::from_vec(numbers, shape, &Device::Cpu)?.to_dtype(dtype)?)
}

fn integer(number: f64) -> Result<i32> {
    let whole = number.fract() == 0.0;
    let in_range = number >= f64::from(i32::MIN) && number <= f64::from(i32::MAX);
    ensure!(whole && in_range, "the input holds 32-bit integers, which {number} is not");
    Ok(number as i32)
}

#[cfg(test)]
mod tests {
    use candle_coreml::description::ShapeFlexibility;

    use super::*;

    fn array(element: ArrayElementType, shape: &[usize]) -> MultiArrayType {
        MultiArrayType::new(element, shape)
    }

    #[test]
    fn json_takes_the_declared_shape_and_type() {
        let floats = array(ArrayElementType::Float32, &[1, 2, 2]);
        for text in ["[[[1, 2], [3, 4.5]]]", "[1, 2, 3, 4.5]", "[[1, 2], [3, 4.5]]"] {
            let tensor = from_json(text, &floats).unwrap();
            assert_eq!(tensor.to_vec3::<f32>().unwrap(), [[[1.0, 2.0], [3.0, 4.5]]]);
        }
        let filled = from_json("1.5", &floats).unwrap();
        assert_eq!(filled.to_vec3::<f32>().unwrap(), [[[1.5; 2]; 2]]);
        let integers = from_json("[true, -7]", &array(ArrayElementType::Int32, &[2])).unwrap();
        assert_eq!(integers.to_vec1::<i32>().unwrap(), [1, -7]);
        let mut flexible = array(ArrayElementType::Float16, &[1]);
        flexible.flexibility = ShapeFlexibility::Ranges(vec![(1, None)]);
        assert_eq!(from_json("[1, 2, 3]", &flexible).unwrap().dims(), [3]);
    }

    #[test]
    fn wrong_json_is_explained() {
        let cases = [
            ("[1, 2, 3]", "3 numbers do not fit"),
            ("[[1], [2, 3]]", "not equally long"),
            ("[[1], 2]", "a list is missing"),
            ("[\"a\", 1]", "not a number"),
            ("[1.5, 2]", "1.5 is not"),
            ("[3e9, 2]", "32-bit"),
            ("model", "expected"),
        ];
        for (text, expected) in cases {
            let error = from_json(text, &array(ArrayElementType::Int32, &[2])).unwrap_err();
            assert!(format!("{error:#}").contains(expected), "{text}: {error:#}");
        }
    }
}
