//! Programs over the table of definitions: operators of one opset, with arguments of which most have
//! the types that they should have.

use std::collections::BTreeMap;

use coreml_engine::definitions::{Argument as Parameter, Default, Definition, Kind, Outputs};
use coreml_engine::definitions::{definitions, lookup};
use coreml_format::mil::{
    Argument, Binding, Block, Dimension, ElementType, Function, NamedValueType, Operation, Opset,
    Program, TensorType, ValueType,
};

use super::choices::Choices;
use super::values::{ELEMENTS, collection, constant, malformed, shape, tensor_type};

/// How deep blocks nest.
const MOST_NESTED: usize = 2;

/// The program that the bytes choose.
pub fn program(bytes: &[u8]) -> Program {
    let mut choices = Choices::new(bytes);
    let opset = choices.of(&Opset::ALL);
    let mut maker = Maker {
        choices,
        operators: definitions()
            .iter()
            .filter(|definition| lookup(definition.name, opset) == Some(definition))
            .collect(),
        pool: Vec::new(),
        made: 0,
    };
    let inputs = maker.parameters(opset);
    let block = maker.block(0);
    let attributes = BTreeMap::new();
    let function = Function { inputs, opset, block, attributes: attributes.clone() };
    Program { functions: BTreeMap::from([("main".to_owned(), function)]), attributes }
}

struct Maker<'a> {
    choices: Choices<'a>,
    operators: Vec<&'static Definition>,
    /// Values that can be seen.
    pool: Vec<NamedValueType>,
    /// Names that were made so far.
    made: usize,
}

