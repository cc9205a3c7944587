//! From a function and its input shapes to steps: resolves names, folds constants, binds
//! operations, infers shapes.

use std::collections::HashMap;

use coreml_format::mil::{Argument, Binding, Function, NamedValueType, Operation, ValueType};

use super::constants::Weights;
use super::draft::{Draft, Origin, SlotDraft};
use super::{Block, Plan, PlanState, Step, Work, fuse, memory, states};
use crate::error::{Error, Result};
use crate::ops::{Bound, Frame, OpError, Operand, Scratch};
use crate::value::{Constant, Shape, Storage};

/// Makes the plan of a function for inputs of these shapes (in the order of the function's
/// tensor inputs).
///
/// Without `optimise` nothing is shared: no views, no work in place, a buffer for each value. The
/// results are the same, bit for bit, which is what that is for: tests compare the two.
pub(crate) fn build(
    name: &str,
    function: &Function,
    input_shapes: &[Shape],
    weights: &Weights,
    optimise: bool,
) -> Result<Plan> {
    let mut builder = Builder::new(name, function, weights, optimise);
    builder.declare_inputs(&function.inputs, input_shapes)?;
    let steps = builder.block(&function.block.operations)?;
    let mut outputs = Vec::new();
    for output in &function.block.outputs {
        outputs.push((output.clone(), builder.named(output)?));
    }
    let mut draft = builder.draft;
    let mut body = Block { steps, results: outputs.iter().map(|(_, operand)| *operand).collect() };
    if optimise {
        fuse::absorb_repeats(&mut body, &mut draft);
        fuse::drop_unneeded(&mut body, &draft);
    }
    states::resolve(&mut body, &mut draft, optimise);
    Ok(memory::assign(draft, body, outputs, optimise))
}

/// Makes the steps of a function.
pub(super) struct Builder<'a> {
    pub(super) name: &'a str,
    pub(super) function: &'a Function,
    pub(super) weights: &'a Weights,
    /// Whether results may be views of inputs.
    pub(super) optimise: bool,
    pub(super) draft: Draft,
    /// Values by name, one map a nested block.
    pub(super) scopes: Vec<HashMap<&'a str, Operand>>,
    state_names: HashMap<&'a str, usize>,
    pub(super) widened: HashMap<usize, usize>,
    pub(super) scratch: Scratch,
}

impl<'a> Builder<'a> {
    fn new(name: &'a str, function: &'a Function, weights: &'a Weights, optimise: bool) -> Self {
        Builder {
            name,
            function,
            weights,
            optimise,
            draft: Draft::default(),
            scopes: vec![HashMap::new()],
            state_names: HashMap::new(),
            widened: HashMap::new(),
            scratch: Scratch::default(),
        }
    }

    fn program_error(&self, message: impl Into<String>) -> Error {
        Error::Program { function: self.name.to_owned(), message: message.into() }
    }

    pub(super) fn operation_error(&self, operation: &Operation, error: &OpError) -> Error {
        Error::Operation {
            function: self.name.to_owned(),
            operation: operation.name().to_owned(),
            operator: operation.operator.clone(),
            message: error.to_string(),
        }
    }

    fn declare_inputs(&mut self, inputs: &'a [NamedValueType], shapes: &[Shape]) -> Result<()> {
        let mut position = 0;
        for input in inputs {
            if let ValueType::State(_) = input.ty {
                self.state_names.insert(&input.name, self.draft.states.len());
                self.draft.states.push(PlanState::new(self.name, input)?);
                continue;
            }
            let kind = input
                .ty
                .as_tensor()
                .and_then(|tensor| Some((tensor.element, Storage::natural(tensor.element)?)));
            let (element, storage) = kind.ok_or_else(|| {
                self.program_error(format!("input `{}` has type {}", input.name, input.ty))
            })?;
            let slot = self.draft.add_slot(SlotDraft {
                element,
                storage,
                shape: shapes.get(position).cloned(),
                origin: Origin::Input(position),
            });
            position += 1;
            self.define(&input.name, Operand::Slot(slot));
        }
        Ok(())
    }

