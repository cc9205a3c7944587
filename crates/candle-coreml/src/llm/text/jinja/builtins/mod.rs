//! What a template can use without defining it: functions, filters, tests, and methods of values.

mod arguments;
mod characters;
mod checks;
mod containers;
mod fields;
mod filters;
mod functions;
mod html;
mod json;
mod methods;
pub(super) mod percent;
mod pretty;
mod sequences;
mod strings;
mod texts;
mod wrapping;

use super::limits::Result;
use super::render::Renderer;
use super::value::Value;

pub(super) use arguments::Arguments;
pub(super) use html::escape;
pub(super) use methods::method;

/// A function that every template has.
pub(super) struct Function {
    pub(super) name: &'static str,
    pub(super) call: fn(&mut Renderer, Arguments) -> Result<Value>,
}

/// A method of values of a type.
pub(super) enum Method {
    Call(fn(&mut Renderer, &Value, Arguments) -> Result<Value>),
    /// One that would change the value.
    Refused,
}

pub(super) type Filter = fn(&mut Renderer, Value, Arguments) -> Result<Value>;

pub(super) type Test = fn(&mut Renderer, &Value, Arguments) -> Result<bool>;

pub(super) fn function(name: &str) -> Option<&'static Function> {
    functions::FUNCTIONS.iter().find(|function| function.name == name)
}

pub(super) fn filter(name: &str) -> Option<Filter> {
    filters::FILTERS.iter().find(|(known, _)| *known == name).map(|(_, filter)| *filter)
}

pub(super) fn test(name: &str) -> Option<Test> {
    checks::TESTS.iter().find(|(known, _)| *known == name).map(|(_, test)| *test)
}
