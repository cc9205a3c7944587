//! The operators that random programs are made of: all that the engine computes on tensors, with
//! examples of their constant arguments from the fixtures. A new operator, which needs a fixture
//! anyway, takes part without being named here. Only random numbers do not: each run has others.

use std::collections::BTreeMap;

use coreml_format::mil::{Argument, Binding, Function, Operation, Opset, Value, ValueType};
use coreml_kernels::Context;

use crate::definitions::{self, Definition, Kind};
use crate::fixtures;
use crate::op::OpDef;
use crate::ops;
use crate::plan::Options;
use crate::plan::bind::bind;
use crate::value::{Shape, element_count};
use crate::weights::Weights;

/// Examples are kept up to this number for each version.
const MOST_EXAMPLES: usize = 24;

/// A version of an operator.
pub(super) struct Operator {
    pub(super) definition: &'static Definition,
    pub(super) def: &'static OpDef,
    pub(super) examples: Vec<Example>,
    /// Whether it only moves elements.
    pub(super) moves: bool,
}

/// The arguments of an operation of a fixture: the constants, and `None` for what is found at run
/// time.
pub(super) type Example = BTreeMap<String, Option<Vec<Value>>>;

/// All versions of all operators.
pub(super) struct Alphabet(Vec<Operator>);

impl Alphabet {
    pub(super) fn new(context: &Context) -> Self {
        let computed = definitions::definitions().iter().filter(|definition| {
            let listed = |kind| matches!(kind, Kind::List | Kind::State);
            let random = definition.name.starts_with("random_");
            !random && !definition.arguments.iter().any(|argument| listed(argument.kind))
        });
        let mut alphabet = Alphabet(
            computed
                .filter_map(|definition| {
                    let def = ops::implementation(definition)?;
                    Some(Operator { definition, def, examples: Vec::new(), moves: false })
                })
                .collect(),
        );
        for program in fixtures::operations() {
            for function in program.functions.values() {
                alphabet.learn(function, context);
            }
        }
        alphabet.0.retain(|operator| !operator.examples.is_empty());
        alphabet
    }

    /// The operators of an opset.
    pub(super) fn of(&self, opset: Opset) -> Vec<&Operator> {
        let holds = |operator: &&Operator| {
            let definition = definitions::lookup(operator.def.name, opset);
            definition.is_some_and(|definition| definition.since == operator.def.since)
        };
        self.0.iter().filter(holds).collect()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes the examples of a case.
    fn learn(&mut self, function: &Function, context: &Context) {
        let name = fixtures::operator(function);
        let Some(definition) = definitions::lookup(name, function.opset) else { return };
        let known = |operator: &&mut Operator| operator.definition == definition;
        let Some(operator) = self.0.iter_mut().find(known) else { return };
        let is_tensor = |operation: &&Operation| {
            operation.outputs.iter().all(|output| matches!(output.ty, ValueType::Tensor(_)))
        };
        let operations = &function.block.operations;
        for operation in operations.iter().filter(|operation| operation.operator == name) {
            let Some(example) = Some(operation).filter(is_tensor).and_then(example) else {
                continue;
            };
            if operator.examples.is_empty() {
                operator.moves = moves(name, function, context);
            }
            if operator.examples.len() < MOST_EXAMPLES && !operator.examples.contains(&example) {
                operator.examples.push(example);
            }
        }
    }
}

/// The constants of an operation, if they are small.
fn example(operation: &Operation) -> Option<Example> {
    let value = |binding: &Binding| match binding {
        Binding::Value(value) => Some(value.clone()),
        Binding::Name(_) => None,
    };
    let values = |Argument(bindings): &Argument| bindings.iter().map(value).collect();
    let example: Example =
        operation.inputs.iter().map(|(name, argument)| (name.clone(), values(argument))).collect();
    let small = |value: &Value| {
        let shape = value.tensor_type().and_then(|ty| ty.fixed_shape());
        shape.and_then(|shape| element_count(&shape)).is_some_and(|count| count <= 1024)
    };
    example.values().flatten().flatten().all(small).then_some(example)
}

/// Whether the operator of a case only moves elements.
fn moves(name: &str, function: &Function, context: &Context) -> bool {
    let package = fixtures::package("main", function);
    let inputs = fixtures::defaults(&package, "main", function).unwrap_or_default();
    let shapes: Vec<Option<Shape>> = inputs.into_iter().map(|(shape, _)| Some(shape)).collect();
    let weights = Weights::new(package, crate::Limits::new()).unwrap();
    bind("main", function, &shapes, &weights, context, Options::default()).is_ok_and(|graph| {
        let mut nodes = graph.body.nodes.iter().filter(|node| node.source.operator == name);
        nodes.any(|node| node.run().is_some_and(|run| run.op.keeps_storage_of().is_some()))
    })
}
