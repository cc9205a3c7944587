//! Small files that may be missing.

use std::path::Path;

use serde_json::Value as Json;

use crate::error::{Error, Result};

/// A text file; `None` when there is none.
pub(crate) fn read_text(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io { path: path.to_owned(), source }),
    }
}

/// A JSON file; `None` when there is none.
pub(crate) fn read_json(path: &Path) -> Result<Option<Json>> {
    let Some(text) = read_text(path)? else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|error| {
        Error::language_model(path, format!("is not valid JSON: {error}")).caused_by(error)
    })
}
