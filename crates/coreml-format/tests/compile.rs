//! What is written is read back as the same program, and nothing is left where writing fails.
#![allow(clippy::unwrap_used)] // a helper that fails is a test that fails

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use coreml_format::mil::{Program, Value, from_text, to_text};
use coreml_format::{ErrorKind, FormatError, IfExists, Package, compile, decompile};
use serde_json::Value as Json;
use support::fixture;
use tempfile::TempDir;

/// What a compiler changes of a program: the order of parameters, the shapes that it notes, and what it
/// says of itself.
fn normalised(program: &Program) -> Program {
    let mut program = program.clone();
    program.attributes.remove("buildInfo");
    for function in program.functions.values_mut() {
        function.inputs.sort_by(|one, other| one.name.cmp(&other.name));
        function.attributes.remove("FlexibleShapeInformation");
    }
    program
}

fn opened(path: &Path) -> Package {
    Package::open(path).unwrap()
}

/// Names in a directory, sorted.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Compiles a model and makes a package of that again; whether it is an ML Program.
fn goes_around(path: &Path) -> bool {
    let package = match Package::open(path) {
        Ok(package) if package.program().is_ok() => package,
        _ => return false,
    };
    let place = path.display();
    let dir = tempfile::tempdir().unwrap();
    let (there, back) = (dir.path().join("a.mlmodelc"), dir.path().join("a.mlpackage"));
    let program = package.program().unwrap();
    let description = package.description().unwrap();

    let there = match path.extension() {
        Some(ending) if ending == "mlmodelc" => path.to_owned(),
        _ => {
            compile(&package, &there, IfExists::Refuse).unwrap();
            there
        }
    };
    let compiled = opened(&there);
    assert!(normalised(compiled.program().unwrap()) == normalised(program), "{place}, compiled");
    assert_eq!(compiled.description().unwrap(), description, "{place}, compiled");

    decompile(&compiled, &back, IfExists::Refuse).unwrap();
    let again = opened(&back);
    assert!(normalised(again.program().unwrap()) == normalised(program), "{place}, back");
    assert_eq!(again.description().unwrap(), description, "{place}, back");
    true
}

#[test]
fn fixtures_go_around() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/packages");
    let mut paths = support::models(&fixture(""));
    // They are in the repository and not in the package of this crate.
    if shared.is_dir() {
        paths.extend(support::models(&shared));
    }
    let programs = paths.iter().filter(|path| goes_around(path)).count();
    assert!(programs >= 4, "{programs}");
}

#[test]
fn real_models_go_around() {
    let Some(models) = support::real_models() else { return };
    let paths = support::models(&models);
    // One of them is there without its weights.
    let whole = paths.iter().filter(|path| !path.to_string_lossy().contains("noweights"));
    let programs = whole.filter(|path| goes_around(path)).count();
    assert!(programs > 10, "{programs}");
}

/// Parameters have the order of the description again.
#[test]
fn a_package_is_what_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (there, back) = (dir.path().join("a.mlmodelc"), dir.path().join("a.mlpackage"));
    for name in ["stateful", "palettized"] {
        let package = opened(&fixture(&format!("{name}.mlpackage")));
        compile(&package, &there, IfExists::Replace).unwrap();
        decompile(&opened(&there), &back, IfExists::Replace).unwrap();
        let again = opened(&back);
        let inputs =
            |package: &Package| package.program().unwrap().functions["main"].inputs.clone();
        assert_eq!(inputs(&again), inputs(&package));
        let weights = "Data/com.apple.CoreML/weights/weight.bin";
        let read = |package: &Package| fs::read(package.path().join(weights)).unwrap();
        assert_eq!(read(&again), read(&package));
        assert_eq!(names(&back), ["Data", "Manifest.json"]);
    }
}

