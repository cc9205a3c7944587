//! Methods of text: Python's `str`. Places are counted in characters.

use super::arguments::{Arguments, given, integer, integer_or, length, text};
use super::{Method, characters, fields, html};
use crate::llm::text::jinja::lexer::is_space;
use crate::llm::text::jinja::limits::{Budget, Buffer, Fault, Result};
use crate::llm::text::jinja::render::Renderer;
use crate::llm::text::jinja::value::{Dict, Text, Value};

pub(super) const METHODS: &[(&str, Method)] = &[
    ("upper", Method::Call(|r, v, a| mapped(r, v, a, str::to_uppercase))),
    ("lower", Method::Call(|r, v, a| mapped(r, v, a, str::to_lowercase))),
    ("capitalize", Method::Call(|r, v, a| mapped(r, v, a, characters::capitalize))),
    ("title", Method::Call(|r, v, a| mapped(r, v, a, characters::title_case))),
    ("swapcase", Method::Call(|r, v, a| mapped(r, v, a, characters::swap_case))),
    ("casefold", Method::Call(|r, v, a| mapped(r, v, a, characters::case_fold))),
    ("islower", Method::Call(|r, v, a| is(r, v, a, characters::is_lower))),
    ("isupper", Method::Call(|r, v, a| is(r, v, a, characters::is_upper))),
    ("istitle", Method::Call(|r, v, a| is(r, v, a, characters::is_title_case))),
    ("isalpha", Method::Call(|r, v, a| is(r, v, a, |t| characters::all_are("isalpha", t)))),
    ("isalnum", Method::Call(|r, v, a| is(r, v, a, |t| characters::all_are("isalnum", t)))),
    ("isascii", Method::Call(|r, v, a| is(r, v, a, |t| characters::all_are("isascii", t)))),
    ("isdecimal", Method::Call(|r, v, a| is(r, v, a, |t| characters::all_are("isdecimal", t)))),
    ("isdigit", Method::Call(|r, v, a| is(r, v, a, |t| characters::all_are("isdigit", t)))),
    ("isnumeric", Method::Call(|r, v, a| is(r, v, a, |t| characters::all_are("isnumeric", t)))),
    ("isspace", Method::Call(|r, v, a| is(r, v, a, |t| characters::all_are("isspace", t)))),
    ("isprintable", Method::Call(|r, v, a| is(r, v, a, |t| characters::all_are("isprintable", t)))),
    ("isidentifier", Method::Call(|r, v, a| is(r, v, a, |t| characters::all_are("", t)))),
    ("strip", Method::Call(|r, v, a| strip(r, v, a, true, true))),
    ("lstrip", Method::Call(|r, v, a| strip(r, v, a, true, false))),
    ("rstrip", Method::Call(|r, v, a| strip(r, v, a, false, true))),
    ("removeprefix", Method::Call(|r, v, a| removed(r, v, a, |t, part| t.strip_prefix(part)))),
    ("removesuffix", Method::Call(|r, v, a| removed(r, v, a, |t, part| t.strip_suffix(part)))),
    ("split", Method::Call(split)),
    ("rsplit", Method::Call(rsplit)),
    ("splitlines", Method::Call(splitlines)),
    ("partition", Method::Call(|r, v, a| partition(r, v, a, false))),
    ("rpartition", Method::Call(|r, v, a| partition(r, v, a, true))),
    ("join", Method::Call(join)),
    ("replace", Method::Call(replace)),
    ("startswith", Method::Call(|r, v, a| affix(r, v, a, |t, part| t.starts_with(part)))),
    ("endswith", Method::Call(|r, v, a| affix(r, v, a, |t, part| t.ends_with(part)))),
    ("find", Method::Call(|r, v, a| Ok(found(find(r, v, a, false)?)))),
    ("rfind", Method::Call(|r, v, a| Ok(found(find(r, v, a, true)?)))),
    ("index", Method::Call(|r, v, a| must_be_found(find(r, v, a, false)?))),
    ("rindex", Method::Call(|r, v, a| must_be_found(find(r, v, a, true)?))),
    ("count", Method::Call(count)),
    ("center", Method::Call(|r, v, a| padded(r, v, a, Side::Both))),
    ("ljust", Method::Call(|r, v, a| padded(r, v, a, Side::Right))),
    ("rjust", Method::Call(|r, v, a| padded(r, v, a, Side::Left))),
    ("zfill", Method::Call(zfill)),
    ("expandtabs", Method::Call(expandtabs)),
    ("translate", Method::Call(translate)),
    ("maketrans", Method::Call(maketrans)),
    ("format", Method::Call(|r, v, a| fields::format(r, own(v)?, &a))),
    (
        "format_map",
        Method::Call(|r, v, a| {
            let [map] = a.bind("format_map", [""], 1)?;
            let Some(Value::Dict(map)) = map else {
                return Err(Fault::new("`format_map` needs a dictionary"));
            };
            let named =
                |(key, value): &(Value, Value)| Some((key.as_text()?.text.clone(), value.clone()));
            let named = map.entries().iter().filter_map(named).collect();
            fields::format(r, own(v)?, &Arguments { positional: Vec::new(), named })
        }),
    ),
    ("encode", Method::Call(|_, _, _| Err(Fault::new("bytes are not supported: no `encode`")))),
    // Of HTML.
    (
        "striptags",
        Method::Call(|r, v, a| {
            a.none("striptags")?;
            html::strip_tags(&r.budget, own(v)?)
        }),
    ),
    (
        "unescape",
        Method::Call(|r, v, a| {
            a.none("unescape")?;
            Value::text(&r.budget, html::unescape(&own(v)?.text)?)
        }),
    ),
];

