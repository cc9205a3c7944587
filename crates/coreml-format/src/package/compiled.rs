//! Compiled models (`.mlmodelc`): `model.mil`, `metadata.json`, `coremldata.bin`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use prost::Message;

use crate::FormatError;
use crate::blob::refuse_lfs_pointer;
use crate::description::{CompiledMetadata, ModelDescription, specification_version};
use crate::files::{self, FileKind};
use crate::mil::{self, Program};
use crate::model::{Body, MOST_NESTED, Model, Stage, UNKNOWN};
use crate::proto;

const PROGRAM: &str = "model.mil";
const METADATA: &str = "metadata.json";
const DESCRIPTION: &str = "coremldata.bin";

/// `coremldata.bin` starts with a header of about 80 bytes (the kind's field number, a class name,
/// the specification version) that differs between compilers.
const LONGEST_HEADER: usize = 1024;

/// Whether a directory looks like a compiled model of any kind.
pub(super) fn is_compiled(root: &Path) -> bool {
    [PROGRAM, METADATA, DESCRIPTION].iter().any(|name| root.join(name).symlink_metadata().is_ok())
}

/// Whether a directory is one that a compiler has written: all of them write this file.
pub(crate) fn has_description(root: &Path) -> bool {
    root.join(DESCRIPTION).symlink_metadata().is_ok()
}

/// The file with the program of the compiled model in `root`.
pub(super) fn program_file(root: &Path) -> PathBuf {
    root.join(PROGRAM)
}

/// Reads the compiled model in `root` (canonical), which lies within so many pipelines.
pub(super) fn read(root: &Path, depth: usize) -> Result<Model, FormatError> {
    let metadata = match optional_file(root, METADATA, FileKind::Settings)? {
        Some((file, bytes)) => {
            Some(CompiledMetadata::parse(&bytes).map_err(|error| error.in_file(&file))?)
        }
        None => None,
    };
    let binary = optional_file(root, DESCRIPTION, FileKind::Message)?;
    let program = read_program(root)?;
    let whole = match (&program, &binary) {
        (None, Some((file, bytes))) => {
            model_in(bytes).map(|model| model.map_err(|e| e.in_file(file)))
        }
        _ => None,
    };
    if let Some(Ok(model)) = whole {
        return Ok(model);
    }
    let described = describe(root, binary.as_ref().map(|file| &*file.1), metadata.as_ref());
    let description = match (described, whole) {
        // What is wrong with the only description there is.
        (Err(_), Some(Err(error))) => return Err(error),
        (described, _) => described?,
    };
    let stated_kind = metadata.as_ref().and_then(CompiledMetadata::model_kind);
    let kind = match (&program, stated_kind) {
        (Some(_), _) => proto::model::ML_PROGRAM,
        (None, Some(kind)) => kind,
        (None, None) => binary.as_ref().and_then(|file| kind_of(&file.1)).unwrap_or(UNKNOWN),
    };
    let body = match program {
        Some(program) => Body::Program(Arc::new(program)),
        None if kind == proto::model::ML_PROGRAM => {
            let message = format!("is a compiled ML Program without its `{PROGRAM}`");
            return Err(FormatError::container(root, message));
        }
        None if kind.starts_with("pipeline") => Body::Pipeline(stages(root, depth)?),
        None => Body::Other(None),
    };
    Ok(Model { kind, description: complete(description, &body), body })
}

/// The models of a compiled pipeline, which lie in directories `model0`, `model1`, … Links are refused:
/// a few that lead to each other would stand for any number of models.
fn stages(root: &Path, depth: usize) -> Result<Vec<Stage>, FormatError> {
    if depth >= MOST_NESTED {
        let message = format!("holds pipelines that are nested more than {MOST_NESTED} deep");
        return Err(FormatError::container(root, message));
    }
    let mut stages = Vec::new();
    loop {
        let name = format!("model{}", stages.len());
        let directory = root.join(&name);
        let Ok(there) = directory.symlink_metadata() else { return Ok(stages) };
        if !there.is_dir() {
            let found = files::name_of(there.file_type());
            let message = format!("is {found}, where a pipeline has the directory of a model");
            return Err(FormatError::container(&directory, message));
        }
        stages.push(Stage { name, model: read(&directory, depth + 1)? });
    }
}

