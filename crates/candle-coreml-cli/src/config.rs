//! `config`: what a language model's directory holds.

use std::io::{self, Write as _};

use anyhow::Result;
use candle_coreml::ModelConfig;
use candle_coreml::config::{CONFIG_FILE, ComponentConfig, Explanation, TensorConfig, explain};

use crate::args::ConfigArgs;
use crate::download;
use crate::printable::{self, LONGEST_TEXT, printable};

/// Shows the components of a directory, and writes them down if asked to.
pub fn run(args: &ConfigArgs) -> Result<()> {
    let directory = download::model_directory(&args.directory)?;
    let Explanation { config, habits, findings, .. } = explain(&directory, None)?;
    let mut stdout = io::stdout();
    if args.json {
        writeln!(stdout, "{}", serde_json::to_string_pretty(&config)?)?;
    } else {
        write!(stdout, "{}", printable::lines(&text(&config), LONGEST_TEXT))?;
        for habit in &habits {
            writeln!(stdout, "{}", printable::line(&habit.to_string()))?;
        }
    }
    for finding in &findings {
        let finding = printable::line(&finding.to_string());
        // JSON goes to programs.
        if args.json {
            eprintln!("odd: {finding}");
        } else {
            writeln!(stdout, "odd: {finding}")?;
        }
    }
    if args.write {
        let path = directory.join(CONFIG_FILE);
        config.save_to_file(&path)?;
        eprintln!("wrote {}", path.display());
    }
    Ok(())
}

/// The configuration for people.
fn text(config: &ModelConfig) -> String {
    let shapes = &config.shapes;
    let mut text = format!(
        "{} model: context {} tokens, window {}, hidden size {}, vocabulary {}\n",
        printable(&config.model_info.model_type),
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
            .map(|tensor| format!("{} {:?}", printable(&tensor.name), tensor.shape))
            .collect();
        all.sort();
        match all.len() {
            0..=8 => all.join(", "),
            count => format!("{}, … {count} in all", all[..2].join(", ")),
        }
    };
    format!(
        "{}: {}, function {}\n  takes {}\n  gives {}\n",
        printable(name),
        printable(component.file_path.as_deref().unwrap_or("?")),
        printable(&component.functions.join(", ")),
        tensors(&component.inputs),
        tensors(&component.outputs),
    )
}
