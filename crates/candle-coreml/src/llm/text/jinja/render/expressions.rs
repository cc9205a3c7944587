//! Values of expressions.

use std::rc::Rc;

use super::{Renderer, Scope};
use crate::llm::text::jinja::ast::{self, Comparison, Conditional, Expression, Postfix, Subscript};
use crate::llm::text::jinja::builtins::{self, Arguments};
use crate::llm::text::jinja::limits::{Fault, MAX_ARGUMENTS, Result};
use crate::llm::text::jinja::value::{
    Dict, SliceBounds, Text, Value, attribute, binary, concat, contains, equal, item, order,
    signed, slice,
};

impl Renderer {
    pub(super) fn evaluate(&mut self, expression: &Expression, scope: &Rc<Scope>) -> Result<Value> {
        self.budget.steps(1)?;
        match expression {
            Expression::Constant(constant) => Ok(constant.into()),
            Expression::Name(name) => Ok(self.variable(name, scope)),
            nested => self.deeper(|renderer| renderer.evaluate_nested(nested, scope)),
        }
    }

    fn evaluate_nested(&mut self, expression: &Expression, scope: &Rc<Scope>) -> Result<Value> {
        match expression {
            Expression::Constant(constant) => Ok(constant.into()),
            Expression::Name(name) => Ok(self.variable(name, scope)),
            Expression::List(items) => {
                let items = self.evaluate_all(items, scope)?;
                Value::list(&self.budget, items)
            }
            Expression::Tuple(items) => {
                let items = self.evaluate_all(items, scope)?;
                Value::tuple(&self.budget, items)
            }
            Expression::Dict(entries) => {
                let mut pairs = Vec::with_capacity(entries.len());
                for (key, value) in entries {
                    pairs.push((self.evaluate(key, scope)?, self.evaluate(value, scope)?));
                }
                Ok(Value::Dict(Dict::new(&self.budget, pairs)?))
            }
            Expression::Binary(first, others) => {
                let mut value = self.evaluate(first, scope)?;
                for (operator, other) in others {
                    let other = self.evaluate(other, scope)?;
                    value = binary(&self.budget, *operator, &value, &other)?;
                }
                Ok(value)
            }
            Expression::Signs(signs, operand) => {
                let value = self.evaluate(operand, scope)?;
                self.budget.steps(signs.len())?;
                signs.iter().rev().try_fold(value, |value, sign| signed(*sign, &value))
            }
            Expression::Not { negates, operand } => {
                Ok(Value::Bool(self.evaluate(operand, scope)?.truth() != *negates))
            }
            Expression::And(operands) => self.first_of(operands, false, scope),
            Expression::Or(operands) => self.first_of(operands, true, scope),
            Expression::Concat(parts) => {
                let parts = self.evaluate_all(parts, scope)?;
                concat(&self.budget, &parts, self.escapes)
            }
            Expression::Compare(first, others) => self.compare(first, others, scope),
            Expression::Conditional(conditional) => self.conditional(conditional, scope),
            Expression::Postfix(value, chain) => {
                let mut value = self.evaluate(value, scope)?;
                for postfix in chain {
                    value = self.postfix(value, postfix, scope)?;
                }
                Ok(value)
            }
        }
    }

    fn evaluate_all(&mut self, all: &[Expression], scope: &Rc<Scope>) -> Result<Vec<Value>> {
        all.iter().map(|expression| self.evaluate(expression, scope)).collect()
    }

    fn variable(&self, name: &str, scope: &Scope) -> Value {
        let value = scope.get(name).or_else(|| builtins::function(name).map(Value::Function));
        value.unwrap_or_else(|| Value::undefined(format!("`{name}` is undefined")))
    }

    /// The first operand whose truth is this, else the last.
    fn first_of(&mut self, all: &[Expression], truth: bool, scope: &Rc<Scope>) -> Result<Value> {
        let mut value = Value::None;
        for operand in all {
            value = self.evaluate(operand, scope)?;
            if value.truth() == truth {
                break;
            }
        }
        Ok(value)
    }

    fn conditional(&mut self, conditional: &Conditional, scope: &Rc<Scope>) -> Result<Value> {
        if self.evaluate(&conditional.condition, scope)?.truth() {
            return self.evaluate(&conditional.then, scope);
        }
        match &conditional.otherwise {
            Some(otherwise) => self.evaluate(otherwise, scope),
            None => Ok(Value::undefined("the condition is false, and there is no `else`")),
        }
    }

    fn compare(
        &mut self,
        first: &Expression,
        others: &[(Comparison, Expression)],
        scope: &Rc<Scope>,
    ) -> Result<Value> {
        let mut left = self.evaluate(first, scope)?;
        for (comparison, other) in others {
            let right = self.evaluate(other, scope)?;
            if !self.holds(*comparison, &left, &right)? {
                return Ok(Value::Bool(false));
            }
            left = right;
        }
        Ok(Value::Bool(true))
    }

    /// Whether a comparison holds.
    pub(in crate::llm::text::jinja) fn holds(
        &self,
        comparison: Comparison,
        left: &Value,
        right: &Value,
    ) -> Result<bool> {
        let budget = &self.budget;
        Ok(match comparison {
            Comparison::Equal => equal(budget, left, right)?,
            Comparison::NotEqual => !equal(budget, left, right)?,
            Comparison::Less => order(budget, left, right)?.is_some_and(|order| order.is_lt()),
            Comparison::LessOrEqual => {
                order(budget, left, right)?.is_some_and(|order| order.is_le())
            }
            Comparison::Greater => order(budget, left, right)?.is_some_and(|order| order.is_gt()),
            Comparison::GreaterOrEqual => {
                order(budget, left, right)?.is_some_and(|order| order.is_ge())
            }
            Comparison::In => contains(budget, right, left)?,
            Comparison::NotIn => !contains(budget, right, left)?,
        })
    }

