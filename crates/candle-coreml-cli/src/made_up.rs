//! Inputs for a model that none are given to.

use anyhow::{Context, Result, anyhow};
use candle_coreml::description::{
    ArrayElementType, ColorSpace, FeatureDescription, FeatureType, FunctionDescription, ImageType,
    MultiArrayType,
};
use candle_coreml::{BoundCall, CoreMLModel, CoreMLState};
use coreml_format::printable_name;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde::Serialize;

use crate::array::{Array, DType, Elements, count};
use crate::images::Resizing;
use crate::inputs::{self, Input};
use crate::table::Table;

/// An input and where it comes from.
#[derive(Serialize)]
pub struct Given {
    #[serde(flatten)]
    pub input: Input,
    /// What was made up, where nothing was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made_up: Option<&'static str>,
}

/// All inputs in the function's order, those that are not given made up; optional ones only if they are
/// given.
pub fn fill_in(
    named: &[(String, String)],
    function: &FunctionDescription,
    resizing: Resizing,
) -> Result<Vec<Given>> {
    let takes = || {
        let names = function.inputs.iter().map(|input| printable_name(&input.name).into_owned());
        format!("the function takes: {}", names.collect::<Vec<_>>().join(", "))
    };
    let mut given = inputs::read_all(named, function, resizing, &takes)?;
    let mut all = Vec::new();
    for feature in &function.inputs {
        if let Some(place) = given.iter().position(|input| input.name == feature.name) {
            all.push(Given { input: given.swap_remove(place), made_up: None });
        } else if !feature.optional {
            let (input, words) = input(feature)?;
            all.push(Given { input, made_up: Some(words) });
        }
    }
    Ok(all)
}

/// A call with these inputs.
pub fn bind(model: &CoreMLModel, inputs: &[Given]) -> Result<BoundCall> {
    let mut call = model.bind()?;
    for Given { input, .. } in inputs {
        let index = call.input(&input.name)?;
        call.set(index, input.value.clone())?;
    }
    Ok(call)
}

/// A zeroed state, if the function has one.
pub fn state(model: &CoreMLModel) -> Result<Option<CoreMLState>> {
    let has_states = !model.function_description().states.is_empty();
    Ok(if has_states { Some(model.make_state()?) } else { None })
}

/// What was given and what was made up, for people.
pub fn rows(inputs: &[Given]) -> Table {
    let mut table = Table::new(&[]);
    for Given { input, made_up } in inputs {
        let from = made_up.map_or_else(|| "given".to_owned(), |words| format!("made up: {words}"));
        let kind = format!("{} {:?}", input.dtype, input.shape);
        table.row([printable_name(&input.name).into_owned(), kind, from]);
    }
    table
}

/// Values of an input that is not given, with what they are in words. The same input gets the same ones.
fn input(feature: &FeatureDescription) -> Result<(Input, &'static str)> {
    let name = printable_name(&feature.name);
    let (array, words) = match &feature.ty {
        FeatureType::MultiArray(ty) => elements(&feature.name, ty),
        FeatureType::Image(ty) => pixels(&feature.name, ty),
        FeatureType::Int64 => Ok((filled(&[], Elements::Integers(vec![0])), "zero")),
        FeatureType::Double => Ok((filled(&[], Elements::Doubles(vec![0.5])), "a half")),
        other => Err(anyhow!("no value of type {other} can be made up")),
    }
    .with_context(|| format!("give `{name}` a value with --input"))?;
    let input = inputs::of_array(feature, array, "the array", Resizing::default())
        .with_context(|| format!("input `{name}`: give it a value with --input"))?;
    Ok((input, words))
}

fn filled(shape: &[usize], elements: Elements) -> Array {
    let dtype = match &elements {
        Elements::Integers(_) => DType::Int64,
        Elements::Singles(_) => DType::Float32,
        Elements::Doubles(_) => DType::Float64,
    };
    Array { dtype, shape: shape.to_vec(), elements }
}

