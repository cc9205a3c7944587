//! `Manifest.json` of a package.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::digest::identifier;

/// Who the items of a package belong to, also their directory.
pub(super) const AUTHOR: &str = "com.apple.CoreML";

/// Name of the model file.
pub(super) const MODEL: &str = "model.mlmodel";

/// The manifest of a package with a model file and these files beside it. Identifiers are made of
/// `content`, so that the same model has the same ones.
pub(super) fn json(content: &[u8], files: &[PathBuf]) -> String {
    let model = identifier(content);
    let mut items = Map::new();
    items.insert(model.clone(), item("CoreML Model Specification", MODEL));
    let first = |path: &PathBuf| Some(first_part(path)?.to_owned());
    for name in files.iter().filter_map(first).collect::<BTreeSet<_>>() {
        let id = identifier(&[content, name.as_bytes()].concat());
        items.insert(id, item("CoreML Model Weights", &name));
    }
    let manifest = json!({
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": items,
        "rootModelIdentifier": model,
    });
    format!("{manifest:#}\n")
}

fn first_part(path: &Path) -> Option<&str> {
    path.components().next()?.as_os_str().to_str()
}

fn item(description: &str, name: &str) -> Value {
    json!({
        "author": AUTHOR,
        "description": description,
        "name": name,
        "path": format!("{AUTHOR}/{name}"),
    })
}
