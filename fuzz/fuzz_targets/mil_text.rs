//! Any text as a MIL program.
#![no_main]

use coreml_format::mil::{from_text, validate};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(program) = from_text(text) {
        let _ = validate(&program);
    }
});
