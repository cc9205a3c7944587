//! Filters of lists and other things with items.

use std::cmp::Ordering;
use std::hash::{BuildHasher, Hasher};

use super::arguments::{Arguments, flag, given, integer, integer_or, length, text};
use crate::llm::text::jinja::ast::Binary;
use crate::llm::text::jinja::limits::{Budget, Fault, MAX_CHAIN, Result};
use crate::llm::text::jinja::render::Renderer;
use crate::llm::text::jinja::value::{
    Range, Sequence, Source, Text, Value, View, ViewKind, binary, display, distinct, equal, item,
    order, order_parts,
};

/// A path of attributes and items, such as `function.name` or `0`.
pub(super) fn path(renderer: &Renderer, path: Option<&Value>) -> Result<Vec<Value>> {
    let Some(path) = path.filter(|path| !matches!(path, Value::None)) else {
        return Ok(Vec::new());
    };
    let Value::Text(text) = path else { return Ok(vec![path.clone()]) };
    path_of(&renderer.budget, &text.text)
}

fn path_of(budget: &Budget, text: &str) -> Result<Vec<Value>> {
    if text.matches('.').count() > MAX_CHAIN {
        return Err(Fault::new(format!("a path has more than {MAX_CHAIN} attributes")));
    }
    let part = |part: &str| match part.parse() {
        Ok(place) if part.bytes().all(|b| b.is_ascii_digit()) => Ok(Value::Int(place)),
        _ => Value::text(budget, part),
    };
    text.split('.').map(part).collect()
}

/// What a path leads to.
fn follow(
    renderer: &mut Renderer,
    value: &Value,
    path: &[Value],
    default: Option<&Value>,
) -> Result<Value> {
    let mut value = value.clone();
    for part in path {
        renderer.budget.steps(1)?;
        value = item(&renderer.budget, &value, part)?;
        if let (Value::Undefined(_), Some(default)) = (&value, default) {
            value = default.clone();
        }
    }
    Ok(value)
}

/// Text in small letters, unless case counts; other values as they are.
fn without_case(renderer: &Renderer, value: Value, case_sensitive: bool) -> Result<Value> {
    match &value {
        Value::Text(text) if !case_sensitive => {
            Value::text(&renderer.budget, text.text.to_lowercase())
        }
        _ => Ok(value),
    }
}

/// Places of keys in their order. Equal ones stay as they were. (The sort of the standard library may
/// panic where an order contradicts itself, as one with `nan` does.)
pub(super) fn sorted<K>(
    budget: &Budget,
    keys: &[K],
    reverse: bool,
    order: impl Fn(&K, &K) -> Result<Option<Ordering>>,
) -> Result<Vec<usize>> {
    budget.bytes(keys.len().saturating_mul(16))?;
    let mut places: Vec<usize> = (0..keys.len()).collect();
    let mut width = 1;
    while width < places.len() {
        let mut merged = Vec::with_capacity(places.len());
        for run in places.chunks(width * 2) {
            let (left, right) = run.split_at(width.min(run.len()));
            let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
            while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
                let order = order(&keys[**b], &keys[**a])?;
                let before = if reverse { Ordering::Greater } else { Ordering::Less };
                merged.extend(if order == Some(before) { right.next() } else { left.next() });
            }
            merged.extend(left);
            merged.extend(right);
        }
        places = merged;
        width *= 2;
    }
    Ok(places)
}

pub(super) fn sort(renderer: &mut Renderer, value: Value, arguments: Arguments) -> Result<Value> {
    let [reverse, case_sensitive, attribute] =
        arguments.bind("sort", ["reverse", "case_sensitive", "attribute"], 0)?;
    let case_sensitive = flag(case_sensitive.as_ref(), false);
    let paths = match &attribute {
        Some(Value::Text(text)) => text
            .text
            .split(',')
            .map(|p| path_of(&renderer.budget, p))
            .collect::<Result<Vec<_>>>()?,
        other => vec![path(renderer, other.as_ref())?],
    };
    let items = value.collect(&renderer.budget)?;
    let mut keys = Vec::with_capacity(items.len());
    for item in &items {
        renderer.budget.bytes(paths.len().saturating_mul(64))?;
        let mut key = Vec::with_capacity(paths.len());
        for path in &paths {
            let part = follow(renderer, item, path, None)?;
            key.push(without_case(renderer, part, case_sensitive)?);
        }
        keys.push(key);
    }
    let budget = &renderer.budget;
    let reverse = integer_or(reverse.as_ref(), 0)? != 0;
    let places = sorted(budget, &keys, reverse, |a, b| order_parts(budget, a, b))?;
    Value::list(&renderer.budget, places.into_iter().map(|place| items[place].clone()).collect())
}

