//! `bench` and `profile` from outside. No time is asserted, only that there is one.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::fs;
use std::process::Output;

use common::{compiled_model, failure_alone, model, stderr, stdout};
use serde_json::Value as Json;
use tempfile::TempDir;

fn run(arguments: &[&str]) -> Output {
    common::command(arguments).output().unwrap()
}

fn json(arguments: &[&str]) -> Json {
    serde_json::from_str(&stdout(&run(arguments))).unwrap()
}

/// Two operations that no rewrite makes one of.
fn two_operations() -> TempDir {
    compiled_model(
        &[("x", "Float32", "[3]")],
        r#"(tensor<fp32, [3]> x) {
            tensor<fp32, [3]> a = exp(x = x)[name = string("block_0_first")];
            tensor<fp32, [3]> y = softmax(x = a, axis = int32(0))[name = string("block_0_second")];
        } -> (y);"#,
    )
}

fn number(json: &Json, path: &str) -> f64 {
    json.pointer(path).and_then(Json::as_f64).unwrap_or_else(|| panic!("no {path} in {json}"))
}

#[test]
fn a_model_has_latencies_and_what_its_operations_take() {
    let model = two_operations();
    let path = model.path().to_str().unwrap();
    let report = json(&["bench", path, "--repeat", "5", "--threads", "2", "--json"]);
    let latency =
        ["min", "p50", "p95", "p99"].map(|of| number(&report, &format!("/latency_ms/{of}")));
    assert!(latency.is_sorted() && latency[0] > 0.0, "{report}");
    assert_eq!(report["latency_ms"]["runs"], 5);
    for path in ["/load_seconds", "/first_prediction_seconds", "/machine/read_gigabytes_per_second"]
    {
        assert!(number(&report, path) > 0.0, "{path} in {report}");
    }
    assert_eq!((&report["machine"]["threads"], &report["weight_bytes"]), (&2.into(), &0.into()));
    assert_eq!(report["function"], "main");
    assert_eq!(report["inputs"][0]["made_up"], "random numbers from -1 to 1");
    let operators = report["operators"].as_array().unwrap();
    assert!(operators.iter().any(|of| of["name"] == "softmax" && of["times"] == 5), "{report}");
    let text = stdout(&run(&["bench", path, "--repeat", "3", "--input", "x=1"]));
    assert!(text.contains("Latency of 3 predictions") && text.contains("of the roof"), "{text}");
}

#[test]
fn a_language_model_has_tokens_per_second() {
    let directory = model("qwen3-lut4");
    let arguments = ["bench", &directory, "--prompt", "5,9", "--positions", "0,7", "--tokens", "2"];
    let report = json(&[&arguments[..], &["--repeat", "1", "--json"]].concat());
    let of = |list: &str, key: &str| -> Vec<u64> {
        report[list].as_array().unwrap().iter().map(|of| of[key].as_u64().unwrap()).collect()
    };
    assert_eq!((of("prefill", "tokens"), of("decode", "position")), (vec![5, 9], vec![0, 7]));
    for path in [
        "/prefill/0/tokens_per_second",
        "/decode/1/tokens_per_second",
        "/load_seconds",
        "/first_token_seconds",
        "/weight_bytes",
        "/token_bytes",
        "/decode_operators/0/seconds",
        "/prefill_operators/0/seconds",
    ] {
        assert!(number(&report, path) > 0.0, "{path} in {report}");
    }
    if cfg!(target_os = "linux") {
        assert!(number(&report, "/peak_memory_bytes") > number(&report, "/weight_bytes"));
    }
    let text = stdout(&run(&[&arguments[..], &["--repeat", "1"]].concat()));
    assert!(text.contains("decode from position 7 on"), "{text}");
}

#[test]
fn a_profile_names_operations_and_layers() {
    let model = two_operations();
    let path = model.path().to_str().unwrap();
    let report = json(&["profile", path, "--repeat", "4", "--json"]);
    assert_eq!((&report["runs"], &report["unit"]), (&4.into(), &"predictions".into()));
    let operations = report["operations"].as_array().unwrap();
    let names: Vec<&str> = operations.iter().map(|of| of["operation"].as_str().unwrap()).collect();
    assert_eq!(names, ["block_0_first", "block_0_second"]);
    assert_eq!((&operations[0]["operator"], &operations[0]["times"]), (&"exp".into(), &4.into()));
    // x and the result.
    assert_eq!(number(&report, "/operations/0/value_bytes"), 4.0 * 24.0);
    assert_eq!(
        (&report["layers"][0]["name"], &report["layers"][0]["operations"]),
        (&"block_0".into(), &2.into())
    );
    let text = stdout(&run(&["profile", path, "--top", "1"]));
    assert!(text.contains("… and 1 more; --all shows them") && text.contains("By layer"), "{text}");
    let text = stdout(&run(&["profile", path, "--all"]));
    assert!(text.contains("block_0_first") && text.contains("block_0_second"), "{text}");
    let report =
        json(&["profile", "demo", "--prefill", "--prompt", "6", "--repeat", "1", "--json"]);
    assert_eq!((&report["runs"], &report["unit"]), (&6.into(), &"prompt tokens".into()));
}

#[test]
fn pages_are_written_whole() {
    let model = two_operations();
    let path = model.path().to_str().unwrap();
    let folder = tempfile::tempdir().unwrap();
    for command in ["bench", "profile"] {
        let file = folder.path().join(format!("{command}.html"));
        let output = run(&[command, path, "--repeat", "3", "--html", file.to_str().unwrap()]);
        assert!(!stdout(&output).is_empty());
        assert_eq!(stderr(&output), format!("wrote {}\n", file.display()));
        let page = fs::read_to_string(&file).unwrap();
        assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"), "{page}");
        assert!(page.contains("<svg") && !page.contains("<script"), "{page}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    let nowhere = folder.path().join("no/page.html");
    let arguments = ["profile", path, "--html", nowhere.to_str().unwrap()];
    assert!(failure_alone(&run(&arguments)).contains("page.html"));
}

#[test]
fn what_can_not_be_measured_fails() {
    failure_alone(&run(&["bench", "nowhere.mlpackage"]));
    let directory = model("qwen3-lut4");
    let output = run(&["profile", &directory, "--function", "main"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("--function"));
    let model = two_operations();
    let path = model.path().to_str().unwrap();
    assert!(failure_alone(&run(&["bench", path, "--function", "other"])).contains("other"));
    let output = run(&["bench", path, "--prompt", "0"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
}
