//! End and begin tokens, from the configuration files beside the tokenizer.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value as Json;

use super::tokenizer_config::TokenizerConfig;
use crate::config::read_json;
use crate::error::Result;

/// Ids with a meaning of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SpecialTokens {
    /// Tokens that end a text.
    pub(super) end: BTreeSet<u32>,
    /// The token that begins one.
    pub(super) begin: Option<u32>,
}

impl SpecialTokens {
    /// End tokens are those of `generation_config.json`, `config.json` (`eos_token_id`: a number or
    /// a list) and the tokenizer's configuration (`eos_token`: text, or an object with `content`)
    /// together; each file may be missing.
    pub(super) fn read(
        directory: &Path,
        tokenizer: &TokenizerConfig,
        id_of: impl Fn(&str) -> Option<u32>,
    ) -> Result<Self> {
        let mut special = SpecialTokens::default();
        for name in ["generation_config.json", "config.json"] {
            if let Some(config) = read_json(&directory.join(name))? {
                special.end.extend(ids(config.get("eos_token_id")));
                special.begin = special.begin.or(ids(config.get("bos_token_id")).first().copied());
            }
        }
        special.end.extend(tokenizer.token("eos_token").and_then(&id_of));
        special.begin = tokenizer.begin().and_then(id_of).or(special.begin);
        Ok(special)
    }
}

fn ids(value: Option<&Json>) -> Vec<u32> {
    let id = |value: &Json| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Some(Json::Array(values)) => values.iter().filter_map(id).collect(),
        Some(value) => id(value).into_iter().collect(),
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[(&str, &str)]) -> Result<SpecialTokens> {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        let tokenizer = TokenizerConfig::read(directory.path())?;
        SpecialTokens::read(directory.path(), &tokenizer, |token| (token == "<end>").then_some(7))
    }

    #[test]
    fn end_tokens_come_from_all_files() {
        let special = read(&[
            ("generation_config.json", r#"{"eos_token_id": [3, 4]}"#),
            ("config.json", r#"{"eos_token_id": 5, "bos_token_id": 1}"#),
            ("tokenizer_config.json", r#"{"eos_token": {"content": "<end>"}, "bos_token": null}"#),
        ])
        .unwrap();
        assert_eq!(special, SpecialTokens { end: [3, 4, 5, 7].into(), begin: Some(1) });
    }

    #[test]
    fn no_files_mean_no_special_tokens_and_broken_ones_are_errors() {
        assert_eq!(read(&[]).unwrap(), SpecialTokens::default());
        let message = read(&[("config.json", "{")]).unwrap_err().to_string();
        assert!(message.contains("config.json") && message.contains("JSON"), "{message}");
    }
}
