//! Items, slices and attributes. An item or attribute that is not there is undefined, and an error
//! only when it is used.

use std::rc::Rc;

use super::{BoundMethod, Range, Sequence, Source, Text, Value, dict};
use crate::llm::text::jinja::builtins::{self, Method};
use crate::llm::text::jinja::limits::{Budget, Buffer, Fault, Result, shown};

/// `value[key]`: an item, else an attribute.
pub(in crate::llm::text::jinja) fn item(
    budget: &Budget,
    value: &Value,
    key: &Value,
) -> Result<Value> {
    value.check_defined()?;
    if let Some(item) = own_item(budget, value, key)? {
        return Ok(item);
    }
    match key {
        Value::Text(name) => match own_attribute(value, &name.text) {
            Some(attribute) => Ok(attribute),
            None => Ok(missing(value, key)),
        },
        _ => Ok(missing(value, key)),
    }
}

/// `value.name`: an attribute, else an item.
pub(in crate::llm::text::jinja) fn attribute(value: &Value, name: &str) -> Result<Value> {
    value.check_defined()?;
    if let Some(attribute) = own_attribute(value, name) {
        return Ok(attribute);
    }
    let item = match value {
        Value::Dict(dict) => dict.get_text(name).cloned(),
        _ => None,
    };
    let key = || Value::from(Text { text: name.into(), safe: false });
    Ok(item.unwrap_or_else(|| missing(value, &key())))
}

fn missing(value: &Value, key: &Value) -> Value {
    let kind = value.type_name();
    Value::undefined(match key {
        Value::Text(name) => {
            format!("a value of type {kind} has no attribute or entry {}", shown(&name.text))
        }
        Value::Int(number) => format!("a value of type {kind} has no item {number}"),
        other => format!("a value of type {kind} has no item of type {}", other.type_name()),
    })
}

fn own_item(budget: &Budget, value: &Value, key: &Value) -> Result<Option<Value>> {
    let index = |length: usize| {
        let index = key.as_int()?;
        let index = if index < 0 { index.checked_add(length as i128)? } else { index };
        usize::try_from(index).ok().filter(|index| *index < length)
    };
    Ok(match value {
        Value::Dict(dict) if dict::is_key(key) => dict.get(budget, key)?.cloned(),
        Value::List(items) | Value::Tuple(items) => {
            index(items.items.len()).map(|index| items.items[index].clone())
        }
        Value::Range(range) => {
            index(range.length()).and_then(|index| range.at(index)).map(Value::Int)
        }
        Value::Text(text) if key.as_int().is_some() => {
            budget.scan(text.text.len())?;
            let character = index(text.length()).and_then(|index| text.text.chars().nth(index));
            character.map(|c| Text { text: c.to_string().into(), safe: text.safe }.into())
        }
        _ => None,
    })
}

/// Attributes that a type has: values, or methods that can be called.
fn own_attribute(value: &Value, name: &str) -> Option<Value> {
    match (value, name) {
        (Value::Int(_) | Value::Bool(_), "real" | "numerator") => value.as_int().map(Value::Int),
        (Value::Int(_) | Value::Bool(_), "imag") => Some(Value::Int(0)),
        (Value::Int(_) | Value::Bool(_), "denominator") => Some(Value::Int(1)),
        (Value::Float(_), "real") => Some(value.clone()),
        (Value::Float(_), "imag") => Some(Value::Float(0.0)),
        (Value::Range(range), "start") => Some(Value::Int(range.start)),
        (Value::Range(range), "stop") => Some(Value::Int(range.stop)),
        (Value::Range(range), "step") => Some(Value::Int(range.step)),
        (Value::Namespace(space), _) => space.get(name),
        (Value::Joiner(joiner), "sep") => Some(joiner.separator.clone()),
        (Value::Joiner(joiner), "used") => Some(Value::Bool(joiner.used.get())),
        (Value::Cycler(cycler), "items") => Some(Value::Tuple(cycler.items.clone())),
        (Value::Cycler(cycler), "pos") => Some(Value::Int(cycler.at.get() as i128)),
        (Value::Cycler(cycler), "current") => cycler.items.items.get(cycler.at.get()).cloned(),
        (Value::Macro(bound), "name") => Some(match &bound.definition.name {
            Some(name) => Text { text: name.clone(), safe: false }.into(),
            None => Value::None,
        }),
        (Value::Macro(bound), "caller") => Some(Value::Bool(bound.definition.uses.caller)),
        (Value::Macro(bound), "catch_kwargs") => Some(Value::Bool(bound.definition.uses.kwargs)),
        (Value::Macro(bound), "catch_varargs") => Some(Value::Bool(bound.definition.uses.varargs)),
        (Value::Tuple(items), _) if items.fields.contains(&name) => {
            let at = items.fields.iter().position(|field| *field == name)?;
            items.items.get(at).cloned()
        }
        _ => match builtins::method(value, name)? {
            Method::Refused => Some(Value::undefined(format!(
                "`{name}` would change a value of type {}, which templates may not",
                value.type_name()
            ))),
            method => Some(Value::Method(Rc::new(BoundMethod { receiver: value.clone(), method }))),
        },
    }
}

