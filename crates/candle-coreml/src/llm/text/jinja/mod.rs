//! Jinja as Hugging Face's `apply_chat_template` runs it: the language of Jinja2 with Python's values,
//! in its sandbox. `parser` makes statements of a template's text, `render` goes through them, `value`
//! is what they compute with, and `builtins` are functions, filters, tests and methods.
//!
//! Templates come with models, so they are untrusted: `limits` has the bounds.

mod ast;
mod builtins;
mod lexer;
mod limits;
mod parser;
mod render;
mod value;

use std::fmt;
use std::sync::Arc;
use std::thread;

use serde_json::{Map, Value as Json};

use limits::{Fault, STACK};

/// A template that was read.
#[derive(Clone, Debug)]
pub(super) struct Template {
    name: Arc<str>,
    body: Arc<ast::Body>,
}

/// Why a template is not valid or can't be rendered.
#[derive(Debug)]
pub(super) struct TemplateError {
    template: Arc<str>,
    fault: Fault,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} (template `{}`", self.fault.message, self.template)?;
        match self.fault.line {
            Some(line) => write!(formatter, ", line {line})"),
            None => formatter.write_str(")"),
        }
    }
}

impl std::error::Error for TemplateError {}

impl TemplateError {
    /// There is no template of this name.
    pub(super) fn missing(name: &str) -> Self {
        let fault = Fault::new(format!("there is no template `{name}`"));
        TemplateError { template: name.into(), fault }
    }
}

impl Template {
    /// Reads a template; its name is for messages.
    pub(super) fn new(name: &str, source: &str) -> Result<Self, TemplateError> {
        let name: Arc<str> = name.into();
        let body = apart(&name, || parser::parse(source))?;
        Ok(Template { name, body: Arc::new(body) })
    }

    /// The text with these variables.
    pub(super) fn render(&self, variables: &Map<String, Json>) -> Result<String, TemplateError> {
        apart(&self.name, || render::render(&self.body, variables))
    }
}

/// Runs on a thread of its own, whose stack is large enough for all that the limits allow, however
/// little the caller has left of its own.
fn apart<T: Send>(
    name: &Arc<str>,
    run: impl FnOnce() -> limits::Result<T> + Send,
) -> Result<T, TemplateError> {
    let failed = |fault| TemplateError { template: name.clone(), fault };
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("template".to_owned()).stack_size(STACK);
        let running = thread.spawn_scoped(scope, run).map_err(|error| {
            failed(Fault::new(format!("there is no thread to run it: {error}")))
        })?;
        let result = running.join();
        result
            .unwrap_or_else(|_| Err(Fault::new("the renderer stopped unexpectedly")))
            .map_err(failed)
    })
}
