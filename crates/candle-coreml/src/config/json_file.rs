//! Small files that may be missing.

use std::path::Path;

use coreml_format::FileKind;
use coreml_format::files::read_file;
use serde_json::Value as Json;

use crate::error::{Error, Result};

/// Values in a JSON file: each takes some hundred bytes of memory, be it a single digit in the file.
/// A tokenizer's settings with a hundred thousand tokens have half as many.
const MOST_VALUES: usize = 2_000_000;

/// A text file of a model's directory; `None` when there is none.
pub(crate) fn read_text(path: &Path) -> Result<Option<String>> {
    let Some(bytes) = read_file(path, FileKind::Settings)? else { return Ok(None) };
    coreml_format::refuse_lfs_pointer(path, &bytes)?;
    String::from_utf8(bytes).map(Some).map_err(|error| {
        Error::language_model(path, format!("is not UTF-8 text: {error}")).caused_by(error)
    })
}

/// A JSON file of a model's directory; `None` when there is none.
pub(crate) fn read_json(path: &Path) -> Result<Option<Json>> {
    let Some(text) = read_text(path)? else { return Ok(None) };
    // Each value but the first has one of these before it.
    let values = text.bytes().filter(|byte| matches!(byte, b',' | b'[' | b'{')).count();
    if values > MOST_VALUES {
        let message = format!("has more than {MOST_VALUES} values, far more than any such file");
        return Err(Error::language_model(path, message));
    }
    serde_json::from_str(&text).map(Some).map_err(|error| {
        Error::language_model(path, format!("is not valid JSON: {error}")).caused_by(error)
    })
}
