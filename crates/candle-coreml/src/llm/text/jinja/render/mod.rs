//! Goes through a template's statements and writes what they say.

mod expressions;
mod loops;
mod macros;
mod scope;

use std::rc::Rc;
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::ast::{Kind, Postfix, Statement, Target};
use super::builtins;
use super::limits::{Budget, Fault, MAX_LEVELS, Result};
use super::value::{Namespace, Text, Value, display};

pub(super) use loops::Loop;
pub(super) use scope::Scope;

/// The text of a template with these variables.
pub(super) fn render(body: &[Statement], variables: &Map<String, Json>) -> Result<String> {
    let input = variables.iter().map(|(name, value)| name.len() + size(value, 0)).sum();
    let mut renderer = Renderer {
        budget: Budget::new(input),
        output: String::new(),
        root: Scope::root(),
        loop_name: "loop".into(),
        level: 0,
        escapes: false,
        scopes: Vec::new(),
        namespaces: Vec::new(),
    };
    let root = renderer.root.clone();
    for (name, value) in variables {
        root.set(name.as_str().into(), Value::from_json(&renderer.budget, value, 1)?);
    }
    let result = renderer.run(body, &root);
    renderer.forget();
    result?;
    Ok(renderer.output)
}

/// About how many bytes a value of JSON has, as deep as it is looked at.
fn size(value: &Json, level: usize) -> usize {
    let level = level + 1;
    8 + match value {
        _ if level > super::limits::MAX_DEPTH => 0,
        Json::String(text) => text.len(),
        Json::Array(items) => items.iter().map(|item| size(item, level)).sum(),
        Json::Object(entries) => {
            entries.iter().map(|(key, value)| key.len() + size(value, level)).sum()
        }
        _ => 0,
    }
}

/// One rendering.
pub(super) struct Renderer {
    pub(super) budget: Budget,
    output: String,
    root: Rc<Scope>,
    /// The name `loop`, which every turn of a loop needs.
    loop_name: Arc<str>,
    /// Levels of statements and expressions that are being looked at.
    level: usize,
    /// Whether what is printed becomes HTML.
    pub(super) escapes: bool,
    /// Scopes that macros see. A macro lies in its scope and holds it, so that such a scope is
    /// emptied at the end.
    scopes: Vec<Rc<Scope>>,
    /// All namespaces: they may hold themselves, too.
    namespaces: Vec<Rc<Namespace>>,
}

/// How a body ended.
#[derive(Clone, Copy, PartialEq)]
enum Flow {
    Next,
    Break,
    Continue,
}

impl Renderer {
    /// Ends all cycles of values. Each is emptied while the list holds it, so that however long a row
    /// of namespaces is, they go one by one.
    fn forget(&mut self) {
        for scope in &self.scopes {
            scope.clear();
        }
        for namespace in &self.namespaces {
            let entries = std::mem::take(&mut *namespace.entries.borrow_mut());
            drop(entries);
        }
        self.root.clear();
    }

    /// Remembers a namespace, to end its cycles.
    pub(super) fn keep(&mut self, namespace: &Rc<Namespace>) -> Result<()> {
        self.budget.bytes(200)?;
        self.namespaces.push(namespace.clone());
        Ok(())
    }

    /// Goes a level deeper.
    fn deeper<T>(&mut self, run: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.level == MAX_LEVELS {
            return Err(Fault::new(format!(
                "macros, loops or expressions call each other too deep: more than {MAX_LEVELS} levels"
            )));
        }
        self.level += 1;
        let result = run(self);
        self.level -= 1;
        result
    }

    fn write(&mut self, text: &str) -> Result<()> {
        self.budget.bytes(text.len())?;
        self.output.push_str(text);
        Ok(())
    }

    /// What is written while something runs.
    fn capture(&mut self, run: impl FnOnce(&mut Self) -> Result<()>) -> Result<Value> {
        let before = std::mem::take(&mut self.output);
        run(self)?;
        let text = std::mem::replace(&mut self.output, before);
        self.budget.bytes(text.len())?;
        Ok(Text { text: text.into(), safe: self.escapes }.into())
    }

