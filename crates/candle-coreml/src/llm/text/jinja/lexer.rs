//! From the text of a template to tokens, with Jinja's rules for white space around tags
//! (`trim_blocks`, `lstrip_blocks`, `-` and `+`).

use std::sync::Arc;

use super::limits::{Fault, Result};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// Text outside of tags.
    Data(String),
    VariableBegin,
    VariableEnd,
    BlockBegin,
    BlockEnd,
    Name(Arc<str>),
    Text(String),
    Int(i128),
    Float(f64),
    Operator(&'static str),
}

/// Longer operators before their beginnings.
const OPERATORS: [&str; 26] = [
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}",
    ">", "<", "=", ".", ":", "|", ",", ";",
];

/// White space as Python's `str.isspace` has it.
pub(super) fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

/// The tokens of a template, with their lines.
pub(super) fn tokens(source: &str) -> Result<Vec<(u32, Token)>> {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let source = source.strip_suffix('\n').unwrap_or(&source);
    let mut lexer = Lexer { source, at: 0, line: 1, line_starts: true, tokens: Vec::new() };
    while lexer.at < source.len() {
        lexer.text_and_tag()?;
    }
    Ok(lexer.tokens)
}

struct Lexer<'s> {
    source: &'s str,
    at: usize,
    line: u32,
    /// Whether what was read last ended a line.
    line_starts: bool,
    tokens: Vec<(u32, Token)>,
}

