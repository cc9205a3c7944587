//! `%` of text: formats in the manner of C's `printf`.

use std::iter::Peekable;
use std::str::Chars;

use super::arguments::length;
use super::fields::{Body, Spec, float_body, number_text};
use super::html;
use crate::llm::text::jinja::limits::{Budget, Buffer, Fault, Result, shown};
use crate::llm::text::jinja::value::{Text, Value, display, number, repr};

/// `format % values`
pub(in crate::llm::text::jinja) fn format(
    budget: &Budget,
    format: &Text,
    values: &Value,
) -> Result<Value> {
    let mut rest = match values {
        Value::Tuple(items) => Values { values, items: &items.items, at: 0 },
        single => Values { values, items: std::slice::from_ref(single), at: 0 },
    };
    let mut buffer = Buffer::new(budget);
    let mut characters = format.text.chars().peekable();
    while let Some(character) = characters.next() {
        if character != '%' {
            buffer.push(character.encode_utf8(&mut [0; 4]))?;
            continue;
        }
        let text = directive(budget, &mut characters, &mut rest)?;
        let text = if format.safe { html::escape(budget, &text)? } else { text };
        buffer.push(&text.text)?;
    }
    let is_map =
        matches!(values, Value::Undefined(_) | Value::Dict(_) | Value::List(_) | Value::Range(_));
    if rest.at < rest.items.len() && !is_map {
        return Err(Fault::new("not all values were used by a format with `%`"));
    }
    Ok(Text { text: buffer.finish().into(), safe: format.safe }.into())
}

/// Values of a format, of which each is used once.
struct Values<'v> {
    values: &'v Value,
    items: &'v [Value],
    at: usize,
}

impl Values<'_> {
    fn next(&mut self) -> Result<Value> {
        let value = self.items.get(self.at).cloned();
        self.at += 1;
        value.ok_or_else(|| Fault::new("a format with `%` has more places than there are values"))
    }
}

/// What stands in the place of one `%…`.
fn directive(
    budget: &Budget,
    characters: &mut Peekable<Chars<'_>>,
    values: &mut Values<'_>,
) -> Result<Text> {
    let mut value = None;
    if characters.next_if_eq(&'(').is_some() {
        let Value::Dict(dict) = values.values else {
            return Err(Fault::new("a format with `%(name)` needs a dictionary"));
        };
        let key = key(characters)?;
        let found = dict.get_text(&key).cloned();
        value =
            Some(found.ok_or_else(|| Fault::new(format!("no value is named {}", shown(&key))))?);
    }
    let mut spec = Spec::default();
    let (mut left, mut zero) = (false, false);
    while let Some(flag) = characters.next_if(|c| "-+ 0#".contains(*c)) {
        match flag {
            '-' => left = true,
            '+' => spec.sign = Some('+'),
            ' ' => spec.sign = spec.sign.or(Some(' ')),
            '0' => zero = true,
            _ => spec.alternate = true,
        }
    }
    if let Some(width) = size(characters, values)? {
        left |= width < 0;
        spec.width = usize::try_from(width.unsigned_abs()).unwrap_or(usize::MAX);
    }
    if characters.next_if_eq(&'.').is_some() {
        let precision = size(characters, values)?.unwrap_or(0).max(0);
        spec.precision = Some(usize::try_from(precision).unwrap_or(usize::MAX));
    }
    while characters.next_if(|c| "hlL".contains(*c)).is_some() {}
    let kind = characters.next().ok_or_else(|| Fault::new("a format ends within `%…`"))?;
    if kind == '%' {
        return Ok(plain("%".to_owned()));
    }
    let value = match value {
        Some(value) => value,
        None => values.next()?,
    };
    spec.align = Some(if left { '<' } else { '>' });
    let body = match kind {
        's' | 'r' | 'a' | 'c' => {
            let text = match kind {
                's' => display(budget, &value)?,
                'r' => plain(repr(budget, &value)?),
                'a' => plain(ascii(&repr(budget, &value)?)),
                _ => plain(character(&value)?),
            };
            let kept = spec.precision.map_or(text.length(), |most| text.length().min(most));
            let kept: String = text.text.chars().take(kept).collect();
            return Ok(Text { text: spec.padded(budget, &kept)?.into(), safe: text.safe });
        }
        'd' | 'i' | 'u' => decimal(&value, spec.precision)?,
        'o' | 'x' | 'X' => {
            value.check_defined()?;
            let number = value.as_int().ok_or_else(|| wrong(kind, &value))?;
            let mut body = Body::integer(number, kind, spec.alternate);
            body.digits = zeros(&body.digits, spec.precision)?;
            body
        }
        'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
            value.check_defined()?;
            let number = value.as_float().ok_or_else(|| wrong(kind, &value))?;
            float_body(budget, number, kind, spec.precision.unwrap_or(6), spec.alternate)?
        }
        other => return Err(Fault::new(format!("`%{other}` is no format that is known"))),
    };
    if zero && !left {
        spec.align = Some('=');
        spec.fill = '0';
    }
    Ok(plain(number_text(budget, &spec, &body)?))
}

