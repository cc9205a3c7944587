//! A sampler of one's own: the most likely token that did not come up lately.
//!
//!     cargo run --release --example custom_sampler
#![allow(clippy::print_stdout)] // an example shows what it does

use candle_coreml::{ChooseToken, Error, GenerationOptions, LanguageModel, Result};

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../candle-coreml-cli/demo");

/// Takes no token that is among so many last ones.
struct NeverAgainWithin(usize);

impl ChooseToken for NeverAgainWithin {
    fn choose(&mut self, logits: &[f32], _prompt: &[u32], generated: &[u32]) -> Result<u32> {
        let recent = &generated[generated.len().saturating_sub(self.0)..];
        (0u32..)
            .zip(logits)
            .filter(|(id, _)| !recent.contains(id))
            .max_by(|a, b| a.1.total_cmp(b.1))
            .map(|(id, _)| id)
            .ok_or_else(|| Error::other("every token came up lately"))
    }
}

fn main() -> Result<()> {
    let model = LanguageModel::load(DEMO)?;
    let options = GenerationOptions::new().max_tokens(40);
    let prompt = "Once upon a time";
    for window in [0, 12] {
        let (mut session, mut sampler) = (model.session(), NeverAgainWithin(window));
        let generation = session.stream_with(prompt, &options, &mut sampler)?.finish()?;
        println!("no token again within {window}: {prompt}{}\n", generation.text);
    }
    Ok(())
}
