//! Outputs of a model: shown, written to files, and as JSON.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use candle_coreml::description::FeatureType;
use candle_coreml::image::DynamicImage;
use candle_coreml::image::codecs::png::PngEncoder;
use candle_coreml::mil::ElementType;
use candle_coreml::{Dictionary, FeatureValue, Image, OutputValue, Pixels, Sequence, ValueError};
use coreml_format::{printable_message, printable_name, printable_path};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Value as Json, json};

use crate::array::json::Lists;
use crate::array::statistics::Statistics;
use crate::array::{Array, DType, Elements, Number, npy};
use crate::images;
use crate::table::Table;
use crate::term;

/// How many values the summary shows.
const SHOWN: usize = 8;

/// A result.
pub struct Output {
    name: String,
    value: Value,
    /// Where it was written.
    file: Option<PathBuf>,
}

enum Value {
    Array(Array),
    Image(Image),
    Dictionary(Dictionary),
    /// Strings and sequences, with the word for their type.
    Other(&'static str, Json),
}

impl Value {
    /// The word for its type, and its size.
    fn kind(&self) -> String {
        match self {
            Value::Array(array) => kind(array),
            Value::Image(image) => {
                format!("{} image of {} × {} pixels", colours(image), image.width(), image.height())
            }
            Value::Dictionary(_) => "dictionary".to_owned(),
            Value::Other(kind, _) => (*kind).to_owned(),
        }
    }

    /// How it is written to a file. PNG has no floats.
    fn extension(&self) -> &'static str {
        match self {
            Value::Image(image) if !matches!(image.pixels(), Pixels::GrayFloat(_)) => "png",
            Value::Array(_) | Value::Image(_) => "npy",
            Value::Dictionary(_) | Value::Other(..) => "json",
        }
    }
}

impl Output {
    /// A copy of what a backend gives.
    ///
    /// # Errors
    /// When it is not of the type that the model describes.
    pub fn new(
        name: &str,
        value: &OutputValue,
        ty: Option<&FeatureType>,
    ) -> Result<Self, ValueError> {
        let value = match (value, ty) {
            (OutputValue::Array(array), None | Some(FeatureType::MultiArray(_))) => {
                Value::Array(from_array(array)?)
            }
            (value, ty) => from_value(value.to_value(ty)?)?,
        };
        Ok(Output { name: name.to_owned(), value, file: None })
    }

    /// Its name in the model.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Writes the value to a file named after the output: an image as `.png`, an array as `.npy`, and as
    /// `.json` what NumPy has no type for.
    pub fn write(&mut self, directory: &Path) -> Result<()> {
        let name = &self.name;
        ensure!(
            !name.contains(|c: char| matches!(c, '/' | '\\') || c.is_control()),
            "output `{}` can't be a file's name; leave --output-dir out to see it",
            printable_name(name)
        );
        let path = directory.join(format!("{name}.{}", self.value.extension()));
        self.write_unseen(directory, &path).with_context(|| {
            format!("can't write output `{}` to {}", printable_name(name), directory.display())
        })?;
        self.file = Some(path);
        Ok(())
    }

    /// Writes beside the file and renames, so that a full disk spoils nothing that was there.
    fn write_unseen(&self, directory: &Path, path: &Path) -> Result<()> {
        let mut builder = tempfile::Builder::new();
        #[cfg(unix)]
        {
            // Temporary files are their owner's alone; results are as other new files are.
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        let file = builder.tempfile_in(directory)?;
        let mut out = BufWriter::new(&file);
        match &self.value {
            Value::Array(array) => npy::write(array, &mut out)?,
            Value::Image(image) if self.value.extension() == "png" => {
                let image = DynamicImage::try_from(image.clone())?;
                image.write_with_encoder(PngEncoder::new(&mut out))?;
            }
            Value::Image(image) => npy::write(&images::to_array(image), &mut out)?,
            Value::Dictionary(values) => serde_json::to_writer(&mut out, &entries(values))?,
            Value::Other(_, json) => serde_json::to_writer(&mut out, json)?,
        }
        out.flush()?;
        drop(out);
        file.persist(path)?;
        Ok(())
    }

    /// Type, shape, range and first values, or the `top` greatest entries of a dictionary; or where it was
    /// written.
    pub fn print(&self, top: usize, out: &mut impl Write) -> io::Result<()> {
        write!(out, "{}: ", printable_name(&self.name))?;
        if let Some(file) = &self.file {
            return writeln!(out, "{} → {}", self.value.kind(), printable_path(file));
        }
        match &self.value {
            Value::Array(array) => writeln!(out, "{}", summary(array)),
            Value::Image(image) => {
                let array = images::to_array(image);
                writeln!(out, "{}, {}", self.value.kind(), Statistics::of(&array.elements))
            }
            Value::Dictionary(values) => write!(out, "{}", greatest(values, top)),
            Value::Other(_, json) => writeln!(out, "{}", printable_message(&json.to_string())),
        }
    }
}

fn colours(image: &Image) -> &'static str {
    match image.pixels() {
        Pixels::Rgb(_) => "RGB",
        Pixels::GrayFloat(_) => "gray float16",
        _ => "gray",
    }
}

