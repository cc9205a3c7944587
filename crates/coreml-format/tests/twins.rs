//! The same model as a package and compiled must give the same program: two readers, two forms made
//! by others, one result.
#![allow(clippy::unwrap_used)] // a helper that fails is a test that fails

mod support;

use std::path::Path;

use coreml_format::mil::{Argument, Binding, Block, Operation, Program, Value};
use coreml_format::{ModelDescription, Package, PackageKind};
use support::fixture;

/// Compilers write their own `buildInfo`, order parameters by name, and may order independent
/// operations anew.
fn normalised(program: &Program) -> Program {
    let mut program = program.clone();
    program.attributes.clear();
    for function in program.functions.values_mut() {
        function.inputs.sort_by(|a, b| a.name.cmp(&b.name));
        sort_operations(&mut function.block);
    }
    program
}

fn sort_operations(block: &mut Block) {
    block.operations.sort_by_key(|operation| operation.name().to_owned());
    for operation in &mut block.operations {
        operation.blocks.iter_mut().for_each(sort_operations);
    }
}

/// The blobs that a program refers to, in the order of the normalised operations.
fn blobs(package: &Package, program: &Program) -> Vec<Vec<u8>> {
    let operations = program.functions.values().flat_map(|function| &function.block.operations);
    operations.flat_map(|operation| operation_blobs(package, operation)).collect()
}

fn operation_blobs(package: &Package, operation: &Operation) -> Vec<Vec<u8>> {
    let bindings = operation.inputs.values().flat_map(|Argument(bindings)| bindings);
    bindings
        .filter_map(|binding| match binding {
            Binding::Value(Value::BlobFile(blob)) => Some(blob),
            _ => None,
        })
        .map(|blob| {
            let view = package.blob_file(&blob.file).unwrap().tensor(blob).unwrap();
            assert_eq!(view.id().1, blob.offset);
            view.bytes().to_vec()
        })
        .collect()
}

fn assert_twins(package: &Path, compiled: &Path) {
    let package = Package::open(package).unwrap();
    let compiled = Package::open(compiled).unwrap();
    assert_eq!(package.kind(), PackageKind::Package);
    assert_eq!(compiled.kind(), PackageKind::Compiled);
    assert_eq!(package.description().unwrap(), compiled.description().unwrap());

    let (written, printed) =
        (normalised(package.program().unwrap()), normalised(compiled.program().unwrap()));
    for (name, function) in &written.functions {
        let twin = &printed.functions[name];
        assert_eq!(function.inputs, twin.inputs);
        assert_eq!(function.block.operations.len(), twin.block.operations.len());
        for (ours, theirs) in function.block.operations.iter().zip(&twin.block.operations) {
            assert_eq!(ours, theirs);
        }
    }
    assert_eq!(written, printed);

    let (ours, theirs) = (blobs(&package, &written), blobs(&compiled, &printed));
    assert!(!ours.is_empty());
    assert_eq!(ours, theirs);
}

#[test]
fn fixtures_are_twins() {
    for name in ["palettized", "stateful"] {
        assert_twins(&fixture(&format!("{name}.mlpackage")), &fixture(&format!("{name}.mlmodelc")));
    }
}

/// `metadata.json` alone describes a compiled model as the protobuf description does.
#[test]
fn metadata_json_suffices() {
    for name in ["palettized", "stateful"] {
        let dir = tempfile::tempdir().unwrap();
        let compiled = dir.path().join("model");
        support::copy_dir(&fixture(&format!("{name}.mlmodelc")), &compiled);
        let full = Package::open(&compiled).unwrap();
        std::fs::remove_file(compiled.join("coremldata.bin")).unwrap();
        let reduced = Package::open(&compiled).unwrap();
        assert_eq!(reduced.description().unwrap(), full.description().unwrap());

        // Without both there is nothing that describes the model.
        std::fs::remove_file(compiled.join("metadata.json")).unwrap();
        let error = Package::open(&compiled).unwrap().model().unwrap_err().to_string();
        assert!(error.contains("metadata.json"), "{error}");
    }
}

/// Real models, compiled by Apple's compiler.
#[test]
fn real_models_are_twins() {
    let Some(models) = support::real_models() else {
        return;
    };
    for name in ["silero-vad-fp16", "silero-vad-lut4"] {
        let dir = models.join(name);
        assert_twins(&dir.join("model.mlpackage"), &dir.join("model.mlmodelc"));
    }
}

#[test]
fn descriptions_of_fixtures() {
    let description = |name| Package::open(fixture(name)).unwrap().description().unwrap().clone();
    let text = |description: &ModelDescription| {
        let features = description.inputs.iter().chain(&description.outputs);
        let lines = features.chain(&description.states).map(|f| format!("{}: {}", f.name, f.ty));
        lines.collect::<Vec<_>>()
    };
    let stateful = description("stateful.mlpackage");
    assert_eq!(stateful.specification_version, 9);
    assert_eq!(stateful.default_function, "main");
    assert_eq!(stateful.metadata.author, "candle-coreml");
    assert_eq!(
        text(&stateful),
        [
            "x: MultiArray Float16 [1, 32]",
            "total: MultiArray Float16 [1, 32]",
            "count: MultiArray Int32 (any shape)",
            "memory: State Float16 [1, 32]",
        ]
    );
    let palettized = description("palettized.mlpackage");
    assert_eq!(
        text(&palettized),
        [
            "x: MultiArray Float32 [1, 4, 6] (one of [1, 4, 6], [1, 4, 12])",
            "flag: MultiArray Int32 [1]",
            "joined: MultiArray Float32 [1, 4, 3]",
            "chosen: MultiArray Float32 [1, 4, 6]",
        ]
    );
    assert_eq!(palettized.function("main").map(|f| f.outputs.len()), Some(2));
}
