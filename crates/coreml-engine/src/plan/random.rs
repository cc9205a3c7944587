//! Random programs: however they are planned, they give the same, bit for bit. A program that does
//! not is printed as MIL text, so that it can become a fixture.
//!
//! Operators and examples of their arguments come from the table of definitions and the fixtures, so
//! that a new one takes part at once; types of results come from the operations themselves.
//! `COREML_RANDOM_PROGRAMS` sets the number of programs; with one, they are others each time.

mod alphabet;
mod blocks;
mod builder;
mod check;
mod constants;
mod found;
mod operations;
mod recipe;
mod verify;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use coreml_format::Package;
use coreml_format::mil::{
    Block, ElementType, Function, NamedValueType, Operation, Opset, Program, TensorType, ValueType,
    from_text, to_text,
};
use coreml_kernels::{Context, Workers};
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use self::alphabet::Alphabet;
use self::builder::Builder;
use self::check::{Case, Outcome};
use self::constants::numbers;
use self::recipe::{Choices, Recipe, mixed, recipes};
use super::equivalence::input;
use crate::value::{Buffer, Bytes, Constant, Shape, Storage};
use crate::weights::Weights;

/// How often a program is run; the sizes of its inputs may differ from run to run.
const RUNS: usize = 3;

/// Programs unless the environment asks for more.
const PROGRAMS: u32 = 2000;

/// What all programs have in common.
struct Setting {
    alphabet: Alphabet,
    context: Context,
    /// The weights of a package without any.
    weights: Arc<Weights>,
}

impl Setting {
    fn new() -> Self {
        let context = Context::new(Workers::serial());
        let text = "program(1.0) { func main<ios15>(fp32 x) { } -> (x); }";
        let package = Package::from_program(from_text(text).unwrap()).unwrap();
        Setting {
            alphabet: Alphabet::new(&context),
            context,
            weights: Weights::new(package, crate::Limits::new()).unwrap(),
        }
    }
}

/// A program with the inputs of each run.
#[derive(Clone)]
struct Generated {
    program: Program,
    inputs: [Vec<(Shape, Buffer)>; RUNS],
}

/// Makes the program of a recipe.
fn generate(setting: &Setting, recipe: &Recipe) -> Generated {
    let operators = setting.alphabet.of(recipe.opset);
    let mut builder = Builder::new(operators, setting.weights.clone(), &setting.context);
    let mut inputs: [Vec<(Shape, Buffer)>; RUNS] = Default::default();
    // A number of which shapes and branches can be made.
    add_input(
        &mut builder,
        &mut inputs,
        ElementType::Int32,
        &std::array::from_fn(|_| Shape::new()),
        0,
    );
    for &seed in &recipe.inputs {
        let mut choices = Choices::new(seed);
        let elements = [ElementType::Float32, ElementType::Float16, ElementType::Int32];
        let element = elements[choices.below(5) / 2];
        let shapes = varied(&recipe.shape, &mut choices);
        add_input(&mut builder, &mut inputs, element, &shapes, seed);
    }
    let mut parameters: Vec<NamedValueType> =
        (0..builder.pool.len()).map(|index| builder.named(index)).collect();
    if recipe.opset >= Opset::Ios18 {
        recipe.states.iter().for_each(|&seed| add_state(&mut builder, recipe, seed));
    }
    parameters.extend(builder.states.iter().cloned());
    let mut choices = Choices::new(recipe.results);
    let shape: Vec<usize> = recipe.shape.iter().map(|sizes| sizes[0]).collect();
    let constant = numbers(ElementType::Float32, &shape, &mut choices);
    builder.constant(constant, choices.number());
    builder.steps(&recipe.steps);
    let outputs = results(&builder, &mut choices);
    let block = Block { inputs: Vec::new(), outputs, operations: builder.operations };
    let function =
        Function { inputs: parameters, opset: recipe.opset, block, attributes: BTreeMap::new() };
    let functions = BTreeMap::from([("main".to_owned(), function)]);
    Generated { program: Program { functions, attributes: BTreeMap::new() }, inputs }
}

/// A shape made of the recipe's: all of it, its last axes, or with axes of size 1.
fn varied(shape: &[[usize; RUNS]], choices: &mut Choices) -> [Shape; RUNS] {
    let skipped = if choices.one_in(3) { choices.below(shape.len()) } else { 0 };
    let flat = choices.one_in(4);
    let axes: Vec<[usize; RUNS]> = shape[skipped..]
        .iter()
        .map(|&sizes| if flat && choices.one_in(2) { [1; RUNS] } else { sizes })
        .collect();
    std::array::from_fn(|run| axes.iter().map(|sizes| sizes[run]).collect())
}

