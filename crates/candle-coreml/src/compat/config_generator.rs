//! The older name of [`explain`].

use std::path::Path;

use crate::config::{ModelConfig, explain};
use crate::error::Result;

/// Makes configurations from what directories hold.
#[derive(Clone, Debug, Default)]
pub struct ConfigGenerator {}

impl ConfigGenerator {
    /// A generator.
    ///
    /// # Errors
    /// None today; a `Result` for those who call it with `?`.
    pub fn new() -> Result<Self> {
        Ok(Self::default())
    }

    /// Finds the components of a model's directory. `model_type` stands for the architecture where
    /// no file tells it.
    ///
    /// # Errors
    /// As for [`explain`].
    pub fn generate_config_from_directory(
        &self,
        directory: impl AsRef<Path>,
        model_id: &str,
        model_type: &str,
    ) -> Result<ModelConfig> {
        let mut config = explain(directory, Some(model_id))?.config;
        if config.model_info.model_type == "unknown" {
            config.model_info.model_type = model_type.to_owned();
        }
        Ok(config)
    }
}
