//! `coremldata.bin`, which says what the model is, and the one of `analytics`. Numbers are
//! little-endian, texts and messages come behind their lengths.

use super::source::Source;
use crate::mil::TextVersion;
use crate::proto::model::ML_PROGRAM_NUMBER;

/// Name of the one variant of compiled models that there is.
const VARIANT: &str = "generic";

#[derive(Default)]
struct Binary(Vec<u8>);

impl Binary {
    fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    /// Major, minor, patch, variant.
    fn version(&mut self, major: u64, variant: &str) {
        [major, 0, 0].into_iter().for_each(|part| self.number(part));
        self.bytes(variant.as_bytes());
    }

    /// A named list of texts with their values.
    fn details(&mut self, name: &str, details: &[(&str, &str)]) {
        self.bytes(name.as_bytes());
        self.number(details.len() as u64);
        for (key, value) in details {
            self.bytes(key.as_bytes());
            self.bytes(value.as_bytes());
        }
    }
}

/// The kind of the model, two versions, the description, and what stands for each function.
pub(super) fn description(source: &Source) -> Vec<u8> {
    let mut binary = Binary(ML_PROGRAM_NUMBER.to_le_bytes().to_vec());
    let format = match source.text_version() {
        TextVersion::V1_0 => 5,
        TextVersion::V1_3 => 9,
    };
    binary.version(format, VARIANT);
    binary.version(u64::try_from(source.specification_version()).unwrap_or_default(), "");
    binary.bytes(&source.message);
    for _ in 0..source.description.functions.len().max(1) {
        binary.number(ML_PROGRAM_NUMBER.into());
        binary.number(0);
    }
    binary.0
}

/// What Apple's framework counts: names, and the hash of the model file.
pub(super) fn analytics(source: &Source) -> Vec<u8> {
    let mut binary = Binary::default();
    let layers = [("containsCustomLayer", "0"), ("modelDimension", "0")];
    binary.details("NeuralNetworkModelDetails", &layers);
    let names = [("modelHash", source.hash.as_str()), ("modelName", source.file_name.as_str())];
    binary.details("SpecificationDetails", &names);
    binary.0
}
