//! Sound operations of which something is changed.

use coreml_engine::definitions::{Argument as Parameter, Default, Kind, lookup};
use coreml_format::mil::{
    Argument, Binding, Block, Dimension, ElementType, Function, NamedValueType, Operation, Opset,
    TensorType, Value, ValueType,
};

use super::choices::Choices;
use super::values::{ELEMENTS, collection, constant, malformed, shape};

/// What was changed.
pub struct Mutation {
    pub what: String,
    /// Whether nothing can run any more.
    pub is_wrong: bool,
}

fn mutation(what: impl Into<String>, is_wrong: bool) -> Option<Mutation> {
    Some(Mutation { what: what.into(), is_wrong })
}

/// Changes something of a function; `None` where what was chosen does not apply.
pub fn mutate(function: &mut Function, choices: &mut Choices) -> Option<Mutation> {
    match choices.below(8) {
        0 => mutate_input(function, choices),
        1 if choices.one_in(4) => {
            function.opset = choices.of(&Opset::ALL);
            mutation(format!("opset {}", function.opset), false)
        }
        _ => mutate_operation(function, choices),
    }
}

/// Another shape or element type for an input.
fn mutate_input(function: &mut Function, choices: &mut Choices) -> Option<Mutation> {
    let count = function.inputs.len();
    let input = function.inputs.get_mut(choices.below(count.max(1)))?;
    let ValueType::Tensor(ty) = &mut input.ty else { return None };
    match choices.below(4) {
        0 => ty.element = choices.of(ELEMENTS),
        1 if !ty.shape.is_empty() => {
            let place = choices.below(ty.shape.len());
            ty.shape[place] = Dimension::Unknown;
        }
        2 if !ty.shape.is_empty() => {
            let place = choices.below(ty.shape.len());
            ty.shape[place] = Dimension::Fixed(choices.of(&[0, 1, 2, 7, 1 << 20, 1 << 40]));
        }
        _ => *ty = TensorType::fixed(ty.element, &shape(choices)),
    }
    mutation(format!("input `{}` of type {ty}", input.name), false)
}

/// Counts operations, nested ones too.
fn count(block: &Block) -> usize {
    let nested = |operation: &Operation| operation.blocks.iter().map(count).sum::<usize>();
    block.operations.iter().map(|operation| 1 + nested(operation)).sum()
}

/// Calls `change` with the operation of this number.
fn with_operation<R>(
    block: &mut Block,
    number: &mut usize,
    change: &mut dyn FnMut(&mut Operation) -> R,
) -> Option<R> {
    for operation in &mut block.operations {
        if *number == 0 {
            return Some(change(operation));
        }
        *number -= 1;
        for nested in &mut operation.blocks {
            if let Some(result) = with_operation(nested, number, change) {
                return Some(result);
            }
        }
    }
    None
}

fn mutate_operation(function: &mut Function, choices: &mut Choices) -> Option<Mutation> {
    let opset = function.opset;
    let inputs = function.inputs.clone();
    let mut number = choices.below(count(&function.block).max(1));
    with_operation(&mut function.block, &mut number, &mut |operation| {
        let name = operation.operator.clone();
        let mutation = change(operation, opset, &inputs, choices)?;
        Some(Mutation { what: format!("{name}: {}", mutation.what), ..mutation })
    })?
}

fn change(
    operation: &mut Operation,
    opset: Opset,
    inputs: &[NamedValueType],
    choices: &mut Choices,
) -> Option<Mutation> {
    let definition = lookup(&operation.operator, opset)?;
    let given: Vec<String> = operation.inputs.keys().cloned().collect();
    match choices.below(9) {
        0 => {
            let value = constant(ElementType::Int32, &[], choices);
            let argument = Argument(vec![Binding::Value(value)]);
            operation.inputs.insert("no_such_argument".to_owned(), argument);
            mutation("an unknown argument", operation.operator != "const")
        }
        1 => change_outputs(operation, choices),
        2 if choices.one_in(3) => {
            let is_plain = operation.blocks.is_empty();
            operation.blocks.push(Block::default());
            mutation("a block", is_plain)
        }
        _ if given.is_empty() => None,
        _ => {
            let name = &given[choices.below(given.len())];
            let parameter = definition.argument(name)?;
            let others: Vec<&NamedValueType> = inputs.iter().collect();
            change_argument(operation, parameter, &others, choices)
        }
    }
}

