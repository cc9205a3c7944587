//! What happens where standard output or standard error is full, closed or not read.

#![allow(clippy::unwrap_used)] // a test fails by panicking
#![cfg(target_os = "linux")]

mod common;

use std::process::{Command, Output, Stdio};

use common::{command, model, stderr, under_test};

/// One call of every command, with its exit code where all streams are read.
fn calls() -> Vec<(Vec<String>, i32)> {
    let package = format!("{}/qwen_embeddings.mlpackage", model("two-chunks-fp16"));
    let language = model("two-chunks-fp16");
    let small = model("window-1");
    let table: [(&[&str], i32); 22] = [
        (&["inspect", &package], 0),
        (&["inspect", &package, "--plan"], 0),
        (&["predict", &package, "--input", "input_ids=0"], 0),
        (&["generate", "-m", &small, "Once", "-n", "3"], 0),
        (&["generate", "-m", &small, "Once", "-n", "3", "--json"], 0),
        (&["generate", "-m", &small, "Once", "-n", "3", "--json-lines"], 0),
        (&["generate", "-m", &small, "Once", "-n", "3", "-vvv"], 0),
        (&["generate", "Once", "-n", "3"], 0),
        (&["run", "demo", "Hello", "-n", "3", "-v"], 0),
        (&["config", &language], 0),
        (&["config", &language, "--json"], 0),
        (&["show", &package], 0),
        (&["cache", "list"], 0),
        (&["cache", "dir"], 0),
        (&["list"], 0),
        (&["completions", "bash"], 0),
        (&["man"], 0),
        (&["--help"], 0),
        (&["generate", "--help"], 0),
        (&["--version"], 0),
        (&["download", "org/model", "--offline"], 1),
        (&["dance"], 2),
    ];
    let owned = |arguments: &[&str]| arguments.iter().map(ToString::to_string).collect();
    table.iter().map(|(arguments, code)| (owned(arguments), *code)).collect()
}

/// Runs the program with its streams as a shell directs them.
fn redirected(arguments: &[String], streams: &str, home: &std::path::Path) -> Output {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("exec \"$0\" \"$@\" {streams}"), under_test()]).args(arguments);
    common::at_home(&mut shell, home);
    shell.stdin(Stdio::null()).output().unwrap()
}

#[test]
fn the_exit_code_is_that_of_the_work_wherever_the_streams_go() {
    let home = tempfile::tempdir().unwrap();
    for (arguments, code) in calls() {
        let run = |streams| redirected(&arguments, streams, home.path());
        let plain = run("");
        assert_eq!(plain.status.code(), Some(code), "{arguments:?}: {}", stderr(&plain));
        for streams in ["2>/dev/full", "2>&-", ">&-", ">&- 2>&-", ">/dev/null 2>/dev/full"] {
            let output = run(streams);
            assert_eq!(output.status.code(), Some(code), "{arguments:?} {streams}");
            assert!(!stderr(&output).contains("panicked"), "{arguments:?} {streams}");
        }
        let full = run(">/dev/full");
        if plain.stdout.is_empty() {
            assert_eq!(full.status.code(), Some(code), "{arguments:?}");
        } else {
            assert_eq!(full.status.code(), Some(1), "{arguments:?}");
            let message = stderr(&full);
            assert!(message.contains("can't write to standard output"), "{arguments:?}: {message}");
            assert!(!message.contains("panicked"), "{message}");
        }
        let silent = run(">/dev/full 2>/dev/full").status.code();
        assert_eq!(silent, full.status.code(), "{arguments:?}");
    }
}

/// As `| head -1` does.
#[test]
fn a_reader_that_has_seen_enough_ends_the_program_quietly() {
    let home = tempfile::tempdir().unwrap();
    for (arguments, code) in calls() {
        let mut command = command(&[]);
        common::at_home(&mut command, home.path());
        command.args(&arguments).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        assert!(!stderr(&output).contains("panicked"), "{arguments:?}");
        assert!(code != 0 || !stderr(&output).contains("error:"), "{arguments:?}");
    }
}

/// Text that has no line break at its end does not run into the timings.
#[test]
fn timings_have_a_line_of_their_own() {
    let home = tempfile::tempdir().unwrap();
    let arguments: Vec<String> =
        ["generate", "Once upon a time", "-n", "5"].iter().map(ToString::to_string).collect();
    let together = redirected(&arguments, "2>&1", home.path());
    let text = String::from_utf8(together.stdout).unwrap();
    let (answer, timings) = text.trim_end().rsplit_once('\n').unwrap();
    assert!(!answer.contains("loaded in") && timings.starts_with("loaded in"), "{text}");
    let apart = redirected(&arguments, "", home.path());
    assert_eq!(String::from_utf8(apart.stdout).unwrap().trim_end(), answer.trim_end());
}
