//! From tokens to statements, with Jinja's grammar.

mod expressions;
mod statements;

use std::collections::HashSet;
use std::sync::Arc;

use super::ast::{Body, Uses};
use super::lexer::{Token, tokens};
use super::limits::{Fault, MAX_CHAIN, MAX_NESTING, MAX_SOURCE, Result};

/// The statements of a template.
pub(super) fn parse(source: &str) -> Result<Body> {
    if source.len() > MAX_SOURCE {
        let size = source.len();
        return Err(Fault::new(format!("has {size} bytes: more than {MAX_SOURCE}")));
    }
    let tokens = tokens(source)?;
    let line = tokens.last().map_or(1, |(line, _)| *line);
    let mut parser = Parser {
        tokens,
        line,
        at: 0,
        nesting: 0,
        unknown: Vec::new(),
        soft: false,
        in_loop: false,
        blocks: HashSet::new(),
        uses: Uses::default(),
    };
    let body = parser.body(&[])?;
    match parser.unknown.into_iter().next() {
        Some(unknown) => Err(unknown),
        None => Ok(body),
    }
}

struct Parser {
    tokens: Vec<(u32, Token)>,
    /// The last line.
    line: u32,
    at: usize,
    /// Levels of what is open.
    nesting: usize,
    /// Filters and tests that are not known.
    unknown: Vec<Fault>,
    /// Whether these are errors only when they are reached.
    soft: bool,
    /// Whether `break` and `continue` have a loop.
    in_loop: bool,
    /// Names of blocks, of which each is there once.
    blocks: HashSet<Arc<str>>,
    /// Names of macros' own that were mentioned since this was last cleared.
    uses: Uses,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(_, token)| token)
    }

    fn second(&self) -> Option<&Token> {
        self.tokens.get(self.at + 1).map(|(_, token)| token)
    }

    fn line(&self) -> u32 {
        self.tokens.get(self.at).map_or(self.line, |(line, _)| *line)
    }

    fn fault(&self, message: impl Into<String>) -> Fault {
        Fault::at(self.line(), message)
    }

    fn unexpected(&self, expected: &str) -> Fault {
        self.fault(format!("expected {expected}, got {}", self.found()))
    }

    fn found(&self) -> String {
        match self.peek() {
            None => "the end of the template".to_owned(),
            Some(Token::Data(_)) => "text".to_owned(),
            Some(Token::VariableBegin) => "`{{`".to_owned(),
            Some(Token::VariableEnd) => "`}}`".to_owned(),
            Some(Token::BlockBegin) => "`{%`".to_owned(),
            Some(Token::BlockEnd) => "`%}`".to_owned(),
            Some(Token::Name(name)) => format!("`{name}`"),
            Some(Token::Text(_)) => "a string".to_owned(),
            Some(Token::Int(_) | Token::Float(_)) => "a number".to_owned(),
            Some(Token::Operator(operator)) => format!("`{operator}`"),
        }
    }

    fn is_operator(&self, operator: &str) -> bool {
        matches!(self.peek(), Some(Token::Operator(found)) if *found == operator)
    }

    /// Passes an operator if it stands here.
    fn takes(&mut self, operator: &str) -> bool {
        let is = self.is_operator(operator);
        self.at += usize::from(is);
        is
    }

    fn expect(&mut self, operator: &str) -> Result<()> {
        if self.takes(operator) { Ok(()) } else { Err(self.unexpected(&format!("`{operator}`"))) }
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Some(Token::Name(name)) if &**name == word)
    }

    /// Passes a word if it stands here.
    fn takes_word(&mut self, word: &str) -> bool {
        let is = self.is_word(word);
        self.at += usize::from(is);
        is
    }

    fn expect_word(&mut self, word: &str) -> Result<()> {
        if self.takes_word(word) { Ok(()) } else { Err(self.unexpected(&format!("`{word}`"))) }
    }

    fn name(&mut self) -> Result<Arc<str>> {
        let Some(Token::Name(name)) = self.peek() else { return Err(self.unexpected("a name")) };
        let name = name.clone();
        self.at += 1;
        Ok(name)
    }

    fn end_of_tag(&mut self) -> Result<()> {
        if self.peek() != Some(&Token::BlockEnd) {
            return Err(self.unexpected("`%}`"));
        }
        self.at += 1;
        Ok(())
    }

    /// Reads what lies a level deeper.
    fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.nesting == MAX_NESTING {
            return Err(self.fault(format!(
                "tags, brackets or conditions are nested too deep: more than {MAX_NESTING} levels"
            )));
        }
        self.nesting += 1;
        let result = read(self);
        self.nesting -= 1;
        result
    }

    /// Refuses a row of operators, filters and the like that is too long.
    fn check_chain(&self, length: usize) -> Result<()> {
        if length < MAX_CHAIN {
            return Ok(());
        }
        Err(self.fault(format!("more than {MAX_CHAIN} operators or filters in a row")))
    }

    /// Reads with the flag `soft` set.
    fn softly<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let before = std::mem::replace(&mut self.soft, true);
        let result = read(self);
        self.soft = before;
        result
    }
}
