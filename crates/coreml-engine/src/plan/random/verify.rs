//! What holds of a graph after every pass.

use std::collections::HashSet;

use crate::graph::{Block, Graph, Node, Origin, Run, Work};
use crate::ids::{Operand, ValueId};
use crate::op::{Arrangement, Frame, Inputs};
use crate::value::{Storage, count};

/// Checks a graph: values are defined once and before they are read, types are those that operations
/// infer, views lie inside what they are views of, and, after legalising, operations read their
/// operands as they are held.
pub(super) fn verify(graph: &Graph, is_legal: bool) -> Result<(), String> {
    let mut walk = Walk { graph, is_legal, defined: HashSet::new() };
    walk.block(&graph.body)?;
    graph.values.ids().try_for_each(|value| lies_inside(graph, value))
}

struct Walk<'a> {
    graph: &'a Graph,
    is_legal: bool,
    defined: HashSet<ValueId>,
}

impl Walk<'_> {
    fn block(&mut self, block: &Block) -> Result<(), String> {
        for node in &block.nodes {
            let named = |error| format!("`{}`: {error}", node.source.name);
            self.node(node).map_err(named)?;
        }
        self.read(&block.results)
    }

    /// A block whose values others do not see.
    fn nested(&mut self, block: &Block) -> Result<(), String> {
        let outside = self.defined.clone();
        self.block(block)?;
        self.defined = outside;
        Ok(())
    }

    fn node(&mut self, node: &Node) -> Result<(), String> {
        match &node.work {
            Work::Run(run) => {
                self.read(&run.inputs)?;
                self.types(run)?;
                if self.is_legal {
                    self.forms(run)?;
                }
                run.outputs.iter().try_for_each(|&output| self.define(output))
            }
            Work::ReadState { value, .. } => self.define(*value),
            Work::WriteState { data, .. } => self.read(&[*data]),
            Work::While(work) => {
                work.variables.iter().try_for_each(|variable| self.read(&[variable.initial]))?;
                work.variables.iter().try_for_each(|variable| self.define(variable.value))?;
                self.nested(&work.condition)?;
                self.nested(&work.body)?;
                let results = work.variables.iter().zip(&work.body.results);
                results.into_iter().try_for_each(|(variable, &result)| {
                    self.same_type(result, variable.value)?;
                    self.same_type(variable.initial, variable.value)
                })
            }
            Work::Cond(work) => {
                self.read(&[work.predicate])?;
                for branch in &work.branches {
                    self.nested(branch)?;
                    let results = branch.results.iter().zip(&work.outputs);
                    results
                        .into_iter()
                        .try_for_each(|(&result, &to)| self.same_type(result, to))?;
                }
                work.outputs.iter().try_for_each(|&output| self.define(output))
            }
        }
    }

    fn define(&mut self, value: ValueId) -> Result<(), String> {
        match self.defined.insert(value) {
            true => Ok(()),
            false => Err(format!("v{value:?} is defined twice")),
        }
    }

    fn read(&self, operands: &[Operand]) -> Result<(), String> {
        for operand in operands {
            let Operand::Value(value) = *operand else { continue };
            let mut next = Some(value);
            while let Some(value) = next {
                let origin = &self.graph.values[value].origin;
                let given = matches!(origin, Origin::Input(_) | Origin::State(_));
                if !given && !self.defined.contains(&value) {
                    return Err(format!("v{value:?} is read before it is defined"));
                }
                next = match origin {
                    Origin::View { of, .. } | Origin::Open { of } => Some(*of),
                    _ => None,
                };
            }
        }
        Ok(())
    }

    /// A value that is copied to another.
    fn same_type(&self, from: Operand, to: ValueId) -> Result<(), String> {
        let to = Operand::Value(to);
        let (a, b) = (self.graph.kind(from), self.graph.kind(to));
        let shapes = (self.graph.shape(from), self.graph.shape(to));
        let same_shape = shapes.1.is_none() || shapes.0 == shapes.1;
        if a.0 == b.0 && same_shape && (!self.is_legal || a.1 == b.1) {
            return Ok(());
        }
        Err(format!("{from} of {a:?}, {:?} becomes {to} of {b:?}, {:?}", shapes.0, shapes.1))
    }

    fn types(&self, run: &Run) -> Result<(), String> {
        let types = match run.op.infer(&Inputs::new(&run.inputs, self.graph)) {
            Ok(types) => types,
            Err(crate::error::OpError::NotYetKnown) => return Ok(()),
            Err(error) => return Err(format!("{:?}: {error}", run.op)),
        };
        for (&output, ty) in run.outputs.iter().zip(&types) {
            let value = &self.graph.values[output];
            let same = value.element == ty.element
                && value.shape.as_ref().is_none_or(|shape| *shape == ty.shape);
            if !same {
                return Err(format!("{:?} gives {ty:?}, not {value:?}", run.op));
            }
        }
        Ok(())
    }

    /// Whether an operation reads its operands as they are held.
    fn forms(&self, run: &Run) -> Result<(), String> {
        for (input, &operand) in run.inputs.iter().enumerate() {
            let half = self.graph.kind(operand).1 == Storage::F16;
            let dense = self.graph.arrangement(operand) == Arrangement::Dense;
            let packed = self.graph.constant(operand).filter(|constant| constant.is_compressed());
            let reads = match packed {
                Some(constant) => run.op.reads_compressed(input, constant),
                None => !half || run.op.reads_half(input),
            };
            if !reads || !dense && !run.op.reads_strided(input) {
                return Err(format!("{:?} does not read {operand} as it is held", run.op));
            }
        }
        match run.in_place.map(|input| run.inputs[input]) {
            Some(Operand::Value(input)) => {
                let output = self.graph.root(run.outputs[0]);
                let same = self.graph.root(input) == output;
                if same { Ok(()) } else { Err(format!("v{input:?} is not where v{output:?} is")) }
            }
            Some(constant) => Err(format!("in place of {constant}")),
            None => Ok(()),
        }
    }
}

/// Whether a view's elements are elements of what it is a view of.
fn lies_inside(graph: &Graph, value: ValueId) -> Result<(), String> {
    let Origin::View { view, .. } = &graph.values[value].origin else { return Ok(()) };
    let Some(shape) = graph.values[value].shape.as_ref().filter(|shape| count(shape) > 0) else {
        return Ok(());
    };
    let Some((root, start)) = graph.place(value) else { return Ok(()) };
    let Some(whole) = &graph.values[root].shape else { return Ok(()) };
    let (mut first, mut last) = (start, start);
    for (&size, &stride) in shape.iter().zip(&view.strides) {
        let reach = (size as isize - 1) * stride;
        first += reach.min(0);
        last += reach.max(0);
    }
    let inside = first >= 0 && last < count(whole) as isize;
    if inside {
        Ok(())
    } else {
        Err(format!("v{value:?} reaches from {first} to {last} of v{root:?}"))
    }
}
