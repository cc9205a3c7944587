//! Text of a model on standard output as it comes. A terminal gets it with control characters
//! made visible, since a model's text is not to be trusted, and if asked to with lines broken
//! between words.

use std::io::{self, Write};

use anyhow::Result;
use candle_coreml::{Generation, TokenStream};
use textwrap::core::display_width;

use crate::term;

/// A narrower terminal breaks lines itself.
const LEAST_WIDTH: usize = 20;

/// Prints the text of a stream and nothing else.
pub fn print_stream(mut stream: TokenStream, wrap: bool) -> Result<Generation> {
    let mut out = term::data();
    if term::out_is_terminal() {
        let mut screen = Screen::new(&mut out, term::width().filter(|_| wrap));
        for token in stream.by_ref() {
            screen.print(&token?.text)?;
        }
        screen.finish()?;
    } else {
        for token in stream.by_ref() {
            out.write_all(token?.text.as_bytes())?;
            out.flush()?;
        }
    }
    Ok(stream.generation())
}

/// Lines of a terminal.
struct Screen<'a, W> {
    out: &'a mut W,
    /// Where lines are broken, if they are.
    width: Option<usize>,
    /// How much of the terminal's line is used.
    column: usize,
    /// The beginning of the text's line, which tells whether it is a fence of code.
    line: String,
    /// Whether this is code, whose lines stay as they are.
    code: bool,
    /// Spaces that come before the next word if it fits.
    spaces: String,
    /// A word of which more may come.
    word: String,
}

impl<'a, W: Write> Screen<'a, W> {
    fn new(out: &'a mut W, width: Option<usize>) -> Self {
        let width = width.filter(|&width| width >= LEAST_WIDTH);
        Screen {
            out,
            width,
            column: 0,
            line: String::new(),
            code: false,
            spaces: String::new(),
            word: String::new(),
        }
    }

    fn print(&mut self, text: &str) -> io::Result<()> {
        text.chars().map(visible).try_for_each(|character| self.take(character))?;
        self.out.flush()
    }

    fn finish(&mut self) -> io::Result<()> {
        self.end_word()?;
        self.out.write_all(self.spaces.as_bytes())?;
        self.out.flush()
    }

    fn take(&mut self, character: char) -> io::Result<()> {
        if character == '\n' {
            self.end_word()?;
            writeln!(self.out, "{}", self.spaces)?;
            self.code ^= self.line.trim_start().starts_with("```");
            (self.column, self.spaces, self.line) = (0, String::new(), String::new());
            return Ok(());
        }
        if self.line.len() < LEAST_WIDTH {
            self.line.push(character);
        }
        let mut buffer = [0; 4];
        let text = &*character.encode_utf8(&mut buffer);
        if self.width.is_none() || self.code {
            return self.out.write_all(text.as_bytes());
        }
        if matches!(character, ' ' | '\t') {
            self.end_word()?;
            self.spaces.push(character);
            return Ok(());
        }
        // Scripts with wide characters have no spaces between words.
        let wide = display_width(text) > 1;
        if wide {
            self.end_word()?;
        }
        self.word.push(character);
        if wide { self.end_word() } else { Ok(()) }
    }

    /// Writes the word, on a new line if this one has no room for it.
    fn end_word(&mut self) -> io::Result<()> {
        if self.word.is_empty() {
            return Ok(());
        }
        let (spaces, word) = (display_width(&self.spaces), display_width(&self.word));
        let full = self.width.is_some_and(|width| self.column + spaces + word > width);
        if self.column > 0 && full {
            self.out.write_all(b"\n")?;
            self.column = word;
        } else {
            self.out.write_all(self.spaces.as_bytes())?;
            self.column += spaces + word;
        }
        self.out.write_all(self.word.as_bytes())?;
        self.spaces.clear();
        self.word.clear();
        Ok(())
    }
}

/// Text as a terminal can show it.
pub fn shown(text: &str) -> String {
    text.chars().map(visible).collect()
}

/// A control character's picture; other characters as they are.
fn visible(character: char) -> char {
    match character {
        '\n' | '\t' => character,
        '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(character)).unwrap_or('\u{fffd}'),
        '\x7f' => '\u{2421}',
        _ if character.is_control() => '\u{fffd}',
        _ => character,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text on a screen, however it is cut into pieces.
    fn screen(text: &str, width: Option<usize>) -> String {
        let print = |size: usize| {
            let mut out = Vec::new();
            let mut screen = Screen::new(&mut out, width);
            let characters: Vec<char> = text.chars().collect();
            for piece in characters.chunks(size) {
                screen.print(&piece.iter().collect::<String>()).unwrap();
            }
            screen.finish().unwrap();
            String::from_utf8(out).unwrap()
        };
        let whole = print(text.len().max(1));
        for size in [1, 2, 7] {
            assert_eq!(print(size), whole);
        }
        whole
    }

    /// `textwrap` breaks where the stream does.
    #[test]
    fn lines_are_broken_between_words() {
        let text = "Once upon a time, there was a little dog named Max who lived in a big house \
                    with a garden, and every single day he would run around the tree.";
        for width in [20, 33, 60, 200] {
            let options = textwrap::Options::new(width)
                .wrap_algorithm(textwrap::WrapAlgorithm::FirstFit)
                .break_words(false);
            assert_eq!(screen(text, Some(width)), textwrap::wrap(text, options).join("\n"));
        }
        assert_eq!(screen(text, None), text);
    }

    #[test]
    fn what_has_its_own_lines_keeps_them() {
        let code = "  - one  two\n\n```rust\nlet a_long_line = of_code(that, is, not, broken);\n\
                    \tindented \n```\nmore ";
        assert_eq!(screen(code, Some(40)), code);
        let behind = format!("{code}words that are broken");
        let broken = format!("{code}words that are\nbroken");
        assert_eq!(screen(&behind, Some(20)), broken);
        let long = "see https://example.com/a/very/long/address now";
        let expected = "see\nhttps://example.com/a/very/long/address\nnow";
        assert_eq!(screen(long, Some(20)), expected);
    }

    #[test]
    fn wide_characters_are_broken_anywhere() {
        let broken = format!("{}\n{}", "字".repeat(10), "字".repeat(5));
        assert_eq!(screen(&"字".repeat(15), Some(20)), broken);
        assert_eq!(screen(&"字".repeat(15), Some(21)), broken);
    }

    #[test]
    fn control_characters_are_shown_and_not_sent() {
        assert_eq!(screen("a\x1b[31mb\x07\r\u{9b}c", None), "a␛[31mb␇␍\u{fffd}c");
    }
}
