//! Control flow: `while_loop` and `cond` with their nested blocks.

use std::collections::HashMap;

use coreml_format::mil::{Operation, ValueType};

use super::build::{Builder, step};
use super::draft::{Draft, Origin, SlotDraft};
use super::operation::{PlanError, list_slot, natural};
use super::{Block, Cond, LoopVariable, Step, While, Work};
use crate::error::Result;
use crate::ops::{Frame, OpError, Operand};
use crate::value::Shape;

impl<'a> Builder<'a> {
    fn variable(&mut self, ty: &ValueType, shape: Option<Shape>) -> Result<usize, OpError> {
        let slot = match ty {
            ValueType::List(element, _) => list_slot(element)?,
            ValueType::Tensor(tensor) => SlotDraft {
                element: tensor.element,
                storage: natural(tensor.element)?,
                shape,
                origin: Origin::Own,
            },
            other => return Err(OpError::unsupported(format!("a variable of type {other}"))),
        };
        Ok(self.draft.add_slot(slot))
    }

    pub(super) fn while_loop(
        &mut self,
        operation: &'a Operation,
        steps: &mut Vec<Step>,
    ) -> Result<()> {
        let wrong = |this: &Self, message: &str| {
            this.operation_error(operation, &OpError::invalid(message))
        };
        let argument = operation.inputs.get("loop_vars").ok_or_else(|| {
            self.operation_error(operation, &OpError::Missing("loop_vars".into()))
        })?;
        let mut initial = self.bound(argument)?;
        let [condition, body] = operation.blocks.as_slice() else {
            return Err(wrong(self, "a `while_loop` has two blocks, condition and body"));
        };
        let count = initial.len();
        if condition.inputs.len() != count
            || body.inputs.len() != count
            || body.outputs.len() != count
            || operation.outputs.len() != count
            || condition.outputs.len() != 1
        {
            return Err(wrong(
                self,
                "loop variables, block parameters and results differ in number",
            ));
        }
        for operand in &mut initial {
            *operand = self.natural_operand(operation, *operand, steps)?;
        }
        let shape = |draft: &Draft, operand| draft.shape(operand).map(Shape::from);
        let mut shapes: Vec<Option<Shape>> =
            initial.iter().map(|&operand| shape(&self.draft, operand)).collect();
        loop {
            let (slots, constants) = (self.draft.slots.len(), self.draft.constants.len());
            let mut variables = Vec::with_capacity(count);
            for ((output, &initial), shape) in operation.outputs.iter().zip(&initial).zip(&shapes) {
                let slot = self
                    .variable(&output.ty, shape.clone())
                    .map_err(|error| self.operation_error(operation, &error))?;
                variables.push(LoopVariable { initial, slot });
            }
            let operands: Vec<Operand> =
                variables.iter().map(|variable| Operand::Slot(variable.slot)).collect();
            let condition = self.nested(operation, condition, &operands)?;
            let body = self.nested(operation, body, &operands)?;
            // A variable whose shape changes from turn to turn is sized at run time.
            let mut settled = true;
            for (result, shape) in body.results.iter().zip(&mut shapes) {
                if shape.is_some() && self.draft.shape(*result) != shape.as_deref() {
                    *shape = None;
                    settled = false;
                }
            }
            if settled {
                self.define_outputs(operation, &operands).map_err(|error| match error {
                    PlanError::Op(error) => self.operation_error(operation, &error),
                    PlanError::Whole(error) => error,
                })?;
                let work = While { variables, condition, body };
                steps.push(step(operation, Work::While(Box::new(work))));
                return Ok(());
            }
            self.draft.slots.truncate(slots);
            self.draft.constants.truncate(constants);
        }
    }

    pub(super) fn cond(&mut self, operation: &'a Operation, steps: &mut Vec<Step>) -> Result<()> {
        let predicate = self.argument(operation, "pred")?;
        let [when_true, when_false] = operation.blocks.as_slice() else {
            let error = OpError::invalid("a `cond` has two blocks, for true and for false");
            return Err(self.operation_error(operation, &error));
        };
        let branches =
            [self.nested(operation, when_true, &[])?, self.nested(operation, when_false, &[])?];
        let mut outputs = Vec::with_capacity(operation.outputs.len());
        for (index, output) in operation.outputs.iter().enumerate() {
            let of_branch = |branch: &Block| {
                let operand = branch.results.get(index)?;
                self.draft.shape(*operand).map(Shape::from)
            };
            let (first, second) = (of_branch(&branches[0]), of_branch(&branches[1]));
            let shape = if first == second { first } else { None };
            let slot = self
                .variable(&output.ty, shape)
                .map_err(|error| self.operation_error(operation, &error))?;
            outputs.push(slot);
            self.define(&output.name, Operand::Slot(slot));
        }
        if branches.iter().any(|branch| branch.results.len() != outputs.len()) {
            let error = OpError::invalid("the blocks of a `cond` give other numbers of results");
            return Err(self.operation_error(operation, &error));
        }
        let work = Cond { predicate, branches, outputs };
        steps.push(step(operation, Work::Cond(Box::new(work))));
        Ok(())
    }

    /// A nested block with its parameters bound; its results are in natural storage.
    fn nested(
        &mut self,
        operation: &'a Operation,
        block: &'a coreml_format::mil::Block,
        parameters: &[Operand],
    ) -> Result<Block> {
        self.scopes.push(HashMap::new());
        for (parameter, operand) in block.inputs.iter().zip(parameters) {
            self.define(&parameter.name, *operand);
        }
        let mut steps = self.block(&block.operations)?;
        let mut results = Vec::with_capacity(block.outputs.len());
        for output in &block.outputs {
            let operand = self.named(output)?;
            results.push(self.natural_operand(operation, operand, &mut steps)?);
        }
        self.scopes.pop();
        Ok(Block { steps, results })
    }

    /// An operand in natural storage: dense and, for floats, `F32`.
    fn natural_operand(
        &mut self,
        operation: &Operation,
        operand: Operand,
        steps: &mut Vec<Step>,
    ) -> Result<Operand> {
        let mut operands = [operand];
        let dense = self.densified(operation, operand)?;
        operands[0] = dense;
        self.widen_all(&mut operands, steps)
            .map_err(|error| self.operation_error(operation, &error))?;
        Ok(operands[0])
    }
}