/// How a tag ends: what may stand there, and what it is a token of.
struct End {
    mark: &'static str,
    token: Token,
    /// Whether the line break behind it goes.
    trims: bool,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.source[self.at..]
    }

    fn fault(&self, message: impl Into<String>) -> Fault {
        Fault::at(self.line, message)
    }

    fn push(&mut self, token: Token) {
        self.tokens.push((self.line, token));
    }

    fn advance(&mut self, to: usize) {
        let passed = &self.source[self.at..to];
        self.line += passed.matches('\n').count() as u32;
        self.line_starts = passed.ends_with('\n');
        self.at = to;
    }

    fn skip_space(&mut self) {
        let space = self.rest().len() - self.rest().trim_start_matches(is_space).len();
        self.advance(self.at + space);
    }

    /// Text up to the next tag, and that tag.
    fn text_and_tag(&mut self) -> Result<()> {
        let tag = |(at, _): &(usize, &str)| {
            matches!(self.source.as_bytes().get(at + 1), Some(b'%' | b'{' | b'#'))
        };
        let Some(start) = self.rest().match_indices('{').map(|(i, s)| (self.at + i, s)).find(tag)
        else {
            self.push(Token::Data(self.rest().to_owned()));
            self.advance(self.source.len());
            return Ok(());
        };
        let start = start.0;
        let kind = self.source.as_bytes()[start + 1];
        self.data(start, kind != b'{');
        let open = start + 2;
        let signed = open + usize::from(self.source[open..].starts_with(['-', '+']));
        if kind == b'%'
            && let Some(end) = self.raw_begin(signed)
        {
            self.advance(end);
            return self.raw();
        }
        self.advance(signed);
        match kind {
            b'#' => self.comment(),
            b'{' => {
                self.push(Token::VariableBegin);
                self.tag(&End { mark: "}}", token: Token::VariableEnd, trims: false })
            }
            _ => {
                self.push(Token::BlockBegin);
                self.tag(&End { mark: "%}", token: Token::BlockEnd, trims: true })
            }
        }
    }

    /// The text before a tag, whose sign says what happens to white space at its end.
    fn data(&mut self, tag: usize, strips_line: bool) {
        let mut text = &self.source[self.at..tag];
        match self.source[tag + 2..].chars().next() {
            Some('-') => text = text.trim_end_matches(is_space),
            Some('+') => {}
            _ if strips_line => {
                let line = text.rfind('\n').map_or(0, |at| at + 1);
                if (line > 0 || self.line_starts) && text[line..].chars().all(is_space) {
                    text = &text[..line];
                }
            }
            _ => {}
        }
        if !text.is_empty() {
            self.push(Token::Data(text.to_owned()));
        }
        self.advance(tag);
    }

    /// The end of a `raw` tag, if there is one whose word begins here or behind white space.
    fn raw_begin(&self, at: usize) -> Option<usize> {
        let rest = self.source[at..].trim_start_matches(is_space).strip_prefix("raw")?;
        let rest = rest.trim_start_matches(is_space);
        let rest = match rest.strip_prefix("-%}") {
            Some(rest) => rest.trim_start_matches(is_space),
            None => rest.strip_prefix("%}")?,
        };
        Some(self.source.len() - rest.len())
    }

    /// Text up to `endraw`, as it stands.
    fn raw(&mut self) -> Result<()> {
        if self.rest().is_empty() {
            return Ok(());
        }
        for (offset, _) in self.rest().match_indices("{%") {
            let tag = self.at + offset;
            let open = tag + 2 + usize::from(self.source[tag + 2..].starts_with(['-', '+']));
            let rest = self.source[open..].trim_start_matches(is_space);
            let Some(rest) = rest.strip_prefix("endraw") else { continue };
            let rest = rest.trim_start_matches(is_space);
            if let Some(end) = self.end_of_tag(self.source.len() - rest.len(), "%}", true) {
                self.data(tag, true);
                self.advance(end);
                return Ok(());
            }
        }
        Err(self.fault("`{% raw %}` without `{% endraw %}`"))
    }

    fn comment(&mut self) -> Result<()> {
        if self.rest().is_empty() {
            return Ok(());
        }
        let end = self.rest().find("#}").map(|length| self.at + length);
        let end = end.ok_or_else(|| self.fault("a comment without `#}`"))?;
        let signed = end > self.at && self.source[..end].ends_with(['-', '+']);
        let end = self.end_of_tag(end - usize::from(signed), "#}", true);
        self.advance(end.unwrap_or(self.source.len()));
        Ok(())
    }

    /// Where a tag ends that has its end mark here: behind white space after `-`, and behind a line
    /// break if it trims.
    fn end_of_tag(&self, at: usize, mark: &str, trims: bool) -> Option<usize> {
        let rest = &self.source[at..];
        let rest = if let Some(rest) = rest.strip_prefix('-') {
            rest.strip_prefix(mark)?.trim_start_matches(is_space)
        } else if let Some(rest) = rest.strip_prefix('+').filter(|_| trims) {
            rest.strip_prefix(mark)?
        } else {
            let rest = rest.strip_prefix(mark)?;
            rest.strip_prefix('\n').filter(|_| trims).unwrap_or(rest)
        };
        Some(self.source.len() - rest.len())
    }

    /// What stands in a tag, up to its end.
    fn tag(&mut self, end: &End) -> Result<()> {
        let mut open = Vec::new();
        loop {
            if open.is_empty()
                && let Some(to) = self.end_of_tag(self.at, end.mark, end.trims)
            {
                self.push(end.token.clone());
                self.advance(to);
                return Ok(());
            }
            match self.rest().chars().next() {
                None => return Err(self.fault(format!("a tag without `{}`", end.mark))),
                Some(c) if is_space(c) => self.skip_space(),
                Some(c) if c.is_ascii_digit() => self.number()?,
                Some(c) if c.is_alphanumeric() || c == '_' => self.name(),
                Some(quote @ ('"' | '\'')) => self.string(quote)?,
                Some(c) => self.operator(c, &mut open)?,
            }
        }
    }

    fn name(&mut self) {
        let rest = self.rest();
        let length =
            rest.len() - rest.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_').len();
        self.push(Token::Name(rest[..length].into()));
        self.advance(self.at + length);
    }

    fn operator(&mut self, character: char, open: &mut Vec<&'static str>) -> Result<()> {
        let operator = OPERATORS.into_iter().find(|operator| self.rest().starts_with(operator));
        let operator =
            operator.ok_or_else(|| self.fault(format!("unexpected character `{character}`")))?;
        match operator {
            "{" => open.push("}"),
            "(" => open.push(")"),
            "[" => open.push("]"),
            "}" | ")" | "]" if open.pop() != Some(operator) => {
                return Err(self.fault(format!("unexpected `{operator}`")));
            }
            _ => {}
        }
        self.push(Token::Operator(operator));
        self.advance(self.at + operator.len());
        Ok(())
    }

    fn number(&mut self) -> Result<()> {
        let rest = self.rest();
        let after_dot = self.source[..self.at].ends_with('.');
        let whole = digits(rest, 10);
        let mut end = whole;
        let fraction = rest[end..]
            .strip_prefix('.')
            .filter(|rest| !rest.starts_with('_'))
            .map_or(0, |rest| digits(rest, 10));
        if fraction > 0 {
            end += 1 + fraction;
        }
        if let Some(exponent) = rest[end..].strip_prefix(['e', 'E']) {
            let sign = usize::from(exponent.starts_with(['+', '-']));
            let length = digits(&exponent[sign..], 10);
            if length > 0 {
                end += 1 + sign + length;
            }
        }
        if end > whole && !after_dot {
            let text = rest[..end].replace('_', "");
            let number = text.parse().map_err(|_| self.fault(format!("`{text}` is no number")))?;
            self.push(Token::Float(number));
            self.advance(self.at + end);
            return Ok(());
        }
        self.integer()
    }

    fn integer(&mut self) -> Result<()> {
        let rest = self.rest();
        let radix = match rest.get(..2).map(str::to_ascii_lowercase).as_deref() {
            Some("0x") => 16,
            Some("0o") => 8,
            Some("0b") => 2,
            _ => 10,
        };
        let prefix = if radix == 10 { 0 } else { 2 };
        let zeros = radix == 10 && rest.starts_with('0');
        let length = prefix + digits(&rest[prefix..], if zeros { 1 } else { radix });
        let text = rest[prefix..length].replace('_', "");
        let number = i128::from_str_radix(&text, radix)
            .map_err(|_| self.fault(format!("`{text}` is no integer below 2**127")))?;
        self.push(Token::Int(number));
        self.advance(self.at + length);
        Ok(())
    }

    fn string(&mut self, quote: char) -> Result<()> {
        let mut escaped = false;
        let end = self.rest()[1..].find(|c: char| {
            let ends = c == quote && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        let end = end.ok_or_else(|| self.fault("a string without its end"))?;
        let text = unescape(&self.rest()[1..1 + end]).map_err(|message| self.fault(message))?;
        self.push(Token::Text(text));
        self.advance(self.at + end + 2);
        Ok(())
    }
}

/// How many bytes of digits, with single `_` before them, a text begins with.
fn digits(text: &str, radix: u32) -> usize {
    let digit = |at: usize| {
        let byte = text.as_bytes().get(at).copied().map(char::from);
        byte.is_some_and(|c| if radix == 1 { c == '0' } else { c.is_digit(radix) })
    };
    let mut length = 0;
    loop {
        let underscore = usize::from(text[length..].starts_with('_'));
        if !digit(length + underscore) {
            return length;
        }
        length += underscore + 1;
    }
}

/// A string without its escapes, which are Python's.
fn unescape(text: &str) -> std::result::Result<String, String> {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        result.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let Some(kind) = rest.chars().next() else { break };
        rest = &rest[kind.len_utf8()..];
        let length = match kind {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            '0'..='7' => {
                let more = rest.bytes().take(2).take_while(|b| (b'0'..=b'7').contains(b)).count();
                let code = u32::from_str_radix(&format!("{kind}{}", &rest[..more]), 8);
                result.extend(code.ok().and_then(char::from_u32));
                rest = &rest[more..];
                continue;
            }
            'N' => return Err("`\\N` in a string is not supported: write the character".to_owned()),
            _ => {
                match kind {
                    '\n' => {}
                    'n' => result.push('\n'),
                    't' => result.push('\t'),
                    'r' => result.push('\r'),
                    'a' => result.push('\u{7}'),
                    'b' => result.push('\u{8}'),
                    'f' => result.push('\u{c}'),
                    'v' => result.push('\u{b}'),
                    '\\' | '\'' | '"' => result.push(kind),
                    other => result.extend(['\\', other]),
                }
                continue;
            }
        };
        let digits = rest.get(..length).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        let character = digits.and_then(|d| char::from_u32(u32::from_str_radix(d, 16).ok()?));
        result.push(character.ok_or_else(|| {
            format!("`\\{kind}` in a string is not followed by {length} digits of a character")
        })?);
        rest = &rest[length..];
    }
    Ok(result + rest)
}