/// First, last and step of a slice, as they were written.
pub(in crate::llm::text::jinja) type SliceBounds = [Option<Value>; 3];

/// `value[first:last:step]`
pub(in crate::llm::text::jinja) fn slice(
    budget: &Budget,
    value: &Value,
    bounds: SliceBounds,
) -> Result<Value> {
    value.check_defined()?;
    let sliceable =
        matches!(value, Value::Text(_) | Value::List(_) | Value::Tuple(_) | Value::Range(_));
    let Some(length) = value.length().filter(|_| sliceable) else {
        let kind = value.type_name();
        return Err(Fault::new(format!("a value of type {kind} can't be sliced")));
    };
    let mut numbers = [None; 3];
    for (number, bound) in numbers.iter_mut().zip(&bounds) {
        *number = match bound {
            None | Some(Value::None) => None,
            Some(bound) => Some(bound.as_int().ok_or_else(|| {
                let kind = bound.type_name();
                Fault::new(format!("a slice needs integers, not a value of type {kind}"))
            })?),
        };
    }
    let [first, last, step] = numbers;
    let step = step.unwrap_or(1);
    if step == 0 {
        return Err(Fault::new("a slice's step can't be 0"));
    }
    let places = places(length as i128, first, last, step);
    if let Value::Range(range) = value {
        let number = |place: i128| place.checked_mul(range.step)?.checked_add(range.start);
        let sliced =
            number(places.start).zip(number(places.stop)).zip(range.step.checked_mul(step));
        let ((start, stop), step) = sliced.ok_or_else(super::number::too_large)?;
        return Ok(Value::Range(Range { start, stop, step }));
    }
    match value {
        Value::Text(text) => slice_text(budget, text, places),
        Value::List(items) => Ok(Value::List(slice_items(budget, items, places)?)),
        Value::Tuple(items) => Ok(Value::Tuple(slice_items(budget, items, places)?)),
        other => Ok(other.clone()),
    }
}

/// Which places of so many a slice takes.
fn places(length: i128, first: Option<i128>, last: Option<i128>, step: i128) -> Range {
    let (low, high) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let place = |bound: i128| {
        let bound = if bound < 0 { bound.saturating_add(length) } else { bound };
        bound.clamp(low, high)
    };
    let (begin, end) = if step > 0 { (low, high) } else { (high, low) };
    Range { start: first.map_or(begin, place), stop: last.map_or(end, place), step }
}

fn slice_items(budget: &Budget, items: &Rc<Sequence>, places: Range) -> Result<Rc<Sequence>> {
    if places.start == 0 && places.step == 1 && places.stop == items.items.len() as i128 {
        return Ok(items.clone());
    }
    let sliced = Source::Range(places, 0).filter_map(|place| {
        let place = usize::try_from(place.as_int()?).ok()?;
        items.items.get(place).cloned()
    });
    Sequence::new(budget, sliced.collect())
}

fn slice_text(budget: &Budget, text: &Text, places: Range) -> Result<Value> {
    budget.scan(text.text.len())?;
    let mut buffer = Buffer::new(budget);
    if places.step == 1 {
        let from = usize::try_from(places.start).unwrap_or(0);
        let mut rest = text.text.chars();
        if from > 0 {
            rest.nth(from - 1);
        }
        let rest = rest.as_str();
        let end = rest.char_indices().nth(places.length()).map_or(rest.len(), |(at, _)| at);
        buffer.push(&rest[..end])?;
    } else {
        budget.bytes(text.text.len().saturating_mul(4))?;
        let characters: Vec<char> = text.text.chars().collect();
        let place = |place: Value| usize::try_from(place.as_int()?).ok();
        let taken = Source::Range(places, 0).filter_map(|p| characters.get(place(p)?));
        buffer.push(&taken.collect::<String>())?;
    }
    Ok(Text { text: buffer.finish().into(), safe: text.safe }.into())
}
