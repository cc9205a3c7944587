//! What a profile and a benchmark tell: bytes and floating-point operations that are computed by hand. Of times
//! only that they were measured.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use candle_core::{DType, Device, Tensor};
use candle_coreml::{
    Bench, CoreMLModel, Features, LanguageModelOptions, LoadOptions, OperationCost, Package, Phase,
    ProfileReport, Profiler, make_up, mil,
};

/// What some predictions of a function take, whose inputs are made up.
fn profiled(inputs: &str, body: &str, outputs: &str, predictions: usize) -> ProfileReport {
    let text =
        format!("program(1.3) {{ func main<ios18>({inputs}) {{ {body} }} -> ({outputs}); }}");
    let program = mil::from_text(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let profiler = Profiler::new();
    let options = LoadOptions::new().profiler(profiler.clone());
    let model =
        CoreMLModel::from_package(Package::from_program(program).unwrap(), &options).unwrap();
    let mut features = Features::new();
    for input in &model.function_description().inputs {
        features.push(input.name.as_str(), make_up(input).unwrap().value);
    }
    for _ in 0..predictions {
        model.predict_features(&features, None).unwrap();
    }
    ProfileReport::new(&profiler.take(), "predictions", predictions)
}

fn operation<'a>(report: &'a ProfileReport, name: &str) -> &'a OperationCost {
    let found = report.operations.iter().find(|of| of.operation == name);
    found.unwrap_or_else(|| panic!("no `{name}` in {report:?}"))
}

