//! What can be gone through, item by item.

use std::cell::RefCell;
use std::rc::Rc;
use std::vec;

use super::{Sequence, Text, Value, View, ViewKind};
use crate::llm::text::jinja::limits::{Budget, Result};

/// What Python's `range` gives: at most 100,000 numbers, as in Jinja's sandbox.
#[derive(Clone, Copy)]
pub(in crate::llm::text::jinja) struct Range {
    pub(in crate::llm::text::jinja) start: i128,
    pub(in crate::llm::text::jinja) stop: i128,
    /// Never 0.
    pub(in crate::llm::text::jinja) step: i128,
}

impl Range {
    pub(in crate::llm::text::jinja) fn length(&self) -> usize {
        let (distance, step) = if self.step > 0 {
            (self.stop.saturating_sub(self.start), self.step)
        } else {
            (self.start.saturating_sub(self.stop), self.step.saturating_neg())
        };
        if distance <= 0 {
            return 0;
        }
        usize::try_from((distance - 1) / step + 1).unwrap_or(usize::MAX)
    }

    pub(super) fn at(&self, index: usize) -> Option<i128> {
        if index >= self.length() {
            return None;
        }
        self.start.checked_add(self.step.checked_mul(index as i128)?)
    }

    pub(super) fn contains(&self, number: i128) -> bool {
        let (low, high) = if self.step > 0 {
            (self.start, self.stop)
        } else {
            (self.stop.saturating_add(1), self.start.saturating_add(1))
        };
        (low..high).contains(&number) && number.wrapping_sub(self.start) % self.step == 0
    }
}

/// Items that are taken once.
pub(in crate::llm::text::jinja) struct Stream {
    items: RefCell<vec::IntoIter<Value>>,
    pub(super) depth: usize,
}

impl Stream {
    pub(super) fn new(budget: &Budget, items: Vec<Value>) -> Result<Rc<Self>> {
        budget.bytes(items.len().saturating_mul(64) + 64)?;
        let depth = Value::level(items.iter())?;
        Ok(Rc::new(Stream { items: RefCell::new(items.into_iter()), depth }))
    }

    /// The next item.
    pub(in crate::llm::text::jinja) fn next(&self) -> Option<Value> {
        self.items.borrow_mut().next()
    }
}

/// Goes through a value without a copy of it.
pub(in crate::llm::text::jinja) enum Source {
    Empty,
    Sequence(Rc<Sequence>, usize),
    View(View, usize),
    Range(Range, usize),
    Stream(Rc<Stream>),
    /// Text from a byte on.
    Text(Text, usize),
}

impl Source {
    pub(super) fn of(value: &Value) -> Option<Self> {
        Some(match value {
            Value::Undefined(_) => Source::Empty,
            Value::List(items) | Value::Tuple(items) => Source::Sequence(items.clone(), 0),
            Value::Dict(dict) => Source::View(View { kind: ViewKind::Keys, dict: dict.clone() }, 0),
            Value::View(view) => Source::View(view.clone(), 0),
            Value::Range(range) => Source::Range(*range, 0),
            Value::Stream(stream) => Source::Stream(stream.clone()),
            Value::Text(text) => Source::Text(text.clone(), 0),
            _ => return None,
        })
    }

    /// How many items are left.
    pub(in crate::llm::text::jinja) fn left(&self) -> usize {
        match self {
            Source::Text(text, at) => text.text[*at..].chars().count(),
            other => other.size_hint().0,
        }
    }

    /// Levels of values within.
    pub(in crate::llm::text::jinja) fn depth(&self) -> usize {
        match self {
            Source::Sequence(items, _) => items.depth,
            Source::View(view, _) => view.dict.depth() + 1,
            Source::Stream(stream) => stream.depth,
            Source::Empty | Source::Range(..) | Source::Text(..) => 0,
        }
    }
}

impl Iterator for Source {
    type Item = Value;

    fn next(&mut self) -> Option<Value> {
        let (item, at) = match self {
            Source::Empty => return None,
            Source::Stream(stream) => return stream.next(),
            Source::Text(text, at) => {
                let character = text.text[*at..].chars().next()?;
                *at += character.len_utf8();
                let text = Text { text: character.to_string().into(), safe: text.safe };
                return Some(Value::Text(text));
            }
            Source::Sequence(items, at) => (items.items.get(*at).cloned(), at),
            Source::View(view, at) => (view.at(*at), at),
            Source::Range(range, at) => (range.at(*at).map(Value::Int), at),
        };
        *at += 1;
        item
    }

    /// How many items are left; for text, its bytes.
    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match self {
            Source::Empty => 0,
            Source::Stream(stream) => stream.items.borrow().len(),
            Source::Text(text, at) => text.text.len() - at,
            Source::Sequence(items, at) => items.items.len().saturating_sub(*at),
            Source::View(view, at) => view.dict.len().saturating_sub(*at),
            Source::Range(range, at) => range.length().saturating_sub(*at),
        };
        (left, Some(left))
    }
}
