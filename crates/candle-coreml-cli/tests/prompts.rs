//! Prompts and messages from arguments, pipes and files, and what comes of them.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::fs;
use std::process::Output;

use common::{chat_model, model, run_with_input, stderr, stdout};
use serde_json::{Value as Json, json};

/// `generate` with the small model, and its JSON.
fn generated(arguments: &[&str], input: &[u8]) -> Json {
    let model = model("window-1");
    let common = ["generate", "--model", &model, "--json", "-n", "6", "--ignore-eos"];
    let output = run_with_input(&[&common[..], arguments].concat(), input);
    serde_json::from_str(&stdout(&output)).unwrap()
}

#[test]
fn a_prompt_is_the_same_from_everywhere() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("prompt.txt");
    fs::write(&file, "Once upon\na time\n").unwrap();
    let file = file.to_str().unwrap();
    let expected = generated(&["Once upon\na time"], b"");
    let same = |arguments: &[&str], input: &[u8]| {
        let found = generated(arguments, input);
        assert_eq!(found["prompt_ids"], expected["prompt_ids"], "{arguments:?}");
        assert_eq!(found["text"], expected["text"], "{arguments:?}");
    };
    same(&["-"], b"Once upon\na time");
    same(&["Once", "upon\na", "time"], b"not this");
    same(&["-"], b"Once upon\na time\n");
    same(&[], b"Once upon\na time\r\n");
    same(&["-f", "-"], b"Once upon\na time");
    same(&["--file", file], b"not this");
    same(&["-f", file], b"");
    same(&["-p", "Once upon\na time"], b"not this");
    same(&["--prompt=Once upon\na time"], b"");
    // Another line break, spaces and `@` are text.
    let ids = |prompt: &str| generated(&[prompt], b"")["prompt_ids"].clone();
    assert_eq!(generated(&[], b" Once\n\n")["prompt_ids"], ids(" Once\n"));
    assert_eq!(generated(&["-"], b"@file")["prompt_ids"], ids("@file"));
    assert_eq!(
        generated(&["-p", "-"], b"not this")["prompt_ids"],
        generated(&[], b"-")["prompt_ids"]
    );
}

#[test]
fn a_prompt_may_be_longer_than_an_argument() {
    let text = "Once upon a time there was a dog. ".repeat(9000);
    assert!(text.len() > 300_000);
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, &text).unwrap();
    let shift = ["--overflow", "shift"];
    let piped = generated(&[&shift[..], &["-"]].concat(), text.as_bytes());
    let read = generated(&[&shift[..], &["-f", file.path().to_str().unwrap()]].concat(), b"");
    let once = generated(&["Once upon a time there was a dog. "], b"");
    let length = |json: &Json| json["prompt_ids"].as_array().unwrap().len();
    assert!(length(&piped) > 8000 * length(&once), "{} tokens", length(&piped));
    assert_eq!(piped["prompt_ids"], read["prompt_ids"]);
    assert_eq!(piped["text"], read["text"]);
    // Without it, the prompt is too long, and that is said.
    let model = model("window-1");
    let output = run_with_input(&["generate", "--model", &model, "-"], text.as_bytes());
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("shorten"), "{}", stderr(&output));
}

fn refused(arguments: &[&str], input: &[u8], code: i32, expected: &str) {
    let output = run_with_input(arguments, input);
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {message}");
    assert!(message.starts_with("error: ") && message.contains(expected), "{message}");
    assert!(output.stdout.is_empty(), "{arguments:?}");
}

#[test]
fn prompts_that_are_none_are_explained() {
    let directory = tempfile::tempdir().unwrap();
    let binary = directory.path().join("binary");
    fs::write(&binary, b"ab\xff").unwrap();
    let (directory, binary) = (directory.path().to_str().unwrap(), binary.to_str().unwrap());
    refused(&["generate"], b"", 2, "there is no prompt");
    refused(&["generate", "-"], b"ab\xffc", 1, "byte 0xff after 2 good ones");
    refused(&["generate"], b"\xc3", 1, "standard input");
    refused(&["generate", "-f", binary], b"", 1, binary);
    refused(&["generate", "-f", directory], b"", 1, directory);
    refused(&["generate", "-f", "/no/such/file"], b"", 1, "/no/such/file");
    refused(&["generate", "text", "-f", binary], b"", 2, "cannot be used with");
    refused(&["generate", "-p", "text", "-f", binary], b"", 2, "cannot be used with");
    refused(&["generate", "text", "-p", "text"], b"", 2, "cannot be used with");
    let model = chat_model();
    let model = model.path().to_str().unwrap();
    refused(&["run", model, "Hello", "-p", "Hello"], b"", 2, "two prompts");
    refused(&["chat", "-m", model], b"\xff\n", 1, "line 1 of standard input");
}

