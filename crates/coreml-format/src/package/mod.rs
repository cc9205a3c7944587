//! Model containers: `.mlpackage` and `.mlmodelc` directories, `.mlmodel` files and programs in
//! memory.

mod compiled;
mod manifest;
mod paths;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::{fmt, io};

use self::manifest::ModelFile;
use crate::FormatError;
use crate::blob::{BlobFile, map_file, refuse_lfs_pointer};
use crate::description::ModelDescription;
use crate::files::{self, FileKind};
use crate::mil::{self, Program};
use crate::model::{Body, Model};
use crate::proto::model::ML_PROGRAM;

pub(crate) use self::compiled::has_description;
pub(crate) use self::manifest::is_package;
pub(crate) use self::paths::blob_path;

/// The program of a Core AI model (`.aimodel`), as MLIR bytecode.
const CORE_AI_PROGRAM: &str = "main.mlirb";

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

/// A model of any kind with its files, or a program in memory. Its files are found when it is opened,
/// decoded when they are first asked for, and weights are mapped when they are. Nothing is read twice.
#[derive(Debug)]
pub struct Package {
    path: PathBuf,
    kind: PackageKind,
    /// What `@model_path` stands for.
    model_dir: PathBuf,
    /// Nothing outside this directory is read.
    root: PathBuf,
    /// The file with the `Model` message of a `.mlpackage` or a `.mlmodel`.
    model_file: PathBuf,
    model: OnceLock<Model>,
    /// Held by the call that decodes.
    decoding: Mutex<()>,
    blobs: Mutex<BTreeMap<String, Arc<BlobFile>>>,
}

impl Package {
    /// Opens a model: a `.mlpackage` or `.mlmodelc` directory or a `.mlmodel` file, told apart by
    /// what they hold. What they hold is not yet decoded.
    ///
    /// # Errors
    /// When there is no model at the path.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, FormatError> {
        let path = path.as_ref();
        Self::at(path, path.canonicalize().map_err(FormatError::io(path))?)
    }

    /// Opens a model in a directory that is not trusted: links that lead out of `directory` are
    /// refused, other than in a Hugging Face cache. `path` lies in it.
    ///
    /// # Errors
    /// As for [`open`](Self::open), and when the path leads out of the directory.
    pub fn open_within(
        directory: impl AsRef<Path>,
        path: impl AsRef<Path>,
    ) -> Result<Self, FormatError> {
        let (directory, path) = (directory.as_ref(), path.as_ref());
        let root = directory.canonicalize().map_err(FormatError::io(directory))?;
        let missing = || FormatError::io(path)(io::ErrorKind::NotFound.into());
        Self::at(path, files::inside(&root, path)?.ok_or_else(missing)?)
    }

    /// Opens the model at `path`, whose canonical path is `root`.
    fn at(path: &Path, root: PathBuf) -> Result<Self, FormatError> {
        let there = root.metadata().map_err(FormatError::io(path))?;
        if !there.is_dir() {
            files::check_type(path, there.file_type())?;
            let model_dir = directory_of(path, &root);
            let kind = PackageKind::ModelFile;
            return Ok(Package { model_file: root, ..Package::new(path, kind, model_dir) });
        }
        if let Some(ModelFile { file, dir }) = manifest::model_file(&root)? {
            let package = Package::new(path, PackageKind::Package, dir);
            return Ok(Package { root, model_file: file, ..package });
        }
        if root.join(CORE_AI_PROGRAM).is_file() {
            return Err(FormatError::CoreAi { path: path.to_owned() });
        }
        if compiled::is_compiled(&root) {
            return Ok(Package::new(path, PackageKind::Compiled, root));
        }
        Err(no_model(path, &root))
    }

    /// A package of a program in memory, described by the program itself: parameters and results of
    /// its functions are multi-arrays; the default function is `main` if there is one, else the
    /// first by name. The program is [validated](mil::validate); it has to do without blob files.
    ///
    /// # Errors
    /// When the program is not well formed.
    pub fn from_program(program: Program) -> Result<Self, FormatError> {
        mil::validate(&program)?;
        let model = Model {
            kind: ML_PROGRAM,
            description: ModelDescription::from_program(&program),
            body: Body::Program(Arc::new(program)),
        };
        let package = Package::new(Path::new(""), PackageKind::Memory, PathBuf::new());
        Ok(Package { model: OnceLock::from(model), ..package })
    }

    /// A package whose directory is `dir`, not yet decoded.
    fn new(path: &Path, kind: PackageKind, dir: PathBuf) -> Self {
        Package {
            path: path.to_owned(),
            kind,
            root: dir.clone(),
            model_dir: dir,
            model_file: PathBuf::new(),
            model: OnceLock::new(),
            decoding: Mutex::default(),
            blobs: Mutex::default(),
        }
    }

    /// The model, decoded at the first call. A program is read and [validated](mil::validate).
    ///
    /// # Errors
    /// When something is missing or malformed.
    pub fn model(&self) -> Result<&Model, FormatError> {
        if let Some(model) = self.model.get() {
            return Ok(model);
        }
        let _decoding = self.decoding.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(model) = self.model.get() {
            return Ok(model);
        }
        tracing::debug!(path = %self.path.display(), "decoding");
        let mut model = match self.kind {
            PackageKind::Compiled => compiled::read(&self.root, 0)?,
            _ => read_model_file(&self.model_file)?,
        };
        if let Body::Program(program) = &model.body {
            mil::validate(program).map_err(|error| error.in_file(&self.program_file()))?;
            model.description.complete(program);
        }
        Ok(self.model.get_or_init(|| model))
    }

    /// The model's interface.
    ///
    /// # Errors
    /// As for [`model`](Self::model).
    pub fn description(&self) -> Result<&ModelDescription, FormatError> {
        Ok(&self.model()?.description)
    }

    /// The model's program.
    ///
    /// # Errors
    /// As for [`model`](Self::model), and when the model is no ML Program.
    pub fn program(&self) -> Result<&Arc<Program>, FormatError> {
        let model = self.model()?;
        model.program().ok_or_else(|| FormatError::NotAProgram {
            path: self.path.clone(),
            kind: model.kind_in_words(),
        })
    }

    /// The file that holds the program.
    fn program_file(&self) -> PathBuf {
        match self.kind {
            PackageKind::Compiled => compiled::program_file(&self.root),
            _ => self.model_file.clone(),
        }
    }

    /// The file with the `Model` message of a `.mlpackage` or a `.mlmodel`.
    pub(crate) fn model_file(&self) -> &Path {
        &self.model_file
    }

    /// The description's message in a compiled model, if it holds one, and whether it describes
    /// functions.
    pub(crate) fn compiled_description(&self) -> Result<Option<(Vec<u8>, bool)>, FormatError> {
        compiled::description_message(&self.root)
    }

    /// The path that was opened; empty for a program in memory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The form, on disk or in memory.
    pub fn kind(&self) -> PackageKind {
        self.kind
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
        let blob = Arc::new(BlobFile::at(&file)?);
        blobs.insert(name.to_owned(), Arc::clone(&blob));
        Ok(blob)
    }
}

