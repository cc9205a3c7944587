//! HTML: escapes, and the filters that make or take it apart.

use super::arguments::{Arguments, flag, given, integer, text};
use super::characters;
use crate::llm::text::jinja::lexer::is_space;
use crate::llm::text::jinja::limits::{Budget, Buffer, Fault, Result, shown};
use crate::llm::text::jinja::render::Renderer;
use crate::llm::text::jinja::value::{Text, Value, display};

/// Text as HTML, unless it is HTML already.
pub(in crate::llm::text::jinja) fn escape(budget: &Budget, text: &Text) -> Result<Text> {
    if text.safe {
        return Ok(text.clone());
    }
    let mut buffer = Buffer::new(budget);
    let mut rest = &*text.text;
    while let Some(at) = rest.find(['&', '<', '>', '"', '\'']) {
        buffer.push(&rest[..at])?;
        buffer.push(match &rest[at..=at] {
            "&" => "&amp;",
            "<" => "&lt;",
            ">" => "&gt;",
            "\"" => "&#34;",
            _ => "&#39;",
        })?;
        rest = &rest[at + 1..];
    }
    buffer.push(rest)?;
    Ok(Text { text: buffer.finish().into(), safe: true })
}

/// Text without tags, its spaces one by one and its entities replaced.
pub(super) fn strip_tags(budget: &Budget, text: &Text) -> Result<Value> {
    budget.bytes(text.text.len().saturating_mul(2))?;
    let mut plain = String::new();
    let mut rest = &*text.text;
    while let Some(start) = rest.find('<') {
        let tag = &rest[start..];
        let end = match tag.strip_prefix("<!--") {
            Some(comment) => comment.find("-->").map(|at| at + 7),
            None => tag.find('>').map(|at| at + 1),
        };
        let Some(end) = end else { break };
        plain.push_str(&rest[..start]);
        rest = &tag[end..];
    }
    plain.push_str(rest);
    let words: Vec<&str> = plain.split(is_space).filter(|word| !word.is_empty()).collect();
    Value::text(budget, unescape(&words.join(" "))?)
}

/// Named entities that are replaced; others are errors.
const ENTITIES: [(&str, &str); 24] = [
    ("amp", "&"),
    ("lt", "<"),
    ("gt", ">"),
    ("quot", "\""),
    ("apos", "'"),
    ("nbsp", "\u{a0}"),
    ("copy", "©"),
    ("reg", "®"),
    ("trade", "™"),
    ("hellip", "…"),
    ("ndash", "–"),
    ("mdash", "—"),
    ("lsquo", "‘"),
    ("rsquo", "’"),
    ("ldquo", "“"),
    ("rdquo", "”"),
    ("laquo", "«"),
    ("raquo", "»"),
    ("bull", "•"),
    ("middot", "·"),
    ("times", "×"),
    ("deg", "°"),
    ("euro", "€"),
    ("sect", "§"),
];

/// Text with entities replaced.
pub(super) fn unescape(text: &str) -> Result<String> {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        result.push_str(&rest[..at]);
        rest = &rest[at..];
        let name =
            rest[1..].split(|c: char| !c.is_ascii_alphanumeric() && c != '#').next().unwrap_or("");
        let behind = &rest[1 + name.len()..];
        let code = match name.strip_prefix('#').map(|code| (code, code.strip_prefix(['x', 'X']))) {
            Some((_, Some(hex))) => u32::from_str_radix(hex, 16).ok().and_then(char::from_u32),
            Some((decimal, None)) => decimal.parse().ok().and_then(char::from_u32),
            None => None,
        };
        let known = ENTITIES.iter().find(|(entity, _)| *entity == name);
        let ended = behind.strip_prefix(';');
        match (code, known, ended) {
            (Some(code), ..) => result.push(code),
            (_, Some((_, replacement)), Some(_)) => result.push_str(replacement),
            (.., Some(_)) if !name.is_empty() => {
                return Err(Fault::new(format!("`&{name};` is no entity that is known")));
            }
            _ => {
                result.push('&');
                rest = &rest[1..];
                continue;
            }
        }
        rest = ended.unwrap_or(behind);
    }
    Ok(result + rest)
}

