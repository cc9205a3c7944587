//! A model's configuration as JSON: which function of which package is which component, with the
//! shapes of its inputs and outputs. [`explain`](super::explain) makes it; by hand it is only needed
//! where a directory's packages are to be chosen.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize, Serializer};

use super::json_file::read_text;
use crate::error::{Error, Result};

/// A configuration of this name in a model's directory is used when the model is loaded.
pub const CONFIG_FILE: &str = "model_config.json";

/// What a model is made of.
///
/// Components are named by what they do: `embeddings`, `ffn_prefill`, `ffn_infer`,
/// `ffn_infer_rotate` and `lm_head`; the layers of further chunks have their number behind
/// (`ffn_infer_2`). A model in one package has `prefill`, `infer` and `infer_rotate`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// Which model it is.
    pub model_info: ModelInfo,
    /// Its sizes.
    pub shapes: ShapeConfig,
    /// Its components by name.
    #[serde(serialize_with = "sorted")]
    pub components: HashMap<String, ComponentConfig>,
    /// Patterns of file names, of old configurations; not used.
    #[serde(default)]
    pub naming: NamingConfig,
    /// `unified` where one package holds a chunk's `prefill` and `infer`, `split` where two do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ffn_execution: Option<String>,
}

/// Which model a configuration is of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// Its name on the hub.
    #[serde(default)]
    pub model_id: Option<String>,
    /// Its directory.
    #[serde(default)]
    pub path: Option<String>,
    /// Its architecture, e.g. `qwen3`.
    pub model_type: String,
    /// When the configuration was made.
    #[serde(default)]
    pub discovered_at: Option<String>,
}

/// Sizes of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShapeConfig {
    /// Tokens that prefill runs at once: the window. 1 where tokens run one by one.
    pub batch_size: usize,
    /// Tokens that prompt and answer may have together.
    pub context_length: usize,
    /// Length of a hidden state; 0 where the model shows none.
    pub hidden_size: usize,
    /// Number of tokens that the model knows.
    pub vocab_size: usize,
}

/// A function of a package.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ComponentConfig {
    /// The package: a path, or a name in the model's directory.
    #[serde(default)]
    pub file_path: Option<String>,
    /// Inputs by name.
    #[serde(serialize_with = "sorted")]
    pub inputs: HashMap<String, TensorConfig>,
    /// Outputs by name.
    #[serde(serialize_with = "sorted")]
    pub outputs: HashMap<String, TensorConfig>,
    /// The package's function; none for the default one.
    pub functions: Vec<String>,
    /// Order of the inputs, of old configurations: inputs are fed by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_order: Option<Vec<String>>,
}

/// An input or output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorConfig {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its element type, e.g. `FLOAT16`.
    pub data_type: String,
}

/// Patterns of file names, of old configurations; file paths are stated instead.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // each pattern is of the component in its name
pub struct NamingConfig {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embeddings_pattern: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ffn_prefill_pattern: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ffn_infer_pattern: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lm_head_pattern: Option<String>,
}

/// The same model gives the same file.
fn sorted<S: Serializer, T: Serialize>(
    map: &HashMap<String, T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let sorted: std::collections::BTreeMap<_, _> = map.iter().collect();
    sorted.serialize(serializer)
}

