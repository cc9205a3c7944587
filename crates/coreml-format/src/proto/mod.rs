//! Messages of Core ML's public protobuf schema, with the field numbers of `MIL.proto`,
//! `FeatureTypes.proto` and `Model.proto` in coremltools (`mlmodel/format`).
//!
//! Only what readers and writers need is declared; unknown fields are skipped by the decoder.

pub(crate) mod feature_types;
pub(crate) mod mil;
pub(crate) mod model;
pub(crate) mod wire;
