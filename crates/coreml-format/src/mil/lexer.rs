//! Words of MIL text: names, numbers, strings and punctuation, with their places.

use crate::FormatError;

/// A word of MIL text. Numbers stay text: their type decides how they are read.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token<'a> {
    Name(&'a str),
    Number(&'a str),
    String(String),
    Punctuation(char),
    /// `->`
    Arrow,
    End,
}

impl Token<'_> {
    /// The token as errors show it.
    pub fn describe(&self) -> String {
        match self {
            Token::Name(text) | Token::Number(text) => format!("`{text}`"),
            Token::String(text) => format!("the string {text:?}"),
            Token::Punctuation(sign) => format!("`{sign}`"),
            Token::Arrow => "`->`".into(),
            Token::End => "the end of the text".into(),
        }
    }
}

/// Splits text into tokens, skipping white space and comments (`//` and `/* */`).
pub(super) struct Lexer<'a> {
    text: &'a str,
    position: usize,
}

impl<'a> Lexer<'a> {
    pub fn new(text: &'a str) -> Self {
        Lexer { text, position: 0 }
    }

    /// The next token with its byte position.
    pub fn next(&mut self) -> Result<(Token<'a>, usize), FormatError> {
        self.skip_blanks()?;
        let start = self.position;
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            return Ok((Token::End, start));
        };
        let token = if rest.starts_with("->") {
            self.position += 2;
            Token::Arrow
        } else if first == '"' {
            Token::String(self.string()?)
        } else if first.is_ascii_digit() || first == '-' || first == '+' {
            Token::Number(self.take(number_length(rest)))
        } else if is_name_start(first) {
            let length = rest.find(|c| !is_name_part(c)).unwrap_or(rest.len());
            Token::Name(self.take(length))
        } else {
            self.position += first.len_utf8();
            Token::Punctuation(first)
        };
        Ok((token, start))
    }

    /// An error at a byte position.
    pub fn error(&self, position: usize, message: impl Into<String>) -> FormatError {
        let before = self.text.get(..position).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        FormatError::Text {
            line: before.bytes().filter(|&byte| byte == b'\n').count() + 1,
            column: before.get(line_start..).map_or(0, |line| line.chars().count()) + 1,
            message: message.into(),
        }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.position..).unwrap_or_default()
    }

    fn take(&mut self, length: usize) -> &'a str {
        let taken = self.rest().get(..length).unwrap_or_default();
        self.position += taken.len();
        taken
    }

    fn skip_blanks(&mut self) -> Result<(), FormatError> {
        loop {
            let rest = self.rest();
            let start = self.position;
            let blank = rest.len() - rest.trim_start().len();
            self.position += blank;
            let rest = self.rest();
            if rest.starts_with("//") {
                self.position += rest.find('\n').unwrap_or(rest.len());
            } else if rest.starts_with("/*") {
                let end = rest
                    .find("*/")
                    .ok_or_else(|| self.error(self.position, "comment has no end"))?;
                self.position += end + 2;
            }
            if self.position == start {
                return Ok(());
            }
        }
    }

    fn string(&mut self) -> Result<String, FormatError> {
        let start = self.position;
        let mut text = String::new();
        let mut chars = self.rest().char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.position = start + at + 1;
                    return Ok(text);
                }
                '\\' => {
                    let escaped = chars.next().and_then(|(_, c)| unescape(c)).ok_or_else(|| {
                        let message = r#"expected one of \" \' \\ \n \r \t \0 after a backslash"#;
                        self.error(start + at, message)
                    })?;
                    text.push(escaped);
                }
                c => text.push(c),
            }
        }
        Err(self.error(start, "string has no closing quote"))
    }
}

fn unescape(c: char) -> Option<char> {
    Some(match c {
        '"' | '\'' | '\\' => c,
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        '0' => '\0',
        _ => return None,
    })
}

/// Whether a text is read as one name.
pub(crate) fn is_name(text: &str) -> bool {
    text.starts_with(is_name_start) && text.chars().all(is_name_part)
}

fn is_name_start(c: char) -> bool {
    c.is_alphabetic() || matches!(c, '_' | '@' | '$')
}

fn is_name_part(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '@' | '$' | '.' | ':')
}

/// Length of the number at the start of `text`: a sign, digits, letters and dots (`0x1.8p`, `-inf`),
/// and a second sign right after an exponent's letter.
fn number_length(text: &str) -> usize {
    let hex = text.trim_start_matches(['-', '+']).starts_with("0x");
    let exponents = if hex { ['p', 'P'] } else { ['e', 'E'] };
    let mut previous = ' ';
    text.char_indices()
        .find(|&(at, c)| {
            let sign = matches!(c, '-' | '+') && (at == 0 || exponents.contains(&previous));
            previous = c;
            !(sign || c.is_ascii_alphanumeric() || c == '.')
        })
        .map_or(text.len(), |(at, _)| at)
}

