//! What begins with `/` at a terminal.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Result, anyhow, bail};
use candle_coreml::{ContextOverflow, GenerationOptions};
use clap::CommandFactory;

use super::input::message;
use super::{Chat, Settings, files, stats};
use crate::screen::shown;
use crate::term;

/// Whether the conversation goes on.
pub enum Next {
    GoOn,
    End,
}

/// A command: its names, the first one shown; what stands behind it; what it does.
pub struct Command {
    pub names: &'static [&'static str],
    arguments: &'static str,
    help: &'static str,
    run: fn(&mut Chat, &str) -> Result<Next>,
}

const fn command(
    names: &'static [&'static str],
    arguments: &'static str,
    help: &'static str,
    run: fn(&mut Chat, &str) -> Result<Next>,
) -> Command {
    Command { names, arguments, help, run }
}

/// All commands, as /help lists them.
pub const COMMANDS: &[Command] = &[
    command(&["/clear", "/reset", "/new"], "", "forgets the conversation", Chat::clear),
    command(&["/retry", "/regenerate"], "", "answers the last message anew", Chat::retry),
    command(&["/undo"], "", "forgets the last message and its answer", Chat::undo),
    command(
        &["/system"],
        "[TEXT]",
        "how the model should behave; nothing: no longer",
        Chat::set_system,
    ),
    command(
        &["/set"],
        "[WHAT]",
        "changes a parameter or more; alone, tells what can be",
        Chat::set,
    ),
    command(&["/show"], "[WHAT]", "shows parameters, system, or messages", Chat::show),
    command(&["/stats"], "", "tells counts and rates of the last answer", Chat::stats),
    command(&["/save"], "FILE", "writes the conversation as JSON", Chat::save),
    command(&["/load"], "FILE", "goes on with a conversation that was saved", Chat::load),
    command(&["/help", "/?"], "", "shows this", |_, _| {
        term::say(help());
        Ok(Next::GoOn)
    }),
    command(&["/exit", "/quit", "/bye"], "", "ends the conversation", |_, _| Ok(Next::End)),
];

const HELP: &str =
    "A line that ends in \\ goes on in the next one, and \"\"\" begins and ends a text of \
several lines.
A line with a space before its / is a message.
Ctrl-C stops an answer, Ctrl-D ends the conversation.";

fn help() -> String {
    let mut text = String::new();
    for Command { names, arguments, help, .. } in COMMANDS {
        let name = format!("{} {arguments}", names.join(", "));
        let _ = writeln!(text, "{name:<26} {help}");
    }
    text + HELP
}

const WHAT_TO_SET: &[&str] =
    &["parameter", "system", "verbose", "quiet", "wordwrap", "nowordwrap", "think", "nothink"];

const WHAT_TO_SHOW: &[&str] = &["parameters", "system", "messages"];

impl Chat {
    /// Does what a line says that begins with `/`.
    pub(super) fn command(&mut self, line: &str) -> Result<Next> {
        let (name, rest) = first_word(line);
        match COMMANDS.iter().find(|command| command.names.contains(&name)) {
            Some(command) => (command.run)(self, rest),
            None => {
                let names = COMMANDS.iter().flat_map(|command| command.names).copied();
                let otherwise = "/help shows all; with a space before it, it is a message";
                Err(unknown(&format!("{name} is no command"), name, names, otherwise))
            }
        }
    }

    fn clear(&mut self, _: &str) -> Result<Next> {
        self.messages.clear();
        self.session.reset();
        self.last = None;
        term::tell("(the conversation is forgotten)");
        Ok(Next::GoOn)
    }

    fn retry(&mut self, _: &str) -> Result<Next> {
        let Some(place) = self.last_message() else { bail!("there is no message yet") };
        let before = self.messages.clone();
        let message = self.messages[place].content.clone();
        self.messages.truncate(place);
        let answered = self.answer(message);
        // What was there stays where nothing came instead.
        if self.messages.len() == place {
            self.messages = before;
        }
        answered.map(|_| Next::GoOn)
    }

