//! A step of decoding takes no memory for its operations, whatever its weights are compressed with
//! and on however many threads: the engine asks for none, and what a prediction asks for is for the
//! conversion of its inputs and outputs.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::{DType, Device, Tensor};
use candle_coreml::description::{ArrayElementType, FeatureType};
use candle_coreml::{CoreMLModel, LoadOptions};
use common::cases::{self, Case};
use coreml_engine::{
    Buffer, CallOptions, Context, Function, Model, Options, Shape, Storage, Workers,
};
use coreml_format::Package;
use coreml_format::mil::Block;

/// The system's allocator, which counts how often any thread asks it for memory.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

/// Allocations of at least [`LARGE`] bytes.
static LARGE_ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static LARGE: AtomicUsize = AtomicUsize::new(usize::MAX);

// SAFETY: every call is handed on as it is to the system's allocator, which keeps the contract. What
// is not here goes through `alloc` by default and is thus counted, too.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        if layout.size() >= LARGE.load(Ordering::Relaxed) {
            LARGE_ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above; the pointer came from this allocator, which is the system's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Calls before counting, and calls that are counted.
const CALLS: usize = 40;

/// What all counted calls together may ask for on several threads: they may meet in a kernel for the
/// first time only now. (One block a call would show as [`CALLS`].)
const NOW_AND_THEN: usize = 12;

/// How often calls are counted until threads have met.
const TRIES: usize = 4;

/// What a prediction may ask for: for itself, for each input (a converted copy) and for each output
/// (a name, elements, and what a tensor of Candle's consists of).
const FOR_A_CALL: usize = 6;
const FOR_AN_INPUT: usize = 1;
const FOR_AN_OUTPUT: usize = 7;

/// Products of many columns are those of the `gemm-f32` crate, which takes two blocks of memory for each;
/// an operation over batches or heads is several products.
const FOR_A_PRODUCT: usize = 2;

/// The most products that an operation of a window of tokens is, and one of the operations' cases.
const PRODUCTS_OF_A_WINDOW: usize = 2;
const PRODUCTS_OF_A_CASE: usize = 10;

/// Kernels that a step makes anew in Apple's layout, for shapes that grow with each token: those of
/// two layers' attention and of the mask's shape.
const FOR_GROWN_SHAPES: usize = 12;

/// Fails if calls ask for more than `most` each, beyond what threads do now and then. `call` is told
/// its number, from 0 to twice [`CALLS`].
fn check(place: &str, threads: usize, most: usize, call: impl FnMut(usize)) {
    let too_many = too_many(place, threads, most, call);
    assert!(too_many.is_none(), "{too_many:?}");
}

/// What calls ask for, if it is more than [`check`] allows.
fn too_many(
    place: &str,
    threads: usize,
    most: usize,
    mut call: impl FnMut(usize),
) -> Option<String> {
    let now_and_then = if threads == 1 { 0 } else { NOW_AND_THEN };
    let most = most * CALLS + now_and_then;
    let mut count = || {
        (0..CALLS).for_each(&mut call);
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        (CALLS..2 * CALLS).for_each(&mut call);
        ALLOCATIONS.load(Ordering::Relaxed) - before
    };
    let mut counts = Vec::new();
    while counts.last().is_none_or(|&last| last > most) {
        if counts.len() == TRIES {
            let counts = format!("{counts:?} in {CALLS} calls, at most {most} expected");
            return Some(format!("{place}, {threads} threads: {counts}"));
        }
        counts.push(count());
    }
    None
}

/// All models of the fixtures with fixed shapes.
fn models() -> Vec<PathBuf> {
    let directories = std::fs::read_dir(common::fixtures().join("llm")).expect("fixtures");
    let mut directories: Vec<PathBuf> =
        directories.map(|entry| entry.expect("an entry").path()).collect();
    directories.push(common::fixtures().join("packages"));
    let models = directories.iter().flat_map(|directory| {
        let entries = std::fs::read_dir(directory).expect("a directory");
        entries.map(|entry| entry.expect("an entry").path())
    });
    let ends = ["mlmodel", "mlmodelc", "mlpackage"].map(std::ffi::OsStr::new);
    let is_model = |path: &PathBuf| path.extension().is_some_and(|end| ends.contains(&end));
    let grows = |path: &PathBuf| path.to_string_lossy().contains("apple-");
    models.filter(|path| is_model(path) && !grows(path)).collect()
}

