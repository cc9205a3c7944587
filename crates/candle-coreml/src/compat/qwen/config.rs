//! How programs of the older crate say what to load, and make input tensors by hand.

use candle_core::{Device, Tensor};

use crate::backend::BackendKind;
use crate::compat::ModelNamingConfig;
use crate::compat::utils::mask;
use crate::config::ModelConfig;
use crate::error::{GenerationError, Result};
use crate::llm::LanguageModelOptions;

/// What to load, and the sizes of what was loaded. The default finds everything out.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct QwenConfig {
    /// Where made tensors are put.
    pub device: Device,
    /// How the packages are named.
    pub naming: ModelNamingConfig,
    /// Components where they are stated, and sizes.
    pub model_config: ModelConfig,
    /// What runs the packages.
    pub backend: BackendKind,
}

impl Default for QwenConfig {
    fn default() -> Self {
        Self::from_model_config(ModelConfig::default_qwen())
    }
}

impl QwenConfig {
    /// Any names, the best backend.
    pub fn new() -> Self {
        Self::default()
    }

    /// A configuration whose stated components are loaded, and must be as stated.
    pub fn from_model_config(model_config: ModelConfig) -> Self {
        QwenConfig {
            device: Device::Cpu,
            naming: ModelNamingConfig::default(),
            model_config,
            backend: BackendKind::default(),
        }
    }

    /// The configuration of a well-known model.
    ///
    /// # Errors
    /// When the model is not known.
    pub fn for_model_id(model_id: &str) -> Result<Self> {
        ModelConfig::get_builtin_config(model_id).map(Self::from_model_config).ok_or_else(|| {
            GenerationError::option(
                "the id must be that of a built-in configuration (none is needed: load the model's \
                 directory or its name, and its shapes are found out)",
                format!("`{model_id}`"),
            )
            .into()
        })
    }

    /// Names as ANEMLL gives them to Qwen models.
    #[deprecated(note = "the default finds packages of any name")]
    pub fn for_standard_qwen() -> Self {
        Self::default().with_naming(ModelNamingConfig::standard_qwen())
    }

    /// Sets how the packages are named.
    pub fn with_naming(mut self, naming: ModelNamingConfig) -> Self {
        self.naming = naming;
        self
    }

    /// Sets what runs the packages.
    pub fn with_backend(mut self, backend: BackendKind) -> Self {
        self.backend = backend;
        self
    }

    pub(super) fn load_options(&self) -> LanguageModelOptions {
        LanguageModelOptions::new()
            .naming(self.naming.clone())
            .backend(self.backend)
            .config(self.model_config.clone())
    }

    /// Tokens that prefill runs at once.
    pub fn batch_size(&self) -> usize {
        self.model_config.shapes.batch_size
    }

    /// Tokens that prompt and answer may have together.
    pub fn context_length(&self) -> usize {
        self.model_config.shapes.context_length
    }

    /// Length of a hidden state.
    pub fn hidden_size(&self) -> usize {
        self.model_config.shapes.hidden_size
    }

    /// Number of tokens that the model knows.
    pub fn vocab_size(&self) -> usize {
        self.model_config.shapes.vocab_size
    }

    /// Shape of the embeddings' `input_ids`.
    pub fn embeddings_input_shape(&self) -> Option<&Vec<usize>> {
        self.model_config.embeddings_input_shape()
    }

    /// Shape of the embeddings' `hidden_states`.
    pub fn embeddings_output_shape(&self) -> Option<&Vec<usize>> {
        self.model_config.embeddings_output_shape()
    }

    /// Whether the logits come in several outputs.
    pub fn has_multipart_logits(&self) -> bool {
        self.model_config.has_multipart_logits()
    }

    /// Number of outputs with logits.
    pub fn logits_part_count(&self) -> usize {
        self.model_config.logits_part_count()
    }

    /// `input_ids` `[1, n]`, int64: one token alone, or a window with padding (0) behind the tokens.
    ///
    /// # Errors
    /// When there are more tokens than the window holds: run them window by window.
    pub fn create_embeddings_input_tensor(&self, tokens: &[i64]) -> Result<Tensor> {
        let window = if tokens.len() == 1 { 1 } else { self.batch_size() };
        if tokens.len() > window {
            let expected = format!("at most {window} tokens, a window; run them window by window");
            return Err(GenerationError::option(expected, tokens.len()).into());
        }
        let mut tokens = tokens.to_vec();
        tokens.resize(window, 0);
        Ok(Tensor::from_vec(tokens, (1, window), &self.device)?)
    }

    /// `input_ids` `[1, 1]`, int64.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn create_single_token_embeddings_input(&self, token: i64) -> Result<Tensor> {
        self.create_embeddings_input_tensor(&[token])
    }

    /// `position_ids`, int64: for prefill those of the whole window, counting on where `positions`
    /// end; for one token the last position.
    ///
    /// # Errors
    /// When there are no positions, or more than the window holds.
    pub fn create_position_ids_with_mode_detection(
        &self,
        positions: &[i64],
        is_prefill: bool,
    ) -> Result<Tensor> {
        let window = self.batch_size();
        let Some(&last) = positions.last().filter(|_| !is_prefill || positions.len() <= window)
        else {
            let expected = format!("expected 1 to {window} positions");
            return Err(GenerationError::option(expected, positions.len()).into());
        };
        if !is_prefill {
            return Ok(Tensor::from_vec(vec![last], 1, &self.device)?);
        }
        let missing = i64::try_from(window - positions.len()).unwrap_or(0);
        let all: Vec<i64> =
            positions.iter().copied().chain((1..=missing).map(|n| last + n)).collect();
        Ok(Tensor::from_vec(all, window, &self.device)?)
    }

    /// `causal_mask` `[1, 1, rows, context]`, float32, 0 or −∞: the rows of the window that starts
    /// at `position`, or the one row of `position`.
    ///
    /// # Errors
    /// When the position lies outside of the context.
    pub fn create_causal_mask_with_mode_detection(
        &self,
        position: usize,
        context_length: usize,
        is_prefill: bool,
    ) -> Result<Tensor> {
        let rows = if is_prefill { self.batch_size() } else { 1 };
        mask::create_causal_mask_rows(position, rows, context_length, &self.device)
    }

    /// `current_pos` `[1]`, int64.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn create_current_pos_tensor(&self, position: i64) -> Result<Tensor> {
        Ok(Tensor::from_vec(vec![position], 1, &self.device)?)
    }
}
