//! The model packages of a directory.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use coreml_format::Package;
use coreml_format::description::{FunctionDescription, ModelDescription};

use crate::error::{Error, Result};

/// Endings of model packages. Of two packages that differ in it only, the first kind is taken.
const EXTENSIONS: [&str; 2] = ["mlpackage", "mlmodelc"];
/// More packages than any model has: each is read to find out what it is.
const MOST_PACKAGES: usize = 1000;

/// How the packages of a model are named. The default takes any name: inputs and outputs tell which
/// package is which component, and where several could be one, `meta.yaml` or the names do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackageNaming {
    prefix: Option<String>,
    extension: Option<String>,
}

impl PackageNaming {
    /// Only packages whose names begin with `prefix`, with either ending.
    pub fn prefixed(prefix: impl Into<String>) -> Self {
        PackageNaming { prefix: Some(prefix.into()), extension: None }
    }

    /// Only packages whose names begin with `prefix` and end with `extension` (`.mlpackage` or
    /// `.mlmodelc`), for a directory that holds several models.
    pub fn custom(prefix: impl Into<String>, extension: impl AsRef<str>) -> Self {
        let extension = extension.as_ref().trim_start_matches('.').to_owned();
        PackageNaming { prefix: Some(prefix.into()), extension: Some(extension) }
    }

    /// The packages of a directory, and of its subdirectory `coreml`, in the order of their names.
    pub(super) fn packages(
        &self,
        directory: &Path,
        opened: &OpenedPackages,
    ) -> Result<Vec<FoundPackage>> {
        let mut packages: BTreeMap<String, PathBuf> = BTreeMap::new();
        for extension in EXTENSIONS.iter().filter(|&&known| self.takes_extension(known)) {
            for place in [directory.to_owned(), directory.join("coreml")] {
                for path in entries(&place, place == directory)? {
                    let Some(stem) = stem(&path, extension) else { continue };
                    if self.prefix.as_ref().is_none_or(|prefix| stem.starts_with(prefix)) {
                        packages.entry(stem).or_insert(path);
                    }
                }
            }
        }
        if packages.len() > MOST_PACKAGES {
            let message = format!("has {} packages, far more than a model", packages.len());
            return Err(Error::language_model(directory, message));
        }
        let read = |(stem, path)| FoundPackage::read(stem, path, opened);
        Ok(packages.into_iter().map(read).collect())
    }

    fn takes_extension(&self, extension: &str) -> bool {
        self.extension.as_ref().is_none_or(|wanted| wanted == extension)
    }
}

/// A package with the interfaces of its functions.
#[derive(Debug)]
pub(super) struct FoundPackage {
    /// Its name without the ending.
    pub(super) stem: String,
    pub(super) path: PathBuf,
    /// What can't be read is no component, and matters only if one is missing.
    pub(super) functions: Result<Vec<FunctionDescription>, Arc<Error>>,
}

impl FoundPackage {
    fn read(stem: String, path: PathBuf, opened: &OpenedPackages) -> Self {
        let functions = opened.functions(&path).map_err(Arc::new);
        FoundPackage { stem, path, functions }
    }
}

/// The packages that were opened for a model: each is read once, whoever asks for it.
#[derive(Debug)]
pub(crate) struct OpenedPackages {
    /// The model's directory. What lies in it must not lead out of it.
    directory: PathBuf,
    packages: Mutex<HashMap<PathBuf, Arc<Package>>>,
}

impl OpenedPackages {
    /// None yet, of the model in a directory.
    pub(crate) fn new(directory: &Path) -> Self {
        OpenedPackages { directory: directory.to_owned(), packages: Mutex::default() }
    }

    /// The package at a path. One outside of the model's directory is named by whoever loads the model.
    pub(crate) fn open(&self, path: &Path) -> Result<Arc<Package>> {
        let mut packages = self.packages.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(package) = packages.get(path) {
            return Ok(package.clone());
        }
        let package = Arc::new(match path.starts_with(&self.directory) {
            true => Package::open_within(&self.directory, path)?,
            false => Package::open(path)?,
        });
        packages.insert(path.to_owned(), package.clone());
        Ok(package)
    }

    /// The interfaces of a package's functions.
    pub(super) fn functions(&self, path: &Path) -> Result<Vec<FunctionDescription>> {
        Ok(functions(self.open(path)?.description()?))
    }
}