fn load(path: &Path, threads: usize) -> Model {
    let package = Package::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    load_package(package, threads).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn load_package(package: Package, threads: usize) -> coreml_engine::Result<Model> {
    Model::load(package, &Options::new(Workers::new(threads).expect("threads")))
}

/// A function with what to call it with.
struct Ready<'a> {
    context: &'a Context,
    function: &'a Function,
    shapes: Vec<Shape>,
    inputs: Vec<Buffer>,
}

impl<'a> Ready<'a> {
    /// Zeros of these shapes.
    fn zeros(model: &'a Model, function: &'a Function, shapes: Vec<Shape>) -> Self {
        let inputs = function.inputs().iter().zip(&shapes);
        let inputs = inputs.map(|(input, shape)| zeros(input.storage, shape)).collect();
        Ready { context: model.context(), function, shapes, inputs }
    }

    fn bytes(&self) -> Vec<&[u8]> {
        self.inputs.iter().map(Buffer::bytes).collect()
    }

    fn call(&self, bytes: &[&[u8]], states: &mut [Buffer]) {
        let read = |_: usize, _: &coreml_engine::TensorRef| ControlFlow::Continue(());
        let result = self.function.predict(
            self.context,
            &self.shapes,
            bytes,
            states,
            CallOptions::default(),
            read,
        );
        result.unwrap_or_else(|error| panic!("{}: {error}", self.function.name()));
    }

    /// Fails if calls ask for more than `most`.
    fn check(&self, place: &str, threads: usize, most: usize) {
        let too_many = self.too_many(place, threads, most);
        assert!(too_many.is_none(), "{too_many:?}");
    }

    /// What calls ask for, if it is more than `most`.
    fn too_many(&self, place: &str, threads: usize, most: usize) -> Option<String> {
        let (bytes, mut states) = (self.bytes(), zeroed_states(self.function));
        too_many(place, threads, most, |_| self.call(&bytes, &mut states))
    }
}

fn zeroed_states(function: &Function) -> Vec<Buffer> {
    function.states().iter().map(|state| zeros(state.storage, &state.shape)).collect()
}

fn zeros(storage: Storage, shape: &[usize]) -> Buffer {
    Buffer::zeroed(storage.byte_len(shape).expect("a size")).expect("memory")
}

/// Operators that are products, or consist of some.
const MULTIPLY: [&str; 10] = [
    "conv",
    "conv_quantized",
    "conv_transpose",
    "einsum",
    "gru",
    "linear",
    "lstm",
    "matmul",
    "rnn",
    "scaled_dot_product_attention",
];

/// Operations that multiply matrices, nested ones too.
fn products(block: &Block) -> usize {
    let own = |operator: &str| usize::from(MULTIPLY.contains(&operator));
    let operations = block.operations.iter();
    operations.map(|o| own(&o.operator) + o.blocks.iter().map(products).sum::<usize>()).sum()
}

/// Whether a function of the fixtures computes with many columns at once.
fn has_many_columns(path: &Path, function: &str) -> bool {
    let path = path.to_string_lossy();
    path.contains("prefill_") || function.contains("prefill") || path.contains("packages/conv_")
}

/// The engine, on every function of the fixtures.
fn functions(threads: usize) {
    let mut decoders = 0;
    for path in models() {
        let model = load(&path, threads);
        for function in model.functions() {
            let many = has_many_columns(&path, function.name());
            let block = &model.program().functions[function.name()].block;
            let products = if many { PRODUCTS_OF_A_WINDOW * products(block) } else { 0 };
            let shapes = function.default_shapes().expect("shapes");
            let place = format!("{}, {}", path.display(), function.name());
            Ready::zeros(&model, function, shapes).check(&place, threads, FOR_A_PRODUCT * products);
            decoders += usize::from(!many);
        }
    }
    assert!(decoders > 100, "only {decoders} functions that decode");
}