pub(super) fn xml_attributes(
    renderer: &mut Renderer,
    value: Value,
    arguments: Arguments,
) -> Result<Value> {
    let [space] = arguments.bind("xmlattr", ["autospace"], 0)?;
    let Value::Dict(dict) = &value else {
        return Err(Fault::new(format!(
            "`xmlattr` needs a dictionary, not a {}",
            value.type_name()
        )));
    };
    let budget = &renderer.budget;
    let mut buffer = Buffer::new(budget);
    let mut first = !flag(space.as_ref(), true);
    for (key, value) in dict.entries() {
        if matches!(value, Value::None | Value::Undefined(_)) {
            continue;
        }
        let key = text(key)?;
        if key.text.contains([' ', '\t', '\n', '\r', '\u{b}', '\u{c}', '/', '>', '=']) {
            let key = shown(&key.text);
            return Err(Fault::new(format!("{key} can't be the name of an attribute")));
        }
        buffer.push(if first { "" } else { " " })?;
        first = false;
        buffer.push(&escape(budget, key)?.text)?;
        buffer.push("=\"")?;
        buffer.push(&escape(budget, &display(budget, value)?)?.text)?;
        buffer.push("\"")?;
    }
    Ok(Text { text: buffer.finish().into(), safe: renderer.escapes }.into())
}

/// A value in an address.
fn quote(buffer: &mut Buffer<'_>, text: &str, in_query: bool) -> Result<()> {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'~' => {
                buffer.push(char::from(byte).encode_utf8(&mut [0; 4]))?;
            }
            b'/' if !in_query => buffer.push("/")?,
            b' ' if in_query => buffer.push("+")?,
            _ => buffer.push(&format!("%{byte:02X}"))?,
        }
    }
    Ok(())
}

pub(super) fn url_encode(renderer: &mut Renderer, value: Value) -> Result<Value> {
    let budget = &renderer.budget;
    let mut buffer = Buffer::new(budget);
    let pairs = match &value {
        Value::Dict(dict) => dict.entries().to_vec(),
        Value::Text(_) => Vec::new(),
        other if other.items().is_err() => Vec::new(),
        other => {
            let pairs = other.collect(budget)?.into_iter().map(|pair| {
                let Ok([key, value]) = <[Value; 2]>::try_from(pair.collect(budget)?) else {
                    return Err(Fault::new("`urlencode` needs pairs of names and values"));
                };
                Ok((key, value))
            });
            pairs.collect::<Result<Vec<_>>>()?
        }
    };
    if matches!(&value, Value::Text(_)) || value.items().is_err() {
        quote(&mut buffer, &display(budget, &value)?.text, false)?;
    }
    for (number, (key, value)) in pairs.iter().enumerate() {
        buffer.push(if number == 0 { "" } else { "&" })?;
        quote(&mut buffer, &display(budget, key)?.text, true)?;
        buffer.push("=")?;
        quote(&mut buffer, &display(budget, value)?.text, true)?;
    }
    Value::text(budget, buffer.finish())
}

/// Endings of addresses without `http` or `www` that are recognized.
const DOMAINS: [&str; 8] = ["com", "net", "int", "edu", "gov", "org", "info", "mil"];

pub(super) fn urlize(renderer: &mut Renderer, value: Value, arguments: Arguments) -> Result<Value> {
    let [limit, nofollow, target, rel, schemes] = arguments.bind(
        "urlize",
        ["trim_url_limit", "nofollow", "target", "rel", "extra_schemes"],
        0,
    )?;
    let budget = &renderer.budget;
    let mut rels = vec!["noopener".to_owned()];
    if let Some(rel) = given(rel) {
        rels.extend(text(&rel)?.text.split(is_space).filter(|r| !r.is_empty()).map(str::to_owned));
    }
    if flag(nofollow.as_ref(), false) {
        rels.push("nofollow".to_owned());
    }
    rels.sort();
    rels.dedup();
    let plain = |text: &str| Text { text: text.into(), safe: false };
    let mut attributes = format!(" rel=\"{}\"", escape(budget, &plain(&rels.join(" ")))?.text);
    if let Some(target) = given(target) {
        let target = escape(budget, &display(budget, &target)?)?;
        attributes.push_str(&format!(" target=\"{}\"", target.text));
    }
    let limit = given(limit).as_ref().map(integer).transpose()?;
    let schemes = match given(schemes) {
        Some(schemes) => schemes.collect(budget)?,
        None => Vec::new(),
    };
    let links = Links { attributes, limit, schemes };
    let escaped = escape(budget, &display(budget, &value)?)?;
    let mut buffer = Buffer::new(budget);
    let mut rest = &*escaped.text;
    while !rest.is_empty() {
        let word = rest.find(is_space).unwrap_or(rest.len());
        buffer.push(&links.word(&rest[..word])?)?;
        rest = &rest[word..];
        let space = rest.find(|c| !is_space(c)).unwrap_or(rest.len());
        buffer.push(&rest[..space])?;
        rest = &rest[space..];
    }
    Ok(Text { text: buffer.finish().into(), safe: renderer.escapes }.into())
}

