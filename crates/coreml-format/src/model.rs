//! A serialized `Model` message: the content of a `.mlmodel` file.

use prost::Message;

use crate::FormatError;
use crate::description::ModelDescription;
use crate::mil::{self, Program};
use crate::proto;

/// A decoded `Model` message.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Model {
    /// Name of the model's kind in `Model.proto`: `mlProgram`, `neuralNetwork`, `pipeline`, …;
    /// `unknown` when the message says none.
    pub kind: &'static str,
    /// Its interface.
    pub description: ModelDescription,
    /// Its program, when it is an ML Program.
    pub program: Option<Program>,
}

impl Model {
    /// Decodes the message. Models other than ML Programs give their description only. The program
    /// is not validated: see [`mil::validate`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let kind = proto::model::kind_of(bytes).unwrap_or("unknown");
        let message = proto::model::Model::decode(bytes)?;
        let description = ModelDescription::from_proto(
            message.specification_version,
            message.description.unwrap_or_default(),
        )
        .map_err(|error| error.within("description"))?;
        let program = match message.ml_program {
            Some(program) if kind == proto::model::ML_PROGRAM => Some(mil::from_proto(program)?),
            _ => None,
        };
        Ok(Model { kind, description, program })
    }
}
