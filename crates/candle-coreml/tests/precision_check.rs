//! What a check of half precision finds, and where it says that harm begins.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use candle_core::{Device, Tensor};
use candle_coreml::{
    CoreMLModel, Features, LoadOptions, Package, PrecisionFinding, PrecisionLoss, PrecisionReport,
    Result, mil,
};
use half::f16;

fn load(inputs: &str, body: &str, outputs: &str) -> CoreMLModel {
    let text =
        format!("program(1.3) {{ func main<ios18>({inputs}) {{ {body} }} -> ({outputs}); }}");
    let program = mil::from_text(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let package = Package::from_program(program).unwrap();
    CoreMLModel::from_package(package, &LoadOptions::new()).unwrap()
}

fn check(body: &str, outputs: &str, x: &[f32]) -> PrecisionReport {
    let model = load(&format!("tensor<fp16, [{}]> x", x.len()), body, outputs);
    let x = Tensor::new(x, &Device::Cpu).unwrap();
    model.check_precision(&Features::from([("x", x.into())]), None).unwrap()
}

fn found(report: &PrecisionReport) -> Vec<(PrecisionLoss, &str, usize, usize)> {
    let row = |finding: &PrecisionFinding| (finding.loss, finding.affected, finding.elements);
    let rows = report.findings.iter().map(|finding| (finding, row(finding)));
    rows.map(|(finding, (loss, affected, of))| (loss, &*finding.operation, affected, of)).collect()
}

#[test]
fn overflow_is_told_where_it_happens_and_not_behind() {
    let body = "tensor<fp16, [4]> a = mul(x = x, y = fp16(300.0));
        tensor<fp16, [4]> b = mul(x = a, y = fp16(300.0));
        tensor<fp16, [4]> c = mul(x = b, y = fp16(2.0));
        tensor<fp16, [4]> y = real_div(x = c, y = fp16(300.0));";
    let report = check(body, "y", &[1.0, -2.0, 0.5, 0.1]);
    // 0.5 · 300 · 300 is small enough, and twice as much is not; what has overflowed before is not told again.
    let expected = [(PrecisionLoss::Overflow, "b", 2, 4), (PrecisionLoss::Overflow, "c", 1, 4)];
    assert_eq!(found(&report), expected);
    let overflow = &report.findings[0];
    assert_eq!((&*overflow.operator, &*overflow.output), ("mul", "b"));
    assert_eq!((overflow.largest, overflow.times), (180_000.0, 1));
    assert!(overflow.path.is_empty());
    let [y] = report.outputs.as_slice() else { panic!("{report:?}") };
    assert_eq!((&*y.name, y.infinite, y.nan, y.elements), ("y", 3, 0, 4));
    assert!(!report.is_fine());
    // The input, too.
    assert_eq!(report.results, 5);
}

#[test]
fn nan_is_told_where_numbers_become_it() {
    let body = "tensor<fp16, [2]> a = square(x = x);
        tensor<fp16, [2]> b = sub(x = a, y = a);
        tensor<fp16, [2]> c = exp(x = b);
        tensor<fp16, [2]> d = sqrt(x = x);
        tensor<fp16, [2]> y = add(x = c, y = d);";
    let report = check(body, "y", &[300.0, -1.0]);
    let expected = [
        (PrecisionLoss::Overflow, "a", 1, 2),
        (PrecisionLoss::Nan, "b", 1, 2),
        (PrecisionLoss::NanAlways, "d", 1, 2),
    ];
    assert_eq!(found(&report), expected);
    assert_eq!(report.outputs[0].nan, 1, "the other one is NaN in `f32`, too");
}

#[test]
fn infinities_that_single_precision_has_not_are_told() {
    let body = "tensor<fp16, [2]> a = mul(x = x, y = fp16(1e-4));
        tensor<fp16, [2]> b = mul(x = a, y = fp16(1e-4));
        tensor<fp16, [2]> y = inverse(x = b, epsilon = fp16(0.0));";
    let report = check(body, "y", &[0.5, 1.5]);
    let expected = [(PrecisionLoss::Underflow, "b", 2, 2), (PrecisionLoss::Infinity, "y", 2, 2)];
    assert_eq!(found(&report), expected);
}

#[test]
fn numbers_that_vanish_are_told_unless_they_weigh_nothing() {
    let body = "tensor<fp16, [3]> a = mul(x = x, y = fp16(1e-4));
        tensor<fp16, [3]> b = mul(x = a, y = fp16(0.5));
        tensor<fp16, [3]> y = mul(x = b, y = fp16(10000.0));";
    let report = check(body, "y", &[1e-3, 2e-3, 0.0]);
    assert_eq!(found(&report), [(PrecisionLoss::Underflow, "a", 2, 3)]);
    // Most probabilities are as small, but the largest is what counts.
    let softmax = "tensor<fp16, [4]> y = softmax(x = x, axis = int32(0));";
    let report = check(softmax, "y", &[0.0, -12.0, -13.0, -30.0]);
    assert!(report.is_fine(), "{report:?}");
}

#[test]
fn cancellation_is_told_with_the_errors_of_inputs_and_result() {
    let body = "tensor<fp16, [3]> a = add(x = x, y = fp16(1000.0));
        tensor<fp16, [3]> b = sub(x = a, y = fp16(1000.0));
        tensor<fp16, [3]> y = mul(x = b, y = fp16(3.0));";
    let report = check(body, "y", &[0.1, -0.2, 0.05]);
    assert_eq!(found(&report), [(PrecisionLoss::Inexact, "b", 3, 3)]);
    let (error, before) =
        (report.findings[0].error.unwrap(), report.findings[0].input_error.unwrap());
    assert!(error > 0.3 && before < 1e-3, "{before} → {error}");
    assert!(report.outputs[0].error.unwrap() > 0.3);
    let fine = check(&body.replace("1000.0", "10.0"), "y", &[0.1, -0.2, 0.05]);
    assert!(fine.is_fine() && fine.outputs[0].error.unwrap() > 1e-4, "{fine:?}");
}

#[test]
fn errors_that_grow_slowly_are_told_where_they_are_too_large() {
    // Each square doubles the relative error that each root halves.
    let mut body = String::from("tensor<fp16, [8]> v0 = mul(x = x, y = fp16(1.0));");
    for n in 0..40 {
        body += &format!("tensor<fp16, [8]> a{n} = square(x = v{n});");
        body += &format!("tensor<fp16, [8]> v{} = sqrt(x = a{n});", n + 1);
    }
    body += "tensor<fp16, [8]> y = mul(x = v40, y = fp16(1.0));";
    let x: Vec<f32> = (0..8).map(|i| 1.0 + i as f32 / 7.3).collect();
    assert!(check(&body, "y", &x).is_fine());
    // The logistic map doubles an error about once a step.
    let x: Vec<f32> = (0..8).map(|i| 0.1 + i as f32 / 10.7).collect();
    let mut body = String::new();
    let mut last = "x".to_owned();
    for n in 0..14 {
        body += &format!("tensor<fp16, [8]> a{n} = sub(x = fp16(1.0), y = {last});");
        body += &format!("tensor<fp16, [8]> b{n} = mul(x = a{n}, y = {last});");
        body += &format!("tensor<fp16, [8]> c{n} = mul(x = b{n}, y = fp16(3.9));");
        last = format!("c{n}");
    }
    let report = check(&body, &last, &x);
    let expected = chaos(&x, 14);
    assert!(!expected.is_empty() && !expected[0].ends_with(['0', '1']), "{expected:?}");
    assert_eq!(found(&report).iter().map(|row| row.1).collect::<Vec<_>>(), expected);
    assert!(report.findings.iter().all(|finding| finding.loss == PrecisionLoss::Inexact));
}

/// The results of the logistic map that are farther from those of `f32` than a sixteenth, though what they
/// are made of is not.
fn chaos(x: &[f32], steps: usize) -> Vec<String> {
    let round = |value: f32| f16::from_f32(value).to_f32();
    let factor = round(3.9);
    let mut wide = x.to_vec();
    let mut half: Vec<f32> = x.iter().copied().map(round).collect();
    let mut found = Vec::new();
    let mut error = 0.0;
    for n in 0..steps {
        let [mut results, mut rounded] = [Vec::new(), Vec::new()];
        for (&x, &h) in wide.iter().zip(&half) {
            let (a, rounded_a) = (1.0 - x, round(1.0 - h));
            let (b, rounded_b) = (a * x, round(rounded_a * h));
            results.push([a, b, b * factor]);
            rounded.push([rounded_a, rounded_b, round(rounded_b * factor)]);
        }
        let column = |of: &[[f32; 3]], i: usize| of.iter().map(|row| row[i]).collect::<Vec<_>>();
        let errors: [f64; 3] =
            std::array::from_fn(|i| distance(&column(&rounded, i), &column(&results, i)));
        let before = [error, f64::max(error, errors[0]), errors[1]];
        for ((name, error), before) in ["a", "b", "c"].iter().zip(errors).zip(before) {
            if error > 1.0 / 16.0 && before <= 1.0 / 16.0 {
                found.push(format!("{name}{n}"));
            }
        }
        (wide, half, error) = (column(&results, 2), column(&rounded, 2), errors[2]);
    }
    found
}

fn distance(values: &[f32], wide: &[f32]) -> f64 {
    let square = |x: f64| x * x;
    let difference = |(a, b): (&f32, &f32)| square(f64::from(*a) - f64::from(*b));
    let differences: f64 = values.iter().zip(wide).map(difference).sum();
    (differences / wide.iter().map(|&b| square(f64::from(b))).sum::<f64>()).sqrt()
}

#[test]
fn loops_and_branches_are_looked_into() {
    let body = r#"tensor<fp16, [2]> v = while_loop(loop_vars = (x)) (tensor<fp16, [2]> a) {
            tensor<fp16, [2]> magnitude = abs(x = a);
            fp16 most = reduce_max(x = magnitude, axes = tensor<int32, [1]>([0]), keep_dims = bool(false));
            bool go = less(x = most, y = fp16(60000.0));
        } -> (go), (tensor<fp16, [2]> b) {
            bool large = greater(x = fp16(1.0), y = fp16(0.0));
            tensor<fp16, [2]> d = cond(pred = large) {
                tensor<fp16, [2]> c = mul(x = b, y = fp16(100.0));
            } -> (c), { } -> (b);
        } -> (d);
        tensor<fp16, [2]> y = relu(x = v);"#;
    let report = check(body, "y", &[1.0, 7.0]);
    let overflow = &report.findings[0];
    assert_eq!((overflow.loss, &*overflow.operation), (PrecisionLoss::Overflow, "c"));
    assert_eq!(overflow.path, ["v", "d"]);
    assert_eq!((overflow.times, overflow.affected), (1, 1));
    assert_eq!(overflow.error, None, "there is nothing to compare with");
}