pub(super) fn dict_sort(
    renderer: &mut Renderer,
    value: Value,
    arguments: Arguments,
) -> Result<Value> {
    let [case_sensitive, by, reverse] =
        arguments.bind("dictsort", ["case_sensitive", "by", "reverse"], 0)?;
    let Value::Dict(dict) = &value else {
        return Err(Fault::new(format!(
            "`dictsort` needs a dictionary, not a {}",
            value.type_name()
        )));
    };
    let by_key = match &by {
        None => true,
        Some(Value::Text(by)) if &*by.text == "key" => true,
        Some(Value::Text(by)) if &*by.text == "value" => false,
        _ => return Err(Fault::new("`dictsort` sorts by `key` or `value`")),
    };
    let case_sensitive = flag(case_sensitive.as_ref(), false);
    renderer.budget.bytes(dict.len().saturating_mul(100))?;
    let keys = dict.entries().iter().map(|(key, value)| {
        let part = if by_key { key } else { value };
        without_case(renderer, part.clone(), case_sensitive)
    });
    let keys = keys.collect::<Result<Vec<_>>>()?;
    let budget = &renderer.budget;
    let reverse = integer_or(reverse.as_ref(), 0)? != 0;
    let places = sorted(budget, &keys, reverse, |a, b| order(budget, a, b))?;
    let pairs = Value::View(View { kind: ViewKind::Items, dict: dict.clone() });
    let pairs = pairs.collect(&renderer.budget)?;
    Value::list(&renderer.budget, places.into_iter().map(|place| pairs[place].clone()).collect())
}

pub(super) fn group_by(
    renderer: &mut Renderer,
    value: Value,
    arguments: Arguments,
) -> Result<Value> {
    let [attribute, default, case_sensitive] =
        arguments.bind("groupby", ["attribute", "default", "case_sensitive"], 1)?;
    let path = path(renderer, attribute.as_ref())?;
    let default = given(default);
    let case_sensitive = flag(case_sensitive.as_ref(), false);
    let items = value.collect(&renderer.budget)?;
    let (mut names, mut keys) = (Vec::new(), Vec::new());
    for item in &items {
        renderer.budget.bytes(100)?;
        let name = follow(renderer, item, &path, default.as_ref())?;
        keys.push(without_case(renderer, name.clone(), case_sensitive)?);
        names.push(name);
    }
    let budget = &renderer.budget;
    let places = sorted(budget, &keys, false, |a, b| order(budget, a, b))?;
    let mut groups: Vec<(usize, Vec<Value>)> = Vec::new();
    for place in places {
        let same = match groups.last() {
            Some((first, _)) => equal(&renderer.budget, &keys[*first], &keys[place])?,
            None => false,
        };
        match groups.last_mut() {
            Some((_, group)) if same => group.push(items[place].clone()),
            _ => groups.push((place, vec![items[place].clone()])),
        }
    }
    let budget = &renderer.budget;
    let groups = groups.into_iter().map(|(first, group)| {
        let parts = vec![names[first].clone(), Value::list(budget, group)?];
        Ok(Value::Tuple(Sequence::named(budget, parts, &["grouper", "list"])?))
    });
    let groups = groups.collect::<Result<_>>()?;
    Value::list(budget, groups)
}

pub(super) fn unique(renderer: &mut Renderer, value: Value, arguments: Arguments) -> Result<Value> {
    let [case_sensitive, attribute] =
        arguments.bind("unique", ["case_sensitive", "attribute"], 0)?;
    let case_sensitive = flag(case_sensitive.as_ref(), false);
    let path = path(renderer, attribute.as_ref())?;
    let items = value.collect(&renderer.budget)?;
    let mut keys = Vec::new();
    for item in &items {
        let key = follow(renderer, item, &path, None)?;
        renderer.budget.bytes(100)?;
        keys.push(without_case(renderer, key, case_sensitive)?);
    }
    let first = distinct(&renderer.budget, &keys)?;
    let kept = items.into_iter().zip(first).filter_map(|(item, first)| first.then_some(item));
    Value::stream(&renderer.budget, kept.collect())
}

/// The item whose key comes first in an order.
pub(super) fn extreme(
    renderer: &mut Renderer,
    value: Value,
    arguments: Arguments,
    wanted: Ordering,
) -> Result<Value> {
    let [case_sensitive, attribute] = arguments.bind("min", ["case_sensitive", "attribute"], 0)?;
    let case_sensitive = flag(case_sensitive.as_ref(), false);
    let path = path(renderer, attribute.as_ref())?;
    let mut best: Option<(Value, Value)> = None;
    for item in value.items()? {
        let key = follow(renderer, &item, &path, None)?;
        let key = without_case(renderer, key, case_sensitive)?;
        let better = match &best {
            Some((_, best)) => order(&renderer.budget, &key, best)? == Some(wanted),
            None => true,
        };
        if better {
            best = Some((item, key));
        }
    }
    Ok(best.map_or_else(|| Value::undefined("there is no item"), |(item, _)| item))
}

