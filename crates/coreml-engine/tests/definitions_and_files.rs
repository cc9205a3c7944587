//! The table beside files: every operation of the fixtures, and of other people's models where they
//! are there, has to be as its definition says.
#![allow(clippy::unwrap_used)] // a helper that fails is a test that fails

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use coreml_engine::definitions::{Argument, Default, Definition, Kind, Outputs, lookup};
use coreml_format::Package;
use coreml_format::mil::{Binding, Block, ElementType, Function, Operation, Opset, ValueType};

/// Types of the values in sight, and the names of those that are known before the program runs.
#[derive(Clone, std::default::Default)]
struct Scope {
    types: HashMap<String, ValueType>,
    known: HashSet<String>,
}

#[test]
fn operations_of_fixtures_are_as_defined() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    let departures = departures_below(&[fixtures.join("ops"), fixtures.join("llm")]);
    assert!(departures.is_empty(), "{}", departures.join("\n"));
}

#[test]
fn operations_of_other_models_are_as_defined() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/models");
    if !models.is_dir() {
        println!("no {}: nothing checked", models.display());
        return;
    }
    let departures = departures_below(&[models]);
    assert!(departures.is_empty(), "{}", departures.join("\n"));
}

#[test]
fn faults_are_found() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/bad");
    for (file, words) in [
        ("missing_argument", "lacks `y`"),
        ("unknown_operation", "not in the table"),
        ("wrong_argument_type", "`axis` is Some(Float32)"),
    ] {
        let package = Package::open(folder.join(file).with_extension("mlmodel")).unwrap();
        let found: Vec<_> =
            package.program().unwrap().functions.values().flat_map(departures_of).collect();
        assert!(found.len() == 1 && found[0].contains(words), "{file}: {found:?}");
    }
}

fn departures_below(folders: &[PathBuf]) -> Vec<String> {
    let mut models = Vec::new();
    folders.iter().for_each(|folder| find_models(folder, &mut models));
    let mut departures = Vec::new();
    let mut programs = 0;
    for path in models {
        // Models of other kinds have no program.
        let Ok(package) = Package::open(&path) else { continue };
        let Ok(program) = package.program() else { continue };
        programs += 1;
        for function in program.functions.values() {
            let found = departures_of(function);
            departures.extend(found.iter().map(|text| format!("{}: {text}", path.display())));
        }
    }
    assert!(programs > 20, "only {programs} programs found");
    departures
}

fn find_models(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if matches!(extension, Some("mlmodel" | "mlpackage" | "mlmodelc")) {
            found.push(path);
        } else if path.is_dir() {
            find_models(&path, found);
        }
    }
}

fn departures_of(function: &Function) -> Vec<String> {
    let mut scope = Scope::default();
    for input in &function.inputs {
        scope.types.insert(input.name.clone(), input.ty.clone());
    }
    let mut departures = Vec::new();
    check_block(&function.block, function.opset, scope, &mut departures);
    departures
}

fn check_block(block: &Block, opset: Opset, mut scope: Scope, departures: &mut Vec<String>) {
    for input in &block.inputs {
        scope.types.insert(input.name.clone(), input.ty.clone());
    }
    for operation in &block.operations {
        for nested in &operation.blocks {
            check_block(nested, opset, scope.clone(), departures);
        }
        check_operation(operation, opset, &scope, departures);
        let known = operation.blocks.is_empty()
            && operation.operator != "read_state"
            && bindings(operation).all(|(_, binding)| is_known(binding, &scope));
        for output in &operation.outputs {
            scope.types.insert(output.name.clone(), output.ty.clone());
            if known {
                scope.known.insert(output.name.clone());
            }
        }
    }
}

fn bindings(operation: &Operation) -> impl Iterator<Item = (&str, &Binding)> {
    let pairs = operation.inputs.iter();
    pairs.flat_map(|(name, argument)| argument.0.iter().map(move |binding| (&**name, binding)))
}

fn is_known(binding: &Binding, scope: &Scope) -> bool {
    match binding {
        Binding::Name(name) => scope.known.contains(name),
        Binding::Value(_) => true,
    }
}

fn check_operation(op: &Operation, opset: Opset, scope: &Scope, departures: &mut Vec<String>) {
    let place = format!("{} `{}` in {opset}", op.operator, op.name());
    let Some(definition) = lookup(&op.operator, opset) else {
        return departures.push(format!("{place}: not in the table"));
    };
    let mut say = |text: String| departures.push(format!("{place}: {text}"));
    for argument in definition.arguments {
        let required = argument.default == Default::Required;
        if required && !op.inputs.contains_key(argument.name) {
            say(format!("lacks `{}`", argument.name));
        }
    }
    for name in op.attributes.keys().filter(|name| *name != "name") {
        say(format!("has an attribute `{name}`"));
    }
    for name in op.inputs.keys().filter(|name| definition.argument(name).is_none()) {
        say(format!("has an argument `{name}`"));
    }
    for (name, binding) in bindings(op) {
        if let Some(argument) = definition.argument(name) {
            check_binding(argument, binding, scope, &mut say);
        }
    }
    check_parameters(op, definition, scope, &mut say);
    let count = op.outputs.len();
    let fits = match definition.outputs {
        Outputs::Fixed(expected) => count == expected,
        Outputs::UpTo(most) => (1..=most).contains(&count),
        Outputs::Several => true,
    };
    if !fits {
        say(format!("has {count} results, not {:?}", definition.outputs));
    }
}

fn element_of(binding: &Binding, scope: &Scope) -> Option<ElementType> {
    match binding {
        Binding::Name(name) => scope.types.get(name)?.as_tensor().map(|tensor| tensor.element),
        Binding::Value(value) => value.tensor_type().map(|tensor| tensor.element),
    }
}

fn check_binding(
    argument: &Argument,
    binding: &Binding,
    scope: &Scope,
    say: &mut impl FnMut(String),
) {
    let name = argument.name;
    if argument.constant && !is_known(binding, scope) {
        say(format!("`{name}` is not constant"));
    }
    let ty = match binding {
        Binding::Name(name) => scope.types.get(name),
        Binding::Value(_) => None,
    };
    if matches!(ty, Some(ValueType::State(_))) != (argument.kind == Kind::State) {
        say(format!("`{name}` is of type {ty:?}, not {:?}", argument.kind));
    }
    if argument.kind == Kind::Tensor {
        match element_of(binding, scope) {
            Some(element) if argument.types.contains(&element) => (),
            other => say(format!("`{name}` is {other:?}, not one of {:?}", argument.types)),
        }
    }
}

fn check_parameters(
    op: &Operation,
    definition: &Definition,
    scope: &Scope,
    say: &mut impl FnMut(String),
) {
    let mut bound = HashMap::new();
    for argument in definition.arguments {
        let (Some(parameter), Some(given)) =
            (argument.type_parameter, op.inputs.get(argument.name))
        else {
            continue;
        };
        let element = given.0.first().and_then(|binding| element_of(binding, scope));
        let (first, expected) = *bound.entry(parameter).or_insert((argument.name, element));
        if element != expected {
            say(format!("`{first}` is {expected:?}, `{}` is {element:?}", argument.name));
        }
    }
}
