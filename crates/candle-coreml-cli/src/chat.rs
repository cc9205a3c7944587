//! `chat`: a conversation in a terminal, or with a script.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use candle_coreml::{
    CancelToken, ChatMessage, ChatOptions, ContextOverflow, FinishReason, Generation,
    GenerationOptions, RecommendedSampling, Session,
};

use crate::args::ChatArgs;
use crate::generate::{load, print_stream, timings_line};
use crate::input::Input;
use crate::term;

/// What can be done in a conversation.
const HELP: &str = "\
/reset         forgets the conversation
/system TEXT   says how the model should behave; without TEXT, no longer
/save FILE     writes the conversation as JSON
/stats         tells counts and rates of the last answer
/help          shows this
A line that ends in \\ goes on in the next one. Ctrl-C stops an answer, Ctrl-D ends the conversation.";

/// Talks until the input ends.
pub fn run(args: &ChatArgs) -> Result<()> {
    let (model, demo) = load(&args.model, &args.threads)?;
    if demo.is_some() {
        term::say("The demo model was made to tell stories, not to talk; --model takes another.");
    }
    // Better now than after the first message.
    model.tokenizer().chat_template().context("can't chat with this model")?;
    let options = options(args, model.recommended_sampling());
    let mut chat = Chat {
        session: model.session(),
        options,
        system: args.system.clone(),
        messages: Vec::new(),
        last: None,
        running: on_interrupt()?,
    };
    let mut input = Input::new()?;
    if input.is_terminal() {
        term::say("/help tells what can be done. Ctrl-D ends the conversation.");
    }
    while let Some(message) = input.message()? {
        let result = match message.trim() {
            "" => Ok(()),
            command if command.starts_with('/') => chat.command(command),
            message => chat.answer(message),
        };
        // Whoever types can try again; a script should notice.
        match result {
            Err(error) if input.is_terminal() => term::error(format_args!("{error:#}")),
            result => result?,
        }
    }
    Ok(())
}

/// As the model recommends, and then as the command line says.
fn options(args: &ChatArgs, recommended: &RecommendedSampling) -> ChatOptions {
    let base = GenerationOptions::new()
        .max_tokens(1024)
        .overflow(ContextOverflow::Shift { keep: args.sampling.keep })
        .recommended(recommended);
    let options = ChatOptions::new(args.sampling.apply(base));
    if args.no_thinking { options.thinking(false) } else { options }
}

/// The answer that is being generated, if there is one.
type Running = Arc<Mutex<Option<CancelToken>>>;

/// Lets Ctrl-C stop the answer that is running, and the program where there is none.
fn on_interrupt() -> Result<Running> {
    let running = Running::default();
    let shared = running.clone();
    let stop = move || match &*shared.lock().unwrap_or_else(PoisonError::into_inner) {
        Some(answer) => answer.cancel(),
        None => std::process::exit(130),
    };
    ctrlc::set_handler(stop).context("can't listen to Ctrl-C")?;
    Ok(running)
}

struct Chat {
    session: Session,
    options: ChatOptions,
    system: Option<String>,
    messages: Vec<ChatMessage>,
    last: Option<Generation>,
    running: Running,
}

impl Chat {
    /// All messages, the system's first.
    fn conversation(&self) -> Vec<ChatMessage> {
        let system = self.system.iter().map(ChatMessage::system);
        system.chain(self.messages.iter().cloned()).collect()
    }

    /// Answers a message, which is as if not said where there is no answer.
    fn answer(&mut self, message: &str) -> Result<()> {
        self.messages.push(ChatMessage::user(message));
        let generation = self.generate();
        if generation.as_ref().map_or(true, |generation| generation.token_ids.is_empty()) {
            self.messages.pop();
        }
        let generation = generation?;
        for notice in notices(&generation) {
            term::say(format_args!("({notice})"));
        }
        if !generation.token_ids.is_empty() {
            self.messages.push(generation.message());
            self.last = Some(generation);
        }
        Ok(())
    }

    fn generate(&mut self) -> Result<Generation> {
        let cancel = CancelToken::new();
        let mut options = self.options.clone();
        options.generation.cancel = Some(cancel.clone());
        let conversation = self.conversation();
        set(&self.running, Some(cancel));
        let stream = self.session.chat_stream(&conversation, &options);
        let generation = stream.map_err(anyhow::Error::from).and_then(print_stream);
        set(&self.running, None);
        let generation = generation?;
        end_line(&generation.text)?;
        Ok(generation)
    }

    fn command(&mut self, command: &str) -> Result<()> {
        let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        let rest = rest.trim();
        match name {
            "/help" => term::say(HELP),
            "/reset" => {
                self.messages.clear();
                self.session.reset();
                self.last = None;
            }
            "/system" => self.system = Some(rest.to_owned()).filter(|text| !text.is_empty()),
            "/save" if rest.is_empty() => term::say("/save needs the name of a file"),
            "/save" => self.save(&PathBuf::from(rest))?,
            "/stats" => match &self.last {
                Some(generation) => term::say(format_args!("{}", stats(generation))),
                None => term::say("there is no answer yet"),
            },
            _ => term::say(format_args!("{name} is no command; /help shows them")),
        }
        Ok(())
    }

    /// Writes beside the file and renames, so that a full disk spoils nothing that was there.
    fn save(&self, path: &Path) -> Result<()> {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let write = || -> Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(directory.unwrap_or(Path::new(".")))?;
            serde_json::to_writer_pretty(&mut file, &self.conversation())?;
            file.write_all(b"\n")?;
            file.persist(path)?;
            Ok(())
        };
        write().with_context(|| format!("can't write {}", path.display()))?;
        term::say(format_args!("saved to {}", path.display()));
        Ok(())
    }
}

fn set(running: &Running, answer: Option<CancelToken>) {
    *running.lock().unwrap_or_else(PoisonError::into_inner) = answer;
}

/// Ends the answer's line; on a terminal, [`print_stream`] has done that.
fn end_line(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    if !stdout.is_terminal() && !text.ends_with('\n') {
        stdout.write_all(b"\n")?;
        stdout.flush()?;
    }
    Ok(())
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
            "stopped after {} tokens; --max-tokens allows more",
            usage.generated_tokens
        )),
        FinishReason::Context => {
            notices.push("the context is full; /reset begins anew".to_owned());
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
