//! Published models with expected results, where they lie beside the repository.

#![cfg(feature = "llm")]

mod common;

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_coreml::{
    CoreMLModel, GenerationOptions, LanguageModel, LanguageModelOptions, LoadOptions, Package,
    Rewrites,
};
use serde_json::Value as Json;

/// Models give what is expected with rewrites and without.
const REWRITES: [Rewrites; 2] = [Rewrites::All, Rewrites::Off];

/// Runs a model over the steps of its `expected.npz`. Step K+1 feeds what step K gave out, which
/// the file holds too.
fn check(path: &Path, expected: &Path, tolerance: impl Fn(&str) -> f64) {
    for rewrites in REWRITES {
        check_with(path, expected, &tolerance, rewrites);
    }
}

fn check_with(path: &Path, expected: &Path, tolerance: impl Fn(&str) -> f64, rewrites: Rewrites) {
    let model = CoreMLModel::load(path, &LoadOptions::new().rewrites(rewrites))
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

/// Models of every kind, as people have them, say what they are.
#[test]
fn models_of_every_kind_are_read() {
    let Some(models) = common::shared_models() else { return };
    let mut read = 0;
    for directory in std::fs::read_dir(models.join("wild")).unwrap() {
        let directory = directory.unwrap().path();
        let entries = std::fs::read_dir(&directory).into_iter().flatten();
        for path in entries.map(|entry| entry.unwrap().path()) {
            let ends = ["mlpackage", "mlmodel", "mlmodelc"].map(std::ffi::OsStr::new);
            if path.extension().is_some_and(|end| ends.contains(&end)) {
                let package = Package::open(&path).unwrap();
                let model = package.model();
                assert!(model.is_ok(), "{}: {}", path.display(), model.err().unwrap());
                read += 1;
            }
        }
    }
    assert!(read > 15, "{read} models");
}

/// Its default shape can't run, others can.
#[test]
fn a_model_whose_default_shape_cannot_run_runs_at_others() {
    let Some(models) = common::shared_models() else { return };
    let directory = models.join("wild/mil_fluid_preproc");
    let model = CoreMLModel::load(directory.join("pre.mlmodelc"), &LoadOptions::new()).unwrap();
    let read = |name: &str| Tensor::read_npy(directory.join(name)).unwrap();
    let (length, signal) = (read("in_audio_length.npy"), read("in_audio_signal.npy"));
    let outputs = model.predict(&[("audio_length", &length), ("audio_signal", &signal)]).unwrap();
    assert_eq!(outputs["mel_length"].dims(), [1]);
    let short = Tensor::zeros((1, 1), DType::F32, &Device::Cpu).unwrap();
    assert!(model.predict(&[("audio_length", &length), ("audio_signal", &short)]).is_err());
}

/// Programs as Apple's compiler writes them.
#[test]
fn compiled_programs_give_products_and_greatest_logits() {
    let Some(models) = common::shared_models() else { return };
    let load = |path: &str| {
        CoreMLModel::load(models.join("wild").join(path), &LoadOptions::new()).unwrap()
    };
    let model = load("coremltools_add/add_model.mlmodelc");
    let half = |values: Vec<f32>, shape: &[usize]| {
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(DType::F16).unwrap()
    };
    let x: Vec<f32> = (0..10).map(|i| i as f32 / 4.0).collect();
    let y: Vec<f32> = (0..10).map(|i| 3.0 - i as f32).collect();
    let products: Vec<f32> = x.iter().zip(&y).map(|(x, y)| x * y).collect();
    let outputs = model.predict(&[("x", &half(x, &[1, 10])), ("y", &half(y, &[1, 10]))]).unwrap();
    let expected = half(products, &[1, 10]);
    assert_eq!(common::difference(&expected, &outputs["var_3"], 0.0, 0.0), None);

    let model = load("fluid_tdt_predict/TokenDurationPrediction.mlmodelc");
    let mut logits: Vec<f32> = (0..1030).map(|i| ((i * 37) % 101) as f32 / 8.0).collect();
    (logits[700], logits[701], logits[1028]) = (50.5, 50.5, 40.0);
    let outputs = model.predict(&[("logits", &half(logits, &[1030]))]).unwrap();
    let number = |name: &str| common::floats(&outputs[name]);
    assert_eq!(number("token_id"), [700.0]);
    assert_eq!(number("token_score"), [50.5]);
    assert_eq!(number("duration_index"), [3.0]);
}

/// Its weights are absent, and an exporter wrote counts of 0 into a `tile`.
#[test]
fn a_graph_without_its_weights_is_planned_for_any_length() {
    let Some(models) = common::shared_models() else { return };
    let path = models.join("wild/kokoro_duration_noweights/kokoro_duration.mlpackage");
    let absent = CoreMLModel::load(&path, &LoadOptions::new()).err().unwrap().to_string();
    assert!(absent.contains("weight.bin"), "{absent}");
    let model = CoreMLModel::load(&path, &LoadOptions::new().without_weights()).unwrap();
    assert!(model.plan().unwrap().contains("tile"));
    let (style, speed) = (Tensor::zeros((1, 256), DType::F32, &Device::Cpu).unwrap(), 1f32);
    let speed = Tensor::new(&[speed], &Device::Cpu).unwrap();
    for length in [1, 7, 32] {
        let ones = Tensor::ones((1, length), DType::U32, &Device::Cpu).unwrap();
        let inputs =
            [("input_ids", &ones), ("attention_mask", &ones), ("ref_s", &style), ("speed", &speed)];
        let outputs = model.predict(&inputs).unwrap();
        assert_eq!(outputs["pred_dur"].dims(), [1, length]);
        assert_eq!(outputs["s"].dims(), [1, 128]);
        assert_eq!(outputs["d"].dims(), [1, length, 640]);
        assert_eq!(outputs["t_en"].dims(), [1, 512, length]);
    }
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

fn ids(list: &Json) -> Vec<u32> {
    let ids = list.as_array().expect("a list of token ids");
    ids.iter().filter_map(|id| u32::try_from(id.as_u64()?).ok()).collect()
}

/// Greedy tokens of an ANEMLL model against the Hugging Face model with the same weights (for
/// Qwen 3.5 the converter's own PyTorch model), up to the first step whose two largest logits are
/// closer than 0.1, and the first logits. Gives how many prompts agree to the end.
fn check_language_model(directory: &Path, rewrites: Rewrites) -> usize {
    let text = std::fs::read_to_string(directory.join("goldens.json")).expect("goldens");
    let goldens: Json = serde_json::from_str(&text).expect("well-formed goldens");
    let logits = common::arrays(&directory.join("goldens.npz"));
    let options = LanguageModelOptions::new().rewrites(rewrites);
    let model = LanguageModel::load_with(directory, &options)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut complete = 0;
    let prompts = goldens["prompts"].as_array().expect("prompts");
    for prompt in prompts {
        let name = prompt["name"].as_str().expect("a name");
        let place = format!("{}, {name}", directory.display());
        let text = prompt["prompt"].as_str().expect("a prompt");
        let reference = &prompt["fp32"];
        let expected = ids(&reference["next_ids"]);
        let robust = reference["robust_prefix_len"].as_u64().expect("a length") as usize;
        assert_eq!(model.tokenize(text).expect("tokens"), ids(&prompt["prompt_ids"]), "{place}");

        if let Some(first) = logits.get(&format!("{name}_first_logits_fp32"))
            && let Ok(given) = model.session().logits(text)
        {
            let reference = common::floats(first);
            let worst = given.iter().zip(&reference).map(|(a, b)| (f64::from(*a) - b).abs());
            assert_eq!(given.len(), reference.len(), "{place}");
            assert!(worst.fold(0.0, f64::max) <= 0.03, "{place}: first logits");
        }

        let options = GenerationOptions::new().max_tokens(expected.len()).ignore_eos(true);
        let generated = model.session().generate(text, &options).expect("text").token_ids;
        assert_eq!(generated[..robust], expected[..robust], "{place}");
        complete += usize::from(generated == expected);
    }
    complete
}

#[test]
fn anemll_models_give_the_reference_tokens() {
    let Some(models) = common::shared_models() else { return };
    // How many prompts give all 32 tokens in an independent interpreter with fp16 rounding (the
    // models' README): this engine computes at least as precisely.
    for (directory, complete) in [
        ("anemll-tiny-qwen3-fp16", 8),
        ("anemll-tiny-qwen3-lut6", 8),
        ("anemll-tiny-qwen3-lut6-2chunk", 7),
        ("anemll-tiny-llama-lut4-6", 8),
        ("anemll-tiny-qwen25-fp16", 8),
        ("anemll-tiny-qwen3-mono-fp16", 8),
        ("anemll-tiny-qwen3-argmax-lut6", 8),
        ("anemll-tiny-gemma3-fp16", 10),
        ("anemll-tiny-qwen35-random", 3),
    ] {
        for rewrites in REWRITES {
            let found = check_language_model(&models.join(directory), rewrites);
            eprintln!("{directory}, rewrites {rewrites:?}: {found} complete");
            assert!(found >= complete, "{directory}, rewrites {rewrites:?}: {found}");
        }
    }
}
