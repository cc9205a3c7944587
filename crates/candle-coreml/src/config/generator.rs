//! Finds out what a directory holds.

use std::collections::HashMap;
use std::path::{self, Path, PathBuf};
use std::time::SystemTime;

use coreml_format::Package;
#[cfg(test)]
use coreml_format::description::ModelDescription;
use coreml_format::description::{FeatureDescription, ShapeFlexibility};

use super::facts::FunctionFacts;
use super::manifest::Manifest;
use super::model::{
    ComponentConfig, ModelConfig, ModelInfo, NamingConfig, ShapeConfig, TensorConfig,
};
use super::packages::{ModelNamingConfig, functions};
use super::roles::{self, Chunk, Component, Components};
use crate::error::{Error, Result, list};
use crate::llm::Layout;

/// A configuration of this name in a model's directory is used when the model is loaded.
pub const CONFIG_FILE: &str = "model_config.json";

/// What was found in a model's directory.
#[derive(Debug)]
pub(crate) struct Discovery {
    pub(crate) directory: PathBuf,
    pub(crate) components: Components,
    /// Of each component's function, by package and name.
    pub(crate) facts: HashMap<(PathBuf, String), FunctionFacts>,
    pub(crate) manifest: Option<Manifest>,
    /// Number of tokens as `config.json` tells it.
    pub(crate) vocabulary: Option<usize>,
}

impl Discovery {
    /// Looks into a directory. `config`, or else the directory's [`CONFIG_FILE`], chooses packages
    /// and functions where it states them, and must agree with them.
    pub(crate) fn new(
        directory: &Path,
        naming: &ModelNamingConfig,
        config: Option<&ModelConfig>,
    ) -> Result<Self> {
        let manifest = Manifest::read(directory)?;
        let stated = config.filter(|config| !config.components.is_empty());
        let file = directory.join(CONFIG_FILE);
        let written = match stated {
            None if file.is_file() => Some(ModelConfig::load_from_file(&file)?),
            _ => None,
        };
        let chosen = stated.or(written.as_ref()).map(|config| Chosen {
            directory,
            config,
            foreign: written.is_some(),
        });
        let components = match chosen.as_ref().map(Chosen::components).transpose()?.flatten() {
            Some(components) => components,
            None => {
                let packages = naming.packages(directory)?;
                roles::components(directory, &packages, manifest.as_ref())?
            }
        };
        let mut discovery = Discovery {
            directory: directory.to_owned(),
            facts: facts(&components)?,
            components,
            manifest,
            vocabulary: config_size(directory, "vocab_size"),
        };
        if let Some(chosen) = chosen {
            let differing = chosen.check(&discovery)?;
            discovery.components.findings.extend(differing);
        }
        Ok(discovery)
    }

    /// What a directory of packages with these descriptions is.
    #[cfg(test)]
    pub(crate) fn of_descriptions(
        packages: &[(&str, &ModelDescription)],
        manifest: Option<Manifest>,
    ) -> Result<Self> {
        let package =
            |(stem, description): &(&str, &ModelDescription)| super::packages::FoundPackage {
                stem: (*stem).to_owned(),
                path: PathBuf::from(stem),
                functions: Ok(functions(description)),
            };
        let packages: Vec<_> = packages.iter().map(package).collect();
        let directory = PathBuf::from("directory");
        Ok(Discovery {
            components: roles::components(&directory, &packages, manifest.as_ref())?,
            facts: HashMap::new(),
            directory,
            manifest,
            vocabulary: None,
        })
    }

    /// Components by the names that configurations give them.
    pub(crate) fn named(&self) -> Vec<(String, &Component)> {
        let Components { embeddings, chunks, lm_head, .. } = &self.components;
        let prefix = if embeddings.is_some() { "ffn_" } else { "" };
        let mut named: Vec<(String, &Component)> = Vec::new();
        named.extend(embeddings.as_ref().map(|found| ("embeddings".to_owned(), found)));
        for (index, chunk) in chunks.iter().enumerate() {
            let name = |function: &str| chunk_key(prefix, function, index);
            named.extend(chunk.prefill.as_ref().map(|found| (name("prefill"), found)));
            named.push((name("infer"), &chunk.infer));
            named.extend(chunk.infer_rotate.as_ref().map(|found| (name("infer_rotate"), found)));
        }
        named.extend(lm_head.as_ref().map(|found| ("lm_head".to_owned(), found)));
        named
    }

