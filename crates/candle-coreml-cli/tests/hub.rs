//! Downloads by the program, from a hub on the loopback interface.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;
#[path = "../../candle-coreml/tests/common/hub.rs"]
mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use common::{failure, stderr, stdout};
use server::{COMMIT, Fault, Hub, ID, hash, read_all};
use tempfile::TempDir;

const WEIGHTS: &str = "qwen_FFN_PF_chunk_01of02.mlpackage/Data/com.apple.CoreML/weights/weight.bin";

/// A hub with a small language model, and caches of a user.
struct Place {
    hub: Hub,
    home: TempDir,
}

impl Place {
    fn new() -> Self {
        let model =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/llm/two-chunks-fp16");
        Place { hub: Hub::of_directory(&model), home: tempfile::tempdir().unwrap() }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_candle-coreml"));
        command.args(arguments);
        self.environment(&mut command);
        command
    }

    fn environment(&self, command: &mut Command) {
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HF_")) {
            command.env_remove(name);
        }
        command
            .env_remove("RUST_LOG")
            .env("HOME", self.home.path())
            .env("XDG_CACHE_HOME", self.home.path().join("cache"))
            .env("HF_ENDPOINT", self.hub.endpoint())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn repository(&self) -> PathBuf {
        self.home.path().join("cache/huggingface/hub/models--org--model")
    }

    fn snapshot(&self) -> PathBuf {
        self.repository().join("snapshots").join(COMMIT)
    }

    /// The contents of the model's files, each once.
    fn contents(&self) -> impl Iterator<Item = Vec<u8>> {
        let files = self.hub.content.lock().unwrap().files.clone();
        files.into_values().collect::<BTreeSet<_>>().into_iter()
    }

    /// Bytes that the cache does not have yet.
    fn missing(&self) -> usize {
        let blobs = self.repository().join("blobs");
        let size = |path| fs::metadata(blobs.join(path)).map_or(0, |found| found.len() as usize);
        let here = |bytes: &Vec<u8>| {
            let hash = hash(bytes);
            size(hash.clone()) + size(format!("{hash}.incomplete"))
        };
        self.contents().map(|bytes| bytes.len() - here(&bytes)).sum()
    }

    /// Asserts that the model is in the cache, whole and right.
    fn assert_whole(&self) {
        assert_same(&read_all(&self.snapshot()), &self.hub.content.lock().unwrap().files);
        assert_eq!(fs::read_to_string(self.repository().join("refs/main")).unwrap(), COMMIT);
        self.assert_sound();
    }

    /// Asserts that whatever has its name in the cache has its content.
    fn assert_sound(&self) {
        let Ok(blobs) = fs::read_dir(self.repository().join("blobs")) else { return };
        for path in blobs.map(|blob| blob.unwrap().path()).filter(|p| p.extension().is_none()) {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            assert_eq!(hash(&fs::read(path).unwrap()), name);
        }
        // What is linked to is there, and a revision is named when all of it is.
        for link in links(&self.repository().join("snapshots")) {
            assert!(link.exists(), "{}", link.display());
        }
        if self.repository().join("refs/main").exists() {
            let files = &self.hub.content.lock().unwrap().files;
            assert!(files.keys().all(|path| self.snapshot().join(path).exists()));
        }
    }
}

/// Asserts that two directories have the same files, without printing their content.
fn assert_same(found: &BTreeMap<String, Vec<u8>>, expected: &BTreeMap<String, Vec<u8>>) {
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (path, bytes) in found {
        assert!(*bytes == expected[path], "{path}");
    }
}

fn links(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries
        .map(|entry| entry.unwrap())
        .flat_map(|entry| match entry.file_type().unwrap().is_dir() {
            true => links(&entry.path()),
            false => vec![entry.path()],
        })
        .collect()
}