/// The text of a conversation as the template of [`chat_model`] has it shows what arrived.
fn answers(arguments: &[&str], input: &[u8]) -> Output {
    let model = chat_model();
    let model = model.path().to_str().unwrap();
    run_with_input(&[&["chat", "-m", model, "-n", "4"][..], arguments].concat(), input)
}

#[test]
fn lines_of_a_pipe_are_messages_as_they_are() {
    let directory = chat_model();
    let path = directory.path().to_str().unwrap();
    let lines =
        ["/usr/bin is a directory", "  indented", "ends with \\", "/exit", "\"\"\"", "last"];
    let input = lines.join("\n");
    let output = answers(&["--temperature", "0", "--speculation", "off"], input.as_bytes());

    let library = candle_coreml::LanguageModel::load(path).unwrap();
    let options = candle_coreml::GenerationOptions::new().max_tokens(4).into();
    let mut messages = Vec::new();
    let mut expected = String::new();
    let mut session = library.session();
    for line in lines {
        messages.push(candle_coreml::ChatMessage::user(line));
        let answer = session.chat(&messages, &options).unwrap();
        messages.push(answer.message());
        expected.push_str(&answer.text);
        if !answer.text.ends_with('\n') {
            expected.push('\n');
        }
    }
    assert_eq!(stdout(&output), expected);
    assert!(!stderr(&output).contains("command"), "{}", stderr(&output));
}

#[test]
fn one_message_is_answered_and_that_is_all() {
    let directory = chat_model();
    let path = directory.path().to_str().unwrap();
    let greedy = ["--temp", "0", "-n", "4", "--speculation", "off"];
    let run = |arguments: &[&str], input: &str| {
        stdout(&run_with_input(&[arguments, &greedy].concat(), input.as_bytes()))
    };
    let expected = run(&["chat", "--model", path], "Tell me more\n");
    for arguments in [
        &["run", path, "Tell me more"][..],
        &["run", path, "Tell", "me", "more"],
        &["chat", "-m", path, "Tell me more"],
        &["chat", "-m", path, "-p", "Tell me more"],
        &["run", path, "--prompt", "Tell me more"],
    ] {
        assert_eq!(run(arguments, "not this"), expected, "{arguments:?}");
    }
    assert_eq!(run(&["run", path, "-"], "Tell me more\n"), expected);
    assert_eq!(run(&["run", path], "Tell me more\n"), expected);
}

#[test]
fn each_token_is_a_line_of_json() {
    let model = model("window-1");
    let common = ["generate", "-m", &model, "Once", "-n", "9", "--ignore-eos", "--logprobs", "2"];
    let output = |form| stdout(&run_with_input(&[&common[..], &[form]].concat(), b""));
    let whole: Json = serde_json::from_str(&output("--json")).unwrap();
    let lines: Vec<Json> =
        output("--json-lines").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (end, tokens) = lines.split_last().unwrap();
    let each = |name: &str| tokens.iter().map(|token| token[name].clone()).collect::<Vec<_>>();
    assert_eq!(json!(each("id")), whole["token_ids"]);
    assert_eq!(json!(each("logprobs")), whole["logprobs"]);
    let text: String = tokens.iter().map(|token| token["text"].as_str().unwrap()).collect();
    assert_eq!(text, whole["text"]);
    assert_eq!(end["finish_reason"], "length");
    assert_eq!(end["usage"], whole["usage"]);
    assert!(end["timings"]["load_seconds"].is_f64() && end["stop_string"].is_null(), "{end}");
}
