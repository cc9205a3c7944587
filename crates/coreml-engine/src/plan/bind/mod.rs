//! The first pass: from a function of the program to a graph. Names become values, operations are
//! bound to their arguments, types are inferred, and what depends on constants alone is folded.

mod classifier;
mod control;
mod operation;
mod state;

use std::collections::HashMap;

use coreml_format::mil::{
    Argument, Binding, ElementType, Function, NamedValueType, Operation, TensorType, ValueType,
};
use coreml_kernels::Context;

use crate::definitions::{self, Outputs};
use crate::error::{Error, OpError, OperationError, Result};
use crate::graph::{Block, Graph, Node, Origin, Source, StateType, Value, Work};
use crate::ids::{Operand, StateId};
use crate::op::{Bound, ResultType, argument, one};
use crate::plan::{Options, fold::Folder};
use crate::value::{Constant, Shape, Storage};
use crate::weights::{ConstantError, Weights};

/// The graph of a function for inputs of these shapes, in the order of the function's tensor inputs;
/// `None` for one whose shape is known only at run time.
pub(crate) fn bind(
    name: &str,
    function: &Function,
    shapes: &[Option<Shape>],
    weights: &Weights,
    context: &Context,
    options: Options,
) -> Result<Graph> {
    let mut binder = FunctionBinder {
        name,
        function,
        weights,
        graph: Graph::default(),
        scopes: vec![HashMap::new()],
        states: HashMap::new(),
        folder: Folder::new(weights, context, options.precision, options.folds_halves),
        classified: HashMap::new(),
        shapes_declared: true,
    };
    binder.declare_inputs(&function.inputs, shapes)?;
    let nodes = binder.block(&function.block.operations)?;
    let mut results = Vec::with_capacity(function.block.outputs.len());
    for output in &function.block.outputs {
        results.push(match binder.classified.get(output.as_str()) {
            Some(probabilities) => *probabilities,
            None => {
                binder.named(output).map_err(|error| binder.program_error(error.to_string()))?
            }
        });
    }
    binder.graph.body = Block { nodes, results };
    Ok(binder.graph)
}

/// A function on its way to a graph.
struct FunctionBinder<'a> {
    name: &'a str,
    function: &'a Function,
    weights: &'a Weights,
    graph: Graph,
    /// Values by name, one map a nested block.
    scopes: Vec<HashMap<&'a str, Operand>>,
    states: HashMap<&'a str, StateId>,
    folder: Folder<'a>,
    /// What `classify` names, with the probabilities that it is made of: outputs, and nothing else.
    classified: HashMap<&'a str, Operand>,
    /// Cleared by a `select` whose shape `cond` decides: coremltools declares that of `a` and `b`, and
    /// what follows goes by it.
    shapes_declared: bool,
}

/// An error of one operation, which still needs its name, or one that says all.
enum Failure {
    Op(OpError),
    Whole(Error),
}

impl From<OpError> for Failure {
    fn from(error: OpError) -> Self {
        Failure::Op(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Whole(error)
    }
}

impl From<ConstantError> for Failure {
    fn from(error: ConstantError) -> Self {
        match error {
            ConstantError::Format(error) => Failure::Whole(error.into()),
            ConstantError::Value(error) => Failure::Op(error),
        }
    }
}

impl StateType {
    /// The state that a parameter of state type declares.
    ///
    /// # Errors
    /// If it holds something else than numbers or has no fixed shape.
    pub(crate) fn new(function: &str, parameter: &NamedValueType) -> Result<Self> {
        let declared = parameter.ty.as_tensor().and_then(|tensor| {
            StateType::of(&parameter.name, tensor.element, &tensor.fixed_shape()?)
        });
        declared.ok_or_else(|| Error::Program {
            function: function.to_owned(),
            message: format!(
                "state `{}` has type {}; states need numbers and a fixed shape",
                parameter.name, parameter.ty
            ),
        })
    }
}

impl<'a> FunctionBinder<'a> {
    fn program_error(&self, message: impl Into<String>) -> Error {
        Error::Program { function: self.name.to_owned(), message: message.into() }
    }