#[test]
fn a_model_is_downloaded_generates_and_can_be_pruned() {
    let place = Place::new();
    let output = place.run(&["download", ID]);
    assert_eq!(stdout(&output), format!("{}\n", place.snapshot().display()));
    assert_eq!(stderr(&output), "", "nothing is shown but at a terminal");
    place.assert_whole();

    // By its name, from the cache.
    let seen = place.hub.content.lock().unwrap().seen.len();
    let generate = |model: &str| {
        stdout(&place.run(&["generate", "--model", model, "O", "--max-tokens", "4", "--json"]))
    };
    let ids = |text: String| {
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["token_ids"].clone()
    };
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/llm/two-chunks-fp16");
    assert_eq!(ids(generate(ID)), ids(generate(fixture.to_str().unwrap())));
    assert_eq!(place.hub.content.lock().unwrap().seen.len(), seen);
    stdout(&place.run(&["download", ID, "--offline"]));
    assert_eq!(place.hub.content.lock().unwrap().seen.len(), seen);

    let list = stdout(&place.run(&["cache", "list"]));
    assert!(list.starts_with("org/model  0123456789ab (main)  "), "{list}");
    assert!(list.trim_end().ends_with("complete"), "{list}");
    let directories = stdout(&place.run(&["cache", "dir"]));
    assert!(directories.contains("cache/huggingface/hub\n"), "{directories}");
    assert!(directories.contains("cache/candle-coreml\n"), "{directories}");
    stdout(&place.run(&["cache", "verify"]));
    let blob = place.snapshot().join(WEIGHTS).canonicalize().unwrap();
    let sound = fs::read(&blob).unwrap();
    let mut damaged = sound.clone();
    damaged[1000] ^= 1;
    fs::write(&blob, damaged).unwrap();
    let message = failure(&place.run(&["cache", "verify", ID]));
    assert!(message.contains(blob.to_str().unwrap()), "{message}");
    // As the message says.
    fs::remove_file(&blob).unwrap();
    stdout(&place.run(&["download", ID]));
    place.assert_whole();

    assert!(stdout(&place.run(&["cache", "prune"])).contains("nothing to remove"));
    assert!(stdout(&place.run(&["cache", "prune", ID, "--all", "--dry-run"])).contains("blobs"));
    assert!(failure(&place.run(&["cache", "prune", ID, "--all"])).contains("--yes"));
    place.assert_whole();
    stdout(&place.run(&["cache", "prune", ID, "--all", "--yes"]));
    assert!(links(&place.repository()).is_empty());
    assert_eq!(stdout(&place.run(&["cache", "list"])), "");
    assert!(failure(&place.run(&["cache", "verify", ID])).contains("cache list"));
}

#[test]
fn options_choose_revision_files_and_place() {
    let place = Place::new();
    let target = place.home.path().join("here");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("mine.txt"), "mine").unwrap();
    let to = target.to_str().unwrap();
    let arguments =
        ["download", ID, "--revision", "v1", "--include", "*.json", "--include", "meta*"];
    let output = place.run(&[&arguments[..], &["--to", to]].concat());
    assert_eq!(stdout(&output), format!("{to}\n"));
    let mut expected = place.hub.content.lock().unwrap().files.clone();
    expected.retain(|path, _| path.ends_with(".json") || path.starts_with("meta"));
    expected.insert("mine.txt".to_owned(), b"mine".to_vec());
    assert_same(&read_all(&target), &expected);
    assert!(!place.repository().exists());
}

#[test]
fn failures_say_what_to_do() {
    let place = Place::new();
    let message = failure(&place.run(&["download", "org/modle"]));
    assert!(message.contains("`org/modle`") && message.contains("HF_TOKEN"), "{message}");
    let message = failure(&place.run(&["generate", "--model", "org/modle", "x"]));
    assert!(message.contains("no directory `org/modle`"), "{message}");
    let message = failure(&place.run(&["download", ID, "--offline"]));
    assert!(message.contains("not completely in the cache"), "{message}");
    let mut down = place.command(&["download", ID]);
    let message = failure(&down.env("HF_ENDPOINT", "http://127.0.0.1:1").output().unwrap());
    assert!(message.contains("can't be reached"), "{message}");
    let mut offline = place.command(&["generate", "--model", ID, "x"]);
    let message = failure(&offline.env("HF_HUB_OFFLINE", "1").output().unwrap());
    assert!(message.contains("HF_HUB_OFFLINE"), "{message}");
}

#[test]
fn tokens_come_from_the_environment_or_the_file() {
    let place = Place::new();
    place.hub.update(|content| content.token = Some("secret".to_owned()));
    let list = |command: &mut Command| command.output().unwrap();
    failure(&list(&mut place.command(&["download", ID])));
    let mut wrong = place.command(&["download", ID]);
    let message = failure(&list(wrong.env("HF_TOKEN", "other")));
    assert!(message.contains("belongs to an account") && !message.contains("other"), "{message}");
    let mut right = place.command(&["download", ID, "--include", "meta.yaml"]);
    stdout(&list(right.env("HF_TOKEN", "secret\n")));
    let file = place.home.path().join("cache/huggingface/token");
    fs::write(file, "secret\n").unwrap();
    stdout(&place.run(&["download", ID]));
    place.assert_whole();
}

#[test]
fn caches_are_where_other_tools_have_them() {
    let place = Place::new();
    let home = place.home.path().to_str().unwrap().to_owned();
    let cases = [
        (vec![], format!("{home}/cache/huggingface/hub"), "cache"),
        (vec![("HF_HOME", "/hf")], "/hf/hub".to_owned(), "cache"),
        (
            vec![("HF_HOME", "/hf"), ("HF_HUB_CACHE", "~/models"), ("XDG_CACHE_HOME", "")],
            format!("{home}/models"),
            ".cache",
        ),
        (
            vec![("XDG_CACHE_HOME", ""), ("HF_HOME", "")],
            format!("{home}/.cache/huggingface/hub"),
            ".cache",
        ),
    ];
    for (variables, shared, own) in cases {
        let mut command = place.command(&["cache", "dir"]);
        let output = command.envs(variables.clone()).output().unwrap();
        if cfg!(target_os = "linux") {
            assert_eq!(
                stdout(&output),
                format!("{shared}\n{home}/{own}/candle-coreml\n"),
                "{variables:?}"
            );
        } else {
            assert!(stdout(&output).starts_with(&format!("{shared}\n")), "{variables:?}");
        }
    }
}

