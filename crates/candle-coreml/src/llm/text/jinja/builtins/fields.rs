//! `format` of text: fields in braces, and Python's little language of formats behind their colon.

use super::arguments::Arguments;
use super::html;
use super::percent::ascii;
use crate::llm::text::jinja::limits::{Budget, Buffer, Fault, Result};
use crate::llm::text::jinja::render::Renderer;
use crate::llm::text::jinja::value::{Text, Value, display, float_text, item, repr};

/// Digits behind the point that can be asked for.
pub(super) const MAX_PRECISION: usize = 10_000;

pub(super) fn too_precise() -> Fault {
    Fault::new(format!("a format asks for more than {MAX_PRECISION} digits"))
}

/// How to write a value.
pub(super) struct Spec {
    pub(super) fill: char,
    pub(super) align: Option<char>,
    pub(super) sign: Option<char>,
    pub(super) alternate: bool,
    pub(super) width: usize,
    grouping: Option<char>,
    pub(super) precision: Option<usize>,
    kind: Option<char>,
}

impl Default for Spec {
    fn default() -> Self {
        Spec {
            fill: ' ',
            align: None,
            sign: None,
            alternate: false,
            width: 0,
            grouping: None,
            precision: None,
            kind: None,
        }
    }
}

impl Spec {
    fn parse(text: &str) -> Result<Self> {
        let wrong = || Fault::new(format!("`{text}` is no format that is known"));
        let mut spec = Spec::default();
        let mut rest = text;
        let is_align = |c: Option<char>| c.filter(|c| "<>=^".contains(*c));
        let mut first = text.chars();
        let (one, two) = (first.next(), first.next());
        let mut filled = false;
        if let (Some(fill), Some(align)) = (one, is_align(two)) {
            (spec.fill, spec.align) = (fill, Some(align));
            rest = first.as_str();
            filled = true;
        } else if let Some(align) = is_align(one) {
            spec.align = Some(align);
            rest = &rest[1..];
        }
        let mut flag = |set: &str| {
            let found = rest.chars().next().filter(|c| set.contains(*c));
            rest = &rest[found.map_or(0, char::len_utf8)..];
            found
        };
        spec.sign = flag("+- ");
        spec.alternate = flag("#").is_some();
        if flag("0").is_some() && !filled {
            (spec.fill, spec.align) = ('0', spec.align.or(Some('=')));
        }
        let digits = |rest: &mut &str| {
            let length = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, behind) = rest.split_at(length);
            *rest = behind;
            (length > 0).then(|| number.parse().unwrap_or(usize::MAX))
        };
        spec.width = digits(&mut rest).unwrap_or(0);
        if let Some(grouping) = rest.chars().next().filter(|c| ",_".contains(*c)) {
            spec.grouping = Some(grouping);
            rest = &rest[1..];
        }
        if let Some(behind) = rest.strip_prefix('.') {
            rest = behind;
            spec.precision = Some(digits(&mut rest).ok_or_else(wrong)?);
        }
        let mut kind = rest.chars();
        spec.kind = kind.next();
        if kind.next().is_some() { Err(wrong()) } else { Ok(spec) }
    }

    /// Text with what fills it up to the width.
    pub(super) fn padded(&self, budget: &Budget, text: &str) -> Result<String> {
        let missing = self.width.saturating_sub(text.chars().count());
        let left = match self.align {
            Some('>' | '=') => missing,
            Some('^') => missing / 2,
            _ => 0,
        };
        let mut buffer = Buffer::new(budget);
        buffer.fill(self.fill, left)?;
        buffer.push(text)?;
        buffer.fill(self.fill, missing - left)?;
        Ok(buffer.finish())
    }
}

/// A number in parts.
pub(super) struct Body {
    negative: bool,
    /// Such as `0x`.
    prefix: &'static str,
    pub(super) digits: String,
    /// From the point or exponent on.
    rest: String,
}

impl Body {
    pub(super) fn integer(number: i128, kind: char, alternate: bool) -> Self {
        let size = number.unsigned_abs();
        let (prefix, digits) = match kind {
            'b' => ("0b", format!("{size:b}")),
            'o' => ("0o", format!("{size:o}")),
            'x' => ("0x", format!("{size:x}")),
            'X' => ("0X", format!("{size:X}")),
            _ => ("", size.to_string()),
        };
        let prefix = if alternate { prefix } else { "" };
        Body { negative: number < 0, prefix, digits, rest: String::new() }
    }
}

