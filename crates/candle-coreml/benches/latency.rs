//! How long a prediction takes.
//!
//! `cargo bench -p candle-coreml --bench latency -- MODEL [FUNCTION] [PREDICTIONS]` runs a function on
//! zeros of its default shapes and prints the fastest, the median and the slowest of the predictions, in
//! microseconds.
#![allow(clippy::print_stdout)]

use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use candle_coreml::description::{ArrayElementType, FeatureDescription};
use candle_coreml::{CoreMLModel, LoadOptions};

/// Predictions that warm up.
const WARM_UP: usize = 20;

fn zeros(feature: &FeatureDescription) -> Result<(String, Tensor), Box<dyn std::error::Error>> {
    let array = feature.ty.as_multi_array().ok_or("an input that is no multi-array")?;
    let dtype = match array.element {
        ArrayElementType::Int32 | ArrayElementType::Int8 => DType::I64,
        ArrayElementType::Float16 => DType::F16,
        _ => DType::F32,
    };
    Ok((feature.name.clone(), Tensor::zeros(array.shape.as_slice(), dtype, &Device::Cpu)?))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let Some(path) = arguments.first() else {
        println!("give a model: -- MODEL [FUNCTION] [PREDICTIONS]");
        return Ok(());
    };
    let mut options = LoadOptions::new();
    options.function = arguments.get(1).filter(|name| !name.is_empty()).cloned();
    let number: usize = arguments.get(2).map_or(Ok(300), |text| text.parse())?;
    let model = CoreMLModel::load(path, &options)?;
    let inputs: Vec<(String, Tensor)> =
        model.function_description().inputs.iter().map(zeros).collect::<Result<_, _>>()?;
    let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, x)| (name.as_str(), x)).collect();
    let mut state = model.make_state()?;
    let mut times = Vec::with_capacity(number);
    for _ in 0..WARM_UP + number {
        let start = Instant::now();
        model.predict_with_state(&inputs, &mut state)?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    let mut times = times.split_off(WARM_UP);
    times.sort_by(f64::total_cmp);
    let (Some(fastest), Some(slowest)) = (times.first(), times.last()) else { return Ok(()) };
    println!(
        "fastest {fastest:.1} µs, median {:.1} µs, slowest {slowest:.1} µs",
        times[number / 2]
    );
    Ok(())
}
