//! What is no regular file in the place of a package's files: an error at once, which names the file and
//! says what it is.
#![cfg(unix)]
#![allow(clippy::unwrap_used)] // a helper that fails is a test that fails

mod support;

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use coreml_format::files::{entries, read_file};
use coreml_format::{ErrorKind, FileKind, Package};
use support::{copy_dir, fixture};

const WEIGHTS: &str = "@model_path/weights/weight.bin";

/// What is put in the place of a file, and words of the message about it.
type Form = (&'static str, fn(&Path), &'static str);

const FORMS: &[Form] = &[
    ("pipe", pipe, "is a named pipe"),
    ("socket", |path| drop(UnixListener::bind(path).unwrap()), "is a socket"),
    ("directory", |path| fs::create_dir(path).unwrap(), "a directory|not a file"),
    ("endless device", |path| symlink("/dev/zero", path).unwrap(), "leads out of the model"),
    ("file elsewhere", |path| symlink("/etc/passwd", path).unwrap(), "leads out of the model"),
    ("link to nothing", |path| symlink("nowhere", path).unwrap(), "leads nowhere"),
    ("link to itself", |path| symlink(path.file_name().unwrap(), path).unwrap(), "leads nowhere"),
];

fn pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// The message of what is to fail, which must not take long.
fn failure<T>(
    action: impl FnOnce() -> Result<T, coreml_format::FormatError> + Send + 'static,
) -> String {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || send.send(action().map(drop).unwrap_err().to_string()));
    receive.recv_timeout(Duration::from_secs(60)).expect("it hangs, or succeeds")
}

/// Opens a package and reads all that it may have.
fn open_all(path: &Path) -> Result<(), coreml_format::FormatError> {
    let package = Package::open(path)?;
    package.model()?;
    package.blob_file(WEIGHTS).map(drop)
}

#[test]
fn special_files_in_packages_are_errors_at_once() {
    let files = [
        ("stateful.mlpackage", "Manifest.json"),
        ("stateful.mlpackage", "Data/com.apple.CoreML/model.mlmodel"),
        ("stateful.mlpackage", "Data/com.apple.CoreML/weights/weight.bin"),
        ("stateful.mlmodelc", "model.mil"),
        ("stateful.mlmodelc", "metadata.json"),
        ("stateful.mlmodelc", "coremldata.bin"),
        ("stateful.mlmodelc", "weights/weight.bin"),
    ];
    for (model, name) in files {
        for (form, make, words) in FORMS {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("model");
            copy_dir(&fixture(model), &path);
            let file = path.join(name);
            fs::remove_file(&file).unwrap();
            make(&file);
            let message = failure(move || open_all(&path));
            assert!(words.split('|').any(|words| message.contains(words)), "{form}: {message}");
            assert!(message.contains(name), "{form}: {message}");
        }
    }
}

#[test]
fn directories_of_packages_are_no_links_out_of_it() {
    for name in ["Data", "Data/com.apple.CoreML", "Data/com.apple.CoreML/weights"] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model");
        copy_dir(&fixture("stateful.mlpackage"), &path);
        let outside = directory.path().join("outside");
        fs::rename(path.join(name), &outside).unwrap();
        symlink(&outside, path.join(name)).unwrap();
        let message = failure(move || open_all(&path));
        assert!(message.contains("leads out of the model"), "{name}: {message}");
    }
}

/// Stages that are links to each other would stand for any number of models.
#[test]
fn stages_of_a_pipeline_are_directories() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model");
    copy_dir(&fixture("stateful.mlmodelc"), &path);
    fs::remove_file(path.join("model.mil")).unwrap();
    let metadata = path.join("metadata.json");
    let text = fs::read_to_string(&metadata).unwrap();
    fs::write(&metadata, text.replace("_mlProgram", "_pipeline")).unwrap();
    (0..10).for_each(|stage| symlink(".", path.join(format!("model{stage}"))).unwrap());
    let message = failure(move || open_all(&path));
    assert!(message.contains("model0` is a symbolic link"), "{message}");
}

#[test]
fn a_model_is_no_special_file_itself() {
    let directory = tempfile::tempdir().unwrap();
    for (form, make, words) in FORMS.iter().filter(|form| !form.0.contains("link")) {
        let path = directory.path().join(form);
        make(&path);
        let words = match *form {
            "directory" => "is not a Core ML model",
            "endless device" => "is a device",
            "file elsewhere" => "protobuf",
            _ => words,
        };
        let message = failure(move || open_all(&path));
        assert!(message.contains(words), "{form}: {message}");
    }
}

#[test]
fn a_package_in_a_package_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let outer = directory.path().join("x.mlpackage");
    copy_dir(&fixture("stateful.mlpackage"), &outer.join("x.mlpackage"));
    let message = open_all(&outer).unwrap_err().to_string();
    assert!(message.contains("there is one in it") && message.contains("x.mlpackage/x.mlpackage"));
}

