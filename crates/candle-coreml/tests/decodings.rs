//! How often the files of a model are decoded.
#![cfg(feature = "llm")]
#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;
use std::sync::Mutex;

use candle_coreml::{CoreMLModel, LanguageModel, LoadOptions};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Counts what is said to be decoded, by path.
struct Decodings;

static COUNTS: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());

#[derive(Default)]
struct Said {
    message: String,
    path: String,
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            "path" => self.path = format!("{value:?}"),
            _ => {}
        }
    }
}

impl Subscriber for Decodings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("coreml_format")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut said = Said::default();
        event.record(&mut said);
        if said.message == "decoding" {
            *COUNTS.lock().unwrap().entry(said.path).or_default() += 1;
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The counts since the last call.
fn counts() -> Vec<usize> {
    std::mem::take(&mut *COUNTS.lock().unwrap()).into_values().collect()
}

#[test]
fn each_file_is_decoded_once() {
    tracing::subscriber::set_global_default(Decodings).unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    let model = fixtures.join("packages/linear_functions_ios18.mlpackage");
    CoreMLModel::load(model, &LoadOptions::new()).unwrap();
    assert_eq!(counts(), [1]);
    for (name, packages) in [("two-chunks-fp16", 4), ("apple-llama", 1)] {
        LanguageModel::load(fixtures.join("llm").join(name)).unwrap();
        assert_eq!(counts(), vec![1; packages], "{name}");
    }
}