/// A floating-point number as `e`, `f` or `g` write it.
pub(super) fn float_body(
    budget: &Budget,
    number: f64,
    kind: char,
    precision: usize,
    alternate: bool,
) -> Result<Body> {
    if precision > MAX_PRECISION {
        return Err(too_precise());
    }
    budget.bytes(precision)?;
    let size = number.abs();
    let mut text = match kind.to_ascii_lowercase() {
        _ if !size.is_finite() => float_text(size),
        'f' => format!("{size:.precision$}"),
        'e' => exponent(&format!("{size:.precision$e}")),
        _ => general(size, precision.max(1), alternate),
    };
    if alternate && precision == 0 && !text.contains('.') && size.is_finite() {
        let at = text.find('e').unwrap_or(text.len());
        text.insert(at, '.');
    }
    if kind.is_ascii_uppercase() {
        text = text.to_ascii_uppercase();
    }
    let digits = text.find(|c: char| !c.is_ascii_digit()).filter(|_| size.is_finite());
    let rest = text.split_off(digits.unwrap_or(text.len()));
    Ok(Body {
        negative: number.is_sign_negative() && !number.is_nan(),
        prefix: "",
        digits: text,
        rest,
    })
}

/// An exponent with its sign and at least two digits.
fn exponent(text: &str) -> String {
    let (digits, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (sign, size) = match exponent.strip_prefix('-') {
        Some(size) => ('-', size),
        None => ('+', exponent),
    };
    format!("{digits}e{sign}{size:0>2}")
}

/// So many digits in all, without zeros at the end.
fn general(size: f64, precision: usize, alternate: bool) -> String {
    let scientific = format!("{size:.*e}", precision - 1);
    let (_, power) = scientific.split_once('e').unwrap_or(("", "0"));
    let power: i64 = power.parse().unwrap_or(0);
    let without_zeros = |text: &str| {
        if alternate || !text.contains('.') {
            return text.to_owned();
        }
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    if power < -4 || power >= precision as i64 {
        let scientific = exponent(&scientific);
        let (digits, power) = scientific.split_once('e').unwrap_or((&scientific, ""));
        return format!("{}e{power}", without_zeros(digits));
    }
    let decimals = usize::try_from(precision as i64 - 1 - power).unwrap_or(0);
    without_zeros(&format!("{size:.decimals$}"))
}

/// Digits in groups.
fn grouped(digits: &str, separator: char, group: usize) -> String {
    let mut result = String::with_capacity(digits.len() * 2);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(group) {
            result.push(separator);
        }
        result.push(digit);
    }
    result
}

/// A number with its sign, groups and what fills it up.
pub(super) fn number_text(budget: &Budget, spec: &Spec, body: &Body) -> Result<String> {
    let sign = match spec.sign {
        _ if body.negative => "-",
        Some('+') => "+",
        Some(' ') => " ",
        _ => "",
    };
    let mut digits = body.digits.clone();
    if let Some(separator) = spec.grouping {
        let group = if matches!(spec.kind, Some('b' | 'o' | 'x' | 'X')) { 4 } else { 3 };
        if spec.align == Some('=') && spec.fill == '0' {
            let other = sign.len() + body.prefix.len() + body.rest.len();
            let width = spec.width.saturating_sub(other);
            budget.bytes(width.saturating_mul(2))?;
            while digits.len() + (digits.len() - 1) / group < width {
                digits.insert(0, '0');
                budget.scan(digits.len())?;
            }
        }
        digits = grouped(&digits, separator, group);
    }
    let text = format!("{digits}{}", body.rest);
    let before = format!("{sign}{}", body.prefix);
    if spec.align == Some('=') {
        let inner = Spec {
            width: spec.width.saturating_sub(before.len()),
            fill: spec.fill,
            align: Some('>'),
            ..Spec::default()
        };
        return Ok(before + &inner.padded(budget, &text)?);
    }
    let align = spec.align.or(Some('>'));
    let outer = Spec { width: spec.width, fill: spec.fill, align, ..Spec::default() };
    outer.padded(budget, &(before + &text))
}

/// A value in a format: Python's `format`.
fn formatted(budget: &Budget, value: &Value, format: &str) -> Result<Text> {
    if format.is_empty() {
        return display(budget, value);
    }
    let spec = Spec::parse(format)?;
    let wrong =
        || Fault::new(format!("`{format}` is no format for a value of type {}", value.type_name()));
    let plain = |text: String| Text { text: text.into(), safe: false };
    match (value, spec.kind) {
        (Value::Text(text), None | Some('s')) => {
            let unfit = spec.sign.is_some() || spec.alternate || spec.grouping.is_some();
            if unfit || spec.align == Some('=') && spec.fill != '0' {
                return Err(wrong());
            }
            let align = spec.align.filter(|align| *align != '=').or(Some('<'));
            let spec = Spec { align, ..spec };
            let most = spec.precision.unwrap_or(usize::MAX);
            let kept: String = text.text.chars().take(most).collect();
            Ok(Text { text: spec.padded(budget, &kept)?.into(), safe: text.safe })
        }
        (Value::Int(_) | Value::Bool(_), None | Some('b' | 'c' | 'd' | 'n' | 'o' | 'x' | 'X')) => {
            if spec.precision.is_some() {
                return Err(wrong());
            }
            let number = value.as_int().unwrap_or(0);
            if spec.kind == Some('c') {
                let character = u32::try_from(number).ok().and_then(char::from_u32);
                return Ok(plain(spec.padded(budget, &character.ok_or_else(wrong)?.to_string())?));
            }
            let body = Body::integer(number, spec.kind.unwrap_or('d'), spec.alternate);
            Ok(plain(number_text(budget, &spec, &body)?))
        }
        (_, Some('%')) => {
            let number = value.as_float().ok_or_else(wrong)? * 100.0;
            let precision = spec.precision.unwrap_or(6);
            let mut body = float_body(budget, number, 'f', precision, spec.alternate)?;
            body.rest.push('%');
            Ok(plain(number_text(budget, &spec, &body)?))
        }
        (Value::Int(_) | Value::Bool(_) | Value::Float(_), kind) => {
            let number = value.as_float().ok_or_else(wrong)?;
            let body = match (kind, spec.precision) {
                (None, None) => shortest(number),
                (None, Some(precision)) => with_point(budget, number, precision, spec.alternate)?,
                (Some('n'), precision) => {
                    float_body(budget, number, 'g', precision.unwrap_or(6), spec.alternate)?
                }
                (Some(kind @ ('e' | 'E' | 'f' | 'F' | 'g' | 'G')), precision) => {
                    float_body(budget, number, kind, precision.unwrap_or(6), spec.alternate)?
                }
                _ => return Err(wrong()),
            };
            Ok(plain(number_text(budget, &spec, &body)?))
        }
        _ => Err(wrong()),
    }
}

fn shortest(number: f64) -> Body {
    let mut digits = float_text(number.abs());
    let at = digits.find(|c: char| !c.is_ascii_digit()).filter(|_| number.is_finite());
    let rest = digits.split_off(at.unwrap_or(digits.len()));
    Body { negative: number.is_sign_negative() && !number.is_nan(), prefix: "", digits, rest }
}

/// So many digits in all, as without a kind: one digit stands behind the point at least.
fn with_point(budget: &Budget, number: f64, precision: usize, alternate: bool) -> Result<Body> {
    let precision = precision.max(1);
    let mut body = float_body(budget, number, 'g', precision, alternate)?;
    if body.rest.is_empty() && number.is_finite() {
        if body.digits.len() >= precision {
            let power = body.digits.len() - 1;
            let text = exponent(&format!("{:.*e}", precision - 1, number.abs()));
            let digits = text.split('e').next().unwrap_or("").to_owned();
            let digits = if digits.contains('.') {
                digits.trim_end_matches('0').trim_end_matches('.').to_owned()
            } else {
                digits
            };
            body.digits = digits[..1].to_owned();
            body.rest = format!("{}e+{power:02}", &digits[1..]);
        } else {
            body.rest = ".0".to_owned();
        }
    }
    Ok(body)
}

/// Whether fields are counted or have numbers.
#[derive(Clone, Copy, PartialEq)]
enum Numbering {
    Unknown,
    Counted(usize),
    Written,
}

/// `text.format(…)`
pub(super) fn format(renderer: &mut Renderer, own: &Text, arguments: &Arguments) -> Result<Value> {
    let mut numbering = Numbering::Unknown;
    let text = fields(renderer, own, &own.text, arguments, &mut numbering, 3)?;
    renderer.budget.bytes(text.len())?;
    Ok(Text { text: text.into(), safe: own.safe }.into())
}

fn fields(
    renderer: &mut Renderer,
    own: &Text,
    text: &str,
    arguments: &Arguments,
    numbering: &mut Numbering,
    levels: usize,
) -> Result<String> {
    if levels == 0 {
        return Err(Fault::new("fields of `format` are nested too deep"));
    }
    let mut result = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        renderer.budget.bytes(at)?;
        result.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(behind) = rest.strip_prefix(brace) {
            result.push_str(brace);
            rest = behind;
            continue;
        }
        if brace == "}" {
            return Err(Fault::new("a `}` alone in the text of `format`"));
        }
        let end = end_of_field(rest)?;
        let field = &rest[..end];
        rest = &rest[end + 1..];
        let (name, conversion, spec) = parts(field)?;
        let value = lookup(renderer, name, arguments, numbering)?;
        let budget = &renderer.budget;
        let value = match conversion {
            None => value,
            Some('s') => display(budget, &value)?.into(),
            Some('r') => Value::text(budget, repr(budget, &value)?)?,
            Some('a') => Value::text(budget, ascii(&repr(budget, &value)?))?,
            Some(other) => return Err(Fault::new(format!("`!{other}` is no conversion"))),
        };
        let spec = fields(renderer, own, spec, arguments, numbering, levels - 1)?;
        let text = formatted(&renderer.budget, &value, &spec)?;
        let text = if own.safe { html::escape(&renderer.budget, &text)? } else { text };
        renderer.budget.bytes(text.text.len())?;
        result.push_str(&text.text);
    }
    renderer.budget.bytes(rest.len())?;
    result.push_str(rest);
    Ok(result)
}

