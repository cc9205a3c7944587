//! All filters by name.

use std::cmp::Ordering;

use super::arguments::{Arguments, flag};
use super::{Filter, characters, html, json, pretty, sequences, strings, wrapping};
use crate::llm::text::jinja::limits::{Fault, Result};
use crate::llm::text::jinja::render::Renderer;
use crate::llm::text::jinja::value::{Text, Value, View, ViewKind, attribute, display};

pub(super) const FILTERS: &[(&str, Filter)] = &[
    ("abs", |_, value, a| a.none("abs").and_then(|()| strings::abs(&value))),
    ("attr", attr),
    ("batch", sequences::batch),
    ("capitalize", |r, value, a| strings::mapped(r, &value, a, characters::capitalize)),
    ("center", strings::center),
    ("count", length),
    ("d", default),
    ("default", default),
    ("dictsort", sequences::dict_sort),
    ("e", escape),
    ("escape", escape),
    ("filesizeformat", strings::file_size),
    ("first", |_, value, a| a.none("first").and_then(|()| sequences::first(&value))),
    ("float", strings::float),
    ("forceescape", |r, value, a| {
        a.none("forceescape")?;
        let text = Text { safe: false, ..display(&r.budget, &value)? };
        Ok(html::escape(&r.budget, &text)?.into())
    }),
    ("format", strings::format),
    ("groupby", sequences::group_by),
    ("indent", wrapping::indent),
    ("int", strings::int),
    ("items", items),
    ("join", sequences::join),
    ("last", |r, value, a| a.none("last").and_then(|()| sequences::last(r, &value))),
    ("length", length),
    ("list", |r, value, a| {
        a.none("list")?;
        Value::list(&r.budget, value.collect(&r.budget)?)
    }),
    ("lower", |r, value, a| strings::mapped(r, &value, a, str::to_lowercase)),
    ("map", sequences::map),
    ("max", |r, value, a| sequences::extreme(r, value, a, Ordering::Greater)),
    ("min", |r, value, a| sequences::extreme(r, value, a, Ordering::Less)),
    ("pprint", |r, value, a| a.none("pprint").and_then(|()| pretty::pretty(&r.budget, &value))),
    ("random", |r, value, a| a.none("random").and_then(|()| sequences::random(r, &value))),
    ("reject", |r, value, a| sequences::select(r, value, a, false, false)),
    ("rejectattr", |r, value, a| sequences::select(r, value, a, false, true)),
    ("replace", strings::replace),
    ("reverse", |r, value, a| a.none("reverse").and_then(|()| sequences::reverse(r, &value))),
    ("round", strings::round),
    ("safe", |r, value, a| {
        a.none("safe")?;
        Ok(Text { safe: true, ..display(&r.budget, &value)? }.into())
    }),
    ("select", |r, value, a| sequences::select(r, value, a, true, false)),
    ("selectattr", |r, value, a| sequences::select(r, value, a, true, true)),
    ("slice", sequences::slices),
    ("sort", sequences::sort),
    ("string", |r, value, a| {
        a.none("string").and_then(|()| Ok(display(&r.budget, &value)?.into()))
    }),
    ("striptags", |r, value, a| {
        a.none("striptags")?;
        html::strip_tags(&r.budget, &display(&r.budget, &value)?)
    }),
    ("sum", sequences::sum),
    ("title", |r, value, a| strings::mapped(r, &value, a, strings::title)),
    ("tojson", json::to_json),
    ("trim", strings::trim),
    ("truncate", wrapping::truncate),
    ("unique", sequences::unique),
    ("upper", |r, value, a| strings::mapped(r, &value, a, str::to_uppercase)),
    ("urlencode", |r, value, a| a.none("urlencode").and_then(|()| html::url_encode(r, value))),
    ("urlize", html::urlize),
    ("wordcount", |r, value, a| a.none("wordcount").and_then(|()| strings::word_count(r, &value))),
    ("wordwrap", wrapping::word_wrap),
    ("xmlattr", html::xml_attributes),
];

fn attr(_: &mut Renderer, value: Value, arguments: Arguments) -> Result<Value> {
    let [name] = arguments.bind("attr", ["name"], 1)?;
    let name = name.unwrap_or(Value::None);
    let name = super::arguments::text(&name)?;
    // Attributes alone, no entries.
    match &value {
        Value::Dict(_) if super::method(&value, &name.text).is_none() => {
            Ok(Value::undefined(format!("a dictionary has no attribute `{}`", name.text)))
        }
        other => attribute(other, &name.text),
    }
}

fn length(renderer: &mut Renderer, value: Value, arguments: Arguments) -> Result<Value> {
    arguments.none("length")?;
    if let Value::Loop(own) = &value {
        return renderer.attribute(&Value::Loop(own.clone()), "length");
    }
    let length = value.length();
    if let Value::Text(text) = &value {
        renderer.budget.scan(text.text.len())?;
    }
    let length = length.ok_or_else(|| {
        Fault::new(format!("a value of type {} has no length", value.type_name()))
    })?;
    Ok(Value::Int(length as i128))
}

fn default(renderer: &mut Renderer, value: Value, arguments: Arguments) -> Result<Value> {
    let [default, of_false] = arguments.bind("default", ["default_value", "boolean"], 0)?;
    let replaces =
        matches!(value, Value::Undefined(_)) || flag(of_false.as_ref(), false) && !value.truth();
    if !replaces {
        return Ok(value);
    }
    default.map_or_else(|| Value::text(&renderer.budget, ""), Ok)
}

fn escape(renderer: &mut Renderer, value: Value, arguments: Arguments) -> Result<Value> {
    arguments.none("escape")?;
    Ok(html::escape(&renderer.budget, &display(&renderer.budget, &value)?)?.into())
}

fn items(renderer: &mut Renderer, value: Value, arguments: Arguments) -> Result<Value> {
    arguments.none("items")?;
    match value {
        Value::Undefined(_) => Value::stream(&renderer.budget, Vec::new()),
        Value::Dict(dict) => {
            let view = Value::View(View { kind: ViewKind::Items, dict });
            Value::stream(&renderer.budget, view.collect(&renderer.budget)?)
        }
        other => {
            Err(Fault::new(format!("`items` needs a dictionary, not a {}", other.type_name())))
        }
    }
}
