//! Which files of a repository are wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use globset::{Glob, GlobSet, GlobSetBuilder};

use super::file_list::HubFile;
use super::{FileList, HubError};
use crate::words::list as quoted;

/// Directories that are models, and archives of them.
const PACKAGES: [&str; 2] = [".mlpackage", ".mlmodelc"];
const ARCHIVE: &str = ".zip";
const MODEL_FILE: &str = ".mlmodel";
/// Besides packages, what a model needs: names or endings of names.
const SUPPORT: [&str; 9] = [
    ".json",
    ".jinja",
    ".yaml",
    ".yml",
    ".model",
    ".tiktoken",
    "merges.txt",
    "vocab.txt",
    "LICENSE",
];
/// Lists the parts of weights in another format.
const FOREIGN: &str = ".index.json";

/// The files of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Selection {
    pub(super) files: Vec<HubFile>,
    /// The directory in the repository that the model lies in; empty for the uppermost one.
    pub(super) directory: String,
    /// Other directories with models, which were not chosen.
    pub(super) others: Vec<String>,
}

impl Selection {
    /// The model's directory where the repository's files lie in `root`.
    pub(super) fn directory_in(&self, root: &Path) -> PathBuf {
        // Joining nothing would add a slash.
        root.components().chain(Path::new(&self.directory).components()).collect()
    }
}

/// Chooses the files that the patterns match; without patterns, everything that the repository's
/// model needs.
pub(super) fn select(list: &FileList, include: &[String]) -> Result<Selection, HubError> {
    if include.is_empty() { needed(list) } else { matching(list, &patterns(include)?, include) }
}

fn patterns(include: &[String]) -> Result<GlobSet, HubError> {
    let wrong = |error: globset::Error| {
        HubError::argument(include.join(" "), format!("is no pattern: {error}")).caused_by(error)
    };
    let mut builder = GlobSetBuilder::new();
    for pattern in include {
        builder.add(Glob::new(pattern).map_err(wrong)?);
    }
    builder.build().map_err(wrong)
}

fn matching(list: &FileList, set: &GlobSet, include: &[String]) -> Result<Selection, HubError> {
    let files: Vec<HubFile> =
        list.files.iter().filter(|file| set.is_match(&file.path)).cloned().collect();
    if files.is_empty() {
        let message =
            format!("has no file that matches {}; it has {}", quoted(include), some(list));
        return Err(HubError::Selection { id: list.id.clone(), message });
    }
    let mut directories = model_directories(&files).into_iter();
    let directory = directories.next().unwrap_or_default();
    Ok(Selection { files, directory, others: directories.collect() })
}

fn needed(list: &FileList) -> Result<Selection, HubError> {
    let wrong = |message| Err(HubError::Selection { id: list.id.clone(), message });
    let directories = model_directories(&list.files);
    let mut others: Vec<String> = directories.iter().cloned().collect();
    let directory = match others.as_slice() {
        [] => {
            return wrong(format!(
                "has no Core ML model (.mlpackage, .mlmodelc or .mlmodel); it has {}",
                some(list)
            ));
        }
        // The uppermost directory, which sorts first.
        [first, ..] if first.is_empty() => others.remove(0),
        [_] => others.remove(0),
        several => {
            return wrong(format!(
                "has several models, in the directories {}; choose one with the pattern 'DIRECTORY/*'",
                quoted(several)
            ));
        }
    };
    let unpacked: BTreeSet<&str> =
        list.files.iter().filter_map(|file| package(&file.path)).map(|place| place.path).collect();
    let wanted = |file: &&HubFile| match package(&file.path) {
        Some(place) => {
            // Of an archive and what was packed into it, the latter.
            let twin = place.path.strip_suffix(ARCHIVE);
            place.directory == directory && twin.is_none_or(|twin| !unpacked.contains(twin))
        }
        None => is_support(&file.path, &directory),
    };
    let files = list.files.iter().filter(wanted).cloned().collect();
    Ok(Selection { files, directory, others })
}

/// Where a model lies in a repository.
struct Place<'a> {
    /// The directory of the language model that it may be a part of.
    directory: &'a str,
    /// Path of the package, archive or model file.
    path: &'a str,
}

/// The model that a file is, or is a part of.
fn package(path: &str) -> Option<Place<'_>> {
    let mut start = 0;
    for part in path.split('/') {
        let end = start + part.len();
        let inside = end < path.len();
        let ends_as_package = |name: &str| PACKAGES.iter().any(|ending| name.ends_with(ending));
        let is_archive = part.strip_suffix(ARCHIVE).is_some_and(ends_as_package);
        let is_file = !inside && (is_archive || part.ends_with(MODEL_FILE));
        if is_file || (inside && ends_as_package(part)) {
            let directory = path.get(..start)?.trim_end_matches('/');
            return Some(Place { directory: without_coreml(directory), path: path.get(..end)? });
        }
        start = end + 1;
    }
    None
}

