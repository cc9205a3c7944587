//! Constructs of MIL text, one by one.
#![allow(clippy::unwrap_used)] // a helper that fails is a test that fails

use coreml_format::FormatError;
use coreml_format::mil::{
    Argument, Binding, BlobFileValue, Dimension, ElementType, Function, Opset, TensorData,
    TensorType, TensorValue, Value, ValueType, from_text,
};

/// A program around a function's statements.
fn program(statements: &str) -> String {
    format!("program(1.3)\n{{ func main<ios18>(tensor<fp16, [2]> x) {{ {statements} }} -> (x); }}")
}

fn main_of(text: &str) -> Function {
    match from_text(text) {
        Ok(mut program) => program.functions.remove("main").unwrap(),
        Err(error) => panic!("{text}\n{error}"),
    }
}

/// The value of `const()[val = TEXT]`, which must have moved to the inputs.
fn constant(text: &str) -> Value {
    let function = main_of(&program(&format!("fp16 c = const()[val = {text}];")));
    let operation = &function.block.operations[0];
    assert!(operation.attributes.is_empty());
    match &operation.inputs["val"] {
        Argument(bindings) => match bindings.as_slice() {
            [Binding::Value(value)] => value.clone(),
            other => panic!("{other:?}"),
        },
    }
}

fn tensor(element: ElementType, shape: &[usize], bytes: &[u8]) -> Value {
    let ty = TensorType::fixed(element, shape);
    Value::Tensor(TensorValue { ty, data: TensorData::Bytes(bytes.into()) })
}

