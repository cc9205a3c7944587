//! Chat templates: Jinja as Hugging Face's `apply_chat_template` has it.

use std::path::Path;

use serde_json::{Map, Value as Json};

use super::jinja::{Template, TemplateError};
use crate::config::{read_json, read_text};
use crate::error::{Error, GenerationError, Result};
use crate::llm::request::{ChatMessage, ChatOptions};

/// Turns messages into the text that a model was trained on. Templates come with models, so they
/// are untrusted: they reach nothing but the messages, and their time and memory are bounded.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    /// Templates by name.
    templates: Vec<(String, Template)>,
    /// `bos_token` and `eos_token`, and other special tokens' texts.
    tokens: Map<String, Json>,
}

/// Name of the template for everyday use.
const DEFAULT: &str = "default";

/// Name of a template for conversations with functions.
const TOOL_USE: &str = "tool_use";

impl ChatTemplate {
    /// A template from its source, with the texts of the special tokens `bos_token` and
    /// `eos_token`.
    ///
    /// # Errors
    /// When it is not a valid template.
    pub fn new(source: &str, begin: Option<&str>, end: Option<&str>) -> Result<Self> {
        let mut tokens = Map::new();
        let named = [("bos_token", begin), ("eos_token", end)];
        tokens
            .extend(named.into_iter().filter_map(|(name, text)| Some((name.into(), text?.into()))));
        Self::with_templates(vec![(DEFAULT.to_owned(), source.to_owned())], tokens)
    }

    /// The template of a model's directory: `chat_template.jinja`, or `chat_template` in
    /// `tokenizer_config.json` (text, or a list of named templates), or in `chat_template.json`.
    /// `None` when there is none.
    ///
    /// # Errors
    /// When a file is malformed or the template is not valid.
    pub fn load(directory: impl AsRef<Path>) -> Result<Option<Self>> {
        let directory = directory.as_ref();
        let tokens = special_tokens(directory)?;
        let file = directory.join("chat_template.jinja");
        if let Some(source) = read_text(&file)? {
            return Self::with_templates(vec![(DEFAULT.to_owned(), source)], tokens)
                .map(Some)
                .map_err(|error| in_file(&file, error));
        }
        for name in ["tokenizer_config.json", "chat_template.json"] {
            let path = directory.join(name);
            let Some(config) = read_json(&path)? else { continue };
            let templates = named_templates(config.get("chat_template"));
            if !templates.is_empty() {
                return Self::with_templates(templates, tokens)
                    .map(Some)
                    .map_err(|error| in_file(&path, error));
            }
        }
        Ok(None)
    }

    fn with_templates(sources: Vec<(String, String)>, tokens: Map<String, Json>) -> Result<Self> {
        let mut templates = Vec::new();
        for (name, source) in sources {
            let template = Template::new(&name, &source)
                .map_err(|error| wrong("is not a valid template", error))?;
            templates.push((name, template));
        }
        Ok(ChatTemplate { templates, tokens })
    }

    /// The text of a conversation, up to where the answer begins.
    ///
    /// # Errors
    /// When the template refuses the messages or fails.
    pub fn render(&self, messages: &[ChatMessage], options: &ChatOptions) -> Result<String> {
        self.render_part(messages, options, true)
    }

    /// The text of messages, with the beginning of an answer behind them or without.
    pub(crate) fn render_part(
        &self,
        messages: &[ChatMessage],
        options: &ChatOptions,
        answer: bool,
    ) -> Result<String> {
        let failed = |error: TemplateError| GenerationError::Conversation { source: error.into() };
        let named = |wanted| self.templates.iter().find(|(name, _)| name == wanted);
        let template = options.tools.as_ref().and_then(|_| named(TOOL_USE));
        let Some((_, template)) = template.or_else(|| named(DEFAULT)) else {
            return Err(failed(TemplateError::missing(DEFAULT)).into());
        };
        template.render(&self.variables(messages, options, answer)?).map_err(|e| failed(e).into())
    }

    /// What a template sees, as `apply_chat_template` gives it.
    fn variables(
        &self,
        messages: &[ChatMessage],
        options: &ChatOptions,
        answer: bool,
    ) -> Result<Map<String, Json>> {
        let mut variables = self.tokens.clone();
        let mut messages = serde_json::to_value(messages)
            .map_err(|error| GenerationError::Conversation { source: error.into() })?;
        messages.as_array_mut().into_iter().flatten().for_each(name_reasoning);
        variables.insert("messages".to_owned(), messages);
        variables.insert("add_generation_prompt".to_owned(), answer.into());
        variables.insert("documents".to_owned(), Json::Null);
        variables.insert("tools".to_owned(), options.tools.clone().unwrap_or_default());
        variables.extend(options.thinking.map(|on| ("enable_thinking".to_owned(), on.into())));
        variables.extend(options.variables.clone());
        Ok(variables)
    }
}

/// Templates know the thoughts of a message under one of two names, and those who write messages under
/// one of three: a message gets those two.
fn name_reasoning(message: &mut Json) {
    let Some(message) = message.as_object_mut() else { return };
    let names = ["reasoning_content", "thinking", "reasoning"];
    let found = names.into_iter().find_map(|n| message.get(n).filter(|value| !value.is_null()));
    let Some(reasoning) = found.cloned() else { return };
    if !message.contains_key("thinking") {
        message.shift_insert(0, "thinking".to_owned(), reasoning.clone());
    }
    message.insert("reasoning_content".to_owned(), reasoning);
}

/// `chat_template`: one template, or a list of named ones.
fn named_templates(value: Option<&Json>) -> Vec<(String, String)> {
    let named = |entry: &Json| {
        let text = |key| entry.get(key)?.as_str().map(str::to_owned);
        Some((text("name")?, text("template")?))
    };
    match value {
        Some(Json::String(source)) => vec![(DEFAULT.to_owned(), source.clone())],
        Some(Json::Array(entries)) => entries.iter().filter_map(named).collect(),
        _ => Vec::new(),
    }
}

/// Texts of special tokens, by the names that templates know them under.
fn special_tokens(directory: &Path) -> Result<Map<String, Json>> {
    let mut tokens = Map::new();
    for name in ["special_tokens_map.json", "tokenizer_config.json"] {
        let Some(Json::Object(config)) = read_json(&directory.join(name))? else { continue };
        for (key, value) in config.iter().filter(|(key, _)| key.ends_with("_token")) {
            if let Some(text) = value.as_str().or_else(|| value.get("content")?.as_str()) {
                tokens.insert(key.clone(), text.into());
            }
        }
    }
    Ok(tokens)
}

fn wrong(message: &'static str, error: TemplateError) -> Error {
    GenerationError::Template { message, source: error.into() }.into()
}

fn in_file(path: &Path, error: Error) -> Error {
    Error::language_model(path, error.to_string()).caused_by(error)
}
