//! Any bytes give a result: no panic, no endless loop. Inputs are fixtures with random damage, which
//! gets deeper into the readers than noise.
#![allow(clippy::unwrap_used)] // a helper that fails is a test that fails

use std::path::Path;

use coreml_format::mil::{from_text, to_text, validate};
use coreml_format::model::Model;
use proptest::prelude::*;

const MODEL: &str = "Data/com.apple.CoreML/model.mlmodel";

fn fixture(name: &str, file: &str) -> Vec<u8> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    std::fs::read(dir.join(name).join(file)).unwrap()
}

/// Overwrites, removes or repeats parts of `bytes`, each at a place given as a fraction.
fn damage(mut bytes: Vec<u8>, edits: &[(u8, u16, u8)]) -> Vec<u8> {
    for &(kind, place, value) in edits {
        if bytes.is_empty() {
            break;
        }
        let at = usize::from(place) * bytes.len() / 65536;
        let end = (at + usize::from(value)).min(bytes.len());
        match kind % 4 {
            0 => bytes[at] = value,
            1 => bytes.insert(at, value),
            2 => drop(bytes.drain(at..end)),
            _ => {
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
        }
    }
    bytes
}

fn edits() -> impl Strategy<Value = Vec<(u8, u16, u8)>> {
    prop::collection::vec(any::<(u8, u16, u8)>(), 1..8)
}

fn read_model(bytes: &[u8]) {
    if let Some(program) = Model::decode(bytes).ok().and_then(|model| model.program().cloned()) {
        let _ = validate(&program);
        let _ = to_text(&program);
    }
}

fn read_text(text: &str) {
    if let Ok(program) = from_text(text) {
        let _ = validate(&program);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damaged_models(edits in edits(), stateful in any::<bool>()) {
        let name = if stateful { "stateful.mlpackage" } else { "palettized.mlpackage" };
        read_model(&damage(fixture(name, MODEL), &edits));
    }

    #[test]
    fn damaged_text(edits in edits(), stateful in any::<bool>()) {
        let name = if stateful { "stateful.mlmodelc" } else { "palettized.mlmodelc" };
        let bytes = damage(fixture(name, "model.mil"), &edits);
        read_text(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn noise(bytes in prop::collection::vec(any::<u8>(), 0..256), text in ".{0,200}") {
        read_model(&bytes);
        read_text(&text);
    }
}
