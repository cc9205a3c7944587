//! Every version of every operator runs with each combination of element types that its definition allows.
//! The calls are those of the fixtures, with their values in other types.

use std::collections::{BTreeMap, BTreeSet};

use coreml_format::Package;
use coreml_format::mil::{Binding, ElementType, Function, Operation, Value as MilValue};

use super::{Support, all, support};
use crate::definitions::{Argument, Definition};
use crate::error::OpError;
use crate::fixtures;
use crate::op::testing::{Case, Value, dense};
use crate::value::{Constant, Storage, TensorRef};
use crate::weights::Weights;

/// Versions that no case calls with values alone: they take or give lists.
const LISTS: [&str; 6] =
    ["list_gather", "list_length", "list_read", "list_scatter", "list_write", "make_list"];

/// An argument of a call.
struct Given {
    argument: &'static Argument,
    values: Vec<Constant>,
    /// Whether they are known only when it runs.
    at_run: bool,
}

/// The function of a case, where names of values are looked up.
struct Source<'a> {
    function: &'a Function,
    weights: &'a Weights,
}

impl Source<'_> {
    fn constant(&self, value: &MilValue) -> Option<Constant> {
        self.weights.constant(value).ok()
    }

    /// The value of the first step of an input, or of one that is cast: inputs are no bools.
    fn input(&self, name: &str) -> Option<Constant> {
        if self.function.inputs.iter().any(|input| input.name == *name) {
            return self.constant(self.function.attributes.get(&format!("in0_{name}"))?);
        }
        let cast = self.made(name).filter(|operation| operation.operator == "cast")?;
        let [Binding::Name(input)] = cast.inputs.get("x")?.0.as_slice() else { return None };
        Some(as_type(&self.input(input)?, cast.outputs.first()?.ty.as_tensor()?.element))
    }

    /// A constant by its name.
    fn named(&self, name: &str) -> Option<Constant> {
        let operation = self.made(name).filter(|operation| operation.operator == "const")?;
        match operation.inputs.get("val")?.0.as_slice() {
            [Binding::Value(value)] => self.constant(value),
            _ => None,
        }
    }

    fn made(&self, name: &str) -> Option<&Operation> {
        let made = |operation: &&Operation| operation.outputs.iter().any(|o| o.name == name);
        self.function.block.operations.iter().find(made)
    }

    /// The arguments of the operation that the case is about; `None` if some are computed.
    fn call(&self, operation: &Operation, definition: &'static Definition) -> Option<Vec<Given>> {
        let mut call = Vec::new();
        for (name, bound) in &operation.inputs {
            let argument = definition.argument(name)?;
            let mut given = Given { argument, values: Vec::new(), at_run: false };
            for binding in &bound.0 {
                let name = match binding {
                    Binding::Value(value) => {
                        given.values.push(self.constant(value)?);
                        continue;
                    }
                    Binding::Name(name) => name,
                };
                let input = self.input(name);
                given.at_run |= input.is_some();
                given.values.push(input.or_else(|| self.named(name))?);
            }
            call.push(given);
        }
        Some(call)
    }
}

/// A choice of element types: by type parameter, or by argument where it has none of its own.
type Types = BTreeMap<&'static str, ElementType>;

fn key(argument: &Argument) -> &'static str {
    argument.type_parameter.unwrap_or(argument.name)
}

/// All choices that the definition allows.
fn choices(call: &[Given]) -> Vec<Types> {
    let mut choices = vec![Types::new()];
    let mut chosen = BTreeSet::new();
    for given in call.iter().filter(|given| given.argument.types.len() > 1) {
        // Packed elements are what they are.
        let packed = given.values.iter().any(|value| value.tensor().is_none());
        if packed || !chosen.insert(key(given.argument)) {
            continue;
        }
        let with = |types: &Types| {
            let types = types.clone();
            given.argument.types.iter().filter(|ty| !ty.is_sub_byte()).map(move |&ty| {
                let mut types = types.clone();
                types.insert(key(given.argument), ty);
                types
            })
        };
        choices = choices.iter().flat_map(with).collect();
    }
    choices
}

fn numbers(tensor: &TensorRef) -> Vec<f64> {
    match tensor.storage {
        Storage::F32 => tensor.f32s().unwrap().iter().copied().map(f64::from).collect(),
        Storage::F16 => tensor.slice::<half::f16>().unwrap().iter().map(|x| x.to_f64()).collect(),
        _ => tensor.ints().unwrap().iter().map(|&int| int as f64).collect(),
    }
}

