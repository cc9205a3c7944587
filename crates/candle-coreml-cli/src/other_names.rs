//! Commands by the names that other tools have for them, and what is made of the definition of all
//! commands: completions and manual pages.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use clap_complete::Shell;

use crate::args::{self, Args, Command, RemoveArgs, ShowArgs};
use crate::{names, term};

/// What `list` stands for.
pub fn list() -> Result<Command> {
    command(&["cache", "list"], vec![])
}

/// What `show` stands for: a language model's directory is `config`'s; what is a package, `inspect`'s.
pub fn show(args: &ShowArgs) -> Result<Command> {
    let name = if names::is_package(&args.model) { "inspect" } else { "config" };
    let options: &[&str] = if args.json { &[name, "--json"] } else { &[name] };
    command(options, vec![args.model.clone().into()])
}

/// What `rm` stands for.
pub fn remove(args: &RemoveArgs) -> Result<Command> {
    let mut options = vec!["cache", "prune", "--all"];
    options.extend(args.dry_run.then_some("--dry-run"));
    options.extend(args.yes.then_some("--yes"));
    command(&options, args.models.iter().map(OsString::from).collect())
}

/// The command of a command line, so that a short name means what its long form means.
fn command(options: &[&str], operands: Vec<OsString>) -> Result<Command> {
    let words = ["candle-coreml"].iter().chain(options).chain(&["--"]).map(OsString::from);
    let words: Vec<OsString> = words.chain(operands).collect();
    Ok(Args::read(&words)?.command)
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
