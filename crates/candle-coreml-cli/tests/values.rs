//! `predict` and `inspect` from outside: files of inputs and outputs, and models made to do harm.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::path::{Path, PathBuf};
use std::process::Output;

use candle_core::{Device, Tensor};
use common::{compiled_model, failure_alone as failure, stdout};
use serde_json::{Value as Json, json};

fn run(arguments: &[&str]) -> Output {
    common::command(arguments).output().unwrap()
}

fn json(arguments: &[&str]) -> Json {
    serde_json::from_str(&stdout(&run(arguments))).unwrap()
}

/// A model that gives its input back.
fn identity(input: &str) -> tempfile::TempDir {
    let (element, shape, name, range) = match input {
        "open" => ("fp32", "[?, 3]", "Float32", "[[0, -1], [3, 3]]"),
        "fp32" => (input, "[2, 3]", "Float32", "[2, 3]"),
        "fp16" => (input, "[2, 3]", "Float16", "[2, 3]"),
        "int32" => (input, "[2, 3]", "Int32", "[2, 3]"),
        "int8" => (input, "[2, 3]", "Int8", "[2, 3]"),
        other => panic!("{other}"),
    };
    compiled_model(
        &[("x", name, range)],
        &format!(
            "(tensor<{element}, {shape}> x) {{
                tensor<{element}, {shape}> y = identity(x = x);
            }} -> (y);"
        ),
    )
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn predict_takes_what_numpy_writes() {
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/numpy");
    let cases = std::fs::read_to_string(files.join("cases.json")).unwrap();
    let cases: Vec<Json> = serde_json::from_str(&cases).unwrap();
    assert!(cases.len() > 50);
    for case in cases {
        let name = case["file"].as_str().unwrap();
        let model = identity(case["input"].as_str().unwrap());
        let file = format!("x={}", text(&files.join(name)));
        let output = run(&["predict", text(model.path()), "--input", &file, "--json"]);
        match case["error"].as_str() {
            Some(expected) => {
                let message = failure(&output);
                assert!(message.contains(expected) && message.contains(name), "{name}: {message}");
            }
            None => {
                let report: Json = serde_json::from_str(&stdout(&output)).unwrap();
                assert_eq!(
                    floats(&report["outputs"][0]["values"]),
                    floats(&case["values"]),
                    "{name}"
                );
            }
        }
    }
}

/// With all numbers as floats: 1 and 1.0 are the same.
fn floats(json: &Json) -> Json {
    match json {
        Json::Array(items) => items.iter().map(floats).collect(),
        Json::Number(number) => json!(number.as_f64()),
        other => other.clone(),
    }
}

