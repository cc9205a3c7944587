//! Continues a text and prints it token by token.
//!
//!     cargo run --release --example first_tokens -- "Once upon a time"
#![allow(clippy::print_stdout)] // an example shows what it does

use std::io::Write;

use candle_coreml::{GenerationOptions, LanguageModel, Result};

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../candle-coreml-cli/demo");

fn main() -> Result<()> {
    let prompt = std::env::args().nth(1).unwrap_or_else(|| "Once upon a time".to_owned());
    let mut model = LanguageModel::load(DEMO)?;
    let options = GenerationOptions::new().max_tokens(40);
    print!("{prompt}");
    for token in model.stream(&prompt, &options)? {
        print!("{}", token?.text);
        // The end of a line may be far.
        std::io::stdout().flush().ok();
    }
    println!();
    Ok(())
}
