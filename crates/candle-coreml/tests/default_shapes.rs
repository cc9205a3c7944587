//! Models that can't run at the shape that they state as their default.
#![allow(clippy::unwrap_used)] // a test fails by panicking

use candle_core::{Device, Tensor};
use candle_coreml::{CoreMLModel, LoadOptions, Result};

/// A compiled model that gives elements 1 and 2 of each row, with this input schema.
fn load(input: &str) -> Result<CoreMLModel> {
    let directory = tempfile::tempdir().unwrap();
    let program = "program(1.0) { func main<ios17>(tensor<fp32, [1, ?]> x) {
        tensor<fp32, [1, 2]> y = slice_by_size(begin = tensor<int32, [2]>([0, 1]),
            size = tensor<int32, [2]>([1, 2]), x = x);
    } -> (y); }";
    std::fs::write(directory.path().join("model.mil"), program).unwrap();
    let metadata = format!(
        r#"[{{"specificationVersion": 8, "outputSchema": [], "inputSchema": [{{"name": "x",
            "type": "MultiArray", "dataType": "Float32", "shape": "[1, 1]", "isOptional": "0"
            {input}}}]}}]"#
    );
    std::fs::write(directory.path().join("metadata.json"), metadata).unwrap();
    CoreMLModel::load(directory.path(), &LoadOptions::new())
}

#[test]
fn it_runs_at_shapes_that_can() {
    let model = load(r#", "shapeRange": "[[1, 1], [1, 100]]""#).unwrap();
    for length in [3u32, 4, 9] {
        let x = Tensor::arange(0f32, length as f32, &Device::Cpu).unwrap();
        let x = x.reshape((1, length as usize)).unwrap();
        let y = model.predict(&[("x", &x)]).unwrap()["y"].to_vec2::<f32>().unwrap();
        assert_eq!(y, [[1.0, 2.0]], "{length}");
    }
    let x = Tensor::new(&[[7f32]], &Device::Cpu).unwrap();
    let error = model.predict(&[("x", &x)]).unwrap_err().to_string();
    assert!(error.contains("slice_by_size"), "{error}");
}
