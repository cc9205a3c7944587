//! `Model.proto`, with the model kinds that are only told apart, not read.

use std::collections::BTreeMap;

use prost::Message;

use super::feature_types::FeatureType;
use super::mil::Program;
use super::wire::fields;
use crate::FormatError;

#[derive(Clone, PartialEq, Message)]
pub struct Model {
    #[prost(int32, tag = "1")]
    pub specification_version: i32,
    #[prost(message, optional, tag = "2")]
    pub description: Option<ModelDescription>,
    #[prost(bool, tag = "10")]
    pub is_updatable: bool,
    #[prost(message, optional, tag = "502")]
    pub ml_program: Option<Program>,
}

/// A `Model` with an ML Program as it is written: its description is encoded already.
#[derive(Clone, PartialEq, Message)]
pub struct WrittenModel {
    #[prost(int32, tag = "1")]
    pub specification_version: i32,
    #[prost(bytes = "vec", tag = "2")]
    pub description: Vec<u8>,
    #[prost(message, optional, tag = "502")]
    pub ml_program: Option<Program>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ModelDescription {
    #[prost(message, repeated, tag = "1")]
    pub input: Vec<FeatureDescription>,
    #[prost(message, repeated, tag = "10")]
    pub output: Vec<FeatureDescription>,
    #[prost(string, tag = "11")]
    pub predicted_feature_name: String,
    #[prost(string, tag = "12")]
    pub predicted_probabilities_name: String,
    #[prost(message, repeated, tag = "13")]
    pub state: Vec<FeatureDescription>,
    #[prost(message, repeated, tag = "20")]
    pub functions: Vec<FunctionDescription>,
    #[prost(string, tag = "21")]
    pub default_function_name: String,
    #[prost(message, optional, tag = "100")]
    pub metadata: Option<Metadata>,
}

#[derive(Clone, PartialEq, Message)]
pub struct FunctionDescription {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, repeated, tag = "2")]
    pub input: Vec<FeatureDescription>,
    #[prost(message, repeated, tag = "3")]
    pub output: Vec<FeatureDescription>,
    #[prost(string, tag = "4")]
    pub predicted_feature_name: String,
    #[prost(string, tag = "5")]
    pub predicted_probabilities_name: String,
    #[prost(message, repeated, tag = "6")]
    pub state: Vec<FeatureDescription>,
}

#[derive(Clone, PartialEq, Message)]
pub struct FeatureDescription {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub short_description: String,
    #[prost(message, optional, tag = "3")]
    pub r#type: Option<FeatureType>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Metadata {
    #[prost(string, tag = "1")]
    pub short_description: String,
    #[prost(string, tag = "2")]
    pub version_string: String,
    #[prost(string, tag = "3")]
    pub author: String,
    #[prost(string, tag = "4")]
    pub license: String,
    #[prost(btree_map = "string, string", tag = "100")]
    pub user_defined: BTreeMap<String, String>,
}

/// Name of the one kind of model that has a program.
pub const ML_PROGRAM: &str = "mlProgram";

/// Number of that kind in `Model`.
pub const ML_PROGRAM_NUMBER: u32 = 502;

/// Members of `Model`'s oneof `Type`: field number, name.
const MODEL_KINDS: &[(u32, &str)] = &[
    (200, "pipelineClassifier"),
    (201, "pipelineRegressor"),
    (202, "pipeline"),
    (300, "glmRegressor"),
    (301, "supportVectorRegressor"),
    (302, "treeEnsembleRegressor"),
    (303, "neuralNetworkRegressor"),
    (304, "bayesianProbitRegressor"),
    (400, "glmClassifier"),
    (401, "supportVectorClassifier"),
    (402, "treeEnsembleClassifier"),
    (403, "neuralNetworkClassifier"),
    (404, "kNearestNeighborsClassifier"),
    (500, "neuralNetwork"),
    (501, "itemSimilarityRecommender"),
    (ML_PROGRAM_NUMBER, ML_PROGRAM),
    (555, "customModel"),
    (556, "linkedModel"),
    (560, "classConfidenceThresholding"),
    (600, "oneHotEncoder"),
    (601, "imputer"),
    (602, "featureVectorizer"),
    (603, "dictVectorizer"),
    (604, "scaler"),
    (606, "categoricalMapping"),
    (607, "normalizer"),
    (609, "arrayFeatureExtractor"),
    (610, "nonMaximumSuppression"),
    (900, "identity"),
    (2000, "textClassifier"),
    (2001, "wordTagger"),
    (2002, "visionFeaturePrint"),
    (2003, "soundAnalysisPreprocessing"),
    (2004, "gazetteer"),
    (2005, "wordEmbedding"),
    (2006, "audioFeaturePrint"),
    (3000, "serializedModel"),
];

/// Name of the model kind with this field number.
pub fn kind_name(tag: u32) -> Option<&'static str> {
    MODEL_KINDS.iter().find(|row| row.0 == tag).map(|row| row.1)
}

/// A name of a model kind, if it is one.
pub fn known_kind(name: &str) -> Option<&'static str> {
    MODEL_KINDS.iter().find(|row| row.1 == name).map(|row| row.1)
}

/// Number and bytes of the body of a serialized `Model`: the last member of the oneof on the wire, as
/// protobuf has it; number 0 and no bytes when there is none.
///
/// # Errors
/// When the bytes are no protobuf message.
pub fn body_of(bytes: &[u8]) -> Result<(u32, &[u8]), FormatError> {
    let mut body = (0, [].as_slice());
    for field in fields(bytes) {
        let field = field?;
        if let (Some(_), Some(bytes)) = (kind_name(field.number), field.value.bytes()) {
            body = (field.number, bytes);
        }
    }
    Ok(body)
}
