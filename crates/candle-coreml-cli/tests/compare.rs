//! `compare` from outside.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::process::Output;

use common::{compiled_model, failure_alone, stderr, stdout};
use serde_json::Value as Json;
use tempfile::TempDir;

fn run(arguments: &[&str]) -> Output {
    common::command(arguments).output().unwrap()
}

/// `x · factor · 300 / 300`.
fn scaled(factor: &str) -> TempDir {
    compiled_model(
        &[("x", "Float16", "[3]")],
        &format!(
            r#"(tensor<fp16, [3]> x) {{
            tensor<fp16, [3]> a = mul(x = x, y = fp16({factor}))[name = string("first")];
            tensor<fp16, [3]> b = mul(x = a, y = fp16(300.0))[name = string("second")];
            tensor<fp16, [3]> y = real_div(x = b, y = fp16(300.0))[name = string("third")];
        }} -> (y);"#
        ),
    )
}

fn json(output: &Output) -> Json {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", stderr(output)))
}

#[test]
fn a_model_is_the_same_as_itself() {
    let model = scaled("2.0");
    let path = model.path().to_str().unwrap();
    let text = stdout(&run(&["compare", path, "--per-op"]));
    assert!(text.ends_with("\nThe same, within errors of 0.001\n"), "{text}");
    assert!(text.contains("results of 3 operations are within"), "{text}");
    assert!(text.contains("made up: random numbers"), "{text}");
}

#[test]
fn models_part_at_the_operation_that_differs() {
    let (reference, other) = (scaled("2.0"), scaled("3.0"));
    let paths = [&reference, &other].map(|model| model.path().to_str().unwrap());
    let arguments = ["compare", paths[0], paths[1], "--input", "x=[1, 2, 2]", "--per-op"];
    let output = run(&arguments);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("They part at first → a (mul): error 5.0e-1, 3 of 3 others"), "{text}");
    assert!(text.contains("Not the same"), "{text}");
    let report = json(&run(&[&arguments[..], &["--json", "--all"]].concat()));
    let y = &report["outputs"][0];
    // 3 · x instead of 2 · x: by hand.
    assert_eq!(
        (&y["error"], &y["largest_difference"], &y["relative"]),
        (&0.5.into(), &2.0.into(), &0.5.into())
    );
    assert!((y["signal_to_noise_db"].as_f64().unwrap() - 6.0206).abs() < 1e-4, "{report}");
    assert!((y["cosine"].as_f64().unwrap() - 1.0).abs() < 1e-9);
    assert_eq!(report["parts_at"]["operation"], "first");
    assert_eq!(report["operations"].as_array().unwrap().len(), 3);
    let near = run(&[&arguments[..4], &["x=[1, 2, 2]", "--tolerance", "0.6"]].concat());
    assert_eq!(near.status.code(), Some(0), "{}", stderr(&near));
}

#[test]
fn a_plot_has_all_operations() {
    let (reference, other) = (scaled("2.0"), scaled("3.0"));
    let paths = [&reference, &other].map(|model| model.path().to_str().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plot.svg");
    let output = run(&["compare", paths[0], paths[1], "--plot", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert_eq!(stderr(&output), format!("wrote {}\n", file.display()));
    let svg = std::fs::read_to_string(&file).unwrap();
    assert!(svg.contains("They part at first (mul): error 5.0e-1"), "{svg}");
    for operation in ["first", "second", "third"] {
        assert!(svg.contains(&format!("<title>{operation} (")), "no {operation} in {svg}");
    }
    let nowhere = folder.path().join("no/plot.svg");
    let message = failure_alone(&run(&["compare", paths[0], "--plot", nowhere.to_str().unwrap()]));
    assert!(message.contains("plot.svg"), "{message}");
}

#[test]
fn rounding_is_compared_with_no_other_model() {
    let model = scaled("300.0");
    let path = model.path().to_str().unwrap();
    let output =
        run(&["compare", path, "--input", "x=[0.5, 1, -1]", "--strict-fp16", "--per-op", "--json"]);
    assert_eq!(output.status.code(), Some(3));
    let report = json(&output);
    assert_eq!(report["parts_at"]["operation"], "second");
    assert_eq!(report["outputs"][0]["infinite"], 2);
}

#[test]
fn outputs_that_were_saved_are_compared() {
    let model = common::root().join("fixtures/packages/conv_blob_ios17_fp16.mlpackage");
    let saved = tempfile::tempdir().unwrap();
    let (path, folder) = (model.to_str().unwrap(), saved.path().to_str().unwrap());
    let input = ["--input", "x=0.5"];
    stdout(&run(&[&["predict", path, "--output-dir", folder], &input[..]].concat()));
    stdout(&run(&[&["compare", path, folder], &input[..]].concat()));
    let output = run(&["compare", path, folder, "--input", "x=0.75"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let message = failure_alone(&run(&["compare", path, folder, "--input", "x=0", "--per-op"]));
    assert!(message.contains("--per-op needs a second model"), "{message}");
    let message = failure_alone(&run(&["compare", path, "nowhere.npz", "--input", "x=0"]));
    assert!(message.contains("nowhere.npz"), "{message}");
}

#[test]
fn what_can_not_be_compared_fails() {
    let model = scaled("2.0");
    let path = model.path().to_str().unwrap();
    let other = compiled_model(&[("z", "Float16", "[3]")], "(tensor<fp16, [3]> z) { } -> (z);");
    let message = failure_alone(&run(&["compare", path, other.path().to_str().unwrap()]));
    assert!(
        message.contains("other inputs than the reference") && message.contains("`x`"),
        "{message}"
    );
    failure_alone(&run(&["compare", path, "nowhere.mlpackage"]));
}
