//! Models by name: downloads, archives and the caches, against a hub on the loopback interface.

#![cfg(all(feature = "hub", feature = "llm"))]
#![allow(clippy::unwrap_used)] // a test fails by panicking

mod archives;
mod downloads;
mod inventory;
#[path = "../common/hub.rs"]
mod server;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use candle_coreml::hub::{DownloadOptions, HubClient, HubError};
use server::{Hub, ID};
use tempfile::TempDir;

const WEIGHTS: &str = "a.mlpackage/Data/weights/weight.bin";

/// A model that no one runs: small files, a large one, and files that nobody needs.
fn files() -> BTreeMap<String, Vec<u8>> {
    let large: Vec<u8> = (0..200_000u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
    let pairs: [(&str, &[u8]); 7] = [
        ("a.mlpackage/Manifest.json", b"{}"),
        (WEIGHTS, &large),
        ("a.mlpackage/copy with space #1.bin", &large),
        ("meta.yaml", b"model_info:\n"),
        ("tokenizer.json", b"{\"version\": \"1.0\"}"),
        ("README.md", b"read me"),
        ("model.safetensors", &[1; 5000]),
    ];
    pairs.map(|(path, bytes)| (path.to_owned(), bytes.to_vec())).into()
}

const NEEDED: [&str; 5] = [
    WEIGHTS,
    "a.mlpackage/Manifest.json",
    "a.mlpackage/copy with space #1.bin",
    "meta.yaml",
    "tokenizer.json",
];

struct Place {
    hub: Hub,
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        Self::with(files())
    }

    fn with(files: BTreeMap<String, Vec<u8>>) -> Self {
        Place { hub: Hub::new(files), directory: tempfile::tempdir().unwrap() }
    }

    /// A client of this hub with caches of its own.
    fn client(&self) -> HubClient {
        HubClient::new()
            .endpoint(&self.hub.endpoint())
            .token(None)
            .cache_dir(self.cache())
            .own_dir(self.directory.path().join("own"))
            .offline(false)
            .retries(3, Duration::from_millis(1))
    }

    /// The cache shared with other tools.
    fn cache(&self) -> PathBuf {
        self.directory.path().join("hub")
    }

    fn repository(&self) -> PathBuf {
        self.cache().join("models--org--model")
    }

    fn download(&self) -> Result<PathBuf, HubError> {
        Ok(self.client().download(ID, &DownloadOptions::new())?.path)
    }

    /// Why the download fails.
    fn failure(&self) -> String {
        self.download().unwrap_err().to_string()
    }

    /// Asserts that a directory has exactly these files of the model, with their content.
    fn assert_has(&self, directory: &Path, paths: &[&str]) {
        let content = self.hub.content.lock().unwrap();
        let found = server::read_all(directory);
        assert_eq!(found.keys().collect::<Vec<_>>(), paths);
        assert!(found.iter().all(|(path, bytes)| content.files[path] == *bytes));
    }

    /// Names in the cache's directory of blobs.
    fn blobs(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.repository().join("blobs"))
            .map(|entries| {
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
            })
            .unwrap_or_default();
        names.sort();
        names
    }
}
