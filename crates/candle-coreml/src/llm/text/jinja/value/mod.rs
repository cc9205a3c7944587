//! Values of a template, which are Python's: lists, tuples and dictionaries never change once they are
//! made (the sandbox of `apply_chat_template` forbids it), so that their depth is known and bounded.

mod dict;
pub(super) mod number;
mod operators;
mod order;
mod repr;
mod sequence;
mod subscript;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use serde_json::Value as Json;

use super::ast::{Constant, Macro};
use super::builtins::{Function, Method};
use super::limits::{Budget, Fault, MAX_DEPTH, Result};
use super::render::{Loop, Scope};

pub(super) use dict::{Dict, View, ViewKind, distinct, is_key};
pub(super) use operators::{binary, concat, signed};
pub(super) use order::{contains, equal, order, order_parts, same};
pub(super) use repr::{display, float_text, is_printable, repr};
pub(super) use sequence::{Range, Source, Stream};
pub(super) use subscript::{SliceBounds, attribute, item, slice};

#[derive(Clone)]
pub(super) enum Value {
    /// What is not there, with the reason.
    Undefined(Rc<str>),
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(Text),
    List(Rc<Sequence>),
    Tuple(Rc<Sequence>),
    Dict(Rc<Dict>),
    /// Keys, values or entries of a dictionary.
    View(View),
    Range(Range),
    /// What a filter such as `map` gives: items that are taken once.
    Stream(Rc<Stream>),
    Namespace(Rc<Namespace>),
    Joiner(Rc<Joiner>),
    Cycler(Rc<Cycler>),
    Loop(Rc<Loop>),
    Macro(Rc<BoundMacro>),
    Method(Rc<BoundMethod>),
    Function(&'static Function),
}

/// Text; `safe` text is HTML already, and is not escaped again.
#[derive(Clone)]
pub(super) struct Text {
    pub(super) text: Arc<str>,
    pub(super) safe: bool,
}

/// Items of a list or tuple.
pub(super) struct Sequence {
    pub(super) items: Vec<Value>,
    /// Names of a named tuple's items.
    pub(super) fields: &'static [&'static str],
    depth: usize,
}

/// The one thing whose attributes a template can set.
pub(super) struct Namespace {
    /// Names and values: few, so that they are looked through.
    pub(super) entries: RefCell<Vec<(Value, Value)>>,
}

/// Attributes that a namespace may have.
const MAX_ATTRIBUTES: usize = 1000;

pub(super) struct Joiner {
    pub(super) separator: Value,
    pub(super) used: Cell<bool>,
}

pub(super) struct Cycler {
    pub(super) items: Rc<Sequence>,
    pub(super) at: Cell<usize>,
}

/// A macro with the variables that it can see.
pub(super) struct BoundMacro {
    pub(super) definition: Arc<Macro>,
    pub(super) scope: Rc<Scope>,
}

pub(super) struct BoundMethod {
    pub(super) receiver: Value,
    pub(super) method: &'static Method,
}

impl Value {
    pub(super) fn undefined(reason: impl AsRef<str>) -> Self {
        Value::Undefined(reason.as_ref().into())
    }

    /// Text within the budget.
    pub(super) fn text(budget: &Budget, text: impl Into<Arc<str>>) -> Result<Self> {
        let text = text.into();
        budget.bytes(text.len() + 64)?;
        Ok(Value::from(Text { text, safe: false }))
    }

    pub(super) fn list(budget: &Budget, items: Vec<Value>) -> Result<Self> {
        Ok(Value::List(Sequence::new(budget, items)?))
    }

    pub(super) fn tuple(budget: &Budget, items: Vec<Value>) -> Result<Self> {
        Ok(Value::Tuple(Sequence::new(budget, items)?))
    }

    /// Items that are taken once.
    pub(super) fn stream(budget: &Budget, items: Vec<Value>) -> Result<Self> {
        Ok(Value::Stream(Stream::new(budget, items)?))
    }

    /// Levels of values within this one.
    pub(super) fn depth(&self) -> usize {
        match self {
            Value::List(items) | Value::Tuple(items) => items.depth,
            Value::Dict(dict) => dict.depth(),
            Value::View(view) => view.dict.depth() + 1,
            Value::Stream(stream) => stream.depth,
            Value::Cycler(cycler) => cycler.items.depth + 1,
            Value::Joiner(joiner) => joiner.separator.depth() + 1,
            Value::Loop(own) => own.depth(),
            Value::Method(bound) => bound.receiver.depth() + 1,
            _ => 0,
        }
    }

