//! Published models with expected results, where they lie beside the repository.

mod common;

use std::path::Path;

use candle_coreml::{CoreMLModel, LoadOptions};

/// Runs a model over the steps of its `expected.npz`. Step K+1 feeds what step K gave out, which
/// the file holds too.
fn check(path: &Path, expected: &Path, tolerance: impl Fn(&str) -> f64) {
    let model = CoreMLModel::load(path, &LoadOptions::new())
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let arrays = common::arrays(expected);
    let mut steps = 0;
    loop {
        let inputs = common::with_prefix(&arrays, &format!("step{steps}_in_"));
        if inputs.is_empty() {
            break;
        }
        let outputs = model.predict(&inputs).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        for (name, expected) in common::with_prefix(&arrays, &format!("step{steps}_out_")) {
            let difference = common::difference(expected, &outputs[name], tolerance(name), 0.0);
            assert!(
                difference.is_none(),
                "{}, step {steps}, output `{name}`: {difference:?}",
                path.display()
            );
        }
        steps += 1;
    }
    assert!(steps >= 3, "{} has {steps} steps", expected.display());
}

#[test]
fn silero_vad_gives_the_expected_probabilities_from_both_forms() {
    let Some(models) = common::shared_models() else { return };
    for directory in ["silero-vad-fp16", "silero-vad-lut4"] {
        let directory = models.join(directory);
        for form in ["model.mlpackage", "model.mlmodelc"] {
            check(&directory.join(form), &directory.join("expected.npz"), |output| match output {
                "vad_output" => 2e-3,
                _ => 8e-3,
            });
        }
    }
}

#[test]
fn dtln_gives_the_expected_masks() {
    let Some(models) = common::shared_models() else { return };
    let directory = models.join("dtln-aec-128-part1");
    check(&directory.join("model.mlpackage"), &directory.join("expected.npz"), |_| 1e-4);
}
