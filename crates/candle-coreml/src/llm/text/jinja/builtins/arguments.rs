//! Arguments of a call, and what parameters make of them.

use std::sync::Arc;

use crate::llm::text::jinja::limits::{Fault, Result};
use crate::llm::text::jinja::value::{Text, Value};

#[derive(Default)]
pub(in crate::llm::text::jinja) struct Arguments {
    pub(in crate::llm::text::jinja) positional: Vec<Value>,
    pub(in crate::llm::text::jinja) named: Vec<(Arc<str>, Value)>,
}

impl Arguments {
    /// The values of parameters, by position or name; a parameter without a name can only be given by
    /// position. The first ones have to be given.
    pub(in crate::llm::text::jinja) fn bind<const N: usize>(
        self,
        function: &str,
        parameters: [&str; N],
        required: usize,
    ) -> Result<[Option<Value>; N]> {
        let mut values = [const { None }; N];
        let given = self.positional.len();
        if given > N {
            return Err(Fault::new(format!(
                "`{function}` takes at most {N} arguments, got {given}"
            )));
        }
        for (place, value) in values.iter_mut().zip(self.positional) {
            *place = Some(value);
        }
        for (name, value) in self.named {
            let place = parameters.iter().position(|p| !p.is_empty() && **p == *name);
            let place = place.and_then(|place| values.get_mut(place)).filter(|p| p.is_none());
            *place.ok_or_else(|| {
                Fault::new(format!("`{function}` takes no argument `{name}`, or it is there twice"))
            })? = Some(value);
        }
        match values[..required].iter().position(Option::is_none) {
            Some(missing) => {
                Err(Fault::new(format!("`{function}` needs its argument number {}", missing + 1)))
            }
            None => Ok(values),
        }
    }

    /// No arguments.
    pub(in crate::llm::text::jinja) fn none(self, function: &str) -> Result<()> {
        self.bind(function, [], 0).map(|[]| ())
    }

    /// All arguments, of which none has a name.
    pub(in crate::llm::text::jinja) fn positional(self, function: &str) -> Result<Vec<Value>> {
        match self.named.first() {
            Some((name, _)) => Err(Fault::new(format!("`{function}` takes no argument `{name}`"))),
            None => Ok(self.positional),
        }
    }
}

/// An integer argument.
pub(super) fn integer(value: &Value) -> Result<i128> {
    value.check_defined()?;
    value
        .as_int()
        .ok_or_else(|| Fault::new(format!("expected an integer, got a {}", value.type_name())))
}

/// An integer argument that may be left out.
pub(super) fn integer_or(value: Option<&Value>, default: i128) -> Result<i128> {
    value.map_or(Ok(default), integer)
}

/// A length: nothing for negative numbers.
pub(super) fn length(value: &Value) -> Result<usize> {
    Ok(usize::try_from(integer(value)?.max(0)).unwrap_or(usize::MAX))
}

/// An argument that is text.
pub(super) fn text(value: &Value) -> Result<&Text> {
    value.check_defined()?;
    value.as_text().ok_or_else(|| Fault::new(format!("expected text, got a {}", value.type_name())))
}

/// An argument that may be left out or `none`.
pub(super) fn given(value: Option<Value>) -> Option<Value> {
    value.filter(|value| !matches!(value, Value::None))
}

/// Whether an argument is given and true.
pub(super) fn flag(value: Option<&Value>, default: bool) -> bool {
    value.map_or(default, Value::truth)
}
