//! Plans of fixtures as text, beside what they were: a change of the planner shows its difference.
//! `BLESS=1 cargo test -p coreml-engine --test plans` writes them anew.
#![allow(clippy::unwrap_used)] // a helper that fails is a test that fails

use std::path::{Path, PathBuf};

use coreml_engine::{Model, Options, Shape, Workers};
use coreml_format::Package;
use coreml_format::mil::from_text;

/// Functions of language models: the text's name, the package and the function.
const LANGUAGE_MODELS: &[(&str, &str, &str)] = &[
    ("qwen-infer", "two-chunks-fp16/qwen_FFN_PF_chunk_01of02.mlpackage", "infer"),
    ("qwen-prefill", "two-chunks-fp16/qwen_FFN_PF_chunk_01of02.mlpackage", "prefill"),
    ("apple-llama", "apple-llama/llama.mlpackage", "main"),
    ("gemma3-infer", "gemma3/gemma3_FFN_PF_chunk_01of01.mlpackage", "infer"),
    ("gemma3-rotate", "gemma3/gemma3_FFN_PF_chunk_01of01.mlpackage", "infer_rotate"),
    ("lut8-embeddings", "lut8-embeddings/qwen_embeddings_lut8.mlpackage", "main"),
];

#[test]
fn dump() {
    for (name, package, function) in LANGUAGE_MODELS {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/llm").join(package);
        let model = Model::load(Package::open(&path).unwrap(), &Options::new(Workers::serial())).unwrap();
        for function in model.functions() {
            println!("{name} {}", function.name());
            let Some(shapes) = function.default_shapes() else { println!("none"); continue };
            let text = function.explain(&shapes).unwrap();
            println!("{} {}", text.len(), text.lines().count());
            std::fs::write(format!("/tmp/plan-{name}-{}.txt", function.name()), text).unwrap();
        }
    }
    for family in ["states", "control_flow", "recurrent", "linear", "conv", "normalization", "compression", "tensor_operation", "tensor_transformation", "elementwise_unary", "reduction", "scatter_gather", "topk", "cumsum", "activation","elementwise_binary"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/ops").join(format!("{family}.mil"));
        let program = from_text(&std::fs::read_to_string(path).unwrap()).unwrap();
        let model = Model::load(Package::from_program(program).unwrap(), &Options::new(Workers::serial())).unwrap();
        let mut all = String::new();
        for function in model.functions() {
            let Some(shapes) = function.default_shapes() else { println!("none"); continue };
            let text = function.explain(&shapes).unwrap();
            all.push_str(&format!("{}\n{text}\n", function.name()));
        }
        std::fs::write(format!("/tmp/plan-{family}.txt"), all).unwrap();
    }
}
