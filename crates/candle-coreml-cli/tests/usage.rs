//! Spellings, variables of the environment, and what is made of the definition of the command line.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::fs;
use std::process::Output;

use common::{at_home, chat_model, command, model, stderr, stdout};
use serde_json::Value as Json;

fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    command(arguments).envs(variables.iter().copied()).output().unwrap()
}

/// A call of `generate` with the small model, and its JSON.
fn generated(arguments: &[&str], variables: &[(&str, &str)]) -> Json {
    let model = model("window-1");
    let common = ["generate", "--model", &model, "Once", "--json", "--ignore-eos"];
    let output = run(&[&common[..], arguments].concat(), variables);
    serde_json::from_str(&stdout(&output)).unwrap()
}

#[test]
fn options_have_short_names_and_those_of_other_tools() {
    let long = ["--max-tokens", "5", "--temperature", "2", "--seed", "3", "--top-k", "9"];
    let long = generated(&[&long[..], &["--repetition-penalty", "1.5"]].concat(), &[]);
    assert_eq!(long["usage"]["generated_tokens"], 5);
    for spelling in [
        &["-n", "5", "--temp", "2", "-s", "3", "--top_k", "9", "--repeat-penalty", "1.5"][..],
        &["--n-predict=5", "--temp=2", "-s3", "--top_k=9", "--repeat_penalty=1.5", "-t", "2"],
        &["--num_predict=5", "--temp=2", "-s=3", "--top_k=9", "--repetition_penalty=1.5", "-v"],
        &["--max_new_tokens=5", "--temp=2", "-s=3", "--top-k=9", "--repeat-penalty=1.5", "-q"],
    ] {
        assert_eq!(generated(spelling, &[])["token_ids"], long["token_ids"], "{spelling:?}");
    }
    let all = generated(&["-n", "-1"], &[]);
    assert_eq!(all["finish_reason"], "context");
}

#[test]
fn settings_come_from_the_environment_unless_they_are_given() {
    let variables = [
        ("CANDLE_COREML_MAX_TOKENS", "4"),
        ("CANDLE_COREML_TEMPERATURE", "2"),
        ("CANDLE_COREML_SEED", "3"),
        // As if it were not there.
        ("CANDLE_COREML_TOP_K", ""),
        ("CANDLE_COREML_NO_WRAP", "1"),
    ];
    let given = generated(&["-n", "4", "--temp", "2", "-s", "3"], &[]);
    assert_eq!(generated(&[], &variables)["token_ids"], given["token_ids"]);
    let two = generated(&["-n", "2"], &variables);
    assert_eq!(two["usage"]["generated_tokens"], 2);

    let small = model("window-1");
    let model = [("CANDLE_COREML_MODEL", small.as_str())];
    let from_there = stdout(&run(&["generate", "Once", "-n", "3", "--ignore-eos"], &model));
    assert_eq!(from_there, generated(&["-n", "3"], &[])["text"].as_str().unwrap());
    // A model that is named goes before it.
    let talking = chat_model();
    let path = talking.path().to_str().unwrap();
    let answer = ["-n", "3", "--temp", "0", "--speculation", "off"];
    let named = stdout(&run(&[&["run", path, "Hello"][..], &answer].concat(), &model));
    let option = stdout(&run(&[&["run", "-m", path, "Hello"][..], &answer].concat(), &[]));
    assert_eq!(named, option);
}

#[test]
fn a_wrong_variable_is_named() {
    let output = run(&["generate", "x"], &[("CANDLE_COREML_TOP_P", "7")]);
    assert_eq!(output.status.code(), Some(2));
    let message = stderr(&output);
    assert!(message.contains("'7' for '--top-p <P>'"), "{message}");
    assert!(message.contains("environment variable CANDLE_COREML_TOP_P"), "{message}");
    let given = run(&["generate", "x", "--top-p", "7"], &[("CANDLE_COREML_TOP_P", "7")]);
    assert!(!stderr(&given).contains("environment"), "{}", stderr(&given));
    let log = run(&["cache", "dir"], &[("RUST_LOG", "a=b=c")]);
    assert!(log.status.success() && stderr(&log).contains("RUST_LOG"), "{}", stderr(&log));
}

#[test]
fn wrong_usage_prints_what_is_near() {
    for (arguments, near) in [
        (&["genrate", "x"][..], "generate"),
        (&["generate", "x", "--temprature", "1"], "--temperature"),
        (&["generate", "x", "--max-token", "1"], "--max-tokens"),
        (&["chat", "--overflow", "shit"], "shift"),
        (&["cache", "lst"], "list"),
    ] {
        let output = run(arguments, &[]);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let message = stderr(&output);
        assert!(message.contains("similar") && message.contains(near), "{message}");
    }
}

#[test]
fn help_tells_of_variables_and_exit_codes() {
    let help = stdout(&run(&["--help"], &[]));
    for text in ["RUST_LOG", "130 stopped by Ctrl-C", "[env: CANDLE_COREML_COLOR]"] {
        assert!(help.contains(text), "{text}: {help}");
    }
    let help = stdout(&run(&["chat", "--help"], &[("CANDLE_COREML_SYSTEM", "secret")]));
    for text in ["[env: CANDLE_COREML_MODEL]", "[env: CANDLE_COREML_NOHISTORY]", "--temp"] {
        assert!(help.contains(text), "{text}: {help}");
    }
    assert!(help.contains("CANDLE_COREML_SYSTEM") && !help.contains("secret"), "{help}");
}

#[test]
fn commands_have_the_names_of_other_tools() {
    let home = tempfile::tempdir().unwrap();
    let at_home = |arguments: &[&str]| {
        let mut command = command(arguments);
        at_home(&mut command, home.path());
        command.output().unwrap()
    };
    let language = model("two-chunks-fp16");
    let package = format!("{language}/qwen_embeddings.mlpackage");
    for (name, long) in [
        (&["list"][..], &["cache", "list"][..]),
        (&["ls"], &["cache", "list"]),
        (&["show", &language], &["config", &language]),
        (&["show", &package, "--json"], &["inspect", &package, "--json"]),
        (&["rm", "org/model"], &["cache", "prune", "--all", "org/model"]),
        (&["pull", "org/model", "--offline"], &["download", "org/model", "--offline"]),
    ] {
        let (name, long) = (at_home(name), at_home(long));
        assert_eq!(name.status.code(), long.status.code());
        assert_eq!((&name.stdout, stderr(&name)), (&long.stdout, stderr(&long)));
    }
}

#[test]
fn shells_and_manuals_know_every_command_and_option() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = stdout(&run(&["completions", shell], &[]));
        for word in ["generate", "temperature", "no-history", "predict"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    assert!(stdout(&run(&["man"], &[])).starts_with(".ie"));
    let directory = tempfile::tempdir().unwrap();
    let pages = directory.path().join("man1");
    let output = run(&["man", pages.to_str().unwrap()], &[]);
    assert!(output.status.success() && output.stdout.is_empty(), "{}", stderr(&output));
    let page = |name: &str| fs::read_to_string(pages.join(name)).unwrap();
    assert!(page("candle-coreml.1").contains("candle\\-coreml\\-generate(1)"));
    assert!(page("candle-coreml-generate.1").contains("CANDLE_COREML_TEMPERATURE"));
    assert!(page("candle-coreml-cache-prune.1").contains("dry\\-run"));
    let failed = run(&["man", "/proc/no/such"], &[]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(stderr(&failed).contains("/proc/no/such"));
}
