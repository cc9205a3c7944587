//! What the tests share.
#![allow(dead_code)] // each test binary uses a part

use std::io::Write;
use std::path::{Path, PathBuf};

/// A fixture of this crate.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// Copies a directory with everything in it.
pub fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Real models; the directory is `COREML_TEST_MODELS` or `shared/models` beside the workspace. They
/// are too large to ship with the crate.
pub fn real_models() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/models");
    let dir = std::env::var_os("COREML_TEST_MODELS").map_or(beside, PathBuf::from);
    if !dir.is_dir() {
        // Past the capture of the test's output, which shows what failing tests print only.
        let _ = writeln!(std::io::stderr(), "skipped: there are no models in `{}`", dir.display());
        return None;
    }
    Some(dir)
}

/// Models in a directory and those below it: packages, files and compiled ones.
pub fn models(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let found = paths.into_iter().flat_map(|path| {
        let extension = path.extension().unwrap_or_default().to_owned();
        match path.is_dir() {
            _ if extension == "mlpackage" || extension == "mlmodelc" => vec![path],
            true => models(&path),
            false if extension == "mlmodel" => vec![path],
            false => Vec::new(),
        }
    });
    found.collect()
}
