//! Reads Core ML models without any Apple code: containers (`.mlpackage`, `.mlmodel`,
//! `.mlmodelc`), feature descriptions, MIL programs (protobuf and text) and weight blobs.

pub mod mil;
