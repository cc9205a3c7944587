//! `chat`: a conversation in a terminal, or with a script.

mod commands;
mod files;
mod input;

use std::io::{self, IsTerminal, Write};

use anyhow::{Context, Result, bail};
use candle_coreml::{
    ChatMessage, ChatOptions, ContextOverflow, FinishReason, Generation, GenerationOptions,
    MessageContent, RecommendedSampling, Session,
};
use clap::{CommandFactory, FromArgMatches, Parser};

use crate::args::{ChatArgs, SamplingArgs, with_spellings};
use crate::exit::Exit;
use crate::generate::{load, timings_line};
use crate::screen::print_stream;
use crate::{interrupt, prompt, term};
use input::Typed;

/// Talks until the input ends, or answers the one message that is given.
pub fn run(args: &ChatArgs, verbose: bool) -> Result<()> {
    let message = prompt::named(&args.words, &args.source)?;
    let (model, demo) = load(&args.model.model, &args.compute)?;
    if demo.is_some() {
        term::tell("The demo model was made to tell stories, not to talk; --model takes another.");
    }
    // Better now than after the first message.
    model.tokenizer().chat_template().context("can't chat with this model")?;
    let mut chat = Chat {
        session: model.session(),
        base: options(args, model.recommended_sampling()),
        settings: Vec::new(),
        thinking: args.no_thinking.then_some(false),
        system: args.system.clone(),
        messages: Vec::new(),
        last: None,
        wrap: !args.no_wrap,
        verbose,
    };
    match message {
        Some(message) => chat.answer_once(&message),
        None if io::stdin().is_terminal() => chat.talk(&mut Typed::new(!args.nohistory)?),
        None => chat.answer_lines(),
    }
}

/// As the model recommends, and then as the command line says.
fn options(args: &ChatArgs, recommended: &RecommendedSampling) -> GenerationOptions {
    let base = GenerationOptions::new()
        .max_tokens(1024)
        .overflow(ContextOverflow::Shift { keep: 0 })
        .recommended(recommended);
    args.sampling.apply(base)
}

struct Chat {
    session: Session,
    /// As the conversation began.
    base: GenerationOptions,
    /// What was set since, as options of the command line.
    settings: Vec<String>,
    thinking: Option<bool>,
    system: Option<String>,
    messages: Vec<ChatMessage>,
    last: Option<Generation>,
    /// Whether lines are broken between words.
    wrap: bool,
    /// Whether timings are told after each answer.
    verbose: bool,
}

/// Settings of a conversation: the options of the command line, the last one of a name counts.
#[derive(Debug, Parser)]
#[command(no_binary_name = true, disable_help_flag = true, args_override_self = true)]
struct Settings {
    #[command(flatten)]
    sampling: SamplingArgs,
}

impl Chat {
    /// Answers what is typed and does what is asked for; a mistake is told, and all goes on.
    fn talk(&mut self, input: &mut Typed) -> Result<()> {
        term::tell("/help tells what can be done. Ctrl-D or /exit ends the conversation.");
        while let Some(line) = input.next()? {
            let result = match line.trim() {
                "" => Ok(()),
                _ if line.starts_with('/') => match self.command(line.trim_end()) {
                    Ok(commands::Next::End) => return Ok(()),
                    Ok(commands::Next::GoOn) => Ok(()),
                    Err(error) => Err(error),
                },
                trimmed => self.answer(input::message(trimmed)).map(drop),
            };
            match result {
                Err(error) if term::is_closed_pipe(&error) => return Err(error),
                Err(error) => term::error(format_args!("{error:#}")),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// Each line is a message, whatever it begins with; blank ones are skipped. A script should
    /// notice what fails.
    fn answer_lines(&mut self) -> Result<()> {
        let mut number = 0;
        loop {
            number += 1;
            // Not locked while an answer runs.
            let line = prompt::line(&mut io::stdin().lock())
                .with_context(|| format!("can't read line {number} of standard input"))?;
            match line {
                None => return Ok(()),
                Some(blank) if blank.trim().is_empty() => {}
                Some(message) => self.answer(&message).map(drop)?,
            }
        }
    }

    fn answer_once(&mut self, message: &str) -> Result<()> {
        match self.answer(message)? {
            FinishReason::Cancelled => Err(Exit::Interrupted.into()),
            _ => Ok(()),
        }
    }

    /// All messages, the system's first.
    fn conversation(&self) -> Vec<ChatMessage> {
        let system = self.system.iter().map(ChatMessage::system);
        system.chain(self.messages.iter().cloned()).collect()
    }

    /// Answers a message, which is as if not said where there is no answer.
    fn answer(&mut self, message: impl Into<MessageContent>) -> Result<FinishReason> {
        self.messages.push(ChatMessage::user(message));
        let generation = self.generate();
        if generation.as_ref().map_or(true, |generation| generation.token_ids.is_empty()) {
            self.messages.pop();
        }
        let generation = generation?;
        for notice in notices(&generation) {
            term::tell(format_args!("({notice})"));
        }
        if self.verbose {
            term::tell(stats(&generation));
        }
        let reason = generation.finish_reason;
        if !generation.token_ids.is_empty() {
            self.messages.push(generation.message());
            self.last = Some(generation);
        }
        Ok(reason)
    }

    fn generate(&mut self) -> Result<Generation> {
        let mut options = ChatOptions::new(self.options()?);
        options.thinking = self.thinking;
        let conversation = self.conversation();
        let generation = interrupt::cancellable(|cancel| {
            options.generation.cancel = Some(cancel);
            let stream = self.session.chat_stream(&conversation, &options)?;
            print_stream(stream, self.wrap)
        })?;
        if !generation.text.ends_with('\n') {
            let mut out = term::data();
            out.write_all(b"\n")?;
            out.flush()?;
        }
        Ok(generation)
    }

    /// How tokens are chosen now.
    fn options(&self) -> Result<GenerationOptions> {
        Ok(self.settings(&self.settings)?.apply(self.base.clone()))
    }

    fn settings(&self, settings: &[String]) -> Result<SamplingArgs> {
        let command = with_spellings(Settings::command());
        let settings = command.try_get_matches_from(settings);
        let settings = settings.and_then(|matches| Settings::from_arg_matches(&matches));
        match settings {
            Ok(settings) => Ok(settings.sampling),
            // What follows is about command lines.
            Err(error) => {
                let text = error.to_string();
                let first = text.lines().next().unwrap_or_default();
                bail!("{}", first.trim_start_matches("error: "))
            }
        }
    }
}

/// What somebody should know of an answer that did not simply end.
fn notices(generation: &Generation) -> Vec<String> {
    let usage = &generation.usage;
    let mut notices = Vec::new();
    if usage.shifted_tokens > 0 {
        notices.push(format!(
            "the context was full: {} tokens of the conversation were forgotten",
            usage.shifted_tokens
        ));
    }
    match generation.finish_reason {
        FinishReason::Length => notices.push(format!(
            "stopped after {} tokens; --max-tokens or /set parameter max-tokens allows more",
            usage.generated_tokens
        )),
        FinishReason::Context => {
            notices.push("the context is full; /clear begins anew".to_owned());
        }
        FinishReason::Cancelled => notices.push("stopped".to_owned()),
        _ => {}
    }
    notices
}

fn stats(generation: &Generation) -> String {
    let usage = &generation.usage;
    format!(
        "{}; of the prompt, {} tokens were in the cache",
        timings_line(generation),
        usage.reused_tokens
    )
}
