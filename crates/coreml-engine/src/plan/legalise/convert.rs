//! Operands in forms that their readers take.

use std::collections::HashMap;

use super::{named, result_storage};
use crate::error::{Error, OpError, Result};
use crate::graph::{Block, Graph, Node, Origin, Run, Source, Value, Work, nested_mut};
use crate::ids::{Operand, ValueId};
use crate::op::{Frame, Op};
use crate::ops::Widen;
use crate::value::{Constant, Storage};
use crate::weights::{Form, Weights};

/// A constant as an operation reads it.
pub(crate) fn readable_constant(
    op: &dyn Op,
    input: usize,
    constant: &Constant,
    weights: &Weights,
) -> Result<Constant, OpError> {
    let half = op.reads_half(input);
    if constant.is_compressed() {
        if op.reads_compressed(input, constant) {
            return Ok(constant.clone());
        }
        return weights.form(constant, if half { Form::Dense } else { Form::Wide });
    }
    if constant.storage() == Some(Storage::F16) && !half {
        return weights.form(constant, Form::Wide);
    }
    Ok(constant.clone())
}

/// Gives the operations of a graph their operands in forms that they read.
pub(super) struct Converter<'a> {
    function: &'a str,
    graph: &'a mut Graph,
    weights: &'a Weights,
    /// The widened copy of each value that has one, made outside nested blocks.
    widened: HashMap<ValueId, ValueId>,
}

impl<'a> Converter<'a> {
    pub(super) fn new(function: &'a str, graph: &'a mut Graph, weights: &'a Weights) -> Self {
        Converter { function, graph, weights, widened: HashMap::new() }
    }

    /// Converts the operands of a block's nodes. What nested blocks widen stays theirs: they may run
    /// never or often.
    pub(super) fn block(&mut self, block: &mut Block, outermost: bool) -> Result<()> {
        let nodes = std::mem::take(&mut block.nodes);
        for mut node in nodes {
            self.node(&mut node, outermost, &mut block.nodes)
                .map_err(|error| named(self.function, &node, error))?;
            for inner in nested_mut(&mut node) {
                self.block(inner, false)?;
            }
            block.nodes.push(node);
        }
        let source = Source { name: String::new(), operator: "block".to_owned() };
        for result in &mut block.results {
            let readable = match outermost {
                true => self.expanded(*result),
                false => self.natural(*result, false, &source, &mut block.nodes),
            };
            *result = readable.map_err(|error| Error::Function {
                function: self.function.to_owned(),
                source: error,
            })?;
        }
        Ok(())
    }

    fn node(
        &mut self,
        node: &mut Node,
        outermost: bool,
        before: &mut Vec<Node>,
    ) -> Result<(), OpError> {
        let source = node.source.clone();
        match &mut node.work {
            Work::Run(run) => self.run(run, outermost, &source, before),
            Work::ReadState { .. } => Ok(()),
            Work::WriteState { data, .. } => {
                *data = self.expanded(*data)?;
                Ok(())
            }
            Work::While(work) => {
                for variable in &mut work.variables {
                    variable.initial =
                        self.natural(variable.initial, outermost, &source, before)?;
                }
                Ok(())
            }
            Work::Cond(_) => Ok(()),
        }
    }

    fn run(
        &mut self,
        run: &mut Run,
        outermost: bool,
        source: &Source,
        before: &mut Vec<Node>,
    ) -> Result<(), OpError> {
        for (input, operand) in run.inputs.iter_mut().enumerate() {
            if let Operand::Constant(id) = *operand {
                let constant = self.graph.constant_of(id).clone();
                // Strings are read as they are.
                if constant.storage().is_some() {
                    *operand = self.readable(run.op.as_ref(), input, *operand, &constant)?;
                }
            } else if !run.op.reads_half(input) {
                *operand = self.widen(*operand, outermost, source, before);
            }
        }
        for &output in &run.outputs {
            if self.graph.values[output].origin != Origin::List {
                let element = self.graph.values[output].element;
                let storage = result_storage(run.op.as_ref(), &run.inputs, self.graph, element)?;
                self.graph.values[output].storage = storage;
            }
        }
        Ok(())
    }

    /// A constant operand in a form that the operation reads.
    fn readable(
        &mut self,
        op: &dyn Op,
        input: usize,
        operand: Operand,
        constant: &Constant,
    ) -> Result<Operand, OpError> {
        let readable = readable_constant(op, input, constant, self.weights)?;
        let same = readable.kind() == constant.kind()
            && readable.is_compressed() == constant.is_compressed();
        Ok(if same { operand } else { self.graph.add_constant(readable) })
    }

    /// An operand that is not compressed.
    fn expanded(&mut self, operand: Operand) -> Result<Operand, OpError> {
        match self.graph.constant(operand).filter(|constant| constant.is_compressed()) {
            Some(constant) => {
                let dense = self.weights.form(&constant.clone(), Form::Dense)?;
                Ok(self.graph.add_constant(dense))
            }
            None => Ok(operand),
        }
    }

    /// An operand in natural storage: dense and, for floats, `F32`.
    fn natural(
        &mut self,
        operand: Operand,
        outermost: bool,
        source: &Source,
        before: &mut Vec<Node>,
    ) -> Result<Operand, OpError> {
        match operand {
            Operand::Constant(id) => {
                let constant = self.graph.constant_of(id).clone();
                if constant.is_compressed() || constant.storage() == Some(Storage::F16) {
                    let wide = self.weights.form(&constant, Form::Wide)?;
                    return Ok(self.graph.add_constant(wide));
                }
                Ok(operand)
            }
            Operand::Value(_) => Ok(self.widen(operand, outermost, source, before)),
        }
    }

    /// The value itself, or a widened copy of it when it is held as `F16`.
    fn widen(
        &mut self,
        operand: Operand,
        outermost: bool,
        source: &Source,
        before: &mut Vec<Node>,
    ) -> Operand {
        let Operand::Value(value) = operand else { return operand };
        if self.graph.values[value].storage != Storage::F16 {
            return operand;
        }
        if let Some(&wide) = self.widened.get(&value).filter(|_| outermost) {
            return Operand::Value(wide);
        }
        let narrow = &self.graph.values[value];
        let wide = Value { storage: Storage::F32, origin: Origin::Own, ..narrow.clone() };
        let wide = self.graph.values.add(wide);
        let run = Run::new(Box::new(Widen), vec![operand], [wide]);
        before.push(Node { source: source.clone(), work: Work::Run(run) });
        if outermost {
            self.widened.insert(value, wide);
        }
        Operand::Value(wide)
    }
}
