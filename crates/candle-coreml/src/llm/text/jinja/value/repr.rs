//! Values as text, as Python's `str` and `repr` write them.

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

use super::{Text, Value};
use crate::llm::text::jinja::limits::{Budget, Buffer, Fault, Result};

/// How many namespaces are printed within each other. What they hold can change, so that they may
/// hold themselves.
const MAX_SPACES: usize = 4;

/// A value as it is printed: text as it stands, others as `repr` has them.
pub(in crate::llm::text::jinja) fn display(budget: &Budget, value: &Value) -> Result<Text> {
    let mut buffer = Buffer::new(budget);
    match value {
        Value::Text(text) => return Ok(text.clone()),
        Value::Undefined(_) => {}
        _ => write(&mut buffer, budget, value, 0)?,
    }
    Ok(Text { text: buffer.finish().into(), safe: false })
}

/// A value as it stands in a list.
pub(in crate::llm::text::jinja) fn repr(budget: &Budget, value: &Value) -> Result<String> {
    let mut buffer = Buffer::new(budget);
    write(&mut buffer, budget, value, 0)?;
    Ok(buffer.finish())
}

/// Writes a value that lies in so many namespaces.
fn write(buffer: &mut Buffer<'_>, budget: &Budget, value: &Value, spaces: usize) -> Result<()> {
    budget.steps(1)?;
    match value {
        Value::Undefined(_) => buffer.push("Undefined"),
        Value::None => buffer.push("None"),
        Value::Bool(true) => buffer.push("True"),
        Value::Bool(false) => buffer.push("False"),
        Value::Int(number) => buffer.push(&number.to_string()),
        Value::Float(number) => buffer.push(&float_text(*number)),
        Value::Text(text) if text.safe => {
            buffer.push("Markup(")?;
            quoted(buffer, &text.text)?;
            buffer.push(")")
        }
        Value::Text(text) => quoted(buffer, &text.text),
        Value::List(items) => between(buffer, budget, ("[", "]"), &items.items, spaces),
        Value::Tuple(items) => {
            let end = if items.items.len() == 1 { ",)" } else { ")" };
            between(buffer, budget, ("(", end), &items.items, spaces)
        }
        Value::Dict(dict) => entries(buffer, budget, dict.entries(), spaces),
        Value::Namespace(space) => {
            if spaces == MAX_SPACES {
                return Err(Fault::new("namespaces hold each other too deep to be printed"));
            }
            buffer.push("<Namespace ")?;
            entries(buffer, budget, &space.entries.borrow(), spaces + 1)?;
            buffer.push(">")
        }
        Value::View(view) => {
            buffer.push(view.kind.name())?;
            between(buffer, budget, ("([", "])"), &value.collect(budget)?, spaces)
        }
        Value::Range(range) if range.step == 1 => {
            buffer.push(&format!("range({}, {})", range.start, range.stop))
        }
        Value::Range(range) => {
            buffer.push(&format!("range({}, {}, {})", range.start, range.stop, range.step))
        }
        Value::Loop(own) => {
            let length = own.known_length().ok_or_else(|| no_text(value))?;
            buffer.push(&format!("<LoopContext {}/{length}>", own.index() + 1))
        }
        Value::Macro(bound) => match &bound.definition.name {
            Some(name) => {
                buffer.push("<Macro ")?;
                quoted(buffer, name)?;
                buffer.push(">")
            }
            None => buffer.push("<Macro anonymous>"),
        },
        Value::Stream(_)
        | Value::Joiner(_)
        | Value::Cycler(_)
        | Value::Method(_)
        | Value::Function(_) => Err(no_text(value)),
    }
}

fn between(
    buffer: &mut Buffer<'_>,
    budget: &Budget,
    brackets: (&str, &str),
    items: &[Value],
    spaces: usize,
) -> Result<()> {
    buffer.push(brackets.0)?;
    for (number, item) in items.iter().enumerate() {
        buffer.push(if number == 0 { "" } else { ", " })?;
        write(buffer, budget, item, spaces)?;
    }
    buffer.push(brackets.1)
}

fn entries(
    buffer: &mut Buffer<'_>,
    budget: &Budget,
    entries: &[(Value, Value)],
    spaces: usize,
) -> Result<()> {
    buffer.push("{")?;
    for (number, (key, value)) in entries.iter().enumerate() {
        buffer.push(if number == 0 { "" } else { ", " })?;
        write(buffer, budget, key, spaces)?;
        buffer.push(": ")?;
        write(buffer, budget, value, spaces)?;
    }
    buffer.push("}")
}

/// Python would print an address in memory.
fn no_text(value: &Value) -> Fault {
    let hint = match value {
        Value::Stream(_) => "; make a list of it with `|list`",
        Value::Method(_) | Value::Function(_) => "; call it with `()`",
        _ => "",
    };
    Fault::new(format!("a value of type {} can't be printed{hint}", value.type_name()))
}

/// A floating-point number: the shortest digits that give it again, with an exponent below 1e-4 and
/// from 1e16 on.
pub(in crate::llm::text::jinja) fn float_text(number: f64) -> String {
    if number.is_nan() {
        return "nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        return format!("{number:?}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// Text in quotes, with escapes for what can't be seen.
fn quoted(buffer: &mut Buffer<'_>, text: &str) -> Result<()> {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    buffer.fill(quote, 1)?;
    let mut rest = text;
    let escapes = |c: char| c == quote || c == '\\' || !is_printable(c);
    while let Some((at, character)) = rest.char_indices().find(|(_, c)| escapes(*c)) {
        buffer.push(&rest[..at])?;
        rest = &rest[at + character.len_utf8()..];
        match character {
            '\n' => buffer.push("\\n")?,
            '\r' => buffer.push("\\r")?,
            '\t' => buffer.push("\\t")?,
            '\\' => buffer.push("\\\\")?,
            _ if character == quote => buffer.push(if quote == '"' { "\\\"" } else { "\\'" })?,
            _ => buffer.push(&match u32::from(character) {
                code @ ..0x100 => format!("\\x{code:02x}"),
                code @ 0x100..0x10000 => format!("\\u{code:04x}"),
                code => format!("\\U{code:08x}"),
            })?,
        }
    }
    buffer.push(rest)?;
    buffer.fill(quote, 1)
}

/// Python's `str.isprintable` of one character.
pub(in crate::llm::text::jinja) fn is_printable(character: char) -> bool {
    use GeneralCategory::{
        Control, Format, LineSeparator, ParagraphSeparator, PrivateUse, SpaceSeparator, Surrogate,
        Unassigned,
    };
    if character.is_ascii() {
        return !character.is_ascii_control();
    }
    !matches!(
        character.general_category(),
        Control
            | Format
            | LineSeparator
            | ParagraphSeparator
            | PrivateUse
            | SpaceSeparator
            | Surrogate
            | Unassigned
    )
}
