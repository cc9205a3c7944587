//! What is done once, however often and from wherever a model is called: plans are made for a
//! function, and weights brought into other forms for a file. (Allocations of calls are counted beside
//! the API, whose conversions they are.)
#![allow(clippy::unwrap_used)] // a helper that fails is a test that fails

#[path = "common/blobs.rs"]
mod blobs;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use coreml_engine::{Buffer, CallOptions, Context, Function, Model, Shape};
use coreml_format::mil::{Binding, Block, Value};

use self::blobs::{Blobs, compiled, load};

/// Threads that call a model at once.
const SESSIONS: usize = 4;

/// Plans of a function with flexible inputs: one for each of the first two shapes, one for all.
const FEW: usize = 3;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

/// All models in a directory of the fixtures and in directories there.
fn models(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let is_model = |path: &Path| {
        path.extension().is_some_and(|end| end.to_string_lossy().starts_with("mlmodel"))
            || path.join("Manifest.json").is_file()
    };
    let found = entries.flat_map(|path| match (is_model(&path), path.is_dir()) {
        (true, _) => vec![path],
        (false, true) => models(&path),
        (false, false) => Vec::new(),
    });
    found.collect()
}

/// One conversation with a function: its states.
struct Session<'a> {
    context: &'a Context,
    function: &'a Function,
    states: Vec<Buffer>,
}

impl<'a> Session<'a> {
    fn new(model: &'a Model, function: &'a Function) -> Self {
        let zeroed = |len: Option<usize>| Buffer::zeroed(len.unwrap()).unwrap();
        let states = function.states().iter();
        let states = states.map(|state| zeroed(state.storage.byte_len(&state.shape))).collect();
        Session { context: model.context(), function, states }
    }

    /// Calls the function with zeros of these shapes; gives the bytes of the first output.
    fn call(&mut self, shapes: &[Shape]) -> Vec<u8> {
        let inputs = self.function.inputs().iter().zip(shapes);
        let zeros: Vec<Buffer> = inputs
            .map(|(input, shape)| Buffer::zeroed(input.storage.byte_len(shape).unwrap()).unwrap())
            .collect();
        let bytes: Vec<&[u8]> = zeros.iter().map(Buffer::bytes).collect();
        let mut first = None;
        let read = |_: usize, tensor: &coreml_engine::TensorRef| {
            first.get_or_insert(tensor.dense_bytes().unwrap().to_vec());
            std::ops::ControlFlow::Continue(())
        };
        let result = self.function.predict(
            self.context,
            shapes,
            &bytes,
            &mut self.states,
            CallOptions::default(),
            read,
        );
        result.unwrap_or_else(|error| panic!("{shapes:?}: {error}"));
        first.unwrap()
    }
}

/// Calls every function with all of these shapes, in several sessions at once, which have to give
/// the same.
fn call_all(model: &Model, shapes: impl Fn(&Function) -> Vec<Vec<Shape>> + Sync) {
    let conversation = || -> Vec<Vec<u8>> {
        let all = model.functions().flat_map(|function| {
            let mut session = Session::new(model, function);
            shapes(function).into_iter().map(move |shapes| session.call(&shapes))
        });
        all.collect()
    };
    std::thread::scope(|scope| {
        let sessions: Vec<_> = (0..SESSIONS).map(|_| scope.spawn(conversation)).collect();
        let mut given = sessions.into_iter().map(|session| session.join().unwrap());
        let first = given.next().unwrap();
        given.for_each(|other| assert!(other == first, "sessions differ"));
    });
}

/// Weights of a block and of those in it, by a blob of each.
fn weights_of(block: &Block, found: &mut BTreeSet<(String, u64)>) {
    for operation in &block.operations {
        let bindings = operation.inputs.values().flat_map(|argument| &argument.0);
        let blobs = bindings.filter_map(|binding| match binding {
            Binding::Value(Value::BlobFile(blob)) => Some((blob.file.clone(), blob.offset)),
            _ => None,
        });
        // A compressed weight has several blobs.
        let compressed = operation.operator.starts_with("constexpr_");
        found.extend(blobs.take(if compressed { 1 } else { usize::MAX }));
        operation.blocks.iter().for_each(|block| weights_of(block, found));
    }
}

fn shape(sizes: &[usize]) -> Shape {
    Shape::from_slice(sizes)
}

/// Two functions of any number of steps with the same layer, whose weights are kept as `fp16`.
#[test]
fn an_lstm_reads_its_weights_as_they_are() {
    let mut blobs = Blobs::new();
    let (weight_ih, weight_hh) = (blobs.halves(&[32, 3]), blobs.halves(&[32, 8]));
    let bias = blobs.halves(&[32]);
    let layer = |name: &str| {
        format!(
            r#"func {name}<ios17>(tensor<fp16, [?, 1, 3]> x, tensor<fp16, [1, 8]> h,
                tensor<fp16, [1, 8]> c) {{
                tensor<fp16, [?, 1, 8]> y, tensor<fp16, [1, 8]> last, tensor<fp16, [1, 8]> cell =
                    lstm(x = x, initial_h = h, initial_c = c, weight_ih = {weight_ih},
                    weight_hh = {weight_hh}, bias = {bias}, output_sequence = bool(true));
            }} -> (y);"#
        )
    };
    let (_directory, model) = compiled(&format!("{}\n{}", layer("one"), layer("other")), &blobs);
    let steps = |steps: usize| vec![shape(&[steps, 1, 3]), shape(&[1, 8]), shape(&[1, 8])];
    call_all(&model, |_| (1..20).map(steps).collect());
    // The bias alone is widened, for both functions.
    assert_eq!(model.weight_forms_made(), 1);
    assert!(model.functions().all(|function| function.plans_made() <= FEW));
}

