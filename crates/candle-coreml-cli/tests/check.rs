//! `check` and `--strict-fp16` from outside.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::process::Output;

use common::{compiled_model, failure_alone, stderr, stdout};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

fn run(arguments: &[&str]) -> Output {
    common::command(arguments).output().unwrap()
}

/// `x · 300 · 300 / 300`, with a mask added.
fn scaled() -> TempDir {
    let inputs = [("x", "Float16", "[3]"), ("attention_mask", "Float16", "[3]")];
    let escape = "\u{1b}";
    compiled_model(
        &inputs,
        &format!(
            r#"(tensor<fp16, [3]> attention_mask, tensor<fp16, [3]> x) {{
            tensor<fp16, [3]> a = mul(x = x, y = fp16(300.0))[name = string("first")];
            tensor<fp16, [3]> b = mul(x = a, y = fp16(300.0))[name = string("second"),
                source = string("model.py:12 {escape}[31m")];
            tensor<fp16, [3]> c = real_div(x = b, y = fp16(300.0))[name = string("third")];
            tensor<fp16, [3]> y = add(x = c, y = attention_mask)[name = string("last")];
        }} -> (y);"#
        ),
    )
}

#[test]
fn predictions_are_rounded_as_declared_when_asked_for() {
    let model = scaled();
    let path = model.path().to_str().unwrap();
    let inputs = ["--input", "x=[0.5, 1, -1]", "--input", "attention_mask=0", "--json"];
    let predict = |more: &[&str]| {
        let output = run(&[&["predict", path], &inputs[..], more].concat());
        let report: Json = serde_json::from_str(&stdout(&output)).unwrap();
        report["outputs"][0]["values"].clone()
    };
    assert_eq!(predict(&[]), json!([150.0, 300.0, -300.0]));
    assert_eq!(predict(&["--strict-fp16"]), json!([150.0, "Infinity", "-Infinity"]));
}

#[test]
fn a_check_names_the_operation_where_harm_begins() {
    let model = scaled();
    let path = model.path().to_str().unwrap();
    let output = run(&["check", path, "--input", "x=[0.5, 1, -1]"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert_eq!(stderr(&output), "");
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "second → b",
        "2 of 3 overflow (up to 90000)",
        "made up: zeros, for a mask",
        "Not fine: fp16 does harm in 1 place, among 6 results",
        "source: model.py:12",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    assert!(!text.contains('\u{1b}') && !text.contains("third"), "{text}");
    let output = run(&["check", path, "--input", "x=[0.5, 1, -1]", "--json"]);
    let report: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert_eq!((&report["fine"], &report["function"]), (&json!(false), &json!("main")));
    let finding = &report["findings"][0];
    assert_eq!(report["findings"].as_array().unwrap().len(), 1);
    for (key, expected) in [
        ("loss", json!("overflow")),
        ("operation", json!("second")),
        ("operator", json!("mul")),
        ("output", json!("b")),
        ("path", json!([])),
        ("affected", json!(2)),
        ("elements", json!(3)),
        ("times", json!(1)),
        ("largest", json!(90000.0)),
    ] {
        assert_eq!(finding[key], expected, "{key}");
    }
    assert_eq!(report["outputs"][0]["infinite"], json!(2));
    assert_eq!(report["inputs"][0]["made_up"], json!(null));
    assert_eq!(report["inputs"][1]["made_up"], json!("zeros, for a mask"));
}

#[test]
fn a_model_that_half_precision_does_not_harm_is_fine() {
    let model = scaled();
    let path = model.path().to_str().unwrap();
    let output = run(&["check", path, "--input", "x=[0.5, 0.1, -0.3]"]);
    let text = stdout(&output);
    assert!(text.ends_with("\nFine: fp16 does no harm to 6 results\n"), "{text}");
    let output = run(&["check", path, "--json"]);
    let report: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["inputs"][0]["made_up"], "random numbers from -1 to 1");
    // Always the same.
    assert_eq!(
        report,
        serde_json::from_slice::<Json>(&run(&["check", path, "--json"]).stdout).unwrap()
    );
}

#[test]
fn what_can_not_be_checked_fails() {
    let model = scaled();
    let path = model.path().to_str().unwrap();
    let message = failure_alone(&run(&["check", path, "--input", "z=1"]));
    assert!(message.contains("no input `z`") && message.contains("attention_mask"), "{message}");
    let message = failure_alone(&run(&["check", path, "--function", "other"]));
    assert!(message.contains("`other`"), "{message}");
    let strings = compiled_model(&[("s", "String", "")], "(string s) { } -> (s);");
    failure_alone(&run(&["check", strings.path().to_str().unwrap()]));
}