    /// A value with one thing done to it.
    pub(super) fn postfix(
        &mut self,
        value: Value,
        postfix: &Postfix,
        scope: &Rc<Scope>,
    ) -> Result<Value> {
        self.budget.steps(1)?;
        match postfix {
            Postfix::Attribute(name) => self.attribute(&value, name),
            Postfix::Item(Subscript::Key(key)) => {
                let key = self.evaluate(key, scope)?;
                match (&value, &key) {
                    (Value::Loop(own), Value::Text(name)) => self.loop_attribute(own, &name.text),
                    _ => item(&self.budget, &value, &key),
                }
            }
            Postfix::Item(Subscript::Slice(bounds)) => {
                let mut found: SliceBounds = [None, None, None];
                for (found, bound) in found.iter_mut().zip(bounds) {
                    *found = match bound {
                        Some(bound) => Some(self.evaluate(bound, scope)?),
                        None => None,
                    };
                }
                slice(&self.budget, &value, found)
            }
            Postfix::Call(arguments) => {
                let arguments = self.arguments(arguments, scope)?;
                self.call(&value, arguments)
            }
            Postfix::Filter(name, arguments) => {
                let arguments = self.arguments(arguments, scope)?;
                self.filter(name, value, arguments)
            }
            Postfix::Test { name, arguments, negated } => {
                let arguments = self.arguments(arguments, scope)?;
                Ok(Value::Bool(self.test(name, &value, arguments)? != *negated))
            }
        }
    }

    /// `value.name`
    pub(in crate::llm::text::jinja) fn attribute(
        &mut self,
        value: &Value,
        name: &str,
    ) -> Result<Value> {
        match value {
            Value::Loop(own) => self.loop_attribute(own, name),
            Value::Macro(bound) if name == "arguments" => {
                let names = bound.definition.parameters.iter();
                let names = names.map(|(name, _)| Text { text: name.clone(), safe: false }.into());
                Value::tuple(&self.budget, names.collect())
            }
            _ => attribute(value, name),
        }
    }

    /// A value through a filter.
    pub(in crate::llm::text::jinja) fn filter(
        &mut self,
        name: &str,
        value: Value,
        arguments: Arguments,
    ) -> Result<Value> {
        let filter = builtins::filter(name)
            .ok_or_else(|| Fault::new(format!("no filter is named `{name}`")))?;
        self.deeper(|renderer| filter(renderer, value, arguments))
    }

    /// Whether a test of a value holds.
    pub(in crate::llm::text::jinja) fn test(
        &mut self,
        name: &str,
        value: &Value,
        arguments: Arguments,
    ) -> Result<bool> {
        let test =
            builtins::test(name).ok_or_else(|| Fault::new(format!("no test is named `{name}`")))?;
        test(self, value, arguments)
    }

    pub(super) fn arguments(
        &mut self,
        arguments: &ast::Arguments,
        scope: &Rc<Scope>,
    ) -> Result<Arguments> {
        if arguments.is_empty() {
            return Ok(Arguments::default());
        }
        let mut values = Arguments {
            positional: self.evaluate_all(&arguments.positional, scope)?,
            named: Vec::new(),
        };
        for (name, value) in &arguments.named {
            values.named.push((name.clone(), self.evaluate(value, scope)?));
        }
        if let Some(items) = &arguments.items {
            let items = self.evaluate(items, scope)?.collect(&self.budget)?;
            values.positional.extend(items);
        }
        if let Some(entries) = &arguments.entries {
            let Value::Dict(entries) = self.evaluate(entries, scope)? else {
                return Err(Fault::new("`**` needs a dictionary"));
            };
            if entries.len() > MAX_ARGUMENTS {
                return Err(Fault::new(format!("`**` with more than {MAX_ARGUMENTS} arguments")));
            }
            for (key, value) in entries.entries() {
                let name = key.as_text().ok_or_else(|| Fault::new("`**` needs text as keys"))?;
                if values.named.iter().any(|(earlier, _)| *earlier == name.text) {
                    return Err(Fault::new(format!("two arguments are named `{}`", name.text)));
                }
                values.named.push((name.text.clone(), value.clone()));
            }
        }
        Ok(values)
    }

    pub(in crate::llm::text::jinja) fn call(
        &mut self,
        called: &Value,
        arguments: Arguments,
    ) -> Result<Value> {
        called.check_defined()?;
        self.deeper(|renderer| match called {
            Value::Function(function) => (function.call)(renderer, arguments),
            Value::Method(bound) => renderer.call_method(bound, arguments),
            Value::Macro(bound) => renderer.call_macro(bound, arguments),
            Value::Loop(own) => renderer.recurse(own, arguments),
            Value::Joiner(joiner) => {
                arguments.none("joiner")?;
                let first = !joiner.used.replace(true);
                if first { Value::text(&renderer.budget, "") } else { Ok(joiner.separator.clone()) }
            }
            other => {
                Err(Fault::new(format!("a value of type {} can't be called", other.type_name())))
            }
        })
    }
}
