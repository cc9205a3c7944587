//! A conversation: the second answer runs only what is new in it.
//!
//!     cargo run --release --example chat -- DIRECTORY
#![allow(clippy::print_stdout)] // an example shows what it does

use candle_coreml::{ChatMessage, ChatOptions, GenerationOptions, LanguageModel, Result};

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../candle-coreml-cli/demo");

fn main() -> Result<()> {
    let directory = std::env::args().nth(1).unwrap_or_else(|| DEMO.to_owned());
    let model = LanguageModel::load(directory)?;
    let mut session = model.session();
    let options = ChatOptions::new(GenerationOptions::new().max_tokens(40)).thinking(false);

    let mut messages = Vec::new();
    for question in ["Tell me a story about a fox.", "And one about an owl?"] {
        messages.push(ChatMessage::user(question));
        let answer = session.chat(&messages, &options)?;
        println!("> {question}\n{}", answer.text);
        let usage = answer.usage;
        println!("({} tokens, {} of them known)\n", usage.prompt_tokens, usage.reused_tokens);
        messages.push(answer.message());
    }
    Ok(())
}
