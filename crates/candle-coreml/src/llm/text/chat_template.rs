//! Chat templates: Jinja as Hugging Face's `apply_chat_template` has it.

use std::fmt::Write;
use std::path::Path;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value};
use minijinja::{AutoEscape, Environment, ErrorKind};
use serde_json::{Map, Value as Json};

use super::python_json::PythonJson;
use crate::config::{read_json, read_text};
use crate::error::{Error, GenerationError, Result};
use crate::llm::request::{ChatMessage, ChatOptions};

/// Turns messages into the text that a model was trained on. Templates come with models, so they
/// are untrusted: they reach nothing but the messages, and their time and memory are bounded.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// `bos_token` and `eos_token`, and other special tokens' texts.
    tokens: Map<String, Json>,
}

/// Instructions and memory (in units of 64 bytes) of one rendering: more than thousands of messages
/// take.
const FUEL: u64 = 4_000_000;

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

    fn with_templates(templates: Vec<(String, String)>, tokens: Map<String, Json>) -> Result<Self> {
        let mut environment =
            environment().map_err(|error| wrong("has no environment to run in", error))?;
        for (name, source) in templates {
            let source = without_generation_marks(&source);
            environment
                .add_template_owned(name, source)
                .map_err(|error| wrong("is not a valid template", error))?;
        }
        Ok(ChatTemplate { environment, tokens })
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
        let name = if options.tools.is_some() { TOOL_USE } else { DEFAULT };
        let template = self
            .environment
            .get_template(name)
            .or_else(|_| self.environment.get_template(DEFAULT))
            .map_err(|error| wrong("has no template `default`", error))?;
        let mut variables = self.tokens.clone();
        let messages = serde_json::to_value(messages)
            .map_err(|error| GenerationError::Conversation { source: error.into() })?;
        variables.insert("messages".to_owned(), messages);
        variables.insert("add_generation_prompt".to_owned(), answer.into());
        variables.extend(options.thinking.map(|on| ("enable_thinking".to_owned(), on.into())));
        variables.extend(options.tools.clone().map(|tools| ("tools".to_owned(), tools)));
        variables.extend(options.variables.clone());
        template
            .render(Serde(variables))
            .map_err(|error| GenerationError::Conversation { source: error.into() }.into())
    }
}

/// Jinja as `apply_chat_template` sets it up.
fn environment() -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(100);
    environment.add_function("raise_exception", |message: String| {
        Err::<Value, _>(minijinja::Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", |format: String| {
        formatted_time(&chrono::Local::now().naive_local(), &format)
    });
    environment.add_filter("tojson", to_json);
    Ok(environment)
}

fn formatted_time(time: &chrono::NaiveDateTime, format: &str) -> Result<String, minijinja::Error> {
    let mut text = String::new();
    write!(text, "{}", time.format(format)).map_err(|_| {
        let message = format!("`{format}` is not a format of times");
        minijinja::Error::new(ErrorKind::InvalidOperation, message)
    })?;
    Ok(text)
}

fn to_json(value: Value, arguments: Kwargs) -> Result<String, minijinja::Error> {
    let failed = |message| minijinja::Error::new(ErrorKind::BadSerialization, message);
    let mut layout = PythonJson::new(arguments.get("indent")?);
    if let Some((item, key)) = arguments.get::<Option<Value>>("separators")?.and_then(|pair| {
        let text = |index| pair.get_item_by_index(index).ok()?.as_str().map(str::to_owned);
        Some((text(0)?, text(1)?))
    }) {
        (layout.item_separator, layout.key_separator) = (item, key);
    }
    layout.ascii = arguments.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    arguments.assert_all_used()?;
    if layout.indent.is_some_and(|indent| indent > 100) {
        return Err(failed("more than 100 spaces of indentation".to_owned()));
    }
    let json = serde_json::to_value(&value).map_err(|error| failed(error.to_string()))?;
    layout.text(&json).map_err(failed)
}

/// Some templates mark the assistant's part for training with `{% generation %}`, which changes
/// nothing of the text: it becomes a block that is always there.
fn without_generation_marks(source: &str) -> String {
    let mut result = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else { break };
        let (before, tag) = (&rest[..start], &rest[start..start + length]);
        result.push_str(before);
        let word = tag.trim_start_matches("{%").trim_matches(['-', '+']).trim();
        match word {
            "generation" => result.push_str(&tag.replace(word, "if true")),
            "endgeneration" => result.push_str(&tag.replace(word, "endif")),
            _ => result.push_str(tag),
        }
        rest = &rest[start + length..];
    }
    result + rest
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

fn wrong(message: &'static str, error: minijinja::Error) -> Error {
    GenerationError::Template { message, source: error.into() }.into()
}

fn in_file(path: &Path, error: Error) -> Error {
    Error::language_model(path, error.to_string()).caused_by(error)
}
