//! YAML as JSON values: what `meta.yaml` needs of it.

use std::path::Path;

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Number, Value as Json};

use crate::error::{Error, Result};

/// Bytes that a file may have. Those that there are have a few thousand.
const LONGEST: usize = 1 << 20;

/// Levels of nesting that a file may have.
const DEEPEST: usize = 64;

/// A mapping or sequence that is still open.
enum Level {
    /// With the key whose value comes next.
    Mapping(Map<String, Json>, Option<String>),
    Sequence(Vec<Json>),
}

/// The first document of a file. Aliases are refused: a short file could grow without bound.
pub(super) fn parse(path: &Path, text: &str) -> Result<Json> {
    if text.len() > LONGEST {
        return Err(Error::language_model(path, "is far longer than such a file is"));
    }
    let mut levels: Vec<Level> = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            Error::language_model(path, format!("is not valid YAML: {error}")).caused_by(error)
        })?;
        let refused =
            |what| Error::language_model(path, format!("line {} has {what}", span.start.line()));
        let ended = match event {
            Event::Scalar(text, ScalarStyle::Plain, _, None) => plain(&text),
            Event::Scalar(text, ..) => Json::String(text.into_owned()),
            Event::MappingStart(..) | Event::SequenceStart(..) if levels.len() == DEEPEST => {
                return Err(refused("more levels than are read here"));
            }
            Event::MappingStart(..) => {
                levels.push(Level::Mapping(Map::new(), None));
                continue;
            }
            Event::SequenceStart(..) => {
                levels.push(Level::Sequence(Vec::new()));
                continue;
            }
            Event::MappingEnd | Event::SequenceEnd => match levels.pop() {
                Some(Level::Mapping(map, _)) => Json::Object(map),
                Some(Level::Sequence(items)) => Json::Array(items),
                None => Json::Null,
            },
            Event::Alias(_) => {
                return Err(refused("an alias, which is not read here; write the value itself"));
            }
            _ => continue,
        };
        match levels.last_mut() {
            Some(Level::Mapping(_, key @ None)) => *key = Some(key_text(ended)),
            Some(Level::Mapping(map, key)) => {
                map.insert(key.take().unwrap_or_default(), ended);
            }
            Some(Level::Sequence(items)) => items.push(ended),
            None => return Ok(ended),
        }
    }
    Ok(Json::Null)
}

/// A scalar without quotes.
fn plain(text: &str) -> Json {
    let float = || text.parse().ok().and_then(Number::from_f64).map(Json::Number);
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Json::Null,
        "true" | "True" | "TRUE" => Json::Bool(true),
        "false" | "False" | "FALSE" => Json::Bool(false),
        _ => match text.parse::<i64>() {
            Ok(number) => number.into(),
            Err(_) => float().unwrap_or_else(|| text.into()),
        },
    }
}

fn key_text(key: Json) -> String {
    match key {
        Json::String(text) => text,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_have_the_types_that_yaml_gives_them() {
        let text = "a: [1, -2.5, 1e3, True, ~, x y]\nb: {c: '0.7', d: \"true\", 3: none}\ne:\n\
                    f: |\n  two\n  lines\n";
        let expected = json!({
            "a": [1, -2.5, 1000.0, true, null, "x y"],
            "b": {"c": "0.7", "d": "true", "3": "none"},
            "e": null,
            "f": "two\nlines\n",
        });
        assert_eq!(parse(Path::new("x.yaml"), text).unwrap(), expected);
        assert_eq!(parse(Path::new("x.yaml"), "").unwrap(), Json::Null);
    }

    #[test]
    fn what_could_take_much_memory_or_stack_is_refused() {
        let deep = "[".repeat(100_000);
        let nested = format!("{}{}", "[".repeat(65), "]".repeat(65));
        let long = "- 1\n".repeat(1 << 19);
        for text in ["a: &x [1]\nb: *x\n", "[1, 2", &deep, &nested, &long] {
            let message = parse(Path::new("x.yaml"), text).unwrap_err().to_string();
            assert!(message.contains("x.yaml"), "{message}");
        }
    }
}
