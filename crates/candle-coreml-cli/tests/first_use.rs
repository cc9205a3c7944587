//! The first use of the demo model, by many at once, killed, and where nothing can be written.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use common::{stderr, stdout};
use tempfile::TempDir;

/// A user's home with nothing in it.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Home(tempfile::tempdir().unwrap())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = common::command(arguments);
        common::at_home(&mut command, self.0.path());
        command
            .env_remove("XDG_CACHE_HOME")
            .env("LOCALAPPDATA", self.0.path())
            .env("CANDLE_COREML_THREADS", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn first_use(&self) -> Child {
        self.command(&["generate", "Once", "--max-tokens", "1"]).spawn().unwrap()
    }

    /// The program's own cache.
    fn cache(&self) -> PathBuf {
        let mut command = self.command(&["cache", "dir"]);
        let directories = stdout(&command.output().unwrap());
        PathBuf::from(directories.lines().nth(1).unwrap())
    }
}

fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// How many at once, and how many times: `FIRST_USES=200 FIRST_USE_ROUNDS=1` tries harder.
fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn many_first_uses_at_once_all_succeed() {
    for round in 0..number("FIRST_USE_ROUNDS", 4) {
        let home = Home::new();
        let uses: Vec<Child> = (0..number("FIRST_USES", 4)).map(|_| home.first_use()).collect();
        let outputs: Vec<Output> =
            uses.into_iter().map(|it| it.wait_with_output().unwrap()).collect();
        let first = stdout(&outputs[0]);
        for output in &outputs {
            assert_eq!(stdout(output), first, "round {round}");
        }
        let demos: Vec<String> =
            names(&home.cache()).into_iter().filter(|name| name.starts_with("demo-")).collect();
        assert_eq!(demos.len(), 1, "{demos:?}");
        assert_eq!(names(&home.cache().join("temp")), [""; 0]);
    }
}

#[test]
fn what_a_killed_first_use_leaves_is_pruned_and_in_nobodys_way() {
    let mut left = 0;
    for round in 0..20 {
        let home = Home::new();
        let mut process = home.first_use();
        // Until it writes, and then a little longer each time.
        let temporary = home.cache().join("temp");
        for _ in 0..2000 {
            if !names(&temporary).is_empty() || process.try_wait().unwrap().is_some() {
                break;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        std::thread::sleep(Duration::from_micros(100 * round));
        process.kill().unwrap();
        process.wait().unwrap();
        let leftover = names(&temporary);
        left += leftover.len();
        stdout(&home.first_use().wait_with_output().unwrap());
        let mut prune = home.command(&["cache", "prune", "--yes"]);
        let pruned = stdout(&prune.output().unwrap());
        for name in &leftover {
            assert!(pruned.contains(name.as_str()), "{name}: {pruned}");
        }
        assert_eq!(names(&temporary), [""; 0]);
        stdout(&home.first_use().wait_with_output().unwrap());
    }
    assert!(left > 0, "none was killed while it wrote");
}

/// Root may write anywhere, so that these places can't be written for other reasons: one is a file, and
/// the other has no room for files.
#[cfg(target_os = "linux")]
#[test]
fn without_a_place_to_write_the_demo_runs_from_a_temporary_one() {
    let home = Home::new();
    let run = |home_directory: &str, temporary: &str| {
        let mut command = home.command(&["generate", "Once", "--max-tokens", "1"]);
        command.env("HOME", home_directory).env("TMPDIR", temporary).output().unwrap()
    };
    let everywhere = home.0.path().to_str().unwrap();
    let expected = stdout(&run(everywhere, everywhere));
    let place = tempfile::tempdir().unwrap();
    let temporary = place.path().to_str().unwrap();
    assert_eq!(stdout(&run("/etc/passwd/home", temporary)), expected);
    assert_eq!(stdout(&run("/proc/none", temporary)), expected);
    assert_eq!(names(place.path()), [""; 0], "it is removed in the end");
    // In memory, where there is no other.
    assert_eq!(stdout(&run("/proc/none", "/proc/none")), expected);
}

/// The same as a full disk to a program: a write fails.
#[cfg(unix)]
#[test]
fn a_full_disk_is_told_and_nothing_is_left() {
    let home = Home::new();
    let temporary = tempfile::tempdir().unwrap();
    let command = home.command(&[]);
    let mut limited = Command::new("sh");
    limited
        .args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$0\" generate Once --max-tokens 1"])
        .arg(env!("CARGO_BIN_EXE_candle-coreml"));
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    let output = limited.env("TMPDIR", temporary.path()).output().unwrap();
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("demo model") && message.contains("make room"), "{message}");
    assert_eq!(names(&home.cache().join("temp")), [""; 0]);
    assert_eq!(names(temporary.path()), [""; 0]);
    stdout(&home.first_use().wait_with_output().unwrap());
}
