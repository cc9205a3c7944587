//! `meta.yaml` of ANEMLL models: names of the components and how they were exported.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use saphyr_parser::{Event, Parser};

use super::json_file::read_text;
use super::recommended::RecommendedSampling;
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
    /// Sampling that the model's makers recommend.
    pub(crate) recommended: RecommendedSampling,
}

impl Manifest {
    /// Reads `meta.yaml` of a directory; `None` when there is none.
    pub(crate) fn read(directory: &Path) -> Result<Option<Self>> {
        let path = directory.join("meta.yaml");
        read_text(&path)?.map(|text| Self::parse(&path, &text)).transpose()
    }

    fn parse(path: &Path, text: &str) -> Result<Self> {
        let wrong = |message: String| Error::language_model(path, message);
        let fields = Fields(flatten(path, text)?);
        Ok(Manifest {
            path: path.to_owned(),
            architecture: fields.0.get("model_info.architecture").cloned(),
            context_length: fields.size("context_length").map_err(wrong)?,
            batch_size: fields.size("batch_size").map_err(wrong)?,
            num_chunks: fields.size("num_chunks").map_err(wrong)?,
            embeddings: fields.text("embeddings"),
            lm_head: fields.text("lm_head"),
            ffn: fields.text("ffn"),
            rotating: fields.text("pf"),
            whole: fields.text("monolithic_model"),
            monolithic: fields.0.get("model_info.model_type").is_some_and(|v| v == "monolithic"),
            vocab_size: fields.size("vocab_size").map_err(wrong)?,
            head_part_sizes: fields.sizes("lm_head_chunk_sizes").map_err(wrong)?,
            per_chunk_state: fields.holds("per_chunk_state"),
            recommended: fields.recommended(),
        })
    }
}

/// Scalars by their path.
struct Fields(BTreeMap<String, String>);

impl Fields {
    fn text(&self, name: &str) -> Option<String> {
        let value = self.0.get(&format!("model_info.parameters.{name}"))?;
        (!matches!(value.as_str(), "" | "none" | "null" | "~")).then(|| value.clone())
    }

    fn size(&self, name: &str) -> Result<Option<usize>, String> {
        let parse = |value: String| match value.parse() {
            Ok(size) if size > 0 => Ok(size),
            _ => Err(format!("`{name}` must be a positive whole number, got `{value}`")),
        };
        self.text(name).map(parse).transpose()
    }

    /// The items of a list.
    fn sizes(&self, name: &str) -> Result<Vec<usize>, String> {
        let mut sizes = Vec::new();
        while let Some(size) = self.size(&format!("{name}.{}", sizes.len()))? {
            sizes.push(size);
        }
        Ok(sizes)
    }

    /// What is no number, or not told, is left out.
    fn recommended(&self) -> RecommendedSampling {
        let text = |name: &str| self.text(&format!("recommended_sampling.{name}"));
        RecommendedSampling {
            do_sample: text("do_sample").and_then(|value| value.to_lowercase().parse().ok()),
            temperature: text("temperature").and_then(|value| value.parse().ok()),
            top_k: text("top_k").and_then(|value| value.parse().ok()),
            top_p: text("top_p").and_then(|value| value.parse().ok()),
        }
    }

    fn holds(&self, name: &str) -> bool {
        self.text(name).is_some_and(|value| value == "true")
    }
}

/// An open mapping with the key whose value comes next, or an open sequence with the next index.
enum Level {
    Mapping(Option<String>),
    Sequence(usize),
}

/// The longest that a file may be, and its paths and values together. The files that there are have a
/// few kilobytes of either.
const LONGEST: usize = 1 << 20;
const TOO_LONG: &str = "is far longer, or nested far deeper, than such a file is";

/// All scalars of a document by their path, e.g. `model_info.parameters.num_chunks`; the items of a
/// sequence have numbers for keys. Aliases are refused, and what is nested deeply or long is bounded: a
/// short file could grow without bound.
fn flatten(path: &Path, text: &str) -> Result<BTreeMap<String, String>> {
    if text.len() > LONGEST {
        return Err(Error::language_model(path, TOO_LONG));
    }
    let mut levels: Vec<Level> = Vec::new();
    let mut scalars = BTreeMap::new();
    let mut bytes = 0;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            Error::language_model(path, format!("is not valid YAML: {error}")).caused_by(error)
        })?;
        match event {
            Event::Scalar(value, ..) => match levels.last_mut() {
                Some(Level::Mapping(key @ None)) => *key = Some(value.into_owned()),
                _ => {
                    let key = path_of(&levels);
                    bytes += key.len() + value.len();
                    if bytes > LONGEST {
                        return Err(Error::language_model(path, TOO_LONG));
                    }
                    scalars.insert(key, value.into_owned());
                    value_ended(&mut levels);
                }
            },
            Event::MappingStart(..) => levels.push(Level::Mapping(None)),
            Event::SequenceStart(..) => levels.push(Level::Sequence(0)),
            Event::MappingEnd | Event::SequenceEnd => {
                levels.pop();
                value_ended(&mut levels);
            }
            Event::Alias(_) => {
                let message = format!(
                    "line {} has an alias, which is not read here; write the value itself",
                    span.start.line()
                );
                return Err(Error::language_model(path, message));
            }
            _ => {}
        }
    }
    Ok(scalars)
}

fn value_ended(levels: &mut [Level]) {
    match levels.last_mut() {
        Some(Level::Mapping(key)) => *key = None,
        Some(Level::Sequence(index)) => *index += 1,
        None => {}
    }
}

fn path_of(levels: &[Level]) -> String {
    let keys: Vec<String> = levels
        .iter()
        .map(|level| match level {
            Level::Mapping(key) => key.clone().unwrap_or_default(),
            Level::Sequence(index) => index.to_string(),
        })
        .collect();
    keys.join(".")
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
                    {do_sample: True, temperature: 0.6, top_k: 20, top_p: x}}}";
        let manifest = parse(text).unwrap();
        assert_eq!(manifest.head_part_sizes, [3, 2]);
        let RecommendedSampling { do_sample, temperature, top_k, top_p } = manifest.recommended;
        assert_eq!((do_sample, temperature, top_k, top_p), (Some(true), Some(0.6), Some(20), None));
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
