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

#[cfg(feature = "async")]
mod async_stream;
mod cancel;
mod chat;
mod chat_template;
#[cfg(test)]
mod fake;
mod generation;
mod json_file;
mod language_model;
mod logprobs;
mod network;
mod options;
pub(crate) mod pipeline;
mod prompt;
mod python_json;
mod recommended;
mod sampler;
mod session;
mod special_tokens;
mod speculation;
mod stop;
mod stream;
#[cfg(test)]
mod tests;
mod token_bytes;
mod tokenizer;

#[cfg(feature = "async")]
pub use async_stream::AsyncTokenStream;
pub use cancel::CancelToken;
pub use chat::{ChatMessage, ChatOptions};
pub use chat_template::ChatTemplate;
pub use generation::{FinishReason, Generation, Timings, Token, Usage};
pub(crate) use language_model::sampling;
pub use language_model::{LanguageModel, LanguageModelOptions};
pub use logprobs::{LogProbability, TokenLogProbabilities};
pub use options::{ContextOverflow, GenerationOptions, Speculation};
pub use recommended::RecommendedSampling;
pub use sampler::ChooseToken;
pub use session::Session;
pub use stream::TokenStream;
pub use tokenizer::TextTokenizer;

pub(crate) use pipeline::Layout;
pub(crate) use sampler::choose;