/// How addresses become links.
struct Links {
    attributes: String,
    limit: Option<i128>,
    schemes: Vec<Value>,
}

impl Links {
    /// A word with a link around the address in it.
    fn word(&self, word: &str) -> Result<String> {
        let mut start = word;
        while let Some(rest) = start.strip_prefix(['(', '<']).or_else(|| start.strip_prefix("&lt;"))
        {
            start = rest;
        }
        let head = &word[..word.len() - start.len()];
        let mut middle = start;
        while let Some(rest) =
            middle.strip_suffix([')', '>', '.', ',']).or_else(|| middle.strip_suffix("&gt;"))
        {
            middle = rest;
        }
        // Brackets that were opened in the address end in it.
        let mut end = middle.len();
        for (open, close) in [("(", ")"), ("<", ">"), ("&lt;", "&gt;")] {
            let opened = start[..end].matches(open).count();
            let closed = start[..end].matches(close).count();
            for _ in closed..opened {
                let Some(at) = start[end..].find(close) else { break };
                end += at + close.len();
            }
        }
        let (middle, tail) = start.split_at(end);
        Ok(format!("{head}{}{tail}", self.link(middle)?))
    }

    fn link(&self, address: &str) -> Result<String> {
        let attributes = &self.attributes;
        if is_address(address) {
            let scheme = if has_scheme(address) { "" } else { "https://" };
            let shown = match self.limit {
                Some(limit) if address.chars().count() as i128 > limit => {
                    let length = address.chars().count() as i128;
                    let kept = if limit < 0 { (length + limit).max(0) } else { limit };
                    address.chars().take(kept as usize).collect::<String>() + "..."
                }
                _ => address.to_owned(),
            };
            return Ok(format!("<a href=\"{scheme}{address}\"{attributes}>{shown}</a>"));
        }
        if let Some(mail) = address.strip_prefix("mailto:").filter(|mail| is_mail(mail)) {
            return Ok(format!("<a href=\"{address}\">{mail}</a>"));
        }
        if !address.starts_with("www.")
            && !address.starts_with('@')
            && !address.contains(':')
            && is_mail(address)
        {
            return Ok(format!("<a href=\"mailto:{address}\">{address}</a>"));
        }
        for scheme in &self.schemes {
            let scheme = &text(scheme)?.text;
            if address != &**scheme && address.starts_with(&**scheme) {
                return Ok(format!("<a href=\"{address}\"{attributes}>{address}</a>"));
            }
        }
        Ok(address.to_owned())
    }
}

fn has_scheme(address: &str) -> bool {
    address.starts_with("https://") || address.starts_with("http://")
}

fn is_mail(text: &str) -> bool {
    let Some((name, domain)) = text.rsplit_once('@') else { return false };
    let part = |c: char| characters::is_word_character(c) || c == '.' || c == '-';
    let Some((host, end)) = domain.rsplit_once('.') else { return false };
    !name.is_empty()
        && host.starts_with(characters::is_word_character)
        && host.chars().all(part)
        && !end.is_empty()
        && end.chars().all(characters::is_word_character)
}

/// Whether text is an address of a web page, as Jinja recognizes them.
fn is_address(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let with_scheme = lower.strip_prefix("https://").or_else(|| lower.strip_prefix("http://"));
    let (rest, is_marked) = match with_scheme {
        Some(rest) => (rest, true),
        None => match lower.strip_prefix("www.") {
            Some(rest) => (rest, true),
            None => (&*lower, false),
        },
    };
    let (host, _) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = match host.rsplit_once(':') {
        Some((host, port)) => {
            if port.is_empty() || port.len() > 5 || !port.bytes().all(|b| b.is_ascii_digit()) {
                return false;
            }
            host
        }
        None => host,
    };
    let label = |label: &str| {
        !label.is_empty()
            && label.chars().all(|c| characters::is_word_character(c) || c == '%' || c == '-')
    };
    let labels: Vec<&str> = host.split('.').collect();
    let Some((end, before)) = labels.split_last() else { return false };
    if with_scheme.is_some()
        && labels.len() == 4
        && labels
            .iter()
            .all(|l| (1..=3).contains(&l.len()) && l.bytes().all(|b| b.is_ascii_digit()))
    {
        return true;
    }
    if !before.iter().all(|part| label(part)) {
        return false;
    }
    if is_marked {
        let plain = (2..=63).contains(&end.len()) && end.bytes().all(|b| b.is_ascii_lowercase());
        return plain || end.strip_prefix("xn--").is_some_and(|e| e.len() >= 2 && label(e));
    }
    !before.is_empty() && before.iter().all(|l| l.len() >= 2) && DOMAINS.contains(end)
}
