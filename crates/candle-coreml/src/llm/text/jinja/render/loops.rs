//! `for`, and what `loop` knows.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use super::{Flow, Renderer, Scope};
use crate::llm::text::jinja::ast::For;
use crate::llm::text::jinja::builtins::Arguments;
use crate::llm::text::jinja::limits::{Fault, MAX_DEPTH, Result};
use crate::llm::text::jinja::value::{Source, Value, attribute, equal};

/// A loop that runs: the variable `loop`.
pub(in crate::llm::text::jinja) struct Loop {
    each: Arc<For>,
    /// The variables around the loop.
    scope: Rc<Scope>,
    source: RefCell<Source>,
    /// Items that were looked at before their turn.
    ahead: RefCell<VecDeque<Value>>,
    index: Cell<usize>,
    current: RefCell<Option<Value>>,
    before: RefCell<Option<Value>>,
    /// What `changed` was called with.
    seen: RefCell<Option<Vec<Value>>>,
    /// How often the loop has called itself.
    recursion: usize,
    depth: usize,
}

impl Loop {
    /// Levels of values within.
    pub(in crate::llm::text::jinja) fn depth(&self) -> usize {
        self.depth
    }

    /// The number of the turn, from 0 on.
    pub(in crate::llm::text::jinja) fn index(&self) -> usize {
        self.index.get()
    }

    /// How many turns there are, if that can be said without looking at conditions.
    pub(in crate::llm::text::jinja) fn known_length(&self) -> Option<usize> {
        let waiting = self.ahead.borrow().len() + self.source.borrow().left();
        self.each.condition.is_none().then_some(self.index() + 1 + waiting)
    }

    /// One of the arguments, in turn.
    pub(in crate::llm::text::jinja) fn cycle(&self, arguments: Arguments) -> Result<Value> {
        let items = arguments.positional("loop.cycle")?;
        let place = self.index().checked_rem(items.len());
        place
            .and_then(|place| items.get(place).cloned())
            .ok_or_else(|| Fault::new("`loop.cycle` needs at least one value"))
    }

    /// Whether the arguments are others than before.
    pub(in crate::llm::text::jinja) fn changed(
        &self,
        renderer: &Renderer,
        arguments: Arguments,
    ) -> Result<bool> {
        let values = arguments.positional("loop.changed")?;
        let mut same = self.seen.borrow().as_ref().is_some_and(|s| s.len() == values.len());
        if same {
            for (a, b) in self.seen.borrow().iter().flatten().zip(&values) {
                same = same && equal(&renderer.budget, a, b)?;
            }
        }
        let before = self.seen.replace(Some(values));
        drop(before);
        Ok(!same)
    }
}

impl Renderer {
    pub(super) fn for_loop(&mut self, each: &Arc<For>, scope: &Rc<Scope>) -> Result<()> {
        let items = self.evaluate(&each.items, scope)?;
        self.turns(each, scope, &items, 0)
    }

    /// The body, once for each item.
    fn turns(
        &mut self,
        each: &Arc<For>,
        scope: &Rc<Scope>,
        items: &Value,
        recursion: usize,
    ) -> Result<()> {
        let source = items.items()?;
        let depth = source.depth() + 1;
        if depth > MAX_DEPTH {
            return Err(Fault::new(format!(
                "values are nested too deep: more than {MAX_DEPTH} levels"
            )));
        }
        let own = Rc::new(Loop {
            each: each.clone(),
            scope: scope.clone(),
            source: RefCell::new(source),
            ahead: RefCell::default(),
            index: Cell::new(0),
            current: RefCell::new(None),
            before: RefCell::new(None),
            seen: RefCell::new(None),
            recursion,
            depth,
        });
        let mut number = 0;
        // As in Jinja: a body that was left by `break` or `continue` has not run.
        let mut ran = false;
        while let Some(item) = self.next_item(&own)? {
            own.index.set(number);
            number += 1;
            let before = own.current.replace(Some(item.clone()));
            own.before.replace(before);
            let turn = Scope::within(scope);
            self.assign(&each.target, item, &turn)?;
            turn.set(self.loop_name.clone(), Value::Loop(own.clone()));
            match self.run(&each.body, &turn)? {
                Flow::Next => ran = true,
                Flow::Continue => {}
                Flow::Break => break,
            }
        }
        // A namespace may hold the loop and be held by it.
        own.current.take();
        own.before.take();
        own.seen.take();
        if !ran {
            self.run_all(&each.otherwise, &Scope::within(scope))?;
        }
        Ok(())
    }

