//! Text to token ids and back.

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;

use coreml_format::files::read_file;
use coreml_format::{Cause, FileKind};
use tokenizers::Tokenizer;

use super::chat_template::ChatTemplate;
use super::special_tokens::SpecialTokens;
use super::token_bytes;
use super::tokenizer_config::TokenizerConfig;
use crate::error::{Error, GenerationError, Result};

/// The tokenizer of a language model, with its end tokens and its chat template.
#[derive(Clone, Debug)]
pub struct TextTokenizer {
    tokenizer: Tokenizer,
    special: SpecialTokens,
    /// Or why there is none: text can be generated without it.
    chat_template: Result<ChatTemplate, Arc<Error>>,
}

impl TextTokenizer {
    /// Reads `tokenizer.json` of a directory, what the files beside it say of it
    /// (`tokenizer_config.json`, `special_tokens_map.json`, `added_tokens.json`), the end tokens from
    /// `generation_config.json`, `config.json` and `tokenizer_config.json`, and the chat template, as
    /// far as they are there.
    ///
    /// # Errors
    /// When there is no `tokenizer.json`, or a file is malformed.
    pub fn load(directory: impl AsRef<Path>) -> Result<Self> {
        let directory = directory.as_ref();
        let path = directory.join("tokenizer.json");
        let Some(bytes) = read_file(&path, FileKind::Tokenizer)? else {
            return Err(Error::language_model(
                path,
                "there is no tokenizer; put the `tokenizer.json` of the original model (with \
                 `tokenizer_config.json`) beside the model's packages",
            ));
        };
        coreml_format::refuse_lfs_pointer(&path, &bytes)?;
        let config = TokenizerConfig::read(directory)?;
        let mut tokenizer = parse(&bytes, &config).map_err(|error| {
            let message =
                format!("is not a tokenizer: {error}; check that the download is complete");
            Error::language_model(&path, message).caused_by(error)
        })?;
        // A file made for training may cut or pad every text to one length.
        tokenizer
            .with_truncation(None)
            .map_err(|error| Error::language_model(&path, error.to_string()).caused_by(error))?;
        tokenizer.with_padding(None);
        let special = SpecialTokens::read(directory, &config, |text| tokenizer.token_to_id(text))?;
        let chat_template = match ChatTemplate::load(directory) {
            Ok(Some(template)) => Ok(template),
            Ok(None) => {
                Err(GenerationError::NoChatTemplate { directory: directory.to_owned() }.into())
            }
            Err(error) => Err(error),
        };
        let chat_template = chat_template.map_err(Arc::new);
        Ok(TextTokenizer { tokenizer, special, chat_template })
    }

    /// The model's chat template.
    ///
    /// # Errors
    /// When the model has none, or it is not valid.
    pub fn chat_template(&self) -> Result<&ChatTemplate> {
        self.chat_template.as_ref().map_err(|error| Error::Shared(error.clone()))
    }

    /// Ids of a text, with the special tokens that the tokenizer adds by itself: those of the class
    /// that `tokenizer_config.json` names (`add_bos_token`, `add_eos_token`), or else of the
    /// post-processor. A begin token that the text has already is not added. An empty text is the
    /// begin token, if there is one.
    ///
    /// # Errors
    /// When the tokenizer can't encode the text, or it has no tokens.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = self.encode_with(text, true)?;
        if let (Some(begin), [first, second, ..]) = (self.special.begin, ids.as_slice())
            && [*first, *second] == [begin, begin]
            && ids.get(1..).unwrap_or_default().starts_with(&self.encode_with(text, false)?)
        {
            ids.remove(0);
        }
        match (ids.is_empty(), self.special.begin) {
            (false, _) => Ok(ids),
            (true, Some(begin)) => Ok(vec![begin]),
            (true, None) => Err(GenerationError::EmptyPrompt { no_begin: true }.into()),
        }
    }

    /// Ids of a text from the [chat template](Self::chat_template), which has the special tokens
    /// that it needs: none is added. What a message says of special tokens becomes those tokens.
    ///
    /// # Errors
    /// When the tokenizer can't encode the text.
    pub fn encode_templated(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_with(text, false)
    }

    fn encode_with(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>> {
        let encoding = self
            .tokenizer
            .encode_fast(text, add_special_tokens)
            .map_err(|source| GenerationError::Tokenizer { what: "tokenize the prompt", source })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Text of ids, without special tokens.
    ///
    /// # Errors
    /// When the tokenizer can't decode them.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.tokenizer.decode(ids, true).map_err(|source| {
            GenerationError::Tokenizer { what: "decode the tokens", source }.into()
        })
    }

    /// The bytes that an id stands for, which need not be whole characters; none for an id that the
    /// tokenizer does not know.
    pub fn token_bytes(&self, id: u32) -> Vec<u8> {
        token_bytes::token_bytes(&self.tokenizer, id)
    }

    /// The token that begins a text, if the model has one.
    pub fn begin_token(&self) -> Option<u32> {
        self.special.begin
    }

    /// Ids that end a text.
    pub fn end_tokens(&self) -> impl Iterator<Item = u32> {
        self.special.end.iter().copied()
    }

    /// Whether an id ends a text.
    pub fn is_end(&self, id: u32) -> bool {
        self.special.end.contains(&id)
    }
}

