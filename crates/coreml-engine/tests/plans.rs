//! Plans of fixtures as text, beside what they were: a change of the planner leaves them alone or
//! shows its difference. `BLESS=1 cargo test -p coreml-engine --test plans` writes them anew.
#![allow(clippy::unwrap_used)] // a helper that fails is a test that fails

mod common;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use common::assert_golden;
use coreml_engine::{Function, Model, Options, Workers};
use coreml_format::Package;
use coreml_format::mil::from_text;

/// Functions of language models: the text's name, the package, the function.
const LANGUAGE_MODELS: &[(&str, &str, &str)] = &[
    ("qwen-infer", "two-chunks-fp16/qwen_FFN_PF_chunk_01of02.mlpackage", "infer"),
    ("qwen-prefill", "two-chunks-fp16/qwen_FFN_PF_chunk_01of02.mlpackage", "prefill"),
    ("qwen-lut8-embeddings", "lut8-embeddings/qwen_embeddings_lut8.mlpackage", "main"),
    ("apple-llama", "apple-llama/llama.mlpackage", "main"),
    ("gemma3-infer", "gemma3/gemma3_FFN_PF_chunk_01of01.mlpackage", "infer"),
    ("gemma3-prefill-rotate", "gemma3/gemma3_FFN_PF_chunk_01of01.mlpackage", "prefill_rotate"),
];

/// Cases of operations: states, blocks, lists, several results, weights in all forms.
const OPERATIONS: &[(&str, &str)] = &[
    ("states", "write_state_two_layers_ios18_fp16"),
    ("states", "read_state_before_write_ios18_fp16"),
    ("states", "write_state_accumulate_ios18_fp16"),
    ("control_flow", "cond_nested_ios15"),
    ("control_flow", "while_loop_cond_inside_ios15"),
    ("control_flow", "while_loop_lists_ios15"),
    ("recurrent", "lstm_bidirectional_ios15"),
    ("topk", "topk_two_ios17"),
    ("compression", "constexpr_lut_to_dense_conv_weight_ios18_fp16"),
    ("compression", "constexpr_blockwise_shift_scale_int4_blocks_ios18"),
];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn load(package: Package) -> Model {
    Model::load(package, &Options::new(Workers::serial())).unwrap()
}

fn family(path: &Path) -> Model {
    let program = from_text(&std::fs::read_to_string(path).unwrap()).unwrap();
    load(Package::from_program(program).unwrap())
}

/// The plan for the default shapes, if the model states some.
fn plan(model: &Model, function: &Function) -> Option<String> {
    let shapes = function.default_shapes()?;
    Some(function.explain(model.context(), &shapes).unwrap())
}

#[test]
fn plans_of_language_models_are_what_they_were() {
    for (name, package, function) in LANGUAGE_MODELS {
        let model = load(Package::open(fixtures().join("llm").join(package)).unwrap());
        let text = plan(&model, model.function(function).unwrap()).unwrap();
        assert_golden(format!("tests/plans/{name}.txt"), &text);
    }
}

#[test]
fn plans_of_operations_are_what_they_were() {
    let mut texts = Vec::new();
    for (name, case) in OPERATIONS {
        let model = family(&fixtures().join("ops").join(name).with_extension("mil"));
        texts.push(plan(&model, model.function(case).unwrap()).unwrap());
    }
    assert_golden("tests/plans/operations.txt", &texts.join("\n"));
}

#[test]
fn a_plan_is_the_same_each_time() {
    let path = fixtures().join("llm/gemma3/gemma3_FFN_PF_chunk_01of01.mlpackage");
    let texts = || -> Vec<String> {
        let model = load(Package::open(&path).unwrap());
        model.functions().filter_map(|function| plan(&model, function)).collect()
    };
    assert_eq!(texts(), texts());
}

/// Which rewrites are made of which fixture, and how often.
#[test]
fn rewrites_of_fixtures_are_what_they_were() {
    let mut text = String::new();
    for path in entries(&fixtures().join("llm"), |_| true) {
        for package in entries(&path, |end| end == "mlpackage" || end == "mlmodelc") {
            let model = load(Package::open(&package).unwrap());
            let name = |path: &Path| path.file_stem().unwrap().to_string_lossy().into_owned();
            for function in model.functions() {
                let place = [&name(&path), &name(&package), function.name()].join(" ");
                add_rewrites(&mut text, &place, &model, function);
            }
        }
    }
    for path in entries(&fixtures().join("ops"), |end| end == "mil") {
        let model = family(&path);
        for function in model.functions() {
            add_rewrites(&mut text, function.name(), &model, function);
        }
    }
    assert_golden("tests/plans/rewrites.txt", &text);
}

/// A line for a function, if something in it is rewritten.
fn add_rewrites(text: &mut String, place: &str, model: &Model, function: &Function) {
    let Some(plan) = plan(model, function) else { return };
    let rewrites = plan.lines().filter_map(|line| line.strip_prefix("rewrite "));
    let rewrites: Vec<String> = rewrites.map(|line| line.replace(" times", "")).collect();
    if !rewrites.is_empty() {
        writeln!(text, "{place}; {}", rewrites.join("; ")).unwrap();
    }
}

/// What is in a directory, in order, whose extension is wanted.
fn entries(directory: &Path, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let extension = |path: &PathBuf| {
        path.extension().map_or(String::new(), |e| e.to_string_lossy().into_owned())
    };
    let mut entries: Vec<PathBuf> = entries.filter(|path| wanted(&extension(path))).collect();
    entries.sort();
    entries
}
