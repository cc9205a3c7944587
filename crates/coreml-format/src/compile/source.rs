//! What is compiled: a program, its description as the file has it, and names.

use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost::Message;

use super::digest::sha256;
use crate::blob::map_file;
use crate::description::{FunctionDescription, ModelDescription};
use crate::files::FileKind;
use crate::mil::{self, Program, TextVersion};
use crate::package::PackageKind;
use crate::proto::model as pb;
use crate::proto::wire::fields;
use crate::{FormatError, Package};

/// Number of a description's metadata in `ModelDescription`.
const METADATA: u32 = 100;

/// Number of a model's description in `Model`.
const DESCRIPTION: u32 = 2;

pub(super) struct Source {
    pub program: Arc<Program>,
    /// What the file says of the model; not completed by what the program says.
    pub description: ModelDescription,
    /// The message of the description as the file has it, with metadata.
    pub message: Vec<u8>,
    /// SHA-256 of the model file in base64.
    pub hash: String,
    /// Name of the model: that of the package.
    pub name: String,
    /// Name of the model file, without its ending.
    pub file_name: String,
}

impl Source {
    pub fn read(package: &Package) -> Result<Self, FormatError> {
        let program = Arc::clone(package.program()?);
        let version = package.description()?.specification_version;
        if package.kind() == PackageKind::Memory {
            return Self::of_bytes(
                program,
                version,
                &made_up(package)?,
                Path::new("model"),
                "model",
            );
        }
        let file = package.model_file();
        let map = map_file(file, FileKind::Message)?;
        let bytes = map.as_deref().unwrap_or_default();
        Self::of_bytes(program, version, bytes, file, &stem(package.path()))
            .map_err(|error| error.in_file(file))
    }

    /// From the `Model` message in a file.
    fn of_bytes(
        program: Arc<Program>,
        version: i32,
        bytes: &[u8],
        file: &Path,
        name: &str,
    ) -> Result<Self, FormatError> {
        let message = description_message(bytes)?;
        let decoded = pb::ModelDescription::decode(message.as_slice())?;
        Ok(Source {
            program,
            description: ModelDescription::from_proto(version, decoded)?,
            message,
            hash: STANDARD.encode(sha256(bytes)),
            name: name.to_owned(),
            file_name: stem(file),
        })
    }

    pub fn specification_version(&self) -> i32 {
        self.description.specification_version
    }

    /// Apple's compiler writes the newer text for models of the versions since iOS 18.
    pub fn text_version(&self) -> TextVersion {
        match self.specification_version() {
            ..9 => TextVersion::V1_0,
            9.. => TextVersion::V1_3,
        }
    }

    /// The description of a function of the program: one of the functions that the file describes, or
    /// what it says of the only one.
    pub fn function(&self, name: &str) -> FunctionDescription {
        let only = || {
            let known = &self.description;
            let single = self.program.functions.len() == 1 && known.functions.is_empty();
            single.then(|| known.function(&known.default_function)).flatten()
        };
        let found = self.description.function(name).or_else(only);
        found.unwrap_or_else(|| FunctionDescription::new(name))
    }
}

/// Name of a path without its ending.
fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// The message of a model's description. Apple's compiler adds metadata where there are none.
fn description_message(model: &[u8]) -> Result<Vec<u8>, FormatError> {
    let mut message = Vec::new();
    for field in fields(model) {
        let field = field?;
        if let (DESCRIPTION, Some(bytes)) = (field.number, field.value.bytes()) {
            // Of a message that is given in parts the parts are merged, which is to join them.
            message.extend_from_slice(bytes);
        }
    }
    let mut has_metadata = false;
    for field in fields(&message) {
        has_metadata |= field?.number == METADATA;
    }
    if !has_metadata {
        prost::encoding::message::encode(METADATA, &pb::Metadata::default(), &mut message);
    }
    Ok(message)
}

/// The message of a program that was never in a file.
fn made_up(package: &Package) -> Result<Vec<u8>, FormatError> {
    let description = package.description()?;
    let model = pb::WrittenModel {
        specification_version: description.specification_version,
        description: description.to_proto().encode_to_vec(),
        ml_program: Some(mil::to_proto(package.program()?)),
    };
    Ok(model.encode_to_vec())
}