fn end_of_field(text: &str) -> Result<usize> {
    let mut open = 1;
    let mut in_brackets = false;
    for (at, character) in text.char_indices() {
        match character {
            '[' => in_brackets = true,
            ']' => in_brackets = false,
            '{' if !in_brackets => open += 1,
            '}' if !in_brackets => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Ok(at);
        }
    }
    Err(Fault::new("a `{` without `}` in the text of `format`"))
}

/// Name, conversion and format of a field.
fn parts(field: &str) -> Result<(&str, Option<char>, &str)> {
    let mut in_brackets = false;
    let end = field.find(|c| {
        in_brackets = c == '[' || in_brackets && c != ']';
        !in_brackets && (c == '!' || c == ':')
    });
    let Some(end) = end else { return Ok((field, None, "")) };
    let (name, rest) = field.split_at(end);
    let Some(rest) = rest.strip_prefix('!') else { return Ok((name, None, &rest[1..])) };
    let mut characters = rest.chars();
    let conversion = characters.next();
    let spec = characters.as_str();
    match spec.strip_prefix(':') {
        Some(spec) => Ok((name, conversion, spec)),
        None if spec.is_empty() && conversion.is_some() => Ok((name, conversion, "")),
        None => Err(Fault::new("`!` in a field of `format` needs one character behind it")),
    }
}

