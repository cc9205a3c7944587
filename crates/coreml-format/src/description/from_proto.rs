//! From the messages of `Model.proto` and `FeatureTypes.proto`.

use super::{
    ArrayElementType, ColorSpace, DictionaryKey, FeatureDescription, FeatureType,
    FunctionDescription, ImageFlexibility, ImageType, MAIN, Metadata, ModelDescription,
    MultiArrayType, SequenceType, ShapeFlexibility,
};
use crate::FormatError;
use crate::proto::feature_types as pb;
use crate::proto::model as pm;

impl ModelDescription {
    /// From the message; a missing message gives an empty interface.
    pub(crate) fn from_proto(
        specification_version: i32,
        message: pm::ModelDescription,
    ) -> Result<Self, FormatError> {
        let default_function = match message.default_function_name {
            name if name.is_empty() => MAIN.to_owned(),
            name => name,
        };
        Ok(ModelDescription {
            specification_version,
            inputs: features(message.input)?,
            outputs: features(message.output)?,
            states: features(message.state)?,
            functions: message.functions.into_iter().map(function).collect::<Result<_, _>>()?,
            default_function,
            metadata: message.metadata.map(metadata).unwrap_or_default(),
            predicted_feature_name: message.predicted_feature_name,
            predicted_probabilities_name: message.predicted_probabilities_name,
        })
    }
}

fn function(message: pm::FunctionDescription) -> Result<FunctionDescription, FormatError> {
    let place = format!("function `{}`", message.name);
    let within = |error: FormatError| error.within(&place);
    Ok(FunctionDescription {
        inputs: features(message.input).map_err(within)?,
        outputs: features(message.output).map_err(within)?,
        states: features(message.state).map_err(within)?,
        name: message.name,
        predicted_feature_name: message.predicted_feature_name,
        predicted_probabilities_name: message.predicted_probabilities_name,
    })
}

fn metadata(message: pm::Metadata) -> Metadata {
    Metadata {
        short_description: message.short_description,
        version: message.version_string,
        author: message.author,
        license: message.license,
        user_defined: message.user_defined,
    }
}

fn features(messages: Vec<pm::FeatureDescription>) -> Result<Vec<FeatureDescription>, FormatError> {
    messages.into_iter().map(feature).collect()
}

fn feature(message: pm::FeatureDescription) -> Result<FeatureDescription, FormatError> {
    let place = format!("feature `{}`", message.name);
    let (optional, kind) = match message.r#type {
        Some(ty) => (ty.is_optional, ty.r#type),
        None => (false, None),
    };
    let kind = kind.ok_or_else(|| FormatError::field(&place, "has no type"))?;
    let ty = feature_type(kind).map_err(|message| FormatError::field(&place, message))?;
    Ok(FeatureDescription {
        name: message.name,
        short_description: message.short_description,
        optional,
        ty,
    })
}

fn feature_type(kind: pb::FeatureTypeKind) -> Result<FeatureType, String> {
    use pb::FeatureTypeKind as Kind;
    Ok(match kind {
        Kind::Int64(_) => FeatureType::Int64,
        Kind::Double(_) => FeatureType::Double,
        Kind::String(_) => FeatureType::String,
        Kind::Image(image) => FeatureType::Image(image_type(image)?),
        Kind::MultiArray(array) => FeatureType::MultiArray(multi_array(array)?),
        Kind::Dictionary(dictionary) => FeatureType::Dictionary(match dictionary.key_type {
            Some(pb::KeyTypeKind::Int64(_)) => DictionaryKey::Int64,
            Some(pb::KeyTypeKind::String(_)) => DictionaryKey::String,
            None => return Err("dictionary has no key type".into()),
        }),
        Kind::Sequence(sequence) => FeatureType::Sequence(sequence_type(sequence)?),
        Kind::State(state) => {
            FeatureType::State(multi_array(state.array_type.ok_or("state has no array type")?)?)
        }
    })
}

fn sequence_type(message: pb::SequenceFeatureType) -> Result<SequenceType, String> {
    let element = match message.r#type {
        Some(pb::SequenceTypeKind::Int64(_)) => DictionaryKey::Int64,
        Some(pb::SequenceTypeKind::String(_)) => DictionaryKey::String,
        None => return Err("sequence has no element type".into()),
    };
    let length = message.size_range.map_or(Ok((0, None)), |range| size_range(&range))?;
    Ok(SequenceType { element, length })
}

fn multi_array(message: pb::ArrayFeatureType) -> Result<MultiArrayType, String> {
    let element = match message.data_type {
        // Not stated, as between the stages of classic pipelines, which compute in doubles.
        0 => ArrayElementType::Double,
        code => ArrayElementType::from_code(code)
            .ok_or_else(|| format!("unknown multi-array data type code {code}"))?,
    };
    let flexibility = match message.flexibility {
        None => ShapeFlexibility::Fixed,
        Some(pb::ArrayFlexibilityKind::Enumerated(list)) => ShapeFlexibility::Enumerated(
            list.shapes.iter().map(|shape| sizes(&shape.shape)).collect::<Result<_, _>>()?,
        ),
        Some(pb::ArrayFlexibilityKind::Range(range)) => ShapeFlexibility::Ranges(
            range.size_ranges.iter().map(size_range).collect::<Result<_, _>>()?,
        ),
    };
    let default_value = message.default_value.map(|value| match value {
        pb::DefaultValueKind::Int(value) => f64::from(value),
        pb::DefaultValueKind::Float(value) => f64::from(value),
        pb::DefaultValueKind::Double(value) => value,
    });
    Ok(MultiArrayType { element, shape: sizes(&message.shape)?, flexibility, default_value })
}

fn image_type(message: pb::ImageFeatureType) -> Result<ImageType, String> {
    let color_space = ColorSpace::from_code(message.color_space)
        .ok_or_else(|| format!("unknown colour space code {}", message.color_space))?;
    let flexibility = match message.flexibility {
        None => ImageFlexibility::Fixed,
        Some(pb::ImageFlexibilityKind::Enumerated(list)) => ImageFlexibility::Enumerated(
            list.sizes
                .iter()
                .map(|size| Ok((unsigned(size.width)?, unsigned(size.height)?)))
                .collect::<Result<_, String>>()?,
        ),
        Some(pb::ImageFlexibilityKind::Range(range)) => ImageFlexibility::Ranges {
            width: size_range(&range.width_range.unwrap_or_default())?,
            height: size_range(&range.height_range.unwrap_or_default())?,
        },
    };
    Ok(ImageType {
        width: size(message.width)?,
        height: size(message.height)?,
        color_space,
        flexibility,
    })
}

fn size_range(range: &pb::SizeRange) -> Result<(usize, Option<usize>), String> {
    let smallest = unsigned(range.lower_bound)?;
    Ok((smallest, usize::try_from(range.upper_bound).ok()))
}

fn sizes(values: &[i64]) -> Result<Vec<usize>, String> {
    values.iter().map(|&value| size(value)).collect()
}

fn size(value: i64) -> Result<usize, String> {
    usize::try_from(value).map_err(|_| format!("{value} is not a size"))
}

fn unsigned(value: u64) -> Result<usize, String> {
    usize::try_from(value).map_err(|_| format!("{value} is not a size"))
}
