//! Any bytes as a weight blob file: every record that can be read must be readable as a tensor, and
//! its bytes must be those of the file.
#![no_main]

use std::io::Write;
use std::sync::Arc;

use coreml_format::mil::{BlobFileValue, TensorType};
use coreml_format::{BlobFile, unpack_sub_byte};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(bytes).expect("room for the file");
    let Ok(blobs) = BlobFile::open(file.path()).map(Arc::new) else {
        return;
    };
    for offset in (0..bytes.len() as u64 + 64).step_by(32) {
        let Ok(record) = blobs.record(offset) else {
            continue;
        };
        let count = record.range.len() * 8 / record.element.bits();
        let ty = TensorType::fixed(record.element, &[count]);
        let value = BlobFileValue { ty, file: String::new(), offset };
        if let Ok(view) = blobs.tensor(&value) {
            assert_eq!(view.bytes(), &bytes[record.range]);
            let unpacked = unpack_sub_byte(view.bytes(), record.element, count);
            assert_eq!(unpacked.is_some(), record.element.is_sub_byte());
        }
    }
});
