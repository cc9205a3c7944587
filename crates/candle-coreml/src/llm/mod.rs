//! Text generation with any language model that was exported to Core ML: the packages of a
//! directory as one [`LanguageModel`], sessions that keep their key-value cache, options, sampling,
//! tokenizer and the generation loop. See `docs/anemll.md` for the layouts of exports.
//!
//! ```no_run
//! use candle_coreml::{GenerationOptions, LanguageModel};
//!
//! # fn main() -> candle_coreml::Result<()> {
//! let mut model = LanguageModel::load("models/demo")?;
//! let options = GenerationOptions::new().max_tokens(64);
//! for token in model.stream("Once upon a time", &options)? {
//!     print!("{}", token?.text);
//! }
//! # Ok(())
//! # }
//! ```

mod generation;
mod language_model;
mod network;
mod options;
pub(crate) mod pipeline;
mod sampler;
mod session;
mod special_tokens;
mod stream;
mod tokenizer;

pub use generation::{FinishReason, Generation, Timings, Token, Usage};
pub(crate) use language_model::sampling;
pub use language_model::{LanguageModel, LanguageModelOptions};
pub use options::GenerationOptions;
pub use session::Session;
pub use stream::TokenStream;
pub use tokenizer::TextTokenizer;

pub(crate) use pipeline::Layout;
pub(crate) use sampler::choose;