fn own(value: &Value) -> Result<&Text> {
    text(value)
}

/// Text in the manner of another.
fn like(renderer: &Renderer, own: &Text, result: impl Into<String>) -> Result<Value> {
    let result = result.into();
    renderer.budget.bytes(result.len() + 64)?;
    Ok(Text { text: result.into(), safe: own.safe }.into())
}

fn mapped(
    renderer: &mut Renderer,
    value: &Value,
    arguments: Arguments,
    map: fn(&str) -> String,
) -> Result<Value> {
    arguments.none("a method that changes case")?;
    let own = own(value)?;
    renderer.budget.bytes(own.text.len())?;
    like(renderer, own, map(&own.text))
}

fn is(
    renderer: &mut Renderer,
    value: &Value,
    arguments: Arguments,
    check: fn(&str) -> bool,
) -> Result<Value> {
    arguments.none("a method that looks at characters")?;
    let own = own(value)?;
    renderer.budget.scan(own.text.len())?;
    Ok(Value::Bool(check(&own.text)))
}

fn strip(
    renderer: &mut Renderer,
    value: &Value,
    arguments: Arguments,
    left: bool,
    right: bool,
) -> Result<Value> {
    let [characters] = arguments.bind("strip", [""], 0)?;
    let own = own(value)?;
    let characters = given(characters);
    let characters = characters.as_ref().map(text).transpose()?;
    let goes = |c: char| characters.map_or_else(|| is_space(c), |set| set.text.contains(c));
    renderer
        .budget
        .scan(characters.map_or(1, |set| set.text.len()).saturating_mul(own.text.len()))?;
    let mut result = &*own.text;
    if left {
        result = result.trim_start_matches(goes);
    }
    if right {
        result = result.trim_end_matches(goes);
    }
    like(renderer, own, result)
}

fn removed(
    renderer: &mut Renderer,
    value: &Value,
    arguments: Arguments,
    remove: for<'t> fn(&'t str, &str) -> Option<&'t str>,
) -> Result<Value> {
    let [part] = arguments.bind("removeprefix", [""], 1)?;
    let own = own(value)?;
    let part = part.unwrap_or(Value::None);
    like(renderer, own, remove(&own.text, &text(&part)?.text).unwrap_or(&own.text))
}

/// A list of texts in the manner of another.
fn list_like<'t>(
    renderer: &Renderer,
    own: &Text,
    parts: impl Iterator<Item = &'t str>,
) -> Result<Value> {
    let parts = parts.map(|part| like(renderer, own, part)).collect::<Result<Vec<_>>>()?;
    Value::list(&renderer.budget, parts)
}

/// The separator, if one is given, and how often to split.
fn split_arguments(arguments: Arguments) -> Result<(Option<Value>, usize)> {
    let [separator, most] = arguments.bind("split", ["sep", "maxsplit"], 0)?;
    let separator = given(separator);
    if let Some(separator) = &separator
        && text(separator)?.text.is_empty()
    {
        return Err(Fault::new("an empty text can't separate"));
    }
    Ok((separator, usize::try_from(integer_or(most.as_ref(), -1)?).unwrap_or(usize::MAX)))
}

