//! Text generation with any language model that was exported to Core ML: the packages of a
//! directory as one [`LanguageModel`], sessions that keep their key-value cache, options, sampling,
//! tokenizer and the generation loop. See `docs/anemll.md` for the layouts of exports.
//!
//! Rooms, each of which knows only those before it: `request` (what a caller asks for), `text`
//! (tokenizer and chat template), `sampling` (from logits to a token), `network` (what generation
//! needs of a model), `pipeline` (a model's packages as a network), `generation` (sessions and the
//! loop). [`LanguageModel`] puts them together.
//!
//! ```no_run
//! use candle_coreml::{GenerationOptions, LanguageModel};
//!
//! # fn main() -> candle_coreml::Result<()> {
//! let mut model = LanguageModel::load("path/to/model")?;
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
mod pipeline;
mod request;
mod sampling;
mod text;

#[cfg(feature = "async")]
pub use generation::AsyncTokenStream;
pub use generation::{FinishReason, Generation, Session, Timings, Token, TokenStream, Usage};
pub use language_model::{LanguageModel, LanguageModelOptions};
pub use request::{
    CancelToken, ChatMessage, ChatOptions, ContextOverflow, GenerationOptions, MessageContent,
    Speculation,
};
pub(crate) use sampling::choose;
pub use sampling::{ChooseToken, LogProbability, TokenLogProbabilities};
pub use text::{ChatTemplate, TextTokenizer};

pub use crate::config::RecommendedSampling;
pub use crate::error::GenerationError;
