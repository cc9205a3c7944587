//! Integers that a converter narrows, numbers that do not fit, states after an error, and limits.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::time::Duration;

use candle_core::{DType, Device, Tensor};
use candle_coreml::{
    CancelToken, CoreMLModel, Error, ErrorKind, Features, Limits, LoadOptions, Package, Result,
    Rewrites, mil,
};

fn load(inputs: &str, body: &str, outputs: &str, options: &LoadOptions) -> Result<CoreMLModel> {
    let text =
        format!("program(1.3) {{ func main<ios18>({inputs}) {{ {body} }} -> ({outputs}); }}");
    let program = mil::from_text(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    CoreMLModel::from_package(Package::from_program(program)?, options)
}

fn ints(values: &[i32]) -> Tensor {
    Tensor::new(values, &Device::Cpu).unwrap()
}

fn cast(name: &str, of: &str, shape: &str, to: &str) -> String {
    format!(r#"tensor<{to}, {shape}> {name} = cast(x = {of}, dtype = string("{to}"));"#)
}

/// Results of integers, with all rewrites and without any.
fn run_ints(inputs: &str, body: &str, outputs: &str, given: &[(&str, &Tensor)]) -> Vec<Vec<i32>> {
    let run = |rewrites| {
        let options = LoadOptions::new().rewrites(rewrites);
        let model = load(inputs, body, outputs, &options).unwrap();
        let results = model.predict(given).unwrap();
        let values = |name: &str| results[name].flatten_all().unwrap().to_vec1().unwrap();
        outputs.split(", ").map(values).collect::<Vec<Vec<i32>>>()
    };
    let all = run(Rewrites::All);
    assert_eq!(all, run(Rewrites::Off));
    all
}

const X: [i32; 3] = [32768, 100_000, -70_000];

#[test]
fn integers_that_are_narrowed_to_be_moved_keep_their_values() {
    // What coremltools' `add_int16_cast` makes of `gather`, `squeeze` and a `concat` between them.
    let body = [
        cast("x16", "x", "[3]", "int16"),
        cast("i16", "i", "[2]", "uint16"),
        "tensor<int16, [2]> g = gather(x = x16, indices = i16, axis = int32(0));".into(),
        "tensor<int16, [1, 2]> e = expand_dims(x = g, axes = tensor<int32, [1]>([0]));".into(),
        "tensor<int16, [2]> s = squeeze(x = e, axes = tensor<int32, [1]>([0]));".into(),
        "tensor<int16, [4]> c = concat(values = (s, s), axis = int32(0), interleave = bool(false));"
            .into(),
        cast("y", "c", "[4]", "int32"),
        cast("z", "g", "[2]", "fp32"),
        "tensor<fp32, [2]> half = mul(x = z, y = fp32(0.5));".into(),
        cast("h", "half", "[2]", "int32"),
    ];
    let given = [("x", &ints(&X)), ("i", &ints(&[2, 1]))];
    let inputs = "tensor<int32, [3]> x, tensor<int32, [2]> i";
    let expected = [vec![-70_000, 100_000, -70_000, 100_000], vec![-35_000, 50_000]];
    assert_eq!(run_ints(inputs, &body.concat(), "y, h", &given), expected);
    let plan = load(inputs, &body.concat(), "y, h", &LoadOptions::new()).unwrap().plan().unwrap();
    assert!(plan.contains("rewrite integers kept through 16 bits: 3 times"), "{plan}");
    assert!(!plan.contains("int16"), "{plan}");
}

/// In a small stack, too.
#[test]
fn a_value_may_be_moved_any_number_of_times() {
    let run = || {
        let mut body = cast("m0", "x", "[3]", "int16");
        for n in 0..20_000 {
            let reverse = "axes = tensor<int32, [1]>([0])";
            body += &format!("tensor<int16, [3]> m{} = reverse(x = m{n}, {reverse});", n + 1);
        }
        body += &cast("y", "m20000", "[3]", "int32");
        let model = load("tensor<int32, [3]> x", &body, "y", &LoadOptions::new()).unwrap();
        model.predict(&[("x", &ints(&X))]).unwrap()["y"].to_vec1::<i32>().unwrap()
    };
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(run).unwrap();
    assert_eq!(thread.join().unwrap(), X);
}

#[test]
fn topk_of_narrowed_integers_is_that_of_the_integers() {
    let body = [
        cast("x16", "x", "[3]", "int16"),
        r#"tensor<int16, [2]> v, tensor<uint16, [2]> p = topk(x = x16, k = int32(2),
            axis = int32(0), ascending = bool(false), sort = bool(true),
            return_indices = bool(true), output_indices_dtype = string("uint16"));"#
            .into(),
        cast("y", "v", "[2]", "int32"),
        cast("z", "p", "[2]", "int32"),
    ];
    let given = [("x", &ints(&X))];
    let results = run_ints("tensor<int32, [3]> x", &body.concat(), "y, z", &given);
    assert_eq!(results, [vec![100_000, 32768], vec![1, 0]]);
}

#[test]
fn places_beyond_sixteen_bits_are_found() {
    // A row of 70,000 numbers, of which the last is the largest.
    let count = 70_000;
    let x: Vec<i32> = (0..count).collect();
    let body = [
        cast("x32", "x", "[1, 70000]", "fp32"),
        r#"tensor<fp32, [1, 2]> v, tensor<uint16, [1, 2]> p = topk(x = x32, k = int32(2),
            axis = int32(1), ascending = bool(false), sort = bool(true),
            return_indices = bool(true), output_indices_dtype = string("uint16"));"#
            .into(),
        cast("y", "p", "[1, 2]", "int32"),
        cast("i16", "i", "[1]", "int16"),
        "tensor<int32, [1, 1]> z = gather(x = x, indices = i16, axis = int32(1));".into(),
    ];
    let x = ints(&x).reshape((1, count as usize)).unwrap();
    let given = [("x", &x), ("i", &ints(&[69_999]))];
    let inputs = "tensor<int32, [1, 70000]> x, tensor<int32, [1]> i";
    let results = run_ints(inputs, &body.concat(), "y, z", &given);
    assert_eq!(results, [vec![69_999, 69_998], vec![69_999]]);
}

