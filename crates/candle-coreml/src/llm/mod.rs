//! Text generation, for any language model: options, sampling, tokenizer, sessions that keep their
//! key-value cache, and the generation loop. What an export looks like is the business of the
//! module of its family, such as [`crate::qwen`].

mod generation;
mod manifest;
mod network;
mod options;
mod sampler;
mod session;
mod special_tokens;
mod stream;
mod tokenizer;

pub use generation::{FinishReason, Generation, Timings, Token, Usage};
pub use options::GenerationOptions;
pub use session::Session;
pub use stream::TokenStream;
pub use tokenizer::TextTokenizer;

pub(crate) use manifest::Manifest;
pub(crate) use network::{LanguageModel, Network, Prediction};
#[cfg(test)]
pub(crate) use tokenizer::tests::{byte_tokenizer, write_byte_tokenizer};
