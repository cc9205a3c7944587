//! Writes down what was found in a directory: as a configuration, and in words.

use std::collections::HashMap;
use std::path::Path;
use std::time::SystemTime;

use coreml_format::description::{FeatureDescription, ShapeFlexibility};

use super::discovery::Discovery;
use super::layout::Layout;
use super::model_config::{
    ComponentConfig, ModelConfig, ModelInfo, NamingConfig, ShapeConfig, TensorConfig,
};
use super::packages::PackageNaming;
use super::recommended::RecommendedSampling;
use super::roles::{Chunk, Component};
use crate::error::Result;

/// What a model's directory holds, for programs and for people.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Explanation {
    /// Components and sizes.
    pub config: ModelConfig,
    /// How the model is driven, in words.
    pub habits: Vec<String>,
    /// What is odd, in words.
    pub findings: Vec<String>,
    /// How its makers recommend to generate with it.
    pub recommended: RecommendedSampling,
}

/// Finds the components of a model's directory, and tells how the model is driven and what is odd
/// about it. `model_id` is the model's name on the hub, if it has one.
///
/// # Errors
/// When a component is missing or several could be one, or they do not fit together.
pub fn explain(directory: impl AsRef<Path>, model_id: Option<&str>) -> Result<Explanation> {
    let discovery = Discovery::new(directory.as_ref(), &PackageNaming::default(), None)?;
    let layout = Layout::new(&discovery)?;
    let mut config = describe(&discovery, &layout);
    config.model_info.model_id = model_id.map(str::to_owned);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    config.model_info.discovered_at = now.ok().map(|now| now.as_secs().to_string());
    let recommended = RecommendedSampling::of(&discovery, &layout)?;
    let habits = layout.habits();
    Ok(Explanation {
        config,
        habits,
        findings: findings(layout.findings, &recommended),
        recommended,
    })
}

/// What is odd: of the packages, and of the settings.
pub(crate) fn findings(packages: Vec<String>, recommended: &RecommendedSampling) -> Vec<String> {
    packages.into_iter().chain(recommended.ignored.iter().map(ToString::to_string)).collect()
}

/// The configuration that says what was found.
pub(crate) fn describe(discovery: &Discovery, layout: &Layout) -> ModelConfig {
    let Discovery { directory, components, .. } = discovery;
    let named = components.named().into_iter();
    ModelConfig {
        model_info: ModelInfo {
            model_id: None,
            path: Some(directory.display().to_string()),
            model_type: architecture(discovery),
            discovered_at: None,
        },
        shapes: ShapeConfig {
            batch_size: layout.window,
            context_length: layout.context,
            hidden_size: match layout.hidden {
                0 => discovery.original.size("hidden_size").unwrap_or(0),
                hidden => hidden,
            },
            vocab_size: layout.vocabulary(),
        },
        components: named
            .map(|(name, found)| {
                let config = component(directory, &name, found, layout);
                (name, config)
            })
            .collect(),
        naming: NamingConfig::default(),
        ffn_execution: components.chunks.first().and_then(ffn_execution).map(str::to_owned),
    }
}

fn ffn_execution(chunk: &Chunk) -> Option<&'static str> {
    let prefill = chunk.prefill.as_ref()?;
    Some(if prefill.path == chunk.infer.path { "unified" } else { "split" })
}

/// As `meta.yaml` or `config.json` tells it.
fn architecture(discovery: &Discovery) -> String {
    let told = discovery.manifest.as_ref().and_then(|manifest| manifest.architecture.clone());
    told.or_else(|| discovery.original.model_type()).unwrap_or_else(|| "unknown".to_owned())
}

/// A component's entry in a configuration.
fn component(directory: &Path, name: &str, found: &Component, layout: &Layout) -> ComponentConfig {
    let tensors = |features: &[FeatureDescription]| {
        let tensor = |feature: &FeatureDescription| {
            let ty = feature.ty.as_multi_array()?;
            let tensor = TensorConfig {
                name: feature.name.clone(),
                shape: largest(&ty.shape, &ty.flexibility),
                data_type: ty.element.name().to_uppercase(),
            };
            Some((feature.name.clone(), tensor))
        };
        features.iter().filter_map(tensor).collect::<HashMap<_, _>>()
    };
    let mut outputs = tensors(&found.function.outputs);
    if name == "embeddings"
        && let Some(hidden) = outputs.get_mut("hidden_states")
    {
        // Unstated where the number of tokens is free.
        hidden.shape = vec![1, layout.window, layout.hidden];
    }
    outputs.retain(|_, tensor| !tensor.shape.is_empty());
    // Within the directory, so that the two can move together.
    let path = found.path.strip_prefix(directory).unwrap_or(&found.path);
    ComponentConfig {
        file_path: Some(path.display().to_string()),
        inputs: tensors(&found.function.inputs),
        outputs,
        functions: vec![found.function.name.clone()],
        input_order: None,
    }
}

/// The shape that stands for all that are allowed.
fn largest(shape: &[usize], flexibility: &ShapeFlexibility) -> Vec<usize> {
    match flexibility {
        ShapeFlexibility::Enumerated(shapes) => {
            let size = |shape: &&Vec<usize>| shape.iter().product::<usize>();
            shapes.iter().max_by_key(size).cloned().unwrap_or_default()
        }
        ShapeFlexibility::Ranges(ranges) => {
            ranges.iter().zip(shape).map(|(range, &size)| range.1.unwrap_or(size)).collect()
        }
        // Fixed, or free in a way that is not known here: the stated one.
        _ => shape.to_vec(),
    }
}