    /// The configuration that says all this.
    pub(crate) fn config(&self, layout: &Layout, model_id: Option<&str>) -> ModelConfig {
        let component = |(name, found): (String, &Component)| {
            let config = describe(&self.directory, &name, found, layout);
            (name, config)
        };
        ModelConfig {
            model_info: ModelInfo {
                model_id: model_id.map(str::to_owned),
                path: Some(self.directory.display().to_string()),
                model_type: self.architecture(),
                discovered_at: None,
            },
            shapes: ShapeConfig {
                batch_size: layout.window,
                context_length: layout.context,
                hidden_size: match layout.hidden {
                    0 => config_size(&self.directory, "hidden_size").unwrap_or(0),
                    hidden => hidden,
                },
                vocab_size: layout.vocabulary(),
            },
            components: self.named().into_iter().map(component).collect(),
            naming: NamingConfig::default(),
            ffn_execution: self.ffn_execution().map(str::to_owned),
        }
    }

    fn ffn_execution(&self) -> Option<&'static str> {
        let chunk = self.components.chunks.first()?;
        let prefill = chunk.prefill.as_ref()?;
        Some(if prefill.path == chunk.infer.path { "unified" } else { "split" })
    }

    /// As `meta.yaml` or `config.json` tells it.
    fn architecture(&self) -> String {
        let told = self.manifest.as_ref().and_then(|manifest| manifest.architecture.clone());
        let config = || {
            let config = json(&self.directory.join("config.json"))?;
            Some(config.get("model_type")?.as_str()?.to_owned())
        };
        told.or_else(config).unwrap_or_else(|| "unknown".to_owned())
    }
}

fn chunk_key(prefix: &str, function: &str, index: usize) -> String {
    match index {
        0 => format!("{prefix}{function}"),
        index => format!("{prefix}{function}_{}", index + 1),
    }
}

fn json(path: &Path) -> Option<serde_json::Value> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// A size in `config.json`, also where the text model is a part of a larger one.
fn config_size(directory: &Path, name: &str) -> Option<usize> {
    let config = json(&directory.join("config.json"))?;
    let size = config.get(name).or_else(|| config.get("text_config")?.get(name))?;
    usize::try_from(size.as_u64()?).ok()
}

/// Reads every package once.
fn facts(components: &Components) -> Result<HashMap<(PathBuf, String), FunctionFacts>> {
    let layers = components.chunks.iter().flat_map(|chunk| {
        [Some(&chunk.infer), chunk.prefill.as_ref(), chunk.infer_rotate.as_ref()]
    });
    let all = layers.chain([components.lm_head.as_ref()]).flatten();
    let mut packages: HashMap<&Path, Package> = HashMap::new();
    let mut facts = HashMap::new();
    for component in all {
        let path = component.path.as_path();
        if !packages.contains_key(path) {
            packages.insert(path, Package::open(path)?);
        }
        let program = packages.get(path).map(Package::program);
        if let Some(function) = program.and_then(|p| p.functions.get(&component.function.name)) {
            let key = (component.path.clone(), component.function.name.clone());
            facts.insert(key, FunctionFacts::new(function));
        }
    }
    Ok(facts)
}

/// A component's entry in a configuration.
fn describe(directory: &Path, name: &str, found: &Component, layout: &Layout) -> ComponentConfig {
    let tensors = |features: &[FeatureDescription]| {
        let tensor = |feature: &FeatureDescription| {
            let ty = feature.ty.as_multi_array()?;
            let tensor = TensorConfig {
                name: feature.name.clone(),
                shape: largest(&ty.shape, &ty.flexibility),
                data_type: ty.element.name().to_uppercase(),
            };
            Some((feature.name.clone(), tensor))
        };
        features.iter().filter_map(tensor).collect::<HashMap<_, _>>()
    };
    let mut outputs = tensors(&found.function.outputs);
    if name == "embeddings"
        && let Some(hidden) = outputs.get_mut("hidden_states")
    {
        // Unstated where the number of tokens is free.
        hidden.shape = vec![1, layout.window, layout.hidden];
    }
    outputs.retain(|_, tensor| !tensor.shape.is_empty());
    // Within the directory, so that the two can move together.
    let path = found.path.strip_prefix(directory).unwrap_or(&found.path);
    ComponentConfig {
        file_path: Some(path.display().to_string()),
        inputs: tensors(&found.function.inputs),
        outputs,
        functions: vec![found.function.name.clone()],
        input_order: None,
    }
}

