//! `config`: what a language model's directory holds.

use std::io::Write as _;

use anyhow::Result;
use candle_coreml::config::{CONFIG_FILE, ComponentConfig, Explanation, TensorConfig, explain};
use candle_coreml::{ModelConfig, RecommendedSampling};
use coreml_format::{printable_message, printable_name};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::args::ConfigArgs;
use crate::download;
use crate::printable::{self, LONGEST_TEXT};
use crate::term;

/// Shows the components of a directory, and writes them down if asked to.
pub fn run(args: &ConfigArgs) -> Result<()> {
    let (directory, _demo) = download::model_directory(&args.directory)?;
    let Explanation { config, habits, findings, recommended, .. } = explain(&directory, None)?;
    let mut stdout = term::out();
    if args.json {
        let report = Report { config: &config, recommended_sampling: &recommended };
        writeln!(stdout, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        write!(stdout, "{}", printable::lines(&text(&config), LONGEST_TEXT))?;
        write!(stdout, "{}", printable::lines(&recommended_text(&recommended)?, LONGEST_TEXT))?;
        for habit in &habits {
            writeln!(stdout, "{}", printable_message(&habit.to_string()))?;
        }
    }
    for finding in &findings {
        let finding = finding.to_string();
        let finding = printable_message(&finding);
        // JSON goes to programs.
        if args.json {
            term::say(format_args!("odd: {finding}"));
        } else {
            writeln!(stdout, "odd: {finding}")?;
        }
    }
    if args.write {
        let path = directory.join(CONFIG_FILE);
        config.save_to_file(&path)?;
        term::tell(format_args!("wrote {}", path.display()));
    }
    Ok(())
}

/// The configuration for programs, with what is no part of it.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    config: &'a ModelConfig,
    recommended_sampling: &'a RecommendedSampling,
}

/// The recommended settings for people, with the files that they come from.
fn recommended_text(recommended: &RecommendedSampling) -> Result<String> {
    let told: Map<String, Value> = serde_json::from_value(serde_json::to_value(recommended)?)?;
    // The files are named once, and what is ignored is among the oddities.
    let settings: Vec<String> = told
        .iter()
        .filter(|(key, _)| !matches!(key.as_str(), "files" | "ignored"))
        .map(|(key, value)| format!("{key} {value}"))
        .collect();
    if settings.is_empty() {
        return Ok(String::new());
    }
    let choice = match recommended.do_sample {
        Some(true) if recommended.temperature != Some(0.0) => "samples",
        _ => "takes the most likely token",
    };
    let files = recommended.files.join(", ");
    Ok(format!("recommended in {files}: {}\n  a chat {choice}\n", settings.join(", ")))
}

/// The configuration for people.
fn text(config: &ModelConfig) -> String {
    let shapes = &config.shapes;
    let mut text = format!(
        "{} model: context {} tokens, window {}, hidden size {}, vocabulary {}\n",
        printable_name(&config.model_info.model_type),
        shapes.context_length,
        shapes.batch_size,
        shapes.hidden_size,
        shapes.vocab_size,
    );
    let mut names: Vec<&String> = config.components.keys().collect();
    names.sort_by_key(|name| order(name));
    for name in names {
        if let Some(component) = config.components.get(name) {
            text.push_str(&component_text(name, component));
        }
    }
    text
}

/// Components in the order in which they run.
fn order(name: &str) -> (usize, usize, String) {
    let place = match name {
        "embeddings" => 0,
        "lm_head" => 2,
        _ => 1,
    };
    let chunk = name.rsplit_once('_').and_then(|(_, number)| number.parse().ok()).unwrap_or(1);
    (place, chunk, name.to_owned())
}

fn component_text(name: &str, component: &ComponentConfig) -> String {
    let tensors = |tensors: &std::collections::HashMap<String, TensorConfig>| {
        let mut all: Vec<String> = tensors
            .values()
            .map(|tensor| format!("{} {:?}", printable_name(&tensor.name), tensor.shape))
            .collect();
        all.sort();
        match all.len() {
            0..=8 => all.join(", "),
            count => format!("{}, … {count} in all", all[..2].join(", ")),
        }
    };
    format!(
        "{}: {}, function {}\n  takes {}\n  gives {}\n",
        printable_name(name),
        printable_name(component.file_path.as_deref().unwrap_or("?")),
        printable_name(&component.functions.join(", ")),
        tensors(&component.inputs),
        tensors(&component.outputs),
    )
}
