//! Which values are equal, which one is less, and what lies in what.

use std::cmp::Ordering;
use std::rc::Rc;

use super::{Sequence, Value, number};
use crate::llm::text::jinja::limits::{Budget, Fault, Result};

/// `==`
pub(in crate::llm::text::jinja) fn equal(budget: &Budget, a: &Value, b: &Value) -> Result<bool> {
    budget.steps(1)?;
    Ok(match (a, b) {
        (Value::Undefined(_), Value::Undefined(_)) | (Value::None, Value::None) => true,
        (Value::Text(a), Value::Text(b)) => {
            budget.scan(a.text.len().min(b.text.len()))?;
            a.text == b.text
        }
        (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => {
            equal_items(budget, a, b)?
        }
        (Value::Dict(a), Value::Dict(b)) => {
            if Rc::ptr_eq(a, b) {
                return Ok(true);
            }
            if a.len() != b.len() {
                return Ok(false);
            }
            for (key, value) in a.entries() {
                match b.get(budget, key)? {
                    Some(other) if equal(budget, value, other)? => {}
                    _ => return Ok(false),
                }
            }
            true
        }
        (Value::View(a), Value::View(b)) => {
            a.kind == b.kind
                && a.kind != super::ViewKind::Values
                && a.dict.len() == b.dict.len()
                && {
                    let items = Value::View(b.clone()).collect(budget)?;
                    for item in Value::View(a.clone()).items()? {
                        if !among(budget, &item, items.iter().cloned())? {
                            return Ok(false);
                        }
                    }
                    true
                }
        }
        (Value::Range(a), Value::Range(b)) => {
            let length = a.length();
            length == b.length()
                && (length == 0 || a.start == b.start && (length == 1 || a.step == b.step))
        }
        (Value::Namespace(a), Value::Namespace(b)) => Rc::ptr_eq(a, b),
        (Value::Joiner(a), Value::Joiner(b)) => Rc::ptr_eq(a, b),
        (Value::Cycler(a), Value::Cycler(b)) => Rc::ptr_eq(a, b),
        (Value::Stream(a), Value::Stream(b)) => Rc::ptr_eq(a, b),
        (Value::Loop(a), Value::Loop(b)) => Rc::ptr_eq(a, b),
        (Value::Macro(a), Value::Macro(b)) => Rc::ptr_eq(a, b),
        (Value::Function(a), Value::Function(b)) => std::ptr::eq(*a, *b),
        (Value::Method(a), Value::Method(b)) => {
            std::ptr::eq(a.method, b.method) && same(&a.receiver, &b.receiver)
        }
        _ => order_numbers(a, b) == Some(Some(Ordering::Equal)),
    })
}

fn equal_items(budget: &Budget, a: &Rc<Sequence>, b: &Rc<Sequence>) -> Result<bool> {
    if Rc::ptr_eq(a, b) {
        return Ok(true);
    }
    if a.items.len() != b.items.len() {
        return Ok(false);
    }
    for (a, b) in a.items.iter().zip(&b.items) {
        if !equal(budget, a, b)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Python's `is`, as far as values here have an identity.
pub(in crate::llm::text::jinja) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(a), Value::Int(b)) => a == b,
        (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits(),
        (Value::Text(a), Value::Text(b)) => a.safe == b.safe && a.text == b.text,
        (Value::None, Value::None) => true,
        (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => Rc::ptr_eq(a, b),
        (Value::Dict(a), Value::Dict(b)) => Rc::ptr_eq(a, b),
        (Value::Namespace(a), Value::Namespace(b)) => Rc::ptr_eq(a, b),
        (Value::Macro(a), Value::Macro(b)) => Rc::ptr_eq(a, b),
        (Value::Function(a), Value::Function(b)) => std::ptr::eq(*a, *b),
        _ => false,
    }
}

/// The order of two numbers: `None` if one is no number, and none where one is `nan`.
fn order_numbers(a: &Value, b: &Value) -> Option<Option<Ordering>> {
    Some(match (a, b) {
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
        (Value::Float(a), b) => number::order_mixed(b.as_int()?, *a).map(Ordering::reverse),
        (a, Value::Float(b)) => number::order_mixed(a.as_int()?, *b),
        (a, b) => Some(a.as_int()?.cmp(&b.as_int()?)),
    })
}

/// The order of two values: an error if Python knows none, and `None` where one is `nan`.
pub(in crate::llm::text::jinja) fn order(
    budget: &Budget,
    a: &Value,
    b: &Value,
) -> Result<Option<Ordering>> {
    budget.steps(1)?;
    match (a, b) {
        (Value::Text(a), Value::Text(b)) => {
            budget.scan(a.text.len().min(b.text.len()))?;
            Ok(Some(a.text.cmp(&b.text)))
        }
        (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => {
            for (a, b) in a.items.iter().zip(&b.items) {
                if !equal(budget, a, b)? {
                    return order(budget, a, b);
                }
            }
            Ok(Some(a.items.len().cmp(&b.items.len())))
        }
        _ => {
            a.check_defined()?;
            b.check_defined()?;
            order_numbers(a, b).ok_or_else(|| {
                let (a, b) = (a.type_name(), b.type_name());
                Fault::new(format!("values of the types {a} and {b} have no order"))
            })
        }
    }
}

/// The order of keys of several parts, of which the first ones that differ decide.
pub(in crate::llm::text::jinja) fn order_parts(
    budget: &Budget,
    a: &[Value],
    b: &[Value],
) -> Result<Option<Ordering>> {
    for (a, b) in a.iter().zip(b) {
        if !equal(budget, a, b)? {
            return order(budget, a, b);
        }
    }
    Ok(Some(Ordering::Equal))
}

/// `item in container`
pub(in crate::llm::text::jinja) fn contains(
    budget: &Budget,
    container: &Value,
    item: &Value,
) -> Result<bool> {
    match (container, item) {
        (Value::Text(text), Value::Text(part)) => {
            budget.scan(text.text.len())?;
            Ok(text.text.contains(&*part.text))
        }
        (Value::Text(_), other) => Err(Fault::new(format!(
            "`in` of text needs text before it, not a value of type {}",
            other.type_name()
        ))),
        (Value::Dict(dict), key) => Ok(dict.get(budget, key)?.is_some()),
        (Value::View(view), key) if view.kind == super::ViewKind::Keys => {
            Ok(view.dict.get(budget, key)?.is_some())
        }
        (Value::Range(range), Value::Int(number)) => Ok(range.contains(*number)),
        (container, item) => among(budget, item, container.items()?),
    }
}

fn among(budget: &Budget, item: &Value, items: impl Iterator<Item = Value>) -> Result<bool> {
    for other in items {
        if same(&other, item) || equal(budget, &other, item)? {
            return Ok(true);
        }
    }
    Ok(false)
}
