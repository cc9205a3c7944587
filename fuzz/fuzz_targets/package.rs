//! A directory whose files are any bytes: the input is split at `\n---\n` into the files of a model
//! package and of a compiled model.
#![no_main]

use std::path::Path;

use coreml_format::Package;
use libfuzzer_sys::fuzz_target;

const SEPARATOR: &[u8] = b"\n---\n";
const FILES: [&str; 6] = [
    "package/Manifest.json",
    "package/Data/com.apple.CoreML/model.mlmodel",
    "package/Data/com.apple.CoreML/weights/weight.bin",
    "compiled/metadata.json",
    "compiled/coremldata.bin",
    "compiled/model.mil",
];

fn parts(bytes: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    let mut start = 0;
    for at in 0..bytes.len() {
        if at >= start && bytes[at..].starts_with(SEPARATOR) {
            parts.push(&bytes[start..at]);
            start = at + SEPARATOR.len();
        }
    }
    parts.push(&bytes[start..]);
    parts
}

fn open(path: &Path) {
    if let Ok(package) = Package::open(path) {
        let _ = package.program();
        let _ = package.blob_file("@model_path/weights/weight.bin");
    }
}

fuzz_target!(|bytes: &[u8]| {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for (name, content) in FILES.iter().zip(parts(bytes)) {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap_or(dir.path())).expect("directories");
        std::fs::write(path, content).expect("room for the files");
    }
    open(&dir.path().join("package"));
    open(&dir.path().join("compiled"));
});