/// Floats around zero, and integers that are places in every table. A mask hides nothing: zeros are
/// added to scores, and ones say what counts.
fn elements(name: &str, ty: &MultiArrayType) -> Result<(Array, &'static str)> {
    let size = room(&ty.shape)?;
    let is_mask = name.to_lowercase().contains("mask");
    let is_int = matches!(ty.element, ArrayElementType::Int8 | ArrayElementType::Int32);
    let (elements, words) = match (is_int, is_mask) {
        (true, true) => (Elements::Integers(vec![1; size]), "ones, for a mask"),
        (true, false) => (Elements::Integers(vec![0; size]), "zeros"),
        (false, true) => (Elements::Singles(vec![0.0; size]), "zeros, for a mask"),
        (false, false) => {
            let mut random = random(name);
            // Of 24 bits, as many as a float has.
            let mut number = || (random.next_u32() >> 8) as f32 / (1 << 23) as f32 - 1.0;
            let numbers = (0..size).map(|_| number()).collect();
            (Elements::Singles(numbers), "random numbers from -1 to 1")
        }
    };
    Ok((filled(&ty.shape, elements), words))
}

fn pixels(name: &str, ty: &ImageType) -> Result<(Array, &'static str)> {
    let mut shape = vec![ty.height, ty.width];
    if matches!(ty.color_space, ColorSpace::Rgb | ColorSpace::Bgr) {
        shape.push(3);
    }
    let mut random = random(name);
    let pixels = (0..room(&shape)?).map(|_| i128::from(random.next_u32() >> 24)).collect();
    Ok((filled(&shape, Elements::Integers(pixels)), "random pixels"))
}

/// How many elements a shape has, if that is not beyond all reason for values that are made up.
fn room(shape: &[usize]) -> Result<usize> {
    const MOST: usize = 1 << 28;
    count(shape).filter(|&size| size <= MOST).context("it is too large to be made up")
}

/// Random numbers that are an input's own.
fn random(name: &str) -> ChaCha8Rng {
    let mut seed = [0u8; 32];
    for (place, byte) in name.bytes().enumerate() {
        let place = &mut seed[place % 32];
        *place = place.wrapping_mul(31) ^ byte;
    }
    ChaCha8Rng::from_seed(seed)
}

#[cfg(test)]
mod tests {
    use candle_core::Tensor;

    use super::*;

    fn made_up(name: &str, ty: FeatureType) -> (Tensor, &'static str) {
        let (input, words) = input(&FeatureDescription::new(name, ty)).unwrap();
        (input.value.tensor().unwrap().flatten_all().unwrap(), words)
    }

    fn array(element: ArrayElementType) -> FeatureType {
        FeatureType::MultiArray(MultiArrayType::new(element, [2, 300]))
    }

    #[test]
    fn floats_are_random_and_always_the_same() {
        let numbers =
            |name| made_up(name, array(ArrayElementType::Float32)).0.to_vec1::<f32>().unwrap();
        let x = numbers("x");
        assert_eq!(x, numbers("x"));
        assert_ne!(x, numbers("y"));
        assert!(x.iter().all(|value| (-1.0..1.0).contains(value)));
        let mean = x.iter().sum::<f32>() / x.len() as f32;
        assert!(mean.abs() < 0.1 && x.iter().any(|value| value.abs() > 0.9), "{mean}");
    }

    #[test]
    fn masks_hide_nothing_and_indices_are_zero() {
        let (mask, words) = made_up("attention_mask", array(ArrayElementType::Int32));
        assert_eq!((mask.to_vec1::<i32>().unwrap(), words), (vec![1; 600], "ones, for a mask"));
        let (mask, _) = made_up("causalMask", array(ArrayElementType::Float32));
        assert_eq!(mask.to_vec1::<f32>().unwrap(), [0.0; 600]);
        let (ids, words) = made_up("input_ids", array(ArrayElementType::Int32));
        assert_eq!((ids.to_vec1::<i32>().unwrap(), words), (vec![0; 600], "zeros"));
    }

    #[test]
    fn images_have_random_pixels_and_what_can_not_be_made_up_is_asked_for() {
        let ty = FeatureType::Image(ImageType::new(20, 10, ColorSpace::Bgr));
        let (input_of_image, words) = input(&FeatureDescription::new("x", ty)).unwrap();
        let image = input_of_image.value.image().unwrap();
        assert_eq!((image.width(), image.height(), words), (20, 10, "random pixels"));
        let huge = MultiArrayType::new(ArrayElementType::Float32, [1 << 40, 1 << 40]);
        for ty in [FeatureType::String, FeatureType::MultiArray(huge)] {
            let error = input(&FeatureDescription::new("x", ty)).unwrap_err();
            let message = format!("{error:#}");
            assert!(message.contains("made up"), "{message}");
        }
    }
}
