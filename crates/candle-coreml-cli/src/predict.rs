//! `predict`: runs a model once.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use candle_coreml::description::{FeatureDescription, FeatureType, FunctionDescription};
use candle_coreml::{CoreMLModel, CoreMLState, Features, LoadOptions};
use coreml_format::{printable_message, printable_name};
use serde::Serialize;

use crate::args::PredictArgs;
use crate::inputs::{self, Input};
use crate::inspect::feature_row;
use crate::outputs::Output;
use crate::table::Table;
use crate::term;
/// All of a call, as JSON.
#[derive(Serialize)]
struct Report<'a> {
    model: String,
    function: &'a str,
    inputs: &'a [Input],
    outputs: &'a [Output],
    timings: Timings,
}

#[derive(Serialize)]
struct Timings {
    load_seconds: f64,
    /// Of the first run.
    predict_seconds: f64,
    /// Of the fastest prediction: with inputs that are given anew, and outputs that are copied.
    fastest_seconds: f64,
}

/// Runs the function, with zeroed states if it has some.
pub fn run(args: &PredictArgs) -> Result<()> {
    let mut options = LoadOptions::new();
    options.function.clone_from(&args.function);
    if let Some(threads) = args.compute.threads.threads {
        options = options.threads(threads)?;
    }
    options = options
        .limits(args.limits.limits())
        .precision(args.compute.precision())
        .numerics(args.compute.numerics());
    let start = Instant::now();
    let model = CoreMLModel::load(&args.model, &options)?;
    let load_time = start.elapsed();
    let function = model.function_description();
    let inputs = read_inputs(args, function)?;
    let Predicted { mut outputs, first, fastest } = predict(&model, &inputs, args.repeat)?;
    if let Some(directory) = &args.output_dir {
        write_outputs(directory, &mut outputs)?;
    }
    let mut stdout = term::out();
    if args.json {
        let report = Report {
            model: args.model.display().to_string(),
            function: &function.name,
            inputs: &inputs,
            outputs: &outputs,
            timings: Timings {
                load_seconds: load_time.as_secs_f64(),
                predict_seconds: first.as_secs_f64(),
                fastest_seconds: fastest.as_secs_f64(),
            },
        };
        writeln!(stdout, "{}", serde_json::to_string(&report)?)?;
    } else {
        outputs.iter().try_for_each(|output| output.print(args.top, &mut stdout))?;
    }
    Ok(())
}

/// The values given, in the order of the command line; fails if one that is needed is not.
fn read_inputs(args: &PredictArgs, function: &FunctionDescription) -> Result<Vec<Input>> {
    let resizing = args.resizing.resizing();
    let inputs = inputs::read_all(&args.inputs, function, resizing, &|| takes(args, function))?;
    let is_missing = |feature: &&FeatureDescription| {
        !feature.optional && !inputs.iter().any(|input| input.name == feature.name)
    };
    if let Some(missing) = function.inputs.iter().find(is_missing) {
        bail!("input `{}` is not given; {}", printable_name(&missing.name), takes(args, function));
    }
    Ok(inputs)
}

/// What a function takes, and what to type.
fn takes(args: &PredictArgs, function: &FunctionDescription) -> String {
    let name = printable_name(&function.name);
    if function.inputs.is_empty() {
        return format!("function `{name}` takes none");
    }
    let mut table = Table::new(&[]);
    let mut command = format!("candle-coreml predict {}", shell(&args.model.display().to_string()));
    if let Some(function) = &args.function {
        command.push_str(&format!(" --function {}", shell(function)));
    }
    for input in &function.inputs {
        table.row(feature_row(input));
        if !input.optional {
            command.push_str(&format!(" --input {}", shell(&example(input))));
        }
    }
    format!(
        "function `{name}` takes\n{}for example, with zeros (or values, or files: .npy, .npz, JSON, images):\n  {}",
        table.text(term::width()),
        printable_message(&command)
    )
}

/// A value that an input surely takes.
fn example(input: &FeatureDescription) -> String {
    let value = match &input.ty {
        FeatureType::MultiArray(array) if array.shape.is_empty() => "FILE.npy",
        FeatureType::MultiArray(_) | FeatureType::Int64 | FeatureType::Double => "0",
        FeatureType::Image(_) => "FILE.jpg",
        _ => "FILE.npy",
    };
    format!("{}={value}", input.name)
}

/// A word as a shell takes it.
fn shell(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_-./=+:,@%".contains(c);
    match word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// Results of one or more equal calls.
struct Predicted {
    /// Of the first call, in the function's order.
    outputs: Vec<Output>,
    /// How long that call took.
    first: Duration,
    fastest: Duration,
}

/// Calls the function `repeat` times, each time with zeroed states.
fn predict(model: &CoreMLModel, inputs: &[Input], repeat: u32) -> Result<Predicted> {
    let function = model.function_description();
    let mut call = model.bind()?;
    for input in inputs {
        let index = call.input(&input.name)?;
        call.set(index, input.value.clone())?;
    }
    let names = call.outputs().to_vec();
    let mut outputs = Vec::with_capacity(names.len());
    let mut state = zeroed(model)?;
    let start = Instant::now();
    call.run(state.as_mut(), |index, value| {
        let name = &names[index];
        let described = function.outputs.iter().find(|output| output.name == *name);
        outputs.push(Output::new(name, value, described.map(|output| &output.ty))?);
        Ok(())
    })?;
    let first = start.elapsed();
    let place = |output: &Output| function.outputs.iter().position(|o| o.name == output.name());
    outputs.sort_by_key(|output| place(output).unwrap_or(usize::MAX));
    drop(call);
    let fastest = fastest_of(model, inputs, repeat.saturating_sub(1))?.unwrap_or(first);
    Ok(Predicted { outputs, first, fastest })
}

/// How long the fastest of some predictions takes as a program makes them: inputs are given by name, and
/// outputs are copied.
fn fastest_of(model: &CoreMLModel, inputs: &[Input], count: u32) -> Result<Option<Duration>> {
    let inputs: Features =
        inputs.iter().map(|input| (input.name.as_str(), input.value.clone())).collect();
    let mut fastest = None;
    for _ in 0..count {
        let mut state = zeroed(model)?;
        let start = Instant::now();
        model.predict_features(&inputs, state.as_mut())?;
        let elapsed = start.elapsed();
        fastest = Some(fastest.map_or(elapsed, |fastest: Duration| fastest.min(elapsed)));
    }
    Ok(fastest)
}

/// Zeroed states, if the function has some.
fn zeroed(model: &CoreMLModel) -> candle_coreml::Result<Option<CoreMLState>> {
    let stateful = !model.function_description().states.is_empty();
    stateful.then(|| model.make_state()).transpose()
}

fn write_outputs(directory: &Path, outputs: &mut [Output]) -> Result<()> {
    fs::create_dir_all(directory)
        .with_context(|| format!("can't make the directory {}", directory.display()))?;
    outputs.iter_mut().try_for_each(|output| output.write(directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell_where_they_have_to_be() {
        assert_eq!(shell("dir/model.mlpackage"), "dir/model.mlpackage");
        assert_eq!(shell("my model's"), r"'my model'\''s'");
        assert_eq!(shell("x=$(id)"), "'x=$(id)'");
    }
}
