//! Macros, and the bodies that calls give them.

use std::rc::Rc;
use std::sync::Arc;

use super::{Renderer, Scope};
use crate::llm::text::jinja::ast::{self, Expression, Macro};
use crate::llm::text::jinja::builtins::{Arguments, Method};
use crate::llm::text::jinja::limits::{Fault, Result};
use crate::llm::text::jinja::value::{BoundMacro, BoundMethod, Dict, Text, Value};

impl Renderer {
    pub(super) fn define(&mut self, definition: &Arc<Macro>, scope: &Rc<Scope>) -> Result<()> {
        let bound = self.bound(definition, scope)?;
        if let Some(name) = &definition.name {
            scope.set(name.clone(), bound);
        }
        Ok(())
    }

    fn bound(&mut self, definition: &Arc<Macro>, scope: &Rc<Scope>) -> Result<Value> {
        self.budget.bytes(200)?;
        if self.scopes.last().is_none_or(|last| !Rc::ptr_eq(last, scope)) {
            self.scopes.push(scope.clone());
        }
        let bound = BoundMacro { definition: definition.clone(), scope: scope.clone() };
        Ok(Value::Macro(Rc::new(bound)))
    }

    pub(super) fn call_block(
        &mut self,
        body: &Arc<Macro>,
        called: &Expression,
        arguments: &ast::Arguments,
        scope: &Rc<Scope>,
    ) -> Result<()> {
        let caller = self.bound(body, scope)?;
        let called = self.evaluate(called, scope)?;
        let mut arguments = self.arguments(arguments, scope)?;
        arguments.named.push(("caller".into(), caller));
        let result = self.call(&called, arguments)?;
        self.print(&result)
    }

    pub(super) fn call_method(
        &mut self,
        bound: &BoundMethod,
        arguments: Arguments,
    ) -> Result<Value> {
        match bound.method {
            Method::Call(call) => call(self, &bound.receiver, arguments),
            Method::Refused => Err(Fault::new("a method that changes a value can't be called")),
        }
    }

    /// What a macro writes with these arguments.
    pub(super) fn call_macro(
        &mut self,
        bound: &BoundMacro,
        mut arguments: Arguments,
    ) -> Result<Value> {
        let definition = &bound.definition;
        let scope = Scope::within(&bound.scope);
        let extra = arguments.positional.len().saturating_sub(definition.parameters.len());
        let extra = arguments.positional.split_off(arguments.positional.len() - extra);
        let mut positional = arguments.positional.into_iter();
        let mut left_out = Vec::new();
        for (name, default) in &definition.parameters {
            match positional.next().or_else(|| take(&mut arguments.named, name)) {
                Some(value) => scope.set(name.clone(), value),
                None => left_out.push((name, default)),
            }
        }
        if definition.uses.caller && !definition.parameters.iter().any(|(n, _)| &**n == "caller") {
            let caller = take(&mut arguments.named, "caller");
            let caller = caller.unwrap_or_else(|| Value::undefined("no caller is defined"));
            scope.set("caller".into(), caller);
        }
        self.rest_of_arguments(definition, &scope, extra, arguments.named)?;
        for (name, default) in left_out {
            let value = match default {
                Some(default) => self.evaluate(default, &scope)?,
                None => Value::undefined(format!("the parameter `{name}` was not given")),
            };
            scope.set(name.clone(), value);
        }
        self.capture(|renderer| renderer.run_all(&definition.body, &scope))
    }

    /// Gives a macro what its parameters don't take, or refuses it.
    fn rest_of_arguments(
        &mut self,
        definition: &Macro,
        scope: &Scope,
        extra: Vec<Value>,
        named: Vec<(Arc<str>, Value)>,
    ) -> Result<()> {
        let name = definition.name.as_deref().unwrap_or("caller");
        if definition.uses.kwargs {
            let text = |name: Arc<str>| Value::from(Text { text: name, safe: false });
            let entries = named.into_iter().map(|(name, value)| (text(name), value)).collect();
            scope.set("kwargs".into(), Value::Dict(Dict::new(&self.budget, entries)?));
        } else if let Some((argument, _)) = named.first() {
            return Err(Fault::new(format!("the macro `{name}` takes no argument `{argument}`")));
        }
        if definition.uses.varargs {
            scope.set("varargs".into(), Value::tuple(&self.budget, extra)?);
        } else if !extra.is_empty() {
            let most = definition.parameters.len();
            return Err(Fault::new(format!("the macro `{name}` takes at most {most} arguments")));
        }
        Ok(())
    }
}

fn take(named: &mut Vec<(Arc<str>, Value)>, name: &str) -> Option<Value> {
    let place = named.iter().position(|(other, _)| &**other == name)?;
    Some(named.remove(place).1)
}