/// The directory of a model file, where its weights are: that of the file itself if `path` is a
/// link, unless it is one to a blob of a Hugging Face cache, which has its weights beside the link.
fn directory_of(path: &Path, file: &Path) -> PathBuf {
    let own = file.parent().unwrap_or(file);
    let of_link = std::path::absolute(path)
        .and_then(|path| path.parent().unwrap_or(&path).canonicalize())
        .unwrap_or_else(|_| own.to_owned());
    if files::is_hub_blob(&of_link, file) { of_link } else { own.to_owned() }
}

/// Says that a directory is no model, and which models lie in it.
fn no_model(path: &Path, root: &Path) -> FormatError {
    let mut message = "is not a Core ML model: expected a directory with `Manifest.json` \
                       (.mlpackage) or `model.mil` (.mlmodelc), or a .mlmodel file"
        .to_owned();
    let is_model = |path: &PathBuf| {
        path.extension()
            .is_some_and(|ending| ["mlpackage", "mlmodelc", "mlmodel"].iter().any(|e| ending == *e))
    };
    let mut models: Vec<PathBuf> = files::entries(root).unwrap_or_default();
    models.retain(is_model);
    models.sort();
    if let Some(first) = models.first().and_then(|model| model.file_name()) {
        let others = match models.len() {
            1 => String::new(),
            count => format!(" (one of {count})"),
        };
        let model = path.join(first);
        message += &format!("; there is one in it, `{}`{others}", model.display());
    }
    FormatError::container(path, message)
}

fn read_model_file(file: &Path) -> Result<Model, FormatError> {
    let map = map_file(file, FileKind::Message)?;
    let bytes = map.as_deref().unwrap_or_default();
    refuse_lfs_pointer(file, bytes)?;
    if bytes.is_empty() {
        return Err(FormatError::container(file, "is empty"));
    }
    if bytes.starts_with(b"PK\x03\x04") {
        return Err(FormatError::container(file, "is a zip archive; unpack it and open the model"));
    }
    Model::decode(bytes).map_err(|error| error.in_file(file))
}
