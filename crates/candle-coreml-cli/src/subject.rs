//! What `bench` and `profile` measure: a model on inputs, or a language model.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use candle_coreml::{Cost, Features, LanguageModelOptions, LoadOptions, Machine, Package};
use coreml_format::printable_path;

use crate::args::SubjectArgs;
use crate::demo::Demo;
use crate::exit::Exit;
use crate::made_up::{self, Given};
use crate::{download, generate, names, term};

/// What is measured.
pub enum Subject {
    /// A model, with all inputs in the function's order.
    Model { path: PathBuf, options: Box<LoadOptions>, inputs: Vec<Given> },
    /// A language model. The demo's files have to stay as long as it.
    Language { directory: PathBuf, options: Box<LanguageModelOptions>, _demo: Option<Demo> },
}

impl Subject {
    /// What the command line names.
    pub fn new(args: &SubjectArgs) -> Result<Self> {
        let SubjectArgs { model, trial, compute } = args;
        if names::is_package(model) {
            let options = trial.load_options(&compute.threads)?;
            let options = options.precision(compute.precision()).numerics(compute.numerics());
            let package = Package::open(model)?;
            let description = package.description()?;
            let name = trial.function.as_deref().unwrap_or(&description.default_function);
            // What function there is instead, loading tells.
            let function = description.function(name);
            let inputs = function.map(|function| made_up::fill_in(trial, &function)).transpose()?;
            let inputs = inputs.unwrap_or_default();
            return Ok(Subject::Model { path: model.clone(), options: Box::new(options), inputs });
        }
        if trial.function.is_some() || !trial.inputs.is_empty() {
            let advice = "--function and --input are for a .mlpackage, .mlmodel or .mlmodelc, not for a language model";
            return Err(Exit::Usage(advice.to_owned()).into());
        }
        let options = Box::new(generate::options(compute)?);
        let (directory, demo) = download::model_directory(model)?;
        Ok(Subject::Language { directory, options, _demo: demo })
    }
}

/// Inputs by name.
pub fn features(inputs: &[Given]) -> Features {
    let value = |given: &Given| (given.input.name.clone(), given.input.value.clone());
    inputs.iter().map(value).collect()
}

/// Writes a page: all of it, or nothing.
pub fn write_page(file: &Path, page: &str) -> Result<()> {
    let written = || -> std::io::Result<()> {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        let mut temporary = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
        temporary.write_all(page.as_bytes())?;
        temporary.persist(file)?;
        Ok(())
    };
    written().with_context(|| format!("can't write {}", printable_path(file)))?;
    term::tell(format_args!("wrote {}", printable_path(file)));
    Ok(())
}

/// Titles of the columns of [`cells`].
pub const COLUMNS: [&str; 6] = ["times", "ms", "share", "MB", "GB/s", "GFLOP/s"];

/// What something has taken, and how much of what the machine can do, where that is known.
pub fn cells(cost: &Cost, machine: Option<&Machine>) -> Vec<String> {
    let flops = match cost.flops {
        0 => String::new(),
        _ => format!("{:.1}", cost.gigaflops_per_second),
    };
    let mut cells = vec![
        cost.times.to_string(),
        format!("{:.3}", cost.seconds * 1e3),
        format!("{:.1} %", cost.share * 100.0),
        format!("{:.1}", cost.bytes() as f64 * 1e-6),
        format!("{:.1}", cost.gigabytes_per_second),
        flops,
    ];
    cells.extend(machine.map(|machine| format!("{:.0} %", machine.share(cost) * 100.0)));
    cells
}
