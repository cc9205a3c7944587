//! Any Core ML model on Candle tensors: shows its inputs, feeds zeros, and shows what comes out.
//!
//!     cargo run --release --example raw_model -- model.mlpackage
#![allow(clippy::print_stdout)] // an example shows what it does

use candle_core::{DType, Device, Tensor};
use candle_coreml::description::{ArrayElementType, FeatureDescription};
use candle_coreml::{CoreMLModel, LoadOptions, Result};

const EMBEDDINGS: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../candle-coreml-cli/demo/qwen_embeddings.mlpackage");

fn main() -> Result<()> {
    let path = std::env::args().nth(1).unwrap_or_else(|| EMBEDDINGS.to_owned());
    let model = CoreMLModel::load(path, &LoadOptions::new())?;
    let function = model.function_description();
    let mut inputs = Vec::new();
    for input in &function.inputs {
        println!("input {}: {}", input.name, input.ty);
        if let Some(tensor) = zeros(input)? {
            inputs.push((input.name.as_str(), tensor));
        }
    }
    let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, x)| (*name, x)).collect();
    let outputs = if function.states.is_empty() {
        model.predict(&inputs)?
    } else {
        model.predict_with_state(&inputs, &mut model.make_state()?)?
    };
    for (name, tensor) in outputs {
        println!("output {name}:\n{tensor}");
    }
    Ok(())
}

/// Zeros of an input's shape, if it is a tensor.
fn zeros(input: &FeatureDescription) -> Result<Option<Tensor>> {
    let Some(array) = input.ty.as_multi_array() else { return Ok(None) };
    let dtype = match array.element {
        ArrayElementType::Int32 => DType::I64,
        _ => DType::F32,
    };
    Ok(Some(Tensor::zeros(array.shape.as_slice(), dtype, &Device::Cpu)?))
}