/// A file of the model, if there is one.
fn optional_file(
    root: &Path,
    name: &str,
    kind: FileKind,
) -> Result<Option<(PathBuf, Vec<u8>)>, FormatError> {
    let Some(file) = files::inside(root, &root.join(name))? else { return Ok(None) };
    let bytes = files::read(&file, kind)?;
    refuse_lfs_pointer(&file, &bytes)?;
    Ok(Some((file, bytes)))
}

fn read_program(root: &Path) -> Result<Option<Program>, FormatError> {
    let Some((file, bytes)) = optional_file(root, PROGRAM, FileKind::ProgramText)? else {
        return Ok(None);
    };
    let text = String::from_utf8(bytes).map_err(|error| {
        FormatError::container(&file, format!("is not UTF-8 text: {error}")).caused_by(error)
    })?;
    mil::from_text(&text).map(Some).map_err(|error| error.in_file(&file))
}

/// The description: the interface from `coremldata.bin` if it can be found there, else from
/// `metadata.json`, which also has the functions and the version.
fn describe(
    root: &Path,
    binary: Option<&[u8]>,
    metadata: Option<&CompiledMetadata>,
) -> Result<ModelDescription, FormatError> {
    let from_metadata = metadata.map(CompiledMetadata::description);
    match (binary.and_then(description_in), from_metadata) {
        (Some(mut description), Some(Ok(metadata))) => {
            description.specification_version = metadata.specification_version;
            if description.functions.is_empty() && !metadata.functions.is_empty() {
                description.functions = metadata.functions;
                description.default_function = metadata.default_function;
            }
            Ok(description)
        }
        (Some(description), _) => Ok(description),
        (None, Some(from_metadata)) => {
            from_metadata.map_err(|error| error.in_file(&root.join(METADATA)))
        }
        (None, None) => Err(FormatError::container(
            root,
            format!("has neither a readable `{DESCRIPTION}` nor a `{METADATA}` to describe it"),
        )),
    }
}

/// The version that the opset implies where the files state none.
fn complete(mut description: ModelDescription, body: &Body) -> ModelDescription {
    if let (0, Body::Program(program)) = (description.specification_version, body) {
        description.specification_version = specification_version(program);
    }
    description
}

/// The first u32 of `coremldata.bin` is the field number of the model's kind in `Model.proto`.
fn kind_of(bytes: &[u8]) -> Option<&'static str> {
    proto::model::kind_name(u32::from_le_bytes(*bytes.first_chunk()?))
}

/// The serialized `Model` that `coremldata.bin` of a classic model holds behind these letters.
const WHOLE_MODEL: &[u8] = b"spec";

fn model_in(bytes: &[u8]) -> Option<Result<Model, FormatError>> {
    let header = &bytes[..bytes.len().min(LONGEST_HEADER)];
    let at = header.windows(WHOLE_MODEL.len()).position(|window| window == WHOLE_MODEL)?;
    let model = Model::decode(&bytes[at + WHOLE_MODEL.len()..]);
    Some(model).filter(|model| model.as_ref().map_or(true, |model| model.kind != UNKNOWN))
}

/// The serialized `ModelDescription` in the compiled model in `root`, and whether it describes
/// functions; `None` where there is none.
pub(super) fn description_message(root: &Path) -> Result<Option<(Vec<u8>, bool)>, FormatError> {
    let Some((_, bytes)) = optional_file(root, DESCRIPTION, FileKind::Message)? else {
        return Ok(None);
    };
    Ok(find_description(&bytes).map(|(bytes, found)| (bytes.to_vec(), !found.functions.is_empty())))
}

fn description_in(bytes: &[u8]) -> Option<ModelDescription> {
    find_description(bytes).map(|(_, description)| description)
}

/// Finds the serialized `ModelDescription` in `coremldata.bin`: the first run of bytes after a
/// matching u64 length that decodes to a description with an output.
fn find_description(bytes: &[u8]) -> Option<(&[u8], ModelDescription)> {
    let starts = 0..bytes.len().min(LONGEST_HEADER);
    starts.filter_map(|at| description_at(bytes.get(at..)?)).next()
}

fn description_at(bytes: &[u8]) -> Option<(&[u8], ModelDescription)> {
    let (length, rest) = bytes.split_first_chunk()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let bytes = rest.get(..length)?;
    let message = proto::model::ModelDescription::decode(bytes).ok()?;
    let features = message.output.len() + message.functions.len();
    let description = ModelDescription::from_proto(0, message).ok()?;
    (features > 0).then_some((bytes, description))
}
