//! Texts that are kept in the repository and have to stay as they are.

use std::path::Path;

/// Compares a text with a file of this crate, or writes it there where the environment says `BLESS=1`.
pub fn assert_golden(file: impl AsRef<Path>, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("BLESS").is_some_and(|value| value == "1") {
        std::fs::write(&path, text).unwrap();
        return;
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    if let Some(difference) = first_difference(&kept, text) {
        panic!(
            "{} is not what it was; with BLESS=1 the test writes it anew.\n{difference}",
            path.display()
        );
    }
}

/// The first line in which two texts differ.
fn first_difference(kept: &str, text: &str) -> Option<String> {
    if kept == text {
        return None;
    }
    let (mut old, mut new) = (kept.lines(), text.lines());
    for number in 1.. {
        let (old, new) = (old.next(), new.next());
        if old != new || old.is_none() {
            let line = |line: Option<&str>| line.unwrap_or("(the end)").to_owned();
            return Some(format!("line {number}\n  was {}\n  is  {}", line(old), line(new)));
        }
    }
    None
}