/// The value that a field names, with attributes and items.
fn lookup(
    renderer: &mut Renderer,
    name: &str,
    arguments: &Arguments,
    numbering: &mut Numbering,
) -> Result<Value> {
    let (first, mut rest) = name.split_at(name.find(['.', '[']).unwrap_or(name.len()));
    let place = if first.is_empty() {
        if *numbering == Numbering::Written {
            return Err(Fault::new("fields of `format` are counted and have numbers"));
        }
        let place = if let Numbering::Counted(place) = *numbering { place } else { 0 };
        *numbering = Numbering::Counted(place + 1);
        Some(place)
    } else {
        first.parse().ok()
    };
    if !first.is_empty() && place.is_some() {
        if matches!(numbering, Numbering::Counted(_)) {
            return Err(Fault::new("fields of `format` are counted and have numbers"));
        }
        *numbering = Numbering::Written;
    }
    let found = match place {
        Some(place) => arguments.positional.get(place),
        None => arguments.named.iter().find(|(name, _)| **name == *first).map(|(_, value)| value),
    };
    let mut value = found
        .cloned()
        .ok_or_else(|| Fault::new(format!("`format` has no value for the field `{first}`")))?;
    while !rest.is_empty() {
        renderer.budget.steps(1)?;
        if let Some(behind) = rest.strip_prefix('.') {
            let (attribute, behind) =
                behind.split_at(behind.find(['.', '[']).unwrap_or(behind.len()));
            value = renderer.attribute(&value, attribute)?;
            rest = behind;
            continue;
        }
        let inner = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let (key, behind) =
            inner.ok_or_else(|| Fault::new("a `[` without `]` in a field of `format`"))?;
        let key = match key.parse() {
            Ok(place) if key.bytes().all(|b| b.is_ascii_digit()) => Value::Int(place),
            _ => Value::text(&renderer.budget, key)?,
        };
        value = item(&renderer.budget, &value, &key)?;
        rest = behind;
    }
    Ok(value)
}
