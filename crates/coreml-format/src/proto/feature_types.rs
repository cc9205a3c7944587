//! `FeatureTypes.proto`.

use prost::{Message, Oneof};

#[derive(Clone, PartialEq, Message)]
pub struct FeatureType {
    #[prost(oneof = "FeatureTypeKind", tags = "1, 2, 3, 4, 5, 6, 7, 8")]
    pub r#type: Option<FeatureTypeKind>,
    #[prost(bool, tag = "1000")]
    pub is_optional: bool,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum FeatureTypeKind {
    #[prost(message, tag = "1")]
    Int64(Empty),
    #[prost(message, tag = "2")]
    Double(Empty),
    #[prost(message, tag = "3")]
    String(Empty),
    #[prost(message, tag = "4")]
    Image(ImageFeatureType),
    #[prost(message, tag = "5")]
    MultiArray(ArrayFeatureType),
    #[prost(message, tag = "6")]
    Dictionary(DictionaryFeatureType),
    #[prost(message, tag = "7")]
    Sequence(SequenceFeatureType),
    #[prost(message, tag = "8")]
    State(StateFeatureType),
}

/// `Int64FeatureType`, `DoubleFeatureType` and `StringFeatureType`, which have no fields.
#[derive(Clone, PartialEq, Message)]
pub struct Empty {}

#[derive(Clone, PartialEq, Message)]
pub struct SizeRange {
    #[prost(uint64, tag = "1")]
    pub lower_bound: u64,
    /// Included in the range; negative for no bound.
    #[prost(int64, tag = "2")]
    pub upper_bound: i64,
}

#[derive(Clone, PartialEq, Message)]
pub struct ImageFeatureType {
    #[prost(int64, tag = "1")]
    pub width: i64,
    #[prost(int64, tag = "2")]
    pub height: i64,
    #[prost(oneof = "ImageFlexibilityKind", tags = "21, 31")]
    pub flexibility: Option<ImageFlexibilityKind>,
    #[prost(int32, tag = "3")]
    pub color_space: i32,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum ImageFlexibilityKind {
    #[prost(message, tag = "21")]
    Enumerated(EnumeratedImageSizes),
    #[prost(message, tag = "31")]
    Range(ImageSizeRange),
}

#[derive(Clone, PartialEq, Message)]
pub struct ImageSize {
    #[prost(uint64, tag = "1")]
    pub width: u64,
    #[prost(uint64, tag = "2")]
    pub height: u64,
}

#[derive(Clone, PartialEq, Message)]
pub struct EnumeratedImageSizes {
    #[prost(message, repeated, tag = "1")]
    pub sizes: Vec<ImageSize>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ImageSizeRange {
    #[prost(message, optional, tag = "1")]
    pub width_range: Option<SizeRange>,
    #[prost(message, optional, tag = "2")]
    pub height_range: Option<SizeRange>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ArrayFeatureType {
    #[prost(int64, repeated, tag = "1")]
    pub shape: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub data_type: i32,
    #[prost(oneof = "ArrayFlexibilityKind", tags = "21, 31")]
    pub flexibility: Option<ArrayFlexibilityKind>,
    #[prost(oneof = "DefaultValueKind", tags = "41, 51, 61")]
    pub default_value: Option<DefaultValueKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum ArrayFlexibilityKind {
    #[prost(message, tag = "21")]
    Enumerated(EnumeratedShapes),
    #[prost(message, tag = "31")]
    Range(ShapeRange),
}

#[derive(Clone, PartialEq, Oneof)]
pub enum DefaultValueKind {
    #[prost(int32, tag = "41")]
    Int(i32),
    #[prost(float, tag = "51")]
    Float(f32),
    #[prost(double, tag = "61")]
    Double(f64),
}

#[derive(Clone, PartialEq, Message)]
pub struct Shape {
    #[prost(int64, repeated, tag = "1")]
    pub shape: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub struct EnumeratedShapes {
    #[prost(message, repeated, tag = "1")]
    pub shapes: Vec<Shape>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ShapeRange {
    #[prost(message, repeated, tag = "1")]
    pub size_ranges: Vec<SizeRange>,
}

#[derive(Clone, PartialEq, Message)]
pub struct DictionaryFeatureType {
    #[prost(oneof = "KeyTypeKind", tags = "1, 2")]
    pub key_type: Option<KeyTypeKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum KeyTypeKind {
    #[prost(message, tag = "1")]
    Int64(Empty),
    #[prost(message, tag = "2")]
    String(Empty),
}

#[derive(Clone, PartialEq, Message)]
pub struct SequenceFeatureType {
    #[prost(oneof = "SequenceTypeKind", tags = "1, 3")]
    pub r#type: Option<SequenceTypeKind>,
    #[prost(message, optional, tag = "101")]
    pub size_range: Option<SizeRange>,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum SequenceTypeKind {
    #[prost(message, tag = "1")]
    Int64(Empty),
    #[prost(message, tag = "3")]
    String(Empty),
}

/// The only member of `StateFeatureType`'s oneof is an array.
#[derive(Clone, PartialEq, Message)]
pub struct StateFeatureType {
    #[prost(message, optional, tag = "1")]
    pub array_type: Option<ArrayFeatureType>,
}
