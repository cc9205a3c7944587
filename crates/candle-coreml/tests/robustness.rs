//! Models with a few bytes changed load and run, or are refused: nothing panics.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};

use candle_core::{DType, Device, Tensor};
use candle_coreml::description::FeatureType;
use candle_coreml::{CoreMLModel, LoadOptions};
use common::cases;
use coreml_format::Package;
use coreml_format::mil::{from_text, to_text};

/// A small generator of numbers (an LCG with the constants of PCG's state), the same in each run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % limit.max(1)
    }
}

/// Runs a model with zeros; any error will do.
fn run(model: candle_coreml::Result<CoreMLModel>) -> candle_coreml::Result<()> {
    let model = model?;
    let mut inputs = Vec::new();
    for input in &model.function_description().inputs {
        let FeatureType::MultiArray(array) = &input.ty else { continue };
        // Shapes that a changed byte made huge are not worth the memory.
        if array.shape.iter().product::<usize>() < 1 << 20 {
            let zeros = Tensor::zeros(array.shape.as_slice(), DType::F32, &Device::Cpu)?;
            let integers = array.element.name().starts_with("Int");
            let dtype = if integers { DType::I64 } else { DType::F32 };
            inputs.push((input.name.as_str(), zeros.to_dtype(dtype)?));
        }
    }
    let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, x)| (*name, x)).collect();
    model.predict_with_state(&inputs, &mut model.make_state()?)?;
    Ok(())
}

/// Changes one byte or two.
fn change(bytes: &mut [u8], numbers: &mut Numbers) {
    for _ in 0..=numbers.next(2) {
        let at = numbers.next(bytes.len());
        bytes[at] = match numbers.next(3) {
            0 => numbers.next(256) as u8,
            1 => bytes[at].wrapping_add(1),
            _ => [0, 1, 0x7f, 0x80, 0xff][numbers.next(5)],
        };
    }
}

/// Changes one digit or two: most other changes to text are errors of its grammar.
fn change_digits(text: &mut Vec<u8>, numbers: &mut Numbers) {
    for _ in 0..=numbers.next(2) {
        let digits: Vec<usize> = (0..text.len()).filter(|&at| text[at].is_ascii_digit()).collect();
        let at = digits[numbers.next(digits.len())];
        match numbers.next(4) {
            0 => text.insert(at, b'-'),
            _ => text[at] = b'0' + numbers.next(10) as u8,
        }
    }
}

/// Counts of changed models, and of those that ran all the same.
#[derive(Debug, Default)]
struct Counts {
    models: usize,
    ran: usize,
}

impl Counts {
    /// Loads and runs a changed model, which must not panic.
    fn check(&mut self, name: &str, load: impl FnOnce() -> candle_coreml::Result<CoreMLModel>) {
        let result = catch_unwind(AssertUnwindSafe(|| run(load())));
        assert!(result.is_ok(), "{name}, change {}, panics", self.models);
        self.models += 1;
        self.ran += usize::from(matches!(result, Ok(Ok(()))));
    }
}

#[test]
fn changed_numbers_in_text_never_panic() {
    let mut numbers = Numbers(7);
    let mut counts = Counts::default();
    // A changed bound makes a loop that runs for hours.
    for case in cases::all().iter().filter(|case| case.operator != "while_loop") {
        let original = to_text(&case.program());
        for _ in 0..12 {
            let mut bytes = original.clone().into_bytes();
            change_digits(&mut bytes, &mut numbers);
            let Ok(program) = from_text(&String::from_utf8_lossy(&bytes)) else { continue };
            counts.check(&case.name, || {
                CoreMLModel::from_package(Package::from_program(program)?, &LoadOptions::new())
            });
        }
    }
    assert!(counts.models > 3000 && counts.ran > counts.models / 10, "{counts:?}");
}

#[test]
fn changed_files_never_panic() {
    let directory = tempfile::tempdir().unwrap();
    common::copy(&common::fixtures().join("packages"), directory.path());
    let mut numbers = Numbers(7);
    let mut counts = Counts::default();
    for model in common::files(directory.path(), "mlmodel") {
        // The model file of a package lies three directories deep.
        let package = model.ancestors().nth(3).unwrap();
        let is_package = package.extension().is_some_and(|end| end == "mlpackage");
        let path = if is_package { package } else { &model };
        let original = std::fs::read(&model).unwrap();
        for _ in 0..100 {
            let mut bytes = original.clone();
            change(&mut bytes, &mut numbers);
            std::fs::write(&model, &bytes).unwrap();
            counts.check(&path.display().to_string(), || {
                CoreMLModel::load(path, &LoadOptions::new())
            });
        }
        std::fs::write(&model, &original).unwrap();
    }
    assert!(counts.models > 2000 && counts.ran > counts.models / 40, "{counts:?}");
}

/// What a directory holds is found out from its files, so each of them may be wrong.
#[cfg(feature = "llm")]
#[test]
fn language_models_with_changed_bytes_never_panic() {
    use candle_coreml::{GenerationOptions, LanguageModel};

    let mut numbers = Numbers(11);
    let mut ran = 0;
    let options = GenerationOptions::new().max_tokens(2).ignore_eos(true);
    for name in ["apple-llama", "gemma3", "qwen3-monolithic-argmax", "qwen35-2chunks"] {
        let copied = tempfile::tempdir().unwrap();
        common::copy(&common::fixtures().join("llm").join(name), copied.path());
        let files = [
            common::files(copied.path(), "mlmodel"),
            common::files(copied.path(), "yaml"),
            common::files(copied.path(), "json"),
        ]
        .concat();
        for variant in 0..60 {
            let file = &files[numbers.next(files.len())];
            let original = std::fs::read(file).unwrap();
            let mut bytes = original.clone();
            change(&mut bytes, &mut numbers);
            std::fs::write(file, &bytes).unwrap();
            let run = || {
                let mut model = LanguageModel::load(copied.path())?;
                model.generate("some words", &options)
            };
            let result = catch_unwind(AssertUnwindSafe(run));
            assert!(result.is_ok(), "{name}, {}, variant {variant}, panics", file.display());
            ran += usize::from(matches!(result, Ok(Ok(_))));
            std::fs::write(file, &original).unwrap();
        }
    }
    assert!(ran > 20, "only {ran} ran");
}
