//! Texts of model files for a terminal: what steers one is shown instead of sent, and what is long is
//! cut.

use coreml_format::printable_message;

/// Characters of a description, a licence and the like.
const LONGEST_PROSE: usize = 2_000;
/// Lines of one.
const MOST_LINES: usize = 40;
/// Bytes of all that is printed of a model unless more is asked for.
pub const LONGEST_TEXT: usize = 100_000;

/// A longer text, whose lines stay lines.
pub fn prose(text: &str) -> String {
    let text = text.trim_end();
    let short: String = text.chars().take(LONGEST_PROSE).collect();
    let mut lines: Vec<String> =
        short.lines().take(MOST_LINES).map(|line| printable_message(line).into_owned()).collect();
    if short.len() < text.len() || short.lines().count() > MOST_LINES {
        lines.push(format!("… ({} characters)", text.chars().count()));
    }
    lines.join("\n")
}

/// All lines of a text that the program has put together, each with what steers a terminal shown; what
/// goes beyond so many bytes is left out, which the last line tells.
pub fn lines(text: &str, longest: usize) -> String {
    let mut shown = String::new();
    for line in text.lines() {
        let line = printable_message(line);
        if shown.len() + line.len() > longest {
            shown.push_str("… the rest is left out; --json prints all of it\n");
            break;
        }
        shown.push_str(&line);
        shown.push('\n');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut() {
        let name = "é".repeat(200_000);
        assert!(prose(&name).len() < 5_000);
        assert_eq!(prose("MIT\r\nall of\u{1b}it\n"), "MIT\nall of\\u{1b}it");
        assert_eq!(prose(&"a\n".repeat(300)).lines().count(), 41);
        let text = lines(&"a line\n".repeat(100_000), LONGEST_TEXT);
        assert!(text.len() < 101_000 && text.ends_with("--json prints all of it\n"));
    }
}
