//! Plans a program in different ways, runs the plans, and compares what they give.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use coreml_format::Package;
use coreml_format::mil::{
    Binding, ElementType, Function, TensorData, TensorValue, Value, ValueType,
};
use coreml_kernels::Context;
use half::f16;

use super::verify::verify;
use super::{Generated, RUNS};
use crate::plan::Precision::AsDeclared;
use crate::plan::equivalence::{EXACT, PLAIN, SHARED, Seen, is_close, run_steps};
use crate::plan::rewrite::{Counts, Effect, RULES, Rewrites, rewrite};
use crate::plan::sixteen_bits::keep_values;
use crate::plan::{Options, Plan, bind, build, legalise, memory, optimised, rounding, states};
use crate::value::{Buffer, Shape, Storage};
use crate::weights::Weights;

/// How a program is called: the inputs' shapes as far as they are known beforehand, for each plan
/// that is made.
#[derive(Clone, Debug)]
struct Shapes {
    which: &'static str,
    plans: Vec<Vec<Option<Shape>>>,
    /// The plan of each run.
    of_run: [usize; RUNS],
}

/// What became of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    /// All results were the same.
    Ran,
    /// The same but for rounding.
    Rounded,
    /// Rounding differs, and the program makes much of little.
    Unstable,
    /// It failed, however it was planned.
    Failed,
}

/// Plans to compare with the plain one, with the seed of what the memory planner leaves out.
const VARIANTS: &[(&str, Options, u64)] = &[
    ("plain", PLAIN, 0),
    ("shared", SHARED, 0),
    ("shared by one chance", SHARED, 0x9e37_79b9_7f4a_7c15),
    ("shared by another chance", SHARED, 0xbf58_476d_1ce4_e5b9),
    ("exact rewrites", EXACT, 0),
    ("all rewrites", ALL, 0),
];

const ALL: Options = Options { rewrites: Rewrites::All, ..EXACT };

/// A plan whose results are rounded as the program states them.
const STRICT: Options = Options { precision: AsDeclared, ..EXACT };

/// How errors begin that are none of the program.
const PANIC: &str = "panic";

type Results = Result<Vec<Seen>, String>;

/// A program to check.
pub(super) struct Case<'a> {
    generated: &'a Generated,
    weights: Arc<Weights>,
    context: &'a Context,
}

impl<'a> Case<'a> {
    pub(super) fn new(generated: &'a Generated, context: &'a Context) -> Result<Self, String> {
        let package = Package::from_program(generated.program.clone());
        let weights = package
            .and_then(|package| Weights::new(package, crate::Limits::new()))
            .map_err(|error| error.to_string())?;
        Ok(Case { generated, weights, context })
    }

    fn function(&self) -> &Function {
        &self.weights.program().functions["main"]
    }

    /// Compares all plans; says what is wrong.
    pub(super) fn check(&self) -> Result<Outcome, String> {
        let fixed = self.fixed();
        let inputs = &self.generated.inputs;
        let plain = self.run(&fixed, PLAIN, inputs);
        let mut outcome = self.agree(&plain, &plain, &fixed, PLAIN)?;
        self.check_folding(&plain)?;
        let strict = self.run(&fixed, Options { precision: AsDeclared, ..PLAIN }, inputs);
        for shapes in [Some(fixed), self.flexible(), Some(self.free())].into_iter().flatten() {
            self.verify(&shapes.plans[0])?;
            for (which, options, seed) in VARIANTS {
                let run = || self.run(&shapes, *options, inputs);
                let got = memory::chance::with(*seed, run);
                let agreed = self
                    .agree(&got, &plain, &shapes, *options)
                    .map_err(|error| format!("{} shapes, {which}: {error}", shapes.which))?;
                outcome = outcome.max(agreed);
            }
            let got = self.run(&shapes, STRICT, inputs);
            self.agree(&got, &strict, &shapes, STRICT)
                .map_err(|error| format!("{} shapes, as declared: {error}", shapes.which))?;
        }
        Ok(outcome)
    }

    /// Compares a plain plan with one of the same program whose constants are inputs: nothing can be
    /// folded there. Some operations take a constant only, and products of constants round otherwise.
    fn check_folding(&self, plain: &Results) -> Result<(), String> {
        let unfolded = with_constants_as_inputs(self.generated);
        let case = Case::new(&unfolded, self.context)?;
        match (case.run(&case.fixed(), PLAIN, &unfolded.inputs), plain) {
            (Err(error), _) if error.starts_with(PANIC) => Err(error),
            (Ok(got), Ok(plain)) if !is_close(&got, plain) && !self.is_unstable(plain, PLAIN) => {
                let difference = difference(plain, &got).unwrap_or_default();
                Err(format!("constants instead of inputs: {difference}"))
            }
            _ => Ok(()),
        }
    }