#[test]
fn constants_and_branches_keep_their_values_too() {
    let body = [
        "tensor<int32, [3]> k = const()[val = tensor<int32, [3]>([32768, 100000, -70000])];".into(),
        cast("k16", "k", "[3]", "int16"),
        cast("x16", "x", "[3]", "int16"),
        r#"bool p = cast(x = q, dtype = string("bool"));
        tensor<int32, [3]> y = cond(pred = p) {
            tensor<int16, [3]> a = reverse(x = x16, axes = tensor<int32, [1]>([0]));"#
            .into(),
        cast("b", "a", "[3]", "int32"),
        "} -> (b), { tensor<int16, [3]> c = reverse(x = k16, axes = tensor<int32, [1]>([0]));"
            .into(),
        cast("d", "c", "[3]", "int32"),
        "} -> (d);".into(),
    ];
    let (x, inputs) = (ints(&[1, 2, 65536]), "tensor<int32, [3]> x, int32 q");
    for (q, expected) in [(1, vec![65536, 2, 1]), (0, vec![-70_000, 100_000, 32768])] {
        let q = Tensor::new(q, &Device::Cpu).unwrap();
        let results = run_ints(inputs, &body.concat(), "y", &[("x", &x), ("q", &q)]);
        assert_eq!(results, [expected]);
    }
}

/// `np.int32([0, 127, 200, 40000, 70000, -3]).astype(…).astype(np.int32)`, and of int16 after a reversal.
#[test]
fn other_casts_wrap() {
    let x = ints(&[0, 127, 200, 40000, 70000, -3]);
    let expected: [(&str, [i32; 6]); 4] = [
        ("int16", [0, 127, 200, -25536, 4464, -3]),
        ("uint16", [0, 127, 200, 40000, 4464, 65533]),
        ("int8", [0, 127, -56, 64, 112, -3]),
        ("uint8", [0, 127, 200, 64, 112, 253]),
    ];
    for (ty, expected) in expected {
        let body = [cast("n", "x", "[6]", ty), cast("y", "n", "[6]", "int32")].concat();
        let results = run_ints("tensor<int32, [6]> x", &body, "y", &[("x", &x)]);
        assert_eq!(results, [expected.to_vec()], "{ty}");
    }
    let body = [
        cast("n", "x", "[6]", "int16"),
        "tensor<int16, [6]> r = reverse(x = n, axes = tensor<int32, [1]>([0]));".into(),
        cast("u", "r", "[6]", "uint16"),
        cast("y", "u", "[6]", "int32"),
    ];
    let results = run_ints("tensor<int32, [6]> x", &body.concat(), "y", &[("x", &x)]);
    assert_eq!(results, [[65533, 4464, 40000, 200, 127, 0]]);
}

/// `np.float32(0.1).astype(np.float16).astype(np.float32)`
#[test]
fn what_is_of_half_precision_is_rounded_when_it_is_cast() {
    let body = ["tensor<fp16, [3]> d = add(x = x, y = x);".into(), cast("y", "d", "[3]", "fp32")];
    let options = LoadOptions::new();
    let model = load("tensor<fp16, [3]> x", &body.concat(), "y", &options).unwrap();
    let x = Tensor::new(&[0.05f32, 1024.5, 40000.0], &Device::Cpu).unwrap();
    let y: Vec<f32> = model.predict(&[("x", &x)]).unwrap()["y"].to_vec1().unwrap();
    assert_eq!(y[1..], [2048.0, f32::INFINITY]);
    assert!((y[0] - 0.099_975_586).abs() < 1e-9, "{y:?}");
}

/// `np.float16(scale * (q - zero_point))` with scales 0.1 and 600, expanded and in products.
#[test]
fn quantized_weights_are_of_half_precision() {
    let weight = r#"tensor<fp16, [2, 4]> w = constexpr_affine_dequantize()[axis = int32(0),
        quantized_data = tensor<int8, [2, 4]>([[3, 7, -5, 101], [127, 109, 2, -128]]),
        scale = tensor<fp16, [2]>([0.1, 600.0]), zero_point = tensor<int8, [2]>([-3, 0])];"#;
    let product = format!("{weight} tensor<fp16, [4, 2]> y = linear(x = x, weight = w);");
    let sum = "tensor<fp16, [2, 4]> p = add(x = w, y = x);";
    let dense = format!("{weight} {sum} {}", cast("y", "p", "[2, 4]", "fp32"));
    // The scale 0.1 is 0.0999755859375.
    let expected = [
        [0.599_609_4f32, 1.0, -0.199_951_17, 10.398_437_5],
        [f32::INFINITY, 65408.0, 1200.0, f32::NEG_INFINITY],
    ];
    let options = LoadOptions::new();
    let model = load("tensor<fp16, [2, 4]> x", &dense, "y", &options).unwrap();
    let zeros = Tensor::zeros((2, 4), DType::F32, &Device::Cpu).unwrap();
    let y: Vec<Vec<f32>> = model.predict(&[("x", &zeros)]).unwrap()["y"].to_vec2().unwrap();
    assert_eq!(y, expected);
    let model = load("tensor<fp16, [4, 4]> x", &product, "y", &options).unwrap();
    let unit = Tensor::eye(4, DType::F32, &Device::Cpu).unwrap();
    let y = model.predict(&[("x", &unit)]).unwrap()["y"].to_dtype(DType::F32).unwrap();
    let y: Vec<Vec<f32>> = y.to_vec2().unwrap();
    let first: Vec<f32> = y.iter().map(|row| row[0]).collect();
    assert_eq!(first, expected[0]);
}