/// Apple's forms, as its compiler's files show them (see `docs/compiled-models.md`).
#[test]
fn text_is_spelled_as_in_compiled_models() {
    let text = r#"program(1.3)
    [buildInfo = dict<string, string>({{"coremltools-version", "9.0"}, {"coremlc-version", "1"}})]
    { func main<ios16>(tensor<fp16, [1, ?]> y, tensor<int32, [2]> x) {
        fp16 c = const()[name = string("c"), val = fp16(0.5)];
        tensor<fp32, [3]> d = const()[val = tensor<fp32, [3]>([-1, 0.97, inf])];
        fp16 e = cond(pred = bool(true))
            { fp16 f = relu(x = c)[name = string("f")]; } -> (f), { } -> (c);
    } -> (e, d); }"#;
    let package = Package::from_program(from_text(text).unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("m.mlmodelc");
    compile(&package, &out, IfExists::Refuse).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let expected = format!(
        r#"program(1.0)
[buildInfo = dict<tensor<string, []>, tensor<string, []>>({{{{"candle-coreml-version", "{version}"}}, {{"coremltools-version", "9.0"}}}})]
{{
    func main<ios16>(tensor<int32, [2]> x, tensor<fp16, [1, ?]> y) [FlexibleShapeInformation = tuple<tuple<tensor<string, []>, dict<tensor<string, []>, tensor<int32, [?]>>>, tuple<tensor<string, []>, dict<tensor<string, []>, list<tensor<int32, [2]>, ?>>>>((("DefaultShapes", {{{{"y", [1, 1]}}}}), ("RangeDims", {{{{"y", [[1, 1], [1, -1]]}}}})))] {{
            tensor<fp16, []> c = const()[name = tensor<string, []>("c"), val = tensor<fp16, []>(0x1p-1)];
            tensor<fp32, [3]> d = const()[val = tensor<fp32, [3]>([-0x1p+0, 0x1.f0a3d8p-1, inf])];
            tensor<fp16, []> e = cond(pred = tensor<bool, []>(true))
                () {{
                    tensor<fp16, []> f = relu(x = c)[name = tensor<string, []>("f")];
                }} -> (f)
                () {{
                }} -> (c);
        }} -> (e, d);
}}"#
    );
    assert_eq!(fs::read_to_string(out.join("model.mil")).unwrap(), expected);
}

/// A line that tests of coremltools look for.
#[test]
fn weights_in_files_are_spelled_as_coremltools_looks_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("m.mlmodelc");
    compile(&opened(&fixture("stateful.mlpackage")), &out, IfExists::Refuse).unwrap();
    let text = fs::read_to_string(out.join("model.mil")).unwrap();
    let blob = r#"tensor<fp16, [32]>(BLOBFILE(path = string("@model_path/weights/weight.bin"), offset = uint64("#;
    assert!(text.contains(blob), "{text}");
}

/// A model in a directory of its own.
struct Room {
    dir: TempDir,
    out: PathBuf,
}

impl Room {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out.mlmodelc");
        support::copy_dir(&fixture("palettized.mlpackage"), &dir.path().join("in.mlpackage"));
        Room { dir, out }
    }

    fn package(&self) -> Package {
        opened(&self.dir.path().join("in.mlpackage"))
    }

    /// Expects an error, and nothing else in the directory than before.
    fn refused(&self, package: &Package, if_exists: IfExists) -> FormatError {
        let before = names(self.dir.path());
        let error = compile(package, &self.out, if_exists).unwrap_err();
        assert_eq!(names(self.dir.path()), before, "{error}");
        error
    }
}

#[test]
fn what_exists_is_replaced_only_when_asked_to_and_if_it_is_a_model() {
    let room = Room::new();
    compile(&room.package(), &room.out, IfExists::Refuse).unwrap();
    fs::write(room.out.join("mine.txt"), "kept").unwrap();
    let error = room.refused(&room.package(), IfExists::Refuse);
    assert!(error.to_string().contains("already exists"), "{error}");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);

    compile(&room.package(), &room.out, IfExists::Replace).unwrap();
    assert!(!room.out.join("mine.txt").exists());
    assert_eq!(names(room.dir.path()), ["in.mlpackage", "out.mlmodelc"]);
    assert_eq!(
        names(&room.out),
        ["analytics", "coremldata.bin", "metadata.json", "model.mil", "weights"]
    );

    // A directory of the user's, a file, and the model itself.
    fs::remove_dir_all(&room.out).unwrap();
    fs::create_dir(&room.out).unwrap();
    fs::write(room.out.join("thesis.txt"), "years").unwrap();
    let error = room.refused(&room.package(), IfExists::Replace);
    assert!(error.to_string().contains("is not replaced"), "{error}");
    assert!(room.out.join("thesis.txt").exists());
    fs::remove_dir_all(&room.out).unwrap();
    fs::write(&room.out, "a file").unwrap();
    room.refused(&room.package(), IfExists::Replace);
    let own = room.dir.path().join("in.mlpackage");
    assert!(compile(&room.package(), &own, IfExists::Replace).is_err());
    assert!(room.package().program().is_ok());
}