impl Maker<'_> {
    fn name(&mut self) -> String {
        self.made += 1;
        format!("v{}", self.made)
    }

    /// Inputs, and states where the opset has them.
    fn parameters(&mut self, opset: Opset) -> Vec<NamedValueType> {
        // Most have the same shape, as values that are computed with each other do.
        let common = shape(&mut self.choices);
        let count = 1 + self.choices.below(3);
        for number in 0..count {
            let element = self.element(ELEMENTS);
            let other = shape(&mut self.choices);
            let shape = if self.choices.one_in(3) { other } else { common.clone() };
            let ty = tensor_type(element, &shape, &mut self.choices);
            let is_state = number > 0 && opset >= Opset::Ios18 && self.choices.one_in(3);
            let ty = ValueType::Tensor(ty);
            let ty = if is_state { ValueType::State(Box::new(ty)) } else { ty };
            let name = self.name();
            self.pool.push(NamedValueType { name, ty });
        }
        self.pool.clone()
    }

    /// One of these element types; often one of the first.
    fn element(&mut self, of: &[ElementType]) -> ElementType {
        let first = &of[..of.len().min(4)];
        if self.choices.one_in(6) { self.choices.of(of) } else { self.choices.of(first) }
    }

    fn block(&mut self, depth: usize) -> Block {
        let seen = self.pool.len();
        let count = 1 + self.choices.below(if depth == 0 { 5 } else { 3 });
        let operations = (0..count).map(|_| self.operation(depth)).collect();
        let count = 1 + self.choices.below(2);
        let outputs = (0..count).map(|_| self.last().name).collect();
        self.pool.truncate(seen.max(1));
        Block { inputs: Vec::new(), outputs, operations }
    }

    /// A value that can be seen, often one of the last.
    fn last(&mut self) -> NamedValueType {
        let back = if self.choices.one_in(4) { self.pool.len() } else { 2 };
        let back = self.choices.below(back.min(self.pool.len()));
        self.pool[self.pool.len() - 1 - back].clone()
    }

    fn operation(&mut self, depth: usize) -> Operation {
        let definition = self.operators[self.choices.below(self.operators.len())];
        let mut inputs = BTreeMap::new();
        for parameter in definition.arguments {
            let is_given = match parameter.default {
                Default::Required => !self.choices.one_in(100),
                _ => self.choices.one_in(2),
            };
            if is_given {
                inputs.insert(parameter.name.to_owned(), self.argument(parameter));
            }
        }
        let blocks = match definition.name {
            "cond" | "while_loop" if depth < MOST_NESTED => {
                (0..2).map(|number| self.nested(definition.name, &inputs, number, depth)).collect()
            }
            _ => Vec::new(),
        };
        let outputs = self.outputs(definition, &inputs);
        self.pool.extend(outputs.iter().cloned());
        let operator = definition.name.to_owned();
        Operation { operator, inputs, outputs, blocks, attributes: BTreeMap::new() }
    }

    fn argument(&mut self, parameter: &Parameter) -> Argument {
        let count = match parameter.kind {
            Kind::Tensors => self.choices.below(4),
            _ if self.choices.one_in(100) => 2,
            _ => 1,
        };
        Argument((0..count).map(|_| self.binding(parameter)).collect())
    }

    /// A value that fits, if there is one; a constant where it has to be one.
    fn binding(&mut self, parameter: &Parameter) -> Binding {
        let is_constant = parameter.constant != self.choices.one_in(12);
        let fits = |value: &&NamedValueType| match (&value.ty, parameter.kind) {
            (ValueType::Tensor(ty), Kind::Tensor) => {
                parameter.types.is_empty() || parameter.types.contains(&ty.element)
            }
            (ValueType::State(_), kind) => kind == Kind::State,
            (ValueType::List(..), kind) => matches!(kind, Kind::List | Kind::Tensors),
            (_, kind) => matches!(kind, Kind::Tensors | Kind::Any),
        };
        let names: Vec<String> =
            self.pool.iter().filter(fits).map(|value| value.name.clone()).collect();
        if !is_constant && !names.is_empty() && !self.choices.one_in(40) {
            let back = self.choices.below(names.len());
            return Binding::Name(names[names.len() - 1 - back].clone());
        }
        if !is_constant && !self.pool.is_empty() && parameter.kind != Kind::Tensor {
            return Binding::Name(self.last().name);
        }
        let element = match parameter.types {
            [] => self.element(ELEMENTS),
            types if self.choices.one_in(40) => self.element(&[types, ELEMENTS].concat()),
            types => self.element(types),
        };
        // Most constants are scalars or say something for each axis.
        let shape = match self.choices.below(6) {
            0 | 1 => Vec::new(),
            2..=4 => vec![self.choices.of(&[1, 2, 3, 4, 6, 0])],
            _ => shape(&mut self.choices),
        };
        if self.choices.one_in(60) {
            return Binding::Value(malformed(element, &shape, &mut self.choices));
        }
        let value = constant(element, &shape, &mut self.choices);
        Binding::Value(match self.choices.one_in(60) {
            true => collection(value, &mut self.choices),
            false => value,
        })
    }

    /// A block of `cond` or `while_loop`, whose parameters are the loop's variables.
    fn nested(
        &mut self,
        operator: &str,
        inputs: &BTreeMap<String, Argument>,
        number: usize,
        depth: usize,
    ) -> Block {
        let seen = self.pool.len();
        let mut parameters = Vec::new();
        for variable in inputs.get("loop_vars").into_iter().flat_map(|argument| &argument.0) {
            let (name, ty) = (self.name(), self.type_of(variable));
            parameters.push(NamedValueType { name, ty });
        }
        self.pool.extend(parameters.iter().cloned());
        let mut block = self.block(depth + 1);
        if operator == "while_loop" && number == 1 {
            // The variables as they are, or what was computed.
            let computed = block.outputs.first().cloned();
            block.outputs = parameters.iter().map(|parameter| parameter.name.clone()).collect();
            if let (Some(first), Some(computed)) = (block.outputs.first_mut(), computed) {
                *first = computed;
            }
        }
        self.pool.truncate(seen);
        Block { inputs: parameters, ..block }
    }

    fn type_of(&self, binding: &Binding) -> ValueType {
        let unknown = || ValueType::Tensor(open(ElementType::Float32));
        match binding {
            Binding::Name(name) => {
                let value = self.pool.iter().find(|value| value.name == *name);
                value.map_or_else(unknown, |value| value.ty.clone())
            }
            Binding::Value(value) => {
                value.tensor_type().map_or_else(unknown, |ty| ValueType::Tensor(ty.clone()))
            }
        }
    }

    /// Results, most of them of the type of an argument and of any shape.
    fn outputs(
        &mut self,
        definition: &Definition,
        inputs: &BTreeMap<String, Argument>,
    ) -> Vec<NamedValueType> {
        let count = match definition.outputs {
            Outputs::Fixed(count) => count,
            Outputs::UpTo(most) => 1 + self.choices.below(most),
            Outputs::Several => 1 + self.choices.below(3),
        };
        let bindings: Vec<&Binding> = inputs.values().flat_map(|argument| &argument.0).collect();
        (0..count)
            .map(|_| {
                let element = match self.choices.one_in(3) || bindings.is_empty() {
                    true => self.element(ELEMENTS),
                    false => {
                        let of = bindings[self.choices.below(bindings.len())];
                        let ty = self.type_of(of);
                        ty.as_tensor().map_or(ElementType::Float32, |ty| ty.element)
                    }
                };
                let tensor = ValueType::Tensor(open(element));
                let is_list =
                    matches!(definition.name, "make_list" | "list_write" | "list_scatter");
                let ty = match is_list != self.choices.one_in(60) {
                    true => ValueType::List(Box::new(tensor), Dimension::Unknown),
                    false => tensor,
                };
                NamedValueType { name: self.name(), ty }
            })
            .collect()
    }
}

/// Tensors of any shape.
fn open(element: ElementType) -> TensorType {
    TensorType { element, shape: vec![Dimension::Variadic] }
}
