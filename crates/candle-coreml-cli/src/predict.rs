//! `predict`: runs a model once.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Tensor};
use candle_coreml::description::FunctionDescription;
use candle_coreml::{CoreMLModel, Limits, LoadOptions};

use crate::args::PredictArgs;
use crate::inputs;

/// How many values of an output the summary shows.
const SHOWN: usize = 8;

/// Runs the function, with zeroed states if it has some.
pub fn run(args: &PredictArgs) -> Result<()> {
    let mut options = LoadOptions::new();
    options.function.clone_from(&args.function);
    if let Some(threads) = args.threads.threads {
        options = options.threads(threads)?;
    }
    options = options.limits(limits(args));
    let model = CoreMLModel::load(&args.model, &options)?;
    let function = model.function_description();
    let inputs = args
        .inputs
        .iter()
        .map(|(name, value)| Ok((name.as_str(), read_input(function, name, value)?)))
        .collect::<Result<Vec<_>>>()?;
    let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, x)| (*name, x)).collect();
    let outputs = if function.states.is_empty() {
        model.predict(&inputs)?
    } else {
        model.predict_with_state(&inputs, &mut model.make_state()?)?
    };
    let outputs = in_order(function, outputs);
    match &args.output_dir {
        Some(directory) => write_outputs(directory, &outputs),
        None => print_summary(&outputs),
    }
}

/// What the prediction may take.
fn limits(args: &PredictArgs) -> Limits {
    let mut limits = Limits::new();
    if args.max_memory > 0 {
        limits = limits.memory(args.max_memory);
    }
    if args.max_time > 0 {
        limits = limits.time(Duration::from_secs(args.max_time));
    }
    limits
}

fn read_input(function: &FunctionDescription, name: &str, value: &str) -> Result<Tensor> {
    let feature = function.inputs.iter().find(|input| input.name == name).with_context(|| {
        let names: Vec<&str> = function.inputs.iter().map(|input| input.name.as_str()).collect();
        format!(
            "function `{}` has no input `{name}`; its inputs are: {}",
            function.name,
            names.join(", ")
        )
    })?;
    inputs::read(feature, value).with_context(|| format!("input `{name}`"))
}

/// The outputs as the function lists them.
fn in_order(
    function: &FunctionDescription,
    mut outputs: HashMap<String, Tensor>,
) -> Vec<(String, Tensor)> {
    function.outputs.iter().filter_map(|output| outputs.remove_entry(&output.name)).collect()
}

fn write_outputs(directory: &Path, outputs: &[(String, Tensor)]) -> Result<()> {
    fs::create_dir_all(directory)
        .with_context(|| format!("can't make the directory {}", directory.display()))?;
    for (name, tensor) in outputs {
        ensure!(
            !name.contains(['/', '\\']),
            "output `{name}` can't be a file's name; leave --output-dir out to see it"
        );
        let path = directory.join(format!("{name}.npy"));
        write_npy(tensor, &path).with_context(|| format!("can't write {}", path.display()))?;
    }
    Ok(())
}

/// Writes beside the file and renames, so that a full disk spoils nothing that was there.
fn write_npy(tensor: &Tensor, path: &Path) -> Result<()> {
    let unfinished = path.with_extension("npy.part");
    let written = tensor
        .write_npy(&unfinished)
        .map_err(anyhow::Error::from)
        .and_then(|()| Ok(fs::rename(&unfinished, path)?));
    if written.is_err() {
        // Nothing more can be done about it if this fails as well.
        let _ = fs::remove_file(&unfinished);
    }
    written
}

fn print_summary(outputs: &[(String, Tensor)]) -> Result<()> {
    let mut stdout = io::stdout().lock();
    for (name, tensor) in outputs {
        writeln!(stdout, "{name}: {}", summary(tensor)?)?;
    }
    Ok(())
}

/// Type, shape, range and first values.
fn summary(tensor: &Tensor) -> Result<String> {
    let kind = format!("{} {:?}", tensor.dtype().as_str(), tensor.dims());
    let values = tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
    if values.is_empty() {
        return Ok(format!("{kind}, empty"));
    }
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let shown: Vec<String> = values.iter().take(SHOWN).map(|&value| number(value)).collect();
    let more = if values.len() > SHOWN { ", …" } else { "" };
    Ok(format!(
        "{kind}, least {}, greatest {}, mean {}\n  [{}{more}]",
        number(least),
        number(greatest),
        number(mean),
        shown.join(", ")
    ))
}

/// Six significant digits do for fp16 and mostly for fp32.
fn number(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        return value.to_string();
    }
    let digits = format!("{value:.5e}");
    digits.parse::<f64>().map_or(digits, |rounded| rounded.to_string())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn the_summary_shows_range_and_first_values() {
        let tensor = Tensor::new(&[[1.5f32, -2.0, 0.12345678]], &Device::Cpu).unwrap();
        let text = summary(&tensor).unwrap();
        assert!(text.starts_with("f32 [1, 3], least -2, greatest 1.5, mean"), "{text}");
        assert!(text.ends_with("[1.5, -2, 0.123457]"), "{text}");
        let long = Tensor::zeros(20, DType::I32, &Device::Cpu).unwrap();
        assert!(summary(&long).unwrap().ends_with("[0, 0, 0, 0, 0, 0, 0, 0, …]"));
        let empty = Tensor::zeros((0, 2), DType::F32, &Device::Cpu).unwrap();
        assert_eq!(summary(&empty).unwrap(), "f32 [0, 2], empty");
    }
}
