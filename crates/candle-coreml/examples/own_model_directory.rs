//! Loads a model from a directory, shows what it is like, and generates with log-probabilities.
//!
//!     cargo run --release --example own_model_directory -- DIRECTORY
#![allow(clippy::print_stdout)] // an example shows what it does

use candle_coreml::{GenerationOptions, LanguageModel, Result};

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../candle-coreml-cli/demo");

fn main() -> Result<()> {
    let directory = std::env::args().nth(1).unwrap_or_else(|| DEMO.to_owned());
    let mut model = LanguageModel::load(&directory)?;
    let shapes = &model.config().shapes;
    println!(
        "context {}, vocabulary {}, hidden size {}, loaded in {:.2} s",
        shapes.context_length,
        shapes.vocab_size,
        shapes.hidden_size,
        model.load_time().as_secs_f64()
    );
    let options = GenerationOptions::new()
        .recommended(model.recommended_sampling())
        .max_tokens(12)
        .logprobs(0);
    let generation = model.generate("Once upon a time", &options)?;
    for token in generation.logprobs.unwrap_or_default() {
        println!("{:6.2} %  {:?}", 100.0 * token.chosen.logprob.exp(), token.chosen.text);
    }
    Ok(())
}