    /// Compares what a plan gave with what the plain one gave. One that leaves out what nothing reads
    /// may run where the program fails.
    fn agree(
        &self,
        got: &Results,
        plain: &Results,
        shapes: &Shapes,
        options: Options,
    ) -> Result<Outcome, String> {
        let leaves_out = options.rewrites != Rewrites::Off;
        match (got, plain) {
            (Err(error), _) | (_, Err(error)) if error.starts_with(PANIC) => Err(error.clone()),
            (Err(_), Err(_)) => Ok(Outcome::Failed),
            (Ok(_), Err(_)) if leaves_out => Ok(Outcome::Failed),
            (Ok(_), Err(error)) => Err(format!("it ran, though the plain plan gave: {error}")),
            (Err(error), Ok(_)) => Err(format!("it failed: {error}")),
            (Ok(got), Ok(plain)) => match difference(got, plain) {
                None => Ok(Outcome::Ran),
                Some(error) if !self.rounds(shapes, options) => Err(error),
                Some(_) if is_close(got, plain) => Ok(Outcome::Rounded),
                Some(_) if self.is_unstable(plain, options) => Ok(Outcome::Unstable),
                Some(error) => Err(error),
            },
        }
    }

    /// Whether no other rounding can leave the program's results as they are: it makes much of little
    /// changes of its inputs, or computes with infinities, in the plain plan or this one.
    fn is_unstable(&self, plain: &[Seen], options: Options) -> bool {
        !self.stays_finite(PLAIN)
            || !self.stays_finite(options)
            || [1.0 + 1e-6, 1.0 - 1e-6, 1.0 + 4e-6].into_iter().any(|factor| {
                let inputs = self.generated.inputs.clone().map(|inputs| nudged(inputs, factor));
                let nudged = self.run(&self.fixed(), PLAIN, &inputs);
                !nudged.is_ok_and(|nudged| is_close(&nudged, plain))
            })
    }

    /// Whether all values of the function are finite when it is planned so.
    fn stays_finite(&self, options: Options) -> bool {
        let mut program = self.generated.program.clone();
        for function in program.functions.values_mut() {
            let outputs = function.block.operations.iter().flat_map(|operation| &operation.outputs);
            function.block.outputs = outputs.map(|output| output.name.clone()).collect();
        }
        let generated = Generated { program, inputs: self.generated.inputs.clone() };
        let seen = Case::new(&generated, self.context)
            .and_then(|case| case.run(&case.fixed(), options, &generated.inputs));
        let finite = |(storage, _, bytes): &Seen| match storage {
            Storage::F32 => floats(bytes).all(f32::is_finite),
            _ => true,
        };
        seen.is_ok_and(|seen| seen.iter().all(finite))
    }

    /// Whether a plan rounds otherwise than the plain one: by a rewrite.
    fn rounds(&self, shapes: &Shapes, options: Options) -> bool {
        let of_plan = |shapes: &Vec<Option<Shape>>| {
            let (weights, context) = (&self.weights, self.context);
            let planned = optimised("main", self.function(), shapes, weights, context, options);
            planned.is_ok_and(|(_, counts)| {
                let mut used = RULES.iter().filter(|rule| counts.of(rule.name) > 0);
                used.any(|rule| rule.effect != Effect::Exact)
            })
        };
        shapes.plans.iter().any(of_plan)
    }

    /// Plans for the shapes of each run.
    fn fixed(&self) -> Shapes {
        let mut plans: Vec<Vec<Option<Shape>>> = Vec::new();
        let of_run = self.generated.inputs.each_ref().map(|inputs| {
            let shapes: Vec<_> = inputs.iter().map(|(shape, _)| Some(shape.clone())).collect();
            plans.iter().position(|plan| *plan == shapes).unwrap_or_else(|| {
                plans.push(shapes);
                plans.len() - 1
            })
        });
        Shapes { which: "fixed", plans, of_run }
    }

    /// A plan for any shapes that the program states, if it leaves some open.
    fn flexible(&self) -> Option<Shapes> {
        let tensors = self.function().inputs.iter().filter_map(|input| match &input.ty {
            ValueType::Tensor(tensor) => Some(tensor),
            _ => None,
        });
        let shapes: Vec<Option<Shape>> =
            tensors.map(|tensor| tensor.fixed_shape().map(Shape::from)).collect();
        let plans = vec![shapes];
        plans[0].contains(&None).then_some(Shapes { which: "flexible", plans, of_run: [0; RUNS] })
    }

    /// A plan that knows no shape.
    fn free(&self) -> Shapes {
        let plans = vec![vec![None; self.generated.inputs[0].len()]];
        Shapes { which: "free", plans, of_run: [0; RUNS] }
    }

