//! Small models that showed faults, where they lie beside the repository.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::path::PathBuf;
use std::time::Duration;

use candle_core::{DType, Device, Tensor};
use candle_coreml::{CoreMLModel, CoreMLState, ErrorKind, Limits, LoadOptions, Package, Result};

fn case(name: &str) -> Option<PathBuf> {
    Some(common::shared_models()?.parent()?.join("cases").join(name)).filter(|path| path.exists())
}

#[test]
fn integers_that_are_narrowed_around_a_gather_keep_their_values() {
    let Some(path) = case("int16-gather") else { return };
    let model = CoreMLModel::load(path.join("gather.mlpackage"), &LoadOptions::new()).unwrap();
    let x = Tensor::new(&[1i32, 2, 32768, 100_000, -70_000], &Device::Cpu).unwrap();
    let i = Tensor::read_npy(path.join("in_i.npy")).unwrap();
    let expected = Tensor::read_npy(path.join("expected.npy")).unwrap();
    let outputs = model.predict(&[("x", &x), ("i", &i)]).unwrap();
    assert_eq!(common::difference(&expected, &outputs["y"], 0.0, 0.0), None);
}

#[test]
fn states_are_as_before_a_prediction_that_failed() {
    let Some(path) = case("states/states.mlpackage") else { return };
    let model = CoreMLModel::load(path, &LoadOptions::new()).unwrap();
    let mut state = model.make_state().unwrap();
    let x = Tensor::arange(1f32, 7f32, &Device::Cpu).unwrap().reshape((2, 3)).unwrap();
    let x = x.to_dtype(DType::F16).unwrap();
    let predict = |pos: i32, state: &mut CoreMLState| -> Result<()> {
        let pos = Tensor::new(&[pos], &Device::Cpu).unwrap();
        model.predict_with_state(&[("x", &x), ("pos", &pos)], state).map(drop)
    };
    let contents =
        |state: &CoreMLState| ["a", "b"].map(|name| common::floats(&state.read(name).unwrap()));
    predict(0, &mut state).unwrap();
    predict(3, &mut state).unwrap();
    let before = contents(&state);
    let message = predict(7, &mut state).unwrap_err().to_string();
    assert_eq!(contents(&state), before);
    assert!(message.contains('7') && message.contains('4'), "{message}");
    predict(3, &mut state).unwrap();
}

#[test]
fn loops_without_an_end_are_stopped() {
    for name in ["while_forever", "while_grow"] {
        let Some(path) = case(&format!("while-forever/{name}.mlmodel")) else { return };
        let limits = Limits::new().time(Duration::from_millis(300)).memory(64 << 20);
        let model = CoreMLModel::load(path, &LoadOptions::new().limits(limits)).unwrap();
        let x = Tensor::new(&[0f32], &Device::Cpu).unwrap();
        let error = model.predict(&[("x", &x)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit);
        let message = error.to_string();
        assert!(message.contains("while_loop") && message.contains("`w`"), "{name}: {message}");
    }
}

#[test]
fn names_send_nothing_to_a_terminal() {
    for name in ["escapes", "escapes_name", "escapes_op"] {
        let Some(path) = case(&format!("escapes/{name}.mlmodel")) else { return };
        let package = Package::open(&path).unwrap();
        let error = match CoreMLModel::from_package(package, &LoadOptions::new()) {
            Ok(model) => model.predict(&[]).unwrap_err(),
            Err(error) => error,
        };
        let message = error.to_string();
        assert!(!message.contains(|c: char| c.is_control() || c == '\u{202e}'), "{message:?}");
    }
}
