//! Sampling that a model's makers recommend.

use std::path::Path;

use super::json_file::read_json;
use crate::error::Result;

/// Sampling that a model's makers recommend: see
/// [`GenerationOptions::recommended`](crate::GenerationOptions::recommended).
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct RecommendedSampling {
    /// False for greedy.
    pub do_sample: Option<bool>,
    /// See [`GenerationOptions::temperature`](crate::GenerationOptions::temperature).
    pub temperature: Option<f64>,
    /// See [`GenerationOptions::top_k`](crate::GenerationOptions::top_k); 0 means all tokens.
    pub top_k: Option<usize>,
    /// See [`GenerationOptions::top_p`](crate::GenerationOptions::top_p).
    pub top_p: Option<f64>,
}

impl RecommendedSampling {
    /// What `generation_config.json` of a model's directory says; nothing where it is missing.
    ///
    /// # Errors
    /// When the file is not valid JSON.
    pub fn read(directory: impl AsRef<Path>) -> Result<Self> {
        let config = read_json(&directory.as_ref().join("generation_config.json"))?;
        let Some(config) = config else { return Ok(Self::default()) };
        let number = |name| config.get(name)?.as_f64();
        Ok(RecommendedSampling {
            do_sample: config.get("do_sample").and_then(serde_json::Value::as_bool),
            temperature: number("temperature"),
            top_k: config.get("top_k").and_then(|k| usize::try_from(k.as_u64()?).ok()),
            top_p: number("top_p"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generation_config_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let read = || RecommendedSampling::read(directory.path());
        assert_eq!(read().unwrap(), RecommendedSampling::default());
        let path = directory.path().join("generation_config.json");
        let text = r#"{"do_sample": true, "temperature": 0.6, "top_k": 20, "top_p": 1, "x": []}"#;
        std::fs::write(&path, text).unwrap();
        let expected = RecommendedSampling {
            do_sample: Some(true),
            temperature: Some(0.6),
            top_k: Some(20),
            top_p: Some(1.0),
        };
        assert_eq!(read().unwrap(), expected);
        std::fs::write(&path, r#"{"top_k": -1, "top_p": "high"}"#).unwrap();
        assert_eq!(read().unwrap(), RecommendedSampling::default());
        std::fs::write(&path, "{").unwrap();
        assert!(read().unwrap_err().to_string().contains("generation_config.json"));
    }
}
