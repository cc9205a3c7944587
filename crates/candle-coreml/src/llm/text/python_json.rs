//! JSON as Python's `json.dumps` writes it, which models have seen in their training.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value as Json;
use serde_json::ser::{Formatter, Serializer};

/// Layout of JSON text.
#[derive(Clone, Debug)]
pub(super) struct PythonJson {
    /// Spaces for each level, on lines of their own.
    pub(super) indent: Option<usize>,
    /// Between items; a line break follows it where there are lines.
    pub(super) item_separator: String,
    /// Between key and value.
    pub(super) key_separator: String,
    /// Writes all but ASCII as escapes.
    pub(super) ascii: bool,
}

impl PythonJson {
    /// Python's defaults, but for characters beyond ASCII as they are.
    pub(super) fn new(indent: Option<usize>) -> Self {
        let item_separator = if indent.is_some() { "," } else { ", " }.to_owned();
        PythonJson { indent, item_separator, key_separator: ": ".to_owned(), ascii: false }
    }

    /// A value as text.
    pub(super) fn text(&self, value: &Json) -> Result<String, String> {
        let mut bytes = Vec::new();
        let writer = Writer { layout: self, level: 0, filled: false };
        let mut serializer = Serializer::with_formatter(&mut bytes, writer);
        value.serialize(&mut serializer).map_err(|error| error.to_string())?;
        let text = String::from_utf8(bytes).map_err(|error| error.to_string())?;
        Ok(if self.ascii { escape(&text) } else { text })
    }
}

/// JSON has characters beyond ASCII in strings alone, so that all of them can be escapes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii() {
            escaped.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    escaped
}

struct Writer<'a> {
    layout: &'a PythonJson,
    level: usize,
    /// Whether the container that ends has items.
    filled: bool,
}

impl Writer<'_> {
    fn begin<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.level += 1;
        self.filled = false;
        writer.write_all(bracket)
    }

    fn end<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.level = self.level.saturating_sub(1);
        if self.filled {
            self.new_line(writer)?;
        }
        self.filled = true;
        writer.write_all(bracket)
    }

    fn next<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.filled = true;
        if !first {
            writer.write_all(self.layout.item_separator.as_bytes())?;
        }
        self.new_line(writer)
    }

    fn new_line<W: ?Sized + Write>(&self, writer: &mut W) -> io::Result<()> {
        let Some(indent) = self.layout.indent else { return Ok(()) };
        writer.write_all(b"\n")?;
        (0..self.level.saturating_mul(indent)).try_for_each(|_| writer.write_all(b" "))
    }
}

impl Formatter for Writer<'_> {
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.begin(writer, b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.end(writer, b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, w: &mut W, first: bool) -> io::Result<()> {
        self.next(w, first)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.begin(writer, b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.end(writer, b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, w: &mut W, first: bool) -> io::Result<()> {
        self.next(w, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(self.layout.key_separator.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_is_written_as_in_python() {
        let value = json!({"b": [1, 2.5, null], "a": {"ü": "x\n\"<'"}, "e": [], "f": {}});
        // Expected texts are those of json.dumps(value, ensure_ascii=False, indent=…).
        let plain = "{\"b\": [1, 2.5, null], \"a\": {\"ü\": \"x\\n\\\"<'\"}, \"e\": [], \"f\": {}}";
        assert_eq!(PythonJson::new(None).text(&value).unwrap(), plain);
        let lines = "{\n  \"b\": [\n    1,\n    2.5,\n    null\n  ],\n  \"a\": {\n    \"ü\": \
                     \"x\\n\\\"<'\"\n  },\n  \"e\": [],\n  \"f\": {}\n}";
        assert_eq!(PythonJson::new(Some(2)).text(&value).unwrap(), lines);
        let ascii = PythonJson { ascii: true, ..PythonJson::new(None) };
        assert_eq!(ascii.text(&json!(["é😀"])).unwrap(), "[\"\\u00e9\\ud83d\\ude00\"]");
    }
}
