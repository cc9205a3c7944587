//! JSON as Python's `json.dumps` writes it, which models have seen in their training.

use super::arguments::{Arguments, flag, given, integer};
use super::sequences::sorted;
use crate::llm::text::jinja::limits::{Budget, Buffer, Fault, Result};
use crate::llm::text::jinja::render::Renderer;
use crate::llm::text::jinja::value::{Value, float_text, order};

/// The filter `tojson`, with the arguments that `apply_chat_template` gives it.
pub(super) fn to_json(
    renderer: &mut Renderer,
    value: Value,
    arguments: Arguments,
) -> Result<Value> {
    let [ascii, indent, separators, sort_keys] =
        arguments.bind("tojson", ["ensure_ascii", "indent", "separators", "sort_keys"], 0)?;
    let budget = &renderer.budget;
    let indent = match given(indent) {
        None => None,
        Some(Value::Text(text)) => Some(text.text.to_string()),
        Some(number) => {
            let count = usize::try_from(integer(&number)?.max(0)).unwrap_or(usize::MAX);
            budget.bytes(count)?;
            Some(" ".repeat(count))
        }
    };
    let (item, key) = match given(separators) {
        None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
        Some(pair) => match pair.collect(budget)?.as_slice() {
            [Value::Text(item), Value::Text(key)] => (item.text.to_string(), key.text.to_string()),
            _ => return Err(Fault::new("`separators` of `tojson` has to be two texts")),
        },
    };
    let layout = Layout {
        budget,
        indent,
        item,
        key,
        ascii: flag(ascii.as_ref(), false),
        sort_keys: flag(sort_keys.as_ref(), false),
    };
    let mut buffer = Buffer::new(budget);
    layout.write(&mut buffer, &value, 0)?;
    Value::text(budget, buffer.finish())
}

struct Layout<'b> {
    budget: &'b Budget,
    /// What each level is moved by, on lines of their own.
    indent: Option<String>,
    /// Between items; a line break follows it where there are lines.
    item: String,
    /// Between key and value.
    key: String,
    /// Writes all but ASCII as escapes.
    ascii: bool,
    sort_keys: bool,
}

impl Layout<'_> {
    fn write(&self, buffer: &mut Buffer<'_>, value: &Value, level: usize) -> Result<()> {
        self.budget.steps(1)?;
        match value {
            Value::Text(text) => self.string(buffer, &text.text),
            Value::List(items) | Value::Tuple(items) => {
                self.between(buffer, ["[", "]"], items.items.len(), level, |buffer, at| {
                    self.write(buffer, &items.items[at], level + 1)
                })
            }
            Value::Dict(dict) => {
                let mut entries: Vec<_> = dict.entries().iter().collect();
                if self.sort_keys {
                    let keys: Vec<_> = entries.iter().map(|(key, _)| key.clone()).collect();
                    let places =
                        sorted(self.budget, &keys, false, |a, b| order(self.budget, a, b))?;
                    entries = places.into_iter().map(|place| &dict.entries()[place]).collect();
                }
                self.between(buffer, ["{", "}"], entries.len(), level, |buffer, at| {
                    let (key, value) = entries[at];
                    match key {
                        Value::Text(text) => self.string(buffer, &text.text)?,
                        other => self.string(buffer, &scalar(other, "a key")?)?,
                    }
                    buffer.push(&self.key)?;
                    self.write(buffer, value, level + 1)
                })
            }
            other => buffer.push(&scalar(other, "a value")?),
        }
    }

    fn between(
        &self,
        buffer: &mut Buffer<'_>,
        [begin, end]: [&str; 2],
        count: usize,
        level: usize,
        write: impl Fn(&mut Buffer<'_>, usize) -> Result<()>,
    ) -> Result<()> {
        buffer.push(begin)?;
        for place in 0..count {
            buffer.push(if place == 0 { "" } else { &self.item })?;
            self.new_line(buffer, level + 1)?;
            write(buffer, place)?;
        }
        if count > 0 {
            self.new_line(buffer, level)?;
        }
        buffer.push(end)
    }

    fn new_line(&self, buffer: &mut Buffer<'_>, level: usize) -> Result<()> {
        let Some(indent) = &self.indent else { return Ok(()) };
        buffer.push("\n")?;
        (0..level).try_for_each(|_| buffer.push(indent))
    }

    fn string(&self, buffer: &mut Buffer<'_>, text: &str) -> Result<()> {
        buffer.push("\"")?;
        for character in text.chars() {
            match character {
                '"' => buffer.push("\\\"")?,
                '\\' => buffer.push("\\\\")?,
                '\n' => buffer.push("\\n")?,
                '\r' => buffer.push("\\r")?,
                '\t' => buffer.push("\\t")?,
                '\u{8}' => buffer.push("\\b")?,
                '\u{c}' => buffer.push("\\f")?,
                control if control < ' ' => {
                    buffer.push(&format!("\\u{:04x}", u32::from(control)))?;
                }
                other if self.ascii && !other.is_ascii() => {
                    for unit in other.encode_utf16(&mut [0; 2]) {
                        buffer.push(&format!("\\u{unit:04x}"))?;
                    }
                }
                other => buffer.push(other.encode_utf8(&mut [0; 4]))?,
            }
        }
        buffer.push("\"")
    }
}

/// A value that is neither text nor a container.
fn scalar(value: &Value, what: &str) -> Result<String> {
    Ok(match value {
        Value::None => "null".to_owned(),
        Value::Bool(true) => "true".to_owned(),
        Value::Bool(false) => "false".to_owned(),
        Value::Int(number) => number.to_string(),
        Value::Float(number) if number.is_nan() => "NaN".to_owned(),
        Value::Float(number) if number.is_infinite() => {
            if *number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
        }
        Value::Float(number) => float_text(*number),
        other => {
            let name = other.type_name();
            return Err(Fault::new(format!("`tojson` can't write {what} of type {name}")));
        }
    })
}