    fn declare_inputs(
        &mut self,
        inputs: &'a [NamedValueType],
        shapes: &[Option<Shape>],
    ) -> Result<()> {
        let mut position = 0;
        for input in inputs {
            if let ValueType::State(_) = input.ty {
                let state = self.graph.states.add(StateType::new(self.name, input)?);
                self.states.insert(&input.name, state);
                continue;
            }
            let shape = shapes.get(position).cloned().flatten();
            let value = input
                .ty
                .as_tensor()
                .and_then(|ty| tensor_value(&input.name, ty, shape, Origin::Input(position)).ok());
            let value = value.ok_or_else(|| {
                self.program_error(format!("input `{}` has type {}", input.name, input.ty))
            })?;
            position += 1;
            let value = self.graph.values.add(value);
            self.define(&input.name, Operand::Value(value));
        }
        Ok(())
    }

    fn define(&mut self, name: &'a str, operand: Operand) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name, operand);
        }
    }

    fn named(&self, name: &str) -> Result<Operand, OpError> {
        let operand = self.scopes.iter().rev().find_map(|scope| scope.get(name).copied());
        operand.ok_or_else(|| {
            OpError::invalid(match self.states.contains_key(name) {
                true => format!("`{name}` is a state, whose value `read_state` gives"),
                false => format!("value `{name}` is not defined"),
            })
        })
    }

    /// The nodes of some operations.
    fn block(&mut self, operations: &'a [Operation]) -> Result<Vec<Node>> {
        let mut nodes = Vec::new();
        for operation in operations {
            self.operation(operation, &mut nodes).map_err(|failure| match failure {
                Failure::Whole(error) => error,
                Failure::Op(source) => Error::Operation(Box::new(OperationError {
                    function: self.name.to_owned(),
                    operation: operation.name().to_owned(),
                    operator: operation.operator.clone(),
                    source,
                })),
            })?;
        }
        Ok(nodes)
    }

    fn operation(
        &mut self,
        operation: &'a Operation,
        nodes: &mut Vec<Node>,
    ) -> Result<(), Failure> {
        self.check_form(operation)?;
        match operation.operator.as_str() {
            "const" => self.constant(operation),
            "read_state" => self.read_state(operation, "input", nodes),
            "write_state" => self.write_state(operation, "input", "data", nodes),
            "coreml_update_state" => {
                self.write_state(operation, "state", "value", nodes)?;
                self.read_state(operation, "state", nodes)
            }
            "while_loop" => self.while_loop(operation, nodes),
            "cond" => self.cond(operation, nodes),
            "classify" => self.classify(operation),
            _ => self.plain(operation, nodes),
        }
    }

    /// Fails if an operation has what none of its operator has.
    fn check_form(&self, operation: &Operation) -> Result<(), OpError> {
        let has_blocks = matches!(operation.operator.as_str(), "cond" | "while_loop");
        if !has_blocks && !operation.blocks.is_empty() {
            return Err(OpError::invalid("has nested blocks, as only `cond` and `while_loop` do"));
        }
        let definition = definitions::lookup(&operation.operator, self.function.opset);
        let Some(definition) = definition else { return Ok(()) };
        if let Outputs::Fixed(count) = definition.outputs {
            check_count(operation.outputs.len(), count)?;
        }
        operation.inputs.keys().try_for_each(|name| argument(definition, name).map(drop))
    }

    /// The operands that an argument is bound to.
    fn bound(&mut self, argument: &'a Argument) -> Result<Bound, Failure> {
        let mut bound = Bound::new();
        for binding in &argument.0 {
            bound.push(match binding {
                Binding::Name(name) => self.named(name)?,
                Binding::Value(value) => {
                    let constant = self.weights.constant(value)?;
                    self.graph.add_constant(constant)
                }
            });
        }
        Ok(bound)
    }

