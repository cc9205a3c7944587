//! Messages of a conversation, and how to answer them.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::options::GenerationOptions;

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ChatMessage {
    /// `system`, `user` or `assistant`; what else there may be is the chat template's affair, such
    /// as `tool`.
    pub role: String,
    /// The text, or what stands in its place.
    #[serde(default, skip_serializing_if = "MessageContent::is_missing")]
    pub content: MessageContent,
    /// More that the template may look at, such as `tool_calls` or `reasoning_content`.
    #[serde(flatten)]
    pub extra: Map<String, Json>,
}

/// What a message says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum MessageContent {
    /// Text.
    Text(String),
    /// Parts such as `{"type": "text", "text": "…"}`, as the template knows them. Images are for
    /// the template's text alone: no model gets them.
    Parts(Vec<Json>),
    /// `null`, as where the assistant only calls functions.
    Null,
    /// The message has no content at all.
    #[default]
    #[serde(skip)]
    Missing,
}

impl MessageContent {
    /// The text, or that of the parts that have one, one after the other.
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            MessageContent::Text(text) => Cow::Borrowed(text),
            MessageContent::Parts(parts) => {
                parts.iter().filter_map(|part| part.get("text")?.as_str()).collect()
            }
            MessageContent::Null | MessageContent::Missing => Cow::Borrowed(""),
        }
    }

    fn is_missing(&self) -> bool {
        *self == MessageContent::Missing
    }
}

impl From<String> for MessageContent {
    fn from(text: String) -> Self {
        MessageContent::Text(text)
    }
}

impl From<&str> for MessageContent {
    fn from(text: &str) -> Self {
        MessageContent::Text(text.to_owned())
    }
}

impl From<&String> for MessageContent {
    fn from(text: &String) -> Self {
        MessageContent::Text(text.clone())
    }
}

impl From<Vec<Json>> for MessageContent {
    fn from(parts: Vec<Json>) -> Self {
        MessageContent::Parts(parts)
    }
}

impl ChatMessage {
    /// A message of any role.
    pub fn new(role: impl Into<String>, content: impl Into<MessageContent>) -> Self {
        ChatMessage { role: role.into(), content: content.into(), extra: Map::new() }
    }

    /// How the assistant should behave; the first message, if there is one.
    pub fn system(content: impl Into<MessageContent>) -> Self {
        Self::new("system", content)
    }

    /// What the user says.
    pub fn user(content: impl Into<MessageContent>) -> Self {
        Self::new("user", content)
    }

    /// What the model answered: the text as it was generated.
    pub fn assistant(content: impl Into<MessageContent>) -> Self {
        Self::new("assistant", content)
    }

    /// Adds something else that the template looks at.
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Json>) -> Self {
        self.extra.insert(name.into(), value.into());
        self
    }
}

/// How to answer a conversation.
///
/// ```
/// use candle_coreml::{ChatOptions, GenerationOptions};
///
/// let options = ChatOptions::new(GenerationOptions::new().max_tokens(64)).thinking(false);
/// assert_eq!(options.generation.max_tokens, 64);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ChatOptions {
    /// How to choose tokens and when to stop.
    pub generation: GenerationOptions,
    /// Whether the model should think before it answers: the template's `enable_thinking`. The
    /// template decides if `None`.
    pub thinking: Option<bool>,
    /// Descriptions of functions that the model may call: the template's `tools`.
    pub tools: Option<Json>,
    /// More variables for the template, which go before its usual ones.
    pub variables: Map<String, Json>,
}

impl ChatOptions {
    /// Answers with these options, as the template has it.
    pub fn new(generation: GenerationOptions) -> Self {
        ChatOptions { generation, ..ChatOptions::default() }
    }

    /// Sets whether the model should think before it answers.
    pub fn thinking(mut self, thinking: bool) -> Self {
        self.thinking = Some(thinking);
        self
    }

    /// Offers functions to the model, as the list of JSON objects that its template knows.
    pub fn tools(mut self, tools: Json) -> Self {
        self.tools = Some(tools);
        self
    }

    /// Sets another variable of the template.
    pub fn variable(mut self, name: impl Into<String>, value: impl Into<Json>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }
}

impl From<GenerationOptions> for ChatOptions {
    fn from(generation: GenerationOptions) -> Self {
        Self::new(generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_json_objects_with_whatever_else_they_hold() {
        let text = r#"{"role":"assistant","content":"","tool_calls":[1]}"#;
        let message: ChatMessage = serde_json::from_str(text).unwrap();
        assert_eq!(message, ChatMessage::assistant("").with("tool_calls", vec![1]));
        assert_eq!(serde_json::to_string(&message).unwrap(), text);
    }

    #[test]
    fn content_may_be_text_parts_null_or_missing() {
        let part = serde_json::json!({"type": "text", "text": "hi"});
        for (text, content) in [
            (r#"{"role":"user","content":"hi"}"#, MessageContent::Text("hi".to_owned())),
            (r#"{"role":"user","content":[{"type":"text","text":"hi"}]}"#, vec![part].into()),
            (r#"{"role":"user","content":null}"#, MessageContent::Null),
            (r#"{"role":"user"}"#, MessageContent::Missing),
        ] {
            let message: ChatMessage = serde_json::from_str(text).unwrap();
            assert_eq!(message, ChatMessage::new("user", content));
            assert_eq!(serde_json::to_string(&message).unwrap(), text);
        }
        assert!(serde_json::from_str::<ChatMessage>(r#"{"role":"user","content":1}"#).is_err());
    }
}
