//! What a given configuration asks for: which packages and functions, with which shapes.

use std::path::{self, Path, PathBuf};

use coreml_format::description::FeatureDescription;

use super::model_config::{ModelConfig, TensorConfig};
use super::packages::OpenedPackages;
use super::roles::{Chunk, Component, Components, chunk_key};
use crate::error::{Error, Result};
use crate::words::list;

/// What a given configuration asks for.
pub(super) struct Stated<'a> {
    pub(super) directory: &'a Path,
    pub(super) config: &'a ModelConfig,
    /// Whether it came with the model, so that its paths must not lead out of the directory.
    pub(super) foreign: bool,
    pub(super) opened: &'a OpenedPackages,
}

impl Stated<'_> {
    /// The components of a configuration that states the packages of its layers.
    pub(super) fn components(&self) -> Result<Option<Components>> {
        let stated =
            |name: &str| self.config.components.get(name).is_some_and(|c| c.file_path.is_some());
        let prefix = if stated("infer") { "" } else { "ffn_" };
        if !stated(&format!("{prefix}infer")) && !stated(&format!("{prefix}prefill")) {
            return Ok(None);
        }
        let mut chunks = Vec::new();
        loop {
            let key = |function: &str| chunk_key(prefix, function, chunks.len());
            let prefill = self.component(&key("prefill"), "prefill")?;
            // Older configurations state a package with both functions once.
            let infer = match self.component(&key("infer"), "infer")? {
                None => self.component(&key("prefill"), "infer")?,
                found => found,
            };
            let Some(infer) = infer else { break };
            let infer_rotate = self.component(&key("infer_rotate"), "infer_rotate")?;
            chunks.push(Chunk {
                prefill: prefill.filter(|found| *found != infer),
                infer,
                infer_rotate,
            });
        }
        let needed = |name: &str| {
            self.component(name, "main")?.map(Some).ok_or_else(|| {
                let message = format!(
                    "the configuration states the model's layers but no `{name}`; set \
                     components.{name}.file_path, or leave all paths out to have them found"
                );
                Error::language_model(self.directory, message)
            })
        };
        let whole = prefix.is_empty();
        let hands_on = |chunk: &Chunk| {
            let outputs = &chunk.infer.function.outputs;
            outputs.iter().any(|output| output.name == "output_hidden_states")
        };
        let predicts = !chunks.last().is_some_and(hands_on);
        Ok(Some(Components {
            embeddings: if whole { None } else { needed("embeddings")? },
            lm_head: if predicts { None } else { needed("lm_head")? },
            chunks,
            findings: Vec::new(),
        }))
    }

    /// A stated component; `function` is its name where the configuration does not tell.
    fn component(&self, name: &str, function: &str) -> Result<Option<Component>> {
        let Some(config) = self.config.components.get(name) else { return Ok(None) };
        let Some(stated) = &config.file_path else { return Ok(None) };
        let path = self.resolve(name, Path::new(stated))?;
        let all = self.opened.functions(&path)?;
        let wanted = match config.functions.as_slice() {
            [only] => only,
            several if several.iter().any(|name| name == function) => function,
            [] if all.iter().any(|found| found.name == function) => function,
            [] if all.len() == 1 => all[0].name.as_str(),
            _ => function,
        };
        match all.iter().find(|found| found.name == wanted) {
            Some(found) => Ok(Some(Component { path, function: found.clone() })),
            None => {
                let names: Vec<&str> = all.iter().map(|found| found.name.as_str()).collect();
                let message = format!(
                    "component `{name}` asks for function `{wanted}`; the package has {}; look at \
                     components.{name}.functions",
                    list(&names)
                );
                Err(Error::language_model(path, message))
            }
        }
    }

    /// A path as it is stated, or the file of that name in the model's directory: configurations
    /// travel between machines.
    fn resolve(&self, name: &str, stated: &Path) -> Result<PathBuf> {
        let file = Path::new(stated.file_name().unwrap_or_default());
        let compiled = file.with_extension("mlmodelc");
        let source = file.with_extension("mlpackage");
        let within = stated.components().all(|part| matches!(part, path::Component::Normal(_)));
        let places = [
            self.directory.join(if within || !self.foreign { stated } else { file }),
            self.directory.join(file),
            self.directory.join("coreml").join(file),
            self.directory.join(source),
            self.directory.join(compiled),
        ];
        places.into_iter().find(|path| path.exists()).ok_or_else(|| {
            let message = format!(
                "component `{name}`: there is no `{}`; look at components.{name}.file_path",
                stated.display()
            );
            Error::language_model(self.directory, message)
        })
    }

    /// Compares the stated shapes with the packages': they must agree where the package is stated
    /// too. What differs elsewhere is told, as the packages are right.
    pub(super) fn check(&self, components: &Components) -> Result<Vec<String>> {
        let mut differing = Vec::new();
        for (name, found) in components.named() {
            let Some(config) = self.config.components.get(&name) else { continue };
            let sides = [
                ("input", &config.inputs, &found.function.inputs),
                ("output", &config.outputs, &found.function.outputs),
            ];
            for (side, stated, features) in sides {
                for tensor in stated.values() {
                    match check_tensor(&name, side, tensor, features, &found.path) {
                        Err(error) if config.file_path.is_some() => return Err(error),
                        Err(error) => differing.push(error.to_string()),
                        Ok(()) => {}
                    }
                }
            }
        }
        Ok(differing)
    }
}

fn check_tensor(
    component: &str,
    side: &str,
    stated: &TensorConfig,
    features: &[FeatureDescription],
    path: &Path,
) -> Result<()> {
    let wrong = |message: String| {
        let message = format!("component `{component}`, {side} `{}`: {message}", stated.name);
        Err(Error::language_model(path, message))
    };
    let Some(feature) = features.iter().find(|feature| feature.name == stated.name) else {
        let names: Vec<&str> = features.iter().map(|feature| feature.name.as_str()).collect();
        return wrong(format!("the package has none of this name, only {}", list(&names)));
    };
    let Some(ty) = feature.ty.as_multi_array() else { return Ok(()) };
    if ty.allows(&stated.shape) {
        return Ok(());
    }
    wrong(format!(
        "the configuration expects the shape {:?}, found {ty}; look at {}, or leave the component \
         out to have it discovered",
        stated.shape,
        setting(&stated.name, &stated.shape, &ty.shape)
    ))
}

/// The setting that a shape follows from.
fn setting(tensor: &str, stated: &[usize], found: &[usize]) -> &'static str {
    let last_differs = stated.last() != found.last();
    match tensor {
        "causal_mask" | "causalMask" if last_differs => "shapes.context_length",
        "hidden_states" | "output_hidden_states" if last_differs => "shapes.hidden_size",
        name if name.starts_with("logits") && last_differs => "shapes.vocab_size",
        _ => "shapes.batch_size",
    }
}
