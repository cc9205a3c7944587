//! Arithmetic, and what its signs mean for text, lists and tuples.

use super::{Sequence, Text, Value, display, number};
use crate::llm::text::jinja::ast::{Binary, Sign};
use crate::llm::text::jinja::builtins::{escape, percent};
use crate::llm::text::jinja::limits::{Budget, Buffer, Fault, Result};

/// A sign before a number.
pub(in crate::llm::text::jinja) fn signed(sign: Sign, value: &Value) -> Result<Value> {
    value.check_defined()?;
    match (sign, value) {
        (Sign::Plus, Value::Float(_)) => Ok(value.clone()),
        (Sign::Minus, Value::Float(number)) => Ok(Value::Float(-number)),
        _ => {
            let number = value.as_int().ok_or_else(|| {
                Fault::new(format!("a value of type {} can't have a sign", value.type_name()))
            })?;
            let number = if sign == Sign::Minus { number.checked_neg() } else { Some(number) };
            number.map(Value::Int).ok_or_else(number::too_large)
        }
    }
}

/// An operator of two values.
pub(in crate::llm::text::jinja) fn binary(
    budget: &Budget,
    operator: Binary,
    a: &Value,
    b: &Value,
) -> Result<Value> {
    if let (Binary::Modulo, Value::Text(format)) = (operator, a) {
        return percent::format(budget, format, b);
    }
    a.check_defined()?;
    b.check_defined()?;
    match (operator, a, b) {
        (Binary::Add, Value::Text(a), Value::Text(b)) => join_texts(budget, a, b),
        (Binary::Add, Value::List(a), Value::List(b)) => Ok(Value::List(joined(budget, a, b)?)),
        (Binary::Add, Value::Tuple(a), Value::Tuple(b)) => Ok(Value::Tuple(joined(budget, a, b)?)),
        (Binary::Multiply, Value::Text(text), count)
        | (Binary::Multiply, count, Value::Text(text))
            if count.as_int().is_some() =>
        {
            let safe = text.safe;
            let text = repeat_text(budget, &text.text, count.as_int().unwrap_or(0))?;
            Ok(Text { text: text.into(), safe }.into())
        }
        (Binary::Multiply, Value::List(items), count)
        | (Binary::Multiply, count, Value::List(items))
            if count.as_int().is_some() =>
        {
            Ok(Value::List(repeated(budget, items, count.as_int().unwrap_or(0))?))
        }
        (Binary::Multiply, Value::Tuple(items), count)
        | (Binary::Multiply, count, Value::Tuple(items))
            if count.as_int().is_some() =>
        {
            Ok(Value::Tuple(repeated(budget, items, count.as_int().unwrap_or(0))?))
        }
        _ => match (a.as_int(), b.as_int(), a.as_float(), b.as_float()) {
            (Some(a), Some(b), ..) => integers(operator, a, b),
            (.., Some(a), Some(b)) => floats(operator, a, b),
            _ => Err(Fault::new(format!(
                "`{}` is not defined for values of the types {} and {}",
                symbol(operator),
                a.type_name(),
                b.type_name()
            ))),
        },
    }
}

fn symbol(operator: Binary) -> &'static str {
    match operator {
        Binary::Add => "+",
        Binary::Subtract => "-",
        Binary::Multiply => "*",
        Binary::Divide => "/",
        Binary::FloorDivide => "//",
        Binary::Modulo => "%",
        Binary::Power => "**",
    }
}

fn integers(operator: Binary, a: i128, b: i128) -> Result<Value> {
    let result = match operator {
        Binary::Add => a.checked_add(b),
        Binary::Subtract => a.checked_sub(b),
        Binary::Multiply => a.checked_mul(b),
        Binary::FloorDivide => Some(number::divide(a, b)?.0),
        Binary::Modulo => Some(number::divide(a, b)?.1),
        Binary::Power if b >= 0 => Some(number::power(a, b)?),
        Binary::Divide | Binary::Power => return floats(operator, a as f64, b as f64),
    };
    result.map(Value::Int).ok_or_else(number::too_large)
}

fn floats(operator: Binary, a: f64, b: f64) -> Result<Value> {
    Ok(Value::Float(match operator {
        Binary::Add => a + b,
        Binary::Subtract => a - b,
        Binary::Multiply => a * b,
        Binary::Divide => number::quotient(a, b)?,
        Binary::FloorDivide => number::divide_float(a, b)?.0,
        Binary::Modulo => number::divide_float(a, b)?.1,
        Binary::Power => number::power_float(a, b)?,
    }))
}

/// Text behind text. If one is HTML, the other is escaped.
fn join_texts(budget: &Budget, a: &Text, b: &Text) -> Result<Value> {
    let safe = a.safe || b.safe;
    let (a, b) =
        if safe { (escape(budget, a)?, escape(budget, b)?) } else { (a.clone(), b.clone()) };
    let mut buffer = Buffer::new(budget);
    buffer.push(&a.text)?;
    buffer.push(&b.text)?;
    Ok(Text { text: buffer.finish().into(), safe }.into())
}

/// Text many times over.
fn repeat_text(budget: &Budget, text: &str, count: i128) -> Result<String> {
    let count = usize::try_from(count.max(0)).unwrap_or(usize::MAX);
    if text.is_empty() {
        return Ok(String::new());
    }
    budget.bytes(text.len().saturating_mul(count))?;
    Ok(text.repeat(count))
}

fn joined(budget: &Budget, a: &Sequence, b: &Sequence) -> Result<std::rc::Rc<Sequence>> {
    budget.bytes((a.items.len() + b.items.len()) * size_of::<Value>())?;
    Sequence::new(budget, a.items.iter().chain(&b.items).cloned().collect())
}

fn repeated(budget: &Budget, items: &Sequence, count: i128) -> Result<std::rc::Rc<Sequence>> {
    let count = usize::try_from(count.max(0)).unwrap_or(usize::MAX);
    let length = items.items.len().saturating_mul(count);
    budget.bytes(length.saturating_mul(size_of::<Value>()))?;
    Sequence::new(budget, items.items.iter().cycle().take(length).cloned().collect())
}

/// `~`: values as text, one behind the other.
pub(in crate::llm::text::jinja) fn concat(
    budget: &Budget,
    values: &[Value],
    escapes: bool,
) -> Result<Value> {
    let mut buffer = Buffer::new(budget);
    let texts = values.iter().map(|value| display(budget, value)).collect::<Result<Vec<_>>>()?;
    let safe = escapes && texts.iter().any(|text| text.safe);
    for text in texts {
        buffer.push(&if safe { escape(budget, &text)? } else { text }.text)?;
    }
    Ok(Text { text: buffer.finish().into(), safe }.into())
}
