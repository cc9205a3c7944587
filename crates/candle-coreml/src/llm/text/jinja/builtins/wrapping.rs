//! Filters that lay text out: lines, widths and lengths.

use super::arguments::{Arguments, flag, given, integer, integer_or, length, text};
use super::texts::lines;
use crate::llm::text::jinja::limits::{Buffer, Fault, Result};
use crate::llm::text::jinja::render::Renderer;
use crate::llm::text::jinja::value::{Text, Value};

pub(super) fn indent(renderer: &mut Renderer, value: Value, arguments: Arguments) -> Result<Value> {
    let [width, first, blank] = arguments.bind("indent", ["width", "first", "blank"], 0)?;
    let budget = &renderer.budget;
    let space = match width {
        Some(Value::Text(text)) => text.text.to_string(),
        width => {
            let width = width.as_ref().map_or(Ok(4), length)?;
            budget.bytes(width)?;
            " ".repeat(width)
        }
    };
    let own = text(&value)?;
    let blank = flag(blank.as_ref(), false);
    // A line break at the end is not lost: it ends a line that is empty.
    let with_end = format!("{}\n", own.text);
    budget.bytes(with_end.len())?;
    let mut buffer = Buffer::new(budget);
    for (number, line) in lines(budget, &with_end, false)?.into_iter().enumerate() {
        if number > 0 {
            buffer.push("\n")?;
        }
        let indents =
            if number == 0 { flag(first.as_ref(), false) } else { blank || !line.is_empty() };
        buffer.push(if indents { &space } else { "" })?;
        buffer.push(line)?;
    }
    Ok(Text { text: buffer.finish().into(), safe: own.safe }.into())
}

pub(super) fn truncate(
    renderer: &mut Renderer,
    value: Value,
    arguments: Arguments,
) -> Result<Value> {
    let [most, kill_words, end, leeway] =
        arguments.bind("truncate", ["length", "killwords", "end", "leeway"], 0)?;
    let budget = &renderer.budget;
    let end = end.map_or_else(|| Value::text(budget, "..."), Ok)?;
    let end = text(&end)?;
    let most = integer_or(most.as_ref(), 255)?;
    let leeway = given(leeway).as_ref().map_or(Ok(5), integer)?;
    if most < end.length() as i128 || leeway < 0 {
        return Err(Fault::new(
            "`truncate` to less than the length of its end, or a leeway below 0",
        ));
    }
    let kind = value.type_name();
    let length = value
        .length()
        .ok_or_else(|| Fault::new(format!("a value of type {kind} has no length")))?;
    budget.scan(length)?;
    if length as i128 <= most.saturating_add(leeway) {
        return Ok(value);
    }
    let own = text(&value)?;
    let kept = usize::try_from(most - end.length() as i128).unwrap_or(usize::MAX);
    let kept: String = own.text.chars().take(kept).collect();
    let kept = if flag(kill_words.as_ref(), false) {
        &kept
    } else {
        kept.rsplit_once(' ').map_or(&*kept, |(before, _)| before)
    };
    let mut buffer = Buffer::new(budget);
    buffer.push(kept)?;
    buffer.push(&end.text)?;
    Ok(Text { text: buffer.finish().into(), safe: own.safe }.into())
}

/// Options of `wordwrap`.
struct Wrap {
    width: usize,
    breaks_words: bool,
    breaks_hyphens: bool,
}

pub(super) fn word_wrap(
    renderer: &mut Renderer,
    value: Value,
    arguments: Arguments,
) -> Result<Value> {
    let [width, breaks_words, with, breaks_hyphens] = arguments.bind(
        "wordwrap",
        ["width", "break_long_words", "wrapstring", "break_on_hyphens"],
        0,
    )?;
    let budget = &renderer.budget;
    let width = width.as_ref().map_or(Ok(79), length)?;
    if width == 0 {
        return Err(Fault::new("`wordwrap` needs a width above 0"));
    }
    let wrap = Wrap {
        width,
        breaks_words: flag(breaks_words.as_ref(), true),
        breaks_hyphens: flag(breaks_hyphens.as_ref(), true),
    };
    let with = given(with).map_or_else(|| Value::text(budget, "\n"), Ok)?;
    let with = &*text(&with)?.text;
    let own = text(&value)?;
    let mut buffer = Buffer::new(budget);
    for (number, line) in lines(budget, &own.text, false)?.into_iter().enumerate() {
        if number > 0 {
            buffer.push(with)?;
        }
        budget.bytes(line.len().saturating_mul(32))?;
        for (number, part) in wrap.line(line).into_iter().enumerate() {
            buffer.push(if number == 0 { "" } else { with })?;
            buffer.push(&part)?;
        }
    }
    Value::text(budget, buffer.finish())
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}')
}

impl Wrap {
    /// A line in parts that are no longer than the width.
    fn line(&self, line: &str) -> Vec<String> {
        let characters: Vec<char> = line.chars().collect();
        let mut chunks = self.chunks(&characters);
        chunks.reverse();
        let mut parts: Vec<String> = Vec::new();
        while !chunks.is_empty() {
            let mut part: Vec<&[char]> = Vec::new();
            let mut length = 0;
            if !parts.is_empty() {
                chunks.pop_if(|chunk| is_blank(chunk[0]));
            }
            while let Some(chunk) = chunks.pop_if(|chunk| length + chunk.len() <= self.width) {
                length += chunk.len();
                part.push(chunk);
            }
            if chunks.last().is_some_and(|chunk| chunk.len() > self.width) {
                self.break_word(&mut chunks, &mut part, self.width - length);
            }
            part.pop_if(|last| is_blank(last[0]));
            if !part.is_empty() {
                parts.push(part.into_iter().flatten().collect());
            }
        }
        parts
    }

    /// Breaks a word that is longer than a line.
    fn break_word<'c>(
        &self,
        chunks: &mut Vec<&'c [char]>,
        part: &mut Vec<&'c [char]>,
        left: usize,
    ) {
        let Some(word) = chunks.pop() else { return };
        if !self.breaks_words {
            let line = if part.is_empty() { part } else { chunks };
            line.push(word);
            return;
        }
        let mut end = left.max(1);
        if self.breaks_hyphens && word.len() > left {
            let hyphen = word[..end].iter().rposition(|c| *c == '-');
            let splits = |at: &usize| *at > 0 && word[..*at].iter().any(|c| *c != '-');
            end = hyphen.filter(splits).map_or(end, |at| at + 1);
        }
        let (word, rest) = word.split_at(end);
        part.push(word);
        chunks.push(rest);
    }

    /// Words and the white space between them; words are parted behind hyphens between letters.
    fn chunks<'c>(&self, characters: &'c [char]) -> Vec<&'c [char]> {
        let mut chunks = Vec::new();
        for run in characters.chunk_by(|a, b| is_blank(*a) == is_blank(*b)) {
            if is_blank(run[0]) || !self.breaks_hyphens {
                chunks.push(run);
                continue;
            }
            let letter = |at: usize| run.get(at).is_some_and(|c| c.is_alphabetic());
            let mut start = 0;
            for at in 2..run.len() {
                let letters = [at - 2, at - 1, at + 1, at + 2];
                if run[at] == '-' && at >= start + 2 && letters.into_iter().all(letter) {
                    chunks.push(&run[start..=at]);
                    start = at + 1;
                }
            }
            chunks.push(&run[start..]);
        }
        chunks
    }
}
