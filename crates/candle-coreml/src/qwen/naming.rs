//! Which package of a directory is which component.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use coreml_format::Package;
use coreml_format::description::{FunctionDescription, ModelDescription};

use crate::error::{Error, Result, list};
use crate::llm::Manifest;

/// Endings of model packages. Of two packages that differ in it only, the first kind is taken.
const EXTENSIONS: [&str; 2] = ["mlpackage", "mlmodelc"];

/// How the packages of a model are named. The default takes any name: `meta.yaml` tells which
/// package is which component, else the names do, else the packages' inputs and outputs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelNamingConfig {
    prefix: Option<String>,
    extension: Option<String>,
}

impl ModelNamingConfig {
    /// Names as ANEMLL gives them to Qwen models: `qwen_embeddings`, `qwen_FFN_PF_chunk_01of01`,
    /// `qwen_lm_head`, with either ending.
    pub fn standard_qwen() -> Self {
        ModelNamingConfig { prefix: Some("qwen".to_owned()), extension: None }
    }

    /// Only packages whose names begin with `prefix` and end with `extension` (`.mlpackage` or
    /// `.mlmodelc`), for a directory that holds several models.
    pub fn custom(prefix: impl Into<String>, extension: impl AsRef<str>) -> Self {
        let extension = extension.as_ref().trim_start_matches('.').to_owned();
        ModelNamingConfig { prefix: Some(prefix.into()), extension: Some(extension) }
    }

    /// Finds the components of a directory, or of its subdirectory `coreml`.
    pub(super) fn locate(
        &self,
        directory: &Path,
        manifest: Option<&Manifest>,
    ) -> Result<Components> {
        let packages = self.packages(directory)?;
        if packages.is_empty() {
            let message = "has no model packages; expected an embeddings, one or more FFN and an \
                           LM head package, ending in .mlpackage or .mlmodelc";
            return Err(wrong(directory, message.to_owned()));
        }
        let named = manifest.map(|manifest| named(&packages, manifest)).unwrap_or_default();
        let found = if named.is_complete() { Found::default() } else { discover(&packages) };
        Ok(Components {
            embeddings: match named.embeddings {
                Some(path) => path,
                None => only(directory, "embeddings", &found.embeddings)?,
            },
            lm_head: match named.lm_head {
                Some(path) => path,
                None => only(directory, "LM head", &found.lm_heads)?,
            },
            chunks: match named.chunks {
                Some(paths) => paths,
                None => found.all_chunks(directory)?,
            },
        })
    }

    /// Packages by name without ending.
    fn packages(&self, directory: &Path) -> Result<Packages> {
        let mut packages = Packages::new();
        for extension in EXTENSIONS.iter().filter(|&&known| self.takes_extension(known)) {
            for place in [directory.to_owned(), directory.join("coreml")] {
                for path in entries(&place, place == directory)? {
                    let Some(stem) = stem(&path, extension) else { continue };
                    if self.prefix.as_ref().is_none_or(|prefix| stem.starts_with(prefix)) {
                        packages.entry(stem.to_owned()).or_insert(path);
                    }
                }
            }
        }
        Ok(packages)
    }

    fn takes_extension(&self, extension: &str) -> bool {
        self.extension.as_ref().is_none_or(|wanted| wanted == extension)
    }
}

type Packages = BTreeMap<String, PathBuf>;

/// The packages of a model.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Components {
    pub(super) embeddings: PathBuf,
    /// In the order in which they run.
    pub(super) chunks: Vec<PathBuf>,
    pub(super) lm_head: PathBuf,
}

fn wrong(path: &Path, message: String) -> Error {
    Error::LanguageModel { path: path.to_owned(), message }
}

fn entries(directory: &Path, must_exist: bool) -> Result<Vec<PathBuf>> {
    let failed = |source| Error::Io { path: directory.to_owned(), source };
    if !must_exist && !directory.is_dir() {
        return Ok(Vec::new());
    }
    std::fs::read_dir(directory)
        .map_err(failed)?
        .map(|entry| entry.map(|entry| entry.path()).map_err(failed))
        .collect()
}

