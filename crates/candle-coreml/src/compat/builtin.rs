//! Configurations of well-known models.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::config::{
    ComponentConfig, ModelConfig, ModelInfo, NamingConfig, ShapeConfig, TensorConfig,
};

/// Configurations of well-known models by their names on the hub. Loading does not need them, since
/// what a directory holds is found without; they tell sizes before anything is downloaded.
///
/// Sizes are those of the original models' `config.json`, and context, window and LM head parts
/// those that ANEMLL's names and defaults state.
pub static BUILTIN_CONFIGS: LazyLock<HashMap<&'static str, ModelConfig>> =
    LazyLock::new(|| KNOWN.iter().map(|known| (known.id, known.config())).collect());

/// The configuration of a well-known model.
pub fn get_builtin_config(model_id: &str) -> Option<ModelConfig> {
    BUILTIN_CONFIGS.get(model_id).cloned()
}

/// Sizes of a model in components.
struct Known {
    id: &'static str,
    model_type: &'static str,
    context: usize,
    window: usize,
    hidden: usize,
    vocabulary: usize,
    parts: usize,
}

const KNOWN: &[Known] = &[
    Known {
        id: "anemll/anemll-Qwen-Qwen3-0.6B-LUT888-ctx512_0.3.4",
        model_type: "qwen3",
        context: 512,
        window: 64,
        hidden: 1024,
        vocabulary: 151_936,
        parts: 16,
    },
    Known {
        id: "anemll/anemll-Qwen-Qwen3-0.6B-ctx512_0.3.4",
        model_type: "qwen3",
        context: 512,
        window: 64,
        hidden: 1024,
        vocabulary: 151_936,
        parts: 16,
    },
    Known {
        id: "anemll/anemll-Qwen-Qwen3-1.7B-ctx2048_0.3.5",
        model_type: "qwen3",
        context: 2048,
        window: 64,
        hidden: 2048,
        vocabulary: 151_936,
        parts: 16,
    },
    Known {
        id: "anemll/anemll-meta-llama-Llama-3.2-1B-Instruct-ctx1024_0.3.4",
        model_type: "llama",
        context: 1024,
        window: 64,
        hidden: 2048,
        vocabulary: 128_256,
        parts: 8,
    },
];

impl Known {
    fn config(&self) -> ModelConfig {
        let Known { context, window, hidden, vocabulary, parts, .. } = *self;
        let layers = |rows: usize, given: usize| {
            component(
                &[
                    int("position_ids", &[rows]),
                    int("current_pos", &[1]),
                    float("hidden_states", &[1, rows, hidden]),
                    float("causal_mask", &[1, 1, rows, context]),
                ],
                &[float("output_hidden_states", &[1, given, hidden])],
            )
        };
        let logits: Vec<TensorConfig> = (1..=parts)
            .map(|part| float(&format!("logits{part}"), &[1, 1, vocabulary / parts]))
            .collect();
        let components = [
            (
                "embeddings",
                component(
                    &[int("input_ids", &[1, window])],
                    &[float("hidden_states", &[1, window, hidden])],
                ),
            ),
            ("ffn_prefill", layers(window, 1)),
            ("ffn_infer", layers(1, 1)),
            ("lm_head", component(&[float("hidden_states", &[1, 1, hidden])], &logits)),
        ];
        ModelConfig {
            model_info: ModelInfo {
                model_id: Some(self.id.to_owned()),
                model_type: self.model_type.to_owned(),
                ..ModelInfo::default()
            },
            shapes: ShapeConfig {
                batch_size: window,
                context_length: context,
                hidden_size: hidden,
                vocab_size: vocabulary,
            },
            components: components.map(|(name, found)| (name.to_owned(), found)).into(),
            naming: NamingConfig::default(),
            ffn_execution: Some("unified".to_owned()),
        }
    }
}

fn component(inputs: &[TensorConfig], outputs: &[TensorConfig]) -> ComponentConfig {
    let by_name = |tensors: &[TensorConfig]| {
        tensors.iter().map(|tensor| (tensor.name.clone(), tensor.clone())).collect()
    };
    ComponentConfig {
        inputs: by_name(inputs),
        outputs: by_name(outputs),
        ..ComponentConfig::default()
    }
}

fn int(name: &str, shape: &[usize]) -> TensorConfig {
    tensor(name, shape, "INT32")
}

fn float(name: &str, shape: &[usize]) -> TensorConfig {
    tensor(name, shape, "FLOAT16")
}

fn tensor(name: &str, shape: &[usize], data_type: &str) -> TensorConfig {
    TensorConfig { name: name.to_owned(), shape: shape.to_vec(), data_type: data_type.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builtin_configurations_are_consistent() {
        for (id, config) in BUILTIN_CONFIGS.iter() {
            config.validate().unwrap_or_else(|error| panic!("{id}: {error}"));
            config.validate_internal_wiring().unwrap_or_else(|error| panic!("{id}: {error}"));
            assert_eq!(config.shapes.vocab_size % config.logits_part_count(), 0, "{id}");
        }
        assert!(get_builtin_config("nobody/nothing").is_none());
    }
}
