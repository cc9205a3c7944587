//! The model API: inputs that do not fit are refused in words that help, functions share weights
//! and states, and predictions run on several threads.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::time::Duration;

use candle_core::{DType, Device, Tensor};
use candle_coreml::{
    Array, BackendKind, CancelToken, CoreMLModel, CoreMLState, ErrorKind, LoadOptions, NumbersMut,
    Package,
};
use coreml_format::mil::from_text;
use half::f16;

const CPU: &Device = &Device::Cpu;

fn load(name: &str, options: &LoadOptions) -> CoreMLModel {
    let path = common::fixtures().join("packages").join(name);
    CoreMLModel::load(&path, options).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A cache of shape [4, 3]: `prefill` writes the rows 0 and 1, `infer` the row `p`; both give out
/// the whole cache, doubled.
fn cache(function: &str) -> CoreMLModel {
    load("write_state_functions_ios18.mlpackage", &LoadOptions::new().function(function))
}

fn fp16(rows: &[[f32; 3]]) -> Tensor {
    let flat: Vec<f32> = rows.iter().flatten().copied().collect();
    Tensor::from_vec(flat, (rows.len(), 3), CPU).unwrap().to_dtype(DType::F16).unwrap()
}

fn refused(model: &CoreMLModel, inputs: &[(&str, &Tensor)]) -> String {
    let mut state = model.make_state().unwrap();
    model.predict_with_state(inputs, &mut state).unwrap_err().to_string()
}

#[test]
fn a_missing_input_is_named() {
    let x = fp16(&[[1.0; 3]]);
    let message = refused(&cache("infer"), &[("x", &x)]);
    assert!(message.contains("input `p`") && message.contains("[1]"), "{message}");
}

#[test]
fn an_unknown_input_is_told_what_there_is() {
    let x = fp16(&[[1.0; 3]]);
    let message = refused(&cache("infer"), &[("x", &x), ("q", &x)]);
    assert!(message.contains("`q`") && message.contains("`x` and `p`"), "{message}");
}

#[test]
fn a_wrong_shape_is_named_with_the_expected_one() {
    let (x, p) = (fp16(&[[1.0; 3]; 2]), Tensor::new(&[0i64], CPU).unwrap());
    let message = refused(&cache("infer"), &[("x", &x), ("p", &p)]);
    assert!(message.contains("input `x`"), "{message}");
    assert!(message.contains("[1, 3]") && message.contains("[2, 3]"), "{message}");
}

#[test]
fn a_wrong_dtype_is_named_with_the_expected_one() {
    let (x, p) = (fp16(&[[1.0; 3]]), Tensor::new(&[0f32], CPU).unwrap());
    let message = refused(&cache("infer"), &[("x", &x), ("p", &p)]);
    assert!(message.contains("input `p`"), "{message}");
    assert!(message.contains("integer") && message.contains("got `float32`"), "{message}");
}

#[test]
fn an_integer_that_does_not_fit_is_an_error() {
    let (x, p) = (fp16(&[[1.0; 3]]), Tensor::new(&[1i64 << 40], CPU).unwrap());
    let message = refused(&cache("infer"), &[("x", &x), ("p", &p)]);
    assert!(message.contains("1099511627776") && message.contains("int32"), "{message}");
}

#[test]
fn a_function_that_is_not_there_is_told_which_are() {
    let path = common::fixtures().join("packages/write_state_functions_ios18.mlpackage");
    let error = CoreMLModel::load(path, &LoadOptions::new().function("train")).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("`train`") && message.contains("`prefill`"), "{message}");
    assert!(cache("infer").function("train").is_err());
}

#[test]
fn states_without_a_state_are_an_error() {
    let (x, p) = (fp16(&[[1.0; 3]]), Tensor::new(&[0i64], CPU).unwrap());
    let message = cache("infer").predict(&[("x", &x), ("p", &p)]).unwrap_err().to_string();
    assert!(message.contains("`cache`") && message.contains("make_state"), "{message}");
}

#[test]
fn the_apple_backend_says_that_it_is_not_there() {
    let path = common::fixtures().join("packages/write_state_functions_ios18.mlpackage");
    let options = LoadOptions::new().backend(BackendKind::Apple);
    let message = CoreMLModel::load(path, &options).unwrap_err().to_string();
    assert!(message.contains("apple") && message.contains("portable"), "{message}");
}

