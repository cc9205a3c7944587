//! Messages from a terminal or a pipe.

use std::io::{self, BufRead, IsTerminal};

use anyhow::Result;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Editor, Helper};

use crate::term;

/// Where messages come from.
pub enum Input {
    /// A terminal: lines can be edited, and earlier ones come back with the arrow keys.
    Terminal(Box<Editor<Lines, DefaultHistory>>),
    /// Anything else.
    Pipe,
}

impl Input {
    /// Standard input.
    pub fn new() -> Result<Self> {
        if !io::stdin().is_terminal() {
            return Ok(Input::Pipe);
        }
        let mut editor = Editor::new()?;
        editor.set_helper(Some(Lines));
        Ok(Input::Terminal(Box::new(editor)))
    }

    /// Whether somebody types.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Input::Terminal(_))
    }

    /// The next message; `None` at the end. A line that ends in a backslash goes on in the next.
    pub fn message(&mut self) -> Result<Option<String>> {
        let text = match self {
            Input::Terminal(editor) => typed(editor)?,
            Input::Pipe => piped(&mut io::stdin().lock())?,
        };
        Ok(text.map(|text| text.replace("\\\n", "\n")))
    }
}

fn typed(editor: &mut Editor<Lines, DefaultHistory>) -> Result<Option<String>> {
    loop {
        match editor.readline("> ") {
            Ok(text) => {
                editor.add_history_entry(&text)?;
                return Ok(Some(text));
            }
            Err(ReadlineError::Eof) => return Ok(None),
            Err(ReadlineError::Interrupted) => term::say("(Ctrl-D ends the conversation)"),
            Err(error) => return Err(error.into()),
        }
    }
}

fn piped(lines: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut text = String::new();
    while lines.read_line(&mut text)? > 0 {
        let end = text.trim_end_matches(['\r', '\n']).len();
        if !goes_on(&text[..end]) {
            text.truncate(end);
            return Ok(Some(text));
        }
        text.truncate(end);
        text.push('\n');
    }
    // Ended in the middle of a message: better sent than lost.
    Ok(Some(text).filter(|text| !text.is_empty()))
}

fn goes_on(text: &str) -> bool {
    text.ends_with('\\')
}

/// Messages of several lines, as the editor knows them.
pub struct Lines;

impl Validator for Lines {
    fn validate(&self, context: &mut ValidationContext) -> rustyline::Result<ValidationResult> {
        let more = goes_on(context.input());
        Ok(if more { ValidationResult::Incomplete } else { ValidationResult::Valid(None) })
    }
}

impl Completer for Lines {
    type Candidate = String;
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
    fn a_line_is_a_message_unless_it_goes_on() {
        let mut input = "one\ntwo\\\nlines\r\n\nopen\\\n".as_bytes();
        let mut next = || piped(&mut input).unwrap();
        assert_eq!(next().as_deref(), Some("one"));
        assert_eq!(next().as_deref(), Some("two\\\nlines"));
        assert_eq!(next().as_deref(), Some(""));
        assert_eq!(next().as_deref(), Some("open\\\n"));
        assert_eq!(next(), None);
    }
}
