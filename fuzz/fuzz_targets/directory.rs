//! The directory of a language model: a sound one, in which files are replaced by what the input says.
//! The input is split at `\n---\n` into a part for each of `NAMES`; its first byte tells what comes in
//! the place: a file with the rest as content, a link, a named pipe, a directory, or nothing.
#![no_main]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use candle_coreml::config::explain;
use candle_coreml::{ChatMessage, ChatOptions, GenerationOptions, LanguageModel, TextTokenizer};
use libfuzzer_sys::fuzz_target;
use rustix::fs::{CWD, FileType, Mode, mknodat};

const SEPARATOR: &[u8] = b"\n---\n";
const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/llm/qwen3-monolithic");
const NAMES: [&str; 17] = [
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
    "meta.yaml",
    "model_config.json",
    "tokenizer.json",
    "qwen_monolithic_full.mlpackage/Manifest.json",
    "qwen_monolithic_full.mlpackage/Data/com.apple.CoreML/weights/weight.bin",
    "other.mlmodelc/metadata.json",
    "other.mlmodelc/coremldata.bin",
    "other.mlmodelc/model.mil",
    "other.mlmodelc/model0",
    "coreml",
    "qwen_monolithic_full.mlpackage",
];
const TARGETS: [&str; 12] = [
    "/dev/zero",
    "/dev/null",
    "/proc/self/mem",
    "/etc/passwd",
    "/nowhere",
    "/",
    ".",
    "..",
    "config.json",
    "tokenizer.json",
    "../qwen_monolithic_full.mlpackage",
    "other.mlmodelc",
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

/// The files of the sound model with their contents, read once.
static SOUND: LazyLock<Vec<(PathBuf, Vec<u8>)>> = LazyLock::new(|| {
    let mut files = Vec::new();
    let mut directories = vec![PathBuf::from(MODEL)];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("the model") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => directories.push(path),
                false => {
                    let name = path.strip_prefix(MODEL).expect("a path below").to_owned();
                    files.push((name, fs::read(&path).expect("a file")));
                }
            }
        }
    }
    files
});

fn write_sound(model: &Path) {
    for (name, content) in SOUND.iter() {
        let path = model.join(name);
        fs::create_dir_all(path.parent().unwrap_or(model)).expect("a directory");
        fs::write(path, content).expect("room for the files");
    }
}

fn place(path: &Path, part: &[u8]) {
    // An earlier part may have put something else in the place of a parent.
    let Some(parent) = path.parent() else { return };
    if fs::create_dir_all(parent).is_err() {
        return;
    }
    let Some((form, rest)) = part.split_first() else { return };
    fs::remove_file(path).or_else(|_| fs::remove_dir_all(path)).ok();
    match form {
        b'f' => fs::write(path, rest).ok(),
        b'l' => {
            let target = TARGETS[usize::from(*rest.first().unwrap_or(&0)) % TARGETS.len()];
            symlink(target, path).ok()
        }
        b'p' => mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).ok(),
        b'd' => fs::create_dir(path).ok(),
        // Far more than there is memory, though nothing on the disk.
        b'h' => fs::File::create(path).and_then(|file| file.set_len(1 << 40)).ok(),
        _ => None,
    };
}

fn load(directory: &PathBuf) {
    let _ = explain(directory, None);
    if let Ok(tokenizer) = TextTokenizer::load(directory) {
        let _ = tokenizer.encode("Once upon a time");
        let _ = tokenizer.decode(&[0, 1, 2]);
        if let Ok(template) = tokenizer.chat_template() {
            let _ = template.render(&[ChatMessage::user("Hello")], &ChatOptions::default());
        }
    }
    if let Ok(mut model) = LanguageModel::load(directory) {
        let options = GenerationOptions::new().recommended(model.recommended_sampling());
        let _ = model.generate("O", &options.max_tokens(2));
    }
}

fuzz_target!(|bytes: &[u8]| {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let model = directory.path().join("model");
    write_sound(&model);
    for (name, part) in NAMES.iter().zip(parts(bytes)) {
        // What is written must not go where a link of an earlier part leads.
        let inside = |parent: &Path| parent.canonicalize().is_ok_and(|it| it.starts_with(&model));
        let path = model.join(name);
        let existing = path.ancestors().skip(1).find(|parent| parent.symlink_metadata().is_ok());
        if existing.is_some_and(inside) && !part.is_empty() {
            place(&path, part);
        }
    }
    load(&model);
});
