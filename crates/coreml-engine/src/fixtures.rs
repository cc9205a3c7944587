//! The repository's fixtures, for tests of the engine's inside.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use coreml_format::Package;
use coreml_format::mil::{Function, Program, Value, ValueType, from_text};

use crate::value::{Shape, Storage};

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

/// Files of an extension in a directory of the fixtures, in order.
pub(crate) fn files(name: &str, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory(name)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|end| end == extension)).collect();
    files.sort();
    files
}

/// The programs of all operations' cases, one a family; a case is a function.
pub(crate) fn operations() -> Vec<Program> {
    let read = |path: &PathBuf| from_text(&std::fs::read_to_string(path).unwrap()).unwrap();
    files("ops", "mil").iter().map(read).collect()
}

/// The operator that a case is about.
pub(crate) fn operator(case: &Function) -> &str {
    case.attributes.get("operator").and_then(Value::as_str).unwrap()
}

/// The packages of a language model.
pub(crate) fn language_model(name: &str) -> Vec<Package> {
    let files = files(&format!("llm/{name}"), "mlpackage");
    files.iter().map(|path| Package::open(path).unwrap()).collect()
}

/// A package of one function.
pub(crate) fn package(name: &str, function: &Function) -> Package {
    let functions = BTreeMap::from([(name.to_owned(), function.clone())]);
    Package::from_program(Program { functions, attributes: BTreeMap::new() }).unwrap()
}

/// A function's tensor inputs with their default shapes, if it has some.
pub(crate) fn defaults(
    package: &Package,
    name: &str,
    function: &Function,
) -> Option<Vec<(Shape, Storage)>> {
    let description = package.description().ok()?.function(name)?;
    let tensors = function.inputs.iter().filter(|input| !matches!(input.ty, ValueType::State(_)));
    tensors
        .map(|input| {
            let tensor = input.ty.as_tensor()?;
            let feature = description.inputs.iter().find(|feature| feature.name == input.name)?;
            let stated = feature.ty.as_multi_array()?.shape.clone();
            let shape = tensor.fixed_shape().unwrap_or(stated);
            (shape.len() == tensor.shape.len())
                .then_some((shape.into(), Storage::natural(tensor.element)?))
        })
        .collect()
}