    fn run(&mut self, body: &[Statement], scope: &Rc<Scope>) -> Result<Flow> {
        for statement in body {
            self.budget.steps(1)?;
            let flow = self
                .deeper(|renderer| renderer.statement(&statement.kind, scope))
                .map_err(|fault| fault.or_at(statement.line))?;
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    /// Runs a body to its end: what would leave a loop was refused when the template was read.
    fn run_all(&mut self, body: &[Statement], scope: &Rc<Scope>) -> Result<()> {
        self.run(body, scope).map(|_| ())
    }

    fn statement(&mut self, kind: &Kind, scope: &Rc<Scope>) -> Result<Flow> {
        match kind {
            Kind::Text(text) => self.write(text)?,
            Kind::Print(value) => {
                let value = self.evaluate(value, scope)?;
                self.print(&value)?;
            }
            Kind::For(each) => self.for_loop(each, scope)?,
            Kind::If(branches, otherwise) => {
                for (condition, body) in branches {
                    if self.evaluate(condition, scope)?.truth() {
                        return self.run(body, scope);
                    }
                }
                return self.run(otherwise, scope);
            }
            Kind::Set(target, value) => {
                let value = self.evaluate(value, scope)?;
                self.assign(target, value, scope)?;
            }
            Kind::SetBlock(target, filters, body) => {
                let (flow, value) = self.filtered_body(filters, body, scope)?;
                if let Some(value) = value {
                    self.assign(target, value, scope)?;
                }
                return Ok(flow);
            }
            Kind::Macro(definition) => self.define(definition, scope)?,
            Kind::Call(body, called, arguments) => {
                self.call_block(body, called, arguments, scope)?
            }
            Kind::Filter(filters, body) => {
                let (flow, value) = self.filtered_body(filters, body, scope)?;
                if let Some(value) = value {
                    self.print(&value)?;
                }
                return Ok(flow);
            }
            Kind::With(variables, body) => {
                let own = Scope::within(scope);
                for (target, value) in variables {
                    let value = self.evaluate(value, scope)?;
                    self.assign(target, value, &own)?;
                }
                return self.run(body, &own);
            }
            Kind::Scope(body) => self.run_all(body, &Scope::within(scope))?,
            Kind::Block { body, scoped } => {
                let around = if *scoped { scope.clone() } else { self.root.clone() };
                self.run_all(body, &Scope::within(&around))?;
            }
            Kind::Autoescape(on, body) => {
                let on = self.evaluate(on, scope)?.truth();
                let before = std::mem::replace(&mut self.escapes, on);
                let flow = self.run(body, &Scope::within(scope))?;
                self.escapes = before;
                return Ok(flow);
            }
            Kind::Break => return Ok(Flow::Break),
            Kind::Continue => return Ok(Flow::Continue),
            Kind::Load(tag) => {
                return Err(Fault::new(format!(
                    "`{tag}` asks for another template: there is none"
                )));
            }
        }
        Ok(Flow::Next)
    }

    fn print(&mut self, value: &Value) -> Result<()> {
        let text = display(&self.budget, value)?;
        let text = if self.escapes { builtins::escape(&self.budget, &text)? } else { text };
        self.write(&text.text)
    }

    /// What a body writes, through filters; nothing if it leaves the loop around it.
    fn filtered_body(
        &mut self,
        filters: &[Postfix],
        body: &[Statement],
        scope: &Rc<Scope>,
    ) -> Result<(Flow, Option<Value>)> {
        let own = Scope::within(scope);
        let mut flow = Flow::Next;
        let text = self.capture(|renderer| {
            flow = renderer.run(body, &own)?;
            Ok(())
        })?;
        if flow != Flow::Next {
            return Ok((flow, None));
        }
        let filter = |value, filter| self.postfix(value, filter, &own);
        Ok((flow, Some(filters.iter().try_fold(text, filter)?)))
    }

    fn assign(&mut self, target: &Target, value: Value, scope: &Rc<Scope>) -> Result<()> {
        match target {
            Target::Name(name) => {
                scope.set(name.clone(), value);
                Ok(())
            }
            Target::Attribute(name, attribute) => match scope.get(name) {
                Some(Value::Namespace(namespace)) => namespace.set(attribute.clone(), value),
                _ => Err(Fault::new(format!(
                    "`{name}` is no namespace: only those have attributes that can be set"
                ))),
            },
            Target::Tuple(targets) => {
                let wanted = targets.len();
                let items: Vec<Value> = value.items()?.take(wanted + 1).collect();
                if items.len() != wanted {
                    return Err(Fault::new(format!(
                        "expected {wanted} values to assign, got {}",
                        if items.len() > wanted { "more".into() } else { items.len().to_string() }
                    )));
                }
                targets.iter().zip(items).try_for_each(|(t, item)| self.assign(t, item, scope))
            }
        }
    }
}
