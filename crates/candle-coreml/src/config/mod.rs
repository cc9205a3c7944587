//! What a model directory holds: its packages, which function is which component, how each keeps
//! its cache and how all of them are driven, found without being told.

pub(crate) mod bounds;
mod describe;
mod discovery;
mod facts;
mod json_file;
mod layout;
mod manifest;
mod model_config;
mod original_config;
mod packages;
mod recommended;
mod roles;
mod settings;
mod stated;
mod yaml;

pub use describe::{Explanation, explain};
pub(crate) use describe::{describe, findings};
pub(crate) use discovery::Discovery;
#[cfg(test)]
pub(crate) use facts::{CacheUse, FunctionFacts};
pub(crate) use json_file::{read_json, read_text};
pub(crate) use layout::{Feed, Head, Input, Interface, Layout, Prefill};
#[cfg(test)]
pub(crate) use manifest::Manifest;
pub use model_config::{
    CONFIG_FILE, ComponentConfig, ModelConfig, ModelInfo, NamingConfig, ShapeConfig, TensorConfig,
};
pub(crate) use packages::OpenedPackages;
pub use packages::PackageNaming;
pub use recommended::RecommendedSampling;
pub(crate) use roles::{Chunk, Component};
pub use settings::IgnoredSetting;

// Paths of the older crate.
#[doc(hidden)]
pub use crate::compat::{BUILTIN_CONFIGS, ConfigGenerator, ModelNamingConfig, get_builtin_config};
