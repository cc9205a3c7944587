//! Text that comes from files and standard input: prompts and messages.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::args::PromptArgs;
use crate::exit::Exit;
use crate::term;

/// No text that is meant as one is longer, and no file that never ends fills the memory.
const MOST_BYTES: usize = 64 << 20;

/// The prompt that the arguments name; `None` where they name none.
pub fn named(words: &[String], source: &PromptArgs) -> Result<Option<String>> {
    let dash = Path::new("-");
    match (words, &source.prompt, &source.file) {
        ([], prompt, None) => Ok(prompt.clone()),
        ([], _, Some(file)) if file == dash => standard_input().map(Some),
        ([], _, Some(file)) => of_file(file).map(Some),
        ([word], None, None) if Path::new(word) == dash => standard_input().map(Some),
        (words, None, None) => Ok(Some(words.join(" "))),
        _ => {
            let advice = "there are two prompts: among the arguments, and by --prompt or --file";
            Err(Exit::Usage(advice.to_owned()).into())
        }
    }
}

/// The prompt that the arguments name, or else standard input. Nobody is made to wait for somebody
/// who does not know that text is expected.
pub fn named_or_piped(words: &[String], source: &PromptArgs) -> Result<String> {
    if let Some(prompt) = named(words, source)? {
        return Ok(prompt);
    }
    if !io::stdin().is_terminal() {
        let piped = standard_input()?;
        if !piped.is_empty() {
            return Ok(piped);
        }
    }
    let advice = "there is no prompt: give one as an argument, as --file FILE or on standard input, \
                  such as `candle-coreml generate \"Once upon a time\"`";
    Err(Exit::Usage(advice.to_owned()).into())
}

fn standard_input() -> Result<String> {
    if io::stdin().is_terminal() {
        term::tell("(Ctrl-D on a line of its own ends the prompt)");
    }
    whole(io::stdin().lock()).context("can't read the prompt from standard input")
}

fn of_file(path: &Path) -> Result<String> {
    let read = || whole(BufReader::new(File::open(path)?));
    read().with_context(|| format!("can't read the prompt from {}", path.display()))
}

/// All of a text but the line break at its end, which `echo` and editors put there, and a byte order
/// mark at its beginning.
fn whole(from: impl Read) -> Result<String> {
    let mut bytes = Vec::new();
    from.take(MOST_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    check_length(&bytes)?;
    let mut text = decoded(bytes)?;
    text.truncate(without_break(text.as_bytes()));
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// The next line, without its break; `None` at the end.
pub fn line(from: &mut impl BufRead) -> Result<Option<String>> {
    let mut bytes = Vec::new();
    from.take(MOST_BYTES as u64 + 1).read_until(b'\n', &mut bytes)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    check_length(&bytes)?;
    bytes.truncate(without_break(&bytes));
    decoded(bytes).map(Some)
}

fn check_length(bytes: &[u8]) -> Result<()> {
    if bytes.len() > MOST_BYTES {
        bail!("it is longer than {} MiB", MOST_BYTES >> 20);
    }
    Ok(())
}

/// How long a text is without the line break at its end.
fn without_break(text: &[u8]) -> usize {
    let rest = text.strip_suffix(b"\n").map(|rest| rest.strip_suffix(b"\r").unwrap_or(rest));
    rest.unwrap_or(text).len()
}

fn decoded(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|error| {
        let place = error.utf8_error().valid_up_to();
        let byte = error.as_bytes().get(place).copied().unwrap_or_default();
        anyhow::anyhow!("it is not UTF-8: there is a byte {byte:#04x} after {place} good ones")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_break_at_the_end_is_not_part_of_the_text() {
        let cases = [
            ("Once\n", "Once"),
            ("Once\r\n", "Once"),
            ("Once\n\n", "Once\n"),
            ("Once", "Once"),
            (" a\nb ", " a\nb "),
            ("\u{feff}Once\n", "Once"),
            ("\n", ""),
            ("", ""),
            ("\r", "\r"),
        ];
        for (given, expected) in cases {
            assert_eq!(whole(given.as_bytes()).unwrap(), expected, "{given:?}");
        }
    }

    #[test]
    fn lines_are_taken_as_they_are() {
        let mut input = "/usr/bin\n  indented\nends with \\\r\n\nlast".as_bytes();
        let mut next = || line(&mut input).unwrap();
        assert_eq!(next().as_deref(), Some("/usr/bin"));
        assert_eq!(next().as_deref(), Some("  indented"));
        assert_eq!(next().as_deref(), Some("ends with \\"));
        assert_eq!(next().as_deref(), Some(""));
        assert_eq!(next().as_deref(), Some("last"));
        assert_eq!(next(), None);
    }

    #[test]
    fn what_is_no_text_or_never_ends_is_refused() {
        let message = whole(&b"ab\xffc"[..]).unwrap_err().to_string();
        assert!(message.contains("not UTF-8") && message.contains("0xff after 2"), "{message}");
        assert!(line(&mut &b"\xc3\n"[..]).is_err());
        assert!(whole(io::repeat(b'a')).unwrap_err().to_string().contains("64 MiB"));
        assert!(line(&mut BufReader::new(io::repeat(0))).is_err());
    }
}
