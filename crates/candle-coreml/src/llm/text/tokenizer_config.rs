//! What the files beside `tokenizer.json` say of the tokenizer, gone by as Hugging Face's
//! transformers 4 does for its fast tokenizers.

use std::path::Path;

use coreml_format::Cause;
use serde_json::{Map, Value as Json, json};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::processors::PostProcessorWrapper;
use tokenizers::{AddedToken, Tokenizer};

use crate::config::read_json;
use crate::error::{Error, Result};

/// `tokenizer_config.json`, with what older files say where it does not.
#[derive(Default)]
pub(super) struct TokenizerConfig {
    settings: Map<String, Json>,
    class: Option<Class>,
    /// Tokens that the tokenizer has to know, in the order of their ids.
    added: Vec<AddedToken>,
}

/// A tokenizer that adds begin and end tokens itself, whatever the post-processor of
/// `tokenizer.json` says. Others leave that to it.
#[derive(Clone, Copy)]
struct Class {
    name: &'static str,
    /// Whether the begin token is added unless told otherwise.
    adds_begin: bool,
    begin: &'static str,
    end: &'static str,
    /// Models whose tokenizer this is where none is named.
    models: &'static [&'static str],
}

const CLASSES: [Class; 5] = [
    Class {
        name: "LlamaTokenizer",
        adds_begin: true,
        begin: "<s>",
        end: "</s>",
        models: &[
            "arcee",
            "deepseek_v2",
            "deepseek_v3",
            "diffllama",
            "ernie4_5",
            "jamba",
            "jetmoe",
            "llama",
            "llama4",
            "llama4_text",
            "ministral",
            "mistral",
            "mistral3",
            "mixtral",
            "persimmon",
            "phi3",
            "phimoe",
            "zamba",
            "zamba2",
        ],
    },
    Class {
        name: "CodeLlamaTokenizer",
        adds_begin: true,
        begin: "<s>",
        end: "</s>",
        models: &["code_llama"],
    },
    Class {
        name: "GemmaTokenizer",
        adds_begin: true,
        begin: "<bos>",
        end: "<eos>",
        models: &[
            "gemma",
            "gemma2",
            "gemma3",
            "gemma3_text",
            "gemma3n",
            "gemma3n_text",
            "recurrent_gemma",
        ],
    },
    Class {
        name: "CohereTokenizer",
        adds_begin: true,
        begin: "<BOS_TOKEN>",
        end: "<|END_OF_TURN_TOKEN|>",
        models: &["cohere", "cohere2"],
    },
    Class {
        name: "GPTNeoXTokenizer",
        adds_begin: false,
        begin: "<|endoftext|>",
        end: "<|endoftext|>",
        models: &[
            "falcon_mamba",
            "gpt_neox",
            "mamba",
            "mamba2",
            "mpt",
            "olmo",
            "olmo2",
            "olmoe",
            "rwkv",
            "stablelm",
            "xlstm",
        ],
    },
];

/// Special tokens that have a name.
const NAMED: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

impl TokenizerConfig {
    /// Reads `tokenizer_config.json` of a directory. `special_tokens_map.json` goes before it and
    /// `added_tokens.json` adds to it where it has no `added_tokens_decoder` itself; where it names no
    /// class, `config.json` does, or its type of model.
    pub(super) fn read(directory: &Path) -> Result<Self> {
        let object = |name: &str| match read_json(&directory.join(name))? {
            Some(Json::Object(object)) => Ok(object),
            _ => Ok::<_, Error>(Map::new()),
        };
        let mut settings = object("tokenizer_config.json")?;
        let decoder = settings.get("added_tokens_decoder").and_then(Json::as_object);
        let added = match decoder {
            Some(decoder) => described_tokens(decoder),
            None => {
                settings.extend(object("special_tokens_map.json")?);
                listed_tokens(&object("added_tokens.json")?, &special_texts(&settings))
            }
        };
        let model = object("config.json")?;
        let word =
            |settings: &Map<String, Json>, key| Some(settings.get(key)?.as_str()?.to_owned());
        let class = match word(&settings, "tokenizer_class").or(word(&model, "tokenizer_class")) {
            Some(name) => CLASSES.iter().find(|class| class.name == name.trim_end_matches("Fast")),
            None => word(&model, "model_type").and_then(|model| {
                CLASSES.iter().find(|class| class.models.contains(&model.as_str()))
            }),
        };
        Ok(TokenizerConfig { settings, class: class.copied(), added })
    }

    /// The text of a token such as `bos_token`.
    pub(super) fn token(&self, key: &str) -> Option<&str> {
        content(self.settings.get(key)?)
    }

    /// The text of the token that begins a text: what is told, or else what the class has.
    pub(super) fn begin(&self) -> Option<&str> {
        self.token_or("bos_token", |class| class.begin)
    }

    fn token_or(&self, key: &str, default: impl FnOnce(Class) -> &'static str) -> Option<&str> {
        match self.settings.get(key) {
            Some(token) => content(token),
            None => self.class.map(default),
        }
    }

