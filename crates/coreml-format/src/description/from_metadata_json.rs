//! From `metadata.json` of a compiled model, a list with one entry per model. Sizes stand there as
//! strings: `"[1, 64]"`, `"[[1, 1], [1, 64]]"`; flags as `"0"` and `"1"`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value as Json;

use super::{
    ArrayElementType, ColorSpace, DictionaryKey, FeatureDescription, FeatureType,
    FunctionDescription, ImageFlexibility, ImageType, MAIN, Metadata, ModelDescription,
    MultiArrayType, SequenceType, ShapeFlexibility,
};
use crate::FormatError;
use crate::proto::model::known_kind;

/// One entry of `metadata.json`. Fields that the compiler left out are empty.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct CompiledMetadata {
    specification_version: i32,
    short_description: String,
    version: String,
    author: String,
    license: String,
    user_defined_metadata: BTreeMap<String, Json>,
    input_schema: Vec<Feature>,
    output_schema: Vec<Feature>,
    state_schema: Vec<Feature>,
    functions: Vec<FunctionSchema>,
    default_function_name: String,
    predicted_feature_name: String,
    model_type: ModelType,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ModelType {
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct FunctionSchema {
    name: String,
    input_schema: Vec<Feature>,
    output_schema: Vec<Feature>,
    state_schema: Vec<Feature>,
    predicted_feature_name: String,
    predicted_probabilities_name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Feature {
    name: String,
    short_description: String,
    r#type: String,
    is_optional: Json,
    data_type: String,
    shape: String,
    enumerated_shapes: String,
    shape_range: String,
    width: Json,
    height: Json,
    colorspace: String,
    enumerated_sizes: String,
    size_range: String,
    key_type: String,
}

impl CompiledMetadata {
    /// From the file's bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let broken = |message: String| FormatError::field("metadata.json", message);
        let entries: Vec<CompiledMetadata> =
            serde_json::from_slice(bytes).map_err(|e| broken(e.to_string()).caused_by(e))?;
        entries.into_iter().next().ok_or_else(|| broken("the list is empty".into()))
    }

    /// The model's kind as in `Model.proto`, e.g. `mlProgram`, if it states one that is known there.
    pub fn model_kind(&self) -> Option<&'static str> {
        let name = self.model_type.name.as_str();
        known_kind(name.strip_prefix("MLModelType_").unwrap_or(name))
    }

    /// The whole description.
    pub fn description(&self) -> Result<ModelDescription, FormatError> {
        let default_function = match self.default_function_name.as_str() {
            "" => MAIN,
            name => name,
        };
        Ok(ModelDescription {
            specification_version: self.specification_version,
            inputs: features(&self.input_schema)?,
            outputs: features(&self.output_schema)?,
            states: features(&self.state_schema)?,
            functions: self.functions.iter().map(function).collect::<Result<_, _>>()?,
            default_function: default_function.to_owned(),
            metadata: self.metadata(),
            predicted_feature_name: self.predicted_feature_name.clone(),
            predicted_probabilities_name: String::new(),
        })
    }

    fn metadata(&self) -> Metadata {
        let user_defined = self
            .user_defined_metadata
            .iter()
            .map(|(key, value)| (key.clone(), text(value)))
            .collect();
        Metadata {
            short_description: self.short_description.clone(),
            version: self.version.clone(),
            author: self.author.clone(),
            license: self.license.clone(),
            user_defined,
        }
    }
}

fn function(schema: &FunctionSchema) -> Result<FunctionDescription, FormatError> {
    let place = format!("function `{}`", schema.name);
    let within = |error: FormatError| error.within(&place);
    Ok(FunctionDescription {
        name: schema.name.clone(),
        inputs: features(&schema.input_schema).map_err(within)?,
        outputs: features(&schema.output_schema).map_err(within)?,
        states: features(&schema.state_schema).map_err(within)?,
        predicted_feature_name: schema.predicted_feature_name.clone(),
        predicted_probabilities_name: schema.predicted_probabilities_name.clone(),
    })
}

