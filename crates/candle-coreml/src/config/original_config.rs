//! What the original model's `config.json` says.

use std::path::Path;

use serde_json::Value as Json;

use super::json_file::read_json;
use crate::error::{Error, Result};

/// What the original model's `config.json` says; nothing where it is missing or no JSON.
#[derive(Debug, Default)]
pub(super) struct OriginalConfig(Option<Json>);

impl OriginalConfig {
    /// Reads the file of a directory.
    pub(super) fn read(directory: &Path) -> Result<Self> {
        match read_json(&directory.join("config.json")) {
            // It can be read, but is no JSON.
            Err(Error::LanguageModel { .. }) => Ok(OriginalConfig(None)),
            config => config.map(OriginalConfig),
        }
    }

    /// The architecture, e.g. `qwen3`.
    pub(super) fn model_type(&self) -> Option<String> {
        Some(self.0.as_ref()?.get("model_type")?.as_str()?.to_owned())
    }

    /// A size by its name, also where the text model is a part of a larger one.
    pub(super) fn size(&self, name: &str) -> Option<usize> {
        let config = self.0.as_ref()?;
        let size = config.get(name).or_else(|| config.get("text_config")?.get(name))?;
        usize::try_from(size.as_u64()?).ok()
    }
}
