//! Ids of texts against what transformers makes of the same files (`fixtures/tokenizers/cases.json`,
//! written by `tools/tokenizers`).
#![cfg(feature = "llm")]
#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::fs;
use std::path::Path;

use candle_coreml::llm::TextTokenizer;
use serde_json::Value as Json;

fn ids(file: &Json, case: &Json) -> Vec<u32> {
    let directory = tempfile::tempdir().unwrap();
    let mut tokenizer = file["tokenizers"][case["tokenizer"].as_str().unwrap()].clone();
    if let Some(name) = case["post_processor"].as_str() {
        tokenizer["post_processor"] = file["post_processors"][name].clone();
    }
    let write = |name: &str, json: &Json| {
        fs::write(directory.path().join(name), json.to_string()).unwrap();
    };
    write("tokenizer.json", &tokenizer);
    for (name, json) in case["files"].as_object().unwrap() {
        write(name, json);
    }
    let tokenizer = TextTokenizer::load(directory.path()).unwrap();
    tokenizer.encode(case["text"].as_str().unwrap()).unwrap()
}

#[test]
fn texts_have_the_ids_that_transformers_gives() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tokenizers/cases.json");
    let file: Json = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let cases = file["cases"].as_array().unwrap();
    assert!(cases.len() > 400);
    let wrong: Vec<String> = cases
        .iter()
        .map(|case| (case, serde_json::json!(ids(&file, case))))
        .filter(|(case, ids)| *ids != case["ids"])
        .map(|(case, ids)| format!("{case}\n  got {ids}"))
        .collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
