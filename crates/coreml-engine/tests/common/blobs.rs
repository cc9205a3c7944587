//! Compiled models that are made up.

use std::path::Path;

use coreml_engine::{Model, Options, Workers};
use coreml_format::Package;
use half::f16;
use tempfile::TempDir;

/// A weight file, laid out after the format's description in coremltools
/// (`MILBlob/Blob/StorageFormat.hpp`).
pub struct Blobs(Vec<u8>);

impl Blobs {
    pub fn new() -> Self {
        let mut header = vec![0; 64];
        header[4] = 2; // the version
        Blobs(header)
    }

    /// Adds a blob; gives it as MIL text. `code` is its element's in `BlobDataType`.
    pub fn add(&mut self, ty: &str, code: u32, data: &[u8]) -> String {
        let record = self.0.len();
        self.0.extend(0xDEAD_BEEFu32.to_le_bytes());
        self.0.extend(code.to_le_bytes());
        for field in [data.len(), record + 64, 0] {
            self.0.extend((field as u64).to_le_bytes());
        }
        self.0.resize(record + 64, 0);
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(64), 0);
        let path = "@model_path/weights/weight.bin";
        format!("tensor<{ty}>(BLOBFILE(path = string(\"{path}\"), offset = uint64({record})))")
    }

    /// Adds small numbers of half precision.
    pub fn halves(&mut self, shape: &[usize]) -> String {
        let number = |i: usize| f16::from_f32((i * 7 % 13) as f32 / 16.0 - 0.375);
        let data = (0..shape.iter().product()).flat_map(|i| number(i).to_le_bytes());
        self.add(&format!("fp16, {shape:?}"), 1, &data.collect::<Vec<u8>>())
    }

    /// Adds a weight of indices of four bits and one table.
    pub fn palettized(&mut self, shape: &[usize]) -> String {
        let indices: Vec<u8> = (0..shape.iter().product::<usize>() / 2).map(|i| i as u8).collect();
        let indices = self.add(&format!("uint4, {shape:?}"), 11, &indices);
        let mut table = vec![1; shape.len()];
        table.extend([16, 1]);
        format!("constexpr_lut_to_dense(indices = {indices}, lut = {})", self.halves(&table))
    }
}

/// A compiled model of these functions.
pub fn compiled(functions: &str, blobs: &Blobs) -> (TempDir, Model) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    std::fs::create_dir(path.join("weights")).unwrap();
    std::fs::write(path.join("weights/weight.bin"), &blobs.0).unwrap();
    std::fs::write(path.join("model.mil"), format!("program(1.3)\n{{\n{functions}\n}}")).unwrap();
    std::fs::write(path.join("metadata.json"), "[{}]").unwrap();
    let model = load(path);
    (directory, model)
}

pub fn load(path: &Path) -> Model {
    let package = Package::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Model::load(package, &Options::new(Workers::new(2).unwrap())).unwrap()
}