#[test]
fn constants() {
    use ElementType::*;
    let floats = |values: &[f32]| -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    };
    // Bytes by hand or by IEEE 754.
    let cases: Vec<(&str, Value)> = vec![
        (r#"tensor<string, []>("x")"#, Value::string("x")),
        (r#"string("a \"b\" \\ é\n")"#, Value::string("a \"b\" \\ é\n")),
        ("tensor<bool, []>(true)", tensor(Bool, &[], &[1])),
        ("bool(false)", tensor(Bool, &[], &[0])),
        ("fp16(0x1p+0)", tensor(Float16, &[], &[0x00, 0x3C])),
        ("fp16(-inf)", tensor(Float16, &[], &[0x00, 0xFC])),
        ("fp16(0x1.388p+13)", tensor(Float16, &[], &[0xE2, 0x70])),
        ("bf16(0x1p+0)", tensor(BFloat16, &[], &[0x80, 0x3F])),
        ("fp32(inf)", tensor(Float32, &[], &floats(&[f32::INFINITY]))),
        ("fp64(0x1p+0)", tensor(Float64, &[], &1f64.to_le_bytes())),
        ("fp32(1.5e-3)", tensor(Float32, &[], &floats(&[1.5e-3]))),
        (
            "tensor<fp32, [1, 2]>([[0x1p+0, -0x1.8p-3]])",
            tensor(Float32, &[1, 2], &floats(&[1.0, -0.1875])),
        ),
        ("tensor<int32, [2]>([-1, 64])", tensor(Int32, &[2], &[255, 255, 255, 255, 64, 0, 0, 0])),
        ("tensor<int32, [?]>([7])", tensor(Int32, &[1], &[7, 0, 0, 0])),
        ("tensor<uint16, [1]>([65535])", tensor(UInt16, &[1], &[255, 255])),
        ("uint64(18446744073709551615)", tensor(UInt64, &[], &[255; 8])),
        ("tensor<uint4, [3]>([1, 2, 15])", tensor(UInt4, &[3], &[0x21, 0x0F])),
        ("tensor<fp32, [0, 3]>([])", tensor(Float32, &[0, 3], &[])),
        ("tensor<fp32, [2, 0]>([[], []])", tensor(Float32, &[2, 0], &[])),
        ("fp8e4m3fn(0x1.cp+8)", tensor(Float8E4M3FN, &[], &[0x7E])),
        (
            r#"tensor<string, [2]>(["a", "b"])"#,
            Value::Tensor(TensorValue {
                ty: TensorType::fixed(String, &[2]),
                data: TensorData::Strings(vec!["a".into(), "b".into()]),
            }),
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(constant(text), expected, "{text}");
    }
    let Value::Tensor(nan) = constant("fp32(nan)") else { panic!("no tensor") };
    let TensorData::Bytes(bytes) = nan.data else { panic!("no bytes") };
    assert!(f32::from_le_bytes(bytes[..].try_into().unwrap()).is_nan());
}

#[test]
fn blob_files_in_both_spellings() {
    let expected = Value::BlobFile(BlobFileValue {
        ty: TensorType::fixed(ElementType::Float16, &[2, 3]),
        file: "@model_path/weights/weight.bin".into(),
        offset: 128,
    });
    for text in [
        r#"tensor<fp16, [2, 3]>(BLOBFILE(path = string("@model_path/weights/weight.bin"), offset = uint64(128)))"#,
        r#"tensor<fp16, [2, 3]>(BLOBFILE(path = tensor<string, []>("@model_path/weights/weight.bin"), offset = tensor<uint64, []>(128)))"#,
    ] {
        assert_eq!(constant(text), expected);
    }
}

#[test]
fn dictionaries_lists_and_tuples() {
    let pair = |key: &str, value: &str| (Value::string(key), Value::string(value));
    let expected = Value::Dictionary(vec![pair("k", "v"), pair("l", "")]);
    assert_eq!(constant(r#"dict<string, string>({{"k", "v"}, {"l", ""}})"#), expected);
    assert_eq!(
        constant(
            r#"dict<tensor<string, []>, tensor<string, []>>({ {"k", "v"}, // one
            {"l", ""} })"#
        ),
        expected
    );
    let int = tensor(ElementType::Int32, &[2], &[1, 0, 0, 0, 2, 0, 0, 0]);
    let ty = ValueType::List(
        Box::new(ValueType::Tensor(TensorType::fixed(ElementType::Int32, &[2]))),
        Dimension::Unknown,
    );
    assert_eq!(
        constant("list<tensor<int32, [2]>, ?>([[1, 2], [1, 2]])"),
        Value::List(ty, vec![int.clone(), int.clone()])
    );
    assert_eq!(
        constant(r#"tuple<string, tensor<int32, [2]>>(("a", [1, 2]))"#),
        Value::Tuple(vec![Value::string("a"), int])
    );
}

/// The attribute as compiled by Apple's compiler for a flexible model.
#[test]
fn flexible_shape_information() {
    let text = r#"program(1.0)
{ func main<ios15>(tensor<int32, [1, ?]> x) [FlexibleShapeInformation = tuple<tuple<tensor<string, []>, dict<tensor<string, []>, tensor<int32, [?]>>>, tuple<tensor<string, []>, dict<tensor<string, []>, list<tensor<int32, [2]>, ?>>>>((("DefaultShapes", {{"x", [1, 266]}}), ("RangeDims", {{"x", [[1, 1], [2, 4000]]}})))]
  { } -> (x); }"#;
    let function = main_of(text);
    let Value::Tuple(parts) = &function.attributes["FlexibleShapeInformation"] else {
        panic!("no tuple")
    };
    let Value::Tuple(ranges) = &parts[1] else { panic!("no tuple") };
    assert_eq!(ranges[0].as_str(), Some("RangeDims"));
    let Value::Dictionary(entries) = &ranges[1] else { panic!("no dictionary") };
    let Value::List(_, dims) = &entries[0].1 else { panic!("no list") };
    assert_eq!(dims[1], tensor(ElementType::Int32, &[2], &[2, 0, 0, 0, 0xA0, 0x0F, 0, 0]));
    assert_eq!(
        function.inputs[0].ty.as_tensor().map(|ty| ty.shape.clone()),
        Some(vec![Dimension::Fixed(1), Dimension::Unknown])
    );
}

#[test]
fn statements() {
    let text = program(
        r#"
        tensor<fp16, [1]> a, tensor<fp16, [1]> b = split(x = x, axis = int32(0))[name = string("s")];
        (fp16 c, list<tensor<fp16, [1]>, 3> d) = f(values = (a, b), none = ());
        write_state(input = s, data = a)[name = tensor<string, []>("w")];
        tensor<fp16, [4]> w = constexpr_lut_to_dense()[name = string("n"), shape = tensor<uint32, [1]>([4])];
        /* the last */ fp16 e = cond(pred = p) { fp16 t = f(); } -> (t), (fp16 i) { } -> (i, c);"#,
    );
    let operations = main_of(&text).block.operations;
    let operators: Vec<&str> = operations.iter().map(|op| op.operator.as_str()).collect();
    assert_eq!(operators, ["split", "f", "write_state", "constexpr_lut_to_dense", "cond"]);
    let names = |index: usize| -> Vec<String> {
        operations[index].outputs.iter().map(|output| output.name.clone()).collect()
    };
    assert_eq!((names(0), names(1)), (vec!["a".into(), "b".into()], vec!["c".into(), "d".into()]));
    assert!(names(2).is_empty());
    assert_eq!(operations[2].name(), "w");
    let name = |name: &str| Binding::Name(name.into());
    assert_eq!(operations[1].inputs["values"], Argument(vec![name("a"), name("b")]));
    assert_eq!(operations[1].inputs["none"], Argument(vec![]));
    assert_eq!(
        operations[0].inputs["axis"],
        Argument(vec![Binding::Value(tensor(ElementType::Int32, &[], &[0; 4]))])
    );
    assert_eq!(operations[1].outputs[1].ty.to_string(), "list<tensor<fp16, [1]>, 3>");
    assert!(operations[3].inputs.contains_key("shape"));
    assert_eq!(operations[3].attributes.keys().collect::<Vec<_>>(), ["name"]);
    assert_eq!(operations[4].blocks[0].operations.len(), 1);
    assert_eq!(operations[4].blocks[1].inputs[0].name, "i");
    assert_eq!(operations[4].blocks[1].outputs, ["i", "c"]);
}

#[test]
fn functions_states_and_opsets() {
    let text = r#"program(1.3)
[buildInfo = dict<string, string>({{"coremlc-version", "3500.32.1"}})]
{
    func infer<ios26>(state<tensor<fp16, [8, 2, 256, 64]>> kv, bool flag) { } -> (flag);
    func prefill<ios17>() { } -> ();
}"#;
    let program = from_text(text).unwrap();
    assert!(program.attributes.contains_key("buildInfo"));
    assert_eq!(program.functions["prefill"].opset, Opset::Ios17);
    let infer = &program.functions["infer"];
    assert_eq!(infer.opset, Opset::Ios26);
    assert_eq!(infer.inputs[0].ty.to_string(), "state<tensor<fp16, [8, 2, 256, 64]>>");
    assert_eq!(infer.inputs[1].ty.to_string(), "bool");
}

#[test]
fn errors_say_where_and_what() {
    // Line and column of the fault, and a part of the message.
    let cases = [
        ("", (1, 1), "expected `program`"),
        ("program(2.0)\n{}", (1, 9), "version"),
        ("program(1.0)\n{ func f<ios99>() {} -> (); }", (2, 10), "unknown opset `ios99`"),
        ("program(1.0)\n{ } x", (2, 5), "end of the text"),
        ("program(1.0)\n{ func f<ios15>() { } -> ()\n}", (3, 1), "expected `;`"),
        ("program(1.0) { func f<ios15>(tensor<fp17, [1]> x) {} -> (); }", (1, 37), "fp17"),
        ("program(1.0) { func f<ios15>(tensor<fp16, [-1]> x) {} -> (); }", (1, 44), "size"),
        (
            "program(1.0) { func f<ios15>() {} -> (); func f<ios15>() {} -> (); }",
            (1, 42),
            "second function",
        ),
        (
            "program(1.0) { func f<ios15>() { fp16 c = g(a = b, a = b); } -> (); }",
            (1, 52),
            "second argument",
        ),
    ];
    for (text, place, part) in cases {
        let error = from_text(text).unwrap_err();
        let FormatError::Text { line, column, message } = &error else { panic!("{error}") };
        assert_eq!((*line, *column), place, "{text}: {message}");
        assert!(message.contains(part), "{text}: {message}");
    }
}

#[test]
fn values_must_go_with_their_types() {
    for (text, part) in [
        ("tensor<fp32, [2]>([0x1p+0])", "expected a list of 2 elements, got 1"),
        ("tensor<fp32, [?, ?]>([[1, 2], [3]])", "expected a list of 2 elements, got 1"),
        ("tensor<fp32, [2]>(0x1p+0)", "expected `[`"),
        ("int8(128)", "does not fit int8"),
        ("int32(1.5)", "expected an element of type int32"),
        ("int32(true)", "not of type"),
        ("bool(1)", "not of type bool"),
        ("string(x)", "expected an element"),
        ("fp16(\"x\")", "expected an element"),
        ("fp16(0x)", "expected a number"),
        ("tuple<fp16, fp16>((1))", "expected 2 tuple elements, got 1"),
        ("tuple<fp16>((1, 2))", "1 elements only"),
        ("state<fp16>(1)", "state"),
        ("tensor<fp16, [2]>(BLOBFILE(path = string(\"a\")))", "needs a string `path`"),
        ("tensor<fp16, [2]>(BLOBFILE(size = uint64(1)))", "no field `size`"),
        ("unknown<fp16>(1)", "expected a type"),
    ] {
        let text = program(&format!("fp16 c = const()[val = {text}];"));
        let error = from_text(&text).unwrap_err().to_string();
        assert!(error.contains(part), "{text}\n{error}");
    }
}

/// Ten thousand levels of whatever can nest give an error, not a stack overflow.
#[test]
fn deep_nesting_is_refused() {
    let depth = 10_000;
    for text in [
        format!("fp16 c = const()[val = {}fp16{}(1)];", "list<".repeat(depth), ">".repeat(depth)),
        format!("fp16 c = const()[val = {}", "tuple<".repeat(depth)),
        format!("state<{} c = f();", "state<".repeat(depth)),
        format!(
            "fp16 c = const()[val = tensor<fp16, [{}1]>({}",
            "1, ".repeat(depth),
            "[".repeat(depth)
        ),
        "fp16 c = cond() {".repeat(depth),
    ] {
        let error = from_text(&program(&text)).unwrap_err().to_string();
        assert!(error.contains("nest deeper"), "{error}");
    }
}
