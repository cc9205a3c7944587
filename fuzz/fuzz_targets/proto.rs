//! Any bytes as a serialized model.
#![no_main]

use coreml_format::mil::validate;
use coreml_format::model::Model;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(program) = Model::decode(bytes).ok().and_then(|model| model.program().cloned()) {
        let _ = validate(&program);
    }
});
