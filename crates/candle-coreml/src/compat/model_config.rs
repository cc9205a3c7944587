//! What programs of the older crate ask of a configuration.

use std::collections::HashMap;

use super::get_builtin_config;
use crate::config::{ModelConfig, ModelInfo, NamingConfig, PackageNaming, ShapeConfig};

impl ModelConfig {
    /// A configuration that states no components, so that they are discovered.
    pub fn default_qwen() -> Self {
        ModelConfig {
            model_info: ModelInfo { model_type: "qwen".to_owned(), ..ModelInfo::default() },
            shapes: ShapeConfig {
                batch_size: 64,
                context_length: 512,
                hidden_size: 1024,
                vocab_size: 151_936,
            },
            components: HashMap::new(),
            naming: NamingConfig::default(),
            ffn_execution: None,
        }
    }

    /// The configuration of a well-known model: see [`BUILTIN_CONFIGS`](super::BUILTIN_CONFIGS).
    pub fn get_builtin_config(model_id: &str) -> Option<Self> {
        get_builtin_config(model_id)
    }

    /// Shape of the embeddings' `input_ids`.
    pub fn embeddings_input_shape(&self) -> Option<&Vec<usize>> {
        self.get_tensor_shape("embeddings", "input_ids", true)
    }

    /// Shape of the embeddings' `hidden_states`.
    pub fn embeddings_output_shape(&self) -> Option<&Vec<usize>> {
        self.get_tensor_shape("embeddings", "hidden_states", false)
    }

    /// Shape of the `hidden_states` that prefill takes.
    pub fn ffn_prefill_input_shape(&self) -> Option<&Vec<usize>> {
        self.get_tensor_shape("ffn_prefill", "hidden_states", true)
    }

    /// Shape of the `hidden_states` that the LM head takes.
    pub fn lm_head_input_shape(&self) -> Option<&Vec<usize>> {
        self.get_tensor_shape("lm_head", "hidden_states", true)
    }

    /// Whether the logits come in several outputs.
    pub fn has_multipart_logits(&self) -> bool {
        self.logits_part_count() > 1
    }

    /// Number of outputs with logits; 1 where the configuration does not tell.
    pub fn logits_part_count(&self) -> usize {
        self.logits_names().len().max(1)
    }

    /// The output with the first logits.
    pub fn lm_head_primary_output_name(&self) -> Option<String> {
        self.logits_names().first().map(|name| (*name).to_owned())
    }

    /// Names of the logits outputs in numeric order.
    fn logits_names(&self) -> Vec<&str> {
        let last = self.components.get("lm_head").or_else(|| self.components.get("infer"));
        let outputs = last.map(|component| component.outputs.keys()).into_iter().flatten();
        let mut names: Vec<(usize, &str)> = outputs
            .filter_map(|name| match name.strip_prefix("logits")? {
                "" => Some((0, name.as_str())),
                number => Some((number.parse().ok()?, name.as_str())),
            })
            .collect();
        names.sort_unstable();
        names.into_iter().map(|(_, name)| name).collect()
    }

    /// Whether a chunk's `prefill` and `infer` are in packages of their own.
    pub fn ffn_is_split(&self) -> bool {
        let path = |name: &str| self.components.get(name).map(|component| &component.file_path);
        match self.ffn_execution.as_deref() {
            Some(mode) => mode == "split",
            None => match (path("ffn_prefill"), path("ffn_infer")) {
                (Some(prefill), Some(infer)) => prefill != infer,
                _ => false,
            },
        }
    }

    /// Whether prompts run token by token.
    pub fn prefill_is_single_token(&self) -> bool {
        self.ffn_prefill_input_shape().is_none_or(|shape| shape.get(1) == Some(&1))
    }

    /// Whether prompts run in windows of more than one token.
    pub fn expects_full_sequence_prefill(&self) -> bool {
        !self.prefill_is_single_token()
    }
}

impl PackageNaming {
    /// Names as ANEMLL gives them to Qwen models: `qwen_embeddings`, `qwen_FFN_PF_chunk_01of01`,
    /// `qwen_lm_head`, with either ending.
    pub fn standard_qwen() -> Self {
        PackageNaming::prefixed("qwen")
    }
}
