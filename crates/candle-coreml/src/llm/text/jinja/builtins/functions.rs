//! Functions that every template has.

use std::cell::{Cell, RefCell};
use std::fmt::Write;
use std::rc::Rc;

use super::Function;
use super::arguments::{Arguments, integer};
use crate::llm::text::jinja::limits::{Budget, Fault, Result};
use crate::llm::text::jinja::render::Renderer;
use crate::llm::text::jinja::value::{
    Cycler, Dict, Joiner, Namespace, Range, Sequence, Text, Value, display,
};

pub(super) const FUNCTIONS: &[Function] = &[
    Function { name: "range", call: range },
    Function { name: "dict", call: dict },
    Function { name: "namespace", call: namespace },
    Function { name: "joiner", call: joiner },
    Function { name: "cycler", call: cycler },
    Function { name: "lipsum", call: lipsum },
    Function { name: "raise_exception", call: raise_exception },
    Function { name: "strftime_now", call: strftime_now },
];

/// Numbers of a range, as in Jinja's sandbox.
const MAX_RANGE: usize = 100_000;

fn range(_: &mut Renderer, arguments: Arguments) -> Result<Value> {
    let [first, second, step] = arguments.bind("range", ["", "", ""], 1)?;
    let step = step.as_ref().map_or(Ok(1), integer)?;
    let first = first.as_ref().map_or(Ok(0), integer)?;
    let (start, stop) = match second {
        Some(stop) => (first, integer(&stop)?),
        None => (0, first),
    };
    if step == 0 {
        return Err(Fault::new("the step of a `range` can't be 0"));
    }
    let range = Range { start, stop, step };
    if range.length() > MAX_RANGE {
        return Err(Fault::new(format!("a `range` of more than {MAX_RANGE} numbers")));
    }
    Ok(Value::Range(range))
}

/// Entries of a dictionary, or of a list of pairs, with named ones behind them.
fn entries(budget: &Budget, function: &str, arguments: Arguments) -> Result<Vec<(Value, Value)>> {
    let Arguments { positional, named } = arguments;
    let [from] = Arguments { positional, named: Vec::new() }.bind(function, [""], 0)?;
    let mut entries = Vec::new();
    match from {
        None => {}
        Some(Value::Dict(dict)) => {
            budget.bytes(dict.len().saturating_mul(64))?;
            entries.extend(dict.entries().iter().cloned());
        }
        Some(pairs) => {
            for pair in pairs.collect(budget)? {
                let Ok([key, value]) = <[Value; 2]>::try_from(pair.collect(budget)?) else {
                    return Err(Fault::new(format!("`{function}` needs pairs of keys and values")));
                };
                entries.push((key, value));
            }
        }
    }
    let text = |name| Value::from(Text { text: name, safe: false });
    entries.extend(named.into_iter().map(|(name, value)| (text(name), value)));
    Ok(entries)
}

fn dict(renderer: &mut Renderer, arguments: Arguments) -> Result<Value> {
    let entries = entries(&renderer.budget, "dict", arguments)?;
    Ok(Value::Dict(Dict::new(&renderer.budget, entries)?))
}

fn namespace(renderer: &mut Renderer, arguments: Arguments) -> Result<Value> {
    let namespace = Rc::new(Namespace { entries: RefCell::default() });
    renderer.keep(&namespace)?;
    for (name, value) in entries(&renderer.budget, "namespace", arguments)? {
        let name = name.as_text().ok_or_else(|| Fault::new("`namespace` needs text as names"))?;
        renderer.budget.bytes(64)?;
        namespace.set(name.text.clone(), value)?;
    }
    Ok(Value::Namespace(namespace))
}

fn joiner(renderer: &mut Renderer, arguments: Arguments) -> Result<Value> {
    let [separator] = arguments.bind("joiner", ["sep"], 0)?;
    let separator = separator.map_or_else(|| Value::text(&renderer.budget, ", "), Ok)?;
    let joiner = Value::Joiner(Rc::new(Joiner { separator, used: Cell::new(false) }));
    // A list checks its depth.
    Value::list(&renderer.budget, vec![joiner.clone()])?;
    Ok(joiner)
}

fn cycler(renderer: &mut Renderer, arguments: Arguments) -> Result<Value> {
    let items = arguments.positional("cycler")?;
    if items.is_empty() {
        return Err(Fault::new("`cycler` needs at least one value"));
    }
    let items = Sequence::new(&renderer.budget, items)?;
    Ok(Value::Cycler(Rc::new(Cycler { items, at: Cell::new(0) })))
}

fn lipsum(_: &mut Renderer, _: Arguments) -> Result<Value> {
    Err(Fault::new("`lipsum` is not supported: its text is made up at random"))
}

fn raise_exception(renderer: &mut Renderer, arguments: Arguments) -> Result<Value> {
    let [message] = arguments.bind("raise_exception", ["message"], 1)?;
    let message = display(&renderer.budget, &message.unwrap_or(Value::None))?;
    Err(Fault::new(&*message.text))
}

fn strftime_now(renderer: &mut Renderer, arguments: Arguments) -> Result<Value> {
    let [format] = arguments.bind("strftime_now", ["format"], 1)?;
    let format = format.unwrap_or(Value::None);
    let format = super::arguments::text(&format)?;
    renderer.budget.bytes(format.text.len().saturating_mul(8))?;
    let text = formatted_time(&chrono::Local::now().naive_local(), &format.text)?;
    Value::text(&renderer.budget, text)
}

/// A time as Python's `strftime` writes it: without a time zone, microseconds in six digits.
fn formatted_time(time: &chrono::NaiveDateTime, format: &str) -> Result<String> {
    let mut own = String::with_capacity(format.len());
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        own.push_str(&rest[..at]);
        let directive = rest[at + 1..].chars().next().unwrap_or('%');
        match directive {
            'f' => own.push_str("%6f"),
            'z' | 'Z' => {}
            // Longer than in C, or none there.
            '+' | 'v' | '.' | '3' | '6' | '9' | ':' | '#' => {
                return Err(Fault::new(format!("`{format}` is not a format of times")));
            }
            other => own.extend(['%', other]),
        }
        rest = rest[at + 1..].get(directive.len_utf8()..).unwrap_or("");
    }
    own.push_str(rest);
    let mut text = String::new();
    write!(text, "{}", time.format(&own))
        .map_err(|_| Fault::new(format!("`{format}` is not a format of times")))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_in_python() {
        let date = chrono::NaiveDate::from_ymd_opt(2024, 7, 4).unwrap();
        let time = date.and_hms_micro_opt(9, 5, 3, 42).unwrap();
        // Expected texts are those of datetime(2024, 7, 4, 9, 5, 3, 42).strftime(…).
        for (format, expected) in [
            ("%d %b %Y", "04 Jul 2024"),
            ("%A, %B %-d, %Y", "Thursday, July 4, 2024"),
            ("%Y-%m-%dT%H:%M:%S.%f%z", "2024-07-04T09:05:03.000042"),
            ("%I:%M %p %j %U %y %%", "09:05 AM 186 26 24 %"),
            ("no directive", "no directive"),
            ("%", "%"),
        ] {
            assert_eq!(formatted_time(&time, format).unwrap(), expected);
        }
        assert!(formatted_time(&time, "%!").unwrap_err().message.contains("`%!`"));
    }
}
