//! Steps that read and write states, and steps with nested blocks.

use std::collections::BTreeMap;

use coreml_format::mil::{
    Argument, Binding, Block, Dimension, ElementType, NamedValueType, Operation, TensorType,
};

use super::RUNS;
use super::builder::{Builder, Pooled, Slot};
use super::constants::int;
use super::recipe::{Choices, Step};
use crate::value::Shape;

impl Builder<'_> {
    pub(super) fn steps(&mut self, steps: &[Step]) {
        for step in steps {
            match step {
                Step::Operation(seed) => self.operation(*seed, false),
                Step::Movement(seed) => self.operation(*seed, true),
                // The others are left out where they find nothing to work on.
                Step::Part(seed) => self.part(*seed).unwrap_or_default(),
                Step::State(seed) => self.state(*seed).unwrap_or_default(),
                Step::Idiom(seed) => self.idiom(*seed).unwrap_or_default(),
                Step::Cond(seed, yes, no) => {
                    self.scoped(|builder| builder.cond(*seed, yes, no)).unwrap_or_default();
                }
                Step::While(seed, body) => {
                    self.scoped(|builder| builder.while_loop(*seed, body)).unwrap_or_default();
                }
            }
        }
    }

    /// Reads or writes a state, or both, or changes a part of what was read.
    fn state(&mut self, seed: u64) -> Option<()> {
        let mut choices = Choices::new(seed);
        let state = choices.of(&self.states)?.clone();
        let ty = state.ty.as_tensor()?.clone();
        let kind = choices.below(6);
        let there = self.pick(&mut choices, |value| value.ty == ty).filter(|_| kind > 3);
        let data = match there {
            Some(data) => {
                if choices.one_in(2) {
                    // The old content, which a later operation may read.
                    self.read_state(&state, &ty, "read_state", BTreeMap::new(), &mut choices)?;
                }
                data
            }
            None => self.read_state(&state, &ty, "read_state", BTreeMap::new(), &mut choices)?,
        };
        let data = match kind {
            0 => return Some(()),
            1..=3 => self.part_of(data, true, &mut choices)?,
            _ => data,
        };
        if kind == 1 || self.pool[data].ty != ty {
            return Some(());
        }
        let data = self.argument(&[Slot::Pooled(data)]);
        if choices.one_in(2) {
            let inputs = [("input".to_owned(), named(&state)), ("data".to_owned(), data)];
            self.push("write_state", inputs.into(), Vec::new(), Vec::new());
        } else {
            let inputs = BTreeMap::from([("value".to_owned(), data)]);
            self.read_state(&state, &ty, "coreml_update_state", inputs, &mut choices)?;
        }
        Some(())
    }

    /// An operation that gives a state's content.
    fn read_state(
        &mut self,
        state: &NamedValueType,
        ty: &TensorType,
        operator: &str,
        mut inputs: BTreeMap<String, Argument>,
        choices: &mut Choices,
    ) -> Option<usize> {
        let shape = Shape::from(ty.fixed_shape()?);
        let shapes = std::array::from_fn(|_| shape.clone());
        let index = self.add_value("s", ty.element, &shapes, None, choices.number());
        let argument = if operator == "read_state" { "input" } else { "state" };
        inputs.insert(argument.to_owned(), named(state));
        let output = self.named(index);
        self.push(operator, inputs, vec![output], Vec::new());
        Some(index)
    }

    /// A bool: one of the pool, or whether a number is below another.
    fn flag(&mut self, choices: &mut Choices) -> Option<usize> {
        let scalar =
            |value: &Pooled, element| value.ty.element == element && value.ty.shape.is_empty();
        if choices.one_in(2)
            && let Some(found) = self.pick(choices, |value| scalar(value, ElementType::Bool))
        {
            return Some(found);
        }
        let number = self.pick(choices, |value| scalar(value, ElementType::Int32))?;
        let limit = Slot::Constant(int(choices.between(1, 6)));
        let arguments = vec![("x", vec![Slot::Pooled(number)]), ("y", vec![limit])];
        self.call("less", arguments, choices.number())
    }

    /// Adds a step with blocks; what it leaves in the pool where it fails nobody may read.
    fn scoped(&mut self, make: impl FnOnce(&mut Self) -> Option<()>) -> Option<()> {
        let outer = self.pool.len();
        let made = make(self);
        if made.is_none() {
            self.pool.truncate(outer);
        }
        made
    }

    /// The operations that `make` adds, as a block of their own; what they made stays in the pool.
    fn nested(&mut self, make: impl FnOnce(&mut Self)) -> Vec<Operation> {
        let outer = std::mem::take(&mut self.operations);
        make(self);
        std::mem::replace(&mut self.operations, outer)
    }

    /// Takes the values of a block out of the pool.
    fn leave(&mut self, outer: usize) -> Vec<(Pooled, [Shape; RUNS])> {
        let inside = self.values_from(outer);
        self.pool.truncate(outer);
        inside
    }

    fn values_from(&self, first: usize) -> Vec<(Pooled, [Shape; RUNS])> {
        (first..self.pool.len())
            .map(|index| (self.pool[index].clone(), self.shapes(index)))
            .collect()
    }

    /// A branch whose blocks give values of the same types.
    fn cond(&mut self, seed: u64, yes: &[Step], no: &[Step]) -> Option<()> {
        let mut choices = Choices::new(seed);
        let predicate = self.flag(&mut choices)?;
        let taken = self.taken(predicate);
        let outer = self.pool.len();
        let yes = self.nested(|builder| builder.steps(yes));
        let mut of_yes = self.leave(outer);
        let no = self.nested(|builder| builder.steps(no));
        // What is outside can be a result as well.
        let mut of_no = self.values_from(0);
        of_no.extend(self.leave(outer));
        let outside = self.pick(&mut choices, |_| true)?;
        of_yes.push((self.pool[outside].clone(), self.shapes(outside)));
        let mut blocks = [block(yes), block(no)];
        let mut outputs = Vec::new();
        for (value, shapes) in of_yes.iter().rev().take(4) {
            let fits = |(other, others): &&(Pooled, [Shape; RUNS])| {
                let joined = joined(&taken, shapes, others);
                value.ty.element == other.ty.element && joined.is_some() && !other.loose
            };
            let found = of_no.iter().rev().find(fits).filter(|_| !value.loose);
            let Some((other, others)) = found else { continue };
            let result = joined(&taken, shapes, others)?;
            blocks[0].outputs.push(value.name.clone());
            blocks[1].outputs.push(other.name.clone());
            for read in
                self.pool.iter_mut().filter(|it| it.name == value.name || it.name == other.name)
            {
                read.is_read = true;
            }
            let output = self.add_value("c", value.ty.element, &result, None, choices.number());
            let declared = &mut self.pool[output].ty.shape;
            for (axis, dimension) in declared.iter_mut().enumerate() {
                if (0..RUNS).any(|run| shapes[run][axis] != others[run][axis]) {
                    *dimension = Dimension::Unknown;
                }
            }
            outputs.push(output);
        }
        let pred = self.argument(&[Slot::Pooled(predicate)]);
        let outputs = outputs.into_iter().map(|index| self.named(index)).collect();
        self.push("cond", BTreeMap::from([("pred".to_owned(), pred)]), outputs, blocks.into());
        Some(())
    }

    /// Which branch each run takes, if that is known.
    fn taken(&self, predicate: usize) -> Option<[bool; RUNS]> {
        let contents = self.contents(predicate)?;
        Some(contents.map(|constant| {
            constant.tensor().and_then(|flag| flag.scalar_int().ok()).is_some_and(|flag| flag != 0)
        }))
    }

    /// A loop of up to three turns.
    fn while_loop(&mut self, seed: u64, body: &[Step]) -> Option<()> {
        let mut choices = Choices::new(seed);
        let limit = match choices.one_in(2) {
            true => None,
            false => self.pick(&mut choices, |value| {
                value.ty.element == ElementType::Int32 && value.ty.shape.is_empty()
            }),
        };
        let carried: Vec<usize> = (0..choices.below(4))
            .filter_map(|_| {
                self.pick(&mut choices, |value| value.ty.element != ElementType::String)
            })
            .collect();
        let zero = self.constant(int(0), choices.number());
        let initial: Vec<usize> = [zero].into_iter().chain(carried).collect();
        let outer = self.pool.len();
        let variables: Vec<usize> = initial
            .iter()
            .map(|&index| {
                let (shapes, element) = (self.shapes(index), self.pool[index].ty.element);
                self.add_value("i", element, &shapes, None, choices.number())
            })
            .collect();
        let parameters: Vec<NamedValueType> =
            variables.iter().map(|&index| self.named(index)).collect();
        let condition = self.condition(variables[0], limit, &parameters, &mut choices)?;
        self.pool.truncate(outer + variables.len());
        let (body, grows) = self.body(&variables, body, &parameters, &mut choices);
        let inside = self.leave(outer);
        let mut outputs = Vec::new();
        for ((variable, shapes), grows) in inside[..variables.len()].iter().zip(grows) {
            let mark = choices.number();
            let output = self.add_value("w", variable.ty.element, shapes, None, mark);
            self.pool[output].loose = grows;
            self.pool[output].ty = variable.ty.clone();
            outputs.push(self.named(output));
        }
        let slots: Vec<Slot> = initial.into_iter().map(Slot::Pooled).collect();
        let inputs = BTreeMap::from([("loop_vars".to_owned(), self.argument(&slots))]);
        self.push("while_loop", inputs, outputs, vec![condition, body]);
        Some(())
    }

    /// Whether the counter is below a limit, and that below 4.
    fn condition(
        &mut self,
        counter: usize,
        limit: Option<usize>,
        parameters: &[NamedValueType],
        choices: &mut Choices,
    ) -> Option<Block> {
        let most = choices.between(0, 3);
        let mut result = None;
        let operations = self.nested(|builder| {
            let most = Slot::Constant(int(most));
            let limit = limit.and_then(|limit| {
                let arguments = vec![("x", vec![Slot::Pooled(limit)]), ("y", vec![most.clone()])];
                builder.call("minimum", arguments, 1)
            });
            let limit = limit.map_or(most, Slot::Pooled);
            let arguments = vec![("x", vec![Slot::Pooled(counter)]), ("y", vec![limit])];
            result = builder.call("less", arguments, 2);
        });
        let outputs = vec![self.pool[result?].name.clone()];
        Some(Block { inputs: parameters.to_vec(), outputs, operations })
    }

    /// The next values of the variables: of what is made in the body, where it has their type. Also
    /// gives whether the shape of each changes.
    fn body(
        &mut self,
        variables: &[usize],
        steps: &[Step],
        parameters: &[NamedValueType],
        choices: &mut Choices,
    ) -> (Block, Vec<bool>) {
        let mut results = Vec::new();
        let operations = self.nested(|builder| {
            let one = Slot::Constant(int(1));
            let arguments = vec![("x", vec![Slot::Pooled(variables[0])]), ("y", vec![one])];
            results.extend(builder.call("add", arguments, 3));
            builder.steps(steps);
        });
        let made = variables[variables.len() - 1] + 1;
        for &variable in &variables[1..] {
            let ty = &self.pool[variable].ty;
            let fits = |&index: &usize| !self.pool[index].loose && self.pool[index].ty == *ty;
            let new: Vec<usize> = (made..self.pool.len()).filter(fits).collect();
            let found = choices.marked(&new, |index| self.pool[index].mark);
            let found = found.or_else(|| self.pick(choices, |value| value.ty == *ty));
            results.push(found.unwrap_or(variable));
        }
        let outputs = results.iter().map(|&index| self.pool[index].name.clone()).collect();
        let changes = variables.iter().zip(&results);
        let changes = changes.map(|(&from, &to)| self.shapes(from) != self.shapes(to)).collect();
        for index in results {
            self.pool[index].is_read = true;
        }
        (Block { inputs: parameters.to_vec(), outputs, operations }, changes)
    }
}

fn block(operations: Vec<Operation>) -> Block {
    Block { inputs: Vec::new(), outputs: Vec::new(), operations }
}

/// An argument that is a state.
fn named(state: &NamedValueType) -> Argument {
    Argument(vec![Binding::Name(state.name.clone())])
}

/// The shapes of a value that one of two branches gives, in each run.
fn joined(
    taken: &Option<[bool; RUNS]>,
    yes: &[Shape; RUNS],
    no: &[Shape; RUNS],
) -> Option<[Shape; RUNS]> {
    if yes == no {
        return Some(yes.clone());
    }
    let taken = taken.filter(|_| yes[0].len() == no[0].len())?;
    Some(std::array::from_fn(|run| if taken[run] { yes[run].clone() } else { no[run].clone() }))
}
