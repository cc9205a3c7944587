//! Walking a plan's steps in the order in which they run, with a position for each.

use coreml_format::mil::{Dimension, TensorType};

use super::{Block, Step, Work};
use crate::ops::{OpError, Operand, ResultType};

/// A value is read or written at a position.
#[derive(Clone, Copy, Debug)]
pub(super) enum Access {
    Read(Operand),
    Write(usize),
}

/// Every access of a plan in order, and the spans of its loops.
#[derive(Default)]
pub(super) struct Timeline {
    pub(super) accesses: Vec<(usize, Access)>,
    /// First and last position of each loop.
    pub(super) loops: Vec<(usize, usize)>,
    /// Positions of the outermost steps.
    pub(super) steps: Vec<usize>,
    position: usize,
}

impl Timeline {
    pub(super) fn of(block: &Block) -> Self {
        let mut timeline = Timeline::default();
        for step in &block.steps {
            timeline.steps.push(timeline.position);
            timeline.step(step);
        }
        timeline.read(&block.results);
        timeline
    }

    fn read(&mut self, operands: &[Operand]) {
        let position = self.position;
        self.accesses.extend(operands.iter().map(|&operand| (position, Access::Read(operand))));
    }

    fn write(&mut self, slots: impl IntoIterator<Item = usize>) {
        let position = self.position;
        self.accesses.extend(slots.into_iter().map(|slot| (position, Access::Write(slot))));
    }

    /// A block's steps, then one position at which its results are read.
    fn block(&mut self, block: &Block) {
        for step in &block.steps {
            self.step(step);
        }
        self.read(&block.results);
        self.position += 1;
    }

    fn step(&mut self, step: &Step) {
        match &step.work {
            Work::Run(run) => {
                self.read(&run.inputs);
                self.write(run.outputs.iter().copied());
            }
            Work::ReadState { slot, .. } => self.write([*slot]),
            Work::WriteState { data, .. } => self.read(&[*data]),
            Work::While(work) => {
                let initial: Vec<Operand> =
                    work.variables.iter().map(|variable| variable.initial).collect();
                self.read(&initial);
                self.write(work.variables.iter().map(|variable| variable.slot));
                self.position += 1;
                let start = self.position;
                self.block(&work.condition);
                self.block(&work.body);
                let variables: Vec<Operand> =
                    work.variables.iter().map(|variable| Operand::Slot(variable.slot)).collect();
                self.read(&variables);
                self.loops.push((start, self.position));
            }
            Work::Cond(work) => {
                self.read(&[work.predicate]);
                self.position += 1;
                for branch in &work.branches {
                    self.block(branch);
                    self.write(work.outputs.iter().copied());
                    self.position += 1;
                }
            }
        }
        self.position += 1;
    }
}

/// Calls `visit` for every step with its position in the [`Timeline`], nested ones too.
pub(super) fn for_each_step(
    block: &mut Block,
    position: &mut usize,
    visit: &mut dyn FnMut(usize, &mut Step),
) {
    for step in &mut block.steps {
        visit(*position, step);
        match &mut step.work {
            Work::Run(_) | Work::ReadState { .. } | Work::WriteState { .. } => {}
            Work::While(work) => {
                *position += 1;
                for_each_step(&mut work.condition, position, visit);
                for_each_step(&mut work.body, position, visit);
            }
            Work::Cond(work) => {
                *position += 1;
                for branch in &mut work.branches {
                    for_each_step(branch, position, visit);
                    *position += 1;
                }
            }
        }
        *position += 1;
    }
    *position += 1;
}

/// An inferred result type against the declared one.
pub(super) fn check_declared(
    name: &str,
    declared: &TensorType,
    inferred: &ResultType,
) -> Result<(), OpError> {
    let variadic = declared.shape.contains(&Dimension::Variadic);
    let fits = declared.element == inferred.element
        && (variadic
            || declared.shape.len() == inferred.shape.len()
                && declared.shape.iter().zip(&inferred.shape).all(|(declared, &size)| {
                    !matches!(declared, Dimension::Fixed(fixed) if *fixed != size)
                }));
    if fits {
        return Ok(());
    }
    Err(OpError::invalid(format!(
        "the program says that `{name}` is {declared}, but its inputs make it {}",
        TensorType::fixed(inferred.element, &inferred.shape)
    )))
}

#[cfg(test)]
mod tests {
    use coreml_format::mil::ElementType;

    use super::*;

    #[test]
    fn positions_of_both_walks_agree() {
        let leaf = |slot| Step {
            name: String::new(),
            operator: String::new(),
            work: Work::ReadState { state: 0, slot },
        };
        let inner = || Block { steps: vec![leaf(1)], results: vec![] };
        let nested = |work| Step { name: String::new(), operator: String::new(), work };
        let looping = super::super::While {
            variables: vec![],
            condition: inner(),
            body: Block { steps: vec![leaf(2), leaf(3)], results: vec![] },
        };
        let branching = super::super::Cond {
            predicate: Operand::Constant(0),
            branches: [inner(), inner()],
            outputs: vec![],
        };
        let mut block = Block {
            steps: vec![
                leaf(0),
                nested(Work::While(Box::new(looping))),
                nested(Work::Cond(Box::new(branching))),
                leaf(4),
            ],
            results: vec![],
        };
        let of_timeline: Vec<usize> = Timeline::of(&block)
            .accesses
            .iter()
            .filter(|(_, access)| matches!(access, Access::Write(_)))
            .map(|(position, _)| *position)
            .collect();
        let mut of_steps = Vec::new();
        for_each_step(&mut block, &mut 0, &mut |position, step| {
            if matches!(step.work, Work::ReadState { .. }) {
                of_steps.push(position);
            }
        });
        assert_eq!(of_timeline, of_steps);
        assert_eq!(of_steps.len(), 7);
    }

    #[test]
    fn declared_types_bind_where_they_are_fixed() {
        let declared = TensorType {
            element: ElementType::Float16,
            shape: vec![Dimension::Fixed(2), Dimension::Unknown],
        };
        let of = |element, shape: &[usize]| ResultType::new(element, shape);
        assert!(check_declared("y", &declared, &of(ElementType::Float16, &[2, 9])).is_ok());
        assert!(check_declared("y", &declared, &of(ElementType::Float16, &[3, 9])).is_err());
        assert!(check_declared("y", &declared, &of(ElementType::Float16, &[2])).is_err());
        assert!(check_declared("y", &declared, &of(ElementType::Float32, &[2, 9])).is_err());
    }
}