#[test]
fn any_float_or_integer_dtype_and_layout_does() {
    let model = cache("infer");
    let reference = fp16(&[[1.0, -2.0, 0.5]]);
    let run = |x: &Tensor, p: &Tensor| {
        let mut state = model.make_state().unwrap();
        let outputs = model.predict_with_state(&[("x", x), ("p", p)], &mut state).unwrap();
        assert_eq!(outputs["y"].dtype(), DType::F16);
        common::floats(&outputs["y"])
    };
    let p = Tensor::new(&[2i32], CPU).unwrap();
    let expected = run(&reference, &p);
    assert_eq!(expected[6..9], [2.0, -4.0, 1.0]);
    for dtype in [DType::F32, DType::F64, DType::BF16] {
        assert_eq!(run(&reference.to_dtype(dtype).unwrap(), &p), expected, "{dtype:?}");
    }
    for dtype in [DType::U8, DType::U32, DType::I16, DType::I64] {
        assert_eq!(run(&reference, &p.to_dtype(dtype).unwrap()), expected, "{dtype:?}");
    }
    let column = Tensor::new(&[[1f32], [-2.0], [0.5]], CPU).unwrap();
    assert_eq!(run(&column.t().unwrap(), &p), expected);
    let part = Tensor::new(&[[9f32, 9.0, 9.0], [1.0, -2.0, 0.5]], CPU).unwrap();
    assert_eq!(run(&part.narrow(0, 1, 1).unwrap(), &p), expected);
}

#[test]
fn functions_share_a_state_that_can_be_read_written_and_reset() {
    let prefill = cache("prefill");
    let infer = prefill.function("infer").unwrap();
    let mut state = prefill.make_state().unwrap();
    assert_eq!(state.names(), ["cache"]);
    let rows = fp16(&[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]);
    prefill.predict_with_state(&[("x", &rows)], &mut state).unwrap();
    let (row, p) = (fp16(&[[7.0, 8.0, 9.0]]), Tensor::new(&[3i64], CPU).unwrap());
    let outputs = infer.predict_with_state(&[("x", &row), ("p", &p)], &mut state).unwrap();
    let expected = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 0.0, 0.0, 0.0, 7.0, 8.0, 9.0];
    assert_eq!(common::floats(&outputs["y"]), expected.map(|value| 2.0 * value));
    let read = state.read("cache").unwrap();
    assert_eq!((read.dims(), read.dtype()), (&[4, 3][..], DType::F16));
    assert_eq!(common::floats(&read), expected);

    let other = Tensor::full(2.5f32, (4, 3), CPU).unwrap();
    state.write("cache", &other).unwrap();
    assert_eq!(common::floats(&state.read("cache").unwrap()), [2.5; 12]);
    // What was read before is a copy.
    assert_eq!(common::floats(&read), expected);
    state.reset();
    assert_eq!(common::floats(&state.read("cache").unwrap()), [0.0; 12]);

    let message = state.write("cache", &row).unwrap_err().to_string();
    assert!(message.contains("[4, 3]") && message.contains("[1, 3]"), "{message}");
    let message = state.read("memory").unwrap_err().to_string();
    assert!(message.contains("`memory`") && message.contains("`cache`"), "{message}");
}

#[test]
fn a_state_of_another_model_is_refused() {
    let other = common::fixtures().join("llm/window-1");
    let chunk = std::fs::read_dir(other)
        .unwrap()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.to_string_lossy().contains("FFN"))
        .unwrap();
    let mut state = CoreMLModel::load(chunk, &LoadOptions::new()).unwrap().make_state().unwrap();
    let x = fp16(&[[1.0; 3]; 2]);
    let error = cache("prefill").predict_with_state(&[("x", &x)], &mut state).unwrap_err();
    assert!(error.to_string().contains("`cache`"), "{error}");
}

#[test]
fn predictions_run_on_several_threads() {
    let model = load("linear_functions_ios18.mlpackage", &LoadOptions::new());
    let name = format!("linear_functions_{}_ios18", model.function_description().name);
    let (inputs, expected) = common::cases::named(&name).steps.remove(0);
    let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, x)| (&**name, x)).collect();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let outputs = model.predict(&inputs).unwrap();
                    for (name, tensor) in &expected {
                        let difference = common::difference(tensor, &outputs[name], 1e-5, 1e-5);
                        assert_eq!(difference, None);
                    }
                }
            });
        }
    });
}