    /// The level of a container with these values; an error if it is too deep.
    fn level<'v>(values: impl Iterator<Item = &'v Value>) -> Result<usize> {
        let depth = values.map(Value::depth).max().unwrap_or(0) + 1;
        if depth <= MAX_DEPTH {
            return Ok(depth);
        }
        Err(Fault::new(format!("values are nested too deep: more than {MAX_DEPTH} levels")))
    }

    /// Whether a condition holds.
    pub(super) fn truth(&self) -> bool {
        match self {
            Value::Undefined(_) | Value::None => false,
            Value::Bool(value) => *value,
            Value::Int(value) => *value != 0,
            Value::Float(value) => *value != 0.0,
            _ => self.length().is_none_or(|length| length > 0),
        }
    }

    /// What Python's `len` gives, but for text, whose characters are counted.
    pub(super) fn length(&self) -> Option<usize> {
        Some(match self {
            Value::Undefined(_) => 0,
            Value::Text(text) => text.length(),
            Value::List(items) | Value::Tuple(items) => items.items.len(),
            Value::Dict(dict) => dict.len(),
            Value::View(view) => view.dict.len(),
            Value::Range(range) => range.length(),
            _ => return None,
        })
    }

    /// Python's name of the type.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Value::Undefined(_) => "Undefined",
            Value::None => "NoneType",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float",
            Value::Text(text) if text.safe => "Markup",
            Value::Text(_) => "str",
            Value::List(_) => "list",
            Value::Tuple(_) => "tuple",
            Value::Dict(_) => "dict",
            Value::View(view) => view.kind.name(),
            Value::Range(_) => "range",
            Value::Stream(_) => "generator",
            Value::Namespace(_) => "Namespace",
            Value::Joiner(_) => "Joiner",
            Value::Cycler(_) => "Cycler",
            Value::Loop(_) => "LoopContext",
            Value::Macro(_) => "Macro",
            Value::Method(_) | Value::Function(_) => "builtin_function_or_method",
        }
    }

    /// The reason why it is undefined, as an error.
    pub(super) fn check_defined(&self) -> Result<()> {
        match self {
            Value::Undefined(reason) => Err(Fault::new(&**reason)),
            _ => Ok(()),
        }
    }

    /// A number that `True` and `False` are, too.
    pub(super) fn as_int(&self) -> Option<i128> {
        match self {
            Value::Bool(value) => Some(i128::from(*value)),
            Value::Int(value) => Some(*value),
            _ => None,
        }
    }

    pub(super) fn as_float(&self) -> Option<f64> {
        match self {
            Value::Float(value) => Some(*value),
            _ => self.as_int().map(|value| value as f64),
        }
    }

    pub(super) fn as_text(&self) -> Option<&Text> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What a loop goes through.
    pub(super) fn items(&self) -> Result<Source> {
        Source::of(self).ok_or_else(|| {
            Fault::new(format!("a value of type {} has no items to go through", self.type_name()))
        })
    }

    /// All that a loop would go through.
    pub(super) fn collect(&self, budget: &Budget) -> Result<Vec<Value>> {
        let source = self.items()?;
        budget.steps(source.size_hint().0)?;
        budget.bytes(source.size_hint().0.saturating_mul(64))?;
        Ok(source.collect())
    }

    /// A value of JSON, with the level that it lies on.
    pub(super) fn from_json(budget: &Budget, json: &Json, level: usize) -> Result<Self> {
        if level > MAX_DEPTH {
            return Err(Fault::new(format!(
                "the messages or variables are nested too deep: more than {MAX_DEPTH} levels"
            )));
        }
        Ok(match json {
            Json::Null => Value::None,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(value), _) => Value::Int(value.into()),
                (_, Some(value)) => Value::Int(value.into()),
                _ => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Value::text(budget, text.as_str())?,
            Json::Array(items) => {
                let items = items.iter().map(|item| Value::from_json(budget, item, level + 1));
                Value::list(budget, items.collect::<Result<_>>()?)?
            }
            Json::Object(entries) => {
                let entry = |(key, value): (&String, &Json)| {
                    Ok((
                        Value::text(budget, key.as_str())?,
                        Value::from_json(budget, value, level + 1)?,
                    ))
                };
                Value::Dict(Dict::new(budget, entries.iter().map(entry).collect::<Result<_>>()?)?)
            }
        })
    }
}

impl From<&Constant> for Value {
    fn from(constant: &Constant) -> Self {
        match constant {
            Constant::None => Value::None,
            Constant::Bool(value) => Value::Bool(*value),
            Constant::Int(value) => Value::Int(*value),
            Constant::Float(value) => Value::Float(*value),
            Constant::Text(text) => Value::from(Text { text: text.clone(), safe: false }),
        }
    }
}

impl From<Text> for Value {
    fn from(text: Text) -> Self {
        Value::Text(text)
    }
}

impl Namespace {
    pub(super) fn get(&self, name: &str) -> Option<Value> {
        let entries = self.entries.borrow();
        let found = entries.iter().find(|(key, _)| key.as_text().is_some_and(|k| *k.text == *name));
        found.map(|(_, value)| value.clone())
    }

    /// Sets an attribute, whose name may not begin with `_`, as in `apply_chat_template`.
    pub(super) fn set(&self, name: Arc<str>, value: Value) -> Result<()> {
        if name.starts_with('_') {
            return Err(Fault::new(format!("a namespace can't have the attribute `{name}`")));
        }
        let mut entries = self.entries.borrow_mut();
        let named = |(key, _): &&mut (Value, Value)| key.as_text().is_some_and(|k| k.text == name);
        if let Some((_, place)) = entries.iter_mut().find(named) {
            let before = std::mem::replace(place, value);
            drop(entries);
            drop(before);
            return Ok(());
        }
        if entries.len() == MAX_ATTRIBUTES {
            return Err(Fault::new(format!(
                "a namespace has more than {MAX_ATTRIBUTES} attributes"
            )));
        }
        entries.push((Text { text: name, safe: false }.into(), value));
        Ok(())
    }
}

impl Text {
    /// Characters.
    pub(super) fn length(&self) -> usize {
        self.text.chars().count()
    }
}

impl Sequence {
    pub(super) fn new(budget: &Budget, items: Vec<Value>) -> Result<Rc<Self>> {
        Self::named(budget, items, &[])
    }

    /// A tuple whose items have names.
    pub(super) fn named(
        budget: &Budget,
        items: Vec<Value>,
        fields: &'static [&'static str],
    ) -> Result<Rc<Self>> {
        budget.bytes(items.len().saturating_mul(64) + 64)?;
        let depth = Value::level(items.iter())?;
        Ok(Rc::new(Sequence { items, fields, depth }))
    }
}
