//! States are updated in place only where nobody can tell: programs that look at the old content
//! after an update, or at the state between update and write, with results worked out by hand.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use candle_core::{Device, Tensor};
use candle_coreml::{CoreMLModel, CoreMLState, LoadOptions};

/// A model whose state `s` has two rows of two numbers, from the body of its function: `x` is one
/// row, `a` and `b` are the bounds of row 0, `b` and `c` those of row 1, and `out` the result.
fn model(body: &str) -> CoreMLModel {
    let text = format!(
        r#"program(1.3)
        {{
        func main<ios18>(tensor<fp16, [1, 2]> x, state<tensor<fp16, [2, 2]>> s) {{
            tensor<int32, [2]> a = const()[name = string("a"), val = tensor<int32, [2]>([0, 0])];
            tensor<int32, [2]> b = const()[name = string("b"), val = tensor<int32, [2]>([1, 0])];
            tensor<int32, [2]> c = const()[name = string("c"), val = tensor<int32, [2]>([1, 2])];
            tensor<int32, [2]> d = const()[name = string("d"), val = tensor<int32, [2]>([2, 2])];
            {body}
        }} -> (out);
        }}"#
    );
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("states.mlmodelc");
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("model.mil"), text).unwrap();
    std::fs::write(path.join("metadata.json"), "[{}]").unwrap();
    CoreMLModel::load(&path, &LoadOptions::new()).unwrap_or_else(|error| panic!("{error}"))
}

fn step(model: &CoreMLModel, state: &mut CoreMLState, x: [f32; 2]) -> (Vec<f64>, Vec<f64>) {
    let x = Tensor::new(&[x], &Device::Cpu).unwrap();
    let outputs = model.predict_with_state(&[("x", &x)], state).unwrap();
    (common::floats(&outputs["out"]), common::floats(&state.read("s").unwrap()))
}

#[test]
fn the_old_content_outlives_an_update() {
    let model = model(
        r#"tensor<fp16, [2, 2]> old = read_state(input = s)[name = string("old")];
        tensor<fp16, [2, 2]> new = slice_update(x = old, update = x, begin = a, end = c)[name = string("new")];
        write_state(input = s, data = new)[name = string("w")];
        tensor<fp16, [2, 2]> out = sub(x = new, y = old)[name = string("out")];"#,
    );
    let mut state = model.make_state().unwrap();
    assert_eq!(step(&model, &mut state, [1.0, 2.0]).0, [1.0, 2.0, 0.0, 0.0]);
    let (out, content) = step(&model, &mut state, [5.0, 7.0]);
    assert_eq!(out, [4.0, 5.0, 0.0, 0.0]);
    assert_eq!(content, [5.0, 7.0, 0.0, 0.0]);
}

#[test]
fn an_update_outlives_the_next_one() {
    let model = model(
        r#"tensor<fp16, [2, 2]> r1 = read_state(input = s)[name = string("r1")];
        tensor<fp16, [2, 2]> u1 = slice_update(x = r1, update = x, begin = a, end = c)[name = string("u1")];
        write_state(input = s, data = u1)[name = string("w1")];
        tensor<fp16, [2, 2]> r2 = read_state(input = s)[name = string("r2")];
        tensor<fp16, [2, 2]> u2 = slice_update(x = r2, update = x, begin = b, end = d)[name = string("u2")];
        write_state(input = s, data = u2)[name = string("w2")];
        tensor<fp16, [2, 2]> out = sub(x = u2, y = u1)[name = string("out")];"#,
    );
    let mut state = model.make_state().unwrap();
    let (out, content) = step(&model, &mut state, [1.0, 2.0]);
    assert_eq!(out, [0.0, 0.0, 1.0, 2.0]);
    assert_eq!(content, [1.0, 2.0, 1.0, 2.0]);
    assert_eq!(step(&model, &mut state, [4.0, 4.0]).0, [0.0, 0.0, 3.0, 2.0]);
}

#[test]
fn an_update_that_is_not_written_leaves_the_state() {
    let model = model(
        r#"tensor<fp16, [2, 2]> old = read_state(input = s)[name = string("old")];
        tensor<fp16, [2, 2]> out = slice_update(x = old, update = x, begin = a, end = c)[name = string("out")];"#,
    );
    let mut state = model.make_state().unwrap();
    let (out, content) = step(&model, &mut state, [1.0, 2.0]);
    assert_eq!((out, content), (vec![1.0, 2.0, 0.0, 0.0], vec![0.0; 4]));
}

#[test]
fn a_read_between_update_and_write_sees_the_old_content() {
    let model = model(
        r#"tensor<fp16, [2, 2]> r1 = read_state(input = s)[name = string("r1")];
        tensor<fp16, [2, 2]> u = slice_update(x = r1, update = x, begin = a, end = c)[name = string("u")];
        tensor<fp16, [2, 2]> r2 = read_state(input = s)[name = string("r2")];
        write_state(input = s, data = u)[name = string("w")];
        tensor<fp16, [2, 2]> out = sub(x = u, y = r2)[name = string("out")];"#,
    );
    let mut state = model.make_state().unwrap();
    assert_eq!(step(&model, &mut state, [1.0, 2.0]).0, [1.0, 2.0, 0.0, 0.0]);
    let (out, content) = step(&model, &mut state, [5.0, 7.0]);
    assert_eq!((out, content), (vec![4.0, 5.0, 0.0, 0.0], vec![5.0, 7.0, 0.0, 0.0]));
}

#[test]
fn a_part_of_the_state_can_be_its_own_update() {
    let model = model(
        r#"tensor<fp16, [2, 2]> old = read_state(input = s)[name = string("old")];
        tensor<fp16, [2, 2]> first = slice_update(x = old, update = x, begin = a, end = c)[name = string("first")];
        write_state(input = s, data = first)[name = string("w1")];
        tensor<fp16, [2, 2]> now = read_state(input = s)[name = string("now")];
        tensor<fp16, [1, 2]> row = slice_by_index(x = now, begin = a, end = c)[name = string("row")];
        tensor<fp16, [2, 2]> out = slice_update(x = now, update = row, begin = b, end = d)[name = string("out")];
        write_state(input = s, data = out)[name = string("w2")];"#,
    );
    let mut state = model.make_state().unwrap();
    let (out, content) = step(&model, &mut state, [1.0, 2.0]);
    assert_eq!((out, content), (vec![1.0, 2.0, 1.0, 2.0], vec![1.0, 2.0, 1.0, 2.0]));
}
