//! Filters of text and numbers.

use super::arguments::{Arguments, flag, given, integer, integer_or, length, text};
use super::texts::{Side, pad, replaced};
use super::{characters, html, percent};
use crate::llm::text::jinja::ast::Binary;
use crate::llm::text::jinja::lexer::is_space;
use crate::llm::text::jinja::limits::{Fault, Result};
use crate::llm::text::jinja::render::Renderer;
use crate::llm::text::jinja::value::{Dict, Text, Value, binary, display, number};

/// Text of a value through a function.
pub(super) fn mapped(
    renderer: &mut Renderer,
    value: &Value,
    arguments: Arguments,
    map: fn(&str) -> String,
) -> Result<Value> {
    arguments.none("a filter of text")?;
    let own = display(&renderer.budget, value)?;
    renderer.budget.bytes(own.text.len().saturating_mul(2))?;
    Ok(Text { text: map(&own.text).into(), safe: own.safe }.into())
}

/// The filter `title`: words begin behind white space, hyphens and brackets.
pub(super) fn title(text: &str) -> String {
    let separates = |c: char| is_space(c) || "-({[<".contains(c);
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let word = rest.find(separates).unwrap_or(rest.len());
        let mut word_characters = rest[..word].chars();
        result.extend(word_characters.next().into_iter().flat_map(char::to_uppercase));
        result.push_str(&word_characters.as_str().to_lowercase());
        rest = &rest[word..];
        let gap = rest.find(|c| !separates(c)).unwrap_or(rest.len());
        result.push_str(&rest[..gap]);
        rest = &rest[gap..];
    }
    result
}

pub(super) fn trim(renderer: &mut Renderer, value: Value, arguments: Arguments) -> Result<Value> {
    let [characters] = arguments.bind("trim", ["chars"], 0)?;
    let characters = given(characters);
    let characters = characters.as_ref().map(text).transpose()?;
    let own = display(&renderer.budget, &value)?;
    let goes = |c: char| characters.map_or_else(|| is_space(c), |set| set.text.contains(c));
    renderer
        .budget
        .scan(characters.map_or(1, |set| set.text.len()).saturating_mul(own.text.len()))?;
    let kept = own.text.trim_matches(goes);
    renderer.budget.bytes(kept.len())?;
    Ok(Text { text: kept.into(), safe: own.safe }.into())
}

pub(super) fn replace(
    renderer: &mut Renderer,
    value: Value,
    arguments: Arguments,
) -> Result<Value> {
    let [old, new, most] = arguments.bind("replace", ["old", "new", "count"], 2)?;
    let (old, new) = (old.unwrap_or(Value::None), new.unwrap_or(Value::None));
    let budget = &renderer.budget;
    let (mut own, old) = (display(budget, &value)?, display(budget, &old)?);
    let mut new = display(budget, &new)?;
    if renderer.escapes {
        if old.safe || new.safe && !own.safe {
            own = html::escape(budget, &own)?;
        }
        if own.safe {
            new = html::escape(budget, &new)?;
        }
    }
    let most = given(most).as_ref().map_or(Ok(-1), integer)?;
    let result = replaced(renderer, &own.text, (&old.text, &new.text), most)?;
    Ok(Text { text: result.into(), safe: own.safe && renderer.escapes }.into())
}

pub(super) fn center(renderer: &mut Renderer, value: Value, arguments: Arguments) -> Result<Value> {
    let [width] = arguments.bind("center", ["width"], 0)?;
    let width = width.as_ref().map_or(Ok(80), length)?;
    let own = display(&renderer.budget, &value)?;
    let result = pad(renderer, &own.text, width, ' ', Side::Both)?;
    Ok(Text { text: result.into(), safe: own.safe }.into())
}

