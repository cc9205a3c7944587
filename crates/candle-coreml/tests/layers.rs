//! The rooms of this crate, and the crates of the workspace, know only those below them. The tables
//! here are the order; a path in the source that goes up fails with its place.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::fs;
use std::path::{Path, PathBuf};

/// Rooms from below; those in one entry may know each other. `hub` lies below `error`, since the
/// crate's error holds what went wrong in `hub`, as it holds what went wrong in the format. The root
/// (`lib.rs`) lies above all.
const ROOMS: &[&[&str]] = &[
    &["page", "words"],
    &["hub"],
    &["error"],
    &["tensors", "values"],
    &["state"],
    &["backend"],
    &["call"],
    &["model"],
    &["compare", "inspection", "machine", "made_up", "profile"],
    &["config"],
    &["llm"],
    &["bench"],
    &["compat"],
];

/// Rooms of `llm` from below; its root lies above all.
const LLM: &[&[&str]] = &[
    &["request"],
    &["text"],
    &["sampling"],
    &["network"],
    &["pipeline"],
    &["generation"],
    &["language_model"],
];

/// Rooms of the engine from below; its root lies above all.
const ENGINE: &[&[&str]] = &[
    &["error"],
    &["cancel"],
    &["limits"],
    &["ids"],
    &["value"],
    &["weights"],
    &["definitions"],
    &["op"],
    &["ops"],
    &["graph"],
    &["plan"],
    &["run"],
    &["profile"],
    &["check"],
    &["function"],
    &["model"],
];

/// The planner's passes from below: a pass may use those before it.
const PASSES: &[&[&str]] = &[
    &["rounding"],
    &["legalise"],
    &["fold"],
    &["bind"],
    &["rewrite"],
    &["sixteen_bits"],
    &["states"],
    &["memory"],
    &["prepare"],
];

/// Crates with those that they may depend on.
const CRATES: &[(&str, &[&str])] = &[
    ("coreml-format", &[]),
    ("coreml-kernels", &[]),
    ("coreml-engine", &["coreml-format", "coreml-kernels"]),
    ("candle-coreml", &["coreml-engine", "coreml-format"]),
    ("candle-coreml-cli", &["candle-coreml", "coreml-format"]),
    ("candle-coreml-python", &["candle-coreml"]),
];

#[test]
fn rooms_know_only_those_below_them() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (api, engine) = (crates.join("candle-coreml"), crates.join("coreml-engine"));
    let wrong = [
        upward(&api, &[], ROOMS),
        upward(&api, &["llm"], LLM),
        upward(&engine, &[], ENGINE),
        upward(&engine, &["plan"], PASSES),
    ]
    .concat();
    assert!(wrong.is_empty(), "paths that go up:\n{}", wrong.join("\n"));
}

#[test]
fn crates_depend_only_on_those_below_them() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for entry in fs::read_dir(crates).unwrap() {
        let directory = entry.unwrap().path();
        let Ok(text) = fs::read_to_string(directory.join("Cargo.toml")) else { continue };
        let name = directory.file_name().unwrap().to_str().unwrap();
        let row = CRATES.iter().find(|row| row.0 == name);
        let allowed = row.unwrap_or_else(|| panic!("crate `{name}` has no row in the table")).1;
        let section = text.split("\n[").find_map(|part| part.strip_prefix("dependencies]"));
        let names = section.unwrap_or("").lines().filter_map(|line| line.split(['.', ' ']).next());
        let own = names.filter(|name| CRATES.iter().any(|row| row.0 == *name));
        let wrong: Vec<&str> = own.filter(|name| !allowed.contains(name)).collect();
        assert_eq!(wrong, [""; 0], "dependencies of {name}");
    }
}

/// The places where a room in the module `inside` of a crate names one that is not below it.
fn upward(directory: &Path, inside: &[&str], order: &[&[&str]]) -> Vec<String> {
    let level = |room: &str| order.iter().position(|rooms| rooms.contains(&room));
    let source = directory.join("src");
    let mut wrong = Vec::new();
    for file in files(&inside.iter().fold(source.clone(), |path, part| path.join(part))) {
        let name = file.strip_prefix(&source).unwrap();
        let own = module(name);
        let Some(room) = own.get(inside.len()) else { continue };
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for (number, line) in (1..).zip(code.lines()) {
            // The older crate's paths: re-exports that nothing in a room uses.
            if line.starts_with("pub use crate::compat::") {
                continue;
            }
            let named = paths(line, &own).into_iter().filter(|path| path.starts_with(inside));
            let rooms = named.filter_map(|path| path.get(inside.len()).copied());
            for named in rooms.filter(|room| !room.is_empty()) {
                if level(named).is_none_or(|above| Some(above) > level(room)) {
                    wrong.push(format!("{}:{number}: `{room}` names `{named}`", file.display()));
                }
            }
        }
    }
    wrong
}

/// Files that are compiled for tests only.
const TESTS: &[&str] =
    &["tests", "testing", "fake", "fixtures", "equivalence", "random", "element_types"];

/// The source files below a directory, without those of tests.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let is_test = |path: &Path| TESTS.iter().any(|name| path.file_stem().unwrap() == *name);
    entries
        .filter(|path| !is_test(path))
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .collect()
}

/// The module that a file below `src` is.
fn module(file: &Path) -> Vec<String> {
    let file = file.with_extension("");
    let parts = file.iter().map(|part| part.to_str().unwrap().to_owned());
    parts.filter(|part| part != "mod" && part != "lib").collect()
}

/// The paths in a line that start with `crate` or `super`, from the crate's root.
fn paths<'a>(line: &'a str, own: &'a [String]) -> Vec<Vec<&'a str>> {
    let code = line.split("//").next().unwrap_or("");
    let words = code.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
    let absolute = |word: &'a str| {
        let (mut path, rest) = match word.strip_prefix("crate::") {
            Some(rest) => (Vec::new(), rest),
            None if word.starts_with("super::") => (own.iter().map(String::as_str).collect(), word),
            None => return None,
        };
        for part in rest.split("::") {
            match part {
                "super" => drop(path.pop()),
                part => path.push(part),
            }
        }
        Some(path)
    };
    words.filter_map(absolute).collect()
}