fn plain(text: String) -> Text {
    Text { text: text.into(), safe: false }
}

fn wrong(kind: char, value: &Value) -> Fault {
    Fault::new(format!("`%{kind}` needs a number, not a value of type {}", value.type_name()))
}

/// A name in brackets, which may have brackets itself.
fn key(characters: &mut Peekable<Chars<'_>>) -> Result<String> {
    let mut key = String::new();
    let mut open = 1;
    for character in characters.by_ref() {
        match character {
            '(' => open += 1,
            ')' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Ok(key);
        }
        key.push(character);
    }
    Err(Fault::new("a format has `%(` without `)`"))
}

/// A width or precision: digits, or `*` for the next value.
fn size(characters: &mut Peekable<Chars<'_>>, values: &mut Values<'_>) -> Result<Option<i128>> {
    if characters.next_if_eq(&'*').is_some() {
        let value = values.next()?;
        length(&value)?;
        return Ok(value.as_int());
    }
    let mut size = None;
    while let Some(digit) = characters.peek().and_then(|c| c.to_digit(10)) {
        characters.next();
        let before: i128 = size.unwrap_or(0);
        size = Some(before.saturating_mul(10).saturating_add(digit.into()));
    }
    Ok(size)
}

fn decimal(value: &Value, precision: Option<usize>) -> Result<Body> {
    value.check_defined()?;
    let number = match value {
        Value::Float(number) if !number.is_finite() => {
            return Err(Fault::new("a number that is not finite is no integer"));
        }
        Value::Float(number) => number::as_integer(number.trunc()).ok_or_else(number::too_large)?,
        other => other.as_int().ok_or_else(|| wrong('d', value))?,
    };
    let mut body = Body::integer(number, 'd', false);
    body.digits = zeros(&body.digits, precision)?;
    Ok(body)
}

/// Digits with zeros before them, as many as the precision asks for.
fn zeros(digits: &str, precision: Option<usize>) -> Result<String> {
    let width = precision.unwrap_or(0);
    if width > super::fields::MAX_PRECISION {
        return Err(super::fields::too_precise());
    }
    Ok(format!("{digits:0>width$}"))
}

fn character(value: &Value) -> Result<String> {
    match value {
        Value::Text(text) if text.length() == 1 => Ok(text.text.to_string()),
        other => {
            let code = other.as_int().and_then(|code| u32::try_from(code).ok());
            let character = code.and_then(char::from_u32);
            character.map(String::from).ok_or_else(|| Fault::new("`%c` needs one character"))
        }
    }
}

/// Text in which all but ASCII is an escape.
pub(super) fn ascii(text: &str) -> String {
    let mut result = String::new();
    for character in text.chars() {
        match u32::from(character) {
            ..0x80 => result.push(character),
            code @ ..0x100 => result.push_str(&format!("\\x{code:02x}")),
            code @ ..0x10000 => result.push_str(&format!("\\u{code:04x}")),
            code => result.push_str(&format!("\\U{code:08x}")),
        }
    }
    result
}