pub(super) fn format(renderer: &mut Renderer, value: Value, arguments: Arguments) -> Result<Value> {
    let own = display(&renderer.budget, &value)?;
    let budget = &renderer.budget;
    if !arguments.named.is_empty() && !arguments.positional.is_empty() {
        return Err(Fault::new("`format` takes values by position or by name, not both"));
    }
    let values = if arguments.named.is_empty() {
        Value::tuple(budget, arguments.positional)?
    } else {
        let text = |name| Value::from(Text { text: name, safe: false });
        let entries = arguments.named.into_iter().map(|(name, value)| (text(name), value));
        Value::Dict(Dict::new(budget, entries.collect())?)
    };
    percent::format(budget, &own, &values)
}

pub(super) fn word_count(renderer: &mut Renderer, value: &Value) -> Result<Value> {
    let own = display(&renderer.budget, value)?;
    renderer.budget.scan(own.text.len())?;
    let words = own.text.split(|c| !characters::is_word_character(c));
    Ok(Value::Int(words.filter(|word| !word.is_empty()).count() as i128))
}

/// Text with the decimal digits of all scripts as ASCII, without white space around it.
fn with_ascii_digits(text: &str) -> String {
    let ascii =
        |c| characters::digit_value(c).and_then(|value| char::from_digit(value, 10)).unwrap_or(c);
    text.trim_matches(is_space).chars().map(ascii).collect()
}

/// A number that text is, in Python's way of writing them.
fn parse_float(text: &str) -> Option<f64> {
    let text = &*with_ascii_digits(text);
    let digits = text.trim_start_matches(['+', '-']);
    if text.len() - digits.len() > 1 {
        return None;
    }
    match digits.to_ascii_lowercase().as_str() {
        "inf" | "infinity" | "nan" => return text.parse().ok(),
        _ => {}
    }
    let valid = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    without_underscores(text).filter(|_| valid)?.parse().ok()
}

/// Digits without the `_` between them; `None` where one stands elsewhere.
fn without_underscores(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let digit =
        |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_alphanumeric);
    let between = |at: usize| digit(at.checked_sub(1)) && digit(Some(at + 1));
    let wrong = bytes.iter().enumerate().any(|(at, byte)| *byte == b'_' && !between(at));
    (!wrong).then(|| text.replace('_', ""))
}

/// An integer that text is in a base: `None` if it is none, an error if it is too large.
fn parse_integer(text: &str, base: i128) -> Result<Option<i128>> {
    let text = &*with_ascii_digits(text);
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let prefix = match lower.get(..2) {
        Some("0x") => 16,
        Some("0o") => 8,
        Some("0b") => 2,
        _ => 0,
    };
    let (base, digits) = match (base, prefix) {
        (0, 0)
            if lower.len() > 1
                && lower.starts_with('0')
                && !lower.trim_matches(['0', '_']).is_empty() =>
        {
            return Ok(None);
        }
        (0, 0) => (10, &*lower),
        (base, prefix) if prefix != 0 && (base == 0 || base == prefix) => {
            (prefix, lower[2..].strip_prefix('_').unwrap_or(&lower[2..]))
        }
        (base, _) => (base, &*lower),
    };
    let base = u32::try_from(base).ok().filter(|base| (2..=36).contains(base));
    let base = base.ok_or_else(|| Fault::new("the base of an integer is 0 or from 2 to 36"))?;
    let Some(digits) = without_underscores(digits) else { return Ok(None) };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(base)) {
        return Ok(None);
    }
    let signed = if negative { format!("-{digits}") } else { digits };
    i128::from_str_radix(&signed, base).map(Some).map_err(|_| number::too_large())
}

pub(super) fn int(renderer: &mut Renderer, value: Value, arguments: Arguments) -> Result<Value> {
    let [default, base] = arguments.bind("int", ["default", "base"], 0)?;
    let default = default.unwrap_or(Value::Int(0));
    value.check_defined()?;
    let whole = |number: f64| {
        if !number.is_finite() {
            return Ok(default.clone());
        }
        number::as_integer(number.trunc()).map(Value::Int).ok_or_else(number::too_large)
    };
    match &value {
        Value::Text(text) => {
            renderer.budget.bytes(text.text.len())?;
            match parse_integer(&text.text, integer_or(base.as_ref(), 10)?)? {
                Some(number) => Ok(Value::Int(number)),
                None => parse_float(&text.text).map_or(Ok(default.clone()), whole),
            }
        }
        Value::Float(number) if number.is_infinite() => {
            Err(Fault::new("an infinite number is no integer"))
        }
        Value::Float(number) => whole(*number),
        other => Ok(other.as_int().map_or(default, Value::Int)),
    }
}

