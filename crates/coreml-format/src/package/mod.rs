//! Model containers: `.mlpackage` and `.mlmodelc` directories, `.mlmodel` files and programs in
//! memory.

mod compiled;
mod manifest;
mod paths;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::FormatError;
use crate::blob::{BlobFile, map_file, refuse_lfs_pointer};
use crate::description::ModelDescription;
use crate::mil::{self, Program};
use crate::model::Model;

/// Form of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PackageKind {
    /// A `.mlpackage` directory: a manifest, the model as protobuf, weights beside it.
    Package,
    /// A `.mlmodel` file: the protobuf alone.
    ModelFile,
    /// A `.mlmodelc` directory: compiled, with the program as MIL text.
    Compiled,
    /// No file: a program that was made or read elsewhere, without blob files.
    Memory,
}

impl fmt::Display for PackageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PackageKind::Package => "model package (.mlpackage)",
            PackageKind::ModelFile => "model file (.mlmodel)",
            PackageKind::Compiled => "compiled model (.mlmodelc)",
            PackageKind::Memory => "program in memory",
        })
    }
}

/// An ML Program with its description and its weights. Weights are mapped when first asked for.
#[derive(Debug)]
pub struct Package {
    path: PathBuf,
    kind: PackageKind,
    description: ModelDescription,
    program: Program,
    /// What `@model_path` stands for.
    model_dir: PathBuf,
    /// Nothing outside this directory is read.
    root: PathBuf,
    blobs: Mutex<BTreeMap<String, Arc<BlobFile>>>,
}

/// What can be told about a model of any kind.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ModelSummary {
    /// Form on disk.
    pub package_kind: PackageKind,
    /// The model's kind by its name in `Model.proto`: `mlProgram`, `neuralNetwork`, …
    pub model_kind: String,
    /// Its interface.
    pub description: ModelDescription,
}

/// A container's content before it is known to be an ML Program.
struct Contents {
    summary: ModelSummary,
    program: Option<Program>,
    /// The file that holds the program.
    program_file: PathBuf,
    model_dir: PathBuf,
    root: PathBuf,
}

impl Package {
    /// Opens a model: a `.mlpackage` or `.mlmodelc` directory or a `.mlmodel` file, told apart by
    /// what they hold. The program is read and [validated](mil::validate); weights are not touched.
    ///
    /// # Errors
    /// When something is missing or malformed, or the model is no ML Program.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, FormatError> {
        let path = path.as_ref();
        let contents = read(path)?;
        let program = contents.program.ok_or_else(|| FormatError::UnsupportedModel {
            path: path.to_owned(),
            kind: contents.summary.model_kind,
        })?;
        mil::validate(&program).map_err(|error| error.in_file(&contents.program_file))?;
        let mut description = contents.summary.description;
        description.complete(&program);
        Ok(Package {
            path: path.to_owned(),
            kind: contents.summary.package_kind,
            description,
            program,
            model_dir: contents.model_dir,
            root: contents.root,
            blobs: Mutex::default(),
        })
    }

    /// Describes a model of any kind, also those that [`open`](Self::open) refuses.
    ///
    /// # Errors
    /// When something is missing or malformed.
    pub fn describe(path: impl AsRef<Path>) -> Result<ModelSummary, FormatError> {
        Ok(read(path.as_ref())?.summary)
    }

    /// A package of a program in memory, described by the program itself: parameters and results of
    /// its functions are multi-arrays; the default function is `main` if there is one, else the
    /// first by name. The program is [validated](mil::validate); it has to do without blob files.
    ///
    /// # Errors
    /// When the program is not well formed.
    pub fn from_program(program: Program) -> Result<Self, FormatError> {
        mil::validate(&program)?;
        Ok(Package {
            path: PathBuf::new(),
            kind: PackageKind::Memory,
            description: ModelDescription::from_program(&program),
            program,
            model_dir: PathBuf::new(),
            root: PathBuf::new(),
            blobs: Mutex::default(),
        })
    }

    /// The path that was opened; empty for a program in memory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The form, on disk or in memory.
    pub fn kind(&self) -> PackageKind {
        self.kind
    }

    /// The model's interface.
    pub fn description(&self) -> &ModelDescription {
        &self.description
    }

    /// The model's program.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The blob file with this name, spelled as in the program: `@model_path/weights/weight.bin`.
    /// Each file is mapped once.
    ///
    /// # Errors
    /// When the name leads out of the package (`..`, an absolute path, a symbolic link), or the
    /// file is missing or no blob file, or the program is one in memory.
    pub fn blob_file(&self, name: &str) -> Result<Arc<BlobFile>, FormatError> {
        if self.kind == PackageKind::Memory {
            return Err(FormatError::FileName {
                name: name.to_owned(),
                message: "a program in memory has no blob files".into(),
            });
        }
        // A panic elsewhere cannot leave the map half-written.
        let mut blobs = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(blob) = blobs.get(name) {
            return Ok(Arc::clone(blob));
        }
        let relative = paths::blob_path(name)?;
        let file = paths::resolve(&self.root, &self.model_dir, relative)
            .map_err(|error| error.in_file(&self.path))?;
        let blob = Arc::new(BlobFile::open(file)?);
        blobs.insert(name.to_owned(), Arc::clone(&blob));
        Ok(blob)
    }
}

fn read(path: &Path) -> Result<Contents, FormatError> {
    let root = path.canonicalize().map_err(FormatError::io(path))?;
    if root.is_file() {
        let model_dir = directory_of(path, &root);
        return read_model_file(&root, model_dir.clone(), model_dir, PackageKind::ModelFile);
    }
    if let Some(model) = manifest::model_file(&root)? {
        return read_model_file(&model.file, model.dir, root, PackageKind::Package);
    }
    if compiled::is_compiled(&root) {
        return compiled::read(&root);
    }
    Err(FormatError::container(
        path,
        "is not a Core ML model: expected a directory with `Manifest.json` (.mlpackage) or \
         `model.mil` (.mlmodelc), or a .mlmodel file",
    ))
}

/// The directory of a model file, where its weights are: that of the file itself if `path` is a
/// link, unless it is one to a blob of a Hugging Face cache, which has its weights beside the link.
fn directory_of(path: &Path, file: &Path) -> PathBuf {
    let own = file.parent().unwrap_or(file);
    let of_link = std::path::absolute(path)
        .and_then(|path| path.parent().unwrap_or(&path).canonicalize())
        .unwrap_or_else(|_| own.to_owned());
    if paths::is_hub_blob(&of_link, file) { of_link } else { own.to_owned() }
}

fn read_model_file(
    file: &Path,
    model_dir: PathBuf,
    root: PathBuf,
    package_kind: PackageKind,
) -> Result<Contents, FormatError> {
    let map = map_file(file)?;
    let bytes = map.as_deref().unwrap_or_default();
    refuse_lfs_pointer(file, bytes)?;
    if bytes.is_empty() {
        return Err(FormatError::container(file, "is empty"));
    }
    if bytes.starts_with(b"PK\x03\x04") {
        return Err(FormatError::container(file, "is a zip archive; unpack it and open the model"));
    }
    let model = Model::decode(bytes).map_err(|error| error.in_file(file))?;
    Ok(Contents {
        summary: ModelSummary {
            package_kind,
            model_kind: model.kind.to_owned(),
            description: model.description,
        },
        program: model.program,
        program_file: file.to_owned(),
        model_dir,
        root,
    })
}
