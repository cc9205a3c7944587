//! Texts of model files for a terminal: what steers one is shown instead of sent, and what is long is
//! cut.

/// Characters of a name or of another text that stands in a line.
const LONGEST_NAME: usize = 120;
/// Characters of a description, a licence and the like.
const LONGEST_PROSE: usize = 2_000;
/// Lines of one.
const MOST_LINES: usize = 40;
/// Bytes of all that is printed of a model unless more is asked for.
pub const LONGEST_TEXT: usize = 100_000;

/// A name as one line.
pub fn printable(name: &str) -> String {
    cut(name, LONGEST_NAME)
}

/// A longer text as one line.
pub fn line(text: &str) -> String {
    cut(text, LONGEST_PROSE)
}

/// A longer text, whose lines stay lines.
pub fn prose(text: &str) -> String {
    let text = text.trim_end();
    let short: String = text.chars().take(LONGEST_PROSE).collect();
    let mut lines: Vec<String> = short.lines().take(MOST_LINES).map(line).collect();
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
        let line = self::line(line);
        if shown.len() + line.len() > longest {
            shown.push_str("… the rest is left out; --json prints all of it\n");
            break;
        }
        shown.push_str(&line);
        shown.push('\n');
    }
    shown
}

fn cut(text: &str, longest: usize) -> String {
    let mut characters = text.chars();
    let short: String = characters.by_ref().take(longest).collect();
    let shown = escaped(&short);
    match characters.next() {
        None => shown,
        Some(_) => format!("{shown}… ({} characters)", text.chars().count()),
    }
}

/// Control characters, marks that turn the direction of text and what can't be seen as `\u{1b}`.
fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    // Quotes and backslashes can be printed, though Rust escapes them as well.
    for part in text.split_inclusive(['"', '\'', '\\']) {
        let body = part.trim_end_matches(['"', '\'', '\\']);
        shown.extend(body.escape_debug());
        shown.push_str(&part[body.len()..]);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_shown() {
        let title =
            "\u{1b}]0;PWNED\u{7}\u{1b}[2J\u{9b}31mred\r\nerror: fake\u{202e}\u{2066}\u{7f}\0";
        assert_eq!(
            printable(title),
            r"\u{1b}]0;PWNED\u{7}\u{1b}[2J\u{9b}31mred\r\nerror: fake\u{202e}\u{2066}\u{7f}\0"
        );
        for fine in ["it's \"C:\\dir\"", "größe µ 画像 → x_1/é", "🎉"] {
            assert_eq!(printable(fine), fine);
        }
    }

    #[test]
    fn long_texts_are_cut() {
        let name = "é".repeat(200_000);
        assert_eq!(printable(&name), format!("{}… (200000 characters)", "é".repeat(120)));
        assert!(prose(&name).len() < 5_000);
        assert_eq!(prose("MIT\r\nall of\u{1b}it\n"), "MIT\nall of\\u{1b}it");
        assert_eq!(prose(&"a\n".repeat(300)).lines().count(), 41);
        let text = lines(&"a line\n".repeat(100_000), LONGEST_TEXT);
        assert!(text.len() < 101_000 && text.ends_with("--json prints all of it\n"));
    }
}