/// A weight file of one blob after the other, laid out after the format's description in coremltools
/// (`MILBlob/Blob/StorageFormat.hpp`).
struct Blobs(Vec<u8>);

impl Blobs {
    /// Adds bytes of no meaning; gives them as MIL text. `code` is the element's in `BlobDataType`.
    fn add(&mut self, element: &str, code: u32, bits: usize, shape: &[usize]) -> String {
        let record = self.0.len();
        let size = shape.iter().product::<usize>() * bits / 8;
        self.0.extend([0xDEAD_BEEFu32, code].map(u32::to_le_bytes).as_flattened());
        self.0.extend(
            [size, record + 64, 0].map(|field| (field as u64).to_le_bytes()).as_flattened(),
        );
        self.0.resize(record + 64, 0);
        self.0.extend((0..size).map(|i| (i * 31 % 61) as u8));
        self.0.resize(self.0.len().next_multiple_of(64), 0);
        format!(
            "tensor<{element}, {shape:?}>(BLOBFILE(path = string(\"@model_path/weight.bin\"), \
             offset = uint64({record})))"
        )
    }

    fn table(&mut self, element: &str, code: u32, bits: usize) -> String {
        let indices = self.add(element, code, bits, &[SIZE, SIZE]);
        let lut = self.add("fp16", 1, 16, &[1, 1, 1 << bits, 1]);
        format!("constexpr_lut_to_dense(indices = {indices}, lut = {lut})")
    }

    fn blocks(&mut self, element: &str, code: u32, bits: usize, blocks: usize) -> String {
        let data = self.add(element, code, bits, &[SIZE, SIZE]);
        let scale = self.add("fp16", 1, 16, &[SIZE, blocks]);
        format!("constexpr_blockwise_shift_scale(data = {data}, scale = {scale})")
    }
}

/// Rows and columns of weights that are large enough for several threads.
const SIZE: usize = 1024;

/// The engine, on products with large weights of every kind.
fn large_weights(threads: usize) {
    let mut blobs = Blobs(vec![0; 64]);
    blobs.0[4] = 2; // the version
    let weights = [
        format!("const()[val = {}]", blobs.add("fp16", 1, 16, &[SIZE, SIZE])),
        blobs.table("uint4", 11, 4),
        blobs.table("uint6", 13, 6),
        blobs.table("uint8", 3, 8),
        blobs.blocks("int8", 4, 8, 1),
        blobs.blocks("int4", 8, 4, SIZE / 32),
    ];
    let functions = weights.iter().enumerate().map(|(number, weight)| {
        format!(
            "func f{number}<ios18>(tensor<fp16, [1, {SIZE}]> x) {{ \
             tensor<fp16, [{SIZE}, {SIZE}]> w = {weight}; \
             tensor<fp16, [1, {SIZE}]> y = linear(x = x, weight = w); }} -> (y);"
        )
    });
    let program = functions.collect::<String>();
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, bytes: &[u8]| std::fs::write(directory.path().join(name), bytes);
    write("weight.bin", &blobs.0).expect("a file");
    write("model.mil", format!("program(1.3) {{ {program} }}").as_bytes()).expect("a file");
    write("metadata.json", b"[{}]").expect("a file");
    let model = load(directory.path(), threads);
    assert_eq!(model.weight_forms_made(), 0);
    for function in model.functions() {
        let shapes = vec![Shape::from_slice(&[1, SIZE])];
        Ready::zeros(&model, function, shapes).check(function.name(), threads, 0);
    }
}

/// Elements of a case's tensor as the engine holds them.
fn held(tensor: &Tensor, storage: Storage) -> Buffer {
    let values = common::floats(tensor);
    let bytes: Vec<u8> = match storage {
        Storage::F32 => values.iter().flat_map(|&v| (v as f32).to_le_bytes()).collect(),
        Storage::I32 => values.iter().flat_map(|&v| (v as i32).to_le_bytes()).collect(),
        Storage::I16 | Storage::U16 => {
            values.iter().flat_map(|&v| (v as i64 as u16).to_le_bytes()).collect()
        }
        Storage::Bool | Storage::I8 | Storage::U8 => {
            values.iter().map(|&v| v as i64 as u8).collect()
        }
        other => panic!("no case has an input of {other:?}"),
    };
    Buffer::copy_of(&bytes).expect("memory")
}

