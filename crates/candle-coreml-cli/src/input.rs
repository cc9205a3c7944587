//! Messages from a terminal or a pipe.

use std::io::{self, BufRead, IsTerminal};

use anyhow::Result;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

/// Where messages come from.
pub enum Input {
    /// A terminal: lines can be edited, and earlier ones come back with the arrow keys.
    Terminal(Box<DefaultEditor>),
    /// Anything else.
    Pipe,
}

impl Input {
    /// Standard input.
    pub fn new() -> Result<Self> {
        if io::stdin().is_terminal() {
            Ok(Input::Terminal(Box::new(DefaultEditor::new()?)))
        } else {
            Ok(Input::Pipe)
        }
    }

    /// Whether somebody types.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Input::Terminal(_))
    }

    /// The next message; `None` at the end. A line that ends in a backslash goes on in the next.
    pub fn message(&mut self) -> Result<Option<String>> {
        let mut message = String::new();
        let mut prompt = "> ";
        while let Some(line) = self.line(prompt)? {
            let Some(start) = line.strip_suffix('\\') else {
                message.push_str(&line);
                self.remember(&message)?;
                return Ok(Some(message));
            };
            message.push_str(start);
            message.push('\n');
            prompt = "… ";
        }
        // Ended in the middle of a message: better sent than lost.
        Ok(Some(message).filter(|message| !message.is_empty()))
    }

    fn line(&mut self, prompt: &str) -> Result<Option<String>> {
        let Input::Terminal(editor) = self else {
            let line = io::stdin().lock().lines().next();
            return Ok(line.transpose()?);
        };
        loop {
            match editor.readline(prompt) {
                Ok(line) => return Ok(Some(line)),
                Err(ReadlineError::Eof) => return Ok(None),
                Err(ReadlineError::Interrupted) => eprintln!("(Ctrl-D ends the conversation)"),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn remember(&mut self, message: &str) -> Result<()> {
        if let Input::Terminal(editor) = self {
            editor.add_history_entry(message)?;
        }
        Ok(())
    }
}
