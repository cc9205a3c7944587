//! Prompts, and what is left of them when the context is full.

use crate::error::Result;
use crate::llm::request::{ChatMessage, ChatOptions};
use crate::llm::text::TextTokenizer;

/// Token ids, and for a chat the messages that they come from.
pub(super) struct Prompt {
    pub(super) ids: Vec<u32>,
    chat: Option<Chat>,
}

/// What is still known of a chat.
struct Chat {
    messages: Vec<ChatMessage>,
    options: ChatOptions,
}

impl Prompt {
    pub(super) fn text(ids: &[u32]) -> Self {
        Prompt { ids: ids.to_vec(), chat: None }
    }

    /// The conversation as the model's template has it.
    pub(super) fn chat(
        tokenizer: &TextTokenizer,
        messages: &[ChatMessage],
        options: &ChatOptions,
    ) -> Result<Self> {
        let text = tokenizer.chat_template()?.render(messages, options)?;
        let chat = Chat { messages: messages.to_vec(), options: options.clone() };
        Ok(Prompt { ids: tokenizer.encode_templated(&text)?, chat: Some(chat) })
    }

    /// Fewer tokens for a context that is too short for the prompt and `generated` behind it: those
    /// of a chat without its oldest messages, if that leaves room; else the first `keep` and the
    /// last ones. At least half of what lies behind the kept tokens is free afterwards.
    pub(super) fn shortened(
        &mut self,
        generated: &[u32],
        keep: usize,
        context: usize,
        tokenizer: &TextTokenizer,
    ) -> Result<Vec<u32>> {
        let keep = match &self.chat {
            Some(chat) => keep.max(chat.system_tokens(tokenizer, &self.ids)),
            None => keep,
        };
        let begins = self.ids.first().copied() == tokenizer.begin_token();
        let keep = keep.max(usize::from(begins)).min(context.saturating_sub(2));
        // Half of the room, but never nothing.
        let tail = ((context - keep) / 2).max(1);
        if let Some(chat) = &mut self.chat
            && let Some(mut ids) = chat.forget(keep + tail, generated.len(), tokenizer)
        {
            ids.extend_from_slice(generated);
            return Ok(ids);
        }
        let all = self.ids.len() + generated.len();
        let last = self.ids.iter().chain(generated).skip(keep.max(all.saturating_sub(tail)));
        Ok(self.ids.iter().take(keep).chain(last).copied().collect())
    }
}

impl Chat {
    /// How many tokens at the beginning come from the system message.
    fn system_tokens(&self, tokenizer: &TextTokenizer, ids: &[u32]) -> usize {
        let messages = self.messages.get(..self.system_messages()).unwrap_or_default();
        if messages.is_empty() {
            return 0;
        }
        // Some templates do not take a system message alone; then it is no part to keep.
        let alone = tokenizer
            .chat_template()
            .and_then(|template| template.render_part(messages, &self.options, false))
            .and_then(|text| tokenizer.encode_templated(&text));
        alone.map_or(0, |alone| alone.iter().zip(ids).take_while(|(a, b)| a == b).count())
    }

    fn system_messages(&self) -> usize {
        let is_system = |role: &str| role == "system" || role == "developer";
        self.messages.iter().take_while(|message| is_system(&message.role)).count()
    }

    /// Forgets the oldest messages until the rest, with `generated` tokens behind it, has at most
    /// `limit` tokens. The conversation begins with a user's message again; the last one stays. A
    /// template may refuse what is left: `None`, as when the messages can't be short enough.
    fn forget(
        &mut self,
        limit: usize,
        generated: usize,
        tokenizer: &TextTokenizer,
    ) -> Option<Vec<u32>> {
        let system = self.system_messages();
        let mut messages = self.messages.clone();
        loop {
            let rest = messages.get(system..)?;
            let next = 1 + rest.get(1..)?.iter().position(|message| message.role == "user")?;
            messages.drain(system..system + next);
            let text = tokenizer.chat_template().ok()?.render(&messages, &self.options).ok()?;
            let ids = tokenizer.encode_templated(&text).ok()?;
            if ids.len() + generated <= limit {
                self.messages = messages;
                return Some(ids);
            }
        }
    }
}
