//! Containers, sound and attacked.
#![allow(clippy::unwrap_used)] // a helper that fails is a test that fails

mod support;

use std::path::{Path, PathBuf};

use coreml_format::description::{ArrayElementType, FeatureDescription};
use coreml_format::mil::from_text;
use coreml_format::{Body, FormatError, Model, Package, PackageKind};
use support::{copy_dir, fixture};

const WEIGHTS: &str = "@model_path/weights/weight.bin";
const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";

/// A copy of a fixture that a test may damage.
struct Copy {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

fn copy(name: &str) -> Copy {
    let dir = tempfile::tempdir().unwrap();
    // A name without the extension: what counts is the content.
    let path = dir.path().join("model");
    copy_dir(&fixture(name), &path);
    Copy { _dir: dir, path }
}

fn model_file(package: &Path) -> PathBuf {
    package.join("Data/com.apple.CoreML/model.mlmodel")
}

fn error(path: &Path) -> String {
    let program = |package: Package| package.program().map(|_| ());
    Package::open(path).and_then(program).unwrap_err().to_string()
}

#[test]
fn containers_are_told_apart_by_content() {
    let package = copy("stateful.mlpackage");
    assert_eq!(Package::open(&package.path).unwrap().kind(), PackageKind::Package);
    let file = model_file(&package.path);
    let model = Package::open(&file).unwrap();
    assert_eq!(model.kind(), PackageKind::ModelFile);
    assert!(model.blob_file(WEIGHTS).is_ok());
    let compiled = copy("stateful.mlmodelc");
    assert_eq!(Package::open(&compiled.path).unwrap().kind(), PackageKind::Compiled);

    std::fs::remove_file(package.path.join("Manifest.json")).unwrap();
    assert_eq!(Package::open(&package.path).unwrap().kind(), PackageKind::Package);
}

#[test]
fn blob_files_are_mapped_once() {
    let package = Package::open(fixture("stateful.mlpackage")).unwrap();
    let (first, second) =
        (package.blob_file(WEIGHTS).unwrap(), package.blob_file(WEIGHTS).unwrap());
    assert!(std::sync::Arc::ptr_eq(&first, &second));
    fn shareable(_: &(impl Send + Sync)) {}
    shareable(&package);
}

#[test]
fn blob_names_stay_inside_the_package() {
    let package = Package::open(fixture("stateful.mlpackage")).unwrap();
    for (name, part) in [
        ("/etc/passwd", "start with `@model_path/`"),
        ("weights/weight.bin", "start with `@model_path/`"),
        ("@model_path//etc/passwd", "not allowed"),
        ("@model_path/../model.mlmodel", "not allowed"),
        ("@model_path/weights/../../x", "not allowed"),
        ("@model_path/", "relative path"),
        ("@model_path/..\\x", "relative path"),
        ("@model_path/x\0", "relative path"),
        ("@model_path/weights/none.bin", "cannot read"),
        ("@model_path/weights", "is a directory"),
    ] {
        let error = package.blob_file(name).unwrap_err().to_string();
        assert!(error.contains(part), "{name}: {error}");
    }
}

#[cfg(unix)]
#[test]
fn symbolic_links_may_not_leave_the_package() {
    use std::os::unix::fs::symlink;
    let package = copy("stateful.mlpackage");
    let dir = model_file(&package.path).parent().unwrap().to_owned();
    let outside = package.path.parent().unwrap().join("outside");
    std::fs::copy(dir.join("weights/weight.bin"), &outside).unwrap();
    symlink(&outside, dir.join("weights/link.bin")).unwrap();
    symlink("weight.bin", dir.join("weights/inside.bin")).unwrap();
    let model = Package::open(&package.path).unwrap();
    assert!(model.blob_file("@model_path/weights/inside.bin").is_ok());
    let refused = model.blob_file("@model_path/weights/link.bin").unwrap_err().to_string();
    assert!(refused.contains("symbolic link"), "{refused}");

    // The model itself, and a whole package behind a link.
    std::fs::rename(model_file(&package.path), &outside).unwrap();
    symlink(&outside, model_file(&package.path)).unwrap();
    assert!(error(&package.path).contains("symbolic link"));
    let sound = copy("stateful.mlpackage");
    let link = sound.path.parent().unwrap().join("link");
    symlink(&sound.path, &link).unwrap();
    assert!(Package::open(&link).unwrap().blob_file(WEIGHTS).is_ok());
}

/// A Hugging Face cache: files of a snapshot are links to blobs.
#[cfg(unix)]
#[test]
fn packages_in_a_hub_cache_are_links_to_blobs() {
    use std::os::unix::fs::symlink;
    let place = tempfile::tempdir().unwrap();
    let model = place.path().join("models--org--name");
    let package = model.join("snapshots/0123/sub/x.mlpackage");
    std::fs::create_dir_all(model.join("blobs")).unwrap();
    let dir = package.join("Data/com.apple.CoreML");
    std::fs::create_dir_all(dir.join("weights")).unwrap();
    let blob = |name: &str, content: &Path| {
        std::fs::copy(content, model.join("blobs").join(name)).unwrap();
    };
    let sound = fixture("stateful.mlpackage");
    blob("aa", &sound.join("Manifest.json"));
    blob("bb", &model_file(&sound));
    blob("cc", &model_file(&sound).parent().unwrap().join("weights/weight.bin"));
    symlink("../../../../blobs/aa", package.join("Manifest.json")).unwrap();
    symlink("../../../../../../blobs/bb", dir.join("model.mlmodel")).unwrap();
    let weights = dir.join("weights/weight.bin");
    symlink("../../../../../../../blobs/cc", &weights).unwrap();
    let opens = |path: &Path| Package::open(path).map(|package| package.blob_file(WEIGHTS).is_ok());
    assert!(opens(&package).unwrap());
    // Also a model file with weights beside it, and a package behind a link.
    assert!(opens(&dir.join("model.mlmodel")).unwrap());
    let link = place.path().join("link.mlpackage");
    symlink(&package, &link).unwrap();
    assert!(opens(&link).unwrap());

    // Blobs of another model, other directories of this one, and blobs outside such a cache.
    let other = place.path().join("models--org--other/blobs");
    let below = model.join("blobs/below");
    let beside = model.join("other");
    for directory in [other, below, beside, place.path().join("blobs")] {
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::copy(model.join("blobs/cc"), directory.join("cc")).unwrap();
        std::fs::remove_file(&weights).unwrap();
        symlink(directory.join("cc"), &weights).unwrap();
        assert!(!opens(&package).unwrap(), "{}", directory.display());
    }
    // The same links, but not in a snapshot.
    let moved = model.join("sub");
    std::fs::rename(model.join("snapshots/0123/sub"), &moved).unwrap();
    std::fs::remove_file(moved.join("x.mlpackage/Manifest.json")).unwrap();
    symlink(model.join("blobs/aa"), moved.join("x.mlpackage/Manifest.json")).unwrap();
    assert!(error(&moved.join("x.mlpackage")).contains("symbolic link"));
}

#[test]
fn manifests_are_checked() {
    let package = copy("stateful.mlpackage");
    let manifest = package.path.join("Manifest.json");
    let with = |item: &str, root: &str| {
        let item = serde_json::json!({ "A": { "path": item } });
        let json = serde_json::json!({ "itemInfoEntries": item, "rootModelIdentifier": root });
        std::fs::write(&manifest, json.to_string()).unwrap();
        error(&package.path)
    };
    for (item, root, part) in [
        ("com.apple.CoreML/model.mlmodel", "B", "`B` is not among"),
        ("../../secret", "A", "not allowed"),
        ("/etc/passwd", "A", "not allowed"),
        ("", "A", "relative path"),
        ("com.apple.CoreML", "A", "not a file"),
        ("com.apple.CoreML/none", "A", "cannot read"),
    ] {
        let error = with(item, root);
        assert!(error.contains(part), "{item}: {error}");
    }
    for (content, part) in [
        ("", "EOF"),
        ("{}", "itemInfoEntries"),
        ("[]", "manifest"),
        (r#"{"itemInfoEntries": {}, "rootModelIdentifier": 1}"#, "expected a string"),
        (POINTER, "Git LFS"),
    ] {
        std::fs::write(&manifest, content).unwrap();
        let error = error(&package.path);
        assert!(error.contains(part), "{content}: {error}");
    }
}

#[test]
fn lfs_pointers_are_recognised() {
    let package = copy("stateful.mlpackage");
    let weights = model_file(&package.path).with_file_name("weights").join("weight.bin");
    std::fs::write(&weights, POINTER).unwrap();
    let blob = Package::open(&package.path).unwrap().blob_file(WEIGHTS).unwrap_err();
    assert!(matches!(blob, FormatError::GitLfsPointer { .. }), "{blob}");
    std::fs::write(model_file(&package.path), POINTER).unwrap();
    assert!(error(&package.path).contains("git lfs pull"));
    for name in ["model.mil", "metadata.json", "coremldata.bin"] {
        let compiled = copy("stateful.mlmodelc");
        std::fs::write(compiled.path.join(name), POINTER).unwrap();
        let error = error(&compiled.path);
        assert!(error.contains("git lfs pull") && error.contains(name), "{error}");
    }
}

#[test]
fn things_that_are_no_models() {
    let dir = tempfile::tempdir().unwrap();
    assert!(error(dir.path()).contains("is not a Core ML model"));
    assert!(error(&dir.path().join("none")).contains("cannot read"));
    let file = dir.path().join("file");
    for (content, part) in [
        (&b""[..], "is empty"),
        (b"PK\x03\x04 and so on", "zip archive"),
        (b"\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", "protobuf"),
    ] {
        std::fs::write(&file, content).unwrap();
        assert!(error(&file).contains(part), "{}", error(&file));
    }
    let compiled = copy("stateful.mlmodelc");
    std::fs::remove_file(compiled.path.join("model.mil")).unwrap();
    assert!(error(&compiled.path).contains("without its `model.mil`"));
    std::fs::write(compiled.path.join("model.mil"), b"program(\xFF)").unwrap();
    assert!(error(&compiled.path).contains("UTF-8"));
}

/// Field `number` of wire type 2.
fn field(number: u32, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for mut varint in [u64::from(number << 3 | 2), content.len() as u64] {
        while varint > 0x7F {
            bytes.push(varint as u8 | 0x80);
            varint >>= 7;
        }
        bytes.push(varint as u8);
    }
    bytes.extend(content);
    bytes
}

/// Models of other kinds are described, but have no program. The bytes are laid out by hand with
/// the field numbers of `Model.proto`.
#[test]
fn other_kinds_of_models_are_named() {
    let string_type = field(3, &[]);
    let input = [field(1, b"text"), field(3, &string_type)].concat();
    let description = field(2, &field(1, &input));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("model.mlmodel");
    for (number, kind, words) in [
        (500, "neuralNetwork", "neural network"),
        (403, "neuralNetworkClassifier", "neural network classifier"),
        (202, "pipeline", "pipeline"),
        (302, "treeEnsembleRegressor", "tree ensemble regressor"),
        (2005, "wordEmbedding", "word embedding"),
    ] {
        let model = [vec![8, 4], description.clone(), field(number, b"")].concat();
        std::fs::write(&file, model).unwrap();
        let error = error(&file);
        assert!(error.contains(&format!("is a {words}, not an ML Program: ")), "{error}");
        assert!(error.contains("coremlcompiler"), "{error}");
        let package = Package::open(&file).unwrap();
        assert_eq!(package.model().unwrap().kind, kind);
        let description = package.description().unwrap();
        assert_eq!(description.specification_version, 4);
        assert_eq!(description.inputs[0].ty.to_string(), "String");
    }
    // A compiled neural network has no program text; its metadata names the kind.
    let compiled = copy("stateful.mlmodelc");
    std::fs::remove_file(compiled.path.join("model.mil")).unwrap();
    let metadata = compiled.path.join("metadata.json");
    let text = std::fs::read_to_string(&metadata).unwrap();
    std::fs::write(&metadata, text.replace("_mlProgram", "_neuralNetwork")).unwrap();
    let error = error(&compiled.path);
    assert!(error.contains("is a neural network, not an ML Program: convert"), "{error}");
    let package = Package::open(&compiled.path).unwrap();
    assert_eq!(package.description().unwrap().inputs[0].name, "x");
}

/// The stages of a compiled pipeline lie in its directory.
#[test]
fn compiled_pipelines_have_stages() {
    let pipeline = copy("stateful.mlmodelc");
    let metadata = pipeline.path.join("metadata.json");
    let text = std::fs::read_to_string(&metadata).unwrap();
    std::fs::remove_file(pipeline.path.join("model.mil")).unwrap();
    std::fs::write(&metadata, text.replace("_mlProgram", "_pipeline")).unwrap();
    for stage in ["model0", "model1"] {
        copy_dir(&fixture("stateful.mlmodelc"), &pipeline.path.join(stage));
    }
    let package = Package::open(&pipeline.path).unwrap();
    let Body::Pipeline(stages) = &package.model().unwrap().body else { panic!("no pipeline") };
    let names: Vec<_> = stages.iter().map(|s| (s.name.as_str(), s.model.kind)).collect();
    assert_eq!(names, [("model0", "mlProgram"), ("model1", "mlProgram")]);
}

/// `coremldata.bin` of a compiled classic model holds the whole message behind a header.
#[test]
fn compiled_classic_models_are_read() {
    // Between stages, arrays have no element type.
    let array = field(3, &field(5, &field(1, &[3])));
    let interface = [
        field(1, &[field(1, b"x"), field(3, &field(2, &[]))].concat()),
        field(10, &[field(1, b"v"), array].concat()),
    ];
    let description = field(2, &interface.concat());
    let labels = field(101, &field(1, &[3, 5]));
    let model = [vec![8, 4], description, field(402, &labels)].concat();
    let dir = tempfile::tempdir().unwrap();
    let header = [&402u32.to_le_bytes()[..], &[0; 64], b"spec"].concat();
    let file = dir.path().join("coremldata.bin");
    std::fs::write(&file, [&header[..], &model].concat()).unwrap();
    let package = Package::open(dir.path()).unwrap();
    let read = package.model().unwrap();
    assert_eq!((read.kind, read.labels().unwrap().len()), ("treeEnsembleClassifier", 2));
    assert_eq!(read.description.inputs[0].name, "x");
    let output = read.description.outputs[0].ty.as_multi_array().unwrap();
    assert_eq!((output.element, &output.shape[..]), (ArrayElementType::Double, &[3][..]));

    // What is wrong with it is told.
    std::fs::write(&file, [&header[..], &model[..model.len() - 1]].concat()).unwrap();
    let error = error(dir.path());
    assert!(error.contains("coremldata.bin") && error.contains("protobuf"), "{error}");
}

#[test]
fn core_ai_models_are_named() {
    let dir = tempfile::tempdir().unwrap();
    for file in ["main.mlirb", "metadata.json", "main.hash"] {
        std::fs::write(dir.path().join(file), b"ML\xefR").unwrap();
    }
    let error = error(dir.path());
    assert!(error.contains("is a Core AI model") && error.contains("convert_to"), "{error}");
}

/// Files are read when the model is asked for, and once.
#[test]
fn a_model_is_decoded_once_and_when_needed() {
    let copy = copy("stateful.mlpackage");
    let package = Package::open(&copy.path).unwrap();
    let file = model_file(&copy.path);
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, b"no model").unwrap();
    assert!(package.model().is_err());
    std::fs::write(&file, bytes).unwrap();
    let first: *const Model = package.model().unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(std::ptr::eq(first, package.model().unwrap()));
}

/// `metadata.json` of multi-function and flexible models, written after what compilers write.
#[test]
fn metadata_json_with_functions() {
    let compiled = copy("stateful.mlmodelc");
    std::fs::remove_file(compiled.path.join("coremldata.bin")).unwrap();
    let array = |name: &str, extra: &str| {
        format!(
            r#"{{"name": "{name}", "type": "MultiArray", "dataType": "Int32", "shape": "[1, 1]",
                "isOptional": "1"{extra}}}"#
        )
    };
    let range = array("r", r#", "shapeRange": "[[1, 1], [2, -1]]""#);
    let listed = array("e", r#", "enumeratedShapes": "[[1, 1], [1, 64]]""#);
    let image = r#"{"name": "i", "type": "Image", "colorspace": "BGR", "width": "224",
        "height": "192", "isOptional": "0"}"#;
    let json = format!(
        r#"[{{"specificationVersion": 9, "defaultFunctionName": "infer", "functions": [
            {{"name": "infer", "inputSchema": [{range}, {listed}, {image}],
              "outputSchema": [{{"name": "d", "type": "Dictionary", "keyType": "String"}}],
              "stateSchema": [{{"name": "s", "type": "State", "dataType": "Float16",
                                "shape": "[8, 2]"}}]}}]}}]"#
    );
    std::fs::write(compiled.path.join("metadata.json"), &json).unwrap();
    let description = Package::open(&compiled.path).unwrap().description().unwrap().clone();
    assert_eq!(description.default_function, "infer");
    let infer = description.function("infer").unwrap();
    let features = infer.inputs.iter().chain(&infer.outputs).chain(&infer.states);
    let lines: Vec<String> = features.map(|f| format!("{} {}", f.name, f.ty)).collect();
    assert_eq!(
        lines,
        [
            "r MultiArray Int32 [1, 1] (1 × 2...)",
            "e MultiArray Int32 [1, 1] (one of [1, 1], [1, 64])",
            "i Image BGR 224 × 192",
            "d Dictionary String → Double",
            "s State Float16 [8, 2]",
        ]
    );
    assert!(infer.inputs[0].optional && !infer.inputs[2].optional);

    for (from, to) in [("[8, 2]", "[8, x]"), ("Int32", "Int33"), ("\"BGR\"", "\"CMYK\"")] {
        std::fs::write(compiled.path.join("metadata.json"), json.replace(from, to)).unwrap();
        let error = error(&compiled.path);
        assert!(error.contains("feature `"), "{to}: {error}");
    }
}

