//! Rust in the documents: each snippet is compiled as an example of the documentation, or is part of the
//! source that it shows.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::fs;
use std::path::{Path, PathBuf};

/// A document that shows source of the project, and where that is.
const SOURCE: (&str, &str) = ("docs/adding-an-op.md", "crates/coreml-engine/src/ops/cumsum.rs");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The Markdown files of a directory, by their paths from the root.
fn documents(directory: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(root().join(directory)) else { return Vec::new() };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let documents = names.filter(|name| name.ends_with(".md"));
    documents.map(|name| Path::new(directory).join(name).to_str().unwrap().to_owned()).collect()
}

/// The snippets of Rust in a text, each with what stands behind `rust`.
fn snippets(text: &str) -> Vec<(&str, &str)> {
    let blocks = text.split("\n```").skip(1).step_by(2);
    let rust = blocks.filter_map(|block| block.strip_prefix("rust"));
    rust.filter_map(|block| block.split_once('\n')).collect()
}

#[test]
fn every_snippet_is_compiled() {
    let crates: Vec<String> = fs::read_dir(root().join("crates"))
        .unwrap()
        .map(|entry| format!("crates/{}", entry.unwrap().file_name().to_str().unwrap()))
        .collect();
    let sources: Vec<(String, String)> = crates
        .iter()
        .filter_map(|name| {
            Some((name.clone(), fs::read_to_string(root().join(name).join("src/lib.rs")).ok()?))
        })
        .collect();
    let directories = crates.iter().map(String::as_str).chain(["", "docs"]);
    let mut found = 0;
    for document in directories.flat_map(documents) {
        let text = fs::read_to_string(root().join(&document)).unwrap();
        let snippets = snippets(&text);
        if snippets.is_empty() || document == SOURCE.0 {
            continue;
        }
        found += 1;
        let included = sources.iter().any(|(name, source)| {
            let own = document.strip_prefix(&format!("{name}/"));
            let path = own.map_or(format!("../../../{document}"), |own| format!("../{own}"));
            source.contains(&format!("include_str!(\"{path}\")"))
        });
        assert!(included, "no `lib.rs` includes {document}, so that its Rust is not compiled");
        for (kind, _) in snippets {
            assert!(["", ",no_run"].contains(&kind), "{document} has a snippet `rust{kind}`");
        }
    }
    assert!(found >= 5, "{found} documents with Rust in them");
}

#[test]
fn the_operation_that_is_shown_is_that_of_the_source() {
    let text = fs::read_to_string(root().join(SOURCE.0)).unwrap();
    let source = fs::read_to_string(root().join(SOURCE.1)).unwrap();
    let snippets = snippets(&text);
    let [(_, snippet)] = *snippets else { panic!("{} snippets", snippets.len()) };
    // Items begin at the margin.
    let mut items = Vec::new();
    for part in snippet.split("\n\n") {
        match items.last_mut() {
            Some(item) if part.starts_with(' ') => *item = format!("{item}\n\n{part}"),
            _ => items.push(part.to_owned()),
        }
    }
    assert!(items.len() > 3);
    for item in items {
        assert!(source.contains(item.trim_end()), "not in {}:\n{item}", SOURCE.1);
    }
}