#[test]
fn a_model_within_what_is_replaced_stays() {
    let room = Room::new();
    compile(&room.package(), &room.out, IfExists::Refuse).unwrap();
    let inside = room.out.join("in.mlpackage");
    fs::rename(room.dir.path().join("in.mlpackage"), &inside).unwrap();
    let error = room.refused(&opened(&inside), IfExists::Replace);
    assert!(error.to_string().contains("holds the model itself"), "{error}");
    assert!(inside.exists());
}

#[test]
fn nothing_is_left_where_weights_are_missing_or_broken() {
    let room = Room::new();
    let weights = room.dir.path().join("in.mlpackage/Data/com.apple.CoreML/weights/weight.bin");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, &bytes[..100]).unwrap();
    let error = room.refused(&room.package(), IfExists::Refuse);
    assert_eq!(error.kind(), ErrorKind::BrokenModel, "{error}");
    assert!(error.to_string().contains("weight.bin"), "{error}");
    fs::remove_file(&weights).unwrap();
    let error = room.refused(&room.package(), IfExists::Refuse);
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains("weight.bin"), "{error}");
}

#[test]
fn directories_that_are_not_there_are_named() {
    let room = Room::new();
    let out = room.dir.path().join("missing/out.mlmodelc");
    let error = compile(&room.package(), &out, IfExists::Refuse).unwrap_err().to_string();
    assert!(error.contains("cannot write") && error.contains("missing/out.mlmodelc"), "{error}");
    for path in ["/", "..", ""] {
        assert!(compile(&room.package(), path, IfExists::Replace).is_err(), "{path}");
    }
}

#[cfg(unix)]
#[test]
fn weights_are_no_links() {
    use std::os::unix::fs::MetadataExt;
    let room = Room::new();
    compile(&room.package(), &room.out, IfExists::Refuse).unwrap();
    let weights = room.out.join("weights/weight.bin").symlink_metadata().unwrap();
    assert!(weights.is_file() && weights.nlink() == 1);
}

#[test]
fn only_ml_programs_are_compiled() {
    let dir = tempfile::tempdir().unwrap();
    // A model of version 1 with an empty neural network (field 500), whose description is empty.
    let path = dir.path().join("network.mlmodel");
    fs::write(&path, [0x08, 1, 0x12, 0, 0xA2, 0x1F, 0]).unwrap();
    let error = compile(&opened(&path), dir.path().join("a"), IfExists::Refuse).unwrap_err();
    assert!(
        error.to_string().contains("is a neural network, not an ML Program: convert"),
        "{error}"
    );
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(names(dir.path()), ["network.mlmodel"]);
}

#[test]
fn forms_are_not_mixed_up() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let compiled = opened(&fixture("stateful.mlmodelc"));
    let error = compile(&compiled, &out, IfExists::Refuse).unwrap_err();
    assert!(error.to_string().contains("is a compiled model (.mlmodelc), not"), "{error}");
    let package = opened(&fixture("stateful.mlpackage"));
    let error = decompile(&package, &out, IfExists::Refuse).unwrap_err();
    assert!(error.to_string().contains("is a model package (.mlpackage), not"), "{error}");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(names(dir.path()).is_empty());
}

