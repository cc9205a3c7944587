//! Dictionaries, whose keys are equal where Python's are: `1`, `1.0` and `true` are one key.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::{Value, number};
use crate::llm::text::jinja::limits::{Budget, Fault, Result};

/// A dictionary, in the order in which its keys came.
pub(in crate::llm::text::jinja) struct Dict {
    entries: Vec<(Value, Value)>,
    places: HashMap<Key, usize>,
    depth: usize,
}

/// What is the same for equal keys.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Key {
    None,
    Undefined,
    Int(i128),
    /// The bits of a number that is no integer.
    Float(u64),
    Text(Arc<str>),
    Tuple(Vec<Key>),
}

/// Keys, values or entries of a dictionary, as `keys()` and the others give them.
#[derive(Clone)]
pub(in crate::llm::text::jinja) struct View {
    pub(in crate::llm::text::jinja) kind: ViewKind,
    pub(in crate::llm::text::jinja) dict: Rc<Dict>,
}

#[derive(Clone, Copy, PartialEq)]
pub(in crate::llm::text::jinja) enum ViewKind {
    Keys,
    Values,
    Items,
}

impl ViewKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            ViewKind::Keys => "dict_keys",
            ViewKind::Values => "dict_values",
            ViewKind::Items => "dict_items",
        }
    }
}

impl View {
    /// One of its items.
    pub(super) fn at(&self, index: usize) -> Option<Value> {
        let (key, value) = self.dict.entries.get(index)?;
        Some(match self.kind {
            ViewKind::Keys => key.clone(),
            ViewKind::Values => value.clone(),
            ViewKind::Items => pair(key.clone(), value.clone()),
        })
    }
}

/// A tuple of a key and its value: never deeper than the dictionary.
fn pair(key: Value, value: Value) -> Value {
    let depth = key.depth().max(value.depth()) + 1;
    Value::Tuple(Rc::new(super::Sequence { items: vec![key, value], fields: &[], depth }))
}

impl Dict {
    /// A dictionary of entries, of which the last one counts where keys are equal.
    pub(in crate::llm::text::jinja) fn new(
        budget: &Budget,
        pairs: Vec<(Value, Value)>,
    ) -> Result<Rc<Self>> {
        budget.bytes(pairs.len().saturating_mul(200) + 100)?;
        let mut entries: Vec<(Value, Value)> = Vec::with_capacity(pairs.len());
        let mut places = HashMap::with_capacity(pairs.len());
        for (key, value) in pairs {
            let place = *places.entry(Key::of(budget, &key)?).or_insert(entries.len());
            match entries.get_mut(place) {
                Some(entry) => entry.1 = value,
                None => entries.push((key, value)),
            }
        }
        let depth = Value::level(entries.iter().flat_map(|(key, value)| [key, value]))?;
        Ok(Rc::new(Dict { entries, places, depth }))
    }

    /// One of its values. Keys that can't be hashed are errors.
    pub(in crate::llm::text::jinja) fn get(
        &self,
        budget: &Budget,
        key: &Value,
    ) -> Result<Option<&Value>> {
        Ok(self.places.get(&Key::of(budget, key)?).map(|place| &self.entries[*place].1))
    }

    /// The value of a key that is text.
    pub(in crate::llm::text::jinja) fn get_text(&self, key: &str) -> Option<&Value> {
        self.places.get(&Key::Text(key.into())).map(|place| &self.entries[*place].1)
    }

    pub(in crate::llm::text::jinja) fn entries(&self) -> &[(Value, Value)] {
        &self.entries
    }

    pub(in crate::llm::text::jinja) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn depth(&self) -> usize {
        self.depth
    }
}

/// Whether two values are one key.
pub(in crate::llm::text::jinja) fn distinct(
    budget: &Budget,
    values: &[Value],
) -> Result<Vec<bool>> {
    let mut seen = std::collections::HashSet::new();
    values.iter().map(|value| Ok(seen.insert(Key::of(budget, value)?))).collect()
}

impl Key {
    fn of(budget: &Budget, value: &Value) -> Result<Self> {
        budget.steps(1)?;
        Ok(match value {
            Value::None => Key::None,
            Value::Undefined(_) => Key::Undefined,
            Value::Bool(value) => Key::Int((*value).into()),
            Value::Int(value) => Key::Int(*value),
            Value::Float(value) => match number::as_integer(*value) {
                Some(integer) => Key::Int(integer),
                None => Key::Float(value.to_bits()),
            },
            Value::Text(text) => Key::Text(text.text.clone()),
            Value::Tuple(items) => {
                budget.bytes(items.items.len().saturating_mul(size_of::<Key>()))?;
                let items = items.items.iter().map(|item| Key::of(budget, item));
                Key::Tuple(items.collect::<Result<_>>()?)
            }
            other => {
                let name = other.type_name();
                return Err(Fault::new(format!("a value of type {name} can't be a key")));
            }
        })
    }

    /// Whether a value can be a key.
    pub(super) fn can_be(value: &Value) -> bool {
        match value {
            Value::Tuple(items) => items.items.iter().all(Key::can_be),
            Value::List(_) | Value::Dict(_) | Value::View(_) => false,
            _ => true,
        }
    }
}

/// Whether a value can be looked up in a dictionary.
pub(in crate::llm::text::jinja) fn is_key(value: &Value) -> bool {
    Key::can_be(value)
}
