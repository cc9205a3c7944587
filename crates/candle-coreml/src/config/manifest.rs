//! `meta.yaml` of ANEMLL models: names of the components and how they were exported.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};

use super::json_file::read_text;
use super::yaml;
use crate::error::{Error, Result};

/// The parts of `meta.yaml` that matter for running a model. A value that the file lacks, or gives
/// as `none`, is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Manifest {
    pub(crate) path: PathBuf,
    /// The original model's type, e.g. `qwen3`.
    pub(crate) architecture: Option<String>,
    /// Length of the context in tokens.
    pub(crate) context_length: Option<usize>,
    /// Tokens in a window of prefill.
    pub(crate) batch_size: Option<usize>,
    /// Number of FFN packages.
    pub(crate) num_chunks: Option<usize>,
    /// File names of the components; their endings may differ from what is in the directory.
    pub(crate) embeddings: Option<String>,
    pub(crate) lm_head: Option<String>,
    pub(crate) ffn: Option<String>,
    /// The FFN package with the functions for a context beyond the sliding window.
    pub(crate) rotating: Option<String>,
    /// The package that holds a whole model.
    pub(crate) whole: Option<String>,
    /// True when one package holds the whole model.
    pub(crate) monolithic: bool,
    /// Number of tokens that the model knows.
    pub(crate) vocab_size: Option<usize>,
    /// Tokens in each part of the LM head; empty when not told.
    pub(crate) head_part_sizes: Vec<usize>,
    /// True when each chunk keeps a state of its own.
    pub(crate) per_chunk_state: bool,
    /// Sampling that the model's makers recommend, under the names that `generation_config.json` has.
    pub(crate) recommended: Map<String, Json>,
}

impl Manifest {
    /// Reads `meta.yaml` of a directory; `None` when there is none.
    pub(crate) fn read(directory: &Path) -> Result<Option<Self>> {
        let path = directory.join("meta.yaml");
        read_text(&path)?.map(|text| Self::parse(&path, &text)).transpose()
    }

    fn parse(path: &Path, text: &str) -> Result<Self> {
        let wrong = |message: String| Error::language_model(path, message);
        let fields = Fields(yaml::parse(path, text)?);
        Ok(Manifest {
            path: path.to_owned(),
            architecture: fields.words("/model_info/architecture"),
            context_length: fields.size("context_length").map_err(wrong)?,
            batch_size: fields.size("batch_size").map_err(wrong)?,
            num_chunks: fields.size("num_chunks").map_err(wrong)?,
            embeddings: fields.text("embeddings"),
            lm_head: fields.text("lm_head"),
            ffn: fields.text("ffn"),
            rotating: fields.text("pf"),
            whole: fields.text("monolithic_model"),
            monolithic: fields.words("/model_info/model_type").is_some_and(|v| v == "monolithic"),
            vocab_size: fields.size("vocab_size").map_err(wrong)?,
            head_part_sizes: fields.sizes("lm_head_chunk_sizes").map_err(wrong)?,
            per_chunk_state: fields.holds("per_chunk_state"),
            recommended: fields.recommended(),
        })
    }
}

/// The whole file.
struct Fields(Json);

impl Fields {
    fn parameter(&self, name: &str) -> Option<&Json> {
        self.0.pointer("/model_info/parameters")?.get(name)
    }

    fn words(&self, pointer: &str) -> Option<String> {
        words(self.0.pointer(pointer)?)
    }

    fn text(&self, name: &str) -> Option<String> {
        words(self.parameter(name)?)
    }

    fn size(&self, name: &str) -> Result<Option<usize>, String> {
        self.parameter(name).map_or(Ok(None), |value| size(name, value))
    }

    /// The items of a list.
    fn sizes(&self, name: &str) -> Result<Vec<usize>, String> {
        let items = self.parameter(name).and_then(Json::as_array);
        items.into_iter().flatten().filter_map(|item| size(name, item).transpose()).collect()
    }

