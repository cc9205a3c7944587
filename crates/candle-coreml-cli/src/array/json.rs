//! Arrays as JSON: nested lists. NaN and the infinities, for which JSON has no numbers, are written as
//! the strings `"NaN"`, `"Infinity"` and `"-Infinity"`; they are read so, and without quotes, as
//! Python's `json` writes them.

use anyhow::{Context, Result, bail, ensure};
use serde::{Serialize, Serializer};
use serde_json::Value as Json;

use super::{Array, DType, Elements, Number};

/// Numbers that JSON lacks.
const NOT_FINITE: [(&str, f64); 3] =
    [("NaN", f64::NAN), ("Infinity", f64::INFINITY), ("-Infinity", f64::NEG_INFINITY)];

/// JSON as Python writes it.
pub fn parse(text: &str) -> serde_json::Result<Json> {
    serde_json::from_str(&quoted(text.trim_start_matches('\u{feff}')))
}

/// With quotes around numbers that JSON lacks.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    // Every other piece is a string, as long as no quotes are escaped; with them, it is no list of
    // numbers, and refused whatever becomes of it.
    for (place, piece) in text.split('"').enumerate() {
        if place > 0 {
            quoted.push('"');
        }
        if place % 2 == 1 {
            quoted.push_str(piece);
            continue;
        }
        let marked = piece.replace("NaN", "\"NaN\"").replace("Infinity", "\"Infinity\"");
        quoted.push_str(&marked.replace("-\"Infinity\"", "\"-Infinity\""));
    }
    quoted
}

/// The array of nested lists: of type `int64` if all numbers are whole ones as they are written, of
/// `bool` if all are `true` or `false`, else of `float64`.
pub fn to_array(json: &Json) -> Result<Array> {
    let mut shape = Vec::new();
    let mut level = json;
    while let Json::Array(items) = level {
        shape.push(items.len());
        match items.first() {
            Some(item) => level = item,
            None => break,
        }
    }
    let mut leaves = Vec::new();
    flatten(json, &shape, &mut leaves)?;
    let integers: Option<Vec<i128>> = leaves.iter().map(|json| integer(json)).collect();
    let (dtype, elements) = match integers {
        Some(integers) if !leaves.is_empty() && leaves.iter().all(|json| json.is_boolean()) => {
            (DType::Bool, Elements::Integers(integers))
        }
        Some(integers) => (DType::Int64, Elements::Integers(integers)),
        None => {
            let floats = leaves.iter().map(|json| float(json)).collect::<Result<_>>()?;
            (DType::Float64, Elements::Doubles(floats))
        }
    };
    Ok(Array { dtype, shape, elements })
}

/// The numbers of lists that are nested as `shape` says.
fn flatten<'a>(json: &'a Json, shape: &[usize], leaves: &mut Vec<&'a Json>) -> Result<()> {
    match (json, shape) {
        (Json::Array(items), [length, inner @ ..]) => {
            ensure!(items.len() == *length, "the lists are not equally long");
            items.iter().try_for_each(|item| flatten(item, inner, leaves))
        }
        (Json::Array(_), []) => bail!("the lists are not equally deep"),
        (_, [_, ..]) => bail!("a list is missing around `{}`", excerpt(json)),
        (number, []) => {
            leaves.push(number);
            Ok(())
        }
    }
}

fn integer(json: &Json) -> Option<i128> {
    match json {
        Json::Bool(value) => Some(i128::from(*value)),
        Json::Number(number) => number.as_i128(),
        _ => None,
    }
}

fn float(json: &Json) -> Result<f64> {
    let named = json
        .as_str()
        .and_then(|text| NOT_FINITE.iter().find(|(name, _)| *name == text))
        .map(|(_, value)| *value);
    let whole = || integer(json).map(|integer| integer as f64);
    let float = json.as_f64().or_else(whole).or(named);
    float.with_context(|| format!("`{}` is not a number", excerpt(json)))
}

fn excerpt(json: &Json) -> String {
    json.to_string().chars().take(40).collect()
}

/// An array's elements as nested lists; a number where the array has no axes.
pub struct Lists<'a>(pub &'a Array);

impl Serialize for Lists<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Level { array: self.0, shape: &self.0.shape, from: 0 }.serialize(serializer)
    }
}

/// The elements from one on that have these last axes.
struct Level<'a> {
    array: &'a Array,
    shape: &'a [usize],
    from: usize,
}