/// A sparse file: nothing on the disk, and far more than there is memory.
#[test]
fn huge_files_are_not_read() {
    let directory = tempfile::tempdir().unwrap();
    for kind in [FileKind::Settings, FileKind::Tokenizer, FileKind::ProgramText, FileKind::Message]
    {
        let path = directory.path().join("config.json");
        File::create(&path).unwrap().set_len(100 << 30).unwrap();
        let error = read_file(&path, kind).unwrap_err();
        assert!(error.to_string().contains("is larger than"), "{error}");
        assert_eq!(error.kind(), ErrorKind::BrokenModel);
    }
    for name in ["Data/com.apple.CoreML/model.mlmodel", "Manifest.json"] {
        let path = directory.path().join("x.mlpackage");
        copy_dir(&fixture("stateful.mlpackage"), &path);
        File::create(path.join(name)).unwrap().set_len(100 << 30).unwrap();
        let message = failure(move || open_all(&path));
        assert!(message.contains("is larger than") && message.contains(name), "{message}");
    }
}

#[test]
fn files_are_read_in_their_directory_and_from_a_hub_cache() {
    let place = tempfile::tempdir().unwrap();
    let read = |path: &Path| read_file(path, FileKind::Settings);
    let text = |path: &Path| read(path).unwrap().map(|bytes| String::from_utf8(bytes).unwrap());
    assert_eq!(text(&place.path().join("none")), None);
    assert_eq!(text(&place.path().join("none/none")), None);

    // A directory that is named by a link is trusted, and so are links within it.
    let model = place.path().join("model");
    fs::create_dir_all(model.join("below")).unwrap();
    fs::write(model.join("below/file"), "text").unwrap();
    symlink("below/file", model.join("config.json")).unwrap();
    let link = place.path().join("link");
    symlink(&model, &link).unwrap();
    assert_eq!(text(&link.join("config.json")).as_deref(), Some("text"));
    symlink("../outside", model.join("out")).unwrap();
    fs::write(place.path().join("outside"), "secret").unwrap();
    let error = read(&link.join("out")).unwrap_err().to_string();
    assert!(error.contains("leads out of the model") && error.contains("cp -RL"), "{error}");

    // The snapshot of a Hugging Face cache.
    let hub = place.path().join("models--org--name");
    let snapshot = hub.join("snapshots/0123");
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(hub.join("blobs")).unwrap();
    fs::write(hub.join("blobs/aa"), "blob").unwrap();
    symlink("../../blobs/aa", snapshot.join("config.json")).unwrap();
    assert_eq!(text(&snapshot.join("config.json")).as_deref(), Some("blob"));
    symlink(place.path().join("outside"), snapshot.join("meta.yaml")).unwrap();
    assert!(read(&snapshot.join("meta.yaml")).is_err());
    pipe(&hub.join("blobs/bb"));
    symlink("../../blobs/bb", snapshot.join("tokenizer.json")).unwrap();
    let path = snapshot.join("tokenizer.json");
    let message = failure(move || read_file(&path, FileKind::Tokenizer));
    assert!(message.contains("is a named pipe"), "{message}");
}

#[test]
fn packages_of_a_directory_do_not_lead_out_of_it() {
    let place = tempfile::tempdir().unwrap();
    let model = place.path().join("model");
    copy_dir(&fixture("stateful.mlpackage"), &model.join("a.mlpackage"));
    copy_dir(&fixture("stateful.mlpackage"), &place.path().join("b.mlpackage"));
    symlink("a.mlpackage", model.join("inside.mlpackage")).unwrap();
    symlink("../b.mlpackage", model.join("outside.mlpackage")).unwrap();
    let within = |name: &str| Package::open_within(&model, model.join(name));
    assert!(within("a.mlpackage").unwrap().blob_file(WEIGHTS).is_ok());
    assert!(within("inside.mlpackage").unwrap().blob_file(WEIGHTS).is_ok());
    let error = within("outside.mlpackage").unwrap_err().to_string();
    assert!(error.contains("leads out of the model"), "{error}");
    assert_eq!(within("none.mlpackage").unwrap_err().kind(), ErrorKind::NotFound);
    // Whoever names it may have it where he wants.
    assert!(Package::open(model.join("outside.mlpackage")).is_ok());
}

#[test]
fn directories_without_end_are_not_listed() {
    let directory = tempfile::tempdir().unwrap();
    let names: Vec<PathBuf> =
        (0..10_001).map(|number| directory.path().join(number.to_string())).collect();
    names.iter().take(3).for_each(|name| drop(File::create(name).unwrap()));
    assert_eq!(entries(directory.path()).unwrap().len(), 3);
    names.iter().skip(3).for_each(|name| drop(File::create(name).unwrap()));
    let error = entries(directory.path()).unwrap_err().to_string();
    assert!(error.contains("more than 10000 entries"), "{error}");
}
