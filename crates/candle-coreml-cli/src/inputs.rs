//! Inputs of a model from what stands behind `NAME=`: a file, or JSON.

use std::fs;
use std::io::{self, Cursor, ErrorKind, Read};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use candle_core::{Device, Tensor, WithDType};
use candle_coreml::description::{
    ArrayElementType, FeatureDescription, FeatureType, FunctionDescription, MultiArrayType,
};
use candle_coreml::{FeatureValue, Image};
use coreml_format::{printable_name, printable_path};
use half::f16;
use serde::Serialize;
use serde_json::Value as Json;
use zip::ZipArchive;

use crate::array::npy::{self, Header};
use crate::array::{Array, DType, Number, count, json};
use crate::images::{self, Resizing};

/// Arrays of an archive that an error names.
const MOST_NAMES: usize = 20;

/// An input that a model takes.
#[derive(Debug, Serialize)]
pub struct Input {
    pub name: String,
    /// NumPy's name of its type, as the model takes it.
    pub dtype: &'static str,
    pub shape: Vec<usize>,
    #[serde(skip)]
    pub value: FeatureValue,
}

/// The values that a command line names, in its order; `takes` tells what the function takes instead.
pub fn read_all(
    given: &[(String, String)],
    function: &FunctionDescription,
    resizing: Resizing,
    takes: &dyn Fn() -> String,
) -> Result<Vec<Input>> {
    let mut inputs: Vec<Input> = Vec::new();
    for (name, value) in given {
        let shown = printable_name(name);
        let Some(feature) = function.inputs.iter().find(|input| input.name == *name) else {
            bail!("there is no input `{shown}`; {}", takes());
        };
        ensure!(!inputs.iter().any(|input| input.name == *name), "input `{shown}` is given twice");
        inputs.push(read(feature, value, resizing).with_context(|| format!("input `{shown}`"))?);
    }
    Ok(inputs)
}

/// The value of an input: JSON, else that of a file, which is known by what is in it.
pub fn read(feature: &FeatureDescription, value: &str, resizing: Resizing) -> Result<Input> {
    let no_json = match json::parse(value) {
        Ok(json) => return from_json(feature, &json, resizing),
        Err(error) => error,
    };
    let shown = printable_name(value);
    match fs::metadata(value) {
        Err(error) if is_no_file(&error) => {
            Err(anyhow!("`{shown}` is no file, and no JSON such as [1, 2] ({no_json})"))
        }
        _ => of_path(feature, Path::new(value), resizing),
    }
}

/// The value of a feature from a file, which is known by what is in it.
pub fn of_path(feature: &FeatureDescription, path: &Path, resizing: Resizing) -> Result<Input> {
    let bytes = fs::read(path).with_context(|| format!("can't read `{}`", printable_path(path)))?;
    from_file(feature, &bytes, resizing).with_context(|| printable_path(path))
}

/// Long or strange texts are broken JSON rather than names of files.
fn is_no_file(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotFound | ErrorKind::InvalidFilename | ErrorKind::InvalidInput
    )
}

fn from_file(feature: &FeatureDescription, bytes: &[u8], resizing: Resizing) -> Result<Input> {
    if bytes.starts_with(npy::MAGIC) {
        return from_npy(feature, &mut Cursor::new(bytes), resizing);
    }
    if bytes.starts_with(b"PK") {
        return from_npz(feature, bytes, resizing);
    }
    if images::is_image(bytes) {
        let FeatureType::Image(ty) = &feature.ty else {
            bail!("is an image, and the input is of type {}: it takes an array", feature.ty);
        };
        let image = images::fitted(&Image::decode(bytes)?, ty, resizing)?;
        return Ok(Input::new(feature, image));
    }
    let text = std::str::from_utf8(bytes).ok().with_context(|| match feature.ty {
        FeatureType::Image(_) => "is no image (PNG, JPEG, WebP, BMP, GIF or TIFF) and no array",
        _ => "is no NumPy array (.npy), no archive of some (.npz) and no JSON",
    })?;
    from_json(feature, &json::parse(text).context("is no JSON")?, resizing)
}

fn from_npy(
    feature: &FeatureDescription,
    file: &mut impl Read,
    resizing: Resizing,
) -> Result<Input> {
    let header = Header::read(file)?;
    // Before the elements are read: an archive may claim many.
    if let Some(ty) = feature.ty.as_multi_array() {
        let shape = &header.shape;
        ensure!(
            shape.is_empty() || ty.allows(shape),
            "has the shape {shape:?}, which does not fit into {ty}"
        );
    }
    let array = header.read_elements(file)?;
    let kind = format!("the {} array", array.dtype.name());
    of_array(feature, array, &kind, resizing)
}