#[test]
fn files_that_lie_about_their_size_are_refused_at_once() {
    let model = identity("open");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("x.npy");
    let argument = format!("x={}", text(&file));
    let predict = || run(&["predict", text(model.path()), "--input", &argument]);
    let npy = |shape: &str, data: usize| {
        let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n");
        let length = u16::try_from(header.len()).unwrap().to_le_bytes();
        [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), &vec![0; data]].concat()
    };
    let cases = [
        (npy("(2, 3)", 23), "has 23 bytes"),
        (npy("(2, 3)", 25), "goes on behind"),
        (npy("(1000000000000, 3)", 24), "has 24 bytes"),
        (npy("(9223372036854775807, 3)", 24), "claims the shape"),
        (npy("(-1, 3)", 24), "has the shape (-1, 3)"),
        (npy("(99999999999999999999, 3)", 24), "has the shape (99999999999999999999, 3)"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{".to_vec(), "header of 4294967295 bytes"),
        (b"\x93NUMPY\x01\x00\xff\xff{".to_vec(), "ends within its header"),
        (b"\x93NUMPY\x09\x00".to_vec(), "version 9"),
        (b"\x93NUMPY".to_vec(), "too short"),
        (b"PK\x03\x04 and no archive".to_vec(), "no .npz archive"),
        (b"\xff\xfe".to_vec(), "is no NumPy array"),
        (Vec::new(), "is no JSON"),
    ];
    for (bytes, expected) in cases {
        std::fs::write(&file, bytes).unwrap();
        let message = failure(&predict());
        assert!(message.contains(expected), "{expected}: {message}");
    }
    // Each beginning of a good file.
    let good = npy("(2, 3)", 24);
    for end in 0..good.len() {
        std::fs::write(&file, &good[..end]).unwrap();
        failure(&predict());
    }
}

#[test]
fn an_input_that_is_missing_is_explained_with_all_that_are_needed() {
    let inputs = [("x", "Float32", "[2, 3]"), ("ids", "Int32", "[[1, -1], [3, 3]]")];
    let model = compiled_model(
        &inputs,
        "(tensor<fp32, [2, 3]> x, tensor<int32, [?, 3]> ids) {
            tensor<fp32, [?, 3]> z = cast(x = ids, dtype = string(\"fp32\"));
            tensor<fp32, [2, 3]> y = add(x = x, y = z);
        } -> (y);",
    );
    let model = text(model.path());
    for arguments in
        [&["predict", model, "--input", "x=1"][..], &["predict", model, "--input", "X=1"]]
    {
        let message = failure(&run(arguments));
        for part in ["`ids`", "\n  x    MultiArray Float32 [2, 3]\n", "\n  ids  MultiArray Int32"] {
            assert!(
                message.contains(part) || arguments[3] == "X=1" && part == "`ids`",
                "{message}"
            );
        }
        let line = format!("candle-coreml predict {model} --input x=0 --input ids=FILE.npy");
        assert!(message.contains(&line), "{message}");
    }
    let twice = ["predict", model, "--input", "x=1", "--input", "x=2"];
    assert!(failure(&run(&twice)).contains("input `x` is given twice"));
}

#[test]
fn predict_prints_all_of_a_call_as_json() {
    let model = identity("fp32");
    let model = text(model.path());
    let input = "x=[[NaN, Infinity, 0.1], [1, 2, -Infinity]]";
    let report = json(&["predict", model, "--input", input, "--json"]);
    assert_eq!((&report["model"], &report["function"]), (&json!(model), &json!("main")));
    assert_eq!(report["inputs"], json!([{"name": "x", "dtype": "float32", "shape": [2, 3]}]));
    assert_eq!(
        report["outputs"],
        json!([{
            "name": "y",
            "dtype": "float32",
            "shape": [2, 3],
            "statistics": {
                "least": 0.1,
                "greatest": 2.0,
                // The mean of 0.1 as a float32, 1 and 2.
                "mean": (f64::from(0.1f32) + 3.0) / 3.0,
                "nan": 1,
                "positive_infinity": 1,
                "negative_infinity": 1
            },
            "values": [["NaN", "Infinity", 0.1], [1.0, 2.0, "-Infinity"]]
        }])
    );
    assert!(report["timings"]["predict_seconds"].as_f64().unwrap() >= 0.0);
    assert!(report["timings"]["load_seconds"].as_f64().unwrap() >= 0.0);
    let repeated = json(&["predict", model, "--input", input, "--json", "--repeat", "3"]);
    assert_eq!(repeated["outputs"], report["outputs"]);
    let timings = &repeated["timings"];
    let seconds = |key: &str| timings[key].as_f64().unwrap();
    assert!(seconds("fastest_seconds") <= seconds("predict_seconds"));
    assert!(!run(&["predict", model, "--input", input, "--repeat", "0"]).status.success());
    // What it prints is an input again.
    let again = format!("x={}", report["outputs"][0]["values"]);
    assert_eq!(
        json(&["predict", model, "--input", &again, "--json"])["outputs"],
        report["outputs"]
    );

    let shown = stdout(&run(&["predict", model, "--input", input]));
    assert_eq!(
        shown,
        "y: float32 [2, 3], least 0.1, greatest 2, mean 1.03333, 1 NaN, 1 inf, 1 -inf\n  \
         [NaN, inf, 0.1, 1, 2, -inf]\n"
    );
}

#[test]
fn predict_says_what_it_wrote_and_writes_the_types_of_the_program() {
    let model = compiled_model(
        &[("x", "Float32", "[2, 3]")],
        "(tensor<fp32, [2, 3]> x) {
            tensor<fp16, [2, 3]> half = cast(x = x, dtype = string(\"fp16\"));
            tensor<int8, [2, 3]> int = cast(x = x, dtype = string(\"int8\"));
            tensor<bool, [2, 3]> big = greater(x = x, y = fp32(2));
        } -> (half, int, big);",
    );
    let model = text(model.path());
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("new/out");
    let input = "x=[1, 2, 3, -4, 5, 6]";
    let arguments = ["predict", model, "--input", input, "--output-dir", text(&out)];
    let file = |name: &str| out.join(name).to_str().unwrap().to_owned();
    let expected = format!(
        "half: float16 [2, 3] → {}\nint: int8 [2, 3] → {}\nbig: bool [2, 3] → {}\n",
        file("half.npy"),
        file("int.npy"),
        file("big.npy")
    );
    assert_eq!(stdout(&run(&arguments)), expected);
    let report = json(&[&arguments[..], &["--json"]].concat());
    let outputs = report["outputs"].as_array().unwrap();
    let files: Vec<&Json> = outputs.iter().map(|output| &output["file"]).collect();
    assert_eq!(files, [&file("half.npy"), &file("int.npy"), &file("big.npy")]);
    assert_eq!(outputs[2]["values"], json!([[false, false, true], [false, true, true]]));

    // As NumPy writes them: `numpy.save` of the same arrays gives these bytes.
    let header = |descr: &str| {
        let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (2, 3), }}");
        [b"\x93NUMPY\x01\x00v\x00", format!("{text:<117}\n").as_bytes()].concat()
    };
    let bytes = |name: &str| std::fs::read(out.join(name)).unwrap();
    assert_eq!(bytes("int.npy"), [header("|i1"), vec![1, 2, 3, 252, 5, 6]].concat());
    assert_eq!(bytes("big.npy"), [header("|b1"), vec![0, 0, 1, 0, 1, 1]].concat());
    let halves = Tensor::read_npy(out.join("half.npy")).unwrap();
    let expected = Tensor::new(&[[1f32, 2.0, 3.0], [-4.0, 5.0, 6.0]], &Device::Cpu).unwrap();
    assert_eq!(
        halves.to_dtype(candle_core::DType::F32).unwrap().to_vec2::<f32>().unwrap(),
        expected.to_vec2::<f32>().unwrap()
    );
    assert_eq!(halves.dtype(), candle_core::DType::F16);
}

/// A field of a protobuf message.
fn field(number: u32, content: &[u8]) -> Vec<u8> {
    [varint(u64::from(number << 3 | 2)), varint(content.len() as u64), content.to_vec()].concat()
}

/// Another field, of a number.
fn number(number: u32, value: u64) -> Vec<u8> {
    [varint(u64::from(number << 3)), varint(value)].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 128 {
        bytes.push(value as u8 | 128);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// An ML Program of one operation on floats of shape `[1]`, with these texts wherever a model has some.
fn model_of(directory: &Path, name: &str, operator: &str, texts: &str) -> PathBuf {
    let (name, texts) = (name.as_bytes(), texts.as_bytes());
    let entry = |key: &[u8], value: &[u8]| [field(1, key), field(2, value)].concat();
    let array = field(5, &[field(1, &[1]), number(2, 65568)].concat());
    let feature = |name: &[u8]| [field(1, name), field(2, texts), field(3, &array)].concat();
    let own = [b"own ", texts].concat();
    let metadata: Vec<u8> = (1..5).map(|number| field(number, texts)).collect::<Vec<_>>().concat();
    let metadata = [metadata, field(100, &entry(&own, texts))].concat();
    let output = [b"y", name].concat();
    let description =
        [field(1, &feature(name)), field(10, &feature(&output)), field(100, &metadata)].concat();

    let tensor =
        field(1, &[number(1, 11), number(2, 1), field(3, &field(1, &number(1, 1)))].concat());
    let value = |name: &[u8]| [field(1, name), field(2, &tensor)].concat();
    let argument = field(1, &field(1, name));
    let operation = [
        field(1, operator.as_bytes()),
        field(2, &entry(b"x", &argument)),
        field(3, &value(&output)),
    ];
    let block = [field(2, &output), field(3, &operation.concat())].concat();
    let function =
        [field(1, &value(name)), field(2, b"CoreML5"), field(3, &entry(b"CoreML5", &block))];
    let program = [number(1, 1), field(2, &entry(b"main", &function.concat()))].concat();
    let file = directory.join("model.mlmodel");
    let model = [number(1, 6), field(2, &description), field(502, &program)].concat();
    std::fs::write(&file, model).unwrap();
    file
}

/// Sets the title, clears the screen, turns text red and around.
const STEERING: &str = "\u{1b}]0;PWNED\u{7}\u{1b}[2J\u{9b}31mred\r\nerror: fake\u{1b}[0m\u{202e}";

/// Only lines of characters that can be seen, and not very many of them.
fn assert_harmless(text: &str) {
    let steers = |c: char| c != '\n' && c.is_control() || "\u{202e}\u{2066}\u{2028}".contains(c);
    assert!(!text.contains(steers), "{text:?}");
    assert!(text.len() < 110_000, "{} bytes", text.len());
}

#[test]
fn no_file_writes_control_sequences_to_a_terminal() {
    let directory = tempfile::tempdir().unwrap();
    let name = format!("x{STEERING}");
    for (operator, runs) in [("relu", true), (&*format!("relu{STEERING}"), false)] {
        let model = model_of(directory.path(), &name, operator, STEERING);
        let model = text(&model);
        let shown = stdout(&run(&["inspect", model]));
        assert_harmless(&shown);
        assert!(shown.contains(r"x\u{1b}]0;PWNED\u{7}\u{1b}[2J\u{9b}31mred\r\nerror"), "{shown}");
        assert!(shown.contains("Runs here") == runs, "{shown}");
        // Programs get it all, escaped as JSON does.
        let json = json(&["inspect", model, "--json"]);
        assert_eq!(json["functions"][0]["inputs"][0]["name"], name);
        assert_eq!(json["metadata"]["short_description"], STEERING);
        if runs {
            assert_harmless(&stdout(&run(&["inspect", model, "--plan"])));
            let input = format!("{name}=1");
            assert_harmless(&stdout(&run(&["predict", model, "--input", &input])));
            let out = directory.path().join("out");
            let arguments = ["predict", model, "--input", &input, "--output-dir", text(&out)];
            assert_harmless(&failure(&run(&arguments)));
        }
        assert_harmless(&failure(&run(&["predict", model])));
    }
}

#[test]
fn no_file_writes_very_much_to_a_terminal() {
    let directory = tempfile::tempdir().unwrap();
    let long = "long ".repeat(40_000);
    let model = model_of(directory.path(), &long, "relu", &long);
    let shown = stdout(&run(&["inspect", text(&model)]));
    assert!(shown.len() < 20_000 && shown.contains("long …"), "{shown}");
    assert_harmless(&failure(&run(&["predict", text(&model)])));
    let json = json(&["inspect", text(&model), "--json"]);
    assert_eq!(json["metadata"]["license"], long);
}

#[test]
fn inspect_shows_columns_that_align_and_sizes_for_people() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    let chunk = root.join("llm/two-chunks-fp16/qwen_FFN_PF_chunk_01of02.mlpackage");
    let shown = stdout(&run(&["inspect", text(&chunk)]));
    let starts = |role: &str| -> Vec<usize> {
        let lines = shown.lines().filter(|line| line.starts_with(&format!("  {role}")));
        lines.map(|line| line.find("MultiArray").or(line.find("State")).unwrap()).collect()
    };
    let inputs = starts("input");
    assert!(inputs.len() > 2 && inputs[..4].iter().all(|start| *start == inputs[0]), "{shown}");
    let weights = shown.split_once("\nWeights\n").unwrap().1;
    assert!(
        weights.lines().any(|line| line.contains("KiB") && line.ends_with("fp16")),
        "{weights}"
    );
    let json = json(&["inspect", text(&chunk), "--json"]);
    assert!(json["weights"][0]["bytes"].is_u64(), "{json}");
}
