//! What the original model's `config.json` says; nothing where it is missing or broken.

use std::path::Path;

/// The architecture, e.g. `qwen3`.
pub(super) fn model_type(directory: &Path) -> Option<String> {
    Some(read(directory)?.get("model_type")?.as_str()?.to_owned())
}

/// A size by its name, also where the text model is a part of a larger one.
pub(super) fn size(directory: &Path, name: &str) -> Option<usize> {
    let config = read(directory)?;
    let size = config.get(name).or_else(|| config.get("text_config")?.get(name))?;
    usize::try_from(size.as_u64()?).ok()
}

fn read(directory: &Path) -> Option<serde_json::Value> {
    serde_json::from_slice(&std::fs::read(directory.join("config.json")).ok()?).ok()
}
