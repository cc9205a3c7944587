//! Language models by name, as an object: today [`LanguageModel::from_hub`] does it, and
//! [`HubClient`] what it does not.

use std::path::{Path, PathBuf};

use super::ConfigGenerator;
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::hub::{CachedModelInfo, DownloadOptions, HubClient};
use crate::llm::{LanguageModel, LanguageModelOptions};

/// Loads language models by their ids on the hub. A model that is in the cache is loaded from there
/// without using the network; [`HubClient::download`] looks for a newer one.
#[derive(Clone, Debug, Default)]
pub struct UnifiedModelLoader {
    client: HubClient,
    /// Finds out what a model's directory holds.
    pub config_generator: ConfigGenerator,
}

impl UnifiedModelLoader {
    /// A loader with what the environment says: see [`HubClient::new`].
    ///
    /// # Errors
    /// None today; a `Result` for those who call it with `?`.
    pub fn new() -> Result<Self> {
        Ok(Self::default())
    }

    /// A loader with a client of one's own.
    pub fn with_client(client: HubClient) -> Self {
        UnifiedModelLoader { client, ..Self::default() }
    }

    /// Loads a model, after downloading it if the cache does not have all of it.
    ///
    /// # Errors
    /// When the model can't be had, or can't be loaded.
    pub fn load_model(&self, id: &str) -> Result<LanguageModel> {
        LanguageModel::load(self.ensure_model_available(id)?)
    }

    /// Loads the model of a configuration: from its directory if that exists, else by its id.
    ///
    /// # Errors
    /// When the configuration names neither, and as for [`load_model`](Self::load_model).
    pub fn load_model_from_config(&self, config: &ModelConfig) -> Result<LanguageModel> {
        let info = &config.model_info;
        let stated = info.path.as_deref().map(Path::new).filter(|path| path.is_dir());
        let directory = match (stated, &info.model_id) {
            (Some(directory), _) => directory.to_owned(),
            (None, Some(id)) => self.ensure_model_available(id)?,
            (None, None) => {
                return Err(Error::language_model(
                    "the configuration",
                    "names no model: set model_info.path to an existing directory, or \
                     model_info.model_id",
                ));
            }
        };
        let options = LanguageModelOptions::new().config(config.clone());
        LanguageModel::load_with(directory, &options)
    }

    /// The configuration of a model, after downloading it if the cache does not have all of it.
    ///
    /// # Errors
    /// When the model can't be had, or its components are not found.
    pub fn generate_config(&self, id: &str) -> Result<ModelConfig> {
        let directory = self.ensure_model_available(id)?;
        self.config_generator.generate_config_from_directory(directory, id, "unknown")
    }

    /// The directory of a model, after downloading it if the cache does not have all of it.
    ///
    /// # Errors
    /// When the model can't be had.
    pub fn ensure_model_available(&self, id: &str) -> Result<PathBuf> {
        Ok(self.client.ensure(id, &DownloadOptions::new())?)
    }

    /// The models in the cache.
    ///
    /// # Errors
    /// When the cache can't be read.
    pub fn list_cached_models(&self) -> Result<Vec<CachedModelInfo>> {
        Ok(self.client.cached_models()?)
    }
}
