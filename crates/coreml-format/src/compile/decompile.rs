//! A package from a compiled model.

use std::path::Path;

use prost::Message;

use super::manifest::{self, AUTHOR, MODEL};
use super::output::{IfExists, Staging};
use super::{program, weights};
use crate::description::{FunctionDescription, ModelDescription};
use crate::mil::{self, Program};
use crate::package::is_package;
use crate::proto::model::WrittenModel;
use crate::{FormatError, Model, Package, PackageKind};

/// Makes a package (`.mlpackage`) of a compiled model, in the directory `out`: the program and the
/// description as protobuf, its weights, and a manifest. It is written beside `out` first, so that
/// `out` is whole or not there.
///
/// What only the compiler knew is left out: its versions, and the shapes that it wrote into the
/// program beside the description. Parameters get the order of the description again.
///
/// # Errors
/// When the model can't be read, is not compiled or no ML Program, `out` may not be written, or the
/// system refuses. Nothing is left behind.
pub fn decompile(
    package: &Package,
    out: impl AsRef<Path>,
    if_exists: IfExists,
) -> Result<(), FormatError> {
    if package.kind() != PackageKind::Compiled {
        return Err(FormatError::WrongForm {
            path: package.path().to_owned(),
            found: package.kind(),
            expected: "a compiled one (.mlmodelc)",
        });
    }
    let source = original(package)?;
    let model = WrittenModel {
        specification_version: package.description()?.specification_version,
        description: description(package)?,
        ml_program: Some(mil::to_proto(&source)),
    };
    let model = model.encode_to_vec();
    // Text may nest deeper than protobuf.
    Model::decode(&model).map_err(|error| error.in_file(Path::new(MODEL)))?;
    let staging = Staging::beside(out.as_ref(), package, if_exists, is_package)?;
    let data = Path::new("Data").join(AUTHOR);
    staging.write(data.join(MODEL), &model)?;
    let files = weights::copy(package, &source, &staging, &data)?;
    staging.write("Manifest.json", manifest::json(&model, &files).as_bytes())?;
    staging.publish()
}

/// The message of the description: that which the compiled model holds, unless it leaves functions
/// out that the model has.
fn description(package: &Package) -> Result<Vec<u8>, FormatError> {
    let described = package.description()?;
    match package.compiled_description()? {
        Some((message, functions)) if functions || described.functions.is_empty() => Ok(message),
        _ => Ok(described.to_proto().encode_to_vec()),
    }
}

/// The program as it was before it was compiled, as far as the description tells.
fn original(package: &Package) -> Result<Program, FormatError> {
    let mut source = Program::clone(package.program()?);
    program::without_additions(&mut source);
    let description = package.description()?;
    for (name, function) in &mut source.functions {
        let described = described(description, name);
        let place = |name: &str| {
            let features = described.inputs.iter().chain(&described.states);
            features.into_iter().position(|feature| feature.name == name).unwrap_or(usize::MAX)
        };
        function.inputs.sort_by_key(|input| place(&input.name));
    }
    Ok(source)
}

fn described(description: &ModelDescription, name: &str) -> FunctionDescription {
    description.function(name).unwrap_or_else(|| FunctionDescription::new(name))
}
