//! `compile` and `decompile` from outside.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::fs;
use std::path::Path;
use std::process::Output;

use common::{failure_alone, root, stderr, stdout};
use serde_json::Value as Json;

fn run(arguments: &[&str]) -> Output {
    common::command(arguments).output().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What a model with an input `x` gives.
fn outputs(model: &str) -> Json {
    let report: Json =
        serde_json::from_str(&stdout(&run(&["predict", model, "--input", "x=0.5", "--json"])))
            .unwrap();
    report["outputs"].clone()
}

#[test]
fn a_model_computes_the_same_compiled_and_as_a_package_again() {
    let dir = tempfile::tempdir().unwrap();
    let model = root().join("fixtures/packages/conv_range_of_shapes_ios17.mlpackage");
    let (compiled, package) = (dir.path().join("a.mlmodelc"), dir.path().join("a.mlpackage"));
    let output = run(&["compile", text(&model), text(&compiled)]);
    assert_eq!(stdout(&output), "");
    assert_eq!(stderr(&output), format!("wrote {}\n", compiled.display()));
    let output = run(&["decompile", text(&compiled), text(&package), "--quiet"]);
    assert_eq!((stdout(&output), stderr(&output)), Default::default());
    assert_eq!(outputs(text(&compiled)), outputs(text(&model)));
    assert_eq!(outputs(text(&package)), outputs(text(&model)));
}

#[test]
fn what_is_there_stays_unless_told_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let model = root().join("fixtures/packages/softmax_range_of_shapes_ios15.mlmodel");
    let out = dir.path().join("a.mlmodelc");
    let compile = |more: &[&str]| run(&[&["compile", text(&model), text(&out)], more].concat());
    stdout(&compile(&[]));
    let message = failure_alone(&compile(&[]));
    assert!(message.contains("already exists") && message.contains("--force"), "{message}");
    stdout(&compile(&["--force"]));
    fs::remove_dir_all(&out).unwrap();
    fs::write(&out, "something else").unwrap();
    let message = failure_alone(&compile(&["--force"]));
    assert!(message.contains("is not replaced"), "{message}");
    assert_eq!(fs::read(&out).unwrap(), b"something else");
}

#[test]
fn other_forms_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("a");
    let model = root().join("fixtures/packages/conv_range_of_shapes_ios17.mlpackage");
    let message = failure_alone(&run(&["decompile", text(&model), text(&out)]));
    assert!(message.contains("not a compiled one"), "{message}");
    let message = failure_alone(&run(&["compile", "/no/such.mlpackage", text(&out)]));
    assert!(message.contains("/no/such.mlpackage"), "{message}");
    assert_eq!(run(&["compile", text(&model)]).status.code(), Some(2));
    assert!(!out.exists());
}
