//! What a model directory holds: its packages, which function is which component, and how each
//! keeps its cache, found without being told.

mod builtin;
mod facts;
mod generator;
mod manifest;
mod model;
mod packages;
mod roles;

pub use builtin::{BUILTIN_CONFIGS, get_builtin_config};
pub use generator::{CONFIG_FILE, ConfigGenerator, Explanation};
pub use model::{ComponentConfig, ModelConfig, ModelInfo, NamingConfig, ShapeConfig, TensorConfig};
pub use packages::ModelNamingConfig;

pub(crate) use facts::{CacheUse, FunctionFacts};
pub(crate) use generator::Discovery;
pub(crate) use manifest::Manifest;
pub(crate) use roles::{Chunk, Component, IDS, MASKS};