#[test]
fn what_constants_amount_to_is_looked_at() {
    let body = "tensor<fp16, [2]> k = const()[val = tensor<fp16, [2]>([12.0, 1.0])];
        tensor<fp16, [2]> e = exp(x = k);
        tensor<fp16, [2]> y = mul(x = x, y = e);";
    assert_eq!(found(&check(body, "y", &[1.0, 1.0]))[0], (PrecisionLoss::Overflow, "e", 1, 2));
    // An operation that needs the constant when it is bound.
    let body = "fp16 k = exp(x = fp16(1.0)); tensor<fp16, [2]> y = elu(x = x, alpha = k);";
    assert!(check(body, "y", &[1.0, -1.0]).is_fine());
}

#[test]
fn outputs_of_every_type_are_compared() {
    let body = r#"tensor<fp16, [2]> a = mul(x = x, y = fp16(30000.0));
        tensor<int32, [2]> i = cast(x = a, dtype = string("int32"));
        bool p = cast(x = fp16(1.0), dtype = string("bool"));
        tensor<fp32, [2]> y = cast(x = x, dtype = string("fp32"));"#;
    let report = check(body, "i, y", &[3.0, 1.0]);
    let [i, y] = report.outputs.as_slice() else { panic!("{report:?}") };
    assert_eq!((i.differing, i.error), (0, None), "casts round in `f32` as well");
    assert_eq!((y.differing, y.error), (0, Some(0.0)));
    let whole = check("tensor<fp16, [2]> y = relu(x = x);", "y", &[3.0, 1.0]);
    assert!(whole.is_fine() && whole.outputs[0].error == Some(0.0));
}