/// Cut anywhere, a model gives a model or an error.
#[test]
fn truncated_models_do_not_panic() {
    let bytes = std::fs::read(model_file(&fixture("palettized.mlpackage"))).unwrap();
    let whole = Model::decode(&bytes).unwrap();
    assert!(whole.program().is_some());
    let mut refused = 0;
    for length in 0..bytes.len() {
        match Model::decode(&bytes[..length]) {
            Ok(model) => assert_ne!(model, whole, "{length}"),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > bytes.len() / 2, "{refused}");
}

/// A program alone makes a package; what it needs from files is refused.
#[test]
fn programs_in_memory() {
    let text = r#"program(1.3) { func f<ios16>(fp32 x, state<tensor<fp16, [2]>> s) {
        tensor<fp16, [2]> w = const()[val = tensor<fp16, [2]>(BLOBFILE(path =
            string("@model_path/w"), offset = uint64(64)))];
        tensor<int32, [1, ?]> y = g(w = w);
    } -> (y, x); }"#;
    let program = from_text(text).unwrap();
    let package = Package::from_program(program.clone()).unwrap();
    assert_eq!(package.kind(), PackageKind::Memory);
    assert_eq!(**package.program().unwrap(), program);
    let description = package.description().unwrap();
    assert_eq!(description.specification_version, 7);
    let function = description.function("f").unwrap();
    let names = |features: &[FeatureDescription]| -> Vec<String> {
        features.iter().map(|feature| format!("{} {}", feature.name, feature.ty)).collect()
    };
    assert_eq!(names(&function.inputs), ["x MultiArray Float32 (any shape)"]);
    assert_eq!(names(&function.states), ["s State Float16 [2]"]);
    assert_eq!(
        names(&function.outputs),
        ["y MultiArray Int32 (1 × 1...)", "x MultiArray Float32 (any shape)"]
    );
    let error = package.blob_file("@model_path/w").unwrap_err().to_string();
    assert!(error.contains("in memory"), "{error}");

    let unsound = from_text("program(1.0) { func f<ios15>() { } -> (y); }").unwrap();
    assert!(Package::from_program(unsound).is_err());
}
