//! What is typed at a terminal.

use std::env;
use std::path::PathBuf;

use anyhow::Result;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Behavior, Config, Context, Editor, Helper};

use super::commands::COMMANDS;
use crate::term;

/// Begins and ends a text of several lines.
const QUOTES: &str = "\"\"\"";

/// Lines that can be edited; earlier ones come back with the arrow keys.
pub struct Typed {
    editor: Editor<Lines, FileHistory>,
    /// Where what was typed is kept for the next time.
    history: Option<PathBuf>,
}

impl Typed {
    /// The terminal, with what was typed in earlier conversations if `history` asks for it.
    pub fn new(history: bool) -> Result<Self> {
        // Answers that go to a file should not have the prompts among them.
        let behavior = if term::out_is_terminal() { Behavior::Stdio } else { Behavior::PreferTerm };
        let config = Config::builder().behavior(behavior).max_history_size(1000)?;
        let mut editor = Editor::with_config(config.history_ignore_space(true).build())?;
        editor.set_helper(Some(Lines));
        let history = history.then(history_file).flatten();
        if let Some(path) = &history {
            // There is none the first time.
            let _ = editor.load_history(path);
        }
        Ok(Typed { editor, history })
    }

    /// The next line, or several that belong together; `None` at the end.
    pub fn next(&mut self) -> Result<Option<String>> {
        loop {
            match self.editor.readline("> ") {
                Ok(text) => {
                    self.remember(&text)?;
                    return Ok(Some(text));
                }
                Err(ReadlineError::Eof) => return Ok(None),
                Err(ReadlineError::Interrupted) => {
                    term::say("(Ctrl-D or /exit ends the conversation)");
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Keeps a line, in the file as soon as it is typed. That there is no place for it is no reason to
    /// stop.
    fn remember(&mut self, text: &str) -> Result<()> {
        self.editor.add_history_entry(text)?;
        if let Some(path) = &self.history {
            let directory = path.parent().map_or(Ok(()), std::fs::create_dir_all);
            if let Err(error) =
                directory.map_err(Into::into).and_then(|()| self.editor.append_history(path))
            {
                tracing::debug!(path = %path.display(), %error, "no history");
                self.history = None;
            }
        }
        Ok(())
    }
}

/// The message that was typed: lines that go on are joined, quotes around several are taken off.
pub fn message(text: &str) -> String {
    if let Some(inner) = text.strip_prefix(QUOTES).and_then(|text| text.strip_suffix(QUOTES)) {
        let inner = inner.strip_prefix('\n').unwrap_or(inner);
        return inner.strip_suffix('\n').unwrap_or(inner).to_owned();
    }
    text.replace("\\\n", "\n")
}

/// Where the user's state is, by the conventions of each system.
fn history_file() -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME")
        .or_else(|| absolute("LOCALAPPDATA"))
        .or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(state.join("candle-coreml").join("chat_history"))
}

/// Whether more lines belong to what is typed.
fn goes_on(text: &str) -> bool {
    // A command may have a text behind it.
    match text.find(QUOTES) {
        Some(start) if ["", "/system", "/set system"].contains(&text[..start].trim()) => {
            !text[start + QUOTES.len()..].contains(QUOTES)
        }
        _ => text.ends_with('\\'),
    }
}

/// Texts of several lines and names of commands, as the editor knows them.
pub struct Lines;

impl Validator for Lines {
    fn validate(&self, context: &mut ValidationContext) -> rustyline::Result<ValidationResult> {
        let more = goes_on(context.input());
        Ok(if more { ValidationResult::Incomplete } else { ValidationResult::Valid(None) })
    }
}

impl Completer for Lines {
    type Candidate = String;

    /// Commands that begin so.
    fn complete(
        &self,
        line: &str,
        position: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let begun = line.get(..position).filter(|begun| begun.starts_with('/'));
        let names = COMMANDS.iter().flat_map(|command| command.names);
        let names = names.filter(|name| begun.is_some_and(|begun| name.starts_with(begun)));
        Ok((0, names.map(|name| format!("{name} ")).collect()))
    }
}

impl Hinter for Lines {
    type Hint = String;
}

impl Highlighter for Lines {}

impl Helper for Lines {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_lines_are_one_message() {
        let cases = [
            ("one", "one"),
            ("two\\\nlines", "two\nlines"),
            ("\"\"\"two\nlines\"\"\"", "two\nlines"),
            ("\"\"\"\ntwo\nlines\n\"\"\"", "two\nlines"),
            ("say \"\"\"", "say \"\"\""),
        ];
        for (typed, expected) in cases {
            assert_eq!(message(typed), expected, "{typed}");
        }
        for open in ["a\\", "\"\"\"", "\"\"\"a\nb", " \"\"\"a", "/system \"\"\"Be\nnice"] {
            assert!(goes_on(open), "{open}");
        }
        for closed in ["a", "", "a\\\nb", "\"\"\"a\n\"\"\"", "say \"\"\"", "/set system Be nice"] {
            assert!(!goes_on(closed), "{closed}");
        }
    }
}