/// The greatest entries of a dictionary as a table below how many there are.
fn greatest(values: &Dictionary, top: usize) -> String {
    let mut table = Table::new(&[]).right(&[1]);
    for (key, value) in values.top(top) {
        table.row([printable_name(&key).into_owned(), Number::Double(value).to_string()]);
    }
    let entries = if values.len() == 1 { "entry" } else { "entries" };
    let shown = match top < values.len() {
        true => format!(", the {top} greatest"),
        false => String::new(),
    };
    format!("{} {entries}{shown}\n{}", values.len(), table.text(term::width()))
}

fn kind(array: &Array) -> String {
    format!("{} {:?}", array.dtype.name(), array.shape)
}

fn summary(array: &Array) -> String {
    let kind = kind(array);
    if array.elements.len() == 0 {
        return format!("{kind}, empty");
    }
    let statistics = Statistics::of(&array.elements);
    let shown: Vec<String> =
        array.elements.iter().take(SHOWN).map(|number| number.to_string()).collect();
    let more = if array.elements.len() > SHOWN { ", …" } else { "" };
    format!("{kind}, {statistics}\n  [{}{more}]", shown.join(", "))
}

fn from_array(array: &candle_coreml::Array) -> Result<Array, ValueError> {
    let dtype = dtype(array.element());
    let elements = match array.element() {
        ElementType::Float64 => Elements::Doubles(array.to_tensor()?.flatten_all()?.to_vec1()?),
        element if element.is_float() => {
            let mut values = vec![0.0; array.len()];
            array.read_floats(0..array.len(), &mut values)?;
            Elements::Singles(values)
        }
        _ => Elements::Integers(array.integers()?.into_iter().map(i128::from).collect()),
    };
    Ok(Array { dtype, shape: array.shape().to_vec(), elements })
}

/// NumPy's type of a program's type: the next wider one, where NumPy has none.
fn dtype(element: ElementType) -> DType {
    match element {
        ElementType::Bool => DType::Bool,
        ElementType::Float16 => DType::Float16,
        ElementType::Float64 => DType::Float64,
        element if element.is_float() => DType::Float32,
        ElementType::Int4 | ElementType::Int8 => DType::Int8,
        ElementType::Int16 => DType::Int16,
        ElementType::Int32 => DType::Int32,
        ElementType::UInt16 => DType::UInt16,
        ElementType::UInt32 => DType::UInt32,
        ElementType::UInt64 => DType::UInt64,
        element if element.is_int() && element.bits() <= 8 => DType::UInt8,
        _ => DType::Int64,
    }
}

fn from_value(value: FeatureValue) -> Result<Value, ValueError> {
    let scalar = |dtype, elements| Value::Array(Array { dtype, shape: Vec::new(), elements });
    Ok(match value {
        FeatureValue::Int64(value) => scalar(DType::Int64, Elements::Integers(vec![value.into()])),
        FeatureValue::Double(value) => scalar(DType::Float64, Elements::Doubles(vec![value])),
        FeatureValue::Image(image) => Value::Image(image),
        FeatureValue::String(text) => Value::Other("string", json!(text)),
        FeatureValue::Dictionary(values) => Value::Dictionary(values),
        FeatureValue::Sequence(Sequence::Int64(values)) => Value::Other("sequence", json!(values)),
        FeatureValue::Sequence(Sequence::String(values)) => Value::Other("sequence", json!(values)),
        other => {
            return Err(ValueError::Mismatch {
                expected: "a value that can be shown".to_owned(),
                got: other.kind_in_words().to_owned(),
            });
        }
    })
}

