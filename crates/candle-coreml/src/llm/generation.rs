//! What generation gives.

use std::time::Duration;

/// One generated token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its id.
    pub id: u32,
    /// The text that it completes: whole characters, without special tokens. Empty while the bytes
    /// of a character are still coming.
    pub text: String,
}

/// Why generation stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model gave an end token.
    Stop,
    /// The token budget is used up.
    Length,
    /// Prompt and generated tokens fill the context.
    Context,
}

impl FinishReason {
    /// `stop`, `length` or `context`.
    pub fn name(self) -> &'static str {
        match self {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
            FinishReason::Context => "context",
        }
    }
}

/// Counts of tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Those of them that the session's cache held already.
    pub reused_tokens: usize,
    /// Those of them that were run through the model now.
    pub prefilled_tokens: usize,
    /// Tokens generated, the end token included.
    pub generated_tokens: usize,
}

/// Where the time went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// From the prompt's ids to the first token.
    pub prompt: Duration,
    /// From the first token to the last.
    pub decode: Duration,
}

/// A finished generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Ids of the prompt.
    pub prompt_ids: Vec<u32>,
    /// Ids of the generated tokens, the end token included.
    pub token_ids: Vec<u32>,
    /// The generated text, without special tokens.
    pub text: String,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Counts of tokens.
    pub usage: Usage,
    /// Where the time went.
    pub timings: Timings,
}

impl Generation {
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

    #[test]
    fn rates_leave_out_what_was_not_run() {
        let generation = Generation {
            prompt_ids: vec![1; 100],
            token_ids: vec![1; 11],
            text: String::new(),
            finish_reason: FinishReason::Length,
            usage: Usage {
                prompt_tokens: 100,
                reused_tokens: 60,
                prefilled_tokens: 40,
                generated_tokens: 11,
            },
            timings: Timings { prompt: Duration::from_secs(2), decode: Duration::from_secs(5) },
        };
        assert_eq!(generation.prompt_tokens_per_second(), Some(20.0));
        assert_eq!(generation.generated_tokens_per_second(), Some(2.0));
        let none = Generation { timings: Timings::default(), ..generation };
        assert_eq!(none.prompt_tokens_per_second(), None);
    }
}
