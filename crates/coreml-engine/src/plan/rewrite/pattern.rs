//! Patterns of operations, written as the expressions that they match.

use crate::graph::{Node, Run};
use crate::ids::Operand;
use crate::op::Op;

use super::Producers;

/// An operation with what it reads, or any operand.
pub(crate) struct Pattern {
    name: &'static str,
    shape: Shape,
}

enum Shape {
    Any,
    Op {
        is: Box<Test>,
        inputs: Inputs,
    },
    /// The first one that matches.
    FirstOf(Vec<Pattern>),
}

/// What has to hold of an operation.
type Test = dyn Fn(&dyn Op) -> bool;

enum Inputs {
    /// Whatever it reads.
    Free,
    /// These inputs by number, others free.
    Some(Vec<(usize, Pattern)>),
    /// These two inputs, in either order.
    EitherOrder(Box<[Pattern; 2]>),
}

/// Any operand. A name that stands more than once means the same operand.
pub(crate) fn any(name: &'static str) -> Pattern {
    Pattern { name, shape: Shape::Any }
}

/// The first of these that matches, each of which is an operation.
pub(crate) fn first_of(patterns: impl IntoIterator<Item = Pattern>) -> Pattern {
    Pattern { name: "", shape: Shape::FirstOf(patterns.into_iter().collect()) }
}

/// An operation of a kind of which `is` holds.
pub(crate) fn op<T: Op>(name: &'static str, is: impl Fn(&T) -> bool + 'static) -> Pattern {
    let is = move |op: &dyn Op| op.downcast::<T>().is_some_and(&is);
    Pattern { name, shape: Shape::Op { is: Box::new(is), inputs: Inputs::Free } }
}

impl Pattern {
    /// The operation where its input `number` matches.
    pub(crate) fn reading(mut self, number: usize, pattern: Pattern) -> Self {
        if let Shape::Op { inputs, .. } = &mut self.shape {
            match inputs {
                Inputs::Some(some) => some.push((number, pattern)),
                _ => *inputs = Inputs::Some(vec![(number, pattern)]),
            }
        }
        self
    }

    /// The operation of two inputs that match these, in either order.
    pub(crate) fn of_both(mut self, one: Pattern, other: Pattern) -> Self {
        if let Shape::Op { inputs, .. } = &mut self.shape {
            *inputs = Inputs::EitherOrder(Box::new([one, other]));
        }
        self
    }

    /// What the pattern finds at an operation whose inputs are made by `nodes`.
    pub(crate) fn matches<'n>(
        &self,
        run: &'n Run,
        nodes: &'n [Node],
        producers: &Producers,
    ) -> Option<Match<'n>> {
        let mut found = Match { runs: Vec::new(), operands: Vec::new() };
        self.run(run, nodes, producers, &mut found).then_some(found)
    }

    fn run<'n>(
        &self,
        run: &'n Run,
        nodes: &'n [Node],
        producers: &Producers,
        found: &mut Match<'n>,
    ) -> bool {
        let (is, inputs) = match &self.shape {
            Shape::Any => return false,
            Shape::FirstOf(patterns) => {
                return found
                    .first(patterns, |pattern, found| pattern.run(run, nodes, producers, found));
            }
            Shape::Op { is, inputs } => (is, inputs),
        };
        if !is(run.op.as_ref()) {
            return false;
        }
        found.runs.push((self.name, run));
        match inputs {
            Inputs::Free => true,
            Inputs::Some(some) => some.iter().all(|(number, pattern)| {
                run.inputs
                    .get(*number)
                    .is_some_and(|&operand| pattern.operand(operand, nodes, producers, found))
            }),
            Inputs::EitherOrder(patterns) => {
                let [one, other] = &**patterns;
                let &[x, y] = run.inputs.as_slice() else { return false };
                found.first(&[(x, y), (y, x)], |&(first, second), found| {
                    one.operand(first, nodes, producers, found)
                        && other.operand(second, nodes, producers, found)
                })
            }
        }
    }

    fn operand<'n>(
        &self,
        operand: Operand,
        nodes: &'n [Node],
        producers: &Producers,
        found: &mut Match<'n>,
    ) -> bool {
        match &self.shape {
            Shape::Any => match found.operands.iter().find(|(name, _)| *name == self.name) {
                Some((_, earlier)) => *earlier == operand,
                None => {
                    found.operands.push((self.name, operand));
                    true
                }
            },
            Shape::Op { .. } | Shape::FirstOf(_) => match producers.of(operand, nodes) {
                Some(run) => self.run(run, nodes, producers, found),
                None => false,
            },
        }
    }
}

/// What a pattern found, by the pattern's names.
pub(crate) struct Match<'n> {
    runs: Vec<(&'static str, &'n Run)>,
    operands: Vec<(&'static str, Operand)>,
}

impl<'n> Match<'n> {
    /// Whether one of several ways to match is one; what others found on the way is forgotten.
    fn first<T>(&mut self, ways: &[T], matches: impl Fn(&T, &mut Self) -> bool) -> bool {
        let before = (self.runs.len(), self.operands.len());
        ways.iter().any(|way| {
            self.runs.truncate(before.0);
            self.operands.truncate(before.1);
            matches(way, self)
        })
    }

    /// The operation of this name.
    pub(crate) fn run(&self, name: &str) -> Option<&'n Run> {
        self.runs.iter().find(|found| found.0 == name).map(|found| found.1)
    }

    /// The operation of this name, as what it is.
    pub(crate) fn op<T: Op>(&self, name: &str) -> Option<&'n T> {
        self.run(name)?.op.downcast()
    }

    /// The operand of this name.
    pub(crate) fn operand(&self, name: &str) -> Option<Operand> {
        self.operands.iter().find(|found| found.0 == name).map(|found| found.1)
    }
}
