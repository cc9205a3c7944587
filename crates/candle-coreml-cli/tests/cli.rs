//! The program from outside: exit codes, what goes to which stream, and files.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use candle_core::{Device, Tensor};
use serde_json::Value as Json;

fn run(arguments: &[&str]) -> Output {
    run_with(arguments, &[])
}

fn run_with(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_candle-coreml"));
    command.env_remove("RUST_LOG").args(arguments).envs(variables.iter().copied());
    command.output().unwrap()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn path(relative: &str) -> String {
    root().join(relative).to_str().unwrap().to_owned()
}

fn embeddings() -> String {
    path("fixtures/llm/two-chunks-fp16/qwen_embeddings.mlpackage")
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Failed with code 1, said why in one `error:` line, and printed nothing else.
fn failure(output: &Output) -> String {
    let message = stderr(output);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.starts_with("error: ") && !message.contains("panicked"), "{message}");
    assert!(output.stdout.is_empty());
    message
}

#[test]
fn wrong_usage_has_exit_code_2() {
    let wrong: [&[&str]; 6] = [
        &[],
        &["dance"],
        &["generate"],
        &["generate", "x", "--max-tokens", "many"],
        &["generate", "x", "--top-p", "2"],
        &["predict", "m.mlpackage", "--input", "x"],
    ];
    for arguments in wrong {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}");
    }
    assert!(stdout(&run(&["--help"])).contains("RUST_LOG"));
}

#[test]
fn failures_have_exit_code_1_and_say_why() {
    let empty = tempfile::tempdir().unwrap();
    let directory = empty.path().to_str().unwrap();
    let chunks = path("fixtures/llm/two-chunks-fp16");
    let long = "word ".repeat(400);
    let cases: [(&[&str], &str); 7] = [
        (&["inspect", "/no/such/model.mlpackage"], "/no/such/model.mlpackage"),
        (&["inspect", directory], directory),
        (&["predict", "/no/such/model.mlmodel"], "/no/such/model.mlmodel"),
        (&["generate", "--model", directory, "x"], "tokenizer.json"),
        (&["generate", "--model", &chunks, &long], "shorten"),
        (&["generate", "--model", &chunks, ""], "no tokens"),
        (&["predict", &embeddings(), "--input", "nope=1"], "no input `nope`"),
    ];
    for (arguments, expected) in cases {
        let message = failure(&run(arguments));
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn the_demo_text_streams_to_standard_output_alone() {
    let cache = tempfile::tempdir().unwrap();
    let cache = cache.path().to_str().unwrap();
    let variables = [("XDG_CACHE_HOME", cache), ("HOME", cache)];
    let arguments = ["generate", "Once upon a time", "--max-tokens", "12", "--ignore-eos"];
    let output = run_with(&arguments, &variables);
    let text = stdout(&output);
    let timings = stderr(&output);
    assert_eq!(timings.lines().count(), 1, "{timings}");
    assert!(timings.contains("loaded in") && timings.contains("generated: 12 tokens"), "{timings}");

    let json = run_with(&[&arguments[..], &["--json"]].concat(), &variables);
    let report: Json = serde_json::from_str(&stdout(&json)).unwrap();
    assert_eq!(report["text"], text);
    assert_eq!(report["token_ids"].as_array().unwrap().len(), 12);
    assert_eq!(report["finish_reason"], "length");
    assert!(!report["prompt_ids"].as_array().unwrap().is_empty());
    assert!(report["timings"]["load_seconds"].is_f64());
    assert!(json.stderr.is_empty());
}

#[test]
fn a_seed_gives_the_same_text_again() {
    let model = path("fixtures/llm/window-1");
    let draw = |seed: &str| {
        let options = ["--temperature", "2", "--top-k", "50", "--max-tokens", "16", "--seed", seed];
        stdout(&run(&[&["generate", "--model", &model, "O", "--json"][..], &options].concat()))
    };
    let ids = |text: String| serde_json::from_str::<Json>(&text).unwrap()["token_ids"].clone();
    assert_eq!(ids(draw("1")), ids(draw("1")));
    assert_ne!(ids(draw("1")), ids(draw("2")));
}

#[test]
fn the_log_goes_to_standard_error() {
    let model = path("fixtures/llm/window-1");
    let arguments = ["generate", "--model", &model, "O", "--max-tokens", "2"];
    let quiet = run(&arguments);
    let logged = run_with(&arguments, &[("RUST_LOG", "candle_coreml=debug")]);
    assert_eq!(quiet.stdout, logged.stdout);
    assert!(stderr(&logged).contains("candle_coreml"), "{}", stderr(&logged));
}

#[test]
fn predict_writes_and_shows_outputs() {
    let description: Json =
        serde_json::from_str(&stdout(&run(&["inspect", &embeddings(), "--json"]))).unwrap();
    assert_eq!(description["functions"][0]["inputs"][0]["name"], "input_ids");

    let directory = tempfile::tempdir().unwrap();
    let ids = directory.path().join("ids.npy");
    Tensor::new(&[[5i32]], &Device::Cpu).unwrap().write_npy(&ids).unwrap();
    let file = format!("input_ids={}", ids.display());
    let out = directory.path().join("out/new");
    let out = out.to_str().unwrap();
    let written = run(&["predict", &embeddings(), "--input", &file, "--output-dir", out]);
    assert_eq!(stdout(&written), "");
    let hidden = Tensor::read_npy(Path::new(out).join("hidden_states.npy")).unwrap();
    assert_eq!(hidden.dims()[..2], [1, 1]);

    let shown = stdout(&run(&["predict", &embeddings(), "--input", "input_ids=[[5]]"]));
    assert!(shown.starts_with("hidden_states: f16 [1, 1, "), "{shown}");
    let wrong = failure(&run(&["predict", &embeddings(), "--input", "input_ids=[1,2,3]"]));
    assert!(wrong.contains("input `input_ids`"), "{wrong}");
    failure(&run(&["predict", &embeddings()]));
}

#[test]
fn inspect_shows_functions_operations_and_weights() {
    let chunk = path("fixtures/llm/two-chunks-fp16/qwen_FFN_PF_chunk_01of02.mlpackage");
    let text = stdout(&run(&["inspect", &chunk]));
    for expected in ["Function infer", "Function prefill", "causal_mask", "state", "conv", "fp16"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(!text.contains("not supported"), "{text}");
    let json: Json = serde_json::from_str(&stdout(&run(&["inspect", &chunk, "--json"]))).unwrap();
    assert_eq!(json["model_kind"], "mlProgram");
    assert_eq!(json["functions"].as_array().unwrap().len(), 2);
    assert_eq!(json["opsets"]["infer"], "ios18");
    let operations = json["operations"].as_array().unwrap();
    assert!(
        operations.iter().any(|entry| entry["operator"] == "conv" && entry["supported"] == true)
    );
    assert!(json["weights"][0]["bytes"].as_u64().unwrap() > 0);
}
