//! `pprint`: values as Python's module of that name prints them, 80 columns wide.

use super::sequences::sorted;
use crate::llm::text::jinja::limits::{Budget, Buffer, Fault, Result};
use crate::llm::text::jinja::value::{Dict, Value, order, repr};

const WIDTH: usize = 80;

/// The filter `pprint`.
pub(super) fn pretty(budget: &Budget, value: &Value) -> Result<Value> {
    let value = sorted_keys(budget, value)?;
    let mut buffer = Buffer::new(budget);
    write(&mut buffer, budget, &value, 0, 0)?;
    Value::text(budget, buffer.finish())
}

/// A value whose dictionaries are in the order of their keys.
fn sorted_keys(budget: &Budget, value: &Value) -> Result<Value> {
    budget.steps(1)?;
    let all = |items: &[Value]| {
        items.iter().map(|item| sorted_keys(budget, item)).collect::<Result<Vec<_>>>()
    };
    match value {
        Value::List(items) => Value::list(budget, all(&items.items)?),
        Value::Tuple(items) => Value::tuple(budget, all(&items.items)?),
        Value::Dict(dict) => {
            let keys: Vec<_> = dict.entries().iter().map(|(key, _)| key.clone()).collect();
            let entries = sorted(budget, &keys, false, |a, b| order(budget, a, b))?
                .into_iter()
                .map(|place| {
                    let (key, value) = &dict.entries()[place];
                    Ok((key.clone(), sorted_keys(budget, value)?))
                });
            Ok(Value::Dict(Dict::new(budget, entries.collect::<Result<_>>()?)?))
        }
        other => Ok(other.clone()),
    }
}

/// Writes a value at a column, with so many columns taken behind it.
fn write(
    buffer: &mut Buffer<'_>,
    budget: &Budget,
    value: &Value,
    column: usize,
    behind: usize,
) -> Result<()> {
    let short = repr(budget, value)?;
    if short.chars().count() + column + behind <= WIDTH {
        return buffer.push(&short);
    }
    match value {
        Value::List(items) => list(buffer, budget, ("[", "]"), &items.items, column, behind),
        Value::Tuple(items) => {
            let end = if items.items.len() == 1 { ",)" } else { ")" };
            list(buffer, budget, ("(", end), &items.items, column, behind)
        }
        Value::Dict(dict) => {
            buffer.push("{")?;
            let count = dict.len();
            for (number, (key, value)) in dict.entries().iter().enumerate() {
                if number > 0 {
                    new_line(buffer, column + 1)?;
                }
                let key = repr(budget, key)?;
                buffer.push(&key)?;
                buffer.push(": ")?;
                let last = number + 1 == count;
                let at = column + 1 + key.chars().count() + 2;
                write(buffer, budget, value, at, if last { behind + 1 } else { 1 })?;
                buffer.push(if last { "" } else { "," })?;
            }
            buffer.push("}")
        }
        Value::Text(text) if text.text.contains([' ', '\n']) => {
            Err(Fault::new("`pprint` of text that is longer than a line is not supported"))
        }
        _ => buffer.push(&short),
    }
}

fn list(
    buffer: &mut Buffer<'_>,
    budget: &Budget,
    (begin, end): (&str, &str),
    items: &[Value],
    column: usize,
    behind: usize,
) -> Result<()> {
    buffer.push(begin)?;
    for (number, item) in items.iter().enumerate() {
        if number > 0 {
            new_line(buffer, column + 1)?;
        }
        let last = number + 1 == items.len();
        write(buffer, budget, item, column + 1, if last { behind + end.len() } else { 1 })?;
        buffer.push(if last { "" } else { "," })?;
    }
    buffer.push(end)
}

fn new_line(buffer: &mut Buffer<'_>, column: usize) -> Result<()> {
    buffer.push("\n")?;
    buffer.fill(' ', column)
}