/// Names that are no names in MIL text would be read as other programs.
#[test]
fn names_that_text_can_not_have_are_refused() {
    let text = "program(1.3) { func main<ios16>(fp16 x) { fp16 y = relu(x = x); } -> (y); }";
    let original = from_text(text).unwrap();
    let hostile = "z = relu(x = x); fp16 y";
    let dir = tempfile::tempdir().unwrap();
    let rename: [fn(&mut Program, &str); 4] = [
        |program, name| {
            let main = program.functions.remove("main").unwrap();
            program.functions.insert(name.to_owned(), main);
        },
        |program, name| {
            let function = program.functions.get_mut("main").unwrap();
            function.block.operations[0].outputs[0].name = name.to_owned();
            function.block.outputs[0] = name.to_owned();
        },
        |program, name| {
            let function = program.functions.get_mut("main").unwrap();
            function.block.operations[0].operator = name.to_owned();
        },
        |program, name| {
            let function = program.functions.get_mut("main").unwrap();
            let attributes = &mut function.block.operations[0].attributes;
            attributes.insert(name.to_owned(), Value::string("a"));
        },
    ];
    for rename in rename {
        for name in [hostile, "", "1", "a b", "a\n"] {
            let mut program = original.clone();
            rename(&mut program, name);
            let package = Package::from_program(program).unwrap();
            let error = compile(&package, dir.path().join("a"), IfExists::Refuse).unwrap_err();
            assert!(error.to_string().contains("is no name for MIL text"), "{error}");
        }
    }
    assert!(names(dir.path()).is_empty());
    // Strings are quoted, whatever they hold.
    let mut program = original.clone();
    let function = program.functions.get_mut("main").unwrap();
    let value = Value::string("\")]; \u{0} \\ \n é");
    function.block.operations[0].attributes.insert("name".into(), value);
    let package = Package::from_program(program.clone()).unwrap();
    let out = dir.path().join("a");
    compile(&package, &out, IfExists::Refuse).unwrap();
    assert_eq!(to_text(&normalised(opened(&out).program().unwrap())), to_text(&program));
}

/// Protobuf nests less deep than text.
#[test]
fn what_could_not_be_read_again_is_not_written() {
    let nested = |depth| {
        let open = "bool b = cond(pred = c) { ".repeat(depth);
        let close = "} -> (c) { } -> (c);".repeat(depth);
        format!("program(1.3) {{ func main<ios18>(bool c) {{ {open}{close} }} -> (c); }}")
    };
    let dir = tempfile::tempdir().unwrap();
    let (source, out) = (dir.path().join("a.mlmodelc"), dir.path().join("a.mlpackage"));
    support::copy_dir(&fixture("stateful.mlmodelc"), &source);
    for (depth, possible) in [(20, true), (60, false)] {
        fs::write(source.join("model.mil"), nested(depth)).unwrap();
        let written = decompile(&opened(&source), &out, IfExists::Refuse);
        assert_eq!(written.is_ok(), possible, "{written:?}");
        assert_eq!(out.exists(), possible);
        let _ = fs::remove_dir_all(&out);
    }
    assert_eq!(names(dir.path()), ["a.mlmodelc"]);

    let text = r#"program(1.3) { func main<ios18>(bool c) [n = dict<string, int32>({{"a", 1}, {"b", 2}})]
        { } -> (c); }"#;
    let mut program = from_text(text).unwrap();
    let attributes = &mut program.functions.get_mut("main").unwrap().attributes;
    let Some(Value::Dictionary(entries)) = attributes.get_mut("n") else { panic!("none") };
    entries[1].1 = Value::string("two");
    let package = Package::from_program(program).unwrap();
    let error = compile(&package, &out, IfExists::Refuse).unwrap_err().to_string();
    assert!(error.starts_with("in `model.mil`: line"), "{error}");
    assert!(!out.exists());
}

/// Whatever bytes a model file has, compiling ends, and leaves a whole model or nothing.
#[test]
fn damaged_models_leave_nothing_behind() {
    let room = Room::new();
    let file = room.dir.path().join("in.mlpackage/Data/com.apple.CoreML/model.mlmodel");
    let bytes = fs::read(&file).unwrap();
    for step in 0..100 {
        let mut damaged = bytes.clone();
        let at = step * bytes.len() / 100;
        damaged[at] = damaged[at].wrapping_add(1 + step as u8);
        if step % 5 == 0 {
            damaged.truncate(at);
        }
        fs::write(&file, damaged).unwrap();
        let Ok(package) = Package::open(room.dir.path().join("in.mlpackage")) else { continue };
        match compile(&package, &room.out, IfExists::Refuse) {
            Ok(()) => {
                assert!(opened(&room.out).program().is_ok());
                fs::remove_dir_all(&room.out).unwrap();
            }
            Err(_) => assert_eq!(names(room.dir.path()), ["in.mlpackage"]),
        }
    }
}