#[test]
fn two_processes_download_a_model_together() {
    let place = Place::new();
    place.hub.update(|content| content.pace = Some((8192, Duration::from_millis(2))));
    let start = || place.command(&["download", ID]).spawn().unwrap();
    let processes: Vec<Child> = (0..3).map(|_| start()).collect();
    for process in processes {
        stdout(&process.wait_with_output().unwrap());
    }
    place.assert_whole();
    // Each content was fetched by one of them.
    let all: usize = place.contents().map(|bytes| bytes.len()).sum();
    assert_eq!(place.hub.content.lock().unwrap().sent, all);
}

#[test]
fn of_two_processes_one_may_be_killed() {
    for round in 1..6 {
        let place = Place::new();
        place.hub.update(|content| content.pace = Some((4096, Duration::from_millis(2))));
        let start = || place.command(&["download", ID]).spawn().unwrap();
        let (mut killed, other) = (start(), start());
        place.hub.wait_for_delivered(place.missing() * round / 6);
        killed.kill().unwrap();
        killed.wait().unwrap();
        stdout(&other.wait_with_output().unwrap());
        place.assert_whole();
        assert_eq!(stdout(&place.run(&["cache", "prune"])), "nothing to remove\n");
    }
}

/// Packages in an archive take more room unpacked.
#[cfg(unix)]
#[test]
fn a_disk_that_is_full_while_unpacking_is_told() {
    let place = Place::new();
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("model.mil", zip::write::SimpleFileOptions::default()).unwrap();
    std::io::Write::write_all(&mut zip, &vec![b' '; 1 << 20]).unwrap();
    let archive = zip.finish().unwrap().into_inner();
    place.hub.update(|content| content.files = [("x.mlmodelc.zip".to_owned(), archive)].into());
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$0\" download org/model"]);
    limited.arg(env!("CARGO_BIN_EXE_candle-coreml"));
    place.environment(&mut limited);
    let message = failure(&limited.output().unwrap());
    assert!(message.contains("make room") && message.contains("model.mil"), "{message}");
    let temporary = place.home.path().join("cache/candle-coreml/temp");
    assert_eq!(fs::read_dir(temporary).unwrap().count(), 0);
    stdout(&place.run(&["download", ID]));
}

/// The same as a full disk to a program: a write fails.
#[cfg(unix)]
#[test]
fn a_full_disk_is_told_and_what_came_is_kept() {
    let place = Place::new();
    let mut limited = Command::new("sh");
    // 16 blocks: 8 or 16 KiB, less than the weights have.
    limited.args(["-c", "trap '' XFSZ; ulimit -f 16; exec \"$0\" download org/model"]);
    limited.arg(env!("CARGO_BIN_EXE_candle-coreml"));
    place.environment(&mut limited);
    let message = failure(&limited.output().unwrap());
    assert!(message.contains("make room") && message.contains(".incomplete"), "{message}");
    place.assert_sound();
    assert!(!place.repository().join("refs").exists());
    place.hub.update(|content| content.seen.clear());
    stdout(&place.run(&["download", ID]));
    place.assert_whole();
    let seen = place.hub.content.lock().unwrap().seen.clone();
    assert!(seen.iter().any(|seen| seen.cdn && seen.range.is_some()), "{seen:?}");
}

#[test]
fn a_killed_download_leaves_nothing_half_done() {
    let mut kills = 0;
    for round in 0..10 {
        let place = Place::new();
        for moment in 0..5 {
            place.hub.update(|content| content.pace = Some((4096, Duration::from_millis(4))));
            let before = place.hub.content.lock().unwrap().delivered;
            let missing = place.missing();
            let mut process = place.command(&["download", ID]).spawn().unwrap();
            // Each time at another part of what is still to come, and then a little later: between
            // the steps after the last byte, too.
            let part = (round * 5 + moment) * 31 % 50;
            place.hub.wait_for_delivered(before + missing * part.min(45) / 45);
            std::thread::sleep(Duration::from_micros(part as u64 * 97 % 2000));
            process.kill().unwrap();
            kills += usize::from(!process.wait().unwrap().success());
            place.assert_sound();
        }
        place.hub.update(|content| content.pace = None);
        stdout(&place.run(&["download", ID]));
        place.assert_whole();
        assert!(stdout(&place.run(&["cache", "list"])).trim_end().ends_with("  complete"));
        stdout(&place.run(&["cache", "verify"]));
        let parts = place.contents().map(|bytes| format!("blobs/{}.incomplete", hash(&bytes)));
        assert!(parts.into_iter().all(|part| !place.repository().join(part).exists()));
    }
    assert!(kills > 10, "most downloads were over before they were killed");
}

#[test]
fn retries_are_told() {
    let place = Place::new();
    place.hub.fault(WEIGHTS, [Fault::Status(429, vec![("retry-after", "0".to_owned())])]);
    let output = place.run(&["download", ID]);
    stdout(&output);
    let notes = stderr(&output);
    assert!(notes.starts_with("note: ") && notes.contains("429"), "{notes}");
}
