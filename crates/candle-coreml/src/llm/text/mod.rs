//! Text and token ids: the tokenizer with its special tokens, and the chat template.

mod chat_template;
mod decoder;
mod jinja;
mod special_tokens;
#[cfg(test)]
pub(crate) mod testing;
mod token_bytes;
mod tokenizer;
mod tokenizer_config;

pub use chat_template::ChatTemplate;
pub(crate) use decoder::TextDecoder;
pub use tokenizer::TextTokenizer;
