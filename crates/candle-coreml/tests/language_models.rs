//! Generated tokens against those of the PyTorch models whose weights the packages hold
//! (`expected.json`, written by `tools/demo-model`). Greedy tokens must agree up to the first step
//! at which the reference's two largest logits are too close to call in fp16.
#![cfg(feature = "llm")]
#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use candle_coreml::{
    FinishReason, GenerationOptions, LanguageModel, LanguageModelOptions, Rewrites, Session,
    Speculation, Workers,
};
use serde_json::Value as Json;

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)
}

fn ids(prompt: &Json, key: &str) -> Vec<u32> {
    let ids = prompt[key].as_array().unwrap();
    ids.iter().map(|id| u32::try_from(id.as_u64().unwrap()).unwrap()).collect()
}

/// Generates every prompt's tokens in one conversation after the other, and all of them again in
/// one session whose cache stays.
fn check(name: &str) -> BTreeSet<usize> {
    check_at(&directory(name), name, &LanguageModelOptions::new())
}

/// The same for a directory; gives the lengths of its prompts in tokens.
fn check_at(directory: &Path, name: &str, options: &LanguageModelOptions) -> BTreeSet<usize> {
    let text = std::fs::read_to_string(directory.join("expected.json")).unwrap();
    let expected: Json = serde_json::from_str(&text).unwrap();
    let model = LanguageModel::load_with(directory, options).unwrap();
    let prompts = expected["prompts"].as_array().unwrap();
    assert!(prompts.len() >= 3, "{name}: {} prompts", prompts.len());
    let mut kept = model.session();
    for prompt in prompts {
        let text = prompt["prompt"].as_str().unwrap();
        let next = ids(prompt, "next_ids");
        let robust = usize::try_from(prompt["robust_prefix_len"].as_u64().unwrap()).unwrap();
        let place = format!("{name}, {}", prompt["name"]);
        assert_eq!(model.tokenize(text).unwrap(), ids(prompt, "prompt_ids"), "{place}");
        let options = GenerationOptions::new().max_tokens(next.len()).ignore_eos(true);
        let fresh = model.session().generate(text, &options).unwrap();
        assert_ne!(fresh.finish_reason, FinishReason::Stop, "{place}");
        assert_eq!(fresh.token_ids[..robust], next[..robust], "{place}");
        let continued = kept.generate(text, &options).unwrap();
        assert_eq!(continued.token_ids[..robust], next[..robust], "{place}, continued");
    }
    prompts.iter().map(|prompt| ids(prompt, "prompt_ids").len()).collect()
}

/// Every layout of `docs/anemll.md`, found out from the directory alone.
#[test]
fn every_layout() {
    let fixtures = directory("fixtures/llm");
    let mut names: Vec<String> = std::fs::read_dir(&fixtures)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    for expected in LAYOUTS {
        assert!(names.iter().any(|name| name == expected), "there is no fixture {expected}");
    }
    // Around the window of 8 tokens, several windows, and one token short of the context of 64.
    let lengths = BTreeSet::from([1, 2, 7, 8, 9, 3 * 8 + 5, 63]);
    let older = ["compiled", "lut8-embeddings", "two-chunks-fp16", "window-1"];
    for name in names {
        let checked = check(&format!("fixtures/llm/{name}"));
        assert!(older.contains(&name.as_str()) || checked.is_superset(&lengths), "{name}");
    }
}

/// The same without `meta.yaml`: the packages tell everything.
#[test]
fn every_layout_without_a_manifest() {
    for name in LAYOUTS {
        let copied = tempfile::tempdir().unwrap();
        common::copy(&directory("fixtures/llm").join(name), copied.path());
        // The older fixtures need none to begin with.
        let _ = std::fs::remove_file(copied.path().join("meta.yaml"));
        check_at(copied.path(), name, &LanguageModelOptions::new());
    }
}

/// The same with every operation run as it is written.
#[test]
fn every_layout_without_rewrites() {
    let options = LanguageModelOptions::new().rewrites(Rewrites::Off);
    for name in LAYOUTS {
        check_at(&directory("fixtures/llm").join(name), name, &options);
    }
}

/// Sessions that run at the same time with a share of the threads each: the same text, and no plan
/// or weight made anew.
#[test]
fn sessions_have_shares_of_the_threads() {
    let model = LanguageModel::load(directory("crates/candle-coreml-cli/demo")).unwrap();
    let generate = |mut session: Session| {
        let options = GenerationOptions::new().max_tokens(40);
        session.generate("Once upon a time", &options).unwrap().token_ids
    };
    let expected = generate(model.session());
    let plans = model.plans_made();
    std::thread::scope(|scope| {
        let running: Vec<_> = [1, 2, 3]
            .map(|threads| {
                let workers = Workers::new(threads).unwrap();
                let session = model.session().with_workers(&workers).unwrap();
                scope.spawn(move || generate(session))
            })
            .into();
        for session in running {
            assert_eq!(session.join().unwrap(), expected);
        }
    });
    assert_eq!(model.plans_made(), plans);
    // A conversation goes on where it is.
    let mut session = model.session();
    let options = GenerationOptions::new().max_tokens(5);
    session.generate("Once upon a time", &options).unwrap();
    let held = session.cached_ids().to_vec();
    assert_eq!(session.with_workers(&Workers::serial()).unwrap().cached_ids(), held);
}