fn change_outputs(operation: &mut Operation, choices: &mut Choices) -> Option<Mutation> {
    let place = choices.below(operation.outputs.len().max(1));
    match choices.below(4) {
        0 => {
            let name = "one_more".to_owned();
            let ty = ValueType::Tensor(TensorType::fixed(ElementType::Float32, &[1]));
            operation.outputs.push(NamedValueType { name, ty });
            mutation("one more result", true)
        }
        1 if operation.outputs.len() > 1 => {
            // The last one, which nothing may read, so that it is a matter of the number.
            operation.outputs.pop();
            mutation("one result less", true)
        }
        2 => {
            let output = operation.outputs.get_mut(place)?;
            let ValueType::Tensor(ty) = &mut output.ty else { return None };
            let element = choices.of(ELEMENTS);
            let is_other = element != ty.element;
            ty.element = element;
            mutation(format!("result of elements `{element}`"), is_other)
        }
        _ => {
            let output = operation.outputs.get_mut(place)?;
            let ValueType::Tensor(ty) = &mut output.ty else { return None };
            *ty = TensorType::fixed(ty.element, &shape(choices));
            mutation(format!("result of type {ty}"), false)
        }
    }
}

fn change_argument(
    operation: &mut Operation,
    parameter: &Parameter,
    inputs: &[&NamedValueType],
    choices: &mut Choices,
) -> Option<Mutation> {
    let name = parameter.name;
    let Argument(bindings) = operation.inputs.get_mut(name)?;
    let is_single = parameter.kind != Kind::Tensors;
    match choices.below(10) {
        0 => {
            operation.inputs.remove(name);
            mutation(format!("without `{name}`"), parameter.default == Default::Required)
        }
        1 => {
            bindings.extend(bindings.clone());
            mutation(format!("`{name}` twice"), is_single && !bindings.is_empty())
        }
        2 => {
            bindings.clear();
            mutation(format!("`{name}` of nothing"), is_single)
        }
        3 => {
            let input = inputs.get(choices.below(inputs.len().max(1)))?;
            *bindings = vec![Binding::Name(input.name.clone())];
            mutation(format!("`{name}` = {}", input.name), false)
        }
        4 => {
            *bindings = vec![Binding::Name("no_such_value".to_owned())];
            mutation(format!("`{name}` of no value"), true)
        }
        _ => {
            let place = choices.below(bindings.len().max(1));
            let binding = bindings.get_mut(place)?;
            let old = match binding {
                Binding::Value(value) => value.clone(),
                Binding::Name(_) if is_single && choices.one_in(3) => {
                    constant(choices.of(ELEMENTS), &shape(choices), choices)
                }
                Binding::Name(_) => return None,
            };
            let (value, mutation) = change_constant(old, parameter, choices)?;
            *binding = Binding::Value(value);
            Some(mutation)
        }
    }
}

/// A constant in the place of this one.
fn change_constant(
    old: Value,
    parameter: &Parameter,
    choices: &mut Choices,
) -> Option<(Value, Mutation)> {
    let name = parameter.name;
    let ty = old.tensor_type()?.clone();
    let sizes = ty.fixed_shape()?;
    let is_tensor = parameter.kind == Kind::Tensor;
    let (value, wrong) = match choices.below(8) {
        0 => (malformed(ty.element, &sizes, choices), true),
        1 => (collection(old, choices), is_tensor),
        2 => {
            let element = choices.of(&[ELEMENTS, &[ElementType::String]].concat());
            let fits = |&ty: &ElementType| class(ty) == class(element);
            let is_wrong = !parameter.types.is_empty() && !parameter.types.iter().any(fits);
            (constant(element, &sizes, choices), is_wrong)
        }
        3 if ty.element == ElementType::String => (Value::string("no such word"), true),
        4 | 5 => (constant(ty.element, &shape(choices), choices), false),
        _ => (constant(ty.element, &sizes, choices), false),
    };
    let what = match &value {
        Value::Tensor(tensor) => format!("`{name}` as {}: {:?}", tensor.ty, tensor.data),
        other => format!("`{name}` = {other:?}"),
    };
    Some((value, Mutation { what, is_wrong: wrong }))
}

/// Types of a class stand for each other where they are constants.
fn class(element: ElementType) -> u8 {
    match element {
        ElementType::Bool => 0,
        ElementType::String => 1,
        element if element.is_float() => 2,
        _ => 3,
    }
}
