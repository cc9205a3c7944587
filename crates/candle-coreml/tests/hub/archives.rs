//! Packages in zip archives.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use candle_coreml::GenerationOptions;
use candle_coreml::hub::{DownloadOptions, HubError, UnifiedModelLoader};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::Place;
use crate::server::{ID, read_all};

fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        match name.strip_suffix('/') {
            Some(directory) => zip.add_directory(directory, options()).unwrap(),
            None => {
                zip.start_file(*name, options()).unwrap();
                zip.write_all(bytes).unwrap();
            }
        }
    }
    zip.finish().unwrap().into_inner()
}

fn options() -> SimpleFileOptions {
    SimpleFileOptions::default()
}

fn compiled_model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/llm/compiled")
}

/// A compiled language model as ANEMLL publishes it, packages in archives, but for one.
fn published() -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut packages: BTreeMap<String, Vec<(String, Vec<u8>)>> = BTreeMap::new();
    for (path, bytes) in read_all(&compiled_model()) {
        match path.split_once('/') {
            Some((package, _)) if !package.contains("embeddings") => {
                packages.entry(package.to_owned()).or_default().push((path, bytes));
            }
            _ => drop(files.insert(path, bytes)),
        }
    }
    for (package, entries) in packages {
        let mut all: Vec<(&str, &[u8])> =
            entries.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())).collect();
        all.push(("__MACOSX/._x", b"clutter"));
        files.insert(format!("{package}.zip"), zip(&all));
    }
    files
}

/// What comes of a model with this archive as its only package.
fn unpacked(archive: Vec<u8>) -> (Place, Result<PathBuf, HubError>) {
    let place = Place::with([("x.mlmodelc.zip".to_owned(), archive)].into());
    let client = place.client();
    let snapshot = client.download(ID, &DownloadOptions::new()).unwrap();
    let directory = client.model_directory(&snapshot);
    (place, directory)
}

#[test]
fn a_published_model_generates_what_its_original_does() {
    let place = Place::with(published());
    let loader = UnifiedModelLoader::with_client(place.client());
    let options = GenerationOptions::new().max_tokens(8);
    let text =
        |mut model: candle_coreml::LanguageModel| model.generate("O", &options).unwrap().token_ids;
    let expected = text(candle_coreml::LanguageModel::load(compiled_model()).unwrap());
    assert_eq!(text(loader.load_model(ID).unwrap()), expected);
    // From the cache, without the hub.
    let directory = loader.ensure_model_available(ID).unwrap();
    assert!(directory.starts_with(place.directory.path().join("own")), "{}", directory.display());
    let sent = place.hub.content.lock().unwrap().seen.len();
    let offline = UnifiedModelLoader::with_client(place.client().offline(true));
    assert_eq!(text(offline.load_model(ID).unwrap()), expected);
    assert_eq!(place.hub.content.lock().unwrap().seen.len(), sent);
    // An assembled directory that lacks something is made anew.
    fs::remove_file(directory.join("tokenizer.json")).unwrap();
    assert_eq!(text(offline.load_model(ID).unwrap()), expected);
    let temporary = place.directory.path().join("own/temp");
    assert_eq!(fs::read_dir(temporary).unwrap().count(), 0);
}

#[test]
fn archives_in_a_directory_are_unpacked_beside_themselves() {
    let place = Place::with(published());
    let target = place.directory.path().join("target");
    let to = || place.client().download_to(ID, &target, &DownloadOptions::new()).unwrap();
    assert_eq!(to(), target);
    candle_coreml::LanguageModel::load(&target).unwrap();
    // What is there stays.
    let own = target.join("qwen_lm_head_lut6.mlmodelc/own.txt");
    fs::write(&own, "mine").unwrap();
    to();
    assert_eq!(fs::read_to_string(own).unwrap(), "mine");
}

#[test]
fn a_package_may_be_the_archive_or_a_directory_in_it() {
    for archive in [
        zip(&[("model.mil", b"text"), ("weights/", b""), ("weights/w.bin", b"w")]),
        zip(&[("y.mlmodelc/model.mil", b"text"), ("y.mlmodelc/weights/w.bin", b"w")]),
        zip(&[
            ("y.mlmodelc/model.mil", b"text"),
            ("y.mlmodelc/weights/w.bin", b"w"),
            ("__MACOSX/y.mlmodelc/._model.mil", b"?"),
            (".DS_Store", b"?"),
        ]),
    ] {
        let (_place, directory) = unpacked(archive);
        let files = read_all(&directory.unwrap().join("x.mlmodelc"));
        assert_eq!(files.keys().collect::<Vec<_>>(), ["model.mil", "weights/w.bin"]);
    }
}

/// Asserts that an archive is refused for a reason, and leaves nothing behind.
fn assert_refused(archive: Vec<u8>, reason: &str) {
    let (place, directory) = unpacked(archive);
    let message = directory.unwrap_err().to_string();
    assert!(message.contains(reason), "{message}");
    let own = place.directory.path().join("own");
    assert!(!own.join("models/models--org--model").join(crate::server::COMMIT).exists());
    assert_eq!(fs::read_dir(own.join("temp")).unwrap().count(), 0);
    let beside: Vec<_> = fs::read_dir(place.directory.path()).unwrap().flatten().collect();
    assert_eq!(beside.len(), 2, "{beside:?}");
}

#[test]
fn archives_that_would_do_harm_are_refused() {
    for name in ["../evil", "a/../../../evil", "/tmp/evil", "a\\..\\evil", "c:evil"] {
        assert_refused(zip(&[("model.mil", b"text"), (name, b"evil")]), "leads out of it");
    }
    let mut link = ZipWriter::new(Cursor::new(Vec::new()));
    link.add_symlink("weights", "/etc", options()).unwrap();
    assert_refused(link.finish().unwrap().into_inner(), "symbolic link");
    assert_refused(b"PK but not really".to_vec(), "not a sound zip archive");
    let sound = zip(&[("model.mil", &[7; 5000])]);
    assert_refused(sound[..sound.len() / 2].to_vec(), "not a sound zip archive");
    let many: Vec<String> = (0..10_001).map(|number| format!("{number}")).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|name| (name.as_str(), &b""[..])).collect();
    assert_refused(zip(&many), "10001 entries");
}

#[test]
fn zip_bombs_are_refused() {
    let zeros = vec![0; 1 << 20];
    let mut bomb = ZipWriter::new(Cursor::new(Vec::new()));
    bomb.start_file("model.mil", options()).unwrap();
    for _ in 0..200 {
        bomb.write_all(&zeros).unwrap();
    }
    let bomb = bomb.finish().unwrap().into_inner();
    assert!(bomb.len() < 1 << 20);
    assert_refused(bomb, "zip bomb");
}