/// A program in memory.
fn program(function: &str) -> CoreMLModel {
    let program = from_text(&format!("program(1.0) {{ {function} }}")).unwrap();
    let package = Package::from_program(program).unwrap();
    CoreMLModel::from_package(package, &LoadOptions::new()).unwrap()
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// np.array([2, 4, 8, 16])[[3, 0, 2, 1]] in halves: packed in two bits each, 0b01_10_00_11.
#[test]
fn outputs_may_be_constants_and_compressed_ones() {
    let model = program(
        "func main<ios16>() {
            tensor<fp16, [4]> a = constexpr_lut_to_dense()[lut = tensor<fp16, [4]>([2, 4, 8, 16]),
                indices = tensor<uint8, [1]>([99]), shape = tensor<uint32, [1]>([4])];
            tensor<int32, [2]> b = const()[val = tensor<int32, [2]>([7, -7])];
            bool c = const()[val = bool(true)];
            tensor<fp32, [0, 3]> d = const()[val = tensor<fp32, [0, 3]>([])];
        } -> (a, b, c, d);",
    );
    for _ in 0..2 {
        let outputs = model.predict(&[]).unwrap();
        assert_eq!(floats(&outputs["a"]), [16.0, 2.0, 8.0, 4.0]);
        assert_eq!(outputs["a"].dtype(), DType::F16);
        assert_eq!(floats(&outputs["b"]), [7.0, -7.0]);
        assert_eq!((outputs["c"].dims(), floats(&outputs["c"])), (&[][..], vec![1.0]));
        assert_eq!(outputs["d"].dims(), [0, 3]);
    }
}

#[test]
fn an_input_and_one_value_twice_may_be_outputs() {
    let model = program(
        "func main<ios15>(tensor<fp32, [2]> x) {
            tensor<fp32, [2]> y = square(x = x);
            tensor<fp32, [2]> z = identity(x = x);
        } -> (x, y, z, y);",
    );
    let x = Tensor::new(&[3f32, -4.0], CPU).unwrap();
    let outputs = model.predict(&[("x", &x)]).unwrap();
    assert_eq!(floats(&outputs["x"]), [3.0, -4.0]);
    assert_eq!(floats(&outputs["y"]), [9.0, 16.0]);
    assert_eq!(floats(&outputs["z"]), [3.0, -4.0]);
}

#[test]
fn scalars_and_empty_tensors_come_in_and_go_out() {
    let model = program(
        "func main<ios15>(fp32 x, tensor<fp32, [2, 0]> e) {
            fp32 y = add(x = x, y = x);
            tensor<fp32, [2, 0]> f = mul(x = e, y = x);
            tensor<fp32, [2]> s = reduce_sum(x = e, axes = tensor<int32, [1]>([1]), keep_dims = bool(false));
            tensor<fp32, [2, 0]> t = add(x = e, y = e);
        } -> (x, y, e, f, s, t);",
    );
    let (x, e) =
        (Tensor::new(1.5f32, CPU).unwrap(), Tensor::zeros((2, 0), DType::F32, CPU).unwrap());
    let outputs = model.predict(&[("x", &x), ("e", &e)]).unwrap();
    assert_eq!((outputs["x"].dims(), floats(&outputs["x"])), (&[][..], vec![1.5]));
    assert_eq!((outputs["y"].dims(), floats(&outputs["y"])), (&[][..], vec![3.0]));
    assert_eq!(floats(&outputs["s"]), [0.0, 0.0]);
    for name in ["e", "f", "t"] {
        assert_eq!(outputs[name].dims(), [2, 0], "{name}");
    }
}

/// Arrays of every type reach the program, and every type comes out of it, as NumPy's `x + 1` has it.
#[test]
fn arrays_of_every_type_go_in_and_out() {
    let model = program(
        "func main<ios18>(tensor<fp16, [2]> h, tensor<fp32, [2]> f, tensor<int32, [2]> i) {
            tensor<fp16, [2]> hh = add(x = h, y = fp16(1));
            tensor<fp32, [2]> ff = add(x = f, y = fp32(1));
            tensor<int32, [2]> ii = add(x = i, y = int32(1));
            tensor<bool, [2]> b = greater(x = f, y = fp32(1));
        } -> (hh, ff, ii, b);",
    );
    let mut call = model.bind().unwrap();
    let (halves, mut floats) = ([f16::from_f32(0.5), f16::from_f32(-2.0)], [0.25f32, 7.0]);
    for _ in 0..2 {
        let (h, f) = (Array::new(&[2], halves.as_slice()), Array::new(&[2], floats.as_slice()));
        let i = Array::new(&[2], [3i64, -4].as_slice()).unwrap();
        let (mut hh, mut ff) = ([f16::ZERO; 2], [0f32; 2]);
        let (mut ii, mut b) = ([0i32; 2], [false; 2]);
        call.run_with(&[(0, h.unwrap()), (1, f.unwrap()), (2, i)], None, |index, output| {
            let numbers: NumbersMut = match index {
                0 => hh.as_mut_slice().into(),
                1 => ff.as_mut_slice().into(),
                2 => ii.as_mut_slice().into(),
                _ => b.as_mut_slice().into(),
            };
            Ok(output.array()?.read(numbers)?)
        })
        .unwrap();
        assert_eq!(hh.map(f16::to_f32), [1.5, -1.0]);
        assert_eq!((ff, ii), (floats.map(|value| value + 1.0), [4, -3]));
        assert_eq!(b, floats.map(|value| value > 1.0));
        // What was lent for one run is the caller's again.
        floats = [100.0, 0.0];
    }
    let error = call.run(None, |_, _| Ok(())).unwrap_err().to_string();
    assert!(error.contains("input `f`") && error.contains("missing"), "{error}");
}

