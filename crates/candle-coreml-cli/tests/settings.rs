//! Settings that come with a model, and options that are to blame: the program from outside.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::{stderr, stdout};
use serde_json::{Value as Json, json};

/// The demo model in a directory of its own.
struct Demo(tempfile::TempDir);

impl Demo {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("demo"), directory.path());
        Demo(directory)
    }

    fn write(&self, name: &str, json: &Json) {
        fs::write(self.0.path().join(name), json.to_string()).unwrap();
    }

    fn path(&self) -> &str {
        self.0.path().to_str().unwrap()
    }

    fn chat(&self, arguments: &[&str]) -> Output {
        let mut child = program(&["chat", "--model", self.path(), "--max-tokens=24"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(b"Once upon a time\n").unwrap();
        child.wait_with_output().unwrap()
    }

    fn prompt_ids(&self, prompt: &str) -> Json {
        let arguments = ["generate", prompt, "--json", "--max-tokens=1", "--model", self.path()];
        let output = program(&arguments).output().unwrap();
        let json: Json = serde_json::from_str(&stdout(&output)).unwrap();
        json["prompt_ids"].clone()
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_candle-coreml"));
    command.env_remove("RUST_LOG").args(arguments);
    command
}

#[test]
fn a_chat_goes_by_what_the_model_recommends() {
    let demo = Demo::new();
    let greedy = stdout(&demo.chat(&[]));
    let penalised = stdout(&demo.chat(&["--repetition-penalty=1.5"]));
    assert_ne!(greedy, penalised);
    let cases = [
        (json!({"repetition_penalty": 1.5}), &penalised),
        (json!({"do_sample": true, "temperature": 3.0, "min_p": 1.0}), &greedy),
        (json!({"do_sample": true, "temperature": 0.0}), &greedy),
        (json!({"do_sample": true, "temperature": 3.0, "top_p": 0.0}), &greedy),
        (json!({"temperature": 3.0}), &greedy),
    ];
    for (config, expected) in cases {
        demo.write("generation_config.json", &config);
        assert_eq!(stdout(&demo.chat(&[])), *expected, "{config}");
    }
    demo.write("generation_config.json", &json!({"repetition_penalty": 1.5}));
    assert_eq!(stdout(&demo.chat(&["--repetition-penalty=1"])), greedy);
}

#[test]
fn what_is_not_gone_by_is_told_by_the_chat_and_by_config() {
    let demo = Demo::new();
    let config = json!({"num_beams": 4, "do_sample": true, "temperature": "0.7", "top_k": 20});
    demo.write("generation_config.json", &config);
    let told = [
        "generation_config.json: `num_beams` is 4, which is not gone by: there is no beam search",
        r#"generation_config.json: `temperature` is "0.7", which is not gone by: it must be"#,
    ];
    let text = stdout(&program(&["config", demo.path()]).output().unwrap());
    let notes = stderr(&demo.chat(&[]));
    for line in told {
        assert!(text.contains(&format!("odd: {line}")), "{text}");
        assert!(notes.contains(&format!("note: {line}")), "{notes}");
    }
    assert!(text.contains("recommended in generation_config.json: do_sample true, top_k 20"));
    let json = stdout(&program(&["config", demo.path(), "--json"]).output().unwrap());
    let json: Json = serde_json::from_str(&json).unwrap();
    let recommended = &json["recommended_sampling"];
    assert_eq!(recommended["files"], json!(["generation_config.json"]));
    assert_eq!((&recommended["top_k"], &recommended["do_sample"]), (&json!(20), &json!(true)));
    let ignored = recommended["ignored"].as_array().unwrap();
    let keys: Vec<&Json> = ignored.iter().map(|setting| &setting["key"]).collect();
    assert_eq!(keys, ["temperature", "num_beams"]);
    assert_eq!(ignored[1]["value"], "4");
}

#[test]
fn begin_tokens_are_those_of_the_tokenizer_class() {
    let demo = Demo::new();
    let plain = demo.prompt_ids("Once upon");
    let begun = json!([vec![json!(893)], plain.as_array().unwrap().clone()].concat());
    let with = |settings: Json| {
        let path = demo.0.path().join("tokenizer_config.json");
        let mut config: Json = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let config = config.as_object_mut().unwrap();
        config.retain(|key, _| !key.starts_with("add_"));
        config.insert("bos_token".to_owned(), json!("<|endoftext|>"));
        config.extend(settings.as_object().unwrap().clone());
        demo.write("tokenizer_config.json", &json!(config));
        demo.prompt_ids("Once upon")
    };
    let llama = json!({"tokenizer_class": "LlamaTokenizerFast", "add_bos_token": true});
    assert_eq!(with(llama), begun);
    assert_eq!(demo.prompt_ids("<|endoftext|>Once upon"), begun);
    assert_eq!(with(json!({"tokenizer_class": "GemmaTokenizerFast"})), begun);
    assert_eq!(
        with(json!({"tokenizer_class": "GemmaTokenizerFast", "add_bos_token": false})),
        plain
    );
    assert_eq!(with(json!({"tokenizer_class": "Qwen2Tokenizer"})), plain);
}

#[test]
fn options_that_are_to_blame_are_named_with_their_flags() {
    let wrong = [
        "--logit-bias=1=1e300",
        "--repetition-penalty=1e-300",
        "--presence-penalty=1e308",
        "--frequency-penalty=-1e300",
    ];
    for option in wrong {
        let output = program(&["generate", "x", option]).output().unwrap();
        let message = stderr(&output);
        let (flag, _) = option.split_once('=').unwrap();
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains(flag) && message.contains("32 bits"), "{message}");
    }
    let forbidden = (0..896).map(|id| format!("--logit-bias={id}=-inf"));
    let output = program(&["generate", "Once", "--max-tokens=2"]).args(forbidden).output().unwrap();
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("`logit_bias`") && message.contains("--logit-bias"), "{message}");
    assert!(!message.contains("export"), "{message}");
    let demo = ["generate", "Once upon", "--max-tokens=8"];
    let greedy = stdout(&program(&demo).output().unwrap());
    let cold = stdout(&program(&demo).arg("--temperature=1e-300").output().unwrap());
    assert_eq!(cold, greedy);
}
