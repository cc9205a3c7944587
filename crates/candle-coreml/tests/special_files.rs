//! What is no regular file, or far too much of one, in a language model's directory: an error at once,
//! which names the file and says what it is.
#![cfg(all(unix, feature = "llm"))]
#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use candle_coreml::config::{CONFIG_FILE, explain};
use candle_coreml::{
    ChatTemplate, ErrorKind, GenerationOptions, LanguageModel, RecommendedSampling, Result,
};
use common::{copy, fixtures};
use tempfile::TempDir;

/// Files that each model may have.
const FILES: [&str; 9] = [
    "meta.yaml",
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
    CONFIG_FILE,
];

/// What is put in the place of a file, and words of the message about it.
type Form = (&'static str, fn(&Path), &'static str);

const FORMS: &[Form] = &[
    ("pipe", pipe, "is a named pipe"),
    ("socket", |path| drop(UnixListener::bind(path).unwrap()), "is a socket"),
    ("directory", |path| fs::create_dir(path).unwrap(), "is a directory"),
    ("endless device", |path| symlink("/dev/zero", path).unwrap(), "leads out of the model"),
    ("file elsewhere", |path| symlink("/etc/passwd", path).unwrap(), "leads out of the model"),
    ("link to nothing", |path| symlink("nowhere", path).unwrap(), "leads nowhere"),
    ("link to itself", |path| symlink(path.file_name().unwrap(), path).unwrap(), "leads nowhere"),
    ("huge", |path| File::create(path).unwrap().set_len(100 << 30).unwrap(), "is larger than"),
    ("no text", |path| fs::write(path, b"\xFF\xFE{\0}\0").unwrap(), "UTF-8|not a tokenizer"),
];

fn pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// A copy of a small model in one package.
fn model() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model");
    copy(&fixtures().join("llm/qwen3-monolithic"), &path);
    (directory, path)
}

/// Reads all that a directory's files say, as chatting with the model does.
fn load(path: &Path) -> Result<()> {
    let model = LanguageModel::load(path)?;
    // A template may be missing.
    if let Err(error) = model.tokenizer().chat_template()
        && error.kind() != ErrorKind::Unsupported
    {
        return Err(error);
    }
    RecommendedSampling::read(path)?;
    ChatTemplate::load(path).map(drop)
}

/// The message of what is to fail, which must not take long.
fn failure<T>(action: impl FnOnce() -> Result<T> + Send + 'static) -> String {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || send.send(action().map(drop).unwrap_err().to_string()));
    receive.recv_timeout(Duration::from_secs(60)).expect("it hangs, or succeeds")
}

#[test]
fn special_files_are_errors_at_once() {
    for name in FILES {
        for (form, make, words) in FORMS {
            let (_directory, path) = model();
            let file = path.join(name);
            fs::remove_file(&file).ok();
            if name == "chat_template.json" {
                // Else nobody looks for it.
                fs::remove_file(path.join("chat_template.jinja")).ok();
                fs::write(path.join("tokenizer_config.json"), "{}").unwrap();
            }
            make(&file);
            // Such bytes are as good as no file there.
            if *form == "no text" && name == "config.json" {
                continue;
            }
            let message = failure(move || load(&path));
            assert!(words.split('|').any(|words| message.contains(words)), "{form}: {message}");
            assert!(message.contains(name), "{form}: {message}");
        }
    }
}

/// `config` reads fewer files; those it reads are no special ones either.
#[test]
fn explanations_read_no_special_files() {
    for name in ["meta.yaml", "config.json", CONFIG_FILE] {
        for (form, make, words) in FORMS.iter().filter(|form| form.0 != "no text") {
            let (_directory, path) = model();
            fs::remove_file(path.join(name)).ok();
            make(&path.join(name));
            let message = failure(move || explain(&path, None));
            assert!(message.contains(words) && message.contains(name), "{form}: {message}");
        }
    }
}

#[test]
fn packages_lie_in_the_directory() {
    // A package behind a link to another place, and the directory `coreml`.
    for moved in ["qwen_monolithic_full.mlpackage", "coreml"] {
        let (directory, path) = model();
        let outside = directory.path().join("outside");
        let package = path.join("qwen_monolithic_full.mlpackage");
        if moved == "coreml" {
            fs::create_dir(path.join(moved)).unwrap();
            fs::rename(&package, path.join("coreml/qwen_monolithic_full.mlpackage")).unwrap();
            LanguageModel::load(&path).unwrap();
        }
        fs::rename(path.join(moved), &outside).unwrap();
        symlink("../outside", path.join(moved)).unwrap();
        let loaded = path.clone();
        let message = failure(move || load(&loaded));
        assert!(message.contains("leads out of the model"), "{moved}: {message}");

        // A configuration that came with the model names it no more than the directory does.
        fs::rename(&outside, path.join("here")).unwrap();
        fs::remove_file(path.join(moved)).unwrap();
        fs::rename(path.join("here"), path.join(moved)).unwrap();
        let config = explain(&path, None).unwrap().config;
        config.save_to_file(path.join(CONFIG_FILE)).unwrap();
        LanguageModel::load(&path).unwrap();
        fs::rename(path.join(moved), &outside).unwrap();
        symlink("../outside", path.join(moved)).unwrap();
        let message = failure(move || load(&path));
        assert!(message.contains("leads out of the model"), "{moved}: {message}");
    }
    // What is named by whoever loads it may be a link.
    let (directory, path) = model();
    let link = directory.path().join("link");
    symlink(&path, &link).unwrap();
    LanguageModel::load(&link).unwrap();
    let inside = path.join("other.mlpackage");
    fs::rename(path.join("qwen_monolithic_full.mlpackage"), path.join("real")).unwrap();
    symlink("real", inside).unwrap();
    LanguageModel::load(&link).unwrap();
}

