//! Layers, stages and labels of models of other kinds than ML Programs, for people.

use candle_coreml::{ClassLabels, Contents, LayerCount, StageContents};
use coreml_format::printable_name;

use crate::table::Table;

/// Labels that are printed; the rest is counted.
const MOST_LABELS: usize = 10;

/// Each part under its title.
pub fn text(contents: &Contents, width: Option<usize>) -> String {
    let mut text = String::new();
    let mut layers = Table::new(&[]).right(&[0]);
    for LayerCount { kind, count, .. } in &contents.layers {
        layers.row([count.to_string(), (*kind).to_owned()]);
    }
    text.push_str(&layers.titled("Layers", width));
    if !contents.stages.is_empty() {
        text.push_str("\nStages\n");
        contents.stages.iter().for_each(|stage| add(stage, &mut text, 1));
    }
    if let Some(labels) = &contents.labels {
        text.push_str(&format!("\nLabels\n  {}\n", in_words(labels)));
    }
    text
}

/// Adds a stage, with what it is made of, on a line each.
fn add(stage: &StageContents, text: &mut String, depth: usize) {
    let indent = "  ".repeat(depth);
    let Contents { layers, stages, labels, .. } = &stage.contents;
    let count: usize = layers.iter().map(|layer| layer.count).sum();
    let name = match stage.name.as_str() {
        "" => String::new(),
        name => format!("{}: ", printable_name(name)),
    };
    let layers = match count {
        0 => String::new(),
        1 => ", 1 layer".to_owned(),
        count => format!(", {count} layers"),
    };
    let labels = labels.as_ref().map_or_else(String::new, |l| format!("; {}", in_words(l)));
    text.push_str(&format!("{indent}{name}{}{layers}{labels}\n", stage.kind));
    stages.iter().for_each(|stage| add(stage, text, depth + 1));
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