/// The shape that stands for all that are allowed.
fn largest(shape: &[usize], flexibility: &ShapeFlexibility) -> Vec<usize> {
    match flexibility {
        ShapeFlexibility::Fixed => shape.to_vec(),
        ShapeFlexibility::Enumerated(shapes) => {
            let size = |shape: &&Vec<usize>| shape.iter().product::<usize>();
            shapes.iter().max_by_key(size).cloned().unwrap_or_default()
        }
        ShapeFlexibility::Ranges(ranges) => {
            ranges.iter().zip(shape).map(|(range, &size)| range.1.unwrap_or(size)).collect()
        }
    }
}

/// What a given configuration asks for.
struct Chosen<'a> {
    directory: &'a Path,
    config: &'a ModelConfig,
    /// Whether it came with the model, so that its paths must not lead out of the directory.
    foreign: bool,
}

impl Chosen<'_> {
    /// The components of a configuration that states the packages of its layers.
    fn components(&self) -> Result<Option<Components>> {
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
            self.component(name, "main")?.map(Some).ok_or_else(|| Error::LanguageModel {
                path: self.directory.to_owned(),
                message: format!(
                    "the configuration states the model's layers but no `{name}`; set \
                     components.{name}.file_path, or leave all paths out to have them found"
                ),
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
        let all = functions(&Package::describe(&path)?.description);
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
                Err(Error::LanguageModel {
                    path,
                    message: format!(
                        "component `{name}` asks for function `{wanted}`; the package has {}; \
                         look at components.{name}.functions",
                        list(&names)
                    ),
                })
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
        places.into_iter().find(|path| path.exists()).ok_or_else(|| Error::LanguageModel {
            path: self.directory.to_owned(),
            message: format!(
                "component `{name}`: there is no `{}`; look at components.{name}.file_path",
                stated.display()
            ),
        })
    }

    /// Compares the stated shapes with the packages': they must agree where the package is stated
    /// too. What differs elsewhere is told, as the packages are right.
    fn check(&self, discovery: &Discovery) -> Result<Vec<String>> {
        let mut differing = Vec::new();
        for (name, found) in discovery.named() {
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
        Err(Error::LanguageModel {
            path: path.to_owned(),
            message: format!("component `{component}`, {side} `{}`: {message}", stated.name),
        })
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

/// Makes configurations from what directories hold.
#[derive(Clone, Debug, Default)]
pub struct ConfigGenerator {}

impl ConfigGenerator {
    /// A generator.
    ///
    /// # Errors
    /// None today; a `Result` for those who call it with `?`.
    pub fn new() -> Result<Self> {
        Ok(Self::default())
    }

    /// Finds the components of a model's directory. `model_type` stands for the architecture where
    /// no file tells it.
    ///
    /// # Errors
    /// When a component is missing or several could be one, or they do not fit together.
    pub fn generate_config_from_directory(
        &self,
        directory: impl AsRef<Path>,
        model_id: &str,
        model_type: &str,
    ) -> Result<ModelConfig> {
        let mut config = self.explain(directory, Some(model_id))?.config;
        if config.model_info.model_type == "unknown" {
            config.model_info.model_type = model_type.to_owned();
        }
        Ok(config)
    }

    /// The configuration of a directory, with how it is driven and what is odd about it.
    ///
    /// # Errors
    /// As for [`generate_config_from_directory`](Self::generate_config_from_directory).
    pub fn explain(
        &self,
        directory: impl AsRef<Path>,
        model_id: Option<&str>,
    ) -> Result<Explanation> {
        let naming = ModelNamingConfig::default();
        let discovery = Discovery::new(directory.as_ref(), &naming, None)?;
        let layout = Layout::new(&discovery)?;
        let mut config = discovery.config(&layout, model_id);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        config.model_info.discovered_at = now.ok().map(|now| now.as_secs().to_string());
        Ok(Explanation { config, habits: layout.habits(), findings: layout.findings })
    }
}

/// What a model's directory holds, for programs and for people.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Explanation {
    /// Components and sizes.
    pub config: ModelConfig,
    /// How the model is driven, in words.
    pub habits: Vec<String>,
    /// What is odd, in words.
    pub findings: Vec<String>,
}
