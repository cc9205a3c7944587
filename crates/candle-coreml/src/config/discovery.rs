//! Finds out what a directory holds.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use coreml_format::Package;
#[cfg(test)]
use coreml_format::description::ModelDescription;

use super::facts::FunctionFacts;
use super::manifest::Manifest;
use super::model_config::{CONFIG_FILE, ModelConfig};
use super::original_config::OriginalConfig;
#[cfg(test)]
use super::packages::{FoundPackage, functions};
use super::packages::{OpenedPackages, PackageNaming, is_package};
use super::roles::{self, Component, Components};
use super::stated::Stated;
use crate::error::{Error, Result};

/// What was found in a model's directory.
#[derive(Debug)]
pub(crate) struct Discovery {
    pub(crate) directory: PathBuf,
    pub(crate) components: Components,
    /// Of each component's function, by package and name.
    pub(crate) facts: HashMap<(PathBuf, String), FunctionFacts>,
    pub(crate) manifest: Option<Manifest>,
    pub(super) original: OriginalConfig,
    /// What was read to find all that.
    pub(crate) opened: OpenedPackages,
}

impl Discovery {
    /// Looks into a directory. `config`, or else the directory's [`CONFIG_FILE`], chooses packages
    /// and functions where it states them, and must agree with them.
    pub(crate) fn new(
        directory: &Path,
        naming: &PackageNaming,
        config: Option<&ModelConfig>,
    ) -> Result<Self> {
        check_directory(directory)?;
        let manifest = Manifest::read(directory)?;
        let opened = OpenedPackages::new(directory);
        let given = config.filter(|config| !config.components.is_empty());
        let written = match given {
            None => ModelConfig::read(&directory.join(CONFIG_FILE))?,
            Some(_) => None,
        };
        let stated = given.or(written.as_ref()).map(|config| Stated {
            directory,
            config,
            foreign: written.is_some(),
            opened: &opened,
        });
        let mut components = match stated.as_ref().map(Stated::components).transpose()?.flatten() {
            Some(components) => components,
            None => {
                let packages = naming.packages(directory, &opened)?;
                roles::components(directory, &packages, manifest.as_ref())?
            }
        };
        let facts = facts(&components, &opened)?;
        if let Some(stated) = stated {
            let differing = stated.check(&components)?;
            components.findings.extend(differing);
        }
        Ok(Discovery {
            directory: directory.to_owned(),
            components,
            facts,
            manifest,
            original: OriginalConfig::read(directory)?,
            opened,
        })
    }

    /// What a directory of packages with these descriptions is.
    #[cfg(test)]
    pub(crate) fn of_descriptions(
        packages: &[(&str, &ModelDescription)],
        manifest: Option<Manifest>,
    ) -> Result<Self> {
        let package = |(stem, description): &(&str, &ModelDescription)| FoundPackage {
            stem: (*stem).to_owned(),
            path: PathBuf::from(stem),
            functions: Ok(functions(description)),
        };
        let packages: Vec<_> = packages.iter().map(package).collect();
        let directory = PathBuf::from("directory");
        Ok(Discovery {
            components: roles::components(&directory, &packages, manifest.as_ref())?,
            facts: HashMap::new(),
            opened: OpenedPackages::new(&directory),
            directory,
            manifest,
            original: OriginalConfig::default(),
        })
    }

    /// The facts about a component's function; none where its package has no program.
    pub(super) fn facts(&self, component: &Component) -> &FunctionFacts {
        static NONE: std::sync::LazyLock<FunctionFacts> =
            std::sync::LazyLock::new(FunctionFacts::default);
        let key = (component.path.clone(), component.function.name.clone());
        self.facts.get(&key).unwrap_or(&NONE)
    }
}

/// Says what lies at a path that should be the directory of a language model.
fn check_directory(directory: &Path) -> Result<()> {
    let failed = |source| Error::Io { path: directory.to_owned(), source };
    let there = directory.metadata().map_err(failed)?;
    if !there.is_dir() {
        let message = format!(
            "is {}; a language model is a directory with packages (.mlpackage or .mlmodelc) and a \
             tokenizer",
            coreml_format::files::name_of(there.file_type())
        );
        return Err(failed(io::Error::new(io::ErrorKind::NotADirectory, message)));
    }
    if is_package(directory) && Package::open(directory).is_ok() {
        let message = "is a model package; a language model is the directory that its packages lie \
                       in, with a tokenizer";
        return Err(Error::language_model(directory, message));
    }
    Ok(())
}

/// The facts about the functions of all components but the embeddings.
fn facts(
    components: &Components,
    opened: &OpenedPackages,
) -> Result<HashMap<(PathBuf, String), FunctionFacts>> {
    let layers = components.chunks.iter().flat_map(|chunk| {
        [Some(&chunk.infer), chunk.prefill.as_ref(), chunk.infer_rotate.as_ref()]
    });
    let all = layers.chain([components.lm_head.as_ref()]).flatten();
    let mut facts = HashMap::new();
    for component in all {
        let package = opened.open(&component.path)?;
        let program = package.program()?;
        if let Some(function) = program.functions.get(&component.function.name) {
            let key = (component.path.clone(), component.function.name.clone());
            facts.insert(key, FunctionFacts::new(function));
        }
    }
    Ok(facts)
}
