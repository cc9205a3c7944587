//! Tests: what may stand behind `is`.

use super::Test;
use super::arguments::Arguments;
use super::characters;
use crate::llm::text::jinja::ast::{Binary, Comparison};
use crate::llm::text::jinja::limits::{Fault, Result};
use crate::llm::text::jinja::render::Renderer;
use crate::llm::text::jinja::value::{Value, binary, contains, display, equal, is_key, same};

pub(super) const TESTS: &[(&str, Test)] = &[
    ("defined", |_, value, arguments| simple(arguments, !is_undefined(value))),
    ("undefined", |_, value, arguments| simple(arguments, is_undefined(value))),
    ("none", |_, value, arguments| simple(arguments, matches!(value, Value::None))),
    ("boolean", |_, value, arguments| simple(arguments, matches!(value, Value::Bool(_)))),
    ("true", |_, value, arguments| simple(arguments, matches!(value, Value::Bool(true)))),
    ("false", |_, value, arguments| simple(arguments, matches!(value, Value::Bool(false)))),
    ("integer", |_, value, arguments| simple(arguments, matches!(value, Value::Int(_)))),
    ("float", |_, value, arguments| simple(arguments, matches!(value, Value::Float(_)))),
    ("number", |_, value, arguments| simple(arguments, value.as_float().is_some())),
    ("string", |_, value, arguments| simple(arguments, value.as_text().is_some())),
    ("mapping", |_, value, arguments| simple(arguments, matches!(value, Value::Dict(_)))),
    ("sequence", |_, value, arguments| simple(arguments, is_sequence(value))),
    ("iterable", |_, value, arguments| simple(arguments, is_iterable(value))),
    ("callable", |_, value, arguments| simple(arguments, is_callable(value))),
    ("escaped", |_, value, arguments| simple(arguments, value.as_text().is_some_and(|t| t.safe))),
    ("odd", |renderer, value, arguments| {
        arguments.none("odd")?;
        remainder_is(renderer, value, &Value::Int(2), 1)
    }),
    ("even", |renderer, value, arguments| {
        arguments.none("even")?;
        remainder_is(renderer, value, &Value::Int(2), 0)
    }),
    ("divisibleby", |renderer, value, arguments| {
        let [number] = arguments.bind("divisibleby", ["num"], 1)?;
        remainder_is(renderer, value, &number.unwrap_or(Value::None), 0)
    }),
    ("lower", |renderer, value, arguments| {
        arguments.none("lower")?;
        Ok(characters::is_lower(&display(&renderer.budget, value)?.text))
    }),
    ("upper", |renderer, value, arguments| {
        arguments.none("upper")?;
        Ok(characters::is_upper(&display(&renderer.budget, value)?.text))
    }),
    ("filter", |_, value, arguments| {
        arguments.none("filter")?;
        check_name(value)?;
        Ok(value.as_text().is_some_and(|name| super::filter(&name.text).is_some()))
    }),
    ("test", |_, value, arguments| {
        arguments.none("test")?;
        check_name(value)?;
        Ok(value.as_text().is_some_and(|name| super::test(&name.text).is_some()))
    }),
    ("sameas", |_, value, arguments| {
        let [other] = arguments.bind("sameas", ["other"], 1)?;
        Ok(other.is_some_and(|other| same(value, &other)))
    }),
    ("in", |renderer, value, arguments| {
        let [container] = arguments.bind("in", ["seq"], 1)?;
        contains(&renderer.budget, &container.unwrap_or(Value::None), value)
    }),
    ("==", |r, value, arguments| compared(r, Comparison::Equal, value, arguments)),
    ("eq", |r, value, arguments| compared(r, Comparison::Equal, value, arguments)),
    ("equalto", |r, value, arguments| compared(r, Comparison::Equal, value, arguments)),
    ("!=", |r, value, arguments| compared(r, Comparison::NotEqual, value, arguments)),
    ("ne", |r, value, arguments| compared(r, Comparison::NotEqual, value, arguments)),
    (">", |r, value, arguments| compared(r, Comparison::Greater, value, arguments)),
    ("gt", |r, value, arguments| compared(r, Comparison::Greater, value, arguments)),
    ("greaterthan", |r, value, arguments| compared(r, Comparison::Greater, value, arguments)),
    (">=", |r, value, arguments| compared(r, Comparison::GreaterOrEqual, value, arguments)),
    ("ge", |r, value, arguments| compared(r, Comparison::GreaterOrEqual, value, arguments)),
    ("<", |r, value, arguments| compared(r, Comparison::Less, value, arguments)),
    ("lt", |r, value, arguments| compared(r, Comparison::Less, value, arguments)),
    ("lessthan", |r, value, arguments| compared(r, Comparison::Less, value, arguments)),
    ("<=", |r, value, arguments| compared(r, Comparison::LessOrEqual, value, arguments)),
    ("le", |r, value, arguments| compared(r, Comparison::LessOrEqual, value, arguments)),
];

fn simple(arguments: Arguments, holds: bool) -> Result<bool> {
    arguments.none("is").map(|()| holds)
}

/// Names are looked up, so that they have to be values that can be keys.
fn check_name(value: &Value) -> Result<()> {
    if is_key(value) {
        return Ok(());
    }
    Err(Fault::new(format!("a value of type {} is no name", value.type_name())))
}

fn is_undefined(value: &Value) -> bool {
    matches!(value, Value::Undefined(_))
}

fn is_sequence(value: &Value) -> bool {
    // Python's undefined has a length and refuses items only when it is asked for one.
    value.length().is_some() && !matches!(value, Value::View(_))
}

fn is_iterable(value: &Value) -> bool {
    value.items().is_ok() || matches!(value, Value::Loop(_))
}

fn is_callable(value: &Value) -> bool {
    matches!(
        value,
        Value::Function(_)
            | Value::Method(_)
            | Value::Macro(_)
            | Value::Joiner(_)
            | Value::Loop(_)
            | Value::Undefined(_)
    )
}

fn compared(
    renderer: &mut Renderer,
    comparison: Comparison,
    value: &Value,
    arguments: Arguments,
) -> Result<bool> {
    let [other] = arguments.bind("is", [""], 1)?;
    renderer.holds(comparison, value, &other.unwrap_or(Value::None))
}

fn remainder_is(
    renderer: &mut Renderer,
    value: &Value,
    divisor: &Value,
    wanted: i128,
) -> Result<bool> {
    let rest = binary(&renderer.budget, Binary::Modulo, value, divisor)?;
    equal(&renderer.budget, &rest, &Value::Int(wanted))
}
