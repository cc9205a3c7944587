//! What a model takes and gives: features, states, functions and metadata, as in
//! `ModelDescription` of `Model.proto` and the feature types of `FeatureTypes.proto`.

mod display;
mod from_metadata_json;
mod from_program;
mod from_proto;
mod shapes;
mod to_proto;

use std::collections::BTreeMap;

use serde::Serialize;

pub use shapes::{ImageFlexibility, ShapeFlexibility, ShapeMismatch};

pub(crate) use display::range_text;
pub(crate) use from_metadata_json::CompiledMetadata;
pub(crate) use from_program::specification_version;

/// Name of the function that runs when the model names no default.
pub(crate) const MAIN: &str = "main";

/// A model's interface.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ModelDescription {
    /// Version of the format: 6 for iOS 15 to 10 for iOS 26 among ML Programs; 0 when not stated.
    pub specification_version: i32,
    /// Inputs of a model without [`functions`](Self::functions).
    pub inputs: Vec<FeatureDescription>,
    /// Outputs of a model without functions.
    pub outputs: Vec<FeatureDescription>,
    /// States of a model without functions.
    pub states: Vec<FeatureDescription>,
    /// The functions of a multi-function model; empty for a model with a single function.
    pub functions: Vec<FunctionDescription>,
    /// The function that runs unless another is asked for; `main` when the model names none.
    pub default_function: String,
    /// Who made the model, and so on.
    pub metadata: Metadata,
    /// Output with a classifier's predicted class; empty for other models.
    pub predicted_feature_name: String,
    /// Output with a classifier's probabilities by class; empty for other models.
    pub predicted_probabilities_name: String,
}

impl ModelDescription {
    /// The interface of a function: one of [`functions`](Self::functions), or, for a model without
    /// them, the model's own interface under the name of the default function.
    pub fn function(&self, name: &str) -> Option<FunctionDescription> {
        if !self.functions.is_empty() {
            return self.functions.iter().find(|function| function.name == name).cloned();
        }
        (name == self.default_function).then(|| FunctionDescription {
            name: name.to_owned(),
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
            states: self.states.clone(),
            predicted_feature_name: self.predicted_feature_name.clone(),
            predicted_probabilities_name: self.predicted_probabilities_name.clone(),
        })
    }
}

/// One function's interface.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct FunctionDescription {
    /// The function's name.
    pub name: String,
    /// Inputs in the order of the file.
    pub inputs: Vec<FeatureDescription>,
    /// Outputs in the order of the file.
    pub outputs: Vec<FeatureDescription>,
    /// States in the order of the file.
    pub states: Vec<FeatureDescription>,
    /// Output with a classifier's predicted class; empty for other functions.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub predicted_feature_name: String,
    /// Output with a classifier's probabilities by class; empty for other functions.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub predicted_probabilities_name: String,
}

impl FunctionDescription {
    /// A function without inputs, outputs and states.
    pub fn new(name: impl Into<String>) -> Self {
        FunctionDescription { name: name.into(), ..Default::default() }
    }
}

/// Free text about a model.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)] // each field holds what its name says
#[non_exhaustive]
pub struct Metadata {
    pub short_description: String,
    pub version: String,
    pub author: String,
    pub license: String,
    /// The author's own keys, e.g. `com.github.apple.coremltools.version`.
    pub user_defined: BTreeMap<String, String>,
}

/// A named input, output or state.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct FeatureDescription {
    /// The feature's name.
    pub name: String,
    /// Free text about it.
    pub short_description: String,
    /// True for an input that may be left out.
    pub optional: bool,
    /// Its type.
    pub ty: FeatureType,
}

impl FeatureDescription {
    /// A feature that may not be left out, without text about it.
    pub fn new(name: impl Into<String>, ty: FeatureType) -> Self {
        let short_description = String::new();
        FeatureDescription { name: name.into(), short_description, optional: false, ty }
    }
}

/// Type of a feature.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub enum FeatureType {
    /// A tensor.
    MultiArray(MultiArrayType),
    /// An image.
    Image(ImageType),
    /// A dictionary from keys of this type to numbers.
    Dictionary(DictionaryKey),
    /// A string.
    String,
    /// A 64-bit integer.
    Int64,
    /// A 64-bit float.
    Double,
    /// A sequence of integers or strings.
    Sequence(SequenceType),
    /// A tensor that lives between predictions.
    State(MultiArrayType),
}

impl FeatureType {
    /// The tensor type of a multi-array or a state.
    pub fn as_multi_array(&self) -> Option<&MultiArrayType> {
        match self {
            FeatureType::MultiArray(array) | FeatureType::State(array) => Some(array),
            _ => None,
        }
    }
}

/// Type of a dictionary's keys, or of a sequence's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum DictionaryKey {
    /// 64-bit integers.
    Int64,
    /// Strings.
    String,
}

/// Type of a sequence.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SequenceType {
    /// Type of the elements.
    pub element: DictionaryKey,
    /// Fewest and most elements; no most when unbounded.
    pub length: (usize, Option<usize>),
}

impl SequenceType {
    /// Sequences of any length.
    pub fn new(element: DictionaryKey) -> Self {
        SequenceType { element, length: (0, None) }
    }
}

/// Element type of a multi-array (`ArrayFeatureType.ArrayDataType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[allow(missing_docs)] // each variant is the type that its name says
#[non_exhaustive]
pub enum ArrayElementType {
    Float16,
    Float32,
    Double,
    Int8,
    Int32,
}

