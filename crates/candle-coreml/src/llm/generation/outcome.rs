//! What generation gives.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::llm::request::ChatMessage;
use crate::llm::sampling::TokenLogProbabilities;

/// One generated token.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Token {
    /// Its id.
    pub id: u32,
    /// The text that it completes: whole characters, without special tokens. Empty while the bytes
    /// of a character are still coming, or the text may be the beginning of a stop string.
    pub text: String,
    /// How likely it was, if [`logprobs`](crate::GenerationOptions::logprobs) asks for it.
    pub logprobs: Option<TokenLogProbabilities>,
}

/// Why generation stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum FinishReason {
    /// The model gave an end token, or the text reached a stop string.
    Stop,
    /// The token budget is used up.
    Length,
    /// Prompt and generated tokens fill the context.
    Context,
    /// A [`CancelToken`](crate::llm::CancelToken) ended it.
    Cancelled,
}

impl FinishReason {
    /// `stop`, `length`, `context` or `cancelled`.
    pub fn name(self) -> &'static str {
        match self {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
            FinishReason::Context => "context",
            FinishReason::Cancelled => "cancelled",
        }
    }
}

/// Counts of tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Those of them that the session's cache held already.
    pub reused_tokens: usize,
    /// Those of them that were run through the model now.
    pub prefilled_tokens: usize,
    /// Tokens generated, the end token included.
    pub generated_tokens: usize,
    /// Tokens guessed from earlier text and run on trial.
    pub drafted_tokens: usize,
    /// Those of them that the model chose as well.
    pub accepted_tokens: usize,
    /// Tokens that were forgotten to make room in the context:
    /// [`ContextOverflow::Shift`](crate::ContextOverflow::Shift).
    pub shifted_tokens: usize,
}

/// Where the time went. In JSON, seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Timings {
    /// From the prompt's ids to the first token.
    #[serde(rename = "prompt_seconds", serialize_with = "seconds")]
    pub prompt: Duration,
    /// From the first token to the last.
    #[serde(rename = "decode_seconds", serialize_with = "seconds")]
    pub decode: Duration,
}

fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

/// A finished generation.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Generation {
    /// Ids of the prompt.
    pub prompt_ids: Vec<u32>,
    /// Ids of the generated tokens; the end token, or those of a stop string, included.
    pub token_ids: Vec<u32>,
    /// The generated text, without special tokens and up to the stop string.
    pub text: String,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// The stop string that ended it.
    pub stop_string: Option<String>,
    /// How likely each of `token_ids` was, if
    /// [`logprobs`](crate::GenerationOptions::logprobs) asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<Vec<TokenLogProbabilities>>,
    /// Counts of tokens.
    pub usage: Usage,
    /// Where the time went.
    pub timings: Timings,
}

impl Generation {
    /// The text as the assistant's message, to go on with a conversation.
    pub fn message(&self) -> ChatMessage {
        ChatMessage::assistant(self.text.clone())
    }

    /// Prompt tokens run per second.
    pub fn prompt_tokens_per_second(&self) -> Option<f64> {
        rate(self.usage.prefilled_tokens, self.timings.prompt)
    }

    /// Tokens generated per second after the first one, whose time is the prompt's.
    pub fn generated_tokens_per_second(&self) -> Option<f64> {
        rate(self.usage.generated_tokens.saturating_sub(1), self.timings.decode)
    }
}

fn rate(tokens: usize, time: Duration) -> Option<f64> {
    (tokens > 0 && !time.is_zero()).then(|| tokens as f64 / time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generation() -> Generation {
        Generation {
            prompt_ids: vec![1; 100],
            token_ids: vec![1; 11],
            text: "text".to_owned(),
            finish_reason: FinishReason::Length,
            stop_string: None,
            logprobs: None,
            usage: Usage {
                prompt_tokens: 100,
                reused_tokens: 60,
                prefilled_tokens: 40,
                generated_tokens: 11,
                ..Usage::default()
            },
            timings: Timings { prompt: Duration::from_secs(2), decode: Duration::from_secs(5) },
        }
    }

    #[test]
    fn rates_leave_out_what_was_not_run() {
        let generation = generation();
        assert_eq!(generation.prompt_tokens_per_second(), Some(20.0));
        assert_eq!(generation.generated_tokens_per_second(), Some(2.0));
        let none = Generation { timings: Timings::default(), ..generation };
        assert_eq!(none.prompt_tokens_per_second(), None);
    }

    #[test]
    fn json_has_seconds_and_the_names_of_reasons() {
        let json = serde_json::to_value(generation()).unwrap();
        assert_eq!(json["timings"]["prompt_seconds"], 2.0);
        assert_eq!(json["usage"]["prefilled_tokens"], 40);
        assert!(json["stop_string"].is_null() && json.get("logprobs").is_none());
        let all = [
            FinishReason::Stop,
            FinishReason::Length,
            FinishReason::Context,
            FinishReason::Cancelled,
        ];
        for reason in all {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.name());
        }
    }
}
