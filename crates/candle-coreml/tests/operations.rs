//! Every fixture of an operation against values computed with NumPy or PyTorch
//! (see `tools/fixtures`).

mod common;

use std::path::Path;

use candle_coreml::{CoreMLModel, LoadOptions};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    name: String,
    file: String,
    op: String,
    #[serde(default)]
    function: Option<String>,
    tolerance: Tolerance,
    steps: usize,
}

#[derive(Deserialize)]
struct Tolerance {
    abs: f64,
    rel: f64,
}

fn run(dir: &Path, case: &Case) -> Result<(), String> {
    let mut options = LoadOptions::new();
    options.function = case.function.clone();
    let model =
        CoreMLModel::load(dir.join(&case.file), &options).map_err(|error| error.to_string())?;
    let arrays = common::arrays(&dir.join(format!("{}.npz", case.name)));
    let mut state = model.make_state().map_err(|error| error.to_string())?;
    for step in 0..case.steps {
        let prefix = if case.steps > 1 { format!("step{step}_") } else { String::new() };
        let inputs = common::with_prefix(&arrays, &format!("{prefix}in_"));
        let outputs =
            model.predict_with_state(&inputs, &mut state).map_err(|error| error.to_string())?;
        let expected = common::with_prefix(&arrays, &format!("{prefix}out_"));
        assert!(!expected.is_empty(), "`{}` expects nothing", case.name);
        for (name, expected) in expected {
            let got = outputs.get(name).ok_or_else(|| format!("there is no output `{name}`"))?;
            let tolerance = &case.tolerance;
            if let Some(message) = common::difference(expected, got, tolerance.abs, tolerance.rel) {
                return Err(format!("step {step}, output `{name}`: {message}"));
            }
        }
    }
    Ok(())
}

#[test]
fn operations_give_the_reference_values() {
    let dir = common::fixtures().join("ops");
    let text = std::fs::read_to_string(dir.join("cases.json")).expect("the list of cases");
    let cases: Vec<Case> = serde_json::from_str(&text).expect("a well-formed list of cases");
    assert!(cases.len() > 700, "only {} cases", cases.len());
    let failures: Vec<String> = cases
        .iter()
        .filter_map(|case| {
            let message = run(&dir, case).err()?;
            Some(format!("{} ({}): {message}", case.name, case.op))
        })
        .collect();
    assert!(
        failures.is_empty(),
        "{} of {} fail:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}

#[derive(Deserialize)]
struct BadCase {
    name: String,
    file: String,
    wrong: String,
    words: Vec<String>,
}

#[test]
fn malformed_models_are_refused_in_words_that_help() {
    let dir = common::fixtures().join("bad");
    let text = std::fs::read_to_string(dir.join("cases.json")).expect("the list of cases");
    let cases: Vec<BadCase> = serde_json::from_str(&text).expect("a well-formed list of cases");
    let mut failures = Vec::new();
    for case in &cases {
        match CoreMLModel::load(dir.join(&case.file), &LoadOptions::new()) {
            Ok(_) => failures.push(format!("{} loads, though {}", case.name, case.wrong)),
            Err(error) => {
                let message = error.to_string();
                if !case.words.iter().all(|word| message.contains(word)) {
                    failures.push(format!("{}: {message:?} lacks {:?}", case.name, case.words));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
