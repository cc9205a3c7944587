//! What the tests of the program share.

#![allow(dead_code)] // no test uses all of it

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::json;
use tempfile::TempDir;

/// The program.
pub fn under_test() -> &'static str {
    env!("CARGO_BIN_EXE_candle-coreml")
}

/// A call of the program, without what the environment says of it.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(under_test());
    without_settings(&mut command);
    command.args(arguments);
    command
}

fn without_settings(command: &mut Command) {
    // A checking service sets `CI`, which alone turns colours on where the terminal is a dumb one.
    for name in
        ["RUST_LOG", "RUST_BACKTRACE", "CI", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "TERM"]
    {
        command.env_remove(name);
    }
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CANDLE_COREML_")) {
        command.env_remove(name);
    }
}

/// Lets a program find and leave files under this directory alone.
pub fn at_home(command: &mut Command, home: &Path) {
    without_settings(command);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HF_")) {
        command.env_remove(name);
    }
    command.env_remove("XDG_STATE_HOME");
    command.env("HOME", home).env("XDG_CACHE_HOME", home.join("cache"));
}

/// Runs the program with something on standard input.
pub fn run_with_input(arguments: &[&str], input: &[u8]) -> Output {
    let mut command = command(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may end without reading everything.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// What a successful run printed.
pub fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What a run said besides.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What a run said that failed with code 1; there may be notes before the error.
pub fn failure(output: &Output) -> String {
    let message = stderr(output);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("error: ") && !message.contains("panicked"), "{message}");
    message
}

/// As [`failure`], of a run that printed the error and nothing else.
pub fn failure_alone(output: &Output) -> String {
    let message = failure(output);
    assert!(message.starts_with("error: "), "{message}");
    assert!(output.stdout.is_empty());
    message
}

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A language model among the fixtures.
pub fn model(name: &str) -> String {
    root().join("fixtures/llm").join(name).to_str().unwrap().to_owned()
}

const TEMPLATE: &str = "{% for message in messages %}[{{ message.role }}] {{ message.content }}\n\
                        {% endfor %}[assistant]{% if enable_thinking is defined %}!{% endif %}";

/// The demo model with another chat template.
pub fn chat_model() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    copy(&root().join("crates/candle-coreml-cli/demo"), directory.path());
    std::fs::write(directory.path().join("chat_template.jinja"), TEMPLATE).unwrap();
    directory
}

/// Copies a directory with all that is in it.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(&from, &to).unwrap();
        }
    }
}

/// A compiled model of an iOS 17 function, which takes inputs of these names, types and sizes.
pub fn compiled_model(inputs: &[(&str, &str, &str)], function: &str) -> TempDir {
    let directory = tempfile::Builder::new().suffix(".mlmodelc").tempdir().unwrap();
    let program = format!("program(1.0) {{ func main<ios17>{function} }}");
    std::fs::write(directory.path().join("model.mil"), program).unwrap();
    let input = |&(name, element, range): &(&str, &str, &str)| {
        let ty = json!({"name": name, "type": "MultiArray", "dataType": element});
        let mut ty = ty.as_object().unwrap().clone();
        let key = if range.starts_with("[[") { "shapeRange" } else { "shape" };
        ty.insert(key.to_owned(), range.into());
        ty
    };
    let inputs: Vec<_> = inputs.iter().map(input).collect();
    let interface = json!([{"specificationVersion": 8, "inputSchema": inputs, "outputSchema": []}]);
    std::fs::write(directory.path().join("metadata.json"), interface.to_string()).unwrap();
    directory
}
