//! Every fixture of an operation against values computed with NumPy (see `tools/fixtures`): as MIL
//! text, and where a case is also a model on disk, from there.

mod common;

use candle_core::Tensor;
use candle_coreml::{CoreMLModel, LoadOptions, Precision};
use common::cases::{self, Case};
use coreml_format::Package;
use serde::Deserialize;

fn load(case: &Case, precision: Precision) -> Result<CoreMLModel, String> {
    let package = Package::from_program(case.program()).map_err(|error| error.to_string())?;
    let options = LoadOptions::new().precision(precision);
    CoreMLModel::from_package(package, &options).map_err(|error| error.to_string())
}

fn load_file(file: &str, function: &str) -> Result<CoreMLModel, String> {
    let path = common::fixtures().join("packages").join(file);
    let options = LoadOptions::new().function(function);
    CoreMLModel::load(path, &options).map_err(|error| error.to_string())
}

/// What is wrong with the results of a model, if anything is.
fn problem(model: Result<CoreMLModel, String>, case: &Case) -> Option<String> {
    run(model, case).err().map(|message| format!("{} ({}): {message}", case.name, case.operator))
}

fn run(model: Result<CoreMLModel, String>, case: &Case) -> Result<(), String> {
    let model = model?;
    let mut state = model.make_state().map_err(|error| error.to_string())?;
    for (step, (inputs, expected)) in case.steps.iter().enumerate() {
        let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, x)| (&**name, x)).collect();
        let outputs =
            model.predict_with_state(&inputs, &mut state).map_err(|error| error.to_string())?;
        for (name, expected) in expected {
            let got = outputs.get(name).ok_or_else(|| format!("there is no output `{name}`"))?;
            let [abs, rel] = case.tolerance;
            if let Some(message) = common::difference(expected, got, abs, rel) {
                return Err(format!("step {step}, output `{name}`: {message}"));
            }
        }
    }
    Ok(())
}

fn assert_no(problems: &[String], among: usize) {
    assert!(problems.is_empty(), "{} of {among} fail:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn operations_give_the_reference_values() {
    let cases = cases::all();
    assert!(cases.len() > 1000, "only {} cases", cases.len());
    let problem = |case: &Case| problem(load(case, case.precision), case);
    let problems: Vec<String> = cases.iter().filter_map(problem).collect();
    assert_no(&problems, cases.len());
}

/// The tolerance of cases in half precision has room for one rounding of each value in between.
#[test]
fn operations_give_the_reference_values_with_results_rounded_as_declared() {
    let cases = cases::all();
    let problem = |case: &Case| problem(load(case, Precision::AsDeclared), case);
    let problems: Vec<String> = cases.iter().filter_map(problem).collect();
    assert_no(&problems, cases.len());
}

/// What is expected of results that are rounded as declared is not what others are, or nothing would show
/// that they were.
#[test]
fn results_that_are_not_rounded_are_others() {
    let rounded: Vec<Case> =
        cases::all().into_iter().filter(|case| case.precision == Precision::AsDeclared).collect();
    let differs = |case: &&Case| problem(load(case, Precision::Single), case).is_some();
    let differing = rounded.iter().filter(differs).count();
    // Others are of what must not be rounded, such as what moves.
    assert!(differing * 3 > rounded.len(), "{differing} of {} cases", rounded.len());
}

#[test]
fn models_on_disk_give_the_reference_values() {
    let mut models = 0;
    let mut problems = Vec::new();
    for case in cases::all() {
        if let Some((file, function)) = &case.package {
            models += 1;
            problems.extend(problem(load_file(file, function), &case));
        }
    }
    assert!(models > 20, "only {models} models");
    assert_no(&problems, models);
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