fn split(renderer: &mut Renderer, value: &Value, arguments: Arguments) -> Result<Value> {
    let (separator, most) = split_arguments(arguments)?;
    let own = own(value)?;
    if let Some(separator) = &separator {
        let parts = own.text.splitn(most.saturating_add(1), &*text(separator)?.text);
        return list_like(renderer, own, parts);
    }
    let mut parts = Vec::new();
    let mut rest = own.text.trim_start_matches(is_space);
    while !rest.is_empty() {
        renderer.budget.bytes(16)?;
        if parts.len() == most {
            parts.push(rest);
            break;
        }
        let (part, behind) = rest.split_at(rest.find(is_space).unwrap_or(rest.len()));
        parts.push(part);
        rest = behind.trim_start_matches(is_space);
    }
    list_like(renderer, own, parts.into_iter())
}

fn rsplit(renderer: &mut Renderer, value: &Value, arguments: Arguments) -> Result<Value> {
    let (separator, most) = split_arguments(arguments)?;
    let own = own(value)?;
    let mut parts: Vec<&str> = Vec::new();
    if let Some(separator) = &separator {
        for part in own.text.rsplitn(most.saturating_add(1), &*text(separator)?.text) {
            renderer.budget.bytes(16)?;
            parts.push(part);
        }
    } else {
        let mut rest = own.text.trim_end_matches(is_space);
        while !rest.is_empty() {
            renderer.budget.bytes(16)?;
            if parts.len() == most {
                parts.push(rest);
                break;
            }
            let space = rest.char_indices().rev().find(|(_, c)| is_space(*c));
            let at = space.map_or(0, |(at, c)| at + c.len_utf8());
            parts.push(&rest[at..]);
            rest = rest[..at].trim_end_matches(is_space);
        }
    }
    list_like(renderer, own, parts.into_iter().rev())
}

/// Lines as `splitlines` has them, with their ends or without.
pub(super) fn lines<'t>(budget: &Budget, text: &'t str, keep_ends: bool) -> Result<Vec<&'t str>> {
    let ends = |c: char| {
        matches!(
            c,
            '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'
                ..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
        )
    };
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(ends) {
        let end = &rest[at..];
        let length =
            if end.starts_with("\r\n") { 2 } else { end.chars().next().map_or(0, char::len_utf8) };
        budget.bytes(16)?;
        lines.push(&rest[..if keep_ends { at + length } else { at }]);
        rest = &rest[at + length..];
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    Ok(lines)
}

fn splitlines(renderer: &mut Renderer, value: &Value, arguments: Arguments) -> Result<Value> {
    let [keep_ends] = arguments.bind("splitlines", ["keepends"], 0)?;
    let own = own(value)?;
    let keep_ends = integer_or(keep_ends.as_ref(), 0)? != 0;
    let lines = lines(&renderer.budget, &own.text, keep_ends)?;
    list_like(renderer, own, lines.into_iter())
}

fn partition(
    renderer: &mut Renderer,
    value: &Value,
    arguments: Arguments,
    last: bool,
) -> Result<Value> {
    let [separator] = arguments.bind("partition", [""], 1)?;
    let separator = separator.unwrap_or(Value::None);
    let (own, separator) = (own(value)?, &*text(&separator)?.text);
    if separator.is_empty() {
        return Err(Fault::new("an empty text can't separate"));
    }
    let parts = if last { own.text.rsplit_once(separator) } else { own.text.split_once(separator) };
    let parts = match parts {
        Some((before, behind)) => [before, separator, behind],
        None if last => ["", "", &*own.text],
        None => [&*own.text, "", ""],
    };
    let parts = parts.map(|part| like(renderer, own, part)).into_iter().collect::<Result<_>>()?;
    Value::tuple(&renderer.budget, parts)
}

fn join(renderer: &mut Renderer, value: &Value, arguments: Arguments) -> Result<Value> {
    let [items] = arguments.bind("join", [""], 1)?;
    let own = own(value)?;
    let mut buffer = Buffer::new(&renderer.budget);
    for (number, item) in items.unwrap_or(Value::None).items()?.enumerate() {
        let item = text(&item)?;
        buffer.push(if number == 0 { "" } else { &own.text })?;
        let item = if own.safe { html::escape(&renderer.budget, item)? } else { item.clone() };
        buffer.push(&item.text)?;
    }
    let result = buffer.finish();
    like(renderer, own, result)
}

/// Text with parts replaced, as often as allowed.
pub(super) fn replaced(
    renderer: &Renderer,
    text: &str,
    (old, new): (&str, &str),
    most: i128,
) -> Result<String> {
    renderer.budget.scan(text.len())?;
    let mut buffer = Buffer::new(&renderer.budget);
    let mut done = 0;
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    for (at, part) in text.match_indices(old).take(most) {
        buffer.push(&text[done..at])?;
        buffer.push(new)?;
        done = at + part.len();
    }
    buffer.push(&text[done..])?;
    Ok(buffer.finish())
}