/// Blocks of memory of operations that make their kernel in each run, as only that knows the widths or sizes
/// that it takes.
const FOR_KERNELS_OF_A_RUN: [(&str, usize); 3] =
    [("pad_dynamic", 1), ("one_hot_dynamic_size", 1), ("resize_dynamic", 3)];

/// The engine, on the cases of operations. Items of lists are blocks of memory of their own.
fn operations(threads: usize) {
    let has_lists = |case: &Case| case.name.contains("list");
    let mut problems = Vec::new();
    for case in cases::all().iter().filter(|case| !has_lists(case)) {
        let package = Package::from_program(case.program()).expect("a program");
        let model = load_package(package, threads).expect("a model");
        let function = model.functions().next().expect("a function");
        let (given, _) = &case.steps[0];
        let named = |name: &str| given.iter().find(|(given, _)| given == name);
        let tensor = |name: &str| &named(name).expect("an input").1;
        let inputs = function.inputs().iter();
        let inputs = inputs.map(|input| held(tensor(&input.name), input.storage)).collect();
        let shape = |name: &str| Shape::from_slice(tensor(name).dims());
        let shapes = function.inputs().iter().map(|input| shape(&input.name)).collect();
        let products = PRODUCTS_OF_A_CASE * products(&case.function.block);
        let made = FOR_KERNELS_OF_A_RUN.iter().find(|(name, _)| case.name.starts_with(name));
        let most = FOR_A_PRODUCT * products + made.map_or(0, |(_, blocks)| *blocks);
        let ready = Ready { context: model.context(), function, shapes, inputs };
        problems.extend(ready.too_many(&case.name, threads, most));
    }
    assert!(problems.is_empty(), "{problems:#?}");
}

/// The engine, on a mask that grows with each token.
fn growing_masks(threads: usize) {
    for name in ["apple-llama/llama.mlpackage", "apple-mistral/mistral.mlpackage"] {
        let model = load(&common::fixtures().join("llm").join(name), threads);
        let function = model.functions().next().expect("a function");
        let step = |length: usize| {
            let shapes = [vec![1, 1], vec![1, 1, 1, length]].map(Shape::from_vec);
            Ready::zeros(&model, function, shapes.to_vec())
        };
        // Two conversations; in the second the buffers have the sizes that they need.
        let steps: Vec<Ready> = (1..=CALLS).chain(1..=CALLS).map(step).collect();
        let bytes: Vec<Vec<&[u8]>> = steps.iter().map(Ready::bytes).collect();
        let mut states = zeroed_states(function);
        check(name, threads, FOR_GROWN_SHAPES, |number| {
            steps[number].call(&bytes[number], &mut states);
        });
    }
}

/// Zeros for a model's inputs, of the dtypes that it declares.
fn tensors(model: &CoreMLModel) -> Vec<(String, Tensor)> {
    let inputs = model.function_description().inputs.iter().map(|input| {
        let FeatureType::MultiArray(array) = &input.ty else { panic!("{}: no array", input.name) };
        let dtype = match array.element {
            ArrayElementType::Int32 => DType::I32,
            ArrayElementType::Float16 => DType::F16,
            _ => DType::F32,
        };
        let zeros = Tensor::zeros(array.shape.as_slice(), dtype, &Device::Cpu);
        (input.name.clone(), zeros.expect("zeros"))
    });
    inputs.collect()
}

fn function_names(model: &CoreMLModel) -> Vec<String> {
    let functions = &model.description().functions;
    match functions.is_empty() {
        true => vec![model.description().default_function.clone()],
        false => functions.iter().map(|function| function.name.clone()).collect(),
    }
}

