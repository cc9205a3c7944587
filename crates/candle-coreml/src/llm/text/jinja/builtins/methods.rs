//! Which methods values have, by type.

use super::Method;
use super::{containers, texts};
use crate::llm::text::jinja::limits::Fault;
use crate::llm::text::jinja::value::{Dict, Value};

/// A method of a value.
pub(in crate::llm::text::jinja) fn method(value: &Value, name: &str) -> Option<&'static Method> {
    let methods: &[(&str, Method)] = match value {
        Value::Text(_) => texts::METHODS,
        Value::List(_) => containers::LIST,
        Value::Tuple(_) | Value::Range(_) => containers::SEQUENCE,
        Value::Dict(_) => containers::DICT,
        Value::View(_) => containers::VIEW,
        Value::Int(_) | Value::Bool(_) => INT,
        Value::Float(_) => FLOAT,
        Value::Cycler(_) => CYCLER,
        Value::Loop(_) => LOOP,
        Value::Function(function) if function.name == "dict" => DICT_TYPE,
        _ => return None,
    };
    methods.iter().find(|(known, _)| *known == name).map(|(_, method)| method)
}

const INT: &[(&str, Method)] = &[
    (
        "bit_length",
        Method::Call(|_, value, arguments| {
            arguments.none("bit_length")?;
            let number = value.as_int().unwrap_or(0).unsigned_abs();
            Ok(Value::Int((u128::BITS - number.leading_zeros()).into()))
        }),
    ),
    (
        "bit_count",
        Method::Call(|_, value, arguments| {
            arguments.none("bit_count")?;
            Ok(Value::Int(value.as_int().unwrap_or(0).unsigned_abs().count_ones().into()))
        }),
    ),
    (
        "conjugate",
        Method::Call(|_, value, arguments| {
            arguments.none("conjugate")?;
            Ok(Value::Int(value.as_int().unwrap_or(0)))
        }),
    ),
    (
        "as_integer_ratio",
        Method::Call(|renderer, value, arguments| {
            arguments.none("as_integer_ratio")?;
            let number = Value::Int(value.as_int().unwrap_or(0));
            Value::tuple(&renderer.budget, vec![number, Value::Int(1)])
        }),
    ),
];

const FLOAT: &[(&str, Method)] = &[
    (
        "is_integer",
        Method::Call(|_, value, arguments| {
            arguments.none("is_integer")?;
            Ok(Value::Bool(value.as_float().is_some_and(|number| number.trunc() == number)))
        }),
    ),
    (
        "conjugate",
        Method::Call(|_, value, arguments| {
            arguments.none("conjugate")?;
            Ok(value.clone())
        }),
    ),
    ("hex", Method::Call(|_, _, _| Err(Fault::new("`hex` of numbers is not supported")))),
    (
        "as_integer_ratio",
        Method::Call(|_, _, _| {
            Err(Fault::new("`as_integer_ratio` of floating-point numbers is not supported"))
        }),
    ),
];

const CYCLER: &[(&str, Method)] = &[
    (
        "next",
        Method::Call(|_, value, arguments| {
            arguments.none("next")?;
            let Value::Cycler(cycler) = value else { return Ok(Value::None) };
            let at = cycler.at.get();
            cycler.at.set((at + 1) % cycler.items.items.len());
            Ok(cycler.items.items[at].clone())
        }),
    ),
    (
        "reset",
        Method::Call(|_, value, arguments| {
            arguments.none("reset")?;
            if let Value::Cycler(cycler) = value {
                cycler.at.set(0);
            }
            Ok(Value::None)
        }),
    ),
];

const LOOP: &[(&str, Method)] = &[
    (
        "cycle",
        Method::Call(|_, value, arguments| match value {
            Value::Loop(own) => own.cycle(arguments),
            _ => Ok(Value::None),
        }),
    ),
    (
        "changed",
        Method::Call(|renderer, value, arguments| match value {
            Value::Loop(own) => own.changed(renderer, arguments).map(Value::Bool),
            _ => Ok(Value::None),
        }),
    ),
];

/// Methods of `dict` itself.
const DICT_TYPE: &[(&str, Method)] = &[(
    "fromkeys",
    Method::Call(|renderer, _, arguments| {
        let [keys, value] = arguments.bind("fromkeys", ["", ""], 1)?;
        let value = value.unwrap_or(Value::None);
        let keys = keys.unwrap_or(Value::None).collect(&renderer.budget)?;
        let entries = keys.into_iter().map(|key| (key, value.clone())).collect();
        Ok(Value::Dict(Dict::new(&renderer.budget, entries)?))
    }),
)];