pub(super) fn sum(renderer: &mut Renderer, value: Value, arguments: Arguments) -> Result<Value> {
    let [attribute, start] = arguments.bind("sum", ["attribute", "start"], 0)?;
    let path = path(renderer, attribute.as_ref())?;
    let mut total = start.unwrap_or(Value::Int(0));
    if total.as_text().is_some() {
        return Err(Fault::new("`sum` is not for text: use `join`"));
    }
    for item in value.items()? {
        let item = follow(renderer, &item, &path, None)?;
        total = binary(&renderer.budget, Binary::Add, &total, &item)?;
    }
    Ok(total)
}

pub(super) fn join(renderer: &mut Renderer, value: Value, arguments: Arguments) -> Result<Value> {
    let [separator, attribute] = arguments.bind("join", ["d", "attribute"], 0)?;
    let path = path(renderer, attribute.as_ref())?;
    let separator = match separator {
        Some(separator) => display(&renderer.budget, &separator)?,
        None => Text { text: "".into(), safe: false },
    };
    let mut texts = Vec::new();
    for item in value.items()? {
        let item = follow(renderer, &item, &path, None)?;
        renderer.budget.bytes(64)?;
        texts.push(display(&renderer.budget, &item)?);
    }
    let safe = renderer.escapes && (separator.safe || texts.iter().any(|text| text.safe));
    let mut buffer = crate::llm::text::jinja::limits::Buffer::new(&renderer.budget);
    let escaped = |text: &Text| {
        if safe { super::escape(&renderer.budget, text) } else { Ok(text.clone()) }
    };
    for (number, text) in texts.iter().enumerate() {
        if number > 0 {
            buffer.push(&escaped(&separator)?.text)?;
        }
        buffer.push(&escaped(text)?.text)?;
    }
    Ok(Text { text: buffer.finish().into(), safe }.into())
}

pub(super) fn first(value: &Value) -> Result<Value> {
    let first = value.items()?.next();
    Ok(first.unwrap_or_else(|| Value::undefined("there is no first item")))
}

pub(super) fn last(renderer: &Renderer, value: &Value) -> Result<Value> {
    match value {
        Value::Stream(_) => Err(Fault::new("`last` needs a list; make one with `|list`")),
        Value::Undefined(_) => Ok(Value::undefined("there is no last item")),
        Value::Text(text) => {
            let last =
                text.text.chars().last().map(|c| Value::text(&renderer.budget, c.to_string()));
            last.unwrap_or_else(|| Ok(Value::undefined("there is no last item")))
        }
        other => {
            let items = other.items()?;
            let last = items.last();
            Ok(last.unwrap_or_else(|| Value::undefined("there is no last item")))
        }
    }
}

pub(super) fn random(renderer: &Renderer, value: &Value) -> Result<Value> {
    let length = value.length().filter(|_| !matches!(value, Value::View(_) | Value::Dict(_)));
    let length =
        length.ok_or_else(|| Fault::new(format!("`random` of a {}", value.type_name())))?;
    if length == 0 {
        return Ok(Value::undefined("there is no item"));
    }
    let chance = std::hash::RandomState::new().build_hasher().finish();
    item(&renderer.budget, value, &Value::Int((chance % length as u64).into()))
}

pub(super) fn reverse(renderer: &Renderer, value: &Value) -> Result<Value> {
    let budget = &renderer.budget;
    match value {
        Value::Text(text) => {
            budget.bytes(text.text.len())?;
            let reversed: String = text.text.chars().rev().collect();
            Ok(Text { text: reversed.into(), safe: text.safe }.into())
        }
        Value::Range(Range { .. })
        | Value::List(_)
        | Value::Tuple(_)
        | Value::Dict(_)
        | Value::View(_) => {
            let mut items = value.collect(budget)?;
            items.reverse();
            Value::stream(budget, items)
        }
        _ => {
            let mut items = value.collect(budget)?;
            items.reverse();
            Value::list(budget, items)
        }
    }
}