#[test]
fn arrays_that_do_not_fit_are_refused() {
    let model = program(
        "func main<ios18>(tensor<fp16, [2]> h, tensor<int32, [2]> i) {
            tensor<fp16, [2]> y = add(x = h, y = fp16(1));
        } -> (y, i);",
    );
    let mut call = model.bind().unwrap();
    let mut refused = |index, array: Array| {
        let error = call.run_with(&[(index, array)], None, |_, _| Ok(())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        error.to_string()
    };
    let large = [0f32, 1e5];
    let error = refused(0, Array::new(&[2], large.as_slice()).unwrap());
    assert!(error.contains("input `h`: the value 100000.0 at [1]"), "{error}");
    let error = refused(0, Array::new(&[1, 2], large.as_slice()).unwrap());
    assert!(error.contains("input `h`") && error.contains("[1, 2]"), "{error}");
    let error = refused(1, Array::new(&[2], large.as_slice()).unwrap());
    assert!(error.contains("input `i`: expected an integer dtype"), "{error}");
    let error = refused(1, Array::new(&[2], [0, u64::MAX].as_slice()).unwrap());
    assert!(error.contains("18446744073709551615 at [1]"), "{error}");
    let error = refused(9, Array::new(&[2], [true, false].as_slice()).unwrap());
    assert!(error.contains("input `#9`"), "{error}");
    assert!(Array::new(&[3], large.as_slice()).is_err());
    assert!(Array::new(&[usize::MAX, 8], large.as_slice()).is_err());
    let wrong = Array::new(&[2], large.as_slice()).unwrap().read([0i32; 2].as_mut_slice().into());
    assert!(wrong.unwrap_err().to_string().contains("expected `int32`"));
    let short = Array::new(&[2], large.as_slice()).unwrap().read([0f32; 1].as_mut_slice().into());
    assert!(short.is_err());
}

#[test]
fn states_are_read_and_written_as_arrays() {
    let model = cache("infer");
    let mut state = model.make_state().unwrap();
    let rows: Vec<f64> = (0..12).map(f64::from).collect();
    state.write_array("cache", &Array::new(&[4, 3], rows.as_slice()).unwrap()).unwrap();
    let halves = |state: &CoreMLState| {
        let mut halves = [f16::ZERO; 12];
        state.read_array("cache", |array| array.read(halves.as_mut_slice().into())).unwrap();
        halves
    };
    assert_eq!(halves(&state).map(f16::to_f64).as_slice(), rows);
    let kept = halves(&state);
    let copy = [("cache", Array::new(&[4, 3], kept.as_slice()).unwrap())];
    let mut copy = CoreMLState::from_arrays(&copy).unwrap();
    state.reset();
    assert_eq!(halves(&state), [f16::ZERO; 12]);
    let (x, p) = (fp16(&[[50.0; 3]]), Tensor::new(&[1i64], CPU).unwrap());
    let outputs = model.predict_with_state(&[("x", &x), ("p", &p)], &mut copy).unwrap();
    let replaced = (0..12).map(|n| if (3..6).contains(&n) { 50.0 } else { f64::from(n) });
    let expected: Vec<f64> = replaced.map(|value| 2.0 * value).collect();
    assert_eq!(common::floats(&outputs["y"]), expected);
    for wrong in [Array::new(&[3, 4], rows.as_slice()), Array::new(&[4, 3], [1i32; 12].as_slice())]
    {
        assert!(copy.write_array("cache", &wrong.unwrap()).is_err());
    }
    let large = [1e9f32; 12];
    assert!(copy.write_array("cache", &Array::new(&[4, 3], large.as_slice()).unwrap()).is_err());
    assert_eq!(halves(&copy)[11].to_f64(), 11.0);
    assert!(copy.read_array("other", |_| Ok(())).is_err());
}

#[test]
fn a_token_that_asks_ends_a_call_of_the_thread_that_asks() {
    let model = program(
        "func main<ios18>(tensor<fp32, [1]> x) {
            tensor<fp32, [1]> y = add(x = x, y = fp32(1));
        } -> (y);",
    );
    let token = CancelToken::new();
    let mut call = model.bind().unwrap();
    let array = || Array::new(&[1], [1f32].as_slice()).unwrap();
    call.set_cancel(Some(token.asking(Duration::ZERO, || true)));
    let error = call.run_with(&[(0, array())], None, |_, _| Ok(())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    call.set_cancel(Some(token.asking(Duration::ZERO, || false)));
    call.run_with(&[(0, array())], None, |_, _| Ok(())).unwrap();
    assert!(!token.is_cancelled());
}