#[test]
fn products_take_what_their_shapes_say() {
    let body = format!(
        "tensor<fp32, [2, 4]> l = linear(x = x, weight = {}, bias = {})[name = string(\"layer_0_a\")];
         tensor<fp32, [4, 4]> m = matmul(x = l, y = l, transpose_x = bool(true), transpose_y = bool(false))\
             [name = string(\"layer_0_b\")];
         tensor<fp32, [4, 4]> y = exp(x = m)[name = string(\"layer_1_c\")];",
        "tensor<fp32, [4, 3]>([[1, 2, 3], [4, 5, 6], [7, 8, 9], [1, 2, 3]])",
        "tensor<fp32, [4]>([1, 2, 3, 4])",
    );
    let report = profiled("tensor<fp32, [2, 3]> x", &body, "y", 3);
    assert_eq!((report.calls, report.runs, report.operations.len()), (3, 3, 3));
    let linear = operation(&report, "layer_0_a");
    assert_eq!((linear.operator.as_str(), linear.layer.as_str()), ("linear", "layer_0"));
    assert_eq!((linear.cost.times, linear.cost.flops), (3, 3 * 2 * 2 * 3 * 4));
    // Of weights and bias; of x and the result.
    assert_eq!(linear.cost.constant_bytes, 3 * 4 * (12 + 4));
    assert_eq!(linear.cost.value_bytes, 3 * 4 * (6 + 8));
    let matmul = operation(&report, "layer_0_b");
    assert_eq!(
        (matmul.cost.flops, matmul.cost.value_bytes),
        (3 * 2 * 4 * 2 * 4, 3 * 4 * (16 + 16))
    );
    let exp = operation(&report, "layer_1_c");
    assert_eq!((exp.cost.flops, exp.cost.constant_bytes, exp.layer.as_str()), (0, 0, "layer"));
    let layers: usize = report.layers.iter().map(|group| group.operations).sum();
    assert_eq!((layers, report.layers.len(), report.operators.len()), (3, 2, 3));
    let total = report.total();
    assert!(report.seconds > 0.0 && total.seconds <= report.seconds);
    assert!((total.seconds + report.between_seconds - report.seconds).abs() < 1e-6);
}

#[test]
fn a_row_of_a_table_is_what_looking_it_up_reads() {
    let rows = (0..64).map(|row| format!("[{row}, 1, 2, 3]")).collect::<Vec<_>>().join(", ");
    let body = format!(
        "tensor<fp32, [64, 4]> table = const()[name = string(\"t\"), val = tensor<fp32, [64, 4]>([{rows}])];
         tensor<fp32, [2, 4]> y = gather(x = table, indices = ids, axis = int32(0), batch_dims = int32(0), \
             validate_indices = bool(false))[name = string(\"look_up\")];"
    );
    let report = profiled("tensor<int32, [2]> ids", &body, "y", 1);
    let cost = operation(&report, "look_up").cost;
    assert_eq!((cost.constant_bytes, cost.value_bytes), (4 * 8, 4 * (2 + 8)));
}

#[test]
fn convolutions_count_each_place_of_a_filter() {
    let weight = "tensor<fp32, [6, 2, 1, 1]>([[[[1]],[[1]]],[[[1]],[[1]]],[[[1]],[[1]]],[[[1]],[[1]]],\
                  [[[1]],[[1]]],[[[1]],[[1]]]])";
    let body = format!(
        "tensor<fp32, [1, 6, 3, 5]> y = conv(x = x, weight = {weight}, strides = tensor<int32, [2]>([1, 1]), \
             pad_type = string(\"valid\"), pad = tensor<int32, [4]>([0, 0, 0, 0]), \
             dilations = tensor<int32, [2]>([1, 1]), groups = int32(2))[name = string(\"c\")];"
    );
    let report = profiled("tensor<fp32, [1, 4, 3, 5]> x", &body, "y", 1);
    assert_eq!(operation(&report, "c").cost.flops, 2 * 6 * 3 * 5 * 2);
}

#[test]
fn a_stopped_profiler_collects_nothing_and_pages_need_no_network() {
    let profiler = Profiler::new();
    profiler.stop();
    let options = LoadOptions::new().profiler(profiler.clone());
    let program = mil::from_text(
        "program(1.3) { func main<ios18>(tensor<fp32, [1]> x) {
            tensor<fp32, [1]> y = exp(x = x)[name = string(\"<b>\")];
        } -> (y); }",
    );
    let package = Package::from_program(program.unwrap()).unwrap();
    let model = CoreMLModel::from_package(package, &options).unwrap();
    let x = Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
    model.predict(&[("x", &x)]).unwrap();
    assert_eq!(profiler.take().calls, 0);
    profiler.start();
    model.predict(&[("x", &x)]).unwrap();
    let html = ProfileReport::new(&profiler.take(), "predictions", 1).html("a & b");
    assert!(html.contains("&lt;b&gt;") && !html.contains("<b>") && html.contains("a &amp; b"));
    let addresses = html.replace("http://www.w3.org/2000/svg", "");
    assert!(!addresses.contains("http") && !addresses.contains("<script"), "{html}");
}

#[test]
fn language_models_are_measured_within_their_context() {
    let directory = common::fixtures().join("llm/qwen3-lut4");
    let options = LanguageModelOptions::new();
    let bench = Bench::new().prompts([4, 4096]).positions([0, 4096]).tokens(3).runs(1);
    let benchmark = bench.language_model(&directory, &options).unwrap();
    let context = benchmark.context_length;
    let prompts: Vec<usize> = benchmark.prefill.iter().map(|of| of.tokens).collect();
    let positions: Vec<usize> = benchmark.decode.iter().map(|of| of.position).collect();
    assert_eq!((prompts, positions), (vec![4, context - 1], vec![0, context - 4]));
    assert!(benchmark.weight_bytes > benchmark.token_bytes && benchmark.token_bytes > 0);
    assert!(benchmark.first_token_seconds > 0.0 && !benchmark.decode_operators.is_empty());
    assert!(benchmark.html().contains("tokens/s"));
    for (phase, runs) in [(Phase::Decode, 3), (Phase::Prefill, 4)] {
        let report = bench.profile_language_model(&directory, &options, phase).unwrap();
        assert_eq!(report.runs, runs, "{phase:?}");
        assert!(report.operations.iter().any(|of| of.cost.flops > 0 && !of.model.is_empty()));
    }
}
