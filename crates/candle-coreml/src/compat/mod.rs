//! Names of the older crate (candle-coreml 0.2 and 0.3), thin over today's, so that programs that
//! were written for it compile and run. New programs have no need of them: [`LanguageModel`] loads
//! and runs any model, [`config::explain`] finds out what a directory holds, and [`hub`] downloads.
//!
//! [`LanguageModel`]: crate::LanguageModel
//! [`config::explain`]: crate::config::explain
//! [`hub`]: crate::hub

#[cfg(feature = "llm")]
mod builtin;
#[cfg(feature = "llm")]
mod config_generator;
#[cfg(feature = "hub")]
mod downloads;
#[cfg(all(feature = "hub", feature = "llm"))]
mod loader;
#[cfg(feature = "llm")]
mod model_config;
#[cfg(feature = "llm")]
pub mod qwen;
#[cfg(feature = "llm")]
pub mod utils;

#[cfg(feature = "llm")]
pub use builtin::{BUILTIN_CONFIGS, get_builtin_config};
#[cfg(feature = "llm")]
pub use config_generator::ConfigGenerator;
#[cfg(feature = "hub")]
pub use downloads::{
    download_model, download_model_to, ensure_model_downloaded, get_cached_model_path,
    verify_download_completeness,
};
#[cfg(all(feature = "hub", feature = "llm"))]
pub use loader::UnifiedModelLoader;
#[cfg(feature = "llm")]
pub use qwen::{QwenConfig, QwenModel};

#[cfg(feature = "llm")]
pub use crate::config::PackageNaming as ModelNamingConfig;
#[cfg(feature = "hub")]
pub use crate::hub::OwnCache as CacheManager;