    fn flag(&self, key: &str) -> Option<bool> {
        match self.settings.get(key)? {
            Json::Null => Some(false),
            value => value.as_bool(),
        }
    }

    /// Makes a tokenizer behave as these files say.
    pub(super) fn apply(&self, tokenizer: &mut Tokenizer) -> Result<(), Cause> {
        tokenizer.add_tokens(self.added.clone())?;
        // Those that are tokens already but would be cut like any other text.
        let special: Vec<AddedToken> = special_texts(&self.settings)
            .into_iter()
            .chain(self.begin())
            .filter(|text| tokenizer.token_to_id(text).is_some())
            .filter(|text| !tokenizer.get_added_vocabulary().get_vocab().contains_key(*text))
            .map(|text| AddedToken::from(text, true))
            .collect();
        tokenizer.add_special_tokens(special)?;
        tokenizer.set_encode_special_tokens(self.flag("split_special_tokens") == Some(true));
        if let (Some(space), Some(PreTokenizerWrapper::ByteLevel(bytes))) =
            (self.flag("add_prefix_space"), tokenizer.get_pre_tokenizer().cloned())
        {
            tokenizer.with_pre_tokenizer(Some(bytes.add_prefix_space(space)));
        }
        if let Some(processor) = self.post_processor(tokenizer)? {
            tokenizer.with_post_processor(Some(processor));
        }
        Ok(())
    }

    /// What adds begin and end tokens, of a class that sees to that itself. A token that the
    /// tokenizer does not know can't be added: then its own post-processor stays.
    fn post_processor(&self, tokenizer: &Tokenizer) -> Result<Option<PostProcessorWrapper>, Cause> {
        let Some(class) = self.class else { return Ok(None) };
        let adds_begin = self.flag("add_bos_token").unwrap_or(class.adds_begin);
        let adds_end = self.flag("add_eos_token").unwrap_or(false);
        let begin = self.begin().filter(|_| adds_begin);
        let end = self.token_or("eos_token", |class| class.end).filter(|_| adds_end);
        if begin.is_some() != adds_begin || end.is_some() != adds_end {
            return Ok(None);
        }
        let mut special = Map::new();
        let mut piece = |text: &str| {
            let id = tokenizer.token_to_id(text)?;
            let token = json!({"id": text, "ids": [id], "tokens": [text]});
            special.insert(text.to_owned(), token);
            Some(json!({"SpecialToken": {"id": text, "type_id": 0}}))
        };
        let around = (begin.map(&mut piece), end.map(&mut piece));
        let (begin, end) = match around {
            (Some(None), _) | (_, Some(None)) => return Ok(None),
            (begin, end) => (begin.flatten(), end.flatten()),
        };
        let text = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
        let single: Vec<Json> = begin.into_iter().chain([text("A")]).chain(end).collect();
        let pair = [single.clone(), vec![text("B")]].concat();
        let processor = json!({
            "type": "TemplateProcessing",
            "single": single,
            "pair": pair,
            "special_tokens": special,
        });
        Ok(Some(serde_json::from_value(processor)?))
    }
}

/// The text of a token, which is told by itself or in an object.
fn content(token: &Json) -> Option<&str> {
    token.as_str().or_else(|| token.get("content")?.as_str())
}

/// Texts of all special tokens that are named or listed.
fn special_texts(settings: &Map<String, Json>) -> Vec<&str> {
    let named = NAMED.iter().filter_map(|key| settings.get(*key));
    let lists = ["additional_special_tokens", "extra_special_tokens"].into_iter();
    let listed = lists.filter_map(|key| settings.get(key)?.as_array()).flatten();
    named.chain(listed).filter_map(content).collect()
}

/// `added_tokens_decoder`: descriptions of tokens by their ids.
fn described_tokens(decoder: &Map<String, Json>) -> Vec<AddedToken> {
    let described = decoder.iter().filter_map(|(id, token)| {
        let flag = |key: &str| token.get(key).and_then(Json::as_bool);
        let special = flag("special").unwrap_or(false);
        let added = AddedToken::from(content(token)?, special)
            .single_word(flag("single_word").unwrap_or(false))
            .lstrip(flag("lstrip").unwrap_or(false))
            .rstrip(flag("rstrip").unwrap_or(false))
            .normalized(flag("normalized").unwrap_or(!special));
        Some((id.parse().ok()?, added))
    });
    in_order(described)
}

/// `added_tokens.json`: ids by their texts.
fn listed_tokens(ids: &Map<String, Json>, special: &[&str]) -> Vec<AddedToken> {
    let listed = ids.iter().filter_map(|(text, id)| {
        let is_special = special.contains(&text.as_str());
        Some((id.as_u64()?, AddedToken::from(text, is_special)))
    });
    in_order(listed)
}

fn in_order(tokens: impl Iterator<Item = (u64, AddedToken)>) -> Vec<AddedToken> {
    let mut tokens: Vec<(u64, AddedToken)> = tokens.collect();
    tokens.sort_by_key(|(id, _)| *id);
    tokens.into_iter().map(|(_, token)| token).collect()
}
