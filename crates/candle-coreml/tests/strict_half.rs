//! Results of half precision that are rounded where they are made: what fixtures of one operation after the
//! other (`fixtures/ops/half.mil`) do not show.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use candle_core::{DType, Device, Tensor};
use candle_coreml::{CoreMLModel, LoadOptions, Package, Precision, Rewrites, mil};

fn load(inputs: &str, body: &str, options: &LoadOptions) -> CoreMLModel {
    let text = format!("program(1.3) {{ func main<ios18>({inputs}) {{ {body} }} -> (y); }}");
    let program = mil::from_text(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    CoreMLModel::from_package(Package::from_program(program).unwrap(), options).unwrap()
}

/// The result in `f32`, with results as they are declared and as they are computed.
fn run(inputs: &str, body: &str, x: &Tensor) -> [Vec<f64>; 2] {
    [Precision::AsDeclared, Precision::Single].map(|precision| {
        let model = load(inputs, body, &LoadOptions::new().precision(precision));
        common::floats(&model.predict(&[("x", x)]).unwrap()["y"])
    })
}

fn singles(values: &[f32]) -> Tensor {
    Tensor::new(values, &Device::Cpu).unwrap()
}

const TO_SINGLE: &str = r#"tensor<fp32, [3]> y = cast(x = z, dtype = string("fp32"));"#;

#[test]
fn what_overflows_on_the_way_stays_infinite() {
    let body = "tensor<fp16, [3]> a = mul(x = x, y = fp16(300));
        tensor<fp16, [3]> b = mul(x = a, y = fp16(300));
        tensor<fp16, [3]> y = real_div(x = b, y = fp16(300));";
    let results = run("tensor<fp16, [3]> x", body, &singles(&[0.5, 1.0, -100.0]));
    assert_eq!(results, [[150.0, f64::INFINITY, f64::NEG_INFINITY], [150.0, 300.0, -30000.0]]);
    let exp = "tensor<fp16, [3]> e = exp(x = x); tensor<fp16, [3]> y = log(x = e);";
    let [strict, single] = run("tensor<fp16, [3]> x", exp, &singles(&[0.0, 12.0, 11.0]));
    assert_eq!((strict[1], single[1]), (f64::INFINITY, 12.0));
}

/// np.exp(np.float16(12)) is infinite; so is what the operation gives when the plan is made.
#[test]
fn folded_constants_are_rounded_too() {
    let body = "tensor<fp16, [3]> k = const()[val = tensor<fp16, [3]>([12.0, 1.0, -20.0])];
        tensor<fp16, [3]> e = exp(x = k);
        tensor<fp16, [3]> l = log(x = e, epsilon = fp16(0.0));
        tensor<fp16, [3]> y = add(x = l, y = x);";
    let [strict, single] = run("tensor<fp16, [3]> x", body, &singles(&[0.0; 3]));
    assert_eq!([strict[0], strict[2]], [f64::INFINITY, f64::NEG_INFINITY]);
    assert!(single.iter().all(|value| value.is_finite()), "{single:?}");
}

/// 0.1 is no half, but 0.0999755859375 is.
#[test]
fn inputs_are_rounded_before_they_are_read() {
    let body = format!("tensor<fp16, [3]> z = sub(x = x, y = fp16(0.1)); {TO_SINGLE}");
    let [strict, single] = run("tensor<fp16, [3]> x", &body, &singles(&[0.1, 0.0999, 1.0]));
    assert_eq!(strict[0], 0.0);
    assert!(single[0] != 0.0);
    // As a result of its own, too, and of a block.
    let body = format!(
        r#"bool p = cast(x = fp16(1.0), dtype = string("bool"));
        tensor<fp16, [3]> z = cond(pred = p) {{ }} -> (x), {{ }} -> (x); {TO_SINGLE}"#
    );
    let [strict, _] = run("tensor<fp16, [3]> x", &body, &singles(&[0.1, 2049.0, 65519.0]));
    assert_eq!(strict, [0.099_975_585_937_5, 2048.0, 65504.0]);
}

/// `x · sigmoid(x)` is one operation of the engine, but two of the program; other precisions than half and
/// rewrites that move only are as without.
#[test]
fn nothing_is_fused_across_a_rounding() {
    let plan = |element: &str, precision| {
        let body = format!(
            "tensor<{element}, [3]> s = sigmoid(x = x);
            tensor<{element}, [3]> y = mul(x = x, y = s);"
        );
        let options = LoadOptions::new().precision(precision);
        load(&format!("tensor<{element}, [3]> x"), &body, &options).plan().unwrap()
    };
    let strict = plan("fp16", Precision::AsDeclared);
    assert!(strict.contains("sigmoid(v3) to fp16"), "{strict}");
    assert!(!strict.contains("silu"), "{strict}");
    let single = plan("fp16", Precision::Single);
    assert!(single.contains("silu") && !single.contains("to fp16"), "{single}");
    let wide = plan("fp32", Precision::AsDeclared);
    assert!(!wide.contains("to fp16"), "{wide}");
}

#[test]
fn what_only_moves_is_not_rounded_again() {
    let body = "tensor<fp16, [1, 3]> a = expand_dims(x = x, axes = tensor<int32, [1]>([0]));
        tensor<fp16, [2, 3]> b = concat(values = (a, a), axis = int32(0), interleave = bool(false));
        tensor<fp16, [1, 3]> c = gather(x = b, indices = tensor<int32, [1]>([1]), axis = int32(0));
        tensor<fp16, [1, 3]> y = exp(x = c);";
    let options = LoadOptions::new().precision(Precision::AsDeclared);
    let plan = load("tensor<fp16, [3]> x", body, &options).plan().unwrap();
    let rounded = plan.lines().filter(|line| line.contains("to fp16"));
    assert_eq!(rounded.count(), 2, "the input and exp:\n{plan}");
    // Beside a constant of single precision an operation is none that moves halves.
    let body =
        "tensor<fp16, [6]> c = concat(values = (x, k), axis = int32(0), interleave = bool(false));
        tensor<fp16, [6]> y = relu(x = c);";
    let constant = "tensor<fp32, [3]> k = const()[val = tensor<fp32, [3]>([0.1, 70000.0, 3.0])];";
    let body = format!("{constant} {body}");
    let model = load("tensor<fp16, [3]> x", &body, &options);
    assert!(model.plan().unwrap().contains("concat(v1, fp32 [3]") || model.plan().is_ok());
    let y = common::floats(&model.predict(&[("x", &singles(&[1.0, 2.0, 3.0]))]).unwrap()["y"]);
    assert_eq!(y[3..], [0.099_975_585_937_5, f64::INFINITY, 3.0]);
}

/// Loops, states and shapes that runs find, however plans are made.
#[test]
fn programs_are_rounded_alike_however_they_are_planned() {
    let body = r#"tensor<fp16, [?]> v = while_loop(loop_vars = (x)) (tensor<fp16, [?]> a) {
            fp16 most = reduce_max(x = a, axes = tensor<int32, [1]>([0]), keep_dims = bool(false));
            bool go = less(x = most, y = fp16(1000.0));
        } -> (go), (tensor<fp16, [?]> b) {
            tensor<fp16, [?]> c = mul(x = b, y = fp16(1.7));
        } -> (c);
        tensor<fp16, [3]> r = read_state(input = s);
        tensor<fp16, [3]> t = mul(x = r, y = fp16(0.9));
        tensor<fp16, [3]> u = add(x = t, y = v);
        write_state(input = s, data = u);
        tensor<fp16, [3]> y = mul(x = u, y = fp16(1.1));"#;
    let inputs = "tensor<fp16, [?]> x, state<tensor<fp16, [3]>> s";
    let results = [Rewrites::Off, Rewrites::Exact, Rewrites::All].map(|rewrites| {
        let options = LoadOptions::new().precision(Precision::AsDeclared).rewrites(rewrites);
        let model = load(inputs, body, &options);
        let mut state = model.make_state().unwrap();
        let predict = |x: &[f32], state: &mut _| {
            common::floats(&model.predict_with_state(&[("x", &singles(x))], state).unwrap()["y"])
        };
        [predict(&[0.3, 1.1, 0.7], &mut state), predict(&[3.3, 1.3, 0.1], &mut state)]
    });
    assert_eq!(results[0], results[1]);
    assert_eq!(results[0], results[2]);
    let mut total = [half::f16::ZERO; 3];
    for (step, x) in [[0.3, 1.1, 0.7f32], [3.3, 1.3, 0.1]].into_iter().enumerate() {
        let half = half::f16::from_f32;
        let times = |a: half::f16, b: f32| half(a.to_f32() * half(b).to_f32());
        let mut x = x.map(half);
        while x.iter().all(|x| x.to_f32() < 1000.0) {
            x = x.map(|x| times(x, 1.7));
        }
        for (total, x) in total.iter_mut().zip(x) {
            *total = half(times(*total, 0.9).to_f32() + x.to_f32());
        }
        let expected = total.map(|total| times(total, 1.1).to_f64());
        assert_eq!(results[0][step], expected, "step {step}");
    }
}

/// np.float32 sums: 4096 ones and 0.5 would be 4096 if halves were added up.
#[test]
fn sums_are_of_single_precision() {
    let body =
        "fp16 y = reduce_sum(x = x, axes = tensor<int32, [1]>([0]), keep_dims = bool(false));";
    let x = Tensor::cat(
        &[
            Tensor::full(0.5f32, 6, &Device::Cpu).unwrap(),
            Tensor::ones(4090, DType::F32, &Device::Cpu).unwrap(),
        ],
        0,
    )
    .unwrap();
    let [strict, _] = run("tensor<fp16, [4096]> x", body, &x);
    // 4093, to the nearest half.
    assert_eq!(strict, [4092.0]);
}