    fn recommended(&self) -> Map<String, Json> {
        let stated = self.parameter("recommended_sampling").and_then(Json::as_object);
        let absent = |value: &Json| value.as_str().is_some_and(|text| text == "none");
        let given = stated.into_iter().flatten().filter(|(_, value)| !absent(value));
        given.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    fn holds(&self, name: &str) -> bool {
        self.text(name).is_some_and(|value| value == "true")
    }
}

/// A scalar as text; nothing where the file says that there is none.
fn words(value: &Json) -> Option<String> {
    let text = match value {
        Json::String(text) => text.clone(),
        Json::Number(_) | Json::Bool(_) => value.to_string(),
        Json::Null | Json::Array(_) | Json::Object(_) => return None,
    };
    (!matches!(text.as_str(), "" | "none" | "null" | "~")).then_some(text)
}

fn size(name: &str, value: &Json) -> Result<Option<usize>, String> {
    let parse = |value: String| match value.parse() {
        Ok(size) if size > 0 => Ok(size),
        _ => Err(format!("`{name}` must be a positive whole number, got `{value}`")),
    };
    words(value).map(parse).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Manifest> {
        Manifest::parse(Path::new("meta.yaml"), text)
    }

    #[test]
    fn reads_what_anemll_writes() {
        let text = "\
model_info:
  name: anemll-qwen-ctx256
  version: 0.3.4
  description: |
    Demonstrates running qwen
    Context length: 256
  architecture: qwen3
  parameters:
    context_length: 256
    batch_size: 64
    lut_embeddings: none
    num_chunks: 2
    model_prefix: qwen
    embeddings: qwen_embeddings.mlmodelc
    lm_head: qwen_lm_head_lut6.mlmodelc
    ffn: qwen_FFN_PF_lut6.mlmodelc
    lm_head_chunk_sizes: [64, 64]
    per_chunk_state: true
# trailer: of the converter
";
        let manifest = parse(text).unwrap();
        assert_eq!(manifest.context_length, Some(256));
        assert_eq!(manifest.batch_size, Some(64));
        assert_eq!(manifest.num_chunks, Some(2));
        assert_eq!(manifest.embeddings.as_deref(), Some("qwen_embeddings.mlmodelc"));
        assert_eq!(manifest.lm_head.as_deref(), Some("qwen_lm_head_lut6.mlmodelc"));
        assert_eq!(manifest.ffn.as_deref(), Some("qwen_FFN_PF_lut6.mlmodelc"));
        assert!(manifest.per_chunk_state);
        assert!(!manifest.monolithic);
    }

    #[test]
    fn knows_monolithic_models_and_absent_values() {
        let text = "model_info: {model_type: monolithic, parameters: {context_length: none}}";
        let manifest = parse(text).unwrap();
        assert!(manifest.monolithic);
        assert_eq!(manifest.context_length, None);
        assert_eq!(parse("").unwrap().num_chunks, None);
    }

    #[test]
    fn sizes_and_recommendations_are_read() {
        let text = "model_info: {parameters: {lm_head_chunk_sizes: [3, 2], recommended_sampling: \
                    {do_sample: True, temperature: 0.6, top_k: 20, top_p: x, min_p: none}}}";
        let manifest = parse(text).unwrap();
        assert_eq!(manifest.head_part_sizes, [3, 2]);
        let expected = serde_json::json!(
            {"do_sample": true, "temperature": 0.6, "top_k": 20, "top_p": "x"}
        );
        assert_eq!(Json::Object(manifest.recommended), expected);
    }

    #[test]
    fn wrong_files_are_errors() {
        let cases = [
            ("model_info: {parameters: {num_chunks: many}}", "`num_chunks`"),
            ("model_info: {parameters: {context_length: 0}}", "`context_length`"),
            ("model_info: {parameters: {batch_size: -4}}", "`batch_size`"),
            ("model_info: [1, 2", "YAML"),
            ("a: &x [1]\nb: *x\n", "line 2"),
        ];
        for (text, expected) in cases {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.contains(expected), "{text}: {message}");
        }
    }
}