    /// The one operand of an argument.
    fn argument(&mut self, operation: &'a Operation, name: &str) -> Result<Operand, Failure> {
        let missing = || OpError::Missing(name.to_owned());
        let argument = operation.inputs.get(name).ok_or_else(missing)?;
        match self.bound(argument)?.as_slice() {
            [operand] => Ok(*operand),
            bound => {
                let got = format!("{} values", bound.len());
                Err(OpError::argument(name, "one value", got).into())
            }
        }
    }

    fn constant(&mut self, operation: &'a Operation) -> Result<(), Failure> {
        let value = operation.inputs.get("val").and_then(|argument| match argument.0.as_slice() {
            [Binding::Value(value)] => Some(value),
            _ => None,
        });
        let (Some(value), [output]) = (value, operation.outputs.as_slice()) else {
            return Err(OpError::invalid("a constant needs one value `val` and one output").into());
        };
        let constant = self.weights.constant(value)?;
        self.check_types(operation, None, &one(constant.element, constant.shape.clone())?)?;
        let operand = self.graph.add_constant(constant);
        self.define(&output.name, operand);
        Ok(())
    }

    /// Names an operation's results.
    fn define_outputs(
        &mut self,
        operation: &'a Operation,
        operands: &[Operand],
    ) -> Result<(), OpError> {
        check_count(operation.outputs.len(), operands.len())?;
        for (output, operand) in operation.outputs.iter().zip(operands) {
            self.define(&output.name, *operand);
        }
        Ok(())
    }

    fn define_constants(
        &mut self,
        operation: &'a Operation,
        constants: impl IntoIterator<Item = Constant>,
    ) -> Result<(), OpError> {
        let constants = constants.into_iter();
        let operands: Vec<Operand> =
            constants.map(|constant| self.graph.add_constant(constant)).collect();
        self.define_outputs(operation, &operands)
    }
}

/// A node for an operation.
fn node(operation: &Operation, work: Work) -> Node {
    let source = Source { name: operation.name().to_owned(), operator: operation.operator.clone() };
    Node { source, work }
}

/// A value of tensor type, held as its elements are computed with.
fn tensor_value(
    name: &str,
    ty: &TensorType,
    shape: Option<Shape>,
    origin: Origin,
) -> Result<Value, OpError> {
    Ok(Value {
        name: name.to_owned(),
        element: ty.element,
        storage: natural(ty.element)?,
        shape,
        declared: Some(ty.clone()),
        origin,
    })
}

/// A list of values of this type.
fn list_value(name: &str, element: &ValueType) -> Result<Value, OpError> {
    let tensor = element
        .as_tensor()
        .ok_or_else(|| OpError::unsupported(format!("a list of values of type {element}")))?;
    Ok(Value { declared: None, ..tensor_value(name, tensor, None, Origin::List)? })
}

/// The storage in which an element type is computed.
fn natural(element: ElementType) -> Result<Storage, OpError> {
    Storage::natural(element)
        .ok_or_else(|| OpError::unsupported(format!("a value of type `{element}`")))
}

/// Fails unless an operation has as many results as the program names.
pub(crate) fn check_count(named: usize, results: usize) -> Result<(), OpError> {
    if named == results {
        return Ok(());
    }
    let message = format!("the program names {named} results, the operation has {results}");
    Err(OpError::invalid(message))
}

/// An inferred result type against the declared one.
pub(crate) fn check_declared(
    name: &str,
    declared: &TensorType,
    inferred: &ResultType,
) -> Result<(), OpError> {
    if declared.element == inferred.element && declared.allows(&inferred.shape) {
        return Ok(());
    }
    Err(OpError::invalid(format!(
        "the program says that `{name}` is {declared}, but its inputs make it {}",
        TensorType::fixed(inferred.element, &inferred.shape)
    )))
}

#[cfg(test)]
mod tests {
    use coreml_format::mil::Dimension;

    use super::*;

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
