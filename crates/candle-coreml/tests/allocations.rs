//! A decoding step takes no memory for its operations: what a prediction allocates is for the
//! conversion of inputs and outputs.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use candle_core::{DType, Device, Tensor};
use candle_coreml::{CoreMLModel, CoreMLState, LoadOptions};

/// Allocations of a prediction: about eight for each input and output.
const MOST: usize = 40;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, which counts what a thread asks for.
struct Counting;

fn count() {
    // A thread that is about to end has no counter any more.
    let _ = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1));
}

// SAFETY: every call is handed on as it is to the system's allocator, which keeps the contract.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above; the pointer came from this allocator, which is the system's.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above; the pointer came from this allocator, which is the system's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Inputs of a chunk's `infer` at a position: half-precision floats and `int32`, as declared.
fn inputs(model: &CoreMLModel, position: i32) -> Vec<(String, Tensor)> {
    let description = model.function_description();
    let input = |feature: &candle_coreml::description::FeatureDescription| {
        let candle_coreml::description::FeatureType::MultiArray(array) = &feature.ty else {
            panic!("`{}` is no array", feature.name);
        };
        let shape = array.shape.as_slice();
        let tensor = match feature.name.as_str() {
            "position_ids" | "current_pos" => Tensor::full(position, shape, &Device::Cpu),
            _ => Tensor::zeros(shape, DType::F16, &Device::Cpu),
        };
        (feature.name.clone(), tensor.expect("an input"))
    };
    description.inputs.iter().map(input).collect()
}

/// Allocations of one prediction.
fn allocations(model: &CoreMLModel, state: &mut CoreMLState, position: i32) -> usize {
    let inputs = inputs(model, position);
    let inputs: Vec<(&str, &Tensor)> =
        inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let before = ALLOCATIONS.with(Cell::get);
    model.predict_with_state(&inputs, state).expect("a prediction");
    ALLOCATIONS.with(Cell::get) - before
}

#[test]
fn decoding_allocates_for_inputs_and_outputs_only() {
    let path = common::fixtures().join("llm/two-chunks-fp16");
    let path = path.join("qwen_FFN_PF_chunk_01of02.mlpackage");
    let options = LoadOptions::new().function("infer");
    let model = CoreMLModel::load(path, &options).expect("a chunk of the model");
    let mut state = model.make_state().expect("its state");
    // The first prediction makes the session, and its buffers grow.
    allocations(&model, &mut state, 0);
    let counts: Vec<usize> =
        (1..9).map(|position| allocations(&model, &mut state, position)).collect();
    assert!(counts.iter().all(|count| *count == counts[0]), "{counts:?}");
    // Four inputs, two of them converted, and one output; the function has over 80 operations.
    assert!(counts[0] <= MOST, "{counts:?}");
}
