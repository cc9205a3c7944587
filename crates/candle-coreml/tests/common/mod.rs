//! What the integration tests share: where fixtures are, how arrays are read and compared.
#![allow(dead_code)] // each test binary uses a part

pub mod cases;

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};

/// The repository's `fixtures` directory.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

/// Larger models that may lie beside the repository; tests that need them pass without.
pub fn shared_models() -> Option<PathBuf> {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/models");
    if !models.is_dir() {
        // Past the capture of the test's output, which shows what failing tests print only.
        let _ =
            writeln!(std::io::stderr(), "skipped: there are no models in `{}`", models.display());
        return None;
    }
    Some(models)
}

/// Copies a directory.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let from = entry.expect("an entry").path();
        let to = to.join(from.file_name().expect("a name"));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(&from, &to).expect("a copy");
        }
    }
}

/// The files of an extension in a directory and below, in order.
pub fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let found = paths.into_iter().flat_map(|path| match path.is_dir() {
        true => files(&path, extension),
        false => vec![path],
    });
    found.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}

/// The arrays of an `.npz` file by name.
pub fn arrays(path: &Path) -> HashMap<String, Tensor> {
    let arrays = Tensor::read_npz(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    arrays.into_iter().collect()
}

/// The arrays whose names start with `prefix`, without it, in order of their names.
pub fn with_prefix<'a>(
    arrays: &'a HashMap<String, Tensor>,
    prefix: &str,
) -> Vec<(&'a str, &'a Tensor)> {
    let mut found: Vec<_> = arrays
        .iter()
        .filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?, tensor)))
        .collect();
    found.sort_by_key(|(name, _)| *name);
    found
}

/// Elements in row-major order.
pub fn floats(tensor: &Tensor) -> Vec<f64> {
    let flat = tensor.flatten_all().and_then(|flat| flat.to_dtype(DType::F64));
    flat.and_then(|flat| flat.to_vec1()).expect("a dense CPU tensor")
}

/// Where and how two tensors differ by more than `abs + rel · |expected|`, if they do. NaN equals
/// NaN, and infinities have to be the same.
pub fn difference(expected: &Tensor, got: &Tensor, abs: f64, rel: f64) -> Option<String> {
    if expected.dims() != got.dims() {
        return Some(format!("expected shape {:?}, got {:?}", expected.dims(), got.dims()));
    }
    let (expected, got) = (floats(expected), floats(got));
    let worst = expected
        .iter()
        .zip(&got)
        .enumerate()
        .filter(|(_, (e, g))| {
            let same = e == g || (e.is_nan() && g.is_nan());
            // NaN and infinities are near nothing.
            let near = e.is_finite() && (*e - *g).abs() <= abs + rel * e.abs();
            !same && !near
        })
        .max_by(|a, b| (a.1.0 - a.1.1).abs().total_cmp(&(b.1.0 - b.1.1).abs()));
    worst.map(|(index, (e, g))| format!("element {index}: expected {e}, got {g}"))
}
