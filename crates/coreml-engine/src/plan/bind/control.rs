//! Control flow: `while_loop` and `cond` with their nested blocks.

use std::collections::HashMap;

use coreml_format::mil::{self, ElementType, Operation, TensorType, ValueType};

use super::{Failure, FunctionBinder, list_value, node, tensor_value};
use crate::error::OpError;
use crate::graph::{Block, Cond, LoopVariable, Node, Origin, While, Work};
use crate::ids::{Operand, ValueId};
use crate::op::Frame;
use crate::value::Shape;

impl<'a> FunctionBinder<'a> {
    fn variable(
        &mut self,
        name: &str,
        ty: &ValueType,
        shape: Option<Shape>,
    ) -> Result<ValueId, OpError> {
        let value = match ty {
            ValueType::List(element, _) => list_value(name, element)?,
            ValueType::Tensor(tensor) => tensor_value(name, tensor, shape, Origin::Own)?,
            other => return Err(OpError::unsupported(format!("a variable of type {other}"))),
        };
        Ok(self.graph.values.add(value))
    }

    pub(super) fn while_loop(
        &mut self,
        operation: &'a Operation,
        nodes: &mut Vec<Node>,
    ) -> Result<(), Failure> {
        let missing = || OpError::Missing("loop_vars".into());
        let initial = self.bound(operation.inputs.get("loop_vars").ok_or_else(missing)?)?;
        let [condition, body] = operation.blocks.as_slice() else {
            return Err(
                OpError::invalid("a `while_loop` has two blocks, condition and body").into()
            );
        };
        let count = initial.len();
        if condition.inputs.len() != count
            || body.inputs.len() != count
            || body.outputs.len() != count
            || operation.outputs.len() != count
            || condition.outputs.len() != 1
        {
            let message = "loop variables, block parameters and results differ in number";
            return Err(OpError::invalid(message).into());
        }
        let shape = |operand: &Operand| self.graph.shape(*operand).map(Shape::from);
        let mut shapes: Vec<Option<Shape>> = initial.iter().map(shape).collect();
        loop {
            let (values, constants) = (self.graph.values.len(), self.graph.constants.len());
            let mut variables = Vec::with_capacity(count);
            for ((output, &initial), shape) in operation.outputs.iter().zip(&initial).zip(&shapes) {
                let value = self.variable(&output.name, &output.ty, shape.clone())?;
                self.check_becomes(initial, value)?;
                variables.push(LoopVariable { initial, value });
            }
            let operands: Vec<Operand> =
                variables.iter().map(|variable| Operand::Value(variable.value)).collect();
            let condition = self.nested(condition, &operands)?;
            for result in &condition.results {
                self.check_flag("condition", *result)?;
            }
            let body = self.nested(body, &operands)?;
            for (result, variable) in body.results.iter().zip(&variables) {
                self.check_becomes(*result, variable.value)?;
            }
            // A variable whose shape changes from turn to turn is sized at run time.
            let mut settled = true;
            for (result, shape) in body.results.iter().zip(&mut shapes) {
                if shape.is_some() && self.graph.shape(*result) != shape.as_deref() {
                    *shape = None;
                    settled = false;
                }
            }
            if settled {
                self.define_outputs(operation, &operands)?;
                let work = While { variables, condition, body };
                nodes.push(node(operation, Work::While(Box::new(work))));
                return Ok(());
            }
            self.graph.values.truncate(values);
            self.graph.constants.truncate(constants);
        }
    }

    pub(super) fn cond(
        &mut self,
        operation: &'a Operation,
        nodes: &mut Vec<Node>,
    ) -> Result<(), Failure> {
        let predicate = self.argument(operation, "pred")?;
        self.check_flag("pred", predicate)?;
        let [when_true, when_false] = operation.blocks.as_slice() else {
            let message = "a `cond` has two blocks, for true and for false";
            return Err(OpError::invalid(message).into());
        };
        let branches = [self.nested(when_true, &[])?, self.nested(when_false, &[])?];
        let mut outputs = Vec::with_capacity(operation.outputs.len());
        for (index, output) in operation.outputs.iter().enumerate() {
            let of_branch = |branch: &Block| {
                let operand = branch.results.get(index)?;
                self.graph.shape(*operand).map(Shape::from)
            };
            let shapes = branches.each_ref().map(of_branch);
            let shape = if shapes[0] == shapes[1] { shapes[0].clone() } else { None };
            let value = self.variable(&output.name, &output.ty, shape)?;
            let results = branches.iter().filter_map(|branch| branch.results.get(index));
            results.copied().try_for_each(|result| self.check_becomes(result, value))?;
            outputs.push(value);
            self.define(&output.name, Operand::Value(value));
        }
        if branches.iter().any(|branch| branch.results.len() != outputs.len()) {
            let message = "the blocks of a `cond` give other numbers of results";
            return Err(OpError::invalid(message).into());
        }
        let work = Cond { predicate, branches, outputs };
        nodes.push(node(operation, Work::Cond(Box::new(work))));
        Ok(())
    }

    /// Fails unless what an operand gives is what a variable holds: both are lists or neither is, of the
    /// same elements.
    fn check_becomes(&self, operand: Operand, variable: ValueId) -> Result<(), OpError> {
        let words = |operand| {
            let (element, _) = self.graph.kind(operand);
            let kind = if self.graph.is_list(operand) { "a list" } else { "a tensor" };
            format!("{kind} of `{element}`")
        };
        let (given, held) = (words(operand), words(Operand::Value(variable)));
        let name = &self.graph.values[variable].name;
        match given == held {
            true => Ok(()),
            false => Err(OpError::invalid(format!("`{name}` is {held}, and is to become {given}"))),
        }
    }

    /// Fails unless what decides is one bool, as far as that is known.
    fn check_flag(&self, what: &str, operand: Operand) -> Result<(), OpError> {
        let (element, _) = self.graph.kind(operand);
        let shape = self.graph.shape(operand);
        let is_one = shape.is_none_or(|shape| shape.iter().all(|&size| size == 1));
        if element == ElementType::Bool && is_one && !self.graph.is_list(operand) {
            return Ok(());
        }
        let got = match shape {
            Some(shape) => TensorType::fixed(element, shape).to_string(),
            None => element.to_string(),
        };
        Err(OpError::argument(what, "one `bool`", format!("`{got}`")))
    }

    /// A nested block with its parameters bound.
    fn nested(&mut self, block: &'a mil::Block, parameters: &[Operand]) -> Result<Block, Failure> {
        self.scopes.push(HashMap::new());
        for (parameter, operand) in block.inputs.iter().zip(parameters) {
            self.define(&parameter.name, *operand);
        }
        let nodes = self.block(&block.operations)?;
        let mut results = Vec::with_capacity(block.outputs.len());
        for output in &block.outputs {
            results.push(self.named(output)?);
        }
        self.scopes.pop();
        Ok(Block { nodes, results })
    }
}
