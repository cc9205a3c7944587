//! Loads and runs a program that may be anything.

use std::ops::ControlFlow;
use std::time::Duration;

use coreml_engine::{
    Buffer, CallOptions, EngineError, Function, Limits, Model, Options, Shape, Workers,
};
use coreml_format::Package;
use coreml_format::mil::{Dimension, Program};

/// What a prediction may take.
const MEMORY: usize = 16 << 20;
const TIME: Duration = Duration::from_millis(200);

/// The size of an axis that a program leaves open.
const OPEN: usize = 3;

/// Loads the program; runs its functions on inputs of the shapes that they ask for, if these are small.
pub fn attempt(program: Program) -> Result<(), EngineError> {
    let limits = Limits::new().memory(MEMORY).time(TIME);
    let options = Options::new(Workers::serial()).limits(limits);
    let names: Vec<String> = program.functions.keys().cloned().collect();
    let model = Model::load(Package::from_program(program)?, &options)?;
    for name in names {
        // Once more: what an earlier run left is used again.
        for _ in 0..2 {
            run(&model, model.function(&name)?)?;
        }
    }
    Ok(())
}

fn run(model: &Model, function: &Function) -> Result<(), EngineError> {
    let shapes: Vec<Shape> = function.inputs().iter().map(shape).collect();
    let mut inputs = Vec::new();
    for (input, shape) in function.inputs().iter().zip(&shapes) {
        let Some(mut bytes) = zeroed(input.storage.byte_len(shape)) else { return Ok(()) };
        // Small numbers of whatever type.
        let size = input.storage.size();
        bytes
            .bytes_mut()
            .iter_mut()
            .step_by(size)
            .zip([0, 1, 2].iter().cycle())
            .for_each(|(byte, number)| *byte = *number);
        inputs.push(bytes);
    }
    let states = function.states().iter().map(|state| zeroed(state.storage.byte_len(&state.shape)));
    let Some(mut states) = states.collect::<Option<Vec<Buffer>>>() else { return Ok(()) };
    let inputs: Vec<&[u8]> = inputs.iter().map(Buffer::bytes).collect();
    function.predict(
        model.context(),
        &shapes,
        &inputs,
        &mut states,
        CallOptions::default(),
        |_, _| ControlFlow::Continue(()),
    )
}

fn zeroed(len: Option<usize>) -> Option<Buffer> {
    Buffer::zeroed(len.filter(|&len| len <= MEMORY)?).ok()
}

/// The shape that the program states, with a size for what it leaves open.
fn shape(input: &coreml_engine::FunctionInput) -> Shape {
    let size = |dimension: &Dimension| match dimension {
        Dimension::Fixed(size) => *size,
        _ => OPEN,
    };
    input.ty.shape.iter().map(size).collect()
}