/// Element types with their codes in `ArrayDataType` and their names in `metadata.json`.
const ARRAY_ELEMENT_TYPES: &[(ArrayElementType, i32, &str)] = &[
    (ArrayElementType::Float16, 0x10010, "Float16"),
    (ArrayElementType::Float32, 0x10020, "Float32"),
    (ArrayElementType::Double, 0x10040, "Double"),
    (ArrayElementType::Int8, 0x20008, "Int8"),
    (ArrayElementType::Int32, 0x20020, "Int32"),
];

impl ArrayElementType {
    fn code(self) -> i32 {
        ARRAY_ELEMENT_TYPES.iter().find(|row| row.0 == self).map_or(0, |row| row.1)
    }

    fn from_code(code: i32) -> Option<Self> {
        ARRAY_ELEMENT_TYPES.iter().find(|row| row.1 == code).map(|row| row.0)
    }

    fn from_name(name: &str) -> Option<Self> {
        ARRAY_ELEMENT_TYPES.iter().find(|row| row.2 == name).map(|row| row.0)
    }

    /// Name, e.g. `Float16`.
    pub fn name(self) -> &'static str {
        ARRAY_ELEMENT_TYPES.iter().find(|row| row.0 == self).map_or("", |row| row.2)
    }
}

/// Type of a multi-array.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct MultiArrayType {
    /// Type of the elements.
    pub element: ArrayElementType,
    /// The shape, the default one when there are several. Empty when the model does not state a
    /// shape, as converters leave it for outputs whose shape depends on the inputs.
    pub shape: Vec<usize>,
    /// What other shapes there may be.
    pub flexibility: ShapeFlexibility,
    /// The value that fills an optional input when it is left out.
    pub default_value: Option<f64>,
}

impl MultiArrayType {
    /// Arrays of this shape alone.
    pub fn new(element: ArrayElementType, shape: impl Into<Vec<usize>>) -> Self {
        let flexibility = ShapeFlexibility::Fixed;
        MultiArrayType { element, shape: shape.into(), flexibility, default_value: None }
    }
}

/// Type of an image.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ImageType {
    /// Width in pixels, the default one when there are several.
    pub width: usize,
    /// Height in pixels, the default one when there are several.
    pub height: usize,
    /// Pixel format.
    pub color_space: ColorSpace,
    /// What other sizes there may be.
    pub flexibility: ImageFlexibility,
}

/// Pixel format of an image (`ImageFeatureType.ColorSpace`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum ColorSpace {
    /// 8 bits per pixel.
    Grayscale,
    /// 32 bits per pixel, the last 8 ignored.
    Rgb,
    /// 32 bits per pixel, the last 8 ignored.
    Bgr,
    /// One 16-bit float per pixel.
    GrayscaleFloat16,
}

/// Pixel formats with their codes in the schema and their names in `metadata.json`.
const COLOR_SPACES: &[(ColorSpace, i32, &str)] = &[
    (ColorSpace::Grayscale, 10, "Grayscale"),
    (ColorSpace::Rgb, 20, "RGB"),
    (ColorSpace::Bgr, 30, "BGR"),
    (ColorSpace::GrayscaleFloat16, 40, "Grayscale16Half"),
];

impl ColorSpace {
    fn code(self) -> i32 {
        COLOR_SPACES.iter().find(|row| row.0 == self).map_or(0, |row| row.1)
    }

    fn from_code(code: i32) -> Option<Self> {
        COLOR_SPACES.iter().find(|row| row.1 == code).map(|row| row.0)
    }

    fn from_name(name: &str) -> Option<Self> {
        COLOR_SPACES.iter().find(|row| row.2.eq_ignore_ascii_case(name)).map(|row| row.0)
    }

    /// Name, e.g. `RGB`.
    pub fn name(self) -> &'static str {
        COLOR_SPACES.iter().find(|row| row.0 == self).map_or("", |row| row.2)
    }
}

impl ImageType {
    /// Images of this size alone.
    pub fn new(width: usize, height: usize, color_space: ColorSpace) -> Self {
        ImageType { width, height, color_space, flexibility: ImageFlexibility::Fixed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(shape: &[usize], flexibility: ShapeFlexibility) -> MultiArrayType {
        MultiArrayType {
            element: ArrayElementType::Float32,
            shape: shape.to_vec(),
            flexibility,
            default_value: None,
        }
    }

    #[test]
    fn display_reads_well() {
        let ranges = array(&[1, 2], ShapeFlexibility::Ranges(vec![(1, Some(1)), (2, None)]));
        assert_eq!(ranges.to_string(), "Float32 [1, 2] (1 × 2...)");
        let listed = array(&[1, 1], ShapeFlexibility::Enumerated(vec![vec![1, 1], vec![1, 64]]));
        assert_eq!(listed.to_string(), "Float32 [1, 1] (one of [1, 1], [1, 64])");
        assert_eq!(array(&[], ShapeFlexibility::Fixed).to_string(), "Float32 (any shape)");
        let state = FeatureType::State(array(&[8, 2], ShapeFlexibility::Fixed));
        assert_eq!(state.to_string(), "State Float32 [8, 2]");
    }

    #[test]
    fn a_model_without_functions_has_its_default_one() {
        let description =
            ModelDescription { default_function: MAIN.to_owned(), ..ModelDescription::default() };
        assert_eq!(description.function("main").map(|f| f.name).as_deref(), Some("main"));
        assert_eq!(description.function("infer"), None);
    }
}
