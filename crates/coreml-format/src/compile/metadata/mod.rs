//! `metadata.json`: a list with one entry, what the model is and what is in it.

mod features;
mod operators;
mod precision;

use serde_json::{Map, Value, json};

use super::source::Source;
use crate::FormatError;
use crate::description::{FunctionDescription, ModelDescription};

/// Fields of an object of JSON, in the order in which they were added.
type Object = Map<String, Value>;

/// The first systems that run a model of a specification version, and so on for newer ones.
const AVAILABILITY: &[(i32, [(&str, &str); 6])] = &[
    (6, systems(["12.0", "15.0", "1.0", "8.0", "15.0", "15.0"])),
    (7, systems(["13.0", "16.0", "1.0", "9.0", "16.0", "16.0"])),
    (8, systems(["14.0", "17.0", "1.0", "10.0", "17.0", "17.0"])),
    (9, systems(["15.0", "18.0", "2.0", "11.0", "18.0", "18.0"])),
    (10, systems(["26.0", "26.0", "26.0", "26.0", "26.0", "26.0"])),
];

const fn systems(
    [mac_os, tv_os, vision_os, watch_os, ios, catalyst]: [&'static str; 6],
) -> [(&'static str, &'static str); 6] {
    [
        ("macOS", mac_os),
        ("tvOS", tv_os),
        ("visionOS", vision_os),
        ("watchOS", watch_os),
        ("iOS", ios),
        ("macCatalyst", catalyst),
    ]
}

/// The file.
pub(super) fn json(source: &Source) -> Result<Vec<u8>, FormatError> {
    let text = serde_json::to_vec_pretty(&[entry(source)]);
    text.map_err(|error| FormatError::field("metadata.json", error.to_string()).caused_by(error))
}

fn entry(source: &Source) -> Object {
    let description = &source.description;
    let function = default_function(source);
    let mut entry = texts(description);
    entry.insert("metadataOutputVersion".into(), "3.0".into());
    entry.extend(interface(source, &function));
    if let Some(stored) = precision::stored(&source.program, &function.name) {
        entry.insert("storagePrecision".into(), stored.into());
    }
    entry.insert("modelParameters".into(), json!([]));
    entry.insert("specificationVersion".into(), source.specification_version().into());
    entry.insert("isUpdatable".into(), "0".into());
    entry.insert("availability".into(), availability(source.specification_version()));
    entry.insert("modelType".into(), json!({ "name": "MLModelType_mlProgram" }));
    entry.insert("userDefinedMetadata".into(), json!(description.metadata.user_defined));
    entry.insert("generatedClassName".into(), class_name(&source.name).into());
    entry.insert("method".into(), "predict".into());
    if !description.functions.is_empty() {
        let functions = description.functions.iter().map(|f| self::function(source, f));
        entry.insert("functions".into(), functions.collect());
        entry.insert("defaultFunctionName".into(), function.name.into());
    }
    entry
}

/// Texts about the model, each where there is one.
fn texts(description: &ModelDescription) -> Object {
    let about = &description.metadata;
    let texts = [
        ("shortDescription", &about.short_description),
        ("version", &about.version),
        ("author", &about.author),
        ("license", &about.license),
    ];
    let stated = texts.into_iter().filter(|(_, text)| !text.is_empty());
    stated.map(|(name, text)| (name.to_owned(), text.as_str().into())).collect()
}

/// The function that runs unless another is asked for, which the entry itself describes.
fn default_function(source: &Source) -> FunctionDescription {
    let stated = &source.description.default_function;
    let has_it = source.program.functions.contains_key(stated);
    let first = || source.program.functions.keys().next();
    source.function(Some(stated).filter(|_| has_it).or_else(first).unwrap_or(stated))
}

fn function(source: &Source, description: &FunctionDescription) -> Value {
    let mut function = Object::new();
    function.insert("name".into(), description.name.as_str().into());
    function.extend(interface(source, description));
    function.into()
}

/// What a function takes and gives, and what it is made of.
fn interface(source: &Source, function: &FunctionDescription) -> Object {
    let mut interface = Object::new();
    interface.insert("inputSchema".into(), features::schemas(&function.inputs));
    interface.insert("outputSchema".into(), features::schemas(&function.outputs));
    interface.insert("stateSchema".into(), features::schemas(&function.states));
    let classifies = [
        ("predictedFeatureName", &function.predicted_feature_name),
        ("predictedProbabilitiesName", &function.predicted_probabilities_name),
    ];
    for (field, name) in classifies.into_iter().filter(|(_, name)| !name.is_empty()) {
        interface.insert(field.into(), name.as_str().into());
    }
    let program = &source.program;
    let histogram = operators::histogram(program, &function.name);
    interface.insert("mlProgramOperationTypeHistogram".into(), json!(histogram));
    if let Some(computed) = precision::computed(program, &function.name) {
        interface.insert("computePrecision".into(), computed.into());
    }
    interface
}

fn availability(version: i32) -> Value {
    let known = AVAILABILITY.iter().rev().find(|row| row.0 <= version).or(AVAILABILITY.first());
    let systems = known.into_iter().flat_map(|row| row.1);
    systems.collect()
}

/// The name of the class that Xcode would make for the model.
fn class_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}
