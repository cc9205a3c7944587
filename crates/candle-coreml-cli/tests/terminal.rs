//! The program at a terminal: a pseudo-terminal stands in for it.

#![allow(clippy::unwrap_used)] // a test fails by panicking
#![cfg(unix)]

mod common;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use common::{at_home, chat_model, command, stderr, stdout};
use nix::pty::{Winsize, openpty};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

/// Neither end token is possible.
const NO_END: &[&str] = &["--logit-bias=893=-inf", "--logit-bias=895=-inf"];

/// Without them, a text goes on until it is stopped.
const ENDLESS: &[&str] = &["-n", "-1", "--overflow", "shift"];

/// Nothing takes so long, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A program at a terminal of 50 columns.
struct Terminal {
    child: Child,
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    fn start(arguments: &[&str], home: &Path, variables: &[(&str, &str)]) -> Self {
        let size = Winsize { ws_row: 24, ws_col: 50, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(&size, None).unwrap();
        let mut command = command(arguments);
        at_home(&mut command, home);
        command.env("TERM", "xterm").env("XDG_STATE_HOME", home.join("state"));
        command.envs(variables.iter().copied());
        command.stdin(pair.slave.try_clone().unwrap()).stdout(pair.slave.try_clone().unwrap());
        let child = command.stderr(pair.slave).spawn().unwrap();
        let keyboard = File::from(pair.master);
        let mut reader = keyboard.try_clone().unwrap();
        let (sender, screen) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // It fails when the program has ended.
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Terminal { child, keyboard, screen, seen: String::new() }
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for a text, and takes what came up to its end.
    fn expect(&mut self, text: &str) -> String {
        loop {
            if let Some(at) = self.seen.find(text) {
                return self.seen.drain(..at + text.len()).collect();
            }
            match self.screen.recv_timeout(PATIENCE) {
                Ok(more) => self.seen.push_str(&String::from_utf8_lossy(&more)),
                Err(_) => panic!("no {text:?} in {:?}", self.seen),
            }
        }
    }

    /// Waits for so many bytes more than were looked at.
    fn wait_for(&mut self, count: usize) {
        while self.seen.len() < count {
            let more = self.screen.recv_timeout(PATIENCE).unwrap();
            self.seen.push_str(&String::from_utf8_lossy(&more));
        }
    }

    /// All that still comes, and the exit code.
    fn end(mut self) -> (String, Option<i32>) {
        loop {
            match self.screen.recv_timeout(PATIENCE) {
                Ok(more) => self.seen.push_str(&String::from_utf8_lossy(&more)),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("no end of {:?}", self.seen),
            }
        }
        (std::mem::take(&mut self.seen), self.child.wait().unwrap().code())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It has ended already unless the test failed.
        let _ = self.child.kill();
    }
}

/// A model that talks, and a home to talk in.
fn chat(arguments: &[&str]) -> (Terminal, TempDir) {
    let model = chat_model();
    let path = model.path().to_str().unwrap();
    // No end token: every answer is as long as it may be.
    let greedy = ["chat", "-m", path, "--temp", "0", "-n", "4", "--speculation", "off"];
    let greedy = [&greedy[..], NO_END].concat();
    let terminal = Terminal::start(&[&greedy[..], arguments].concat(), model.path(), &[]);
    (terminal, model)
}

/// What the library answers to messages of a user.
fn conversation(model: &Path, messages: &[&str]) -> Json {
    let library = candle_coreml::LanguageModel::load(model).unwrap();
    let options = candle_coreml::GenerationOptions::new().max_tokens(4);
    let options = options.logit_bias(893, f64::NEG_INFINITY).logit_bias(895, f64::NEG_INFINITY);
    let options = options.into();
    let mut all = Vec::new();
    for message in messages {
        all.push(candle_coreml::ChatMessage::user(*message));
        let answer = library.session().chat(&all, &options).unwrap();
        all.push(answer.message());
    }
    serde_json::to_value(all).unwrap()
}

fn saved(path: &Path) -> Json {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_conversation_is_saved_and_goes_on_from_its_file() {
    let (mut terminal, home) = chat(&[]);
    let (file, path) = (home.path().join("chat.json"), home.path().join("chat.json"));
    let path = path.to_str().unwrap();
    terminal.expect("/help");
    terminal.press("Hello\r");
    terminal.expect("stopped after 4 tokens");
    terminal.press("\"\"\"Two\rlines\"\"\"\r");
    terminal.expect("stopped after 4 tokens");
    terminal.press(&format!("/save {path}\r"));
    terminal.expect("saved to");
    let both = conversation(home.path(), &["Hello", "Two\nlines"]);
    assert_eq!(saved(&file), both);

    terminal.press("/undo\r");
    terminal.press(&format!("/save {path}\r"));
    terminal.expect("[y/N]");
    terminal.press("n\r");
    terminal.expect("nothing was saved");
    assert_eq!(saved(&file), both);
    terminal.press(&format!("/save {path}\r"));
    terminal.expect("[y/N]");
    terminal.press("y\r");
    terminal.expect("saved to");
    assert_eq!(saved(&file), conversation(home.path(), &["Hello"]));

    terminal.press("/clear\r");
    terminal.press(&format!("/load {path}\r"));
    terminal.expect("2 messages");
    // What begins with a space is no command; at a slash of a path nothing is lost.
    terminal.press(" /usr\\\ris a\r");
    terminal.expect("stopped after 4 tokens");
    terminal.press("/retry\r");
    terminal.expect("stopped after 4 tokens");
    let second = format!("{path}.2");
    terminal.press(&format!("/save {second}\r"));
    terminal.expect("saved to");
    assert_eq!(saved(Path::new(&second)), conversation(home.path(), &["Hello", "/usr\nis a"]));
    terminal.press("/bye\r");
    assert_eq!(terminal.end().1, Some(0));
}

#[test]
fn settings_change_and_mistakes_are_explained() {
    let (mut terminal, home) = chat(&["-v"]);
    terminal.expect("/help");
    for (line, expected) in [
        ("/hlep", "/hlep is no command; did you mean /help?"),
        ("/usr/bin is a directory", "is no command"),
        ("/set parameter temprature 1", "did you mean temperature?"),
        ("/set parameter top_p 3", "a number above 0 and at most 1"),
        ("/set parameter top_p", "needs a value"),
        ("/set colour", "can't be set"),
        ("/save", "needs the name of a file"),
        ("/load /no/such/file", "can't read /no/such/file"),
        ("/retry", "no message yet"),
        ("/stats", "no answer yet"),
        ("/help", "ends the conversation."),
    ] {
        terminal.press(&format!("{line}\r"));
        terminal.expect(expected);
    }
    terminal.press("/set parameter num_predict 2\r");
    terminal.press("/set parameter num_predict 3\r");
    terminal.press("/set system Be nice.\r");
    terminal.press("Hello\r");
    terminal.expect("stopped after 3 tokens");
    // -v tells timings by itself.
    terminal.expect("generated: 3 tokens");
    terminal.press("/show\r");
    terminal.expect("max-tokens");
    terminal.expect("3");
    terminal.expect("system: Be nice.");
    terminal.expect("messages: 2");
    let file = home.path().join("chat.json");
    terminal.press(&format!("/save {}\r", file.display()));
    terminal.expect("saved to");
    assert_eq!(saved(&file)[0], json!({ "role": "system", "content": "Be nice." }));
    // Ctrl-D ends the conversation at the prompt; before it, the terminal would take it for itself.
    terminal.expect("> ");
    terminal.press("\u{4}");
    assert_eq!(terminal.end().1, Some(0));
}

#[test]
fn what_was_typed_is_remembered_unless_it_is_not_wanted() {
    let history = |home: &TempDir| {
        fs::read_to_string(home.path().join("state/candle-coreml/chat_history")).ok()
    };
    let (mut terminal, home) = chat(&[]);
    terminal.press("A sentence\r/exit\r");
    assert_eq!(terminal.end().1, Some(0));
    assert!(history(&home).unwrap().contains("A sentence"));
    let (mut terminal, home) = chat(&["--no-history"]);
    terminal.press("A sentence\r/exit\r");
    assert_eq!(terminal.end().1, Some(0));
    assert_eq!(history(&home), None);
}

#[test]
fn nobody_waits_for_a_prompt_that_is_not_typed() {
    let home = tempfile::tempdir().unwrap();
    let (text, code) = Terminal::start(&["generate"], home.path(), &[]).end();
    assert_eq!(code, Some(2));
    assert!(text.contains("there is no prompt") && text.contains("--file FILE"), "{text}");
    // Who asks for it may type it.
    let mut terminal = Terminal::start(&["generate", "-", "-n", "2"], home.path(), &[]);
    terminal.expect("Ctrl-D");
    terminal.press("Once upon a time\n\u{4}");
    let (text, code) = terminal.end();
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("generated: 2 tokens"), "{text}");
}

#[test]
fn lines_of_an_answer_are_broken_between_words() {
    let home = tempfile::tempdir().unwrap();
    let answer = |more: &[&str]| {
        let arguments = ["run", "demo", "Hello", "--temp", "0", "-n", "60", "-q"];
        let (text, code) =
            Terminal::start(&[&arguments[..], more].concat(), home.path(), &[]).end();
        assert_eq!(code, Some(0), "{text}");
        text.replace('\r', "")
    };
    let (wrapped, plain) = (answer(&[]), answer(&["--no-wrap"]));
    assert!(wrapped.lines().all(|line| line.chars().count() <= 50), "{wrapped}");
    assert!(plain.lines().any(|line| line.chars().count() > 50), "{plain}");
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(&wrapped), words(&plain));
}

#[test]
fn colours_are_for_terminals_and_whoever_asks_for_them() {
    let home = tempfile::tempdir().unwrap();
    let arguments = ["inspect", "/no/such/model"];
    let coloured = |more: &[&str], variables: &[(&str, &str)]| {
        let (text, _) =
            Terminal::start(&[&arguments[..], more].concat(), home.path(), variables).end();
        assert!(text.contains("error:"), "{text}");
        text.contains('\u{1b}')
    };
    assert!(coloured(&[], &[]));
    assert!(!coloured(&[], &[("NO_COLOR", "1")]));
    assert!(!coloured(&[], &[("CLICOLOR", "0")]));
    assert!(!coloured(&[], &[("TERM", "dumb")]));
    assert!(!coloured(&["--color", "never"], &[]));
    assert!(coloured(&["--color=always"], &[("NO_COLOR", "1")]));

    let piped = |more: &[&str], variables: &[(&str, &str)]| {
        let mut command = command(&[&arguments[..], more].concat());
        stderr(&command.envs(variables.iter().copied()).output().unwrap()).contains('\u{1b}')
    };
    assert!(!piped(&[], &[]));
    assert!(piped(&[], &[("CLICOLOR_FORCE", "1")]));
    assert!(piped(&["--color", "always"], &[]));
    assert!(!piped(&["--color", "never"], &[("CLICOLOR_FORCE", "1")]));
    // Wrong usage and help, too.
    assert!(piped(&["--color", "always", "--dance"], &[]));
    assert!(!piped(&["--color", "never", "--dance"], &[("CLICOLOR_FORCE", "1")]));
    let help = command(&["--help", "--color", "always"]).output().unwrap();
    assert!(stdout(&help).contains('\u{1b}'));
    // And the log.
    let logged = |color| {
        let model = common::model("window-1");
        let arguments = ["generate", "-m", &model, "O", "-n", "1", "--color", color];
        let output = command(&arguments).env("RUST_LOG", "candle_coreml=debug").output().unwrap();
        stderr(&output)
    };
    let (never, always) = (logged("never"), logged("always"));
    assert!(never.contains("DEBUG") && !never.contains('\u{1b}'), "{never}");
    assert!(always.contains('\u{1b}'), "{always}");
}

fn interrupt(child: &Child) {
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(sent.unwrap().success());
}

#[test]
fn an_interrupt_ends_a_text_with_its_own_exit_code() {
    let model = chat_model();
    let path = model.path().to_str().unwrap();
    for arguments in [&["generate", "-m", path, "Once"][..], &["run", path, "Hello"]] {
        let mut command = command(&[arguments, ENDLESS, NO_END].concat());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut [0]).unwrap();
        interrupt(&child);
        stdout.read_to_end(&mut Vec::new()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    }
}

#[test]
fn an_interrupt_at_a_terminal_stops_the_answer_and_the_conversation_goes_on() {
    let (mut terminal, _home) = chat(&[&["--no-wrap"], ENDLESS].concat());
    terminal.expect("/help");
    terminal.press("Hello\r");
    terminal.expect("Hello");
    // More than the editor writes at the end of a line.
    terminal.wait_for(80);
    interrupt(&terminal.child);
    terminal.expect("(stopped)");
    terminal.press("/stats\r");
    terminal.expect("generated:");
    terminal.press("/quit\r");
    assert_eq!(terminal.end().1, Some(0));
}
