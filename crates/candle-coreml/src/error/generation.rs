//! Why text can't be generated.

use std::path::PathBuf;

use coreml_format::{Cause, ErrorKind};

/// Why text can't be generated with a prompt, with options, or by a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GenerationError {
    /// The prompt has no tokens.
    #[error(
        "the prompt has no tokens{}; give some text",
        if *no_begin { ", and the model has no begin token to start from" } else { "" }
    )]
    EmptyPrompt {
        /// Whether a begin token, which the model does not have, would have stood in.
        no_begin: bool,
    },

    /// A token is none of the model's.
    #[error("{place} token {id}, but the model knows only {known} tokens{}", hint.unwrap_or(""))]
    UnknownToken {
        /// Where the token stands, as the beginning of a sentence.
        place: &'static str,
        /// The token's id.
        id: u32,
        /// Ids below this number are tokens of the model.
        known: usize,
        /// What may be the reason.
        hint: Option<&'static str>,
    },

    /// The prompt is longer than the model's context.
    #[error(
        "the prompt has {tokens} tokens, but the model's context is {context} tokens; shorten the \
         prompt (to leave room for the answer, by more than the difference), let earlier text be \
         forgotten (overflow: shift), or use a model with a longer context"
    )]
    PromptTooLong {
        /// Tokens of the prompt.
        tokens: usize,
        /// Tokens of the context.
        context: usize,
    },

    /// Prompt and generated text fill the model's context.
    #[error(
        "prompt and generated text fill the model's context of {context} tokens; shorten the \
         prompt, ask for fewer tokens, or let generation stop or forget earlier text there \
         (overflow: stop, shift)"
    )]
    ContextFull {
        /// Tokens of the context.
        context: usize,
    },

    /// An option, or an argument of one of the older crate's functions, has a value that it can't
    /// have.
    #[error("{expected}, got {got}")]
    Option {
        /// What it has to be, with its name.
        expected: String,
        /// What it is.
        got: String,
    },

    /// The options forbid every token.
    #[error(
        "no token is left to choose: all that the model finds possible are forbidden by {options}; \
         forbid fewer"
    )]
    NoTokenLeft {
        /// The options that forbid tokens, in words.
        options: String,
    },

    /// The model chooses tokens itself, and something is asked for that takes logits.
    #[error(
        "the model chooses the most likely token itself and gives no logits (argmax_in_model); \
         only temperature 0 works with it, without penalties, bias, log-probabilities or another \
         sampler; export it with logits for these"
    )]
    NoLogits,

    /// The model has no chat template.
    #[error(
        "{} has no chat template: neither `chat_template.jinja` nor `chat_template` in \
         `tokenizer_config.json` or `chat_template.json`; take them from the original model, or \
         let it continue plain text if it was not trained to chat",
        directory.display()
    )]
    NoChatTemplate {
        /// The model's directory.
        directory: PathBuf,
    },

    /// The model's chat template is not valid.
    #[error("the chat template {message}: {source}")]
    Template {
        /// What is wrong, as the rest of a sentence.
        message: &'static str,
        /// The template engine's error.
        source: Cause,
    },

    /// The model's chat template refuses the conversation, or failed on it.
    #[error("the chat template does not take this conversation: {source}")]
    Conversation {
        /// The template engine's error.
        source: Cause,
    },

    /// The tokenizer can't encode a text or decode tokens.
    #[error("can't {what}: {source}")]
    Tokenizer {
        /// What it was to do.
        what: &'static str,
        /// The tokenizer's error.
        source: Cause,
    },

    /// The model's results are not what its description and its configuration say.
    #[error("{0}")]
    Results(String),

    /// A number is beyond what a model's inputs hold.
    #[error("{what} {value} does not fit into 32 bits")]
    OutOfRange {
        /// What it counts.
        what: &'static str,
        /// The number.
        value: usize,
    },

    /// A thread to generate on can't be started.
    #[error("can't start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

impl GenerationError {
    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        use GenerationError::{
            ContextFull, Conversation, EmptyPrompt, NoChatTemplate, NoLogits, NoTokenLeft,
            OutOfRange, PromptTooLong, Results, Template, Thread, Tokenizer, UnknownToken,
        };
        match self {
            EmptyPrompt { .. }
            | UnknownToken { .. }
            | GenerationError::Option { .. }
            | NoTokenLeft { .. }
            | Conversation { .. }
            | Tokenizer { .. } => ErrorKind::InvalidInput,
            PromptTooLong { .. } | ContextFull { .. } | OutOfRange { .. } => ErrorKind::Limit,
            NoLogits | NoChatTemplate { .. } => ErrorKind::Unsupported,
            Template { .. } | Results(_) => ErrorKind::BrokenModel,
            Thread(_) => ErrorKind::Unavailable,
        }
    }

    pub(crate) fn unknown_token(
        place: &'static str,
        id: u32,
        known: usize,
        hint: Option<&'static str>,
    ) -> Self {
        GenerationError::UnknownToken { place, id, known, hint }
    }

    pub(crate) fn option(expected: impl Into<String>, got: impl ToString) -> Self {
        GenerationError::Option { expected: expected.into(), got: got.to_string() }
    }
}