/// The array of the feature's name in an archive, or its only one.
fn from_npz(feature: &FeatureDescription, bytes: &[u8], resizing: Resizing) -> Result<Input> {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).context("is no .npz archive")?;
    let index = match archive.index_for_name(&format!("{}.npy", feature.name)) {
        Some(index) => index,
        None if archive.len() == 1 => 0,
        None => {
            let names = archive.file_names().filter_map(Result::ok).take(MOST_NAMES);
            let mut names: Vec<String> = names
                .map(|name| printable_name(name.trim_end_matches(".npy")).into_owned())
                .collect();
            if archive.len() > names.len() {
                names.push("…".to_owned());
            }
            bail!("has no array `{}`; it has: {}", printable_name(&feature.name), names.join(", "));
        }
    };
    let mut file = archive.by_index(index).context("can't be unpacked")?;
    let name =
        file.name().map_or_else(|_| String::new(), |name| printable_name(&name).into_owned());
    from_npy(feature, &mut file, resizing).with_context(|| format!("`{name}`"))
}

/// JSON as the feature's type. Nested lists keep their shape where the feature takes it; otherwise
/// the numbers fill the declared shape in order.
fn from_json(feature: &FeatureDescription, json: &Json, resizing: Resizing) -> Result<Input> {
    let mut array = json::to_array(json)?;
    if let Some(ty) = feature.ty.as_multi_array()
        && !array.shape.is_empty()
        && !ty.allows(&array.shape)
    {
        let numbers = array.elements.len();
        ensure!(count(&ty.shape) == Some(numbers), "{numbers} numbers do not fit into {ty}");
        array.shape.clone_from(&ty.shape);
    }
    of_array(feature, array, "the list", resizing)
}

/// An array as what the feature needs; `kind` is what to call it in errors.
fn of_array(
    feature: &FeatureDescription,
    array: Array,
    kind: &str,
    resizing: Resizing,
) -> Result<Input> {
    let value: FeatureValue = match &feature.ty {
        FeatureType::MultiArray(ty) => tensor(&array, ty, kind)?.into(),
        FeatureType::Image(ty) => {
            let image = images::from_array(&array, kind, ty.color_space)?;
            images::fitted(&image, ty, resizing)?.into()
        }
        FeatureType::Int64 => single(&array, kind, "a whole number of 64 bits", |number| {
            i64::try_from(number.to_integer()?).ok()
        })?
        .into(),
        FeatureType::Double => {
            single(&array, kind, "a number", |number| Some(number.to_f64()))?.into()
        }
        other => bail!("is of type {other}; arrays, images and numbers can be given here"),
    };
    Ok(Input::new(feature, value))
}

impl Input {
    /// A value that is what the feature takes.
    pub fn new(feature: &FeatureDescription, value: impl Into<FeatureValue>) -> Self {
        let value = value.into();
        let (dtype, shape) = match (&value, &feature.ty) {
            (FeatureValue::Tensor(tensor), FeatureType::MultiArray(ty)) => {
                (dtype_name(ty.element), tensor.dims().to_vec())
            }
            (FeatureValue::Image(image), _) => (images::dtype(image).name(), images::shape(image)),
            (FeatureValue::Int64(_), _) => (DType::Int64.name(), Vec::new()),
            _ => (DType::Float64.name(), Vec::new()),
        };
        Input { name: feature.name.clone(), dtype, shape, value }
    }
}

fn dtype_name(element: ArrayElementType) -> &'static str {
    match element {
        ArrayElementType::Float16 => DType::Float16.name(),
        ArrayElementType::Float32 => DType::Float32.name(),
        ArrayElementType::Double => DType::Float64.name(),
        ArrayElementType::Int8 => DType::Int8.name(),
        ArrayElementType::Int32 => DType::Int32.name(),
        other => other.name(),
    }
}

