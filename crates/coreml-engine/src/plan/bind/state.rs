//! Reads and writes of states.

use coreml_format::mil::{Binding, Operation};

use super::{Failure, FunctionBinder, node};
use crate::error::OpError;
use crate::graph::{Node, Origin, Value, Work};
use crate::ids::{Operand, StateId};
use crate::op::{Frame, one};
use crate::value::Shape;

impl<'a> FunctionBinder<'a> {
    fn state(&self, operation: &'a Operation, argument: &str) -> Result<StateId, OpError> {
        let name =
            operation.inputs.get(argument).and_then(|argument| match argument.0.as_slice() {
                [Binding::Name(name)] => Some(name.as_str()),
                _ => None,
            });
        let state = name.and_then(|name| self.states.get(name)).copied();
        state.ok_or_else(|| {
            let got = name.map_or("none".to_owned(), |name| format!("`{name}`"));
            OpError::argument(argument, "a state of the function", got)
        })
    }

    pub(super) fn read_state(
        &mut self,
        operation: &'a Operation,
        argument: &str,
        nodes: &mut Vec<Node>,
    ) -> Result<(), Failure> {
        let state = self.state(operation, argument)?;
        let declared = self.graph.states[state].clone();
        self.check_types(operation, None, &one(declared.element, declared.shape.clone())?)?;
        let Some(output) = operation.outputs.first() else { return Ok(()) };
        let value = Value {
            name: output.name.clone(),
            element: declared.element,
            storage: declared.storage,
            shape: Some(declared.shape),
            declared: None,
            origin: Origin::State(state),
        };
        let value = self.graph.values.add(value);
        self.define(&output.name, Operand::Value(value));
        nodes.push(node(operation, Work::ReadState { state, value }));
        Ok(())
    }

    pub(super) fn write_state(
        &mut self,
        operation: &'a Operation,
        state_argument: &str,
        data_argument: &str,
        nodes: &mut Vec<Node>,
    ) -> Result<(), Failure> {
        let state = self.state(operation, state_argument)?;
        let data = self.argument(operation, data_argument)?;
        let declared = &self.graph.states[state];
        let (element, _) = self.graph.kind(data);
        let shape = self.graph.shape(data).map(Shape::from);
        if element != declared.element || shape.as_ref().is_some_and(|s| *s != declared.shape) {
            let error = OpError::argument(
                data_argument,
                format!("`{}` of shape {:?}", declared.element, declared.shape.as_slice()),
                format!("`{element}` of shape {:?}", shape.unwrap_or_default().as_slice()),
            );
            return Err(error.into());
        }
        nodes.push(node(operation, Work::WriteState { state, data }));
        Ok(())
    }
}
