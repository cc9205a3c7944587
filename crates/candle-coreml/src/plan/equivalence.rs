//! Optimised plans against plans in which nothing is shared: the same results, bit for bit.

use std::path::{Path, PathBuf};

use coreml_format::Package;
use coreml_format::mil::{Function, ValueType, from_text};

use super::{Plan, PlanState, Weights, build};
use crate::exec::Session;
use crate::value::{Buffer, Shape, Storage};

/// Inputs of a few steps that differ, the same for both plans.
fn input(seed: usize, shape: &[usize], storage: Storage) -> Buffer {
    let count: usize = shape.iter().product();
    let value = |i: usize| ((i * 37 + seed * 11) % 101) as f32 / 50.0 - 1.0;
    let mut buffer = Buffer::zeroed(count * storage.size()).unwrap();
    match storage {
        Storage::F32 => {
            let floats: Vec<f32> = (0..count).map(value).collect();
            buffer.bytes_mut().copy_from_slice(bytemuck::cast_slice(&floats));
        }
        // Positions and token ids: small.
        Storage::I32 => {
            let ints: Vec<i32> = (0..count).map(|i| ((i + seed) % 8) as i32).collect();
            buffer.bytes_mut().copy_from_slice(bytemuck::cast_slice(&ints));
        }
        _ => {}
    }
    buffer
}

/// Bytes of the outputs and states of each step. `Err` when the inputs are none that the program
/// takes (a shape to reshape to, say).
fn run(
    plan: &Plan,
    shapes: &[(Shape, Storage)],
    states: &[PlanState],
) -> Result<Vec<Vec<u8>>, String> {
    let mut session = Session::new(plan).unwrap();
    let zeroed =
        |state: &PlanState| Buffer::zeroed(state.storage.byte_len(&state.shape).unwrap()).unwrap();
    let mut states: Vec<Buffer> = states.iter().map(zeroed).collect();
    let mut seen = Vec::new();
    for step in 0..3 {
        let inputs: Vec<Buffer> = shapes
            .iter()
            .enumerate()
            .map(|(i, (shape, storage))| input(step * 7 + i, shape, *storage))
            .collect();
        let inputs: Vec<&[u8]> = inputs.iter().map(Buffer::bytes).collect();
        session.run(plan, &inputs, &mut states).map_err(|error| format!("{error:?}"))?;
        for (_, operand) in &plan.outputs {
            let bytes = session.result(plan, &inputs, &mut states, *operand, |t| t.bytes.to_vec());
            seen.push(bytes.unwrap());
        }
        seen.extend(states.iter().map(|state| state.bytes().to_vec()));
    }
    Ok(seen)
}

/// The function's inputs with their default shapes, if it has some.
fn defaults(package: &Package, name: &str, function: &Function) -> Option<Vec<(Shape, Storage)>> {
    let description = package.description().function(name)?;
    let tensors = function.inputs.iter().filter(|input| !matches!(input.ty, ValueType::State(_)));
    tensors
        .map(|input| {
            let tensor = input.ty.as_tensor()?;
            let feature = description.inputs.iter().find(|feature| feature.name == input.name)?;
            let stated = feature.ty.as_multi_array()?.shape.clone();
            let shape = tensor.fixed_shape().unwrap_or(stated);
            Some((shape.into(), Storage::natural(tensor.element)?))
        })
        .collect()
}

/// Compares the two plans of each function of a package; gives how many ran.
fn check(package: Package) -> usize {
    let weights = Weights::new(package);
    let package = weights.package();
    let mut checked = 0;
    for (name, function) in &package.program().functions {
        let Some(inputs) = defaults(package, name, function) else { continue };
        let shapes: Vec<Shape> = inputs.iter().map(|(shape, _)| shape.clone()).collect();
        let [fast, slow] = [true, false]
            .map(|optimise| build(name, function, &shapes, &weights, optimise).unwrap());
        let place = format!("{}, function {name}", package.path().display());
        assert!(fast.buffers.len() <= slow.buffers.len(), "{place}");
        let (got, expected) =
            (run(&fast, &inputs, &fast.states), run(&slow, &inputs, &slow.states));
        assert!(got == expected, "{place}");
        checked += usize::from(got.is_ok());
    }
    checked
}

fn files(directory: &str, extension: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(directory);
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|end| end == extension)).collect()
}

#[test]
fn language_models_give_the_same_optimised_or_not() {
    let mut checked = 0;
    for directory in ["two-chunks-fp16", "window-1", "lut8-embeddings"] {
        for path in files(&format!("llm/{directory}"), "mlpackage") {
            checked += check(Package::open(path).unwrap());
        }
    }
    assert!(checked >= 12, "{checked} functions");
}

#[test]
fn stateful_and_looping_programs_give_the_same_optimised_or_not() {
    let mut checked = 0;
    let wanted = ["state", "while_loop", "cond_", "slice_update", "split", "tile", "reshape"];
    for path in files("ops", "mil") {
        let mut program = from_text(&std::fs::read_to_string(path).unwrap()).unwrap();
        program.functions.retain(|name, _| wanted.iter().any(|part| name.contains(part)));
        if !program.functions.is_empty() {
            checked += check(Package::from_program(program).unwrap());
        }
    }
    assert!(checked >= 30, "{checked} functions");
}