/// A dictionary as a JSON object.
fn entries(dictionary: &Dictionary) -> Json {
    match dictionary {
        Dictionary::Int64(values) => object(values),
        Dictionary::String(values) => object(values),
    }
}

fn object<K: ToString>(values: &BTreeMap<K, f64>) -> Json {
    let entry = |(key, value): (&K, &f64)| (key.to_string(), json!(Number::Double(*value)));
    Json::Object(values.iter().map(entry).collect())
}

/// Name, type, shape, statistics and all values; the file if there is one.
impl Serialize for Output {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", &self.name)?;
        match &self.value {
            Value::Array(array) => serialize_array(&mut map, array)?,
            Value::Image(image) => serialize_array(&mut map, &images::to_array(image))?,
            Value::Dictionary(values) => {
                map.serialize_entry("dtype", "dictionary")?;
                map.serialize_entry("values", &entries(values))?;
            }
            Value::Other(dtype, value) => {
                map.serialize_entry("dtype", dtype)?;
                map.serialize_entry("values", value)?;
            }
        }
        if let Some(file) = &self.file {
            map.serialize_entry("file", &file.to_string_lossy())?;
        }
        map.end()
    }
}

fn serialize_array<M: SerializeMap>(map: &mut M, array: &Array) -> Result<(), M::Error> {
    map.serialize_entry("dtype", array.dtype.name())?;
    map.serialize_entry("shape", &array.shape)?;
    map.serialize_entry("statistics", &Statistics::of(&array.elements))?;
    map.serialize_entry("values", &Lists(array))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(dtype: DType, shape: &[usize], elements: Elements) -> Array {
        Array { dtype, shape: shape.to_vec(), elements }
    }

    #[test]
    fn the_summary_shows_range_and_first_values() {
        let floats = Elements::Singles(vec![1.5, -2.0, 0.12345678]);
        let text = summary(&array(DType::Float32, &[1, 3], floats));
        assert!(text.starts_with("float32 [1, 3], least -2, greatest 1.5, mean"), "{text}");
        assert!(text.ends_with("[1.5, -2, 0.123457]"), "{text}");
        let long = summary(&array(DType::Int32, &[20], Elements::Integers(vec![0; 20])));
        assert!(long.ends_with("[0, 0, 0, 0, 0, 0, 0, 0, …]"));
        let empty = array(DType::Float16, &[0, 2], Elements::Singles(Vec::new()));
        assert_eq!(summary(&empty), "float16 [0, 2], empty");
        let nan = summary(&array(DType::Float16, &[2], Elements::Singles(vec![f32::NAN; 2])));
        assert_eq!(nan, "float16 [2], no finite elements, 2 NaN\n  [NaN, NaN]");
    }

    #[test]
    fn values_that_are_no_arrays_are_shown_and_written_as_json() {
        let directory = tempfile::tempdir().unwrap();
        let words = Dictionary::String(
            [("cat\u{1b}".to_owned(), 0.5), ("dog".to_owned(), f64::NAN)].into(),
        );
        let value = OutputValue::Value(FeatureValue::Dictionary(words));
        let mut output = Output::new("p", &value, None).unwrap();
        let mut text = Vec::new();
        output.print(1, &mut text).unwrap();
        output.print(5, &mut text).unwrap();
        output.write(directory.path()).unwrap();
        output.print(5, &mut text).unwrap();
        let file = directory.path().join("p.json");
        let json = r#"{"cat\u001b":0.5,"dog":"NaN"}"#;
        assert_eq!(
            String::from_utf8(text).unwrap(),
            format!(
                "p: 2 entries, the 1 greatest\n  cat\\u{{1b}}  0.5\n\
                 p: 2 entries\n  cat\\u{{1b}}  0.5\n  dog        NaN\n\
                 p: dictionary → {}\n",
                file.display()
            )
        );
        assert_eq!(std::fs::read_to_string(file).unwrap(), json);
        for name in ["a/b", "a\\b", "\u{1b}"] {
            let mut output = Output::new(name, &value, None).unwrap();
            let message = output.write(directory.path()).unwrap_err().to_string();
            assert!(message.contains("can't be a file's name"), "{message}");
        }
    }
}