#[test]
fn states_stay_and_open_shapes_do() -> Result<()> {
    let body = "tensor<fp16, [2]> r = read_state(input = s);
        tensor<fp16, [1]> m = reduce_max(x = x, axes = tensor<int32, [1]>([0]), keep_dims = bool(true));
        tensor<fp16, [2]> u = add(x = r, y = m);
        write_state(input = s, data = u);
        tensor<fp16, [2]> y = mul(x = u, y = fp16(60000.0));";
    let model = load("tensor<fp16, [?]> x, state<tensor<fp16, [2]>> s", body, "y");
    let x = Tensor::new(&[1f32, 2.0, 3.0], &Device::Cpu)?;
    let mut state = model.make_state()?;
    model.predict_with_state(&[("x", &x)], &mut state)?;
    let inputs = Features::from([("x", x.into())]);
    let report = model.check_precision(&inputs, Some(&mut state))?;
    assert_eq!(found(&report), [(PrecisionLoss::Overflow, "y", 2, 2)]);
    assert_eq!(report.findings[0].largest, 360_000.0);
    assert_eq!(common::floats(&state.read("s")?), [3.0, 3.0]);
    let error = model.check_precision(&inputs, None).unwrap_err().to_string();
    assert!(error.contains("state"), "{error}");
    assert!(model.check_precision(&Features::new(), Some(&mut state)).is_err());
    Ok(())
}
