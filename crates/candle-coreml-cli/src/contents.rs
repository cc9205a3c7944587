//! What models of other kinds than ML Programs are made of: layers, stages, labels.

use std::collections::BTreeMap;

use coreml_format::model::ClassLabels;
use coreml_format::{Body, Model, printable_name};
use serde::Serialize;

use crate::table::Table;
/// Labels that are printed; the rest is counted.
const MOST_LABELS: usize = 10;

/// What a model is made of. Empty parts are left out.
#[derive(Debug, Serialize)]
pub struct Contents {
    /// A neural network's layers by kind, the most frequent first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    layers: Vec<LayerCount>,
    /// A pipeline's models.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stages: Vec<Stage>,
    /// A classifier's classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<ClassLabels>,
}

/// How often a kind of layer occurs.
#[derive(Debug, Serialize)]
struct LayerCount {
    kind: &'static str,
    count: usize,
}

/// A model of a pipeline.
#[derive(Debug, Serialize)]
struct Stage {
    name: String,
    model_kind: &'static str,
    #[serde(skip)]
    kind: String,
    #[serde(flatten)]
    contents: Contents,
}

impl Contents {
    /// The parts of a model.
    pub fn of(model: &Model) -> Self {
        let (mut layers, mut stages) = (Vec::new(), Vec::new());
        match &model.body {
            Body::NeuralNetwork(network) => {
                let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
                network.layers.iter().for_each(|layer| *counts.entry(layer.kind).or_default() += 1);
                layers.extend(counts.into_iter().map(|(kind, count)| LayerCount { kind, count }));
                layers.sort_by_key(|layer| std::cmp::Reverse(layer.count));
            }
            Body::Pipeline(all) => stages.extend(all.iter().map(Stage::of)),
            _ => {}
        }
        let of_stages = !stages.is_empty();
        let labels = model.labels().filter(|_| !of_stages).map(|labels| labels.into_owned());
        Contents { layers, stages, labels }
    }

    /// Each part under its title, for people.
    pub fn text(&self, width: Option<usize>) -> String {
        let mut text = String::new();
        let mut layers = Table::new(&[]).right(&[0]);
        for LayerCount { kind, count } in &self.layers {
            layers.row([count.to_string(), (*kind).to_owned()]);
        }
        text.push_str(&layers.titled("Layers", width));
        if !self.stages.is_empty() {
            text.push_str("\nStages\n");
            self.stages.iter().for_each(|stage| stage.add(&mut text, 1));
        }
        if let Some(labels) = &self.labels {
            text.push_str(&format!("\nLabels\n  {}\n", in_words(labels)));
        }
        text
    }
}

impl Stage {
    fn of(stage: &coreml_format::model::Stage) -> Self {
        let model = &stage.model;
        Stage {
            name: stage.name.clone(),
            model_kind: model.kind,
            kind: model.kind_in_words().to_string(),
            contents: Contents::of(model),
        }
    }

    /// Adds the stage, with what it is made of, on a line each.
    fn add(&self, text: &mut String, depth: usize) {
        let indent = "  ".repeat(depth);
        let Contents { layers, stages, labels } = &self.contents;
        let count: usize = layers.iter().map(|layer| layer.count).sum();
        let name = match self.name.as_str() {
            "" => String::new(),
            name => format!("{}: ", printable_name(name)),
        };
        let layers = match count {
            0 => String::new(),
            1 => ", 1 layer".to_owned(),
            count => format!(", {count} layers"),
        };
        let labels = labels.as_ref().map_or_else(String::new, |l| format!("; {}", in_words(l)));
        text.push_str(&format!("{indent}{name}{}{layers}{labels}\n", self.kind));
        stages.iter().for_each(|stage| stage.add(text, depth + 1));
    }
}

/// How many labels there are, and the first ones.
fn in_words(labels: &ClassLabels) -> String {
    let first: Vec<String> = match labels {
        ClassLabels::Strings(labels) => labels
            .iter()
            .take(MOST_LABELS)
            .map(|label| printable_name(label).into_owned())
            .collect(),
        ClassLabels::Int64(labels) => {
            labels.iter().take(MOST_LABELS).map(ToString::to_string).collect()
        }
        _ => Vec::new(),
    };
    let more = if labels.len() > first.len() { ", ..." } else { "" };
    format!("{} classes: {}{more}", labels.len(), first.join(", "))
}