/// A constant in another type. What is negative becomes positive where there is nothing below 0.
fn as_type(constant: &Constant, element: ElementType) -> Constant {
    let numbers = numbers(&constant.tensor().unwrap());
    let shape = &constant.shape;
    macro_rules! as_numbers {
        ($ty:ty) => {
            dense(element, shape, &numbers.iter().map(|&x| x as $ty).collect::<Vec<$ty>>())
        };
    }
    let positive = |x: f64| x.abs();
    match element {
        ElementType::Bool => {
            dense(element, shape, &numbers.iter().map(|&x| u8::from(x != 0.0)).collect::<Vec<u8>>())
        }
        ElementType::Float16 => {
            let halves: Vec<half::f16> = numbers.iter().map(|&x| half::f16::from_f64(x)).collect();
            dense(element, shape, &halves)
        }
        ElementType::Float32 => as_numbers!(f32),
        ElementType::Int8 => as_numbers!(i8),
        ElementType::Int16 => as_numbers!(i16),
        ElementType::Int32 => as_numbers!(i32),
        ElementType::UInt8 => {
            dense(element, shape, &numbers.iter().map(|&x| positive(x) as u8).collect::<Vec<u8>>())
        }
        ElementType::UInt16 => {
            let values: Vec<u16> = numbers.iter().map(|&x| positive(x) as u16).collect();
            dense(element, shape, &values)
        }
        ElementType::UInt32 => {
            let values: Vec<u32> = numbers.iter().map(|&x| positive(x) as u32).collect();
            dense(element, shape, &values)
        }
        other => panic!("no elements of {other}"),
    }
}

/// A run-time value: floats are held as `f32`.
fn as_value(constant: &Constant) -> Value {
    let tensor = constant.tensor().unwrap();
    match tensor.storage {
        Storage::F16 => {
            let floats: Vec<f32> = numbers(&tensor).iter().map(|&x| x as f32).collect();
            Value::tensor(constant.element, &constant.shape, &floats)
        }
        _ => Value::of(&tensor),
    }
}

fn run(
    operation: &Operation,
    call: &[Given],
    types: &Types,
    definition: &Definition,
) -> Result<Vec<Value>, OpError> {
    let declared = operation.outputs.iter().map(|output| output.ty.clone()).collect();
    let mut case = Case::new().declares(declared);
    for given in call {
        for constant in &given.values {
            let constant = match types.get(key(given.argument)) {
                Some(&element) => as_type(constant, element),
                None => constant.clone(),
            };
            case = match given.at_run {
                true => case.value(given.argument.name, as_value(&constant)),
                false => case.constant(given.argument.name, constant),
            };
        }
    }
    case.run(definition.name, definition.since)
}

/// Whether coremltools writes no such call though the types of each argument are allowed.
fn is_excluded(definition: &Definition, call: &[Given], types: &Types) -> bool {
    let given = |name: &str| call.iter().find(|given| given.argument.name == name);
    match definition.name {
        // Operands that are all known only when it runs have one type.
        "matmul" => {
            let at_run = call.iter().filter(|given| given.at_run);
            at_run.count() > 1 && types.get("x") != types.get("y")
        }
        // Its type is that which `output_dtype` names.
        "quantize" => given("zero_point")
            .is_some_and(|given| types.get("zero_point") != Some(&given.values[0].element)),
        _ => false,
    }
}

/// Whether results are the same but for what halves are rounded to.
fn near(a: &[Value], b: &[Value]) -> bool {
    let close = |(a, b): (&f64, &f64)| {
        a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= 0.02 * (1.0 + b.abs())
    };
    a.iter().zip(b).all(|(a, b)| {
        let (a, b) = (numbers(&a.view().unwrap()), numbers(&b.view().unwrap()));
        a.len() == b.len() && a.iter().zip(&b).all(close)
    })
}

#[test]
fn versions_run_with_all_element_types_of_their_definitions() {
    let mut wrong = BTreeSet::new();
    let mut tested = BTreeSet::new();
    let mut called = BTreeSet::new();
    for program in fixtures::operations() {
        let package = Package::from_program(program).unwrap();
        let weights = Weights::new(package, crate::Limits::new()).unwrap();
        for (name, function) in &weights.program().functions {
            let operator = fixtures::operator(function);
            let Support::Computed(definition, _) = support(operator, function.opset) else {
                continue;
            };
            let mut operations = function.block.operations.iter();
            let Some(operation) = operations.find(|operation| operation.operator == operator)
            else {
                continue;
            };
            let source = Source { function, weights: &weights };
            let Some(call) = source.call(operation, definition) else { continue };
            let arguments: Vec<_> =
                call.iter().map(|given| (given.argument.name, given.at_run)).collect();
            if !called.insert((definition.name, definition.since, arguments)) {
                continue;
            }
            tested.insert((definition.name, definition.since));
            let mut first: Option<Vec<Value>> = None;
            for types in choices(&call) {
                let floats = types.values().all(|ty| ty.is_float());
                match run(operation, &call, &types, definition) {
                    Err(_) if is_excluded(definition, &call, &types) => {}
                    Err(error) => {
                        wrong.insert(format!("{name} with {types:?}: {error}"));
                    }
                    Ok(results) if floats => match &first {
                        Some(first) if !near(&results, first) => {
                            wrong.insert(format!("{name} with {types:?}: other results"));
                        }
                        Some(_) => {}
                        None => first = Some(results),
                    },
                    Ok(_) => {}
                }
            }
        }
    }
    let untested = all().filter(|def| !tested.contains(&(def.name, def.since)));
    let untested: Vec<_> = untested
        .filter(|def| !LISTS.contains(&def.name))
        .map(|def| (def.name, def.since))
        .collect();
    assert!(untested.is_empty(), "no call of {untested:?}; {wrong:?}");
    assert!(wrong.is_empty(), "{} calls:\n{}", wrong.len(), Vec::from_iter(wrong).join("\n"));
}