fn replace(renderer: &mut Renderer, value: &Value, arguments: Arguments) -> Result<Value> {
    let [old, new, most] = arguments.bind("replace", ["", "", ""], 2)?;
    let (old, new) = (old.unwrap_or(Value::None), new.unwrap_or(Value::None));
    let own = own(value)?;
    let mut new = text(&new)?.clone();
    if own.safe {
        new = html::escape(&renderer.budget, &new)?;
    }
    let most = integer_or(most.as_ref(), -1)?;
    let result = replaced(renderer, &own.text, (&text(&old)?.text, &new.text), most)?;
    like(renderer, own, result)
}

/// A part of text between two places, with the number of characters before it. `None` if there is no
/// such part.
fn between<'t>(
    renderer: &Renderer,
    own: &'t Text,
    start: Option<Value>,
    stop: Option<Value>,
) -> Result<Option<(usize, &'t str)>> {
    let (start, stop) = (given(start), given(stop));
    renderer.budget.scan(own.text.len())?;
    if start.is_none() && stop.is_none() {
        return Ok(Some((0, &own.text)));
    }
    let length = own.length() as i128;
    let place = |bound: i128| if bound < 0 { (bound + length).max(0) } else { bound };
    let start = place(integer_or(start.as_ref(), 0)?);
    let stop = place(integer_or(stop.as_ref(), length)?).min(length);
    if start > stop {
        return Ok(None);
    }
    let byte = |place: i128| {
        let place = usize::try_from(place).unwrap_or(usize::MAX);
        own.text.char_indices().nth(place).map_or(own.text.len(), |(at, _)| at)
    };
    Ok(Some((start as usize, &own.text[byte(start)..byte(stop)])))
}

