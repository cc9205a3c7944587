//! Variables, which loops, macros and blocks have of their own.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::llm::text::jinja::value::Value;

/// Variables, and those around them.
pub(in crate::llm::text::jinja) struct Scope {
    around: Option<Rc<Scope>>,
    variables: RefCell<HashMap<Arc<str>, Value>>,
}

impl Scope {
    /// The variables of the whole template.
    pub(super) fn root() -> Rc<Self> {
        Rc::new(Scope { around: None, variables: RefCell::default() })
    }

    pub(super) fn within(around: &Rc<Scope>) -> Rc<Self> {
        Rc::new(Scope { around: Some(around.clone()), variables: RefCell::default() })
    }

    pub(super) fn get(&self, name: &str) -> Option<Value> {
        let mut scope = self;
        loop {
            if let Some(value) = scope.variables.borrow().get(name) {
                return Some(value.clone());
            }
            scope = scope.around.as_deref()?;
        }
    }

    pub(super) fn set(&self, name: Arc<str>, value: Value) {
        let before = self.variables.borrow_mut().insert(name, value);
        drop(before);
    }

    /// Forgets all variables, of which some may hold this scope.
    pub(super) fn clear(&self) {
        let variables = std::mem::take(&mut *self.variables.borrow_mut());
        drop(variables);
    }
}