pub(super) fn batch(renderer: &mut Renderer, value: Value, arguments: Arguments) -> Result<Value> {
    let [count, fill] = arguments.bind("batch", ["linecount", "fill_with"], 1)?;
    let count = integer(&count.unwrap_or(Value::None))?;
    let fill = given(fill);
    let items = value.collect(&renderer.budget)?;
    let budget = &renderer.budget;
    let size = usize::try_from(count).unwrap_or(usize::MAX).min(items.len().max(1)).max(1);
    let mut batches = Vec::new();
    for chunk in items.chunks(size) {
        let mut chunk = chunk.to_vec();
        if let Some(fill) = &fill {
            let missing =
                usize::try_from(count.max(0)).unwrap_or(usize::MAX).saturating_sub(chunk.len());
            budget.bytes(missing.saturating_mul(64))?;
            chunk.extend(std::iter::repeat_n(fill.clone(), missing));
        }
        batches.push(Value::list(budget, chunk)?);
    }
    Value::stream(budget, batches)
}

pub(super) fn slices(renderer: &mut Renderer, value: Value, arguments: Arguments) -> Result<Value> {
    let [count, fill] = arguments.bind("slice", ["slices", "fill_with"], 1)?;
    let count = count.unwrap_or(Value::None);
    if integer(&count)? == 0 {
        return Err(Fault::new("`slice` into no parts"));
    }
    let count = length(&count)?;
    let fill = given(fill);
    let items = value.collect(&renderer.budget)?;
    let budget = &renderer.budget;
    let (size, longer) = (items.len() / count.max(1), items.len() % count.max(1));
    let mut rest = items.into_iter();
    let mut slices = Vec::new();
    for number in 0..count {
        budget.bytes(100)?;
        let mut slice: Vec<Value> =
            rest.by_ref().take(size + usize::from(number < longer)).collect();
        if number >= longer {
            slice.extend(fill.clone());
        }
        slices.push(Value::list(budget, slice)?);
    }
    Value::stream(budget, slices)
}

pub(super) fn map(renderer: &mut Renderer, value: Value, arguments: Arguments) -> Result<Value> {
    if !value.truth() {
        return Value::stream(&renderer.budget, Vec::new());
    }
    let items = value.items()?;
    let mut results = Vec::new();
    if arguments.positional.is_empty() {
        let [attribute, default] = arguments.bind("map", ["attribute", "default"], 1)?;
        let (path, default) = (path(renderer, attribute.as_ref())?, given(default));
        for item in items {
            renderer.budget.bytes(64)?;
            results.push(follow(renderer, &item, &path, default.as_ref())?);
        }
        return Value::stream(&renderer.budget, results);
    }
    let (name, arguments) = without_first(arguments);
    let name = text(&name)?.text.clone();
    for item in items {
        renderer.budget.bytes(64)?;
        let arguments = again(renderer, &arguments)?;
        results.push(renderer.filter(&name, item, arguments)?);
    }
    Value::stream(&renderer.budget, results)
}

/// The first positional argument, and the others.
fn without_first(arguments: Arguments) -> (Value, Arguments) {
    let Arguments { positional, named } = arguments;
    let mut positional = positional.into_iter();
    let first = positional.next().unwrap_or(Value::None);
    (first, Arguments { positional: positional.collect(), named })
}

fn again(renderer: &Renderer, arguments: &Arguments) -> Result<Arguments> {
    renderer.budget.steps(1 + arguments.positional.len() + arguments.named.len())?;
    let (positional, named) = (arguments.positional.clone(), arguments.named.clone());
    Ok(Arguments { positional, named })
}

/// Items for which a test holds, or does not: of themselves, or of an attribute.
pub(super) fn select(
    renderer: &mut Renderer,
    value: Value,
    mut arguments: Arguments,
    wanted: bool,
    of_attribute: bool,
) -> Result<Value> {
    if !value.truth() {
        return Value::stream(&renderer.budget, Vec::new());
    }
    let mut attributes = Vec::new();
    if of_attribute {
        if arguments.positional.is_empty() {
            return Err(Fault::new("`selectattr` and `rejectattr` need an attribute"));
        }
        let attribute;
        (attribute, arguments) = without_first(arguments);
        attributes = path(renderer, Some(&attribute))?;
    }
    let test = if arguments.positional.is_empty() {
        None
    } else {
        let name;
        (name, arguments) = without_first(arguments);
        Some(text(&name)?.text.clone())
    };
    let mut kept = Vec::new();
    let source: Source = value.items()?;
    for item in source {
        renderer.budget.bytes(64)?;
        let looked_at = follow(renderer, &item, &attributes, None)?;
        let holds = match &test {
            Some(test) => {
                let arguments = again(renderer, &arguments)?;
                renderer.test(test, &looked_at, arguments)?
            }
            None => looked_at.truth(),
        };
        if holds == wanted {
            kept.push(item);
        }
    }
    Value::stream(&renderer.budget, kept)
}
