//! How alike words are to a model: cosine similarities of the vectors in its embeddings package.
//!
//!     cargo run --release --example embeddings -- fox owl forest
#![allow(clippy::print_stdout)] // an example shows what it does

use candle_core::{DType, Device, Tensor};
use candle_coreml::{CoreMLModel, Error, LoadOptions, Result, TextTokenizer};

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../candle-coreml-cli/demo");

fn main() -> Result<()> {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    if words.is_empty() {
        words = ["fox", "owl", "forest", "village", "happy", "sad"].map(str::to_owned).to_vec();
    }
    let tokenizer = TextTokenizer::load(DEMO)?;
    let model =
        CoreMLModel::load(format!("{DEMO}/qwen_embeddings.mlpackage"), &LoadOptions::new())?;
    let vectors: Vec<Vec<f32>> = words
        .iter()
        .map(|word| embed(&model, &tokenizer.encode(&format!(" {word}"))?))
        .collect::<Result<_>>()?;
    for (word, vector) in words.iter().zip(&vectors) {
        let row: Vec<String> =
            vectors.iter().map(|other| format!("{:6.2}", cosine(vector, other))).collect();
        println!("{word:>10} {}", row.join(" "));
    }
    Ok(())
}

/// The sum of the vectors of all tokens, whose direction is that of the mean.
fn embed(model: &CoreMLModel, ids: &[u32]) -> Result<Vec<f32>> {
    let mut sum: Option<Tensor> = None;
    for &id in ids {
        let input = Tensor::new(&[[i64::from(id)]], &Device::Cpu)?;
        let mut outputs = model.predict(&[("input_ids", &input)])?;
        let vector = outputs
            .remove("hidden_states")
            .ok_or_else(|| Error::other("the model has no output `hidden_states`"))?;
        let vector = vector.flatten_all()?.to_dtype(DType::F32)?;
        sum = Some(match sum {
            Some(sum) => (sum + vector)?,
            None => vector,
        });
    }
    let sum = sum.ok_or_else(|| Error::other("a word has no tokens"))?;
    Ok(sum.to_vec1()?)
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