    fn next_item(&mut self, own: &Loop) -> Result<Option<Value>> {
        let waiting = own.ahead.borrow_mut().pop_front();
        if waiting.is_some() { Ok(waiting) } else { self.look_at_next(own) }
    }

    /// The next item for which the loop's condition holds.
    fn look_at_next(&mut self, own: &Loop) -> Result<Option<Value>> {
        loop {
            self.budget.turn()?;
            let item = own.source.borrow_mut().next();
            let (Some(item), Some(condition)) = (&item, &own.each.condition) else {
                return Ok(item);
            };
            let test = Scope::within(&own.scope);
            self.assign(&own.each.target, item.clone(), &test)?;
            if self.evaluate(condition, &test)?.truth() {
                return Ok(Some(item.clone()));
            }
        }
    }

    /// The item behind the present one.
    fn peek(&mut self, own: &Loop) -> Result<Option<Value>> {
        if own.ahead.borrow().is_empty()
            && let Some(item) = self.look_at_next(own)?
        {
            own.ahead.borrow_mut().push_back(item);
        }
        Ok(own.ahead.borrow().front().cloned())
    }

    fn loop_length(&mut self, own: &Loop) -> Result<usize> {
        if let Some(length) = own.known_length() {
            self.budget.steps(1)?;
            return Ok(length);
        }
        while let Some(item) = self.look_at_next(own)? {
            self.budget.bytes(64)?;
            own.ahead.borrow_mut().push_back(item);
        }
        Ok(own.index() + 1 + own.ahead.borrow().len())
    }

    pub(super) fn loop_attribute(&mut self, own: &Rc<Loop>, name: &str) -> Result<Value> {
        let number = |number: usize| Ok(Value::Int(number as i128));
        match name {
            "index" => number(own.index() + 1),
            "index0" => number(own.index()),
            "first" => Ok(Value::Bool(own.index() == 0)),
            "last" => Ok(Value::Bool(self.peek(own)?.is_none())),
            "length" => number(self.loop_length(own)?),
            "revindex" => number(self.loop_length(own)? - own.index()),
            "revindex0" => number(self.loop_length(own)? - own.index() - 1),
            "depth" => number(own.recursion + 1),
            "depth0" => number(own.recursion),
            "previtem" => Ok(own
                .before
                .borrow()
                .clone()
                .unwrap_or_else(|| Value::undefined("there is no previous item"))),
            "nextitem" => {
                let next = self.peek(own)?;
                Ok(next.unwrap_or_else(|| Value::undefined("there is no next item")))
            }
            _ => attribute(&Value::Loop(own.clone()), name),
        }
    }

    /// `loop(items)` of a recursive loop: what the loop writes for other items.
    pub(super) fn recurse(&mut self, own: &Loop, arguments: Arguments) -> Result<Value> {
        let [items] = arguments.bind("loop", ["iterable"], 1)?;
        if !own.each.recursive {
            return Err(Fault::new("only a loop that is marked `recursive` can be called"));
        }
        let items = items.unwrap_or(Value::None);
        let (each, scope) = (own.each.clone(), own.scope.clone());
        self.capture(|renderer| renderer.turns(&each, &scope, &items, own.recursion + 1))
    }
}