pub(super) fn float(_: &mut Renderer, value: Value, arguments: Arguments) -> Result<Value> {
    let [default] = arguments.bind("float", ["default"], 0)?;
    value.check_defined()?;
    let number = match &value {
        Value::Text(text) => parse_float(&text.text),
        other => other.as_float(),
    };
    Ok(number.map(Value::Float).or(default).unwrap_or(Value::Float(0.0)))
}

pub(super) fn abs(value: &Value) -> Result<Value> {
    value.check_defined()?;
    match value {
        Value::Float(number) => Ok(Value::Float(number.abs())),
        other => {
            let number = other.as_int().ok_or_else(|| {
                Fault::new(format!("`abs` needs a number, not a {}", other.type_name()))
            })?;
            number.checked_abs().map(Value::Int).ok_or_else(number::too_large)
        }
    }
}

pub(super) fn round(renderer: &mut Renderer, value: Value, arguments: Arguments) -> Result<Value> {
    let [precision, method] = arguments.bind("round", ["precision", "method"], 0)?;
    value.check_defined()?;
    let digits = precision.as_ref().map_or(Ok(0), integer)?;
    let method = match &method {
        None => "common",
        Some(method) => &*text(method)?.text,
    };
    if method == "common" {
        return match &value {
            Value::Float(number) => Ok(Value::Float(number::round(*number, digits))),
            other => {
                let number = other.as_int().ok_or_else(|| {
                    Fault::new(format!("`round` needs a number, not a {}", other.type_name()))
                })?;
                Ok(Value::Int(number::round_integer(number, digits)?))
            }
        };
    }
    let up = match method {
        "ceil" => f64::ceil,
        "floor" => f64::floor,
        _ => return Err(Fault::new("`round` knows the methods `common`, `ceil` and `floor`")),
    };
    let budget = &renderer.budget;
    let unit = binary(budget, Binary::Power, &Value::Int(10), &Value::Int(digits))?;
    let scaled = binary(budget, Binary::Multiply, &value, &unit)?;
    let whole = match &scaled {
        Value::Float(number) => number::as_integer(up(*number)).map(Value::Int),
        other => other.as_int().map(Value::Int),
    };
    binary(budget, Binary::Divide, &whole.ok_or_else(number::too_large)?, &unit)
}

/// The filter `filesizeformat`.
pub(super) fn file_size(
    renderer: &mut Renderer,
    value: Value,
    arguments: Arguments,
) -> Result<Value> {
    let [binary] = arguments.bind("filesizeformat", ["binary"], 0)?;
    value.check_defined()?;
    let bytes = match &value {
        Value::Text(text) => parse_float(&text.text),
        other => other.as_float(),
    };
    let bytes = bytes.ok_or_else(|| Fault::new("`filesizeformat` needs a number"))?;
    let (base, end): (f64, _) =
        if flag(binary.as_ref(), false) { (1024.0, "iB") } else { (1000.0, "B") };
    let text = if bytes == 1.0 {
        "1 Byte".to_owned()
    } else if bytes < base {
        format!("{} Bytes", bytes.trunc() as i128)
    } else {
        let prefixes = if end == "B" { "kMGTPEZY" } else { "KMGTPEZY" };
        let mut unit = base;
        let mut found = 'Y';
        for prefix in prefixes.chars() {
            unit *= base;
            found = prefix;
            if bytes < unit {
                break;
            }
        }
        format!("{:.1} {found}{end}", base * bytes / unit)
    };
    Value::text(&renderer.budget, text)
}