fn stem<'a>(path: &'a Path, extension: &str) -> Option<&'a str> {
    (path.extension()? == extension).then(|| path.file_stem()?.to_str())?
}

/// What `meta.yaml` names and the directory has.
#[derive(Default)]
struct Named {
    embeddings: Option<PathBuf>,
    lm_head: Option<PathBuf>,
    chunks: Option<Vec<PathBuf>>,
}

impl Named {
    fn is_complete(&self) -> bool {
        self.embeddings.is_some() && self.lm_head.is_some() && self.chunks.is_some()
    }
}

/// Looks the names up without their endings, since a local conversion has other ones than the file
/// says. `ffn` comes with or without the suffix of its first chunk.
fn named(packages: &Packages, manifest: &Manifest) -> Named {
    let one = |name: &Option<String>| packages.get(without_extension(name.as_deref()?)).cloned();
    let chunks = || {
        let name = without_extension(manifest.ffn.as_deref()?);
        let base = ChunkName::parse(name).map_or(name, |chunk| chunk.base);
        let total = manifest.num_chunks.unwrap_or(1);
        if total == 1 && packages.contains_key(base) {
            return Some(vec![packages.get(base)?.clone()]);
        }
        (1..=total).map(|number| packages.get(&chunk_name(base, number, total)).cloned()).collect()
    };
    Named {
        embeddings: one(&manifest.embeddings),
        lm_head: one(&manifest.lm_head),
        chunks: chunks(),
    }
}

fn without_extension(name: &str) -> &str {
    EXTENSIONS
        .iter()
        .find_map(|extension| name.strip_suffix(extension)?.strip_suffix('.'))
        .unwrap_or(name)
}

fn chunk_name(base: &str, number: usize, total: usize) -> String {
    format!("{base}_chunk_{number:02}of{total:02}")
}

/// A name such as `qwen_FFN_PF_chunk_01of02`.
struct ChunkName<'a> {
    base: &'a str,
    number: usize,
    total: usize,
}

impl<'a> ChunkName<'a> {
    fn parse(name: &'a str) -> Option<Self> {
        let (base, suffix) = name.rsplit_once("_chunk_")?;
        let (number, total) = suffix.split_once("of")?;
        Some(ChunkName { base, number: number.parse().ok()?, total: total.parse().ok()? })
    }
}

/// Candidates for each component.
#[derive(Default)]
struct Found {
    embeddings: Vec<(String, PathBuf)>,
    lm_heads: Vec<(String, PathBuf)>,
    chunks: Vec<(String, PathBuf)>,
}

enum Role {
    Embeddings,
    Chunk,
    LmHead,
}

fn discover(packages: &Packages) -> Found {
    let mut found = Found::default();
    for (name, path) in packages {
        let of_role = match role_by_name(name).or_else(|| role_by_interface(path)) {
            Some(Role::Embeddings) => &mut found.embeddings,
            Some(Role::LmHead) => &mut found.lm_heads,
            Some(Role::Chunk) => &mut found.chunks,
            None => continue,
        };
        of_role.push((name.clone(), path.clone()));
    }
    found
}

fn role_by_name(name: &str) -> Option<Role> {
    let name = name.to_lowercase();
    if name.ends_with("embeddings") || name.contains("_embeddings") {
        Some(Role::Embeddings)
    } else if name.contains("lm_head") {
        Some(Role::LmHead)
    } else if name.contains("_ffn") || name.starts_with("ffn") {
        Some(Role::Chunk)
    } else {
        None
    }
}

/// The role that inputs and outputs show; a package that can't be read has none.
fn role_by_interface(path: &Path) -> Option<Role> {
    let description = Package::describe(path).ok()?.description;
    functions(&description).iter().find_map(role_of)
}

fn functions(description: &ModelDescription) -> Vec<FunctionDescription> {
    match description.functions.as_slice() {
        [] => description.function(&description.default_function).into_iter().collect(),
        functions => functions.to_vec(),
    }
}