impl ModelConfig {
    /// Reads a configuration.
    ///
    /// # Errors
    /// When the file can't be read or is no configuration.
    pub fn load_from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let failed = |source| Error::Io { path: path.to_owned(), source };
        let file = path.canonicalize().map_err(failed)?;
        Self::read(&file)?.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
    }

    /// Reads a configuration in a model's directory; `None` when there is none.
    pub(super) fn read(path: &Path) -> Result<Option<Self>> {
        let Some(text) = read_text(path)? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|error| {
            let message = format!(
                "is not a model configuration: {error}; `config::explain` and \
                 `ModelConfig::save_to_file` make one"
            );
            Error::language_model(path, message).caused_by(error)
        })
    }

    /// Writes the configuration, whole or not at all.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn save_to_file(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let failed = |source| Error::Io { path: path.to_owned(), source };
        let mut text = serde_json::to_string_pretty(self)
            .map_err(|error| failed(std::io::Error::other(error)))?;
        text.push('\n');
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let part = path.with_file_name(name);
        // Only where nothing is: in a stranger's directory, a link of this name may lead anywhere.
        let mut file = File::create_new(&part).map_err(failed)?;
        file.write_all(text.as_bytes())
            .and_then(|()| std::fs::rename(&part, path))
            .inspect_err(|_| drop(std::fs::remove_file(&part)))
            .map_err(failed)
    }

    /// The shape of a component's input or output.
    pub fn get_tensor_shape(
        &self,
        component: &str,
        tensor: &str,
        is_input: bool,
    ) -> Option<&Vec<usize>> {
        let component = self.components.get(component)?;
        let tensors = if is_input { &component.inputs } else { &component.outputs };
        tensors.get(tensor).map(|tensor| &tensor.shape)
    }

    /// Checks that the sizes are possible and every component has shapes.
    ///
    /// # Errors
    /// When a component that every model has is missing, a size is 0, or a shape is empty.
    pub fn validate(&self) -> Result<()> {
        let whole = self.components.contains_key("infer");
        let needed: &[&str] =
            if whole { &["infer"] } else { &["embeddings", "ffn_infer", "lm_head"] };
        // Older configurations have a single FFN component, `ffn_prefill`.
        let has = |name: &str| {
            self.components.contains_key(name)
                || name == "ffn_infer" && self.components.contains_key("ffn_prefill")
        };
        if let Some(missing) = needed.iter().find(|name| !has(name)) {
            return Err(self.wrong(format!(
                "component `{missing}` is missing; `config::explain` finds components"
            )));
        }
        let ShapeConfig { batch_size, context_length, hidden_size, vocab_size } = self.shapes;
        let sizes = [
            ("batch_size", batch_size),
            ("context_length", context_length),
            ("hidden_size", if whole { 1 } else { hidden_size }),
            ("vocab_size", vocab_size),
        ];
        if let Some((name, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            return Err(self.wrong(format!("shapes.{name} must be 1 or more, found 0")));
        }
        for (name, component) in &self.components {
            let tensors = component.inputs.values().chain(component.outputs.values());
            if let Some(tensor) = tensors.into_iter().find(|tensor| tensor.shape.is_empty()) {
                return Err(self.wrong(format!(
                    "component `{name}`, tensor `{}`: the shape is empty",
                    tensor.name
                )));
            }
        }
        Ok(())
    }

    /// Checks that each component gives what the next one takes.
    ///
    /// # Errors
    /// Names component, tensor, both shapes and the setting behind the first mismatch.
    pub fn validate_internal_wiring(&self) -> Result<()> {
        let chunk = |name: &str, number: usize| match number {
            1 => name.to_owned(),
            number => format!("{name}_{number}"),
        };
        let chunks =
            (1..).take_while(|&n| self.components.contains_key(&chunk("ffn_infer", n))).count();
        self.check_wire("embeddings", "hidden_states", "ffn_prefill")?;
        for number in 1..chunks {
            for name in ["ffn_prefill", "ffn_infer", "ffn_infer_rotate"] {
                let (from, to) = (chunk(name, number), chunk(name, number + 1));
                self.check_wire(&from, "output_hidden_states", &to)?;
            }
        }
        let last = if chunks == 0 { "ffn_prefill".to_owned() } else { chunk("ffn_infer", chunks) };
        self.check_wire(&last, "output_hidden_states", "lm_head")
    }

    /// Checks that `to` takes the hidden states that `from` gives, where both are stated.
    fn check_wire(&self, from: &str, output: &str, to: &str) -> Result<()> {
        let given = self.get_tensor_shape(from, output, false);
        let taken = self.get_tensor_shape(to, "hidden_states", true);
        match (given, taken) {
            (Some(given), Some(taken)) if given != taken => {
                let setting = match (given.as_slice(), taken.as_slice()) {
                    ([.., a], [.., b]) if a != b => "shapes.hidden_size",
                    _ => "shapes.batch_size",
                };
                Err(self.wrong(format!(
                    "component `{to}`, input `hidden_states`: expected the shape {given:?} that \
                     `{from}` gives as `{output}`, found {taken:?}; look at {setting}"
                )))
            }
            _ => Ok(()),
        }
    }

    fn wrong(&self, message: String) -> Error {
        let info = &self.model_info;
        let place = info.path.as_ref().or(info.model_id.as_ref());
        Error::language_model(place.map_or("the model's configuration", String::as_str), message)
    }
}