    /// What a program gives; a panic is an error.
    fn run(
        &self,
        shapes: &Shapes,
        options: Options,
        inputs: &[Vec<(Shape, Buffer)>; RUNS],
    ) -> Results {
        let plan = |shapes: &Vec<Option<Shape>>| {
            build("main", self.function(), shapes, &self.weights, self.context, options)
        };
        let run = || {
            let plans: Result<Vec<Plan>, _> = shapes.plans.iter().map(plan).collect();
            let plans = plans.map_err(|error| error.to_string())?;
            let steps = shapes.of_run.into_iter().zip(inputs.iter().cloned());
            run_steps(&plans, self.context, steps)
        };
        catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| Some((*panic.downcast_ref::<&str>()?).to_owned()));
            Err(format!("{PANIC}: {}", text.unwrap_or_default()))
        })
    }

    /// Checks the graph after each pass.
    fn verify(&self, shapes: &[Option<Shape>]) -> Result<(), String> {
        let options = Options::default();
        let Options { share, rewrites, precision, .. } = options;
        let (weights, context) = (&self.weights, self.context);
        let bound = bind::bind("main", self.function(), shapes, weights, context, options);
        let Ok(mut graph) = bound else { return Ok(()) };
        let failed = |pass: &str, error: String| format!("after {pass}: {error}");
        verify(&graph, false).map_err(|error| failed("binding", error))?;
        let error = |error: crate::error::Error| error.to_string();
        keep_values(&mut graph, &mut Counts::default());
        rewrite("main", &mut graph, rewrites, precision, &mut Counts::default()).map_err(error)?;
        verify(&graph, false).map_err(|error| failed("rewriting", error))?;
        rounding::mark(&mut graph, AsDeclared);
        verify(&graph, false).map_err(|error| failed("rounding", error))?;
        if legalise::legalise("main", &mut graph, &self.weights, share).is_err() {
            return Ok(());
        }
        verify(&graph, true).map_err(|error| failed("legalising", error))?;
        states::resolve(&mut graph, share);
        verify(&graph, true).map_err(|error| failed("states", error))?;
        memory::assign(&mut graph, share);
        verify(&graph, true).map_err(|error| failed("memory", error))
    }
}

/// The program with inputs for its constants.
fn with_constants_as_inputs(generated: &Generated) -> Generated {
    let Generated { mut program, mut inputs } = generated.clone();
    for function in program.functions.values_mut() {
        function.block.operations.retain(|operation| {
            let constant = operation.inputs.get("val").filter(|_| operation.operator == "const");
            let Some([Binding::Value(Value::Tensor(value))]) = constant.map(|it| it.0.as_slice())
            else {
                return true;
            };
            let Some((shape, buffer)) = input_of(value) else { return true };
            // Behind the tensors and before the states, as in the plan's order.
            function.inputs.insert(inputs[0].len(), operation.outputs[0].clone());
            for inputs in &mut inputs {
                inputs.push((shape.clone(), buffer.clone()));
            }
            false
        });
    }
    Generated { program, inputs }
}

/// A constant as an input of 4 bytes an element.
fn input_of(value: &TensorValue) -> Option<(Shape, Buffer)> {
    let TensorData::Bytes(bytes) = &value.data else { return None };
    let of_four = matches!(value.ty.element, ElementType::Float32 | ElementType::Int32);
    let shape = value.ty.fixed_shape().filter(|_| of_four)?;
    Some((shape.into(), Buffer::copy_of(bytes).ok()?))
}

/// The floats a little larger or smaller.
fn nudged(mut inputs: Vec<(Shape, Buffer)>, factor: f32) -> Vec<(Shape, Buffer)> {
    // Integers stay: as floats they are tiny, and what a factor makes of them rounds to them again.
    for (_, buffer) in &mut inputs {
        for float in bytemuck::cast_slice_mut::<u8, f32>(buffer.bytes_mut()) {
            *float *= factor;
        }
    }
    inputs
}

/// The first difference between what two plans gave. NaNs are the same whatever their bits: which
/// of two operands' NaN a product has is nowhere said.
fn difference(got: &[Seen], expected: &[Seen]) -> Option<String> {
    if got.len() != expected.len() {
        return Some(format!("{} results instead of {}", got.len(), expected.len()));
    }
    let differs =
        |(got, expected): (&Seen, &Seen)| got != expected && plain(got) != plain(expected);
    let place = got.iter().zip(expected).position(differs)?;
    Some(format!(
        "result {place}, counted over all runs, is {:?} instead of {:?}",
        got[place], expected[place]
    ))
}

/// A result with one kind of NaN.
fn plain((storage, shape, bytes): &Seen) -> Seen {
    let floats: Vec<f32> = match storage {
        Storage::F32 => floats(bytes).collect(),
        Storage::F16 => {
            bytemuck::pod_collect_to_vec::<u8, f16>(bytes).iter().map(|x| x.to_f32()).collect()
        }
        _ => return (*storage, shape.clone(), bytes.clone()),
    };
    let one = |x: f32| if x.is_nan() { f32::NAN } else { x };
    let bytes = floats.into_iter().map(one).flat_map(f32::to_ne_bytes).collect();
    (*storage, shape.clone(), bytes)
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.chunks_exact(4).map(bytemuck::pod_read_unaligned)
}
