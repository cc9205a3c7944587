//! What a caller asks for: how to generate, the messages to answer, and a way to end it.

mod chat;
mod check;
mod options;
mod recommended;

pub use chat::{ChatMessage, ChatOptions, MessageContent};
pub use coreml_engine::CancelToken;
pub use options::{ContextOverflow, GenerationOptions, Speculation};
