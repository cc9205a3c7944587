//! What one rendering may take, and how it fails. Templates come with models, so they are untrusted:
//! nesting, time and memory are bounded here, for the reader of templates, values and rendering.

use std::cell::Cell;

/// Bytes of a template's source.
pub(super) const MAX_SOURCE: usize = 1 << 20;

/// Levels of tags, brackets and conditions in a template.
pub(super) const MAX_NESTING: usize = 100;

/// Operators, filters and attributes in one row, which nest nowhere else.
pub(super) const MAX_CHAIN: usize = 1000;

/// Levels of lists in lists.
pub(super) const MAX_DEPTH: usize = 200;

/// Arguments with names in one call.
pub(super) const MAX_ARGUMENTS: usize = 1000;

/// Levels of rendering: statements, expressions, calls of macros and of loops within each other.
pub(super) const MAX_LEVELS: usize = 1000;

/// Stack of the thread that reads and renders templates: several times what the limits above take
/// without optimisation. Memory that is never touched costs nothing.
pub(super) const STACK: usize = 32 << 20;

/// Steps that a template may take for nothing, and for each byte of what it renders.
const STEPS: (u64, u64) = (2_000_000, 16);

/// Bytes that a template may ask for in all, and for each byte of what it renders.
const BYTES: (u64, u64) = (32 << 20, 64);

/// Why a template is not valid or can't be rendered.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) message: String,
    /// The line of the template, once it is known.
    pub(super) line: Option<u32>,
}

impl Fault {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Fault { message: message.into(), line: None }
    }

    pub(super) fn at(line: u32, message: impl Into<String>) -> Self {
        Fault { message: message.into(), line: Some(line) }
    }

    /// Adds the line if none is known yet: the innermost one counts.
    pub(super) fn or_at(mut self, line: u32) -> Self {
        self.line.get_or_insert(line);
        self
    }
}

/// The beginning of a text that a message shows.
pub(super) fn shown(text: &str) -> String {
    let short: String = text.chars().take(100).collect();
    format!("`{short}`")
}

pub(super) type Result<T> = std::result::Result<T, Fault>;

/// What is left of the time and memory of one rendering. Memory is counted as it is asked for and
/// never given back, so that it bounds time as well.
#[derive(Debug)]
pub(super) struct Budget {
    steps: Cell<u64>,
    bytes: Cell<u64>,
    allowed: u64,
}

impl Budget {
    /// The budget for variables of so many bytes.
    pub(super) fn new(input: usize) -> Self {
        let input = input as u64;
        let allowed = BYTES.0.saturating_add(input.saturating_mul(BYTES.1));
        let steps = STEPS.0.saturating_add(input.saturating_mul(STEPS.1));
        Budget { steps: Cell::new(steps), bytes: Cell::new(allowed), allowed }
    }

    /// Takes steps.
    pub(super) fn steps(&self, count: usize) -> Result<()> {
        let left = self.steps.get().checked_sub(count as u64);
        self.steps.set(left.ok_or_else(|| Fault::new("takes too many steps"))?);
        Ok(())
    }

    /// Takes the steps of one turn of a loop.
    pub(super) fn turn(&self) -> Result<()> {
        self.steps(4)
    }

    /// Takes the steps of looking through so many bytes.
    pub(super) fn scan(&self, bytes: usize) -> Result<()> {
        self.steps(bytes / 64 + 1)
    }

    /// Takes memory, and the time of writing it.
    pub(super) fn bytes(&self, count: usize) -> Result<()> {
        let left = self.bytes.get().checked_sub(count as u64);
        self.bytes.set(left.ok_or_else(|| {
            Fault::new(format!("takes too much memory: more than {} MB", self.allowed >> 20))
        })?);
        Ok(())
    }
}

/// Text that is being written, within a budget.
pub(super) struct Buffer<'b> {
    text: String,
    budget: &'b Budget,
}

impl<'b> Buffer<'b> {
    pub(super) fn new(budget: &'b Budget) -> Self {
        Buffer { text: String::new(), budget }
    }

    pub(super) fn push(&mut self, text: &str) -> Result<()> {
        self.budget.bytes(text.len())?;
        self.text.push_str(text);
        Ok(())
    }

    /// Adds a character many times.
    pub(super) fn fill(&mut self, character: char, count: usize) -> Result<()> {
        self.budget.bytes(count.saturating_mul(character.len_utf8()))?;
        self.text.extend(std::iter::repeat_n(character, count));
        Ok(())
    }

    pub(super) fn finish(self) -> String {
        self.text
    }
}
