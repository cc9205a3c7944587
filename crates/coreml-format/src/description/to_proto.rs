//! To the messages of `Model.proto` and `FeatureTypes.proto`: the inverse of `from_proto`.

use super::{
    DictionaryKey, FeatureDescription, FeatureType, FunctionDescription, ImageFlexibility,
    ImageType, Metadata, ModelDescription, MultiArrayType, SequenceType, ShapeFlexibility,
};
use crate::proto::feature_types as pb;
use crate::proto::model as pm;

impl ModelDescription {
    /// The message; the specification version stands in the model.
    pub(crate) fn to_proto(&self) -> pm::ModelDescription {
        let described = !self.functions.is_empty();
        let default = if described { self.default_function.clone() } else { String::new() };
        // A model with functions has features there alone.
        let features = |all: &[FeatureDescription]| if described { vec![] } else { features(all) };
        pm::ModelDescription {
            input: features(&self.inputs),
            output: features(&self.outputs),
            predicted_feature_name: self.predicted_feature_name.clone(),
            predicted_probabilities_name: self.predicted_probabilities_name.clone(),
            state: features(&self.states),
            functions: self.functions.iter().map(function).collect(),
            default_function_name: default,
            metadata: Some(metadata(&self.metadata)),
        }
    }
}

fn function(function: &FunctionDescription) -> pm::FunctionDescription {
    pm::FunctionDescription {
        name: function.name.clone(),
        input: features(&function.inputs),
        output: features(&function.outputs),
        predicted_feature_name: function.predicted_feature_name.clone(),
        predicted_probabilities_name: function.predicted_probabilities_name.clone(),
        state: features(&function.states),
    }
}

fn metadata(metadata: &Metadata) -> pm::Metadata {
    pm::Metadata {
        short_description: metadata.short_description.clone(),
        version_string: metadata.version.clone(),
        author: metadata.author.clone(),
        license: metadata.license.clone(),
        user_defined: metadata.user_defined.clone(),
    }
}

fn features(features: &[FeatureDescription]) -> Vec<pm::FeatureDescription> {
    let feature = |feature: &FeatureDescription| pm::FeatureDescription {
        name: feature.name.clone(),
        short_description: feature.short_description.clone(),
        r#type: Some(pb::FeatureType {
            r#type: Some(feature_type(&feature.ty)),
            is_optional: feature.optional,
        }),
    };
    features.iter().map(feature).collect()
}

fn feature_type(ty: &FeatureType) -> pb::FeatureTypeKind {
    use pb::FeatureTypeKind as Kind;
    match ty {
        FeatureType::Int64 => Kind::Int64(pb::Empty {}),
        FeatureType::Double => Kind::Double(pb::Empty {}),
        FeatureType::String => Kind::String(pb::Empty {}),
        FeatureType::Image(image) => Kind::Image(image_type(image)),
        FeatureType::MultiArray(array) => Kind::MultiArray(multi_array(array)),
        FeatureType::Dictionary(key) => Kind::Dictionary(pb::DictionaryFeatureType {
            key_type: Some(match key {
                DictionaryKey::Int64 => pb::KeyTypeKind::Int64(pb::Empty {}),
                DictionaryKey::String => pb::KeyTypeKind::String(pb::Empty {}),
            }),
        }),
        FeatureType::Sequence(sequence) => Kind::Sequence(sequence_type(sequence)),
        FeatureType::State(array) => {
            Kind::State(pb::StateFeatureType { array_type: Some(multi_array(array)) })
        }
    }
}

fn sequence_type(sequence: &SequenceType) -> pb::SequenceFeatureType {
    pb::SequenceFeatureType {
        r#type: Some(match sequence.element {
            DictionaryKey::Int64 => pb::SequenceTypeKind::Int64(pb::Empty {}),
            DictionaryKey::String => pb::SequenceTypeKind::String(pb::Empty {}),
        }),
        size_range: Some(size_range(&sequence.length)),
    }
}

fn multi_array(array: &MultiArrayType) -> pb::ArrayFeatureType {
    let flexibility = match &array.flexibility {
        ShapeFlexibility::Fixed => None,
        ShapeFlexibility::Enumerated(shapes) => {
            let shapes = shapes.iter().map(|shape| pb::Shape { shape: sizes(shape) }).collect();
            Some(pb::ArrayFlexibilityKind::Enumerated(pb::EnumeratedShapes { shapes }))
        }
        ShapeFlexibility::Ranges(ranges) => {
            let size_ranges = ranges.iter().map(size_range).collect();
            Some(pb::ArrayFlexibilityKind::Range(pb::ShapeRange { size_ranges }))
        }
    };
    pb::ArrayFeatureType {
        shape: sizes(&array.shape),
        data_type: array.element.code(),
        flexibility,
        default_value: array.default_value.map(pb::DefaultValueKind::Double),
    }
}

fn image_type(image: &ImageType) -> pb::ImageFeatureType {
    let flexibility = match &image.flexibility {
        ImageFlexibility::Fixed => None,
        ImageFlexibility::Enumerated(sizes) => {
            let size = |&(width, height): &(usize, usize)| pb::ImageSize {
                width: width as u64,
                height: height as u64,
            };
            let sizes = sizes.iter().map(size).collect();
            Some(pb::ImageFlexibilityKind::Enumerated(pb::EnumeratedImageSizes { sizes }))
        }
        ImageFlexibility::Ranges { width, height } => {
            Some(pb::ImageFlexibilityKind::Range(pb::ImageSizeRange {
                width_range: Some(size_range(width)),
                height_range: Some(size_range(height)),
            }))
        }
    };
    pb::ImageFeatureType {
        width: image.width as i64,
        height: image.height as i64,
        flexibility,
        color_space: image.color_space.code(),
    }
}

fn size_range(&(smallest, largest): &(usize, Option<usize>)) -> pb::SizeRange {
    pb::SizeRange {
        lower_bound: smallest as u64,
        upper_bound: largest.map_or(-1, |largest| i64::try_from(largest).unwrap_or(i64::MAX)),
    }
}

fn sizes(shape: &[usize]) -> Vec<i64> {
    shape.iter().map(|&size| i64::try_from(size).unwrap_or(i64::MAX)).collect()
}