fn tensor(array: &Array, ty: &MultiArrayType, kind: &str) -> Result<Tensor> {
    match ty.element {
        ArrayElementType::Float16 => {
            let narrow = |number: Number| finite(number, f16::from_f64, f16::is_finite);
            fill(array.each(kind, "float16 (up to 65504)", narrow)?, array, ty)
        }
        ArrayElementType::Float32 => {
            let narrow = |number: Number| finite(number, |value| value as f32, f32::is_finite);
            fill(array.each(kind, "float32 (up to 3.4e38)", narrow)?, array, ty)
        }
        ArrayElementType::Double => {
            fill(array.each(kind, "float64", |number| Some(number.to_f64()))?, array, ty)
        }
        ArrayElementType::Int32 => {
            let narrow = |number: Number| i32::try_from(number.to_integer()?).ok();
            let range = "int32 (whole numbers from -2147483648 to 2147483647)";
            fill(array.each(kind, range, narrow)?, array, ty)
        }
        // Candle has no such type; the model narrows them again.
        ArrayElementType::Int8 => {
            let narrow = |number: Number| i8::try_from(number.to_integer()?).ok().map(i32::from);
            fill(array.each(kind, "int8 (whole numbers from -128 to 127)", narrow)?, array, ty)
        }
        other => bail!("numbers can't be made {}", other.name()),
    }
}

/// The float nearest to a number, unless that is too large for it.
fn finite<T: Copy>(
    number: Number,
    narrow: impl Fn(f64) -> T,
    is_finite: impl Fn(T) -> bool,
) -> Option<T> {
    let value = number.to_f64();
    let narrowed = narrow(value);
    (is_finite(narrowed) || !value.is_finite()).then_some(narrowed)
}

/// A tensor of an array's elements; a single number fills the declared shape.
fn fill<T: WithDType>(mut values: Vec<T>, array: &Array, ty: &MultiArrayType) -> Result<Tensor> {
    let mut shape = &array.shape;
    if let (&[value], true) = (&*values, shape.is_empty()) {
        shape = &ty.shape;
        let count = count(shape).context("the input's shape is too large")?;
        values.try_reserve_exact(count).context("the input's shape is too large")?;
        values.resize(count, value);
    }
    Ok(Tensor::from_vec(values, shape.as_slice(), &Device::Cpu)?)
}

/// The only number of an array.
fn single<T>(
    array: &Array,
    kind: &str,
    wanted: &str,
    narrow: impl Fn(Number) -> Option<T>,
) -> Result<T> {
    let count = array.elements.len();
    let number = array.each(kind, wanted, narrow)?.pop().filter(|_| count == 1);
    number.with_context(|| format!("takes {wanted}, and not {count} of them"))
}

#[cfg(test)]
mod tests {
    use candle_coreml::Pixels;
    use candle_coreml::description::{ColorSpace, ImageType, ShapeFlexibility};

    use super::*;

    fn feature(element: ArrayElementType, shape: &[usize]) -> FeatureDescription {
        FeatureDescription::new("x", FeatureType::MultiArray(MultiArrayType::new(element, shape)))
    }

    fn tensor(feature: &FeatureDescription, value: &str) -> Tensor {
        read(feature, value, Resizing::default()).unwrap().value.tensor().unwrap().clone()
    }

    fn error(feature: &FeatureDescription, value: &str) -> String {
        format!("{:#}", read(feature, value, Resizing::default()).unwrap_err())
    }

    #[test]
    fn json_takes_the_declared_shape_and_type() {
        let floats = feature(ArrayElementType::Float32, &[1, 2, 2]);
        for text in ["[[[1, 2], [3, 4.5]]]", "[1, 2, 3, 4.5]", "[[1, 2], [3, 4.5]]"] {
            assert_eq!(tensor(&floats, text).to_vec3::<f32>().unwrap(), [[[1.0, 2.0], [3.0, 4.5]]]);
        }
        assert_eq!(tensor(&floats, "1.5").to_vec3::<f32>().unwrap(), [[[1.5; 2]; 2]]);
        let strange = tensor(&floats, "[NaN, Infinity, -Infinity, 0]");
        let strange = strange.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(strange[0].is_nan());
        assert_eq!(strange[1..], [f32::INFINITY, f32::NEG_INFINITY, 0.0]);
        let integers = feature(ArrayElementType::Int32, &[2]);
        assert_eq!(tensor(&integers, "[true, -7]").to_vec1::<i32>().unwrap(), [1, -7]);
        let mut flexible = MultiArrayType::new(ArrayElementType::Float16, [1]);
        flexible.flexibility = ShapeFlexibility::Ranges(vec![(0, None)]);
        let flexible = FeatureDescription::new("x", FeatureType::MultiArray(flexible));
        assert_eq!(tensor(&flexible, "[1, 2, 3]").dims(), [3]);
        assert_eq!(tensor(&flexible, "[]").dims(), [0]);
    }

