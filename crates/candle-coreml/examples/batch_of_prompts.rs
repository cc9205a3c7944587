//! Several prompts at once: one model, a session and a thread for each prompt.
//!
//!     cargo run --release --example batch_of_prompts
#![allow(clippy::print_stdout)] // an example shows what it does

use std::thread;

use candle_coreml::{Error, Generation, GenerationOptions, LanguageModel, Result};

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../candle-coreml-cli/demo");

const PROMPTS: [&str; 3] = ["Once upon a time", "One day", "Once there was"];

fn main() -> Result<()> {
    let model = LanguageModel::load(DEMO)?;
    let options = GenerationOptions::new().max_tokens(24).temperature(0.7).top_p(0.9).seed(1);
    let texts: Vec<Result<Generation>> = thread::scope(|scope| {
        let start = |prompt: &'static str| {
            let (mut session, options) = (model.session(), &options);
            scope.spawn(move || session.generate(prompt, options))
        };
        let running: Vec<_> = PROMPTS.into_iter().map(start).collect();
        let failed = || Err(Error::other("a thread failed"));
        running.into_iter().map(|thread| thread.join().unwrap_or_else(|_| failed())).collect()
    });
    for (prompt, generation) in PROMPTS.iter().zip(texts) {
        println!("{prompt}{}\n", generation?.text);
    }
    Ok(())
}