    pub(super) fn define(&mut self, name: &'a str, operand: Operand) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name, operand);
        }
    }

    pub(super) fn named(&self, name: &str) -> Result<Operand> {
        self.scopes
            .iter()
            .rev()
            .find_map(|scope| scope.get(name).copied())
            .ok_or_else(|| self.program_error(format!("value `{name}` is not defined")))
    }

    pub(super) fn add_constant(&mut self, constant: Constant) -> Operand {
        self.draft.constants.push(constant);
        Operand::Constant(self.draft.constants.len() - 1)
    }

    pub(super) fn block(&mut self, operations: &'a [Operation]) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        for operation in operations {
            self.operation(operation, &mut steps)?;
        }
        Ok(steps)
    }

    fn operation(&mut self, operation: &'a Operation, steps: &mut Vec<Step>) -> Result<()> {
        match operation.operator.as_str() {
            "const" => self.constant(operation),
            "read_state" => self.read_state(operation, steps),
            "write_state" => self.write_state(operation, steps, "input", "data"),
            "coreml_update_state" => {
                self.write_state(operation, steps, "state", "value")?;
                self.read_state(operation, steps)
            }
            "while_loop" => self.while_loop(operation, steps),
            "cond" => self.cond(operation, steps),
            _ => self.plain(operation, steps),
        }
    }

    pub(super) fn bound(&mut self, argument: &'a Argument) -> Result<Bound> {
        let mut bound = Bound::new();
        for binding in &argument.0 {
            bound.push(match binding {
                Binding::Name(name) => self.named(name)?,
                Binding::Value(value) => {
                    let constant = self.weights.constant(value)?;
                    self.add_constant(constant)
                }
            });
        }
        Ok(bound)
    }

    pub(super) fn argument(&mut self, operation: &'a Operation, name: &str) -> Result<Operand> {
        let missing = || self.operation_error(operation, &OpError::Missing(name.to_owned()));
        let argument = operation.inputs.get(name).ok_or_else(missing)?;
        match self.bound(argument)?.as_slice() {
            [operand] => Ok(*operand),
            bound => {
                let got = format!("{} values", bound.len());
                Err(self.operation_error(operation, &OpError::argument(name, "one value", got)))
            }
        }
    }

    fn constant(&mut self, operation: &'a Operation) -> Result<()> {
        let value = operation.inputs.get("val").and_then(|argument| match argument.0.as_slice() {
            [Binding::Value(value)] => Some(value),
            _ => None,
        });
        let (Some(value), [output]) = (value, operation.outputs.as_slice()) else {
            let error = OpError::invalid("a constant needs one value `val` and one output");
            return Err(self.operation_error(operation, &error));
        };
        let constant = self.weights.constant(value).map_err(|error| match error {
            Error::Program { message, .. } => {
                self.operation_error(operation, &OpError::Invalid(message))
            }
            other => other,
        })?;
        let operand = self.add_constant(constant);
        self.define(&output.name, operand);
        Ok(())
    }

    fn state(&self, operation: &'a Operation, argument: &str) -> Result<usize> {
        let name =
            operation.inputs.get(argument).and_then(|argument| match argument.0.as_slice() {
                [Binding::Name(name)] => Some(name.as_str()),
                _ => None,
            });
        let state = name.and_then(|name| self.state_names.get(name)).copied();
        state.ok_or_else(|| {
            let error = OpError::argument(
                argument,
                "a state of the function",
                name.map_or("none".to_owned(), |name| format!("`{name}`")),
            );
            self.operation_error(operation, &error)
        })
    }

    fn read_state(&mut self, operation: &'a Operation, steps: &mut Vec<Step>) -> Result<()> {
        let argument = if operation.operator == "read_state" { "input" } else { "state" };
        let state = self.state(operation, argument)?;
        let Some(output) = operation.outputs.first() else { return Ok(()) };
        let declared = &self.draft.states[state];
        let slot = SlotDraft {
            element: declared.element,
            storage: declared.storage,
            shape: Some(declared.shape.clone()),
            origin: Origin::State(state),
        };
        let slot = self.draft.add_slot(slot);
        self.define(&output.name, Operand::Slot(slot));
        steps.push(step(operation, Work::ReadState { state, slot }));
        Ok(())
    }

    fn write_state(
        &mut self,
        operation: &'a Operation,
        steps: &mut Vec<Step>,
        state_argument: &str,
        data_argument: &str,
    ) -> Result<()> {
        let state = self.state(operation, state_argument)?;
        let data = self.argument(operation, data_argument)?;
        let declared = &self.draft.states[state];
        let (element, _) = self.draft.kind(data);
        let shape = self.draft.shape(data);
        if element != declared.element || shape.is_some_and(|shape| shape != &declared.shape[..]) {
            let error = OpError::argument(
                data_argument,
                format!("`{}` of shape {:?}", declared.element, declared.shape.as_slice()),
                format!("`{element}` of shape {:?}", shape.unwrap_or_default()),
            );
            return Err(self.operation_error(operation, &error));
        }
        let data = self.densified(operation, data)?;
        steps.push(step(operation, Work::WriteState { state, data }));
        Ok(())
    }

    /// A constant operand in dense form, whatever it was.
    pub(super) fn densified(&mut self, operation: &Operation, operand: Operand) -> Result<Operand> {
        match self.draft.constant(operand) {
            Some(constant) if constant.is_compressed() => {
                let dense = self.weights.dense(&constant.clone(), true);
                let dense = dense.map_err(|error| self.operation_error(operation, &error))?;
                Ok(self.add_constant(dense))
            }
            _ => Ok(operand),
        }
    }
}

/// A step with an operation's names.
pub(super) fn step(operation: &Operation, work: Work) -> Step {
    Step { name: operation.name().to_owned(), operator: operation.operator.clone(), work }
}