    fn undo(&mut self, _: &str) -> Result<Next> {
        let Some(place) = self.last_message() else { bail!("there is no message yet") };
        self.messages.truncate(place);
        self.last = None;
        Ok(Next::GoOn)
    }

    /// The place of the user's last message.
    fn last_message(&self) -> Option<usize> {
        self.messages.iter().rposition(|message| message.role == "user")
    }

    fn set_system(&mut self, text: &str) -> Result<Next> {
        self.system = Some(message(text)).filter(|text| !text.is_empty());
        Ok(Next::GoOn)
    }

    fn set(&mut self, rest: &str) -> Result<Next> {
        let (what, value) = first_word(rest);
        match what {
            "parameter" => self.set_parameter(value)?,
            "system" => return self.set_system(value),
            "verbose" => self.verbose = true,
            "quiet" => self.verbose = false,
            "wordwrap" => self.wrap = true,
            "nowordwrap" => self.wrap = false,
            "think" => self.thinking = Some(true),
            "nothink" => self.thinking = Some(false),
            "" => bail!(
                "/set needs `parameter NAME VALUE`, `system TEXT`, or one of: {}",
                WHAT_TO_SET[2..].join(", ")
            ),
            _ => {
                let all = format!("what can be: {}", WHAT_TO_SET.join(", "));
                let names = WHAT_TO_SET.iter().copied();
                return Err(unknown(&format!("{what} can't be set"), what, names, &all));
            }
        }
        Ok(Next::GoOn)
    }

    fn set_parameter(&mut self, text: &str) -> Result<()> {
        let (name, value) = first_word(text);
        let names = parameters();
        if !names.iter().any(|known| known == name) {
            let shown: Vec<&str> =
                names.iter().filter(|name| !name.contains('_')).map(String::as_str).collect();
            let all = format!("there are: {}", shown.join(", "));
            let names = names.iter().map(String::as_str);
            return Err(unknown(&format!("there is no parameter `{name}`"), name, names, &all));
        }
        if value.is_empty() {
            bail!("/set parameter {name} needs a value");
        }
        let setting = format!("--{name}={value}");
        let settings = [&self.settings[..], &[setting]].concat();
        self.settings(&settings)?;
        self.settings = settings;
        Ok(())
    }

    fn show(&mut self, what: &str) -> Result<Next> {
        match what {
            "parameters" => term::say(described(&self.options()?)),
            "system" => {
                let none = "there is no system message";
                term::say(self.system.as_deref().map_or_else(|| none.to_owned(), shown));
            }
            "messages" => {
                for message in self.conversation() {
                    term::say(shown(&format!("{}: {}", message.role, message.content.text())));
                }
            }
            "" => {
                term::say(described(&self.options()?));
                if let Some(system) = &self.system {
                    term::say(format_args!("system: {}", shown(system)));
                }
                term::say(format_args!("messages: {}", self.messages.len()));
            }
            _ => {
                let all = format!("what can be: {}", WHAT_TO_SHOW.join(", "));
                let names = WHAT_TO_SHOW.iter().copied();
                return Err(unknown(&format!("{what} can't be shown"), what, names, &all));
            }
        }
        Ok(Next::GoOn)
    }

    fn stats(&mut self, _: &str) -> Result<Next> {
        match &self.last {
            Some(generation) => term::say(stats(generation)),
            None => term::say("there is no answer yet"),
        }
        Ok(Next::GoOn)
    }

    fn save(&mut self, path: &str) -> Result<Next> {
        if path.is_empty() {
            bail!("/save needs the name of a file");
        }
        let path = Path::new(path);
        let question = format!("{} is there already; replace it?", path.display());
        if path.exists() && !term::confirmed(&question)? {
            term::say("nothing was saved");
            return Ok(Next::GoOn);
        }
        files::save(path, &self.conversation())?;
        term::say(format_args!("saved to {}", path.display()));
        Ok(Next::GoOn)
    }