fn features(schemas: &[Feature]) -> Result<Vec<FeatureDescription>, FormatError> {
    schemas.iter().map(feature).collect()
}

fn feature(schema: &Feature) -> Result<FeatureDescription, FormatError> {
    let place = || format!("metadata.json, feature `{}`", schema.name);
    let ty = feature_type(schema).map_err(|message| FormatError::field(place(), message))?;
    Ok(FeatureDescription {
        name: schema.name.clone(),
        short_description: schema.short_description.clone(),
        optional: text(&schema.is_optional) == "1" || schema.is_optional == Json::Bool(true),
        ty,
    })
}

fn feature_type(schema: &Feature) -> Result<FeatureType, String> {
    Ok(match schema.r#type.as_str() {
        "MultiArray" => FeatureType::MultiArray(multi_array(schema)?),
        "State" => FeatureType::State(multi_array(schema)?),
        "Image" => FeatureType::Image(image(schema)?),
        "Dictionary" => FeatureType::Dictionary(key_type(&schema.key_type)?),
        "Sequence" => FeatureType::Sequence(SequenceType {
            element: key_type(&schema.data_type)?,
            length: (0, None),
        }),
        "String" => FeatureType::String,
        "Int64" => FeatureType::Int64,
        "Double" => FeatureType::Double,
        other => return Err(format!("unknown feature type `{other}`")),
    })
}

fn key_type(name: &str) -> Result<DictionaryKey, String> {
    match name {
        "Int64" => Ok(DictionaryKey::Int64),
        "String" => Ok(DictionaryKey::String),
        other => Err(format!("expected `Int64` or `String`, got `{other}`")),
    }
}

fn multi_array(schema: &Feature) -> Result<MultiArrayType, String> {
    let element = ArrayElementType::from_name(&schema.data_type)
        .ok_or_else(|| format!("unknown multi-array data type `{}`", schema.data_type))?;
    let flexibility = if !schema.enumerated_shapes.is_empty() {
        ShapeFlexibility::Enumerated(list("enumeratedShapes", &schema.enumerated_shapes)?)
    } else if !schema.shape_range.is_empty() {
        ShapeFlexibility::Ranges(ranges("shapeRange", &schema.shape_range)?)
    } else {
        ShapeFlexibility::Fixed
    };
    let shape = if schema.shape.is_empty() { Vec::new() } else { list("shape", &schema.shape)? };
    Ok(MultiArrayType { element, shape, flexibility, default_value: None })
}

fn image(schema: &Feature) -> Result<ImageType, String> {
    let color_space = ColorSpace::from_name(&schema.colorspace)
        .ok_or_else(|| format!("unknown colour space `{}`", schema.colorspace))?;
    let flexibility = if !schema.enumerated_sizes.is_empty() {
        ImageFlexibility::Enumerated(list("enumeratedSizes", &schema.enumerated_sizes)?)
    } else if !schema.size_range.is_empty() {
        match ranges("sizeRange", &schema.size_range)?.as_slice() {
            &[width, height] => ImageFlexibility::Ranges { width, height },
            other => return Err(format!("`sizeRange` has {} ranges instead of 2", other.len())),
        }
    } else {
        ImageFlexibility::Fixed
    };
    Ok(ImageType {
        width: number("width", &schema.width)?,
        height: number("height", &schema.height)?,
        color_space,
        flexibility,
    })
}

/// Ranges as pairs, where a negative upper bound stands for none.
fn ranges(field: &str, text: &str) -> Result<Vec<(usize, Option<usize>)>, String> {
    let pairs: Vec<(usize, i64)> = list(field, text)?;
    Ok(pairs.into_iter().map(|(low, high)| (low, usize::try_from(high).ok())).collect())
}

fn list<T: serde::de::DeserializeOwned>(field: &str, text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| format!("`{field}` is `{text}`: {error}"))
}

fn number(field: &str, value: &Json) -> Result<usize, String> {
    text(value).parse().map_err(|_| format!("`{field}` is `{value}`, which is not a size"))
}

/// A string without its quotes, anything else as JSON.
fn text(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
