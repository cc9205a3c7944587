//! Pipelines: models that run one after the other.

use super::Model;
use crate::FormatError;
use crate::proto::wire::fields;

/// How deep pipelines may lie within each other. Those in the wild have two levels.
pub(crate) const MOST_NESTED: usize = 8;

/// A model of a pipeline.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Stage {
    /// Its name; empty where the pipeline names none.
    pub name: String,
    /// The model.
    pub model: Model,
}

/// The stages of a `Pipeline` message that lies within `depth` others.
pub(super) fn decode(bytes: &[u8], depth: usize) -> Result<Vec<Stage>, FormatError> {
    if depth >= MOST_NESTED {
        let message = format!("pipelines are nested more than {MOST_NESTED} deep");
        return Err(FormatError::field("models", message));
    }
    let (mut models, mut names) = (Vec::new(), Vec::new());
    for field in fields(bytes) {
        let field = field?;
        match (field.number, field.value.bytes()) {
            (1, Some(model)) => {
                let place = format!("model {}", models.len());
                let model = Model::nested(model, depth + 1);
                models.push(model.map_err(|error| error.within(&place))?);
            }
            (2, _) => names.push(field.value.text("names")?),
            _ => {}
        }
    }
    let mut names = names.into_iter();
    let stage = |model| Stage { name: names.next().unwrap_or_default(), model };
    Ok(models.into_iter().map(stage).collect())
}

/// The stages of a `PipelineClassifier` or `PipelineRegressor`, whose first field is the pipeline.
pub(super) fn decode_wrapped(bytes: &[u8], depth: usize) -> Result<Vec<Stage>, FormatError> {
    let mut stages = Vec::new();
    for field in fields(bytes) {
        let field = field?;
        if let (1, Some(pipeline)) = (field.number, field.value.bytes()) {
            stages = decode(pipeline, depth)?;
        }
    }
    Ok(stages)
}