/// The API, on every function that decodes.
fn predictions(threads: usize) {
    let options = LoadOptions::new().threads(threads).expect("threads");
    for path in models() {
        let model = CoreMLModel::load(&path, &options).expect("a model");
        let names = function_names(&model);
        for name in names.iter().filter(|name| !has_many_columns(&path, name)) {
            let model = model.function(name).expect("a function");
            let mut state = model.make_state().expect("a state");
            let inputs = tensors(&model);
            let inputs: Vec<(&str, &Tensor)> =
                inputs.iter().map(|(name, tensor)| (&**name, tensor)).collect();
            let outputs = model.function_description().outputs.len();
            let most = FOR_A_CALL + FOR_AN_INPUT * inputs.len() + FOR_AN_OUTPUT * outputs;
            check(&format!("{}, {name}", path.display()), threads, most, |_| {
                model.predict_with_state(&inputs, &mut state).expect("a prediction");
            });
        }
    }
}

/// Calls that are bound once, on every function that decodes: inputs are converted into memory that is
/// there, and outputs read from where they lie.
fn bound_calls(threads: usize) {
    let options = LoadOptions::new().threads(threads).expect("threads");
    for path in models() {
        let model = CoreMLModel::load(&path, &options).expect("a model");
        let names = function_names(&model);
        for name in names.iter().filter(|name| !has_many_columns(&path, name)) {
            let model = model.function(name).expect("a function");
            let inputs = tensors(&model);
            let (mut state, mut call) =
                (model.make_state().expect("a state"), model.bind().expect("a call"));
            let indices: Vec<usize> =
                inputs.iter().map(|(name, _)| call.input(name).expect("an input")).collect();
            let mut floats = vec![0.0; 1 << 16];
            check(&format!("{}, {name}, bound", path.display()), threads, 0, |_| {
                for (&index, (_, tensor)) in indices.iter().zip(&inputs) {
                    call.set(index, tensor).expect("an input");
                }
                call.run(Some(&mut state), |_, output| {
                    let array = output.array()?;
                    if array.element().is_float() {
                        array.read_floats(0..array.len(), &mut floats[..array.len()])?;
                    }
                    Ok(())
                })
                .expect("a prediction");
            });
        }
    }
}

/// A token's logits are copied once, from the engine's memory to where the sampler has them: of the
/// blocks of memory that a token takes, one alone is large enough for them, even as halves.
#[cfg(feature = "llm")]
fn logits() {
    use candle_coreml::{GenerationOptions, LanguageModel};

    let directory = common::fixtures().join("../crates/candle-coreml-cli/demo");
    let model = LanguageModel::load(directory).expect("a model");
    let size = model.vocabulary_size() * size_of::<half::f16>();
    let options = GenerationOptions::new().max_tokens(40).ignore_eos(true);
    let options = options.speculation(candle_coreml::Speculation::Off);
    let mut session = model.session();
    let mut stream = session.stream("Once upon a time", &options).expect("a prompt");
    (0..8).for_each(|_| drop(stream.next().expect("a token").expect("a token")));
    let mut grown = 0;
    for _ in 8..40 {
        LARGE.store(size, Ordering::Relaxed);
        let before = LARGE_ALLOCATIONS.load(Ordering::Relaxed);
        stream.next().expect("a token").expect("a token");
        let taken = LARGE_ALLOCATIONS.load(Ordering::Relaxed) - before;
        LARGE.store(usize::MAX, Ordering::Relaxed);
        assert!(taken >= 1, "the logits lie in a block of {size} bytes or more");
        grown += taken - 1;
    }
    // Attention's own memory grows with the position, in steps of an eighth of a power of two.
    assert!(grown <= 4, "{grown} more blocks of {size} bytes or more for 32 tokens");
}

/// One test, as other tests' allocations would count.
#[test]
fn calls_take_memory_for_inputs_and_outputs_only() {
    #[cfg(feature = "llm")]
    logits();
    for threads in [1, 2] {
        bound_calls(threads);
        functions(threads);
        large_weights(threads);
        operations(threads);
        growing_masks(threads);
        predictions(threads);
    }
}
