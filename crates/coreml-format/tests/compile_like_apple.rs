//! What is compiled here, beside what Apple's compiler made of the same models.
#![allow(clippy::unwrap_used)] // a helper that fails is a test that fails

mod support;

use std::path::{Path, PathBuf};

use coreml_format::{IfExists, Package, compile, decompile};
use serde_json::Value as Json;

/// A source with the directory that Apple's compiler made of it.
struct Pair {
    source: PathBuf,
    compiled: PathBuf,
}

/// The text without what compilers say of themselves.
fn text(model: &Path) -> String {
    let text = std::fs::read_to_string(model.join("model.mil")).unwrap();
    let lines = text.trim_end().lines().filter(|line| !line.starts_with("[buildInfo = "));
    lines.map(without_keys).collect::<Vec<_>>().join("\n")
}

/// A line with enumerated shapes as its sorted words, without the keys of the shapes, which are hashes
/// of an unknown kind that give the order, too.
fn without_keys(line: &str) -> String {
    if !line.contains("EnumeratedShapes") {
        return line.to_owned();
    }
    let is_key = |word: &&str| word.len() == 8 && word.chars().all(|c| c.is_ascii_hexdigit());
    let words = line.split(['{', '}', '"', ',', ' ']).filter(|word| !is_key(word));
    let mut words: Vec<&str> = words.collect();
    words.sort_unstable();
    words.join(" ")
}

/// The fields, without the name of a class, which comes from the file's name.
fn metadata(model: &Path) -> Json {
    let bytes = std::fs::read(model.join("metadata.json")).unwrap();
    let mut entries: Json = serde_json::from_slice(&bytes).unwrap();
    entries[0].as_object_mut().unwrap().remove("generatedClassName").unwrap();
    entries
}

/// Whether all is the same but for the order of the author's own metadata, a map, in which each
/// writer has another one.
fn assert_same_description(ours: &Path, theirs: &Path) {
    let read = |model: &Path| std::fs::read(model.join("coremldata.bin")).unwrap();
    let (mut ours, mut theirs) = (read(ours), read(theirs));
    let same = ours.iter().zip(&theirs).take_while(|(one, other)| one == other).count();
    assert_eq!(ours.len(), theirs.len());
    let map = b"com.github.apple.coremltools.";
    let start = ours.windows(map.len()).position(|window| window == map).unwrap_or(ours.len());
    // An entry's length stands before its key.
    assert!(same + 8 >= start, "byte {same}");
    ours.sort_unstable();
    theirs.sort_unstable();
    assert_eq!(ours, theirs);
}

fn assert_like_apple(pair: &Pair) {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("model.mlmodelc");
    let package = Package::open(&pair.source).unwrap();
    compile(&package, &out, IfExists::Refuse).unwrap();
    let place = pair.source.display();

    let (ours, theirs) = (text(&out), text(&pair.compiled));
    for (number, (ours, theirs)) in ours.lines().zip(theirs.lines()).enumerate() {
        assert_eq!(ours, theirs, "{place}, line {number}");
    }
    assert_eq!(ours, theirs, "{place}");
    assert_eq!(metadata(&out), metadata(&pair.compiled), "{place}");
    assert_same_description(&out, &pair.compiled);
    for file in ["analytics/coremldata.bin", "weights/weight.bin", "weights/weights.bin"] {
        let read = |model: &Path| std::fs::read(model.join(file)).ok();
        assert!(read(&out) == read(&pair.compiled), "{place}, {file}");
    }
    let ours = Package::open(&out).unwrap();
    let theirs = Package::open(&pair.compiled).unwrap();
    assert_eq!(ours.description().unwrap(), theirs.description().unwrap());
}

/// Models as published, compiled by Apple's compiler.
#[test]
fn real_models() {
    let Some(models) = support::real_models() else { return };
    for name in ["silero-vad-fp16", "silero-vad-lut4"] {
        let (source, compiled) = ("model.mlpackage", "model.mlmodelc");
        let dir = models.join(name);
        assert_like_apple(&Pair { source: dir.join(source), compiled: dir.join(compiled) });
    }
}

/// A package made of a compiled model is compiled to the same text again, of which Apple's compiler is
/// the author.
#[test]
fn texts_of_apple_come_back() {
    let Some(models) = support::real_models() else { return };
    let dir = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = support::models(&models)
        .into_iter()
        .filter(|path| path.join("model.mil").is_file())
        .collect();
    assert!(paths.len() >= 5);
    for (index, path) in paths.iter().enumerate() {
        let package = dir.path().join(format!("{index}.mlpackage"));
        let again = dir.path().join(format!("{index}.mlmodelc"));
        let compiled = Package::open(path).unwrap();
        decompile(&compiled, &package, IfExists::Refuse).unwrap();
        compile(&Package::open(&package).unwrap(), &again, IfExists::Refuse).unwrap();
        assert_eq!(text(&again), text(path), "{}", path.display());
    }
}

/// Pairs `*/input.mlmodel` and `*/expected-macos.mlmodelc`, as the tests of the crate
/// `mlmodelc-export` have them, in the directories of `COREML_TEST_COMPILED`.
#[test]
fn pairs_of_others() {
    let Some(directories) = std::env::var_os("COREML_TEST_COMPILED") else { return };
    let mut count = 0;
    for directory in std::env::split_paths(&directories) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let dir = entry.unwrap().path();
            let (source, compiled) = ("input.mlmodel", "expected-macos.mlmodelc");
            let pair = Pair { source: dir.join(source), compiled: dir.join(compiled) };
            if pair.source.is_file() && pair.compiled.is_dir() {
                assert_like_apple(&pair);
                count += 1;
            }
        }
    }
    assert!(count > 0, "there are no pairs");
}