/// Reads a float: decimal, hexadecimal as C's `%a` writes it (`-0x1.8p+3`), `inf` or `nan`.
pub(super) fn parse_float(text: &str) -> Option<f64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let magnitude = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => parse_hex_float(hex)?,
        None if digits.starts_with(['-', '+']) => return None,
        None => digits.parse().ok()?,
    };
    Some(if negative { -magnitude } else { magnitude })
}

/// The part behind `0x`. Digits beyond the 60 bits that are kept would not change a float that some
/// type of MIL has.
fn parse_hex_float(text: &str) -> Option<f64> {
    let (digits, exponent) = match text.split_once(['p', 'P']) {
        Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut mantissa = 0u64;
    let mut scale = exponent;
    for (in_fraction, c) in
        whole.chars().map(|c| (false, c)).chain(fraction.chars().map(|c| (true, c)))
    {
        let digit = u64::from(c.to_digit(16)?);
        if mantissa >> 56 == 0 {
            mantissa = mantissa << 4 | digit;
            scale = if in_fraction { scale.checked_sub(4)? } else { scale };
        } else if !in_fraction {
            scale = scale.checked_add(4)?;
        }
    }
    Some(scale_by_power_of_two(mantissa as f64, scale))
}

/// `value · 2^exponent` in steps that neither overflow nor round before the result does.
fn scale_by_power_of_two(mut value: f64, exponent: i32) -> f64 {
    let mut left = exponent.clamp(-2400, 2400);
    while left != 0 {
        let step = left.clamp(-500, 500);
        // A last small step keeps the only rounding, into the subnormals, at the end.
        value *= 2f64.powi(step);
        left -= step;
    }
    value
}

/// Reads an integer: decimal or hexadecimal.
pub(super) fn parse_int(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let magnitude: i128 = match digits.strip_prefix("0x") {
        Some(hex) => i128::from(u64::from_str_radix(hex, 16).ok()?),
        None => i128::from(digits.parse::<u64>().ok()?),
    };
    Some(if negative { -magnitude } else { magnitude })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_read_exactly() {
        // Expected values are C's reading of the same text.
        for (text, expected) in [
            ("0x0p+0", 0.0),
            ("0x1p+0", 1.0),
            ("-0x1.8p-3", -0.1875),
            ("0x1.388p+13", 10000.0),
            ("0x1p-24", 5.960464477539063e-8),
            ("0x1.fffffffffffffp+1023", f64::MAX),
            ("0x1p-1074", 5e-324),
            ("0x1.4p-1073", 1e-323),
            ("0x10", 16.0),
            ("0x.8p1", 1.0),
            ("inf", f64::INFINITY),
            ("-inf", f64::NEG_INFINITY),
            ("1e-3", 0.001),
            ("-2.5", -2.5),
        ] {
            assert_eq!(parse_float(text), Some(expected), "{text}");
        }
        assert!(parse_float("nan").is_some_and(f64::is_nan));
        assert!(parse_float("-0x0p+0").is_some_and(|zero| zero.is_sign_negative()));
        for text in ["", "0x", "0xp1", "0x1.8q", "0x1p", "--1", "1.2.3", "0x1p99999999999"] {
            assert_eq!(parse_float(text), None, "{text}");
        }
    }

    #[test]
    fn integers_are_read() {
        assert_eq!(parse_int("-64"), Some(-64));
        assert_eq!(parse_int("0x1F"), Some(31));
        assert_eq!(parse_int("18446744073709551615"), Some(u64::MAX.into()));
        for text in ["", "-", "1.5", "0x1p3", "a", "--1"] {
            assert_eq!(parse_int(text), None, "{text}");
        }
    }

    #[test]
    fn tokens_have_their_places() {
        let mut lexer = Lexer::new("a // c\n /* x\n */ -> \"b\\\"\\n\" -0x1.8p-3]é");
        let mut next = || lexer.next().expect("tokens");
        assert_eq!(next(), (Token::Name("a"), 0));
        assert_eq!(next().0, Token::Arrow);
        assert_eq!(next().0, Token::String("b\"\n".into()));
        assert_eq!(next().0, Token::Number("-0x1.8p-3"));
        assert_eq!(next().0, Token::Punctuation(']'));
        assert_eq!(next().0, Token::Name("é"));
        assert_eq!(next().0, Token::End);
        for (text, line, column) in [("\n  \"a", 2, 3), ("é /*", 1, 3), ("\"\\q\"", 1, 2)] {
            let mut lexer = Lexer::new(text);
            let error = loop {
                match lexer.next() {
                    Ok((Token::End, _)) => panic!("{text} was read"),
                    Ok(_) => {}
                    Err(error) => break error,
                }
            };
            let FormatError::Text { line: l, column: c, .. } = error else { panic!("{error}") };
            assert_eq!((l, c), (line, column), "{text}");
        }
    }
}