impl Serialize for Level<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let &Level { array, shape, from } = self;
        let Some((&length, shape)) = shape.split_first() else {
            return match array.elements.get(from) {
                Some(Number::Integer(value)) if array.dtype == DType::Bool => {
                    serializer.serialize_bool(value != 0)
                }
                number => number.serialize(serializer),
            };
        };
        let step: usize = shape.iter().product();
        serializer.collect_seq((0..length).map(|i| Level { array, shape, from: from + i * step }))
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            // No wider type comes from a file, or from a model.
            Number::Integer(value) => match i64::try_from(value) {
                Ok(value) => serializer.serialize_i64(value),
                Err(_) => serializer.serialize_u64(value as u64),
            },
            Number::Single(value) if value.is_finite() => serializer.serialize_f32(value),
            Number::Double(value) if value.is_finite() => serializer.serialize_f64(value),
            number if number.to_f64().is_nan() => serializer.serialize_str("NaN"),
            number if number.to_f64() > 0.0 => serializer.serialize_str("Infinity"),
            _ => serializer.serialize_str("-Infinity"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(text: &str) -> Result<Array> {
        to_array(&parse(text)?)
    }

    #[test]
    fn lists_have_the_narrowest_type() {
        let whole = array("[[1, -2], [3, 18446744073709551615]]").unwrap();
        assert_eq!((whole.dtype, &*whole.shape), (DType::Int64, &[2, 2][..]));
        assert_eq!(whole.elements, Elements::Integers(vec![1, -2, 3, u64::MAX.into()]));
        assert_eq!(array("[true, false]").unwrap().dtype, DType::Bool);
        assert_eq!(array("[true, 2]").unwrap().elements, Elements::Integers(vec![1, 2]));
        assert_eq!(
            array("[1, 2.5, true]").unwrap().elements,
            Elements::Doubles(vec![1.0, 2.5, 1.0])
        );
        assert_eq!(array("7").unwrap().shape, [0; 0]);
        assert_eq!(array("[[], []]").unwrap().shape, [2, 0]);
    }

    /// As `json.dumps([float('nan'), float('inf'), -float('inf'), 1.5])` gives it.
    #[test]
    fn python_writes_numbers_that_json_lacks() {
        for text in ["[NaN, Infinity, -Infinity, 1.5]", r#"["NaN", "Infinity", "-Infinity", 1.5]"#]
        {
            let Elements::Doubles(values) = array(text).unwrap().elements else { panic!("{text}") };
            assert!(values[0].is_nan());
            assert_eq!(values[1..], [f64::INFINITY, f64::NEG_INFINITY, 1.5]);
        }
        assert!(array("\u{feff}[1]").is_ok());
    }

    #[test]
    fn what_is_no_array_is_explained() {
        let cases = [
            ("[[1], [2, 3]]", "not equally long"),
            ("[1, [2]]", "not equally deep"),
            ("[[1], 2]", "a list is missing around `2`"),
            ("[\"a\", 1]", "`\"a\"` is not a number"),
            ("[null]", "`null` is not a number"),
            ("{\"a\": 1}", "is not a number"),
            ("[1e999]", "out of range"),
            ("[1", "EOF"),
            ("[NaNNaN]", "expected"),
        ];
        for (text, expected) in cases {
            let message = format!("{:#}", array(text).unwrap_err());
            assert!(message.contains(expected), "{text}: {message}");
        }
        assert!(array(&"[".repeat(100_000)).is_err());
    }

    #[test]
    fn elements_are_written_as_nested_lists() {
        let written = |dtype, shape: &[usize], elements| {
            let array = Array { dtype, shape: shape.to_vec(), elements };
            serde_json::to_string(&Lists(&array)).unwrap()
        };
        let floats = Elements::Singles(vec![0.1, f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
        let text = written(DType::Float32, &[1, 2, 2], floats);
        assert_eq!(text, r#"[[[0.1,"NaN"],["Infinity","-Infinity"]]]"#);
        assert_eq!(written(DType::Bool, &[2], Elements::Integers(vec![1, 0])), "[true,false]");
        assert_eq!(written(DType::Int64, &[], Elements::Integers(vec![-7])), "-7");
        assert_eq!(written(DType::Int32, &[2, 0], Elements::Integers(vec![])), "[[],[]]");
    }
}
