//! Plans are made for few shapes, whatever number of tokens or inputs a model sees, and those that
//! serve all shapes give what plans for one shape give.

mod common;

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use candle_coreml::description::FeatureType;
use candle_coreml::{CoreMLModel, LoadOptions};

/// Plans of a function with flexible inputs: one for each of the first two shapes, and one for all.
const FEW: usize = 3;

fn load(name: &str) -> CoreMLModel {
    let path = common::fixtures().join("packages").join(name);
    CoreMLModel::load(&path, &LoadOptions::new())
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every combination of sizes of the inputs' flexible axes, in an order that seldom repeats a size.
fn all_shapes(model: &CoreMLModel) -> Vec<Vec<Vec<usize>>> {
    let mut all = vec![Vec::new()];
    for input in &model.function_description().inputs {
        let FeatureType::MultiArray(array) = &input.ty else { panic!("{}: no array", input.name) };
        let axes = 0..array.shape.len();
        // Sizes up to 16 are in the range of some fixture.
        let shapes: Vec<Vec<usize>> = axes
            .flat_map(|axis| {
                (1..=16).map(move |size| {
                    let mut shape = array.shape.clone();
                    shape[axis] = size;
                    shape
                })
            })
            .filter(|shape| array.allows(shape) && *shape != array.shape)
            .collect();
        let with = |shape: &Vec<usize>, before: &Vec<Vec<usize>>| {
            before.iter().cloned().chain([shape.clone()]).collect()
        };
        all = shapes.iter().flat_map(|s| all.iter().map(|before| with(s, before))).collect();
    }
    all
}

/// Numbers between −2 and 2 for each input.
fn inputs(model: &CoreMLModel, shapes: &[Vec<usize>]) -> Vec<(String, Tensor)> {
    let inputs = model.function_description().inputs.iter().zip(shapes);
    let tensor = |shape: &Vec<usize>| {
        let count: usize = shape.iter().product();
        let numbers: Vec<f32> = (0..count).map(|i| (i * 37 % 101) as f32 / 25.0 - 2.0).collect();
        Tensor::from_vec(numbers, shape.as_slice(), &Device::Cpu).expect("an input")
    };
    inputs.map(|(input, shape)| (input.name.clone(), tensor(shape))).collect()
}

fn predict(model: &CoreMLModel, shapes: &[Vec<usize>]) -> HashMap<String, Tensor> {
    let inputs = inputs(model, shapes);
    let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, x)| (&**name, x)).collect();
    model.predict(&inputs).unwrap_or_else(|error| panic!("{shapes:?}: {error}"))
}

/// Shapes and bits of all outputs, by name. (Floats of any width have their bits in `f32`.)
fn bits(outputs: &HashMap<String, Tensor>) -> Vec<(&str, &[usize], Vec<u32>)> {
    let bits = |tensor: &Tensor| {
        let flat = tensor.flatten_all().and_then(|flat| flat.to_dtype(DType::F32));
        let values: Vec<f32> = flat.and_then(|flat| flat.to_vec1()).expect("floats");
        values.into_iter().map(f32::to_bits).collect()
    };
    let mut all: Vec<_> =
        outputs.iter().map(|(name, y)| (name.as_str(), y.dims(), bits(y))).collect();
    all.sort();
    all
}

#[test]
fn flexible_inputs_need_few_plans_and_give_what_a_plan_for_the_shape_gives() {
    for name in [
        "concat_ranges_of_shapes_ios15.mlmodel",
        "conv_range_of_shapes_ios17.mlpackage",
        "linear_range_of_shapes_ios17_fp16.mlpackage",
        "softmax_range_of_shapes_ios15.mlmodel",
    ] {
        let model = load(name);
        let shapes = all_shapes(&model);
        assert!(shapes.len() >= 7, "{name}: {} shapes", shapes.len());
        let fresh: Vec<_> = shapes.iter().map(|shapes| predict(&load(name), shapes)).collect();
        for round in 0..3 {
            for (shapes, expected) in shapes.iter().zip(&fresh) {
                let got = predict(&model, shapes);
                assert_eq!(bits(&got), bits(expected), "{name}, round {round}, {shapes:?}");
            }
        }
        let plans = model.plans_made().expect("a count");
        assert!(plans <= FEW, "{name}: {plans} plans for {} shapes", shapes.len());
        // A shape that stays gets a plan of its own.
        for _ in 0..100 {
            let got = predict(&model, &shapes[3]);
            assert_eq!(bits(&got), bits(&fresh[3]), "{name}, {:?}", shapes[3]);
        }
        assert_eq!(model.plans_made().expect("a count"), plans + 1, "{name}");
    }
}

#[cfg(feature = "llm")]
mod language_models {
    use candle_coreml::{ContextOverflow, GenerationOptions, LanguageModel, Session, Speculation};

    use super::*;

    /// Tokens of a conversation.
    const TOKENS: usize = 64;

    fn load(name: &str) -> LanguageModel {
        let path = common::fixtures().join("llm").join(name);
        LanguageModel::load(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// A conversation of so many tokens.
    fn converse(mut session: Session, prompt: &str, tokens: usize, speculation: Speculation) {
        let options = GenerationOptions::new()
            .max_tokens(tokens)
            .ignore_eos(true)
            .overflow(ContextOverflow::Shift { keep: 1 })
            .speculation(speculation);
        let generation = session.generate(prompt, &options);
        let generation = generation.unwrap_or_else(|error| panic!("`{prompt}`: {error}"));
        assert_eq!(generation.token_ids.len(), tokens);
    }

    /// Apple's layout, whose masks grow with each token.
    #[test]
    fn masks_that_grow_need_few_plans() {
        for name in ["apple-llama", "apple-mistral"] {
            let model = load(name);
            converse(model.session(), "a", TOKENS, Speculation::Off);
            assert!(model.plans_made() <= FEW, "{name}: {} plans", model.plans_made());
            for (prompt, speculation) in [
                ("a", Speculation::Off),
                ("another conversation", Speculation::Off),
                ("again and again and again and", Speculation::On),
            ] {
                converse(model.session(), prompt, TOKENS, speculation);
                let plans = model.plans_made();
                assert!(plans <= FEW, "{name}, `{prompt}`: {plans} plans");
            }
        }
    }

    /// Sessions that grow in step ask for each shape several times.
    #[test]
    fn sessions_share_plans() {
        let model = load("apple-llama");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let session = model.session();
                scope.spawn(|| converse(session, "a", TOKENS, Speculation::Off));
            }
        });
        assert!(model.plans_made() <= FEW, "{} plans", model.plans_made());
    }

    /// In all other layouts a function has one plan for each length that it takes.
    #[test]
    fn fixed_shapes_need_no_more_plans() {
        let entries = std::fs::read_dir(common::fixtures().join("llm")).expect("fixtures");
        let mut checked = 0;
        for entry in entries {
            let name = entry.expect("an entry").file_name().into_string().expect("a name");
            if name.starts_with("apple-") {
                continue;
            }
            let model = load(&name);
            // Single tokens, windows of prefill, and windows that check drafts.
            converse(model.session(), "a", 2, Speculation::Off);
            converse(model.session(), &"word ".repeat(8), 20, Speculation::On);
            let plans = model.plans_made();
            converse(model.session(), "a", TOKENS, Speculation::Off);
            converse(model.session(), "another conversation", TOKENS, Speculation::On);
            assert_eq!(model.plans_made(), plans, "{name}");
            checked += 1;
        }
        assert!(checked >= 25, "only {checked} models");
    }
}