#[test]
fn a_model_is_a_directory_with_packages() {
    let (directory, path) = model();
    let package = path.join("qwen_monolithic_full.mlpackage");
    pipe(&directory.path().join("pipe"));
    for (named, words) in [
        (PathBuf::from("/etc/passwd"), "is a regular file; a language model is a directory"),
        (PathBuf::from("/dev/zero"), "is a device; a language model is a directory"),
        (directory.path().join("pipe"), "is a named pipe"),
        (package, "is a model package; a language model is the directory"),
        (directory.path().join("none"), "No such file"),
        (directory.path().to_owned(), "no model packages"),
    ] {
        let message = failure(move || LanguageModel::load(named));
        assert!(message.contains(words), "{message}");
    }
}

/// Names are bytes to the system.
#[test]
fn names_need_not_be_text() {
    let (directory, path) = model();
    let odd = directory.path().join(std::ffi::OsStr::from_bytes(b"m\xFFdel"));
    fs::rename(&path, &odd).unwrap();
    let package = odd.join(std::ffi::OsStr::from_bytes(b"\xFF.mlpackage"));
    fs::rename(odd.join("qwen_monolithic_full.mlpackage"), package).unwrap();
    let mut model = LanguageModel::load(&odd).unwrap();
    model.generate("O", &GenerationOptions::new().max_tokens(1)).unwrap();
}

#[test]
fn directories_with_too_much_in_them_are_refused() {
    let (_directory, path) = model();
    (0..1001).for_each(|n| fs::create_dir(path.join(format!("{n}.mlmodelc"))).unwrap());
    let loaded = path.clone();
    let message = failure(move || LanguageModel::load(loaded));
    assert!(message.contains("1002 packages"), "{message}");
    (0..10_000).for_each(|n| drop(File::create(path.join(n.to_string())).unwrap()));
    let message = failure(move || LanguageModel::load(path));
    assert!(message.contains("more than 10000 entries"), "{message}");
}

/// Short files that stand for much, and deep ones.
#[test]
fn settings_are_bounded() {
    let deep = |open: &str, close: &str, count| open.repeat(count) + &close.repeat(count);
    let laughs: String = (1..30)
        .map(|n| format!("a{n}: &a{n} [*a{}, *a{}]\n", n - 1, n - 1))
        .fold("a0: &a0 x\n".to_owned(), |text, line| text + &line);
    let long_path = "[".repeat(200) + &"x,".repeat(20_000);
    let long_text = "- x\n".repeat(300_000);
    let cases = [
        ("meta.yaml", laughs, "alias"),
        ("meta.yaml", deep("[", "]", 100_000), "more levels|YAML"),
        ("meta.yaml", deep("{a: ", "}", 100_000), "more levels|YAML"),
        ("meta.yaml", long_path, "more levels|YAML"),
        ("meta.yaml", long_text, "far longer"),
        ("config.json", deep("[", "]", 100_000), "JSON"),
        ("config.json", deep(r#"{"a":"#, "}", 100_000), "JSON"),
        ("tokenizer_config.json", format!("[{}0]", "0,".repeat(3_000_000)), "2000000 values"),
        ("tokenizer.json", deep("[", "]", 100_000), "not a tokenizer"),
        ("tokenizer.json", deep(r#"{"model":"#, "}", 100_000), "not a tokenizer"),
        (CONFIG_FILE, deep("[", "]", 100_000), "not a model configuration"),
    ];
    for (name, text, words) in cases {
        let (_directory, path) = model();
        fs::write(path.join(name), text).unwrap();
        let message = failure(move || load(&path));
        assert!(words.split('|').any(|words| message.contains(words)), "{name}: {message}");
    }
}

/// A link of the name of a file that is going to be written leads nowhere.
#[test]
fn a_configuration_is_not_written_through_a_link() {
    let (directory, path) = model();
    let config = explain(&path, None).unwrap().config;
    let outside = directory.path().join("outside");
    fs::write(&outside, "mine").unwrap();
    symlink(&outside, path.join(CONFIG_FILE)).unwrap();
    symlink(&outside, path.join(format!("{CONFIG_FILE}.part"))).unwrap();
    config.save_to_file(path.join(CONFIG_FILE)).unwrap();
    assert_eq!(fs::read_to_string(outside).unwrap(), "mine");
    LanguageModel::load(&path).unwrap();
}