/// The descriptions are those of the compiled fixtures, which are not made by this crate.
#[test]
fn descriptions_are_those_of_compiled_models() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["stateful", "palettized"] {
        let out = dir.path().join(name);
        let theirs = fixture(&format!("{name}.mlmodelc"));
        compile(&opened(&fixture(&format!("{name}.mlpackage"))), &out, IfExists::Refuse).unwrap();
        let read = |model: &Path| {
            let bytes = fs::read(model.join("metadata.json")).unwrap();
            serde_json::from_slice::<Json>(&bytes).unwrap()[0].clone()
        };
        assert_has(&read(&out), &read(&theirs), name);
    }
}

/// The form that files of Apple's compiler have (see `docs/compiled-models.md`).
#[test]
fn binary_files_have_their_form() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("a");
    let number = |number: u64| number.to_le_bytes().to_vec();
    let text = |text: &str| [number(text.len() as u64), text.into()].concat();
    for (name, form, version) in [("palettized", 5, 7), ("stateful", 9, 9)] {
        let package = opened(&fixture(&format!("{name}.mlpackage")));
        compile(&package, &out, IfExists::Replace).unwrap();
        let kind = 502u32.to_le_bytes().to_vec();
        let versions = [[form, 0, 0].map(number).concat(), [version, 0, 0, 0].map(number).concat()];
        let header = [kind, versions[0].clone(), text("generic"), versions[1].clone()].concat();
        let bytes = fs::read(out.join("coremldata.bin")).unwrap();
        let rest = bytes.strip_prefix(header.as_slice()).unwrap();
        let rest = rest.strip_suffix([502, 0].map(number).concat().as_slice()).unwrap();
        let (length, message) = rest.split_at(8);
        assert_eq!(length, number(message.len() as u64));
        // The message is a part of the source's file.
        let file = package.path().join("Data/com.apple.CoreML/model.mlmodel");
        let file = fs::read(file).unwrap();
        assert!(file.windows(message.len()).any(|window| window == message));

        let analytics = fs::read(out.join("analytics/coremldata.bin")).unwrap();
        let start =
            ["NeuralNetworkModelDetails", "containsCustomLayer", "0", "modelDimension", "0"];
        let [details, parts @ ..] = start.map(text);
        let start = [details, number(2), parts.concat(), text("SpecificationDetails"), number(2)];
        let rest = analytics.strip_prefix(start.concat().as_slice()).unwrap();
        // A hash of 32 bytes takes 44 letters.
        let names = [text("modelName"), text("model")].concat();
        assert_eq!(rest.len(), text("modelHash").len() + 8 + 44 + names.len());
        assert!(rest.starts_with(&text("modelHash")) && rest.ends_with(&names));
    }
}

/// Whether all is there that is stated; empty texts and flags that are not set may be left out.
fn assert_has(ours: &Json, stated: &Json, place: &str) {
    match (ours, stated) {
        (Json::Object(ours), Json::Object(stated)) => {
            let set = stated.iter().filter(|(_, stated)| **stated != "" && **stated != "0");
            for (field, stated) in set {
                let ours = ours.get(field).unwrap_or(&Json::Null);
                assert_has(ours, stated, &format!("{place}, {field}"));
            }
        }
        (Json::Array(ours), Json::Array(stated)) => {
            assert_eq!(ours.len(), stated.len(), "{place}");
            for (ours, stated) in ours.iter().zip(stated) {
                assert_has(ours, stated, place);
            }
        }
        _ => assert_eq!(ours, stated, "{place}"),
    }
}

/// A weight file that has the name of another file of the model does not become that file.
#[test]
fn weights_do_not_take_the_place_of_other_files() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("a.mlmodelc");
    support::copy_dir(&fixture("stateful.mlmodelc"), &source);
    let text = fs::read_to_string(source.join("model.mil")).unwrap();
    let renamed = text.replace("@model_path/weights/weight.bin", "@model_path/model.mlmodel");
    fs::write(source.join("model.mil"), renamed).unwrap();
    fs::rename(source.join("weights/weight.bin"), source.join("model.mlmodel")).unwrap();
    let out = dir.path().join("a.mlpackage");
    let error = decompile(&opened(&source), &out, IfExists::Refuse).unwrap_err();
    assert!(error.to_string().contains("model.mlmodel"), "{error}");
    assert_eq!(names(dir.path()), ["a.mlmodelc"]);
}
