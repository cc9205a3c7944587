//! A serialized `Model` message: the content of a `.mlmodel` file.

mod labels;
mod layer_kinds;
mod neural_network;
mod pipeline;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use prost::Message;

use crate::FormatError;
use crate::description::ModelDescription;
use crate::mil::{self, Program};
use crate::proto;
use crate::proto::model::ML_PROGRAM;

pub use self::labels::ClassLabels;
pub use self::neural_network::{Layer, NeuralNetwork};
pub(crate) use self::pipeline::MOST_NESTED;
pub use self::pipeline::Stage;

/// A model: what it takes and gives, and what computes that.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Model {
    /// Name of the model's kind in `Model.proto`: `mlProgram`, `neuralNetwork`, `pipeline`, …;
    /// `unknown` when the message says none.
    pub kind: &'static str,
    /// Its interface.
    pub description: ModelDescription,
    /// What computes its outputs.
    pub body: Body,
}

/// What computes a model's outputs.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Body {
    /// An ML Program.
    Program(Arc<Program>),
    /// A neural network of layers, the kind before ML Programs; also a classifier or regressor.
    NeuralNetwork(NeuralNetwork),
    /// Models that run one after the other; also a classifier or regressor.
    Pipeline(Vec<Stage>),
    /// A model of another kind, of which no more is read than a classifier's labels.
    Other(Option<ClassLabels>),
}

impl Model {
    /// Decodes the message. A program is not validated: see [`mil::validate`].
    ///
    /// # Errors
    /// When the bytes are no such message, or a field of it makes no sense.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        Self::nested(bytes, 0)
    }

    /// Decodes a model that lies within so many others.
    pub(crate) fn nested(bytes: &[u8], depth: usize) -> Result<Self, FormatError> {
        let message = proto::model::Model::decode(bytes)?;
        let description = ModelDescription::from_proto(
            message.specification_version,
            message.description.unwrap_or_default(),
        )
        .map_err(|error| error.within("description"))?;
        let (number, body) = proto::model::body_of(bytes)?;
        let kind = proto::model::kind_name(number).unwrap_or(UNKNOWN);
        if kind == UNKNOWN && message.specification_version == 0 {
            let what =
                "the file gives none, and no kind of model: it is damaged, or no Core ML model";
            return Err(FormatError::field("specification version", what));
        }
        let body = match (message.ml_program, kind) {
            (Some(program), ML_PROGRAM) => Body::Program(Arc::new(mil::from_proto(program)?)),
            _ => Body::decode(kind, body, depth).map_err(|error| error.within(kind))?,
        };
        Ok(Model { kind, description, body })
    }

    /// The program of an ML Program.
    pub fn program(&self) -> Option<&Arc<Program>> {
        match &self.body {
            Body::Program(program) => Some(program),
            _ => None,
        }
    }

    /// The classes of a classifier, as far as the model lists them: a pipeline's are those of its last
    /// classifier.
    pub fn labels(&self) -> Option<Cow<'_, ClassLabels>> {
        match &self.body {
            Body::Program(program) => ClassLabels::of_program(program).map(Cow::Owned),
            Body::NeuralNetwork(network) => network.labels.as_ref().map(Cow::Borrowed),
            Body::Pipeline(stages) => stages.iter().rev().find_map(|stage| stage.model.labels()),
            Body::Other(labels) => labels.as_ref().map(Cow::Borrowed),
        }
    }

    /// What the model is, in words: `ML Program`, `neural network classifier`, …
    pub fn kind_in_words(&self) -> KindInWords {
        KindInWords(self.kind)
    }
}

/// The kind of a model that does not tell its kind.
pub(crate) const UNKNOWN: &str = "unknown";

impl Body {
    /// The body of a model of another kind than ML Program.
    fn decode(kind: &str, bytes: &[u8], depth: usize) -> Result<Self, FormatError> {
        match kind {
            "neuralNetwork" | "neuralNetworkClassifier" | "neuralNetworkRegressor" => {
                NeuralNetwork::decode(kind, bytes).map(Body::NeuralNetwork)
            }
            "pipeline" => pipeline::decode(bytes, depth).map(Body::Pipeline),
            "pipelineClassifier" | "pipelineRegressor" => {
                pipeline::decode_wrapped(bytes, depth).map(Body::Pipeline)
            }
            kind => Ok(Body::Other(ClassLabels::decode(kind, bytes)?)),
        }
    }
}

/// A kind as people write it; see [`Model::kind_in_words`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindInWords(pub(crate) &'static str);

impl KindInWords {
    /// What to do where a program is needed and the model is of this kind.
    pub(crate) fn remedy(self) -> &'static str {
        match self.0 {
            UNKNOWN => "the file names no kind; it is damaged, or newer than this program",
            kind if kind.starts_with("neuralNetwork") => {
                "convert the original model again with coremltools' `convert_to=\"mlprogram\"`, or, to \
                 compile it as it is, use Apple's `coremlcompiler` on a Mac"
            }
            _ => "Apple's `coremlcompiler` on a Mac compiles models of every kind",
        }
    }
}

impl fmt::Display for KindInWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ML_PROGRAM => f.write_str("ML Program"),
            UNKNOWN => f.write_str("model of an unknown kind"),
            kind => {
                let Some(rest) = kind.strip_prefix("glm") else { return words(kind, f) };
                f.write_str("GLM")?;
                words(rest, f)
            }
        }
    }
}

/// The words of a name in camel case.
fn words(name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    name.chars().try_for_each(|letter| match letter.is_ascii_uppercase() {
        true => write!(f, " {}", letter.to_ascii_lowercase()),
        false => write!(f, "{letter}"),
    })
}

#[cfg(test)]
mod tests;