    fn load(&mut self, path: &str) -> Result<Next> {
        if path.is_empty() {
            bail!("/load needs the name of a file");
        }
        (self.system, self.messages) = files::load(Path::new(path))?;
        self.last = None;
        term::say(format_args!("{} messages from {path}", self.messages.len()));
        Ok(Next::GoOn)
    }
}

/// The first word, and what comes behind it.
fn first_word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (word, rest.trim())
}

/// What is wrong with a name, and the one that may have been meant or how to find it.
fn unknown<'a>(
    what: &str,
    name: &str,
    names: impl Iterator<Item = &'a str>,
    otherwise: &str,
) -> anyhow::Error {
    let near = names.map(|known| (strsim::jaro_winkler(name, known), known));
    let best = near.filter(|(likeness, _)| *likeness > 0.7).max_by(|a, b| a.0.total_cmp(&b.0));
    match best {
        Some((_, near)) => anyhow!("{what}; did you mean {near}?"),
        None => anyhow!("{what}; {otherwise}"),
    }
}

/// Names of all options of sampling, in every spelling.
fn parameters() -> Vec<String> {
    let command = crate::args::with_spellings(Settings::command());
    let names =
        command.get_arguments().filter_map(|argument| argument.get_long_and_visible_aliases());
    let names = names.flatten().map(str::to_owned);
    names.flat_map(|name| [name.replace('-', "_"), name]).collect()
}

/// How tokens are chosen, a line for each parameter.
fn described(options: &GenerationOptions) -> String {
    let some = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
    let most = match options.max_tokens {
        usize::MAX => "as many as fit".to_owned(),
        most => most.to_string(),
    };
    let overflow = match options.overflow {
        ContextOverflow::Error => "error".to_owned(),
        ContextOverflow::Stop => "stop".to_owned(),
        ContextOverflow::Shift { keep } => format!("shift, keep {keep}"),
        other => format!("{other:?}"),
    };
    let values = [
        ("max-tokens", most),
        ("temperature", options.temperature.to_string()),
        ("top-k", some(options.top_k.map(|k| k.to_string()))),
        ("top-p", some(options.top_p.map(|p| p.to_string()))),
        ("min-p", some(options.min_p.map(|p| p.to_string()))),
        ("repetition-penalty", options.repetition_penalty.to_string()),
        ("presence-penalty", options.presence_penalty.to_string()),
        ("frequency-penalty", options.frequency_penalty.to_string()),
        ("seed", some(options.seed.map(|seed| seed.to_string()))),
        ("stop", some(Some(format!("{:?}", options.stop)).filter(|_| !options.stop.is_empty()))),
        ("overflow", overflow),
    ];
    let lines: Vec<String> =
        values.iter().map(|(name, value)| format!("{name:<20} {value}")).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_names_of_its_own_and_is_in_the_help() {
        let mut names: Vec<&str> =
            COMMANDS.iter().flat_map(|command| command.names).copied().collect();
        let help = help();
        assert!(names.iter().all(|name| name.starts_with('/') && help.contains(name)));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn what_is_misspelt_is_guessed() {
        let names = || COMMANDS.iter().flat_map(|command| command.names).copied();
        let guess = |name: &str| unknown("no", name, names(), "/help").to_string();
        assert_eq!(guess("/hlep"), "no; did you mean /help?");
        assert_eq!(guess("/regenrate"), "no; did you mean /regenerate?");
        assert_eq!(guess("/xyzzy"), "no; /help");
        let known = parameters();
        let known = known.iter().map(String::as_str);
        let message = unknown("no", "temprature", known, "").to_string();
        assert_eq!(message, "no; did you mean temperature?");
    }

    #[test]
    fn parameters_have_the_names_of_other_tools() {
        let known = parameters();
        for name in
            ["temperature", "temp", "top_k", "top-k", "num_predict", "repeat_penalty", "stop"]
        {
            assert!(known.iter().any(|known| known == name), "{name} in {known:?}");
        }
    }
}