#[test]
fn floats_that_do_not_fit_are_refused() {
    let body = "tensor<fp16, [2]> y = relu(x = a); tensor<fp32, [1, 2]> z = relu(x = b);";
    let inputs = "tensor<fp16, [2]> a, tensor<fp32, [1, 2]> b";
    let model = load(inputs, body, "y, z", &LoadOptions::new()).unwrap();
    let tensor = |values: [f64; 2], dtype| {
        Tensor::new(&values, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
    };
    let predict =
        |a: &Tensor, b: &Tensor| model.predict(&[("a", a), ("b", &b.unsqueeze(0).unwrap())]);
    let fine = tensor([1.0, -2.0], DType::F32);
    let cases = [
        (
            [1.0, 1e6],
            [0.0, 0.0],
            DType::F32,
            "input `a`: the value 1000000.0 at [1] does not fit into `float16`",
        ),
        (
            [65520.0, 0.0],
            [0.0, 0.0],
            DType::F64,
            "input `a`: the value 65520.0 at [0] does not fit into `float16`",
        ),
        (
            [0.0, 0.0],
            [1.0, -1e40],
            DType::F64,
            "input `b`: the value -1e40 at [0, 1] does not fit into `float32`",
        ),
    ];
    for (a, b, dtype, expected) in cases {
        let error = predict(&tensor(a, dtype), &tensor(b, dtype)).unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    let infinite = tensor([f64::INFINITY, f64::NAN], DType::F64);
    let y = &predict(&infinite, &infinite).unwrap()["y"].to_dtype(DType::F32).unwrap();
    let y: Vec<f32> = y.to_vec1().unwrap();
    assert!(y[0].is_infinite() && y[1].is_nan(), "what is given stays: {y:?}");
    assert!(predict(&tensor([65519.0, 0.0], DType::F32), &fine).is_ok());
    let wrong = predict(&Tensor::new(&[1u8, 2], &Device::Cpu).unwrap(), &fine).unwrap_err();
    assert!(wrong.to_string().ends_with("for `float16`, got `uint8`"), "{wrong}");
    let mut call = model.bind().unwrap();
    assert!(call.write_floats(0, &[2], |to| to.copy_from_slice(&[0.0, 1e6])).is_err());
}

/// Two states of two rows; `pos` is where `x` goes in both.
fn stateful(end: &str, options: &LoadOptions) -> CoreMLModel {
    let update = |state: &str| {
        format!(
            r#"tensor<fp16, [4, 3]> r{state} = read_state(input = {state});
            tensor<fp16, [4, 3]> u{state} = slice_update(x = r{state}, update = x, begin = begin, end = end);
            write_state(input = {state}, data = u{state});"#
        )
    };
    let body = format!(
        r#"tensor<int32, [2]> begin = concat(values = (pos, tensor<int32, [1]>([0])), axis = int32(0), interleave = bool(false));
        tensor<int32, [1]> next = add(x = pos, y = int32(1));
        tensor<int32, [2]> end = concat(values = (next, tensor<int32, [1]>([3])), axis = int32(0), interleave = bool(false));
        {} tensor<fp16, [4, 3]> whole = add(x = ra, y = fp16(1.0)); {} {end}"#,
        update("a"),
        update("b")
    );
    let inputs = "tensor<fp16, [1, 3]> x, tensor<int32, [1]> pos, tensor<int32, [1]> at, \
                  state<tensor<fp16, [4, 3]>> a, state<tensor<fp16, [4, 3]>> b";
    load(inputs, &body, "y", options).unwrap()
}

const PICK: &str = "tensor<fp16, [1, 3]> y = gather(x = ub, indices = at, axis = int32(0));";

fn contents(state: &candle_coreml::CoreMLState) -> [Vec<f64>; 2] {
    ["a", "b"].map(|name| common::floats(&state.read(name).unwrap()))
}

#[test]
fn after_an_error_states_are_as_before() {
    let model = stateful(PICK, &LoadOptions::new());
    let mut state = model.make_state().unwrap();
    let x = Tensor::new(&[[1f32, 2.0, 3.0]], &Device::Cpu).unwrap();
    let step = |state: &mut _, pos: i32, at: i32| {
        model.predict_with_state(&[("x", &x), ("pos", &ints(&[pos])), ("at", &ints(&[at]))], state)
    };
    step(&mut state, 0, 0).unwrap();
    step(&mut state, 3, 3).unwrap();
    let before = contents(&state);
    assert_eq!(before[0], [1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0]);
    // The last operation fails when both states are written.
    let error = step(&mut state, 1, 9).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(contents(&state), before);
    let message = step(&mut state, 7, 0).unwrap_err().to_string();
    assert!(message.contains("`begin` is 7 on axis 0, which has 4 elements"), "{message}");
    assert_eq!(contents(&state), before);
    step(&mut state, 1, 1).unwrap();
    assert_eq!(contents(&state)[1][3..6], [1.0, 2.0, 3.0]);
}

#[test]
fn states_that_are_replaced_and_outputs_that_are_not_read_are_undone() {
    let replaced = format!("write_state(input = a, data = whole); {PICK}");
    let model = stateful(&replaced, &LoadOptions::new());
    let mut state = model.make_state().unwrap();
    let x = Tensor::new(&[[1f32, 2.0, 3.0]], &Device::Cpu).unwrap();
    let mut call = model.bind().unwrap();
    for (name, value) in [("x", x), ("pos", ints(&[2])), ("at", ints(&[0]))] {
        let index = call.input(name).unwrap();
        call.set(index, &value).unwrap();
    }
    call.run(Some(&mut state), |_, _| Ok(())).unwrap();
    let before = contents(&state);
    let failed = call.run(Some(&mut state), |_, _| Err(Error::other("no more")));
    assert!(failed.is_err());
    assert_eq!(contents(&state), before);
    let at = call.input("at").unwrap();
    call.set(at, ints(&[4])).unwrap();
    assert!(call.run(Some(&mut state), |_, _| Ok(())).is_err());
    assert_eq!(contents(&state), before);
    assert!(state.write("a", &Tensor::full(1e6f32, (4, 3), &Device::Cpu).unwrap()).is_err());
    assert_eq!(contents(&state), before);
}

const FOREVER: &str = r#"
    tensor<fp32, [1]> y = while_loop(loop_vars = (x)) (tensor<fp32, [1]> v) {
        bool go = less(x = fp32(0.0), y = fp32(1.0));
    } -> (go), (tensor<fp32, [1]> v) {
        tensor<fp32, [1]> w = add(x = v, y = fp32(1.0));
    } -> (w);"#;

#[test]
fn a_time_limit_ends_loops_and_names_them() {
    let options = LoadOptions::new().limits(Limits::new().time(Duration::from_millis(20)));
    let model = load("tensor<fp32, [1]> x", FOREVER, "y", &options).unwrap();
    let x = Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
    let error = model.predict(&[("x", &x)]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
    let message = error.to_string();
    assert!(
        message.contains("operation `y` (while_loop)") && message.contains("0.02 seconds"),
        "{message}"
    );
}

#[test]
fn a_prediction_is_cancelled_from_elsewhere_and_states_are_as_before() {
    let body = r#"
    write_state(input = s, data = x);
    tensor<fp16, [1]> y = while_loop(loop_vars = (x)) (tensor<fp16, [1]> v) {
        bool go = less(x = fp16(0.0), y = fp16(1.0));
    } -> (go), (tensor<fp16, [1]> v) {
        tensor<fp16, [1]> w = mul(x = v, y = fp16(1.0));
    } -> (w);"#;
    let inputs = "tensor<fp16, [1]> x, state<tensor<fp16, [1]>> s";
    let token = CancelToken::new();
    let model = load(inputs, body, "y", &LoadOptions::new()).unwrap().with_cancel(token.clone());
    let mut state = model.make_state().unwrap();
    let x = Tensor::new(&[1f32], &Device::Cpu).unwrap();
    let later = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        token.cancel();
    });
    let mut cancelled = |model: &CoreMLModel| {
        let error = model.predict_with_state(&[("x", &x)], &mut state).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        let content = common::floats(&state.read("s").unwrap());
        (error.to_string(), content)
    };
    let (message, content) = cancelled(&model);
    later.join().unwrap();
    assert!(message.contains("`y` (while_loop): cancelled here"), "{message}");
    assert_eq!(content, [0.0]);
    // Cancelled for good, in shares too.
    assert!(cancelled(&model).0.contains("write_state"));
    assert!(cancelled(&model.function("main").unwrap()).0.contains("write_state"));
}

#[test]
fn a_memory_limit_ends_what_grows() {
    let limited = |bytes| LoadOptions::new().limits(Limits::new().memory(bytes));
    // Known when the operation runs: 4 MB.
    let fill = "tensor<int32, [2]> s = mul(x = n, y = int32(1000));
        tensor<fp32, [?, ?]> f = fill(shape = s, value = fp32(1.0));
        fp32 y = reduce_sum(x = f, axes = tensor<int32, [2]>([0, 1]), keep_dims = bool(false));";
    let model = load("tensor<int32, [2]> n", fill, "y", &limited(1 << 20)).unwrap();
    assert!(model.predict(&[("n", &ints(&[1, 0]))]).is_ok());
    let error = model.predict(&[("n", &ints(&[1, 1]))]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
    let message = error.to_string();
    assert!(
        message.contains("operation `f` (fill)") && message.contains("memory limit of 1048576"),
        "{message}"
    );
    // Known when the plan is made.
    let tile = "tensor<fp32, [1000, 1000]> t =
            tile(x = x, reps = tensor<int32, [2]>([1000, 1000]));
        tensor<fp32, [1000, 1000]> y = exp(x = t);";
    let model = load("tensor<fp32, [1, 1]> x", tile, "y", &limited(1 << 20)).unwrap();
    let x = Tensor::zeros((1, 1), DType::F32, &Device::Cpu).unwrap();
    assert_eq!(model.predict(&[("x", &x)]).unwrap_err().kind(), ErrorKind::Limit);
}

/// 20 constants of 64 MB each in a program of a few hundred bytes are not made when it is loaded.
#[test]
fn constants_of_gigabytes_are_not_folded() {
    let mut body = String::new();
    for i in 0..20 {
        body += &format!(
            "tensor<fp32, [4096, 4096]> f{i} = fill(shape = tensor<int32, [2]>([4096, 4096]), value = fp32({i}.5));"
        );
    }
    body += "tensor<fp32, [1]> y = add(x = x, y = fp32(1.0));";
    let options = LoadOptions::new().limits(Limits::new().memory(1 << 20));
    let model = load("tensor<fp32, [1]> x", &body, "y", &options).unwrap();
    let x = Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
    let y = model.predict_features(&Features::from([("x", x.into())]), None).unwrap();
    assert_eq!(common::floats(y["y"].tensor().unwrap()), [1.0]);
}

#[test]
fn names_from_a_file_send_nothing_to_a_terminal() {
    let text = "program(1.3) { func main<ios18>(tensor<fp32, [1]> x) { tensor<fp32, [1]> y = relu(x = x); } -> (y); }";
    let mut program = mil::from_text(text).unwrap();
    let function = program.functions.get_mut("main").unwrap();
    let name = format!("a\u{1b}]0;title\u{7}{}", "z".repeat(200_000));
    function.block.operations[0].operator.clone_from(&name);
    let error = Package::from_program(program)
        .map_err(Error::from)
        .and_then(|package| CoreMLModel::from_package(package, &LoadOptions::new()))
        .unwrap_err();
    let message = error.to_string();
    assert!(!message.contains('\u{1b}') && message.len() < 2000, "{message:?}");
    assert!(message.contains("a\\u{1b}]0;title\\u{7}zz") && message.contains('…'), "{message}");
}

#[test]
fn a_slice_beyond_an_axis_says_so() {
    let body = "tensor<int32, [1]> e = add(x = p, y = int32(1));
        tensor<fp32, [1]> y = slice_by_index(x = x, begin = p, end = e);";
    let inputs = "tensor<fp32, [4]> x, tensor<int32, [1]> p";
    let model = load(inputs, body, "y", &LoadOptions::new()).unwrap();
    let x = Tensor::new(&[1f32, 2.0, 3.0, 4.0], &Device::Cpu).unwrap();
    let y = &model.predict(&[("x", &x), ("p", &ints(&[3]))]).unwrap()["y"];
    assert_eq!(common::floats(y), [4.0]);
    let message = model.predict(&[("x", &x), ("p", &ints(&[7]))]).unwrap_err().to_string();
    assert!(message.contains("`begin` is 7 on axis 0, which has 4 elements"), "{message}");
}
