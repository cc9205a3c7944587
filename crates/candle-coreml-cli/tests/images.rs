//! `predict` and `inspect` of models with images and classes.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::process::Output;

use candle_coreml::{Image, Pixels};
use common::{failure_alone as failure, stdout};
use serde_json::Value as Json;

fn features(name: &str) -> String {
    common::root().join("fixtures/features").join(name).to_str().unwrap().to_owned()
}

fn predict(model: &str, arguments: &[&str]) -> Output {
    let model = features(model);
    common::command(&[&["predict", &model], arguments].concat()).output().unwrap()
}

/// An input that is a file.
fn file(name: &str) -> String {
    format!("image={}", features(&format!("images/{name}")))
}

fn json(model: &str, arguments: &[&str]) -> Json {
    serde_json::from_str(&stdout(&predict(model, &[arguments, &["--json"]].concat()))).unwrap()
}

#[test]
fn a_classifier_prints_its_most_likely_classes() {
    let input = file("rgb.png");
    let arguments = ["--input", &input, "--resize", "fill"];
    let report = json("classifier.mlpackage", &arguments);
    assert_eq!(report["inputs"][0]["shape"], serde_json::json!([8, 8, 3]));
    assert_eq!(report["inputs"][0]["dtype"], "uint8");
    let probabilities = report["outputs"][1]["values"].as_object().unwrap();
    let mut sorted: Vec<(&String, f64)> =
        probabilities.iter().map(|(name, value)| (name, value.as_f64().unwrap())).collect();
    sorted.sort_by(|a, b| b.1.total_cmp(&a.1));
    assert_eq!(sorted.len(), 7);
    assert_eq!(report["outputs"][0]["values"], **sorted[0].0);

    let text = stdout(&predict("classifier.mlpackage", &arguments));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], format!("classLabel: {:?}", sorted[0].0));
    assert_eq!(lines[1], "classLabel_probs: 7 entries, the 5 greatest");
    assert_eq!(lines.len(), 7);
    for (line, (name, _)) in lines[2..].iter().zip(&sorted) {
        assert!(line.trim_start().starts_with(name.as_str()), "{text}");
    }
    let text = stdout(&predict("classifier.mlpackage", &[&arguments[..], &["--top=9"]].concat()));
    assert_eq!(text.lines().count(), 9, "{text}");
}

#[test]
fn images_of_other_sizes_are_refused_with_what_helps() {
    let input = file("turned.jpg");
    let message = failure(&predict("classifier.mlpackage", &["--input", &input]));
    for words in ["turned.jpg: is 9 × 13 pixels", "takes RGB 8 × 8", "--resize fit"] {
        assert!(message.contains(words), "{message}");
    }
    let message = failure(&predict("enumerated.mlmodel", &["--input", &input]));
    assert!(message.contains("BGR 4 × 6 (one of 4 × 6, 7 × 5)"), "{message}");
    let array = format!("x={}", features("images/turned.jpg"));
    let message = failure(&predict("int_labels.mlmodel", &["--input", &array]));
    assert!(message.contains("turned.jpg: is an image"), "{message}");
    let directory = tempfile::tempdir().unwrap();
    let broken = directory.path().join("broken.jpg");
    let whole = std::fs::read(features("images/rgb.jpg")).unwrap();
    std::fs::write(&broken, &whole[..40]).unwrap();
    let argument = format!("image={}", broken.display());
    let message = failure(&predict("classifier.mlpackage", &["--input", &argument]));
    assert!(message.contains("broken.jpg: it is no image that can be read"), "{message}");
    std::fs::write(&broken, "{{ hello").unwrap();
    let message = failure(&predict("classifier.mlpackage", &["--input", &argument]));
    assert!(message.contains("broken.jpg"), "{message}");
    let message = failure(&predict("classifier.mlpackage", &[]));
    assert!(message.contains("--input image=FILE.jpg"), "{message}");
}

#[test]
fn images_are_written_as_png() {
    let directory = tempfile::tempdir().unwrap();
    let to = directory.path().to_str().unwrap();
    let input = file("rgb.png");
    let arguments = ["--input", &input, "--resize=stretch", "--output-dir", to];
    let text = stdout(&predict("rgb_to_bgr.mlmodel", &arguments));
    let written = directory.path().join("y.png");
    assert_eq!(text, format!("y: RGB image of 4 × 6 pixels → {}\n", written.display()));
    let Pixels::Rgb(bytes) = Image::open(&written).unwrap().pixels().clone() else {
        panic!("{text}")
    };
    let shown = json("rgb_to_bgr.mlmodel", &arguments[..3]);
    let values: Vec<u64> = flat(&shown["outputs"][0]["values"]);
    assert_eq!(values, bytes.iter().map(|&byte| byte.into()).collect::<Vec<u64>>());
    let text = stdout(&predict("rgb_to_bgr.mlmodel", &arguments[..3]));
    assert!(text.starts_with("y: RGB image of 4 × 6 pixels, least "), "{text}");
    // Floats have no place in PNG.
    let floats = ["--input", "image=[[0.5, 1, 2], [-3, 4, 5]]", "--output-dir", to];
    stdout(&predict("gray_float.mlmodel", &floats));
    assert!(directory.path().join("y.npy").exists());
}

fn flat(json: &Json) -> Vec<u64> {
    match json {
        Json::Array(items) => items.iter().flat_map(flat).collect(),
        number => vec![number.as_u64().unwrap()],
    }
}

#[test]
fn colours_become_what_the_model_takes() {
    let report = json("gray.mlmodel", &["--input", &file("rgb.png"), "--resize=fit"]);
    assert_eq!(report["inputs"][0]["shape"], serde_json::json!([6, 4]));
    let report = json("classifier.mlpackage", &["--input", &file("gray.png"), "--resize=fit"]);
    assert_eq!(report["inputs"][0]["shape"], serde_json::json!([8, 8, 3]));
}

#[test]
fn functions_are_chosen_by_name() {
    let colours = "image=[[[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [10, 11, 12]]]";
    let report = json("functions.mlpackage", &["--input", colours]);
    assert_eq!(report["function"], "small");
    assert_eq!(report["outputs"][0]["values"][0][0], serde_json::json!([254, 253, 252]));
    let large = failure(&predict("functions.mlpackage", &["--input", colours, "--function=large"]));
    assert!(large.contains("RGB 4 × 2"), "{large}");
}

#[test]
fn inspect_shows_images_and_classes() {
    let model = features("classifier.mlpackage");
    let text = stdout(&common::command(&["inspect", &model]).output().unwrap());
    for words in
        ["Runs here", "Image RGB 8 × 8", "Dictionary String → Double", "7 classes: cat, dog"]
    {
        assert!(text.contains(words), "{text}");
    }
    let text =
        stdout(&common::command(&["inspect", &features("ranges.mlmodel")]).output().unwrap());
    assert!(text.contains("Image RGB 4 × 3 (2...9 × 3...5)"), "{text}");
}