/// The packages of a language model may lie in a subdirectory `coreml`.
fn without_coreml(directory: &str) -> &str {
    match directory.strip_suffix("coreml") {
        Some(parent) if parent.is_empty() || parent.ends_with('/') => parent.trim_end_matches('/'),
        _ => directory,
    }
}

fn model_directories(files: &[HubFile]) -> BTreeSet<String> {
    let places = files.iter().filter_map(|file| package(&file.path));
    places.map(|place| place.directory.to_owned()).collect()
}

/// Tokenizer, settings, templates: beside the packages, or in the uppermost directory.
fn is_support(path: &str, directory: &str) -> bool {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    (parent == directory || parent.is_empty())
        && !name.ends_with(FOREIGN)
        && SUPPORT.iter().any(|ending| name.ends_with(ending))
}

/// A few kinds of files, by their endings, to tell what a repository has.
fn some(list: &FileList) -> String {
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for file in &list.files {
        let name = file.path.rsplit('/').next().unwrap_or_default();
        *kinds.entry(name.rfind('.').map_or(name, |dot| &name[dot..])).or_default() += 1;
    }
    let mut kinds: Vec<_> = kinds.into_iter().collect();
    kinds.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    let shown: Vec<&str> = kinds.iter().take(5).map(|kind| kind.0).collect();
    format!("{} files, such as {}", list.files.len(), quoted(&shown))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::ContentHash;

    fn list(paths: &[&str]) -> FileList {
        let hash = ContentHash::try_from("0".repeat(40)).unwrap();
        let file = |path: &&str| HubFile { path: (*path).to_owned(), size: 1, hash: hash.clone() };
        FileList {
            id: "org/name".into(),
            commit: "0".repeat(40),
            files: paths.iter().map(file).collect(),
        }
    }

    fn chosen(paths: &[&str], include: &[&str]) -> (Vec<String>, String, Vec<String>) {
        let include: Vec<String> = include.iter().map(|text| (*text).to_owned()).collect();
        let selection = select(&list(paths), &include).unwrap();
        let files = selection.files.into_iter().map(|file| file.path).collect();
        (files, selection.directory, selection.others)
    }

    fn refusal(paths: &[&str], include: &[&str]) -> String {
        let include: Vec<String> = include.iter().map(|text| (*text).to_owned()).collect();
        select(&list(paths), &include).unwrap_err().to_string()
    }

    #[test]
    fn a_model_is_its_packages_and_its_settings() {
        let needed = [
            "a.mlpackage/Manifest.json",
            "a.mlpackage/Data/com.apple.CoreML/weights/weight.bin",
            "b.mlmodelc.zip",
            "chat_template.jinja",
            "coreml/c.mlmodelc/model.mil",
            "meta.yaml",
            "tokenizer.json",
            "vocab.txt",
        ];
        let other = [
            ".gitattributes",
            "README.md",
            "images/a.png",
            "model-00001-of-00002.safetensors",
            "model.safetensors.index.json",
            "notes/config.json",
        ];
        let (files, directory, others) = chosen(&[&needed[..], &other].concat(), &[]);
        assert_eq!(files, needed);
        assert_eq!((directory.as_str(), others.len()), ("", 0));
    }

    #[test]
    fn of_an_archive_and_its_content_one_is_fetched() {
        let (files, ..) = chosen(&["a.mlmodelc.zip", "a.mlmodelc/model.mil"], &[]);
        assert_eq!(files, ["a.mlmodelc/model.mil"]);
    }

    #[test]
    fn of_several_models_the_uppermost_is_taken_or_one_is_to_be_chosen() {
        let paths = ["a.mlmodelc.zip", "ios/a.mlmodelc/model.mil", "meta.yaml"];
        let (files, directory, others) = chosen(&paths, &[]);
        assert_eq!(files, ["a.mlmodelc.zip", "meta.yaml"]);
        assert_eq!((directory.as_str(), others), ("", vec!["ios".to_owned()]));

        let below = ["x/a.mlmodel", "y/coreml/b.mlpackage/Manifest.json", "tokenizer.json"];
        let message = refusal(&below, &[]);
        assert!(message.contains("`x` and `y`") && message.contains("DIRECTORY/*"), "{message}");
        let (files, directory, _) = chosen(&below, &["y/*", "*.json"]);
        assert_eq!(files, below[1..]);
        assert_eq!(directory, "y");
        let (files, directory, _) = chosen(&below[1..], &[]);
        assert_eq!(files, below[1..]);
        assert_eq!(directory, "y");
    }

    #[test]
    fn nothing_to_choose_is_explained() {
        let message = refusal(&["model.safetensors", "config.json"], &[]);
        assert!(
            message.contains("no Core ML model") && message.contains(".safetensors"),
            "{message}"
        );
        let message = refusal(&["a.mlmodel"], &["*.bin"]);
        assert!(message.contains("`*.bin`") && message.contains(".mlmodel"), "{message}");
        assert!(refusal(&["a.mlmodel"], &["[a"]).contains("is no pattern"));
    }
}