    #[test]
    fn values_that_do_not_fit_are_named_with_their_place() {
        let float = "which does not fit into float32 (up to 3.4e38)";
        let cases = [
            (
                ArrayElementType::Float32,
                "[[1], [1e40]]",
                "element [1, 0] of the list is 1e40, ",
                float,
            ),
            (ArrayElementType::Float16, "[[0], [65520]]", "[1, 0] of the list is 65520", "float16"),
            (ArrayElementType::Int32, "[[0], [1.5]]", "[1, 0] of the list is 1.5", "int32"),
            (ArrayElementType::Int32, "[[3e9], [0]]", "[0, 0] of the list is 3000000000", "int32"),
            (ArrayElementType::Int32, "[[NaN], [0]]", "[0, 0] of the list is NaN", "int32"),
            (ArrayElementType::Int8, "[[0], [300]]", "[1, 0] of the list is 300", "-128 to 127"),
            (ArrayElementType::Int8, "300", "the value is 300", "int8"),
        ];
        for (element, text, place, wanted) in cases {
            let message = error(&feature(element, &[2, 1]), text);
            assert!(message.contains(place) && message.contains(wanted), "{text}: {message}");
        }
        // The largest that are rounded to a number of the type.
        let halves = feature(ArrayElementType::Float16, &[1]);
        assert_eq!(tensor(&halves, "65519").to_vec1::<f16>().unwrap(), [f16::MAX]);
    }

    #[test]
    fn what_is_neither_file_nor_fitting_json_is_explained() {
        let feature = feature(ArrayElementType::Int32, &[2]);
        let cases = [
            ("[1, 2, 3]", "3 numbers do not fit"),
            ("[[1], [2, 3]]", "not equally long"),
            ("model", "`model` is no file, and no JSON"),
            ("[1, 2", "`[1, 2` is no file, and no JSON such as [1, 2] (EOF"),
            (&*format!("[{}", "1, ".repeat(10_000)), "…` is no file, and no JSON"),
            ("/", "can't read `/`"),
            ("\u{1b}[2J", r"`\u{1b}[2J` is no file"),
        ];
        for (text, expected) in cases {
            let message = error(&feature, text);
            assert!(message.contains(expected), "{text}: {message}");
        }
    }

    #[test]
    fn images_and_numbers_are_given_as_such() {
        let of = |ty| FeatureDescription::new("x", ty);
        let read = |feature: &_, text| read(feature, text, Resizing::default());
        let rgb = of(FeatureType::Image(ImageType::new(2, 1, ColorSpace::Rgb)));
        let image = |color_space, text| {
            let feature = of(FeatureType::Image(ImageType::new(2, 1, color_space)));
            read(&feature, text).unwrap().value.image().unwrap().pixels().clone()
        };
        let colours = "[[[1, 2, 3], [4, 5, 255]]]";
        assert_eq!(image(ColorSpace::Bgr, colours), Pixels::Rgb(vec![1, 2, 3, 4, 5, 255]));
        assert_eq!(image(ColorSpace::Rgb, "[[7, 8]]"), Pixels::Rgb(vec![7, 7, 7, 8, 8, 8]));
        assert_eq!(image(ColorSpace::Grayscale, "[[7, 8]]"), Pixels::Gray(vec![7, 8]));
        let floats = vec![0.5, -1000.0];
        assert_eq!(
            image(ColorSpace::GrayscaleFloat16, "[[0.5, -1000]]"),
            Pixels::GrayFloat(floats)
        );
        assert!(
            error(&rgb, "[[1], [2]]").contains("is 1 × 2 pixels, and the input takes RGB 2 × 1")
        );
        assert!(error(&rgb, "[[256, 8]]").contains("element [0, 0] of the list is 256"));
        assert!(error(&rgb, "[1, 8]").contains("[height, width, 3]"));
        let number = |ty, text| read(&of(ty), text).unwrap().value;
        assert!(matches!(number(FeatureType::Int64, "[-7]"), FeatureValue::Int64(-7)));
        assert!(matches!(number(FeatureType::Double, "2"), FeatureValue::Double(2.0)));
        assert!(error(&of(FeatureType::Int64), "1.5").contains("1.5"));
        assert!(error(&of(FeatureType::Double), "[1, 2]").contains("not 2 of them"));
        assert!(error(&of(FeatureType::String), "1").contains("is of type String"));
    }
}
