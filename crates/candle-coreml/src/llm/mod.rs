//! Text generation, for any language model: options, sampling, tokenizer, chat templates, sessions
//! that keep their key-value cache, and the generation loop. What an export looks like is the
//! business of the module of its family, such as [`crate::qwen`].

#[cfg(feature = "async")]
mod async_stream;
mod cancel;
mod chat;
mod chat_template;
#[cfg(test)]
mod fake;
mod generation;
mod json_file;
mod logprobs;
mod manifest;
mod network;
mod options;
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
pub use logprobs::{LogProbability, TokenLogProbabilities};
pub use options::{ContextOverflow, GenerationOptions, Speculation};
pub use recommended::RecommendedSampling;
pub use sampler::ChooseToken;
pub use session::Session;
pub use stream::TokenStream;
pub use tokenizer::TextTokenizer;

pub(crate) use manifest::Manifest;
pub(crate) use network::{LanguageModel, Network, Prediction};
#[cfg(test)]
pub(crate) use tokenizer::tests::{byte_tokenizer, write_byte_tokenizer};