/// Reads a tokenizer, to behave as the files beside it say. The library panics on some malformed
/// files, which is an error here: it has nothing yet that a panic could leave half done.
fn parse(bytes: &[u8], config: &TokenizerConfig) -> Result<Tokenizer, Cause> {
    // Most of them are no JSON at all, and need no panic to tell.
    serde_json::from_slice::<serde::de::IgnoredAny>(bytes)?;
    let read = || {
        let mut tokenizer = Tokenizer::from_bytes(bytes)?;
        config.apply(&mut tokenizer)?;
        Ok(tokenizer)
    };
    std::panic::catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err("its parts do not fit together".into()))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{byte_tokenizer, write_byte_tokenizer};
    use super::*;

    #[test]
    fn bytes_are_tokens_and_back() {
        let directory = tempfile::tempdir().unwrap();
        let tokenizer = byte_tokenizer(directory.path());
        let text = "Füße, 猫 😀\n";
        let ids = tokenizer.encode(text).unwrap();
        assert_eq!(ids, text.bytes().map(u32::from).collect::<Vec<_>>());
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
        assert_eq!(tokenizer.end_tokens().collect::<Vec<_>>(), [69, 256]);
        assert_eq!(tokenizer.decode(&[104, 256]).unwrap(), "h");
    }

    #[test]
    fn an_empty_text_needs_a_begin_token() {
        let directory = tempfile::tempdir().unwrap();
        let tokenizer = byte_tokenizer(directory.path());
        assert!(tokenizer.encode("").unwrap_err().to_string().contains("no tokens"));
        let config = r#"{"bos_token": "<end>"}"#;
        std::fs::write(directory.path().join("tokenizer_config.json"), config).unwrap();
        assert_eq!(TextTokenizer::load(directory.path()).unwrap().encode("").unwrap(), [256]);
    }

    #[test]
    fn a_begin_token_that_the_text_has_is_not_added() {
        let directory = tempfile::tempdir().unwrap();
        write_byte_tokenizer(directory.path());
        let encode = |config: &str, text| {
            std::fs::write(directory.path().join("tokenizer_config.json"), config).unwrap();
            TextTokenizer::load(directory.path()).unwrap().encode(text).unwrap()
        };
        let adding = r#"{"tokenizer_class": "GemmaTokenizerFast", "bos_token": "<end>"}"#;
        let not = r#"{"tokenizer_class": "Qwen2Tokenizer", "bos_token": "<end>"}"#;
        let cases: [(&str, &str, &[u32]); 7] = [
            (adding, "a", &[256, 97]),
            (adding, "<end>a", &[256, 97]),
            (adding, "<end>", &[256]),
            (adding, "<end><end>a", &[256, 256, 97]),
            (adding, "a<end>", &[256, 97, 256]),
            (not, "<end><end>a", &[256, 256, 97]),
            (not, "a", &[97]),
        ];
        for (config, text, expected) in cases {
            assert_eq!(encode(config, text), expected, "{config} {text}");
        }
    }

    #[test]
    fn cut_tokenizers_are_errors() {
        let directory = tempfile::tempdir().unwrap();
        write_byte_tokenizer(directory.path());
        let path = directory.path().join("tokenizer.json");
        let whole = std::fs::read(&path).unwrap();
        for length in (1..whole.len()).step_by(61) {
            std::fs::write(&path, &whole[..length]).unwrap();
            let message = TextTokenizer::load(directory.path()).unwrap_err().to_string();
            assert!(message.contains("not a tokenizer"), "{length}: {message}");
        }
    }

    #[test]
    fn missing_and_broken_tokenizers_are_explained() {
        let directory = tempfile::tempdir().unwrap();
        let message = TextTokenizer::load(directory.path()).unwrap_err().to_string();
        assert!(message.contains("tokenizer.json") && message.contains("put the"), "{message}");
        let pointer = "version https://git-lfs.github.com/spec/v1\n";
        std::fs::write(directory.path().join("tokenizer.json"), pointer).unwrap();
        let message = TextTokenizer::load(directory.path()).unwrap_err().to_string();
        assert!(message.contains("Git LFS"), "{message}");
        std::fs::write(directory.path().join("tokenizer.json"), "{}").unwrap();
        let message = TextTokenizer::load(directory.path()).unwrap_err().to_string();
        assert!(message.contains("not a tokenizer"), "{message}");
    }
}
