//! Models with images, classes, optional inputs and the like, against what NumPy and Pillow make of the
//! same inputs: `fixtures/features`, which `tools/fixtures/feature_models.py` writes.

#![cfg(feature = "image")]
#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use candle_coreml::{
    CoreMLModel, Dictionary, FeatureValue, Features, Image, LoadOptions, Pixels, Result,
};
use serde_json::Value as Json;

fn folder() -> PathBuf {
    common::fixtures().join("features")
}

fn cases(name: &str) -> Vec<Json> {
    let text = std::fs::read_to_string(folder().join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn numbers(json: &Json) -> Vec<f64> {
    match json {
        Json::Array(items) => items.iter().flat_map(numbers).collect(),
        number => vec![number.as_f64().unwrap_or(f64::INFINITY)],
    }
}

fn size(json: &Json) -> usize {
    json.as_array().unwrap().len()
}

/// An image from rows of pixels, as Pillow's mode says.
fn image(mode: &str, rows: &Json) -> Image {
    let (height, width) = (size(rows), size(&rows[0]));
    let numbers = numbers(rows);
    let bytes = || numbers.iter().map(|&number| number as u8).collect();
    let made = match mode {
        "L" => Image::from_gray(width, height, bytes()),
        "F" => {
            let floats = numbers.iter().map(|&number| number as f32).collect();
            Image::from_gray_floats(width, height, floats)
        }
        _ => Image::from_rgb(width, height, bytes()),
    };
    made.unwrap()
}

fn tensor(json: &Json) -> Tensor {
    let shape: Vec<usize> = numbers(&json["shape"]).iter().map(|&size| size as usize).collect();
    let values = numbers(&json["values"]);
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(DType::F32).unwrap()
}

fn value(json: &Json) -> FeatureValue {
    match json["image"].as_str() {
        Some(mode) => image(mode, &json["pixels"]).into(),
        None => tensor(json).into(),
    }
}

fn run(case: &Json) -> Result<Features> {
    let mut options = LoadOptions::new();
    if let Some(function) = case["function"].as_str() {
        options = options.function(function);
    }
    let model = CoreMLModel::load(folder().join(case["model"].as_str().unwrap()), &options)?;
    let inputs = case["inputs"].as_object().unwrap();
    let inputs: Features = inputs.iter().map(|(name, json)| (name.as_str(), value(json))).collect();
    model.predict_features(&inputs, None)
}

/// The greatest difference of two images' pixels.
fn difference(a: &Image, b: &Image) -> f64 {
    assert_eq!((a.width(), a.height()), (b.width(), b.height()));
    let differences: Vec<f64> = match (a.pixels(), b.pixels()) {
        (Pixels::Rgb(a), Pixels::Rgb(b)) | (Pixels::Gray(a), Pixels::Gray(b)) => {
            a.iter().zip(b).map(|(&a, &b)| f64::from(a.abs_diff(b))).collect()
        }
        (Pixels::GrayFloat(a), Pixels::GrayFloat(b)) => {
            let difference = |(a, b): (&f32, &f32)| if a == b { 0.0 } else { (a - b).abs().into() };
            a.iter().zip(b).map(difference).collect()
        }
        _ => panic!("{a:?} and {b:?}"),
    };
    differences.into_iter().fold(0.0, f64::max)
}

fn assert_value(got: &FeatureValue, expected: &Json, place: &str) {
    match got {
        FeatureValue::String(class) => assert_eq!(*class, expected["string"], "{place}"),
        FeatureValue::Int64(class) => assert_eq!(*class, expected["int64"], "{place}"),
        FeatureValue::Image(got) => {
            let expected = image(expected["image"].as_str().unwrap(), &expected["pixels"]);
            assert_eq!(difference(got, &expected), 0.0, "{place}");
        }
        FeatureValue::Dictionary(got) => {
            let entries = expected["dictionary"].as_array().unwrap();
            assert_eq!(got.len(), entries.len(), "{place}");
            for entry in entries {
                let got = match got {
                    Dictionary::String(values) => values[entry[0].as_str().unwrap()],
                    Dictionary::Int64(values) => values[&entry[0].as_i64().unwrap()],
                };
                let expected = entry[1].as_f64().unwrap();
                assert!((got - expected).abs() <= 1e-6 * expected.abs().max(1.0), "{place}: {got}");
            }
        }
        FeatureValue::Tensor(got) => {
            let difference = common::difference(&tensor(expected), got, 1e-6, 1e-6);
            assert!(difference.is_none(), "{place}: {difference:?}");
        }
        other => panic!("{place}: {other:?}"),
    }
}

#[test]
fn models_give_what_is_expected() {
    let cases = cases("cases.json");
    assert!(cases.len() > 40);
    for case in &cases {
        let model = &case["model"];
        let words = match run(case) {
            Ok(outputs) => {
                let expected = case["outputs"].as_object().unwrap();
                assert_eq!(outputs.len(), expected.len(), "{model}");
                for (name, expected) in expected {
                    let got = outputs.get(name).unwrap_or_else(|| panic!("{model}: no {name}"));
                    assert_value(got, expected, &format!("{model}, output {name}"));
                }
                continue;
            }
            Err(error) => error.to_string(),
        };
        let expected = case["error"].as_array().unwrap_or_else(|| panic!("{model}: {words}"));
        for word in expected {
            assert!(words.contains(word.as_str().unwrap()), "{model}: {words}");
        }
    }
}

/// Outputs that are no tensors are no reason to guess.
#[test]
fn a_classifier_says_how_to_get_its_class() {
    let model =
        CoreMLModel::load(folder().join("int_labels.mlmodel"), &LoadOptions::new()).unwrap();
    let x = Tensor::zeros((1, 4), DType::F32, &Device::Cpu).unwrap();
    let error = model.predict(&[("x", &x)]).unwrap_err().to_string();
    assert!(error.contains("`which`") && error.contains("predict_features"), "{error}");
}

#[test]
fn the_functions_of_a_model_are_described() {
    let model = CoreMLModel::load(folder().join("functions.mlpackage"), &LoadOptions::new());
    let description = model.unwrap().description().clone();
    assert_eq!(description.default_function, "small");
    let types =
        ["small", "large"].map(|name| description.function(name).unwrap().inputs[0].ty.to_string());
    assert_eq!(types, ["Image RGB 2 × 2", "Image RGB 4 × 2"]);
}
