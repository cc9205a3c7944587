//! The weight files that a program refers to.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::output::Staging;
use crate::mil::{Argument, Binding, BlobFileValue, Block, Operation, Program, Value};
use crate::package::blob_path;
use crate::{FormatError, Package};

/// Copies them below `directory`, each under its own name, after checking that each of its values
/// lies where the program says.
pub(super) fn copy(
    package: &Package,
    program: &Program,
    staging: &Staging,
    directory: &Path,
) -> Result<Vec<PathBuf>, FormatError> {
    let mut copied = Vec::new();
    for (name, file) in files(package, program)? {
        staging.copy(&directory.join(&name), &file)?;
        copied.push(name);
    }
    Ok(copied)
}

/// Paths in the model, with the files that they stand for.
fn files(package: &Package, program: &Program) -> Result<BTreeMap<PathBuf, PathBuf>, FormatError> {
    let mut files = BTreeMap::new();
    for blob in blobs(program) {
        let file = package.blob_file(&blob.file)?;
        file.tensor(blob)?;
        let plain = |part: &Component| matches!(part, Component::Normal(_));
        let name = Path::new(blob_path(&blob.file)?).components().filter(plain).collect();
        files.insert(name, file.path().to_owned());
    }
    Ok(files)
}

fn blobs(program: &Program) -> Vec<&BlobFileValue> {
    let mut found = Vec::new();
    program.functions.values().for_each(|function| in_block(&function.block, &mut found));
    found
}

fn in_block<'a>(block: &'a Block, found: &mut Vec<&'a BlobFileValue>) {
    for operation in &block.operations {
        values(operation).for_each(|value| in_value(value, found));
        operation.blocks.iter().for_each(|nested| in_block(nested, found));
    }
}

/// The constants that an operation has in place.
pub(super) fn values(operation: &Operation) -> impl Iterator<Item = &Value> {
    let bindings = operation.inputs.values().flat_map(|Argument(bindings)| bindings);
    let arguments = bindings.filter_map(|binding| match binding {
        Binding::Value(value) => Some(value),
        Binding::Name(_) => None,
    });
    arguments.chain(operation.attributes.values())
}

fn in_value<'a>(value: &'a Value, found: &mut Vec<&'a BlobFileValue>) {
    match value {
        Value::BlobFile(blob) => found.push(blob),
        Value::List(_, values) | Value::Tuple(values) => {
            values.iter().for_each(|value| in_value(value, found));
        }
        Value::Dictionary(entries) => entries.iter().for_each(|(key, value)| {
            in_value(key, found);
            in_value(value, found);
        }),
        Value::Tensor(_) => {}
    }
}