/// All functions of a model, also of one that does not call its only one so.
pub(super) fn functions(description: &ModelDescription) -> Vec<FunctionDescription> {
    match description.functions.as_slice() {
        [] => description.function(&description.default_function).into_iter().collect(),
        functions => functions.to_vec(),
    }
}

/// The name of a file that may be spelled with the ending of another form.
pub(super) fn without_extension(name: &str) -> &str {
    EXTENSIONS
        .iter()
        .find_map(|extension| name.strip_suffix(extension)?.strip_suffix('.'))
        .unwrap_or(name)
}

/// A name such as `qwen_FFN_PF_chunk_01of02`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ChunkName {
    /// What the chunks' names share: all but the number.
    pub(super) base: String,
    pub(super) number: usize,
    pub(super) total: usize,
}

impl ChunkName {
    /// A name without a number is the only chunk's.
    pub(super) fn parse(name: &str) -> Self {
        let numbered = || {
            let (before, rest) = name.rsplit_once("_chunk_")?;
            let (number, rest) = rest.split_once("of")?;
            // Something may follow: `_rot` for the functions beyond a sliding window.
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let (total, after) = rest.split_at_checked(end)?;
            let base = format!("{before}{after}");
            Some(ChunkName { base, number: number.parse().ok()?, total: total.parse().ok()? })
        };
        numbered().unwrap_or_else(|| ChunkName { base: name.to_owned(), number: 1, total: 1 })
    }
}

fn entries(directory: &Path, must_exist: bool) -> Result<Vec<PathBuf>> {
    if !must_exist && !directory.is_dir() {
        return Ok(Vec::new());
    }
    Ok(coreml_format::files::entries(directory)?)
}

/// Whether a directory is named as a package.
pub(super) fn is_package(directory: &Path) -> bool {
    EXTENSIONS.iter().any(|extension| stem(directory, extension).is_some())
}

fn stem(path: &Path, extension: &str) -> Option<String> {
    (path.extension()? == extension).then(|| Some(path.file_stem()?.to_string_lossy().into()))?
}

#[cfg(test)]
mod tests {
    use coreml_format::ErrorKind;

    use super::*;

    fn found(naming: &PackageNaming, names: &[&str]) -> Vec<String> {
        let directory = tempfile::tempdir().unwrap();
        for name in names {
            std::fs::create_dir_all(directory.path().join(name)).unwrap();
        }
        let opened = OpenedPackages::new(directory.path());
        let packages = naming.packages(directory.path(), &opened).unwrap();
        assert!(packages.iter().all(|package| package.functions.is_err()), "they are empty");
        let name = |package: &FoundPackage| {
            let path = package.path.strip_prefix(directory.path()).unwrap();
            path.to_string_lossy().replace('\\', "/")
        };
        packages.iter().map(name).collect()
    }

    #[test]
    fn packages_are_found_once_in_both_places() {
        let names =
            ["coreml/q_b.mlmodelc", "q_a.mlpackage", "q_a.mlmodelc", "q_c.mlmodel", "notes.txt"];
        assert_eq!(found(&PackageNaming::default(), &names), [names[1], names[0]]);
        let absent = Path::new("/no/such");
        let absent = PackageNaming::default().packages(absent, &OpenedPackages::new(absent));
        assert_eq!(absent.unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn prefix_and_ending_choose_among_models() {
        let names = ["qwen_a.mlpackage", "qwen_a.mlmodelc", "other_a.mlpackage"];
        assert_eq!(found(&PackageNaming::prefixed("qwen"), &names), [names[0]]);
        let custom = |prefix, extension| found(&PackageNaming::custom(prefix, extension), &names);
        assert_eq!(custom("qwen", ".mlmodelc"), [names[1]]);
        assert_eq!(custom("other", "mlpackage"), [names[2]]);
    }

    #[test]
    fn chunks_have_numbers_in_their_names() {
        let name = |base: &str, number, total| ChunkName { base: base.to_owned(), number, total };
        assert_eq!(ChunkName::parse("q_FFN_PF_chunk_02of03"), name("q_FFN_PF", 2, 3));
        assert_eq!(ChunkName::parse("q_FFN_PF"), name("q_FFN_PF", 1, 1));
        assert_eq!(ChunkName::parse("q_FFN_PF_chunk_02of10_rot"), name("q_FFN_PF_rot", 2, 10));
        assert_eq!(ChunkName::parse("q_chunk_xofy"), name("q_chunk_xofy", 1, 1));
        assert_eq!(without_extension("q.mlmodelc"), "q");
        assert_eq!(without_extension("q.v1"), "q.v1");
    }
}
