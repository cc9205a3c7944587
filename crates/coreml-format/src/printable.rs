//! Text from files in messages: it may hold whatever its writer liked, so that it is shown without
//! characters that a terminal obeys or that reorder a line, and cut where it is long.

use std::borrow::Cow;
use std::path::Path;

/// Characters that are shown of a name.
const MOST_OF_A_NAME: usize = 120;

/// Characters that are shown of a message that names others.
const MOST_OF_A_MESSAGE: usize = 2000;

/// Names that are shown of a list.
const MOST_OF_A_LIST: usize = 30;

/// Text from a file as it may be written to a terminal: control characters, also line breaks and tabs,
/// and those that change the direction of text or are never seen stand as `\n`, `\u{1b}`, `\u{202e}`.
///
/// ```
/// assert_eq!(coreml_format::printable("ab\u{1b}[2J\n"), "ab\\u{1b}[2J\\n");
/// ```
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        match is_obeyed(letter) {
            true => shown.extend(letter.escape_debug()),
            false => shown.push(letter),
        }
    }
    Cow::Owned(shown)
}

/// A name from a file, [`printable`] and cut after 120 characters.
pub fn printable_name(name: &str) -> Cow<'_, str> {
    cut(name, MOST_OF_A_NAME)
}

/// A message with names from a file in it, [`printable`] and cut after 2000 characters.
pub fn printable_message(message: &str) -> Cow<'_, str> {
    cut(message, MOST_OF_A_MESSAGE)
}

/// Names from a file, one after the other: the first thirty, and how many more there are.
pub fn printable_list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names = names.into_iter();
    let mut shown: Vec<Cow<str>> =
        names.by_ref().take(MOST_OF_A_LIST).map(printable_name).collect();
    match names.count() {
        0 => {}
        more => shown.push(format!("… ({more} more)").into()),
    }
    shown.join(", ")
}

/// A path, which names from a file may be a part of, [`printable`].
pub fn printable_path(path: &Path) -> String {
    printable(&path.to_string_lossy()).into_owned()
}

fn cut(text: &str, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most) {
        None => printable(text),
        Some((end, _)) => {
            let mut shown = printable(&text[..end]).into_owned();
            shown.push('…');
            Cow::Owned(shown)
        }
    }
}

/// Whether a terminal or the layout of text obeys a character instead of showing it: controls (C0, C1,
/// delete), separators of lines and paragraphs, marks, embeddings and isolates of direction, deprecated
/// format characters, and tags.
fn is_obeyed(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{61c}'
            | '\u{200e}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_shown() {
        let text = "a\u{1b}]0;title\u{7}\u{9b}2J\r\n\t\u{7f}\u{202e}b\u{2028}\u{feff}\u{e0041}";
        let shown = printable(text);
        let expected = "a\\u{1b}]0;title\\u{7}\\u{9b}2J\\r\\n\\t\\u{7f}\\u{202e}b\\u{2028}\\u{feff}\
                        \\u{e0041}";
        assert_eq!(shown, expected);
    }

    #[test]
    fn text_of_people_stays_as_it_is() {
        // A joiner and a variation selector are parts of letters and emoji.
        let text = "Größe „x“ \\ 'a' \"b\" می‌خواهم 👩‍👩‍👧 ❤️ 模型";
        assert!(matches!(printable(text), Cow::Borrowed(same) if same == text));
    }

    #[test]
    fn long_names_and_lists_are_cut() {
        let name = "é".repeat(500);
        assert_eq!(printable_name(&name).chars().count(), MOST_OF_A_NAME + 1);
        assert_eq!(printable_name("short"), "short");
        // What is escaped grows by a bounded factor.
        assert!(printable_message(&"\u{e0041}".repeat(1 << 20)).len() < 20_000);
        let list = printable_list(std::iter::repeat_n("a", 1000));
        assert!(list.starts_with("a, a") && list.ends_with("a, … (970 more)"), "{list}");
        assert_eq!(printable_list(["a", "b"]), "a, b");
        assert_eq!(printable_path(Path::new("a/\u{1b}b")), "a/\\u{1b}b");
    }
}