fn role_of(function: &FunctionDescription) -> Option<Role> {
    let takes = |name: &str| function.inputs.iter().any(|input| input.name == name);
    let gives = |prefix: &str| function.outputs.iter().any(|out| out.name.starts_with(prefix));
    match (takes("input_ids"), takes("hidden_states"), takes("causal_mask")) {
        (true, false, false) if gives("hidden_states") => Some(Role::Embeddings),
        (false, true, true) => Some(Role::Chunk),
        (false, true, false) if gives("logits") => Some(Role::LmHead),
        _ => None,
    }
}

fn only(directory: &Path, what: &str, candidates: &[(String, PathBuf)]) -> Result<PathBuf> {
    match candidates {
        [(_, path)] => Ok(path.clone()),
        [] => Err(wrong(
            directory,
            format!(
                "has no {what} package; expected embeddings, FFN and LM head packages as ANEMLL \
                 exports them"
            ),
        )),
        several => {
            let names: Vec<&str> = several.iter().map(|(name, _)| name.as_str()).collect();
            Err(wrong(directory, several_message(what, &names)))
        }
    }
}

fn several_message(what: &str, names: &[&str]) -> String {
    format!(
        "has several {what} packages, {}; add a meta.yaml that names one, or choose a prefix with \
         ModelNamingConfig::custom",
        list(names)
    )
}