/// Adds an input with its elements in each run.
fn add_input(
    builder: &mut Builder,
    inputs: &mut [Vec<(Shape, Buffer)>; RUNS],
    element: ElementType,
    shapes: &[Shape; RUNS],
    seed: u64,
) {
    let storage = Storage::natural(element).unwrap();
    let mut contents = Vec::new();
    for (run, (inputs, shape)) in inputs.iter_mut().zip(shapes).enumerate() {
        let buffer = input(run * 7 + inputs.len(), shape, storage);
        if element == ElementType::Int32 {
            let bytes = Bytes::from_buffer(buffer.clone());
            contents.push(Constant::dense(element, storage, shape.clone(), bytes));
        }
        inputs.push((shape.clone(), buffer));
    }
    builder.add_value("x", element, shapes, contents.try_into().ok(), mixed(seed));
}

fn add_state(builder: &mut Builder, recipe: &Recipe, seed: u64) {
    let mut choices = Choices::new(seed);
    let elements = [ElementType::Float16, ElementType::Float32, ElementType::Int32];
    let element = elements[choices.below(5) / 2];
    let [shape, ..] = varied(&recipe.shape, &mut choices);
    let ty = ValueType::State(Box::new(ValueType::Tensor(TensorType::fixed(element, &shape))));
    let name = builder.name("state");
    builder.states.push(NamedValueType { name, ty });
}

/// The names of a function's results: what nothing reads, as a rule, and some of the rest.
fn results(builder: &Builder, choices: &mut Choices) -> Vec<String> {
    let mut names = Vec::new();
    for value in &builder.pool {
        if choices.one_in(8) == value.is_read {
            names.push(value.name.clone());
        }
    }
    names
}

/// What became of the programs.
#[derive(Debug, Default)]
struct Counts {
    ran: usize,
    failed_alike: usize,
    /// Programs that rewrites round in another way, and those of them that amplify it.
    rounded: usize,
    unstable: usize,
    operations: usize,
    operators: BTreeSet<(String, Opset)>,
}

impl Counts {
    fn note(&mut self, program: &Program, outcome: Outcome) {
        match outcome {
            Outcome::Failed => self.failed_alike += 1,
            _ => self.ran += 1,
        }
        self.rounded += usize::from(matches!(outcome, Outcome::Rounded | Outcome::Unstable));
        self.unstable += usize::from(matches!(outcome, Outcome::Unstable));
        for function in program.functions.values() {
            self.count(&function.block, function.opset);
        }
    }

    fn count(&mut self, block: &Block, opset: Opset) {
        for Operation { operator, blocks, .. } in &block.operations {
            self.operations += 1;
            let since = crate::definitions::lookup(operator, opset).map(|found| found.since);
            self.operators.extend(since.map(|since| (operator.clone(), since)));
            blocks.iter().for_each(|block| self.count(block, opset));
        }
    }
}

#[test]
fn random_programs_give_the_same_however_they_are_planned() {
    let wanted = std::env::var("COREML_RANDOM_PROGRAMS").ok().and_then(|text| text.parse().ok());
    let config = Config {
        cases: wanted.unwrap_or(PROGRAMS),
        failure_persistence: None,
        max_shrink_iters: 4000,
        ..Config::default()
    };
    let mut runner = match wanted {
        Some(_) => TestRunner::new(config),
        None => {
            let rng = TestRunner::deterministic().new_rng();
            TestRunner::new_with_rng(config, rng)
        }
    };
    let setting = Setting::new();
    let counts = RefCell::new(Counts::default());
    let result = runner.run(&recipes(), |recipe| {
        let generated = generate(&setting, &recipe);
        match Case::new(&generated, &setting.context).and_then(|case| case.check()) {
            Ok(outcome) => counts.borrow_mut().note(&generated.program, outcome),
            Err(message) => {
                let text = to_text(&generated.program);
                return Err(TestCaseError::fail(format!("{message}\n{text}")));
            }
        }
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    let counts = counts.into_inner();
    let of_all = counts.ran + counts.failed_alike;
    let summary = format!(
        "{} of {of_all} programs ran, {} operations, {} of {} operators; {} rounded, {} unstable",
        counts.ran,
        counts.operations,
        counts.operators.len(),
        setting.alphabet.len(),
        counts.rounded,
        counts.unstable
    );
    eprintln!("{summary}");
    assert!(counts.ran * 10 > of_all * 9, "{summary}");
    let few = counts.operators.len() * 10 < setting.alphabet.len() * 9;
    assert!(!few || of_all < PROGRAMS as usize, "{summary}");
}
