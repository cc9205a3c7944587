//! Commands by the names that other tools have for them, and what is made of the definition of all
//! commands: completions and manual pages.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use clap_complete::Shell;

use crate::args::{self, CacheCommand, ConfigArgs, InspectArgs, PruneArgs, RemoveArgs, ShowArgs};
use crate::{cache, config, inspect, term};

/// A language model's directory is `config`'s; what is a package, `inspect`'s.
pub fn show(args: &ShowArgs) -> Result<()> {
    let package = args.model.extension().and_then(|extension| extension.to_str());
    let model = args.model.clone();
    match package {
        Some("mlpackage" | "mlmodel" | "mlmodelc") => {
            inspect::run(&InspectArgs { model, plan: false, function: None, json: args.json })
        }
        _ => config::run(&ConfigArgs { directory: model, json: args.json, write: false }),
    }
}

/// Removes models from the cache.
pub fn remove(args: &RemoveArgs) -> Result<()> {
    let RemoveArgs { models, dry_run, yes } = args;
    let prune = PruneArgs { models: models.clone(), all: true, dry_run: *dry_run, yes: *yes };
    cache::run(&CacheCommand::Prune(prune))
}

/// Prints what a shell needs to complete commands and options.
pub fn completions(shell: Shell) -> Result<()> {
    // The generator panics where it can't write.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut args::command(), "candle-coreml", &mut script);
    Ok(term::data().write_all(&script)?)
}

/// Writes manual pages into a directory, or prints that of the program.
pub fn manual(directory: Option<&Path>) -> Result<()> {
    let command = args::command();
    let Some(directory) = directory else {
        return Ok(clap_mangen::Man::new(command).render(&mut term::data())?);
    };
    fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(command, directory))
        .with_context(|| format!("can't write manual pages to {}", directory.display()))
}