#[test]
fn compressed_filters_stay_compressed() {
    let mut blobs = Blobs::new();
    let (small, single) = (blobs.palettized(&[4, 300, 1]), blobs.palettized(&[300, 1, 1]));
    let filters = |name: &str| {
        format!(
            r#"func {name}<ios18>(tensor<fp16, [1, 300, ?]> x) {{
                tensor<fp16, [300, 1, 1]> single = {single};
                tensor<fp16, [4, 300, 1]> small = {small};
                tensor<fp16, [1, 300, ?]> z = conv(groups = int32(300), x = x, weight = single);
                tensor<fp16, [1, 4, ?]> y = conv(x = z, weight = small);
            }} -> (y);"#
        )
    };
    let (_directory, model) =
        compiled(&format!("{}\n{}", filters("one"), filters("other")), &blobs);
    call_all(&model, |_| (1..12).map(|points| vec![shape(&[1, 300, points])]).collect());
    assert_eq!(model.weight_forms_made(), 0);
    assert!(model.functions().all(|function| function.plans_made() <= FEW));
}

/// Over all fixtures: no weight has more than one form, functions share them, and calls after the
/// first make nothing.
#[test]
fn weights_of_fixtures_have_one_form_at_most() {
    let (mut checked, mut widened) = (0, 0);
    for path in models(&fixture("llm")).into_iter().chain(models(&fixture("packages"))) {
        let model = load(&path);
        let mut weights = BTreeSet::new();
        let functions = model.program().functions.values();
        functions.for_each(|function| weights_of(&function.block, &mut weights));
        let defaults = |function: &Function| vec![function.default_shapes().unwrap(); 2];
        call_all(&model, defaults);
        let forms = model.weight_forms_made();
        let place = path.display();
        assert!(forms <= weights.len(), "{place}: {forms} forms of {} weights", weights.len());
        call_all(&model, defaults);
        assert_eq!(model.weight_forms_made(), forms, "{place}");
        assert!(model.functions().all(|function| function.plans_made() == 1), "{place}");
        checked += 1;
        widened += forms;
    }
    assert!(checked > 80 && widened > 300, "{widened} forms in {checked} models");
}

/// Apple's layout: masks that grow with each token, of several sessions in step.
#[test]
fn masks_that_grow_need_few_plans() {
    for name in ["llm/apple-llama/llama.mlpackage", "llm/apple-mistral/mistral.mlpackage"] {
        let model = load(&fixture(name));
        let lengths = |_: &Function| -> Vec<Vec<Shape>> {
            (1..=64).map(|length| vec![shape(&[1, 1]), shape(&[1, 1, 1, length])]).collect()
        };
        call_all(&model, lengths);
        let forms = model.weight_forms_made();
        call_all(&model, lengths);
        let function = model.functions().next().unwrap();
        assert!(function.plans_made() <= FEW, "{name}: {} plans", function.plans_made());
        assert_eq!(model.weight_forms_made(), forms, "{name}");
    }
}

/// What can't be known ahead is computed by no plan, and for no two operations at once.
#[test]
fn random_numbers_without_a_seed_are_others_at_each_run() {
    let random = |seed: &str| {
        format!(
            "random_uniform(shape = tensor<int32, [1]>([64]), {seed}low = fp32(0), high = fp32(1))"
        )
    };
    let (fresh, seeded) = (random(""), random("seed = int32(5), "));
    let input = "(tensor<fp32, [1]> x)";
    let result = "tensor<fp32, [64]>";
    let functions = format!(
        "func fresh<ios15>{input} {{ {result} y = {fresh}; }} -> (y);
        func seeded<ios15>{input} {{ {result} y = {seeded}; }} -> (y);
        func apart<ios15>{input} {{
            {result} a = {fresh};
            {result} b = {fresh};
            {result} y = sub(x = a, y = b);
        }} -> (y);"
    );
    let (_directory, model) = compiled(&functions, &Blobs::new());
    let shapes = [Shape::from_slice(&[1])];
    let twice = |name: &str| {
        let mut session = Session::new(&model, model.function(name).unwrap());
        [session.call(&shapes), session.call(&shapes)]
    };
    let [first, second] = twice("fresh");
    assert_ne!(first, second);
    let [first, second] = twice("seeded");
    assert_eq!(first, second);
    assert!(twice("apart")[0].iter().any(|&byte| byte != 0));
}
