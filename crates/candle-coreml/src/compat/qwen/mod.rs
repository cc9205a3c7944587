//! [`QwenModel`] and [`QwenConfig`]: thin names over [`LanguageModel`](crate::LanguageModel) for
//! programs that were written for the crate when it knew Qwen models only.

mod config;
mod model;

pub use config::QwenConfig;
pub use model::QwenModel;
