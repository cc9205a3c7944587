//! Plans of the same function made in different ways: the same results, bit for bit. Nothing shared
//! against views, work in place and shared buffers; no rewrites against exact ones; fixed shapes
//! against shapes that are found at run time.

use std::sync::Arc;

use coreml_format::Package;
use coreml_format::mil::Function;
use coreml_kernels::{Context, Workers};
use half::f16;

use super::rewrite::Rewrites;
use super::{Options, Plan, Precision, build};
use crate::fixtures;
use crate::graph::StateType;
use crate::run::{self, Call, Workspace};
use crate::value::{Buffer, Shape, Storage};
use crate::weights::Weights;

/// Plans as the tests compare them.
pub(super) const PLAIN: Options = Options {
    share: false,
    rewrites: Rewrites::Off,
    precision: Precision::Single,
    folds_halves: true,
};
pub(super) const SHARED: Options = Options { share: true, ..PLAIN };
pub(super) const EXACT: Options = Options { rewrites: Rewrites::Exact, ..SHARED };

/// Inputs of a few steps that differ, the same for all plans.
pub(super) fn input(seed: usize, shape: &[usize], storage: Storage) -> Buffer {
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

/// What a plan gave: how it is held, its shape and its bytes.
pub(super) type Seen = (Storage, Shape, Vec<u8>);

/// The outputs and states of three steps. `Err` when the inputs are none that the program takes (a
/// shape to reshape to, say).
pub(super) fn run(
    plan: &Plan,
    context: &Context,
    inputs: &[(Shape, Storage)],
) -> Result<Vec<Seen>, String> {
    let step = |step: usize| {
        let of = |(i, (shape, storage)): (usize, &(Shape, Storage))| {
            (shape.clone(), input(step * 7 + i, shape, *storage))
        };
        (0, inputs.iter().enumerate().map(of).collect())
    };
    run_steps(std::slice::from_ref(plan), context, (0..3).map(step))
}

/// The outputs and states of steps, each with the number of its plan and its inputs.
pub(super) fn run_steps(
    plans: &[Plan],
    context: &Context,
    steps: impl Iterator<Item = (usize, Vec<(Shape, Buffer)>)>,
) -> Result<Vec<Seen>, String> {
    let limits = crate::Limits::new();
    let mut workspaces: Vec<Workspace> =
        plans.iter().map(|plan| Workspace::new(plan, &limits).unwrap()).collect();
    let mut states = zeroed_states(&plans[0]);
    let mut all = Vec::new();
    for (number, inputs) in steps {
        let plan = &plans[number];
        let (shapes, inputs): (Vec<Shape>, Vec<Buffer>) = inputs.into_iter().unzip();
        let inputs: Vec<&[u8]> = inputs.iter().map(Buffer::bytes).collect();
        let (states, workspace) = (&mut states[..], &mut workspaces[number]);
        let (inputs, shapes, started) = (&inputs[..], &shapes[..], std::time::Instant::now());
        let (cancel, wide) = (None, false);
        let mut call = Call { inputs, shapes, states, workspace, limits, started, cancel, wide };
        run::run(plan, context, std::slice::from_mut(&mut call), None)
            .map_err(|error| format!("{error:?}"))?;
        all.extend(seen(plan, context, &mut call));
    }
    Ok(all)
}

/// The outputs and states of one step of some calls with inputs and states of their own, which run together.
fn run_together(
    plan: &Plan,
    context: &Context,
    inputs: &[(Shape, Storage)],
    seeds: &[usize],
) -> Result<Vec<Vec<Seen>>, String> {
    let limits = crate::Limits::new();
    let shapes: Vec<Shape> = inputs.iter().map(|(shape, _)| shape.clone()).collect();
    let of_seed = |seed: &usize| -> Vec<Buffer> {
        let of =
            |(i, (shape, storage)): (usize, &(Shape, Storage))| input(seed + i, shape, *storage);
        inputs.iter().enumerate().map(of).collect()
    };
    let given: Vec<Vec<Buffer>> = seeds.iter().map(of_seed).collect();
    let given: Vec<Vec<&[u8]>> =
        given.iter().map(|inputs| inputs.iter().map(Buffer::bytes).collect()).collect();
    let mut kept: Vec<(Vec<Buffer>, Workspace)> = seeds
        .iter()
        .map(|_| (zeroed_states(plan), Workspace::new(plan, &limits).unwrap()))
        .collect();
    let (started, cancel, wide) = (std::time::Instant::now(), None, false);
    let mut calls: Vec<Call> = given
        .iter()
        .zip(&mut kept)
        .map(|(inputs, (states, workspace))| {
            let shapes = &shapes[..];
            Call { inputs, shapes, states, workspace, limits, started, cancel, wide }
        })
        .collect();
    run::run(plan, context, &mut calls, None).map_err(|error| format!("{error:?}"))?;
    Ok(calls.iter_mut().map(|call| seen(plan, context, call)).collect())
}

/// The outputs and states of a call that was run.
fn seen(plan: &Plan, context: &Context, call: &mut Call) -> Vec<Seen> {
    let mut all = Vec::new();
    for (name, operand) in &plan.outputs {
        let output = run::result(plan, context, call, *operand, |tensor| {
            (tensor.storage, tensor.shape.into(), tensor.dense_bytes().unwrap().to_vec())
        });
        all.push(output.unwrap_or_else(|| panic!("no `{name}`")));
    }
    let states = plan.states.iter().zip(call.states.iter());
    all.extend(states.map(|(ty, state)| (ty.storage, ty.shape.clone(), state.bytes().to_vec())));
    all
}

fn zeroed_states(plan: &Plan) -> Vec<Buffer> {
    let zeroed =
        |state: &StateType| Buffer::zeroed(state.storage.byte_len(&state.shape).unwrap()).unwrap();
    plan.states.iter().map(zeroed).collect()
}

/// Whether floats differ by no more than other orders of summing up make them; everything else is the
/// same.
pub(super) fn is_close(got: &[Seen], expected: &[Seen]) -> bool {
    let floats = |(storage, _, bytes): &Seen| match storage {
        Storage::F32 => bytemuck::pod_collect_to_vec::<u8, f32>(bytes),
        _ => bytemuck::pod_collect_to_vec::<u8, f16>(bytes).iter().map(|x| x.to_f32()).collect(),
    };
    let near = |(a, b): (&f32, &f32)| {
        a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= 2e-3 * (1.0 + b.abs())
    };
    got.len() == expected.len()
        && got.iter().zip(expected).all(|(got, expected)| match expected.0 {
            Storage::F32 | Storage::F16 => {
                let same_shape = got.1 == expected.1;
                let (got, expected) = (floats(got), floats(expected));
                same_shape && got.iter().zip(&expected).all(near)
            }
            _ => got == expected,
        })
}

/// Compares the plans of a function; gives whether it ran.
fn check(name: &str, function: &Function, weights: &Arc<Weights>, context: &Context) -> bool {
    let Some(inputs) = fixtures::defaults(weights.package(), name, function) else { return false };
    let fixed: Vec<Option<Shape>> = inputs.iter().map(|(shape, _)| Some(shape.clone())).collect();
    let free = vec![None; inputs.len()];
    let plan = |shapes: &[Option<Shape>], options| {
        build(name, function, shapes, weights, context, options)
            .unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    let plain = plan(&fixed, PLAIN);
    let expected = run(&plain, context, &inputs);
    for (which, shapes, options) in [
        ("shared memory", &fixed, SHARED),
        ("exact rewrites", &fixed, EXACT),
        ("shapes found at run time", &free, PLAIN),
        ("shapes found at run time, shared memory", &free, SHARED),
        ("shapes found at run time, exact rewrites", &free, EXACT),
    ] {
        let plan = plan(shapes, options);
        let more = plan.buffers.len() > plain.buffers.len();
        assert!(shapes == &free || !more, "{name}, {which}: more buffers");
        let got = run(&plan, context, &inputs);
        match (&got, &expected) {
            (Ok(got), Ok(expected)) => assert!(got == expected, "{name}, {which}: other results"),
            (Err(_), Err(_)) => {}
            _ => panic!("{name}, {which}: {:?}, plain: {:?}", got.err(), expected.as_ref().err()),
        }
    }
    for shapes in [&fixed, &free] {
        if let (Ok(got), Ok(expected)) =
            (run(&plan(shapes, Options::default()), context, &inputs), &expected)
        {
            assert!(is_close(&got, expected), "{name}, all rewrites: other results");
        }
    }
    for shapes in [&fixed, &free] {
        let plan = plan(shapes, SHARED);
        let (seeds, together) =
            ([3, 10, 17, 24], |seeds: &[usize]| run_together(&plan, context, &inputs, seeds));
        // Calls of which one fails are made again one by one.
        let Ok(got) = together(&seeds) else { continue };
        for (got, seed) in got.iter().zip(seeds) {
            let alone = together(&[seed]).unwrap().remove(0);
            assert!(is_close(got, &alone), "{name}, together with others: other results");
        }
    }
    for shapes in [&fixed, &free] {
        let as_declared = |options| {
            let options = Options { precision: Precision::AsDeclared, ..options };
            run(&plan(shapes, options), context, &inputs).ok()
        };
        let (plain, exact) = (as_declared(PLAIN), as_declared(EXACT));
        assert!(plain == exact, "{name}, as declared: other results");
        assert!(plain.is_some() == expected.is_ok(), "{name}, as declared: runs or does not");
    }
    expected.is_ok()
}

fn check_package(package: Package) -> usize {
    let context = Context::new(Workers::shared());
    let weights = Weights::new(package, crate::Limits::new()).unwrap();
    let functions = &weights.program().functions;
    functions.iter().filter(|(name, function)| check(name, function, &weights, &context)).count()
}

#[test]
fn language_models_give_the_same_however_they_are_planned() {
    let mut checked = 0;
    for name in ["two-chunks-fp16", "window-1", "lut8-embeddings", "apple-llama", "gemma3"] {
        checked += fixtures::language_model(name).into_iter().map(check_package).sum::<usize>();
    }
    assert!(checked >= 15, "{checked} functions");
}

#[test]
fn operations_give_the_same_however_they_are_planned() {
    let mut checked = 0;
    for program in fixtures::operations() {
        checked += check_package(Package::from_program(program).unwrap());
    }
    assert!(checked >= 700, "{checked} functions");
}
