//! Compiled models (`.mlmodelc`) from packages, as Apple's compiler makes them, and packages from
//! compiled models. `docs/compiled-models.md` says what each file holds, where that is known from,
//! and where this differs from Apple's.

mod binary;
mod decompile;
mod digest;
mod flexible_shapes;
mod manifest;
mod metadata;
mod output;
mod program;
mod source;
mod weights;

use std::path::Path;

use self::output::Staging;
use self::source::Source;
use crate::package::has_description;
use crate::{FormatError, Package, PackageKind};

pub use self::decompile::decompile;
pub use self::output::IfExists;

/// Compiles a model to the directory `out` (`.mlmodelc`): the program as MIL text, its weights, and
/// the files that describe it. It is written beside `out` first, so that `out` is whole or not there.
///
/// ```no_run
/// use coreml_format::{IfExists, Package, compile};
///
/// let package = Package::open("model.mlpackage")?;
/// compile(&package, "model.mlmodelc", IfExists::Refuse)?;
/// # Ok::<(), coreml_format::FormatError>(())
/// ```
///
/// # Errors
/// When the model can't be read, is compiled already or is no ML Program, a name in it is none that
/// MIL text has, `out` may not be written, or the system refuses. Nothing is left behind.
pub fn compile(
    package: &Package,
    out: impl AsRef<Path>,
    if_exists: IfExists,
) -> Result<(), FormatError> {
    if package.kind() == PackageKind::Compiled {
        return Err(FormatError::WrongForm {
            path: package.path().to_owned(),
            found: package.kind(),
            expected: "a package or model file that is still to be compiled",
        });
    }
    let source = Source::read(package)?;
    let staging = Staging::beside(out.as_ref(), package, if_exists, has_description)?;
    staging.write(program::FILE, &program::text(&source)?)?;
    staging.write("metadata.json", &metadata::json(&source)?)?;
    staging.write("coremldata.bin", &binary::description(&source))?;
    staging.write("analytics/coremldata.bin", &binary::analytics(&source))?;
    weights::copy(package, &source.program, &staging, Path::new(""))?;
    staging.publish()
}
