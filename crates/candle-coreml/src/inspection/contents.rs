//! What models of other kinds than ML Programs are made of: layers, stages, labels.

use std::collections::BTreeMap;

use coreml_format::model::ClassLabels;
use coreml_format::{Body, Model};
use serde::Serialize;

/// What a model is made of besides a program. Parts that are empty are not serialized.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Contents {
    /// A neural network's layers by kind, the most frequent first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<LayerCount>,
    /// A pipeline's models.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<StageContents>,
    /// A classifier's classes; those of a pipeline are told of its stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<ClassLabels>,
}

/// How often a kind of layer occurs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LayerCount {
    /// The kind, e.g. `convolution`.
    pub kind: &'static str,
    /// How often it occurs.
    pub count: usize,
}

/// A model of a pipeline.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct StageContents {
    /// Its name in the pipeline; may be empty.
    pub name: String,
    /// Its kind, as [`Model::kind`] has it.
    pub model_kind: &'static str,
    /// The kind in words.
    #[serde(skip)]
    pub kind: String,
    /// What it is made of.
    #[serde(flatten)]
    pub contents: Contents,
}

impl Contents {
    /// The parts of a model.
    pub(super) fn of(model: &Model) -> Self {
        let (mut layers, mut stages) = (Vec::new(), Vec::new());
        match &model.body {
            Body::NeuralNetwork(network) => {
                let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
                network.layers.iter().for_each(|layer| *counts.entry(layer.kind).or_default() += 1);
                layers.extend(counts.into_iter().map(|(kind, count)| LayerCount { kind, count }));
                layers.sort_by_key(|layer| std::cmp::Reverse(layer.count));
            }
            Body::Pipeline(all) => stages.extend(all.iter().map(StageContents::of)),
            _ => {}
        }
        let of_stages = !stages.is_empty();
        let labels = model.labels().filter(|_| !of_stages).map(|labels| labels.into_owned());
        Contents { layers, stages, labels }
    }
}

impl StageContents {
    fn of(stage: &coreml_format::model::Stage) -> Self {
        let model = &stage.model;
        StageContents {
            name: stage.name.clone(),
            model_kind: model.kind,
            kind: model.kind_in_words().to_string(),
            contents: Contents::of(model),
        }
    }
}
