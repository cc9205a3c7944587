//! Names of models: what is understood, and what is said about what is not.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;
#[path = "../../candle-coreml/tests/common/hub.rs"]
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{failure, stderr, stdout};
use server::{COMMIT, Hub, ID};
use tempfile::TempDir;

struct Place {
    hub: Hub,
    home: TempDir,
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/llm/qwen3-monolithic")
}

impl Place {
    fn new() -> Self {
        Place { hub: Hub::of_directory(&fixture()), home: tempfile::tempdir().unwrap() }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = common::command(arguments);
        common::at_home(&mut command, self.home.path());
        command
            .current_dir(self.home.path())
            .env("HF_ENDPOINT", self.hub.endpoint())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn generate(&self, model: &str) -> Output {
        self.run(&["generate", "--model", model, "O", "--max-tokens", "1"])
    }

    fn failure(&self, model: &str) -> String {
        failure(&self.generate(model))
    }
}

#[test]
fn a_wrong_name_says_what_names_are_what_is_there_and_what_is_near() {
    let place = Place::new();
    let message = place.failure("llama3");
    for part in ["`llama3`", "ORG/NAME", "https://huggingface.co/ORG/NAME", "`demo`", "has none"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert!(!message.contains("did you mean"), "{message}");
    assert!(place.failure("dmeo").contains("did you mean `demo`?"));
    assert!(place.hub.content.lock().unwrap().seen.is_empty(), "the hub is not asked");

    stdout(&place.run(&["download", ID]));
    for typed in ["model", "modle", "org/modle", "orgs/model"] {
        let message = place.failure(typed);
        assert!(message.contains("did you mean `org/model`?"), "{typed}: {message}");
    }
    assert!(place.failure("llama3").contains("the cache has `org/model`"));

    // Directories beside the one that is not there.
    fs::create_dir_all(place.home.path().join("models/qwen3-lut4")).unwrap();
    for (typed, near) in [
        ("models/qwen3-lut6", "`models/qwen3-lut4`"),
        ("./models/qwen3-lut", "`./models/qwen3-lut4`"),
        ("./modles", "`./models`"),
    ] {
        let message = place.failure(typed);
        assert!(message.contains(&format!("did you mean {near}?")), "{typed}: {message}");
    }
    assert!(place.failure("/no/such/place").contains("there is no model `/no/such/place`"));
    for (typed, said) in [("/etc/passwd", "is a regular file"), ("/dev/zero", "is a device")] {
        let message = place.failure(typed);
        assert!(message.contains(said) && message.contains("is a directory with"), "{message}");
    }
    let package = fixture().join("qwen_monolithic_full.mlpackage");
    assert!(place.failure(package.to_str().unwrap()).contains("is a model package"));
}

#[test]
fn addresses_and_revisions_are_understood() {
    let place = Place::new();
    let expected = place.generate(fixture().to_str().unwrap()).stdout;
    let mirror = format!("{}/{ID}/tree/main", place.hub.endpoint());
    for name in [
        "https://huggingface.co/org/model",
        "https://huggingface.co/org/model/tree/v1",
        "hf.co/org/model",
        "hf://org/model@main",
        "org/model@v1",
        &mirror,
    ] {
        let output = place.generate(name);
        stdout(&output);
        assert_eq!(output.stdout, expected, "{name}");
    }
    for (name, said) in [
        ("https://huggingface.co/datasets/org/model", "the hub's datasets"),
        ("https://huggingface.co/org/model/blob/main/config.json", "`org/model@main`"),
        ("https://example.com/org/model", "no page of a model"),
        ("org/model@v9", "no revision `v9`"),
    ] {
        let message = place.failure(name);
        assert!(message.contains(said), "{name}: {message}");
    }
    let named = stdout(&place.run(&["download", "https://huggingface.co/org/model/tree/v1"]));
    assert!(named.trim_end().ends_with(COMMIT), "{named}");
    let message = failure(&place.run(&["download", "org/model@v1", "--revision", "main"]));
    assert!(message.contains("says `v1`"), "{message}");
}

/// A closed port, and a host that nobody has: said at once, tried again in sight, and not for long.
#[test]
fn no_network_is_said_at_once() {
    let place = Place::new();
    for (endpoint, reason) in [
        ("http://127.0.0.1:1", "refused"),
        ("http://nowhere.invalid", "the host `nowhere.invalid` is not found"),
    ] {
        let start = Instant::now();
        let mut command = place.command(&["generate", "--model", ID, "O"]);
        let message = failure(&command.env("HF_ENDPOINT", endpoint).output().unwrap());
        let asked = format!("note: `org/model` is not known to be in the cache; asking {endpoint}");
        assert!(message.starts_with(&asked), "{message}");
        for attempt in ["attempt 2 of 3", "attempt 3 of 3"] {
            assert!(message.contains(attempt), "{message}");
        }
        assert!(message.contains(reason) && message.contains("can't be reached"), "{message}");
        // Six attempts with their pauses took more than 15 s.
        assert!(start.elapsed() < Duration::from_secs(60), "it is tried for long");
    }
    // What is there needs no network, and says nothing of it.
    stdout(&place.run(&["download", ID]));
    let mut command = place.command(&["generate", "--model", ID, "O", "--max-tokens", "1"]);
    let output = command.env("HF_ENDPOINT", "http://nowhere.invalid").output().unwrap();
    stdout(&output);
    assert!(!stderr(&output).contains("note: "), "{}", stderr(&output));
}

/// A cache that others have filled, where nothing can be written: no locks, no notes.
#[cfg(target_os = "linux")]
#[test]
fn a_complete_cache_needs_nothing_to_be_written() {
    let place = Place::new();
    stdout(&place.run(&["download", ID]));
    let expected = place.generate(ID).stdout;
    let cache = place.home.path().join("cache/huggingface/hub");
    let run = |variables: &[(&str, &str)], arguments: &[&str]| {
        let mut command = place.command(arguments);
        command.env("HF_HUB_CACHE", &cache).env("HOME", "/proc/none");
        command.env("XDG_CACHE_HOME", "/etc/passwd/cache").envs(variables.iter().copied());
        command.output().unwrap()
    };
    let generate = ["generate", "--model", ID, "O", "--max-tokens", "1"];
    for variables in
        [&[][..], &[("HF_HUB_OFFLINE", "1")], &[("HF_ENDPOINT", "http://nowhere.invalid")]]
    {
        let output = run(variables, &generate);
        stdout(&output);
        assert_eq!(output.stdout, expected, "{variables:?}");
        let downloaded = stdout(&run(variables, &["download", ID]));
        assert!(downloaded.trim_end().ends_with(COMMIT), "{variables:?}");
    }
    assert!(stdout(&run(&[], &["cache", "list"])).contains("org/model"));
    // The branch has gone on meanwhile: what is there is used.
    place.hub.update(|content| content.commit = "f".repeat(40));
    let output = run(&[("HF_HUB_OFFLINE", "1")], &generate);
    assert_eq!(stdout(&output).into_bytes(), expected);
}
