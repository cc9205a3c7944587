//! The older, narrower name of a language model.

use std::ops::{Deref, DerefMut};
use std::path::Path;

use super::QwenConfig;
use crate::error::Result;
use crate::llm::{GenerationOptions, LanguageModel};

/// A [`LanguageModel`] under the name of the family that was supported first, with the methods that
/// programs of that time call. It takes any family.
#[derive(Debug)]
pub struct QwenModel {
    model: LanguageModel,
    config: QwenConfig,
}

impl QwenModel {
    /// Loads the model of a directory: see [`LanguageModel::load`]. `config` is needed only to
    /// choose among several models in one directory.
    ///
    /// # Errors
    /// As for [`LanguageModel::load_with`].
    pub fn load_from_directory(
        directory: impl AsRef<Path>,
        config: Option<QwenConfig>,
    ) -> Result<Self> {
        let mut config = config.unwrap_or_default();
        let model = LanguageModel::load_with(directory, &config.load_options())?;
        config.model_config = model.config().clone();
        Ok(QwenModel { model, config })
    }

    /// The configuration, with what was found in the directory.
    pub fn config(&self) -> &QwenConfig {
        &self.config
    }

    /// Token ids of a text, with padding tokens (0) behind them up to a whole number of windows.
    pub fn pad_tokens(&self, tokens: &[i64]) -> Vec<i64> {
        let window = self.config.batch_size().max(1);
        let mut padded = tokens.to_vec();
        padded.resize(tokens.len().div_ceil(window).max(1) * window, 0);
        padded
    }

    /// Like [`generate_text_with_params`](LanguageModel::generate_text_with_params), as token ids.
    ///
    /// # Errors
    /// As for [`LanguageModel::generate`].
    pub fn generate_tokens_topk_temp(
        &mut self,
        prompt: &str,
        max_tokens: usize,
        temperature: impl Into<f64>,
        top_k: Option<usize>,
    ) -> Result<Vec<i64>> {
        let temperature = temperature.into();
        let options =
            GenerationOptions { max_tokens, temperature, top_k, ..GenerationOptions::default() };
        let ids = self.model.generate(prompt, &options)?.token_ids;
        Ok(ids.into_iter().map(i64::from).collect())
    }

    /// The most likely token after a text; the first one among equals.
    ///
    /// # Errors
    /// As for [`LanguageModel::generate`].
    pub fn forward_text(&mut self, text: &str) -> Result<i64> {
        let tokens = self.generate_tokens_topk_temp(text, 1, 0.0, None)?;
        Ok(tokens.first().copied().unwrap_or_default())
    }
}

impl From<LanguageModel> for QwenModel {
    fn from(model: LanguageModel) -> Self {
        let config = QwenConfig::from_model_config(model.config().clone());
        QwenModel { model, config }
    }
}

impl Deref for QwenModel {
    type Target = LanguageModel;

    fn deref(&self) -> &LanguageModel {
        &self.model
    }
}

impl DerefMut for QwenModel {
    fn deref_mut(&mut self) -> &mut LanguageModel {
        &mut self.model
    }
}