impl Found {
    /// All chunks of the one model that is there.
    fn all_chunks(&self, directory: &Path) -> Result<Vec<PathBuf>> {
        let mut models: BTreeMap<(&str, usize), BTreeMap<usize, PathBuf>> = BTreeMap::new();
        for (name, path) in &self.chunks {
            let chunk =
                ChunkName::parse(name).unwrap_or(ChunkName { base: name, number: 1, total: 1 });
            models.entry((chunk.base, chunk.total)).or_default().insert(chunk.number, path.clone());
        }
        if models.len() > 1 {
            let names: Vec<&str> = models.keys().map(|(base, _)| *base).collect();
            return Err(wrong(directory, several_message("FFN", &names)));
        }
        let Some(((base, total), mut chunks)) = models.pop_first() else {
            return only(directory, "FFN", &[]).map(|path| vec![path]);
        };
        // `total` is a number in a file's name: only as many lookups as there are files.
        if chunks.len() != total {
            let missing = (1..=total).find(|number| !chunks.contains_key(number));
            let name = chunk_name(base, missing.unwrap_or(total), total);
            return Err(wrong(
                directory,
                format!(
                    "has {} of the model's {total} FFN chunks; `{name}` is missing",
                    chunks.len()
                ),
            ));
        }
        (1..=total)
            .map(|number| {
                chunks.remove(&number).ok_or_else(|| {
                    let name = chunk_name(base, number, total);
                    wrong(directory, format!("has no FFN chunk `{name}`"))
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(names: &[&str]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for name in names {
            std::fs::create_dir_all(directory.path().join(name)).unwrap();
        }
        directory
    }

    fn locate(
        naming: &ModelNamingConfig,
        names: &[&str],
        manifest: Option<Manifest>,
    ) -> Result<Vec<String>> {
        let directory = directory(names);
        let found = naming.locate(directory.path(), manifest.as_ref())?;
        let name = |path: &PathBuf| {
            path.strip_prefix(directory.path()).unwrap().to_string_lossy().replace('\\', "/")
        };
        let mut all = vec![name(&found.embeddings)];
        all.extend(found.chunks.iter().map(name));
        all.push(name(&found.lm_head));
        Ok(all)
    }

    fn manifest(embeddings: &str, ffn: &str, lm_head: &str, chunks: usize) -> Manifest {
        Manifest {
            embeddings: Some(embeddings.to_owned()),
            ffn: Some(ffn.to_owned()),
            lm_head: Some(lm_head.to_owned()),
            num_chunks: Some(chunks),
            ..Manifest::default()
        }
    }

    #[test]
    fn the_manifest_chooses_among_variants_whatever_their_ending() {
        let names = [
            "qwen_embeddings.mlpackage",
            "qwen_FFN_PF_lut6_chunk_01of02.mlpackage",
            "qwen_FFN_PF_lut6_chunk_02of02.mlmodelc",
            "qwen_FFN_PF_lut4_chunk_01of01.mlpackage",
            "qwen_lm_head_lut6.mlmodelc",
            "qwen_lm_head.mlpackage",
        ];
        let expected = [names[0], names[1], names[2], names[4]];
        for ffn in ["qwen_FFN_PF_lut6.mlmodelc", "qwen_FFN_PF_lut6_chunk_01of02.mlmodelc"] {
            let manifest =
                manifest("qwen_embeddings.mlmodelc", ffn, "qwen_lm_head_lut6.mlmodelc", 2);
            let found = locate(&ModelNamingConfig::default(), &names, Some(manifest)).unwrap();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn names_tell_the_components_without_a_manifest() {
        let names = [
            "x_lm_head_lut8.mlmodelc",
            "x_FFN_PF_chunk_02of03.mlmodelc",
            "x_FFN_PF_chunk_03of03.mlmodelc",
            "x_FFN_PF_chunk_01of03.mlmodelc",
            "x_embeddings.mlmodelc",
            "x_embeddings.mlpackage",
        ];
        let found = locate(&ModelNamingConfig::default(), &names, None).unwrap();
        assert_eq!(found, [names[5], names[3], names[1], names[2], names[0]]);
    }

    #[test]
    fn a_subdirectory_and_a_single_unnumbered_chunk_are_found() {
        let names = ["coreml/q_embeddings.mlmodelc", "q_FFN_PF.mlpackage", "q_lm_head.mlpackage"];
        assert_eq!(locate(&ModelNamingConfig::default(), &names, None).unwrap(), names);
    }

    #[test]
    fn prefix_and_ending_choose_among_models() {
        let of = |prefix: &str, extension: &str| {
            ["embeddings", "FFN_PF_chunk_01of01", "lm_head"]
                .map(|part| format!("{prefix}_{part}.{extension}"))
        };
        let names = [of("qwen", "mlpackage"), of("qwen", "mlmodelc"), of("other", "mlpackage")];
        let all: Vec<&str> = names.iter().flatten().map(String::as_str).collect();
        let locate = |naming| locate(&naming, &all, None);
        assert_eq!(locate(ModelNamingConfig::standard_qwen()).unwrap(), names[0]);
        assert_eq!(locate(ModelNamingConfig::custom("qwen", ".mlmodelc")).unwrap(), names[1]);
        assert_eq!(locate(ModelNamingConfig::custom("other", "mlpackage")).unwrap(), names[2]);
        let message = locate(ModelNamingConfig::default()).unwrap_err().to_string();
        assert!(message.contains("`other_embeddings` and `qwen_embeddings`"), "{message}");
    }

    #[test]
    fn what_is_missing_is_named() {
        let cases: [(&[&str], &str); 5] = [
            (&[], "no model packages"),
            (&["q_embeddings.mlpackage", "q_lm_head.mlpackage"], "no FFN package"),
            (&["q_FFN_PF.mlpackage", "q_lm_head.mlpackage"], "no embeddings package"),
            (&["q_embeddings.mlpackage", "q_FFN_PF.mlpackage"], "no LM head package"),
            (
                &[
                    "q_embeddings.mlpackage",
                    "q_FFN_PF_chunk_01of02.mlpackage",
                    "q_lm_head.mlpackage",
                ],
                "`q_FFN_PF_chunk_02of02` is missing",
            ),
        ];
        for (names, expected) in cases {
            let error = locate(&ModelNamingConfig::default(), names, None).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
        let absent = ModelNamingConfig::default().locate(Path::new("/no/such"), None);
        assert!(matches!(absent, Err(Error::Io { .. })));
    }
}
