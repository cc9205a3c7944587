//! Text generation with Qwen models in ANEMLL's layout: an embeddings package, one or more FFN
//! packages (chunks) with the functions `prefill` and `infer`, and an LM head that gives its logits
//! in one or more parts. See `docs/anemll.md` for the interfaces.
//!
//! ```no_run
//! use candle_coreml::{GenerationOptions, QwenModel};
//!
//! # fn main() -> candle_coreml::Result<()> {
//! let mut model = QwenModel::load_from_directory("models/demo", None)?;
//! let options = GenerationOptions::new().max_tokens(64);
//! for token in model.stream("Once upon a time", &options)? {
//!     print!("{}", token?.text);
//! }
//! # Ok(())
//! # }
//! ```

mod config;
#[cfg(test)]
mod fake;
mod inference;
mod model;
mod naming;
mod tensors;
#[cfg(test)]
mod tests;

pub use config::{ModelConfig, QwenConfig};
pub use model::QwenModel;
pub use naming::ModelNamingConfig;
