//! `model.mil`: the program with what the compiler adds to it.

use std::path::Path;

use super::flexible_shapes::{self, information};
use super::source::Source;
use crate::FormatError;
use crate::files::FileKind;
use crate::mil::{self, Block, NamedValueType, Operation, Program, Value, is_name};

/// Name of the file.
pub(super) const FILE: &str = "model.mil";

const BUILD_INFO: &str = "buildInfo";

/// Who compiled a model, in the place where Apple's compiler says so of itself.
const OWN_KEY: &str = "candle-coreml-version";

/// What Apple's compiler calls itself.
const APPLE_KEYS: &str = "coremlc-";

/// The text in bytes.
pub(super) fn text(source: &Source) -> Result<Vec<u8>, FormatError> {
    check_names(&source.program)?;
    let text = mil::to_compiled_text(&completed(source), source.text_version());
    let largest = FileKind::ProgramText.largest();
    if text.len() as u64 > largest {
        let message = format!(
            "it takes {} MiB as text, and no more than {} MiB are read; keep large constants in a \
             weight file",
            text.len() >> 20,
            largest >> 20
        );
        return Err(FormatError::field("program", message));
    }
    // Values of several types in one dictionary, for which there is no text.
    mil::from_text(&text).map_err(|error| error.in_file(Path::new(FILE)))?;
    Ok(text.into_bytes())
}

/// The program with its parameters in the order of their names, the shapes that it takes, and who
/// compiled it.
fn completed(source: &Source) -> Program {
    let mut program = Program::clone(&source.program);
    for (name, function) in &mut program.functions {
        function.inputs.sort_by(|one, other| one.name.cmp(&other.name));
        if let Some(shapes) = information(&source.function(name).inputs) {
            function.attributes.insert(flexible_shapes::ATTRIBUTE.to_owned(), shapes);
        }
    }
    let mut entries = build_info(&mut program);
    entries.push((Value::string(OWN_KEY), Value::string(env!("CARGO_PKG_VERSION"))));
    entries.sort_by(|one, other| one.0.as_str().cmp(&other.0.as_str()));
    program.attributes.insert(BUILD_INFO.to_owned(), Value::Dictionary(entries));
    program
}

/// Takes away what a compiler added.
pub(super) fn without_additions(program: &mut Program) {
    for function in program.functions.values_mut() {
        function.attributes.remove(flexible_shapes::ATTRIBUTE);
    }
    let entries = build_info(program);
    if !entries.is_empty() {
        program.attributes.insert(BUILD_INFO.to_owned(), Value::Dictionary(entries));
    }
}

/// Takes what was said of the build out of the program, without what compilers say of themselves.
fn build_info(program: &mut Program) -> Vec<(Value, Value)> {
    let Some(Value::Dictionary(mut entries)) = program.attributes.remove(BUILD_INFO) else {
        return Vec::new();
    };
    let of_compiler = |key: &str| key == OWN_KEY || key.starts_with(APPLE_KEYS);
    entries.retain(|(key, _)| !key.as_str().is_some_and(of_compiler));
    entries
}

/// MIL text has no way to quote a name, so that any other would be read as something else.
fn check_names(program: &Program) -> Result<(), FormatError> {
    check(program.attributes.keys(), "", "")?;
    for (name, function) in &program.functions {
        check([name], name, "")?;
        check(function.attributes.keys(), name, "attributes")?;
        check(names(&function.inputs), name, "inputs")?;
        check_block(&function.block, name)?;
    }
    Ok(())
}

fn check_block(block: &Block, function: &str) -> Result<(), FormatError> {
    check(names(&block.inputs), function, "block")?;
    block.operations.iter().try_for_each(|operation| check_operation(operation, function))
}

fn check_operation(operation: &Operation, function: &str) -> Result<(), FormatError> {
    let own = operation.inputs.keys().chain(operation.attributes.keys());
    let all = own.chain(names(&operation.outputs)).chain([&operation.operator]);
    check(all, function, operation.name())?;
    operation.blocks.iter().try_for_each(|nested| check_block(nested, function))
}

fn names(values: &[NamedValueType]) -> impl Iterator<Item = &String> {
    values.iter().map(|value| &value.name)
}

fn check<'a>(
    names: impl IntoIterator<Item = &'a String>,
    function: &str,
    operation: &str,
) -> Result<(), FormatError> {
    match names.into_iter().find(|name| !is_name(name)) {
        None => Ok(()),
        Some(name) => Err(FormatError::InvalidProgram {
            function: function.to_owned(),
            operation: operation.to_owned(),
            message: format!(
                "`{name}` is no name for MIL text, which has letters, digits and `_ @ $ . :`, and no \
                 digit first; rename it in the package"
            ),
        }),
    }
}