/// The fixtures that have to be there.
const LAYOUTS: [&str; 27] = [
    "apple-llama",
    "apple-mistral",
    "compiled",
    "gemma3",
    "gemma3-2chunks",
    "gemma3-argmax",
    "gemma3-monolithic",
    "gemma3-single-cache",
    "gemma3-split-rotate",
    "gemma3-static-prefill",
    "llama",
    "llama-monolithic",
    "lut8-embeddings",
    "qwen25-2chunks",
    "qwen3-3chunks-lut6",
    "qwen3-argmax",
    "qwen3-full-prefill",
    "qwen3-infer-only",
    "qwen3-lut4",
    "qwen3-monolithic",
    "qwen3-monolithic-argmax",
    "qwen3-old-split",
    "qwen3-per-chunk-state",
    "qwen3-split-functions",
    "qwen3-static-prefill",
    "qwen3-update-mask",
    "qwen35-2chunks",
];

#[test]
fn demo() {
    check("crates/candle-coreml-cli/demo");
}

#[test]
fn an_end_token_ends_the_text() {
    let directory = directory("fixtures/llm/window-1");
    let text = std::fs::read_to_string(directory.join("expected.json")).unwrap();
    let expected: Json = serde_json::from_str(&text).unwrap();
    let mut model = LanguageModel::load(&directory).unwrap();
    let end: Vec<u32> = model.tokenizer().end_tokens().collect();
    let mut seen = 0;
    for prompt in expected["prompts"].as_array().unwrap() {
        let next = ids(prompt, "next_ids");
        let robust = usize::try_from(prompt["robust_prefix_len"].as_u64().unwrap()).unwrap();
        let Some(stop) = next[..robust].iter().position(|id| end.contains(id)) else { continue };
        let options = GenerationOptions::new().max_tokens(next.len());
        let generation = model.generate(prompt["prompt"].as_str().unwrap(), &options).unwrap();
        assert_eq!(generation.token_ids, next[..=stop]);
        assert_eq!(generation.finish_reason, FinishReason::Stop);
        seen += 1;
    }
    assert!(seen > 0, "no prompt of the fixture ends early");
}

/// Drafts from the prompt are checked by the function of windows and change nothing but the time.
#[test]
fn drafts_change_no_token() {
    for name in ["qwen3-monolithic", "qwen3-monolithic-argmax", "qwen3-full-prefill", "apple-llama"]
    {
        let model = LanguageModel::load(directory(&format!("fixtures/llm/{name}"))).unwrap();
        let mut options = GenerationOptions::new().max_tokens(20).ignore_eos(true);
        if name != "qwen3-monolithic-argmax" {
            // Few tokens to choose from, so that pairs of them come again.
            options = (97..100).fold(options, |options, id| options.logit_bias(id, 1000.0));
        }
        let (mut drafted, mut accepted) = (0, 0);
        for seed in ["ab", "hello", "x y z"] {
            // What the model says after the seed, twice: a text whose end is known from before.
            let told = model.session().generate(seed, &options.clone().max_tokens(12)).unwrap();
            let ids = [&told.prompt_ids[..], &told.token_ids, &told.prompt_ids].concat();
            let run = |options: GenerationOptions| {
                let mut session = model.session();
                session.stream_ids(&ids, &options).unwrap().finish().unwrap()
            };
            let plain = run(options.clone().speculation(Speculation::Off));
            let fast = run(options.clone().speculation(Speculation::On));
            assert_eq!(fast.token_ids, plain.token_ids, "{name}, {seed}");
            assert_eq!(plain.usage.drafted_tokens, 0);
            drafted += fast.usage.drafted_tokens;
            accepted += fast.usage.accepted_tokens;
        }
        assert!(drafted > 0, "{name}: nothing was drafted");
        assert!(accepted <= drafted, "{name}");
    }
}

/// Three turns on one cache, and each of them from scratch, whatever the layout. Caches that can go
/// back run the new tokens only; the last token of an answer was given out but never run.
#[test]
fn turns_of_a_conversation_prefill_what_is_new() {
    let options = GenerationOptions::new().max_tokens(5).ignore_eos(true);
    for name in LAYOUTS {
        let model = LanguageModel::load(directory(&format!("fixtures/llm/{name}"))).unwrap();
        let mut session = model.session();
        let mut ids = model.tokenize("first turn").unwrap();
        let mut known = 0;
        for turn in ["", " and a second", " third"] {
            ids.extend(model.tokenize(turn).unwrap_or_default());
            let kept = session.stream_ids(&ids, &options).unwrap().finish().unwrap();
            let fresh = model.session().stream_ids(&ids, &options).unwrap().finish().unwrap();
            assert_eq!(kept.token_ids, fresh.token_ids, "{name}, turn `{turn}`");
            assert_eq!(kept.usage.reused_tokens, known, "{name}, turn `{turn}`");
            assert_eq!(kept.usage.prefilled_tokens, ids.len() - known, "{name}, turn `{turn}`");
            ids.extend(&kept.token_ids);
            known = ids.len() - 1;
        }
        // Another second turn: back to the end of the first.
        let mut other = model.tokenize("first turn").unwrap();
        other.extend(model.tokenize("?").unwrap());
        let kept = session.stream_ids(&other, &options).unwrap().finish().unwrap();
        let fresh = model.session().stream_ids(&other, &options).unwrap().finish().unwrap();
        assert_eq!(kept.token_ids, fresh.token_ids, "{name}, another turn");
        let slides = name.starts_with("gemma3") && name != "gemma3-single-cache";
        let goes_back = !(slides || name.starts_with("qwen35"));
        assert_eq!(kept.usage.reused_tokens > 0, goes_back, "{name}: {:?}", kept.usage);
    }
}
