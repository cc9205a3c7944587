//! Language models by name.

use std::fs;
use std::path::{Path, PathBuf};

use super::{CachedModelInfo, DownloadEvent, DownloadOptions, HubClient, HubError};
use crate::config::{ConfigGenerator, ModelConfig};
use crate::error::{Error, Result};
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
                return Err(Error::Generation(
                    "the configuration names no model: set model_info.path to an existing \
                     directory, or model_info.model_id"
                        .to_owned(),
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

/// Downloads the newest version of a model into the cache and gives its directory. `verbose` tells
/// on standard error how it goes.
///
/// # Errors
/// As [`HubClient::download`].
pub fn download_model(id: &str, verbose: bool) -> Result<PathBuf> {
    let client = HubClient::new();
    let snapshot = client.download(id, &options(verbose))?;
    Ok(client.model_directory(&snapshot)?)
}

/// Downloads a model into a directory, where nothing else is touched: see
/// [`HubClient::download_to`].
///
/// # Errors
/// As [`HubClient::download_to`].
pub fn download_model_to(id: &str, directory: impl AsRef<Path>, verbose: bool) -> Result<PathBuf> {
    Ok(HubClient::new().download_to(id, directory.as_ref(), &options(verbose))?)
}

/// The directory of a model that is completely in the cache.
pub fn get_cached_model_path(id: &str) -> Option<PathBuf> {
    let client = HubClient::new();
    let snapshot = client.cached(id, &DownloadOptions::new()).ok()??;
    client.model_directory(&snapshot).ok()
}

/// The directory of a model, after downloading it if the cache does not have all of it. `verbose`
/// tells on standard error how it goes.
///
/// # Errors
/// As [`HubClient::download`].
pub fn ensure_model_downloaded(id: &str, verbose: bool) -> Result<PathBuf> {
    Ok(HubClient::new().ensure(id, &options(verbose))?)
}

/// Checks that a directory has these files, with content.
///
/// # Errors
/// When one is missing, empty or a Git LFS pointer.
pub fn verify_download_completeness(directory: impl AsRef<Path>, files: &[&str]) -> Result<()> {
    let directory = directory.as_ref();
    let missing: Vec<&str> = files
        .iter()
        .copied()
        .filter(|file| fs::metadata(directory.join(file)).map_or(0, |found| found.len()) == 0)
        .collect();
    if !missing.is_empty() {
        let message =
            format!("{} missing or empty; download it again", crate::error::list(&missing));
        return Err(HubError::Incomplete { path: directory.to_owned(), message }.into());
    }
    for file in files.iter().map(|file| directory.join(file)).filter(|file| file.is_file()) {
        let mut start = [0; 32];
        let count = fs::File::open(&file)
            .and_then(|mut opened| std::io::Read::read(&mut opened, &mut start))
            .map_err(HubError::io(&file))?;
        coreml_format::refuse_lfs_pointer(&file, start.get(..count).unwrap_or_default())?;
    }
    Ok(())
}

fn options(verbose: bool) -> DownloadOptions {
    if !verbose {
        return DownloadOptions::new();
    }
    DownloadOptions::new().on_event(|event| match event {
        DownloadEvent::Started { files, bytes, .. } => eprintln!("{files} files, {bytes} bytes"),
        DownloadEvent::Finished { path } => eprintln!("{path}"),
        DownloadEvent::Retrying { path, reason, .. } => eprintln!("{path}: {reason}; again"),
        DownloadEvent::Note { message } => eprintln!("{message}"),
        _ => {}
    })
}