fn affix(
    renderer: &mut Renderer,
    value: &Value,
    arguments: Arguments,
    check: fn(&str, &str) -> bool,
) -> Result<Value> {
    let [parts, start, stop] = arguments.bind("startswith", ["", "", ""], 1)?;
    let parts = parts.unwrap_or(Value::None);
    let part = between(renderer, own(value)?, start, stop)?;
    let check = |affix: &Value| -> Result<bool> {
        let affix = text(affix)?;
        Ok(part.is_some_and(|(_, part)| check(part, &affix.text)))
    };
    match &parts {
        Value::Tuple(affixes) => {
            for affix in &affixes.items {
                if check(affix)? {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        affix => check(affix).map(Value::Bool),
    }
}

fn find(
    renderer: &mut Renderer,
    value: &Value,
    arguments: Arguments,
    last: bool,
) -> Result<Option<usize>> {
    let [part, start, stop] = arguments.bind("find", ["", "", ""], 1)?;
    let part = part.unwrap_or(Value::None);
    let part = &*text(&part)?.text;
    let Some((before, within)) = between(renderer, own(value)?, start, stop)? else {
        return Ok(None);
    };
    let at = if last { within.rfind(part) } else { within.find(part) };
    Ok(at.map(|at| before + within[..at].chars().count()))
}

fn found(place: Option<usize>) -> Value {
    Value::Int(place.map_or(-1, |place| place as i128))
}

fn must_be_found(place: Option<usize>) -> Result<Value> {
    place
        .map(|place| Value::Int(place as i128))
        .ok_or_else(|| Fault::new("the text has no such part"))
}

fn count(renderer: &mut Renderer, value: &Value, arguments: Arguments) -> Result<Value> {
    let [part, start, stop] = arguments.bind("count", ["", "", ""], 1)?;
    let part = part.unwrap_or(Value::None);
    let part = &*text(&part)?.text;
    let within = between(renderer, own(value)?, start, stop)?;
    Ok(Value::Int(within.map_or(0, |(_, within)| within.matches(part).count() as i128)))
}

/// Where spaces go.
#[derive(Clone, Copy)]
pub(super) enum Side {
    Left,
    Right,
    Both,
}

/// Text with characters around it, up to a width.
pub(super) fn pad(
    renderer: &Renderer,
    text: &str,
    width: usize,
    fill: char,
    side: Side,
) -> Result<String> {
    let missing = width.saturating_sub(text.chars().count());
    let left = match side {
        Side::Left => missing,
        Side::Right => 0,
        Side::Both => missing / 2 + (missing & width & 1),
    };
    let mut buffer = Buffer::new(&renderer.budget);
    buffer.fill(fill, left)?;
    buffer.push(text)?;
    buffer.fill(fill, missing - left)?;
    Ok(buffer.finish())
}

fn padded(
    renderer: &mut Renderer,
    value: &Value,
    arguments: Arguments,
    side: Side,
) -> Result<Value> {
    let [width, fill] = arguments.bind("center", ["", ""], 1)?;
    let width = length(&width.unwrap_or(Value::None))?;
    let fill = fill.as_ref().map(text).transpose()?.map_or(" ", |fill| &fill.text);
    let mut fill = fill.chars();
    let (Some(character), None) = (fill.next(), fill.next()) else {
        return Err(Fault::new("what fills up text has to be one character"));
    };
    let own = own(value)?;
    let result = pad(renderer, &own.text, width, character, side)?;
    like(renderer, own, result)
}

fn zfill(renderer: &mut Renderer, value: &Value, arguments: Arguments) -> Result<Value> {
    let [width] = arguments.bind("zfill", [""], 1)?;
    let own = own(value)?;
    let width = length(&width.unwrap_or(Value::None))?;
    let (sign, digits) = own.text.split_at(usize::from(own.text.starts_with(['+', '-'])));
    let digits = pad(renderer, digits, width.saturating_sub(sign.len()), '0', Side::Left)?;
    like(renderer, own, format!("{sign}{digits}"))
}

fn expandtabs(renderer: &mut Renderer, value: &Value, arguments: Arguments) -> Result<Value> {
    let [size] = arguments.bind("expandtabs", ["tabsize"], 0)?;
    let size = size.as_ref().map_or(Ok(8), length)?;
    let own = own(value)?;
    let mut buffer = Buffer::new(&renderer.budget);
    let mut column: usize = 0;
    for c in own.text.chars() {
        match c {
            '\t' => {
                let spaces = size - column.checked_rem(size).unwrap_or(size);
                buffer.fill(' ', spaces)?;
                column = column.saturating_add(spaces);
                continue;
            }
            '\n' | '\r' => column = 0,
            _ => column = column.saturating_add(1),
        }
        buffer.push(c.encode_utf8(&mut [0; 4]))?;
    }
    let result = buffer.finish();
    like(renderer, own, result)
}

/// Characters replaced by what a dictionary or list has for their codes.
fn translate(renderer: &mut Renderer, value: &Value, arguments: Arguments) -> Result<Value> {
    let [table] = arguments.bind("translate", [""], 1)?;
    let table = table.unwrap_or(Value::None);
    let own = own(value)?;
    let mut buffer = Buffer::new(&renderer.budget);
    for c in own.text.chars() {
        let code = Value::Int(u32::from(c).into());
        let character = |code: i128| u32::try_from(code).ok().and_then(char::from_u32);
        match crate::llm::text::jinja::value::item(&renderer.budget, &table, &code)? {
            Value::Undefined(_) => buffer.push(c.encode_utf8(&mut [0; 4]))?,
            Value::None => {}
            Value::Text(text) => buffer.push(&text.text)?,
            other => {
                let c = character(integer(&other)?)
                    .ok_or_else(|| Fault::new("a table for `translate` has no such character"))?;
                buffer.push(c.encode_utf8(&mut [0; 4]))?;
            }
        }
    }
    let result = buffer.finish();
    like(renderer, own, result)
}

/// A table for `translate`.
fn maketrans(renderer: &mut Renderer, _: &Value, arguments: Arguments) -> Result<Value> {
    let [from, to, without] = arguments.bind("maketrans", ["", "", ""], 1)?;
    let code = |c: char| Value::Int(u32::from(c).into());
    let mut entries = Vec::new();
    match (from.unwrap_or(Value::None), to) {
        (Value::Dict(dict), None) => {
            for (key, value) in dict.entries() {
                let key = match key {
                    Value::Text(text) if text.length() == 1 => text.text.chars().next().map(code),
                    Value::Int(_) => Some(key.clone()),
                    _ => None,
                };
                let key = key.ok_or_else(|| Fault::new("`maketrans` needs characters as keys"))?;
                entries.push((key, value.clone()));
            }
        }
        (from, Some(to)) => {
            let (from, to) = (text(&from)?, text(&to)?);
            if from.length() != to.length() {
                return Err(Fault::new("`maketrans` needs two texts of one length"));
            }
            renderer.budget.bytes(from.text.len().saturating_mul(64))?;
            entries.extend(from.text.chars().zip(to.text.chars()).map(|(a, b)| (code(a), code(b))));
        }
        _ => return Err(Fault::new("`maketrans` needs a dictionary, or two texts")),
    }
    if let Some(without) = without {
        entries.extend(text(&without)?.text.chars().map(|c| (code(c), Value::None)));
    }
    Ok(Value::Dict(Dict::new(&renderer.budget, entries)?))
}
