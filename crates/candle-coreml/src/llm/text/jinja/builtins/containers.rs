//! Methods of lists, tuples and dictionaries. Those that would change one are refused, as in Jinja's
//! sandbox.

use super::Method;
use super::arguments::{Arguments, integer};
use crate::llm::text::jinja::limits::{Fault, Result};
use crate::llm::text::jinja::render::Renderer;
use crate::llm::text::jinja::value::{Value, View, ViewKind, equal};

pub(super) const LIST: &[(&str, Method)] = &[
    ("index", Method::Call(index)),
    ("count", Method::Call(count)),
    (
        "copy",
        Method::Call(|renderer, value, arguments| {
            arguments.none("copy")?;
            Value::list(&renderer.budget, value.collect(&renderer.budget)?)
        }),
    ),
    ("append", Method::Refused),
    ("clear", Method::Refused),
    ("pop", Method::Refused),
    ("reverse", Method::Refused),
    ("insert", Method::Refused),
    ("sort", Method::Refused),
    ("extend", Method::Refused),
    ("remove", Method::Refused),
];

pub(super) const SEQUENCE: &[(&str, Method)] =
    &[("index", Method::Call(index)), ("count", Method::Call(count))];

pub(super) const DICT: &[(&str, Method)] = &[
    ("get", Method::Call(get)),
    ("keys", Method::Call(|_, value, arguments| view(value, ViewKind::Keys, arguments))),
    ("values", Method::Call(|_, value, arguments| view(value, ViewKind::Values, arguments))),
    ("items", Method::Call(|_, value, arguments| view(value, ViewKind::Items, arguments))),
    (
        "copy",
        Method::Call(|_, value, arguments| {
            arguments.none("copy")?;
            Ok(value.clone())
        }),
    ),
    (
        "fromkeys",
        Method::Call(|_, _, _| {
            Err(Fault::new("`fromkeys` is a method of `dict`, not of a dictionary"))
        }),
    ),
    ("clear", Method::Refused),
    ("pop", Method::Refused),
    ("popitem", Method::Refused),
    ("setdefault", Method::Refused),
    ("update", Method::Refused),
];

pub(super) const VIEW: &[(&str, Method)] = &[(
    "isdisjoint",
    Method::Call(|renderer, value, arguments| {
        let [other] = arguments.bind("isdisjoint", [""], 1)?;
        let items = value.collect(&renderer.budget)?;
        for item in other.unwrap_or(Value::None).items()? {
            for own in &items {
                if equal(&renderer.budget, own, &item)? {
                    return Ok(Value::Bool(false));
                }
            }
        }
        Ok(Value::Bool(true))
    }),
)];

fn get(renderer: &mut Renderer, value: &Value, arguments: Arguments) -> Result<Value> {
    let [key, default] = arguments.bind("get", ["", ""], 1)?;
    let Value::Dict(dict) = value else { return Ok(Value::None) };
    let found = dict.get(&renderer.budget, &key.unwrap_or(Value::None))?.cloned();
    Ok(found.or(default).unwrap_or(Value::None))
}

fn view(value: &Value, kind: ViewKind, arguments: Arguments) -> Result<Value> {
    arguments.none("keys, values and items")?;
    let Value::Dict(dict) = value else { return Ok(Value::None) };
    Ok(Value::View(View { kind, dict: dict.clone() }))
}

fn index(renderer: &mut Renderer, value: &Value, arguments: Arguments) -> Result<Value> {
    let [wanted, start, stop] = arguments.bind("index", ["", "", ""], 1)?;
    let wanted = wanted.unwrap_or(Value::None);
    let length = value.length().unwrap_or(0) as i128;
    let bound = |bound: Option<Value>, default: i128| -> Result<i128> {
        let bound = bound.as_ref().map_or(Ok(default), integer)?;
        Ok(if bound < 0 { bound.saturating_add(length).max(0) } else { bound })
    };
    let (start, stop) = (bound(start, 0)?, bound(stop, length)?);
    for (place, item) in value.items()?.enumerate() {
        let inside = (start..stop).contains(&(place as i128));
        if inside && equal(&renderer.budget, &item, &wanted)? {
            return Ok(Value::Int(place as i128));
        }
    }
    Err(Fault::new(format!("the value is not in the {}", value.type_name())))
}

fn count(renderer: &mut Renderer, value: &Value, arguments: Arguments) -> Result<Value> {
    let [wanted] = arguments.bind("count", [""], 1)?;
    let wanted = wanted.unwrap_or(Value::None);
    let mut count = 0;
    for item in value.items()? {
        count += i128::from(equal(&renderer.budget, &item, &wanted)?);
    }
    Ok(Value::Int(count))
}
