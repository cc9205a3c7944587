//! Plans a program in different ways, runs the plans, and compares what they give.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use coreml_format::Package;
use coreml_format::mil::Function;
use coreml_kernels::Context;

use super::verify::verify;
use super::{Generated, RUNS};
use crate::plan::equivalence::{EXACT, PLAIN, SHARED, Seen, is_close, run_steps};
use crate::plan::rewrite::{Effect, RULES, rewrite};
use crate::plan::{Options, Plan, bind, build, legalise, memory, states};
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All results were the same.
    Ran,
    /// The same but for rounding that a rewrite changes.
    Rounded,
    /// A rewrite changes rounding, and the program makes much of little.
    Unstable,
    /// It failed, however it was planned.
    Failed,
}

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
        let weights = Weights::new(package.map_err(|error| error.to_string())?);
        Ok(Case { generated, weights, context })
    }

    fn function(&self) -> &Function {
        &self.weights.package().program().functions["main"]
    }

    /// Compares all plans; says what is wrong.
    pub(super) fn check(&self) -> Result<Outcome, String> {
        let fixed = self.fixed();
        let plain = self.run(&fixed, PLAIN, &self.generated.inputs);
        compare(&plain, &plain, false).map_err(|error| format!("plain plan: {error}"))?;
        let mut outcome = if plain.is_ok() { Outcome::Ran } else { Outcome::Failed };
        for shapes in
            [Some(fixed.clone()), self.flexible(), Some(self.free())].into_iter().flatten()
        {
            self.verify(&shapes.plans[0])?;
            for (which, options) in [("plain", PLAIN), ("exact", EXACT)] {
                let got = self.run(&shapes, options, &self.generated.inputs);
                compare(&got, &plain, options == EXACT)
                    .map_err(|error| format!("{} shapes, {which}: {error}", shapes.which))?;
            }
            for seed in [0, 0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9] {
                let got = memory::chance::with(seed, || {
                    self.run(&shapes, SHARED, &self.generated.inputs)
                });
                compare(&got, &plain, false).map_err(|error| {
                    format!("{} shapes, shared, chance {seed}: {error}", shapes.which)
                })?;
            }
            let rounded = self.check_all(&shapes, &plain, &fixed)?;
            if outcome == Outcome::Ran || rounded == Outcome::Unstable {
                outcome = rounded;
            }
        }
        Ok(outcome)
    }

    /// All rewrites against none.
    fn check_all(
        &self,
        shapes: &Shapes,
        plain: &Results,
        fixed: &Shapes,
    ) -> Result<Outcome, String> {
        let got = self.run(shapes, Options::default(), &self.generated.inputs);
        let (Ok(expected), Ok(got)) = (plain, &got) else {
            let failed = compare(&got, plain, true);
            return failed
                .map(|()| Outcome::Failed)
                .map_err(|error| format!("all rewrites: {error}"));
        };
        if !self.rounds(shapes) {
            let same = difference(got, expected);
            return same.map(|()| Outcome::Ran).map_err(|error| format!("all rewrites: {error}"));
        }
        if is_close(got, expected) {
            return Ok(Outcome::Rounded);
        }
        // What little changes of the inputs change as well, no rewrite can leave as it is.
        for factor in [1.0 + 1e-6, 1.0 - 1e-6, 1.0 + 4e-6] {
            let inputs = self.generated.inputs.clone().map(|inputs| nudged(inputs, factor));
            let nudged = self.run(fixed, PLAIN, &inputs);
            if !nudged.is_ok_and(|nudged| is_close(&nudged, expected)) {
                return Ok(Outcome::Unstable);
            }
        }
        let error = difference(got, expected).err().unwrap_or_default();
        Err(format!("{} shapes, all rewrites: {error}", shapes.which))
    }

    /// Whether a rewrite of the program changes rounding.
    fn rounds(&self, shapes: &Shapes) -> bool {
        let counted = |shapes: &Vec<Option<Shape>>| {
            let (weights, context) = (&self.weights, self.context);
            let mut graph = bind::bind("main", self.function(), shapes, weights, context).ok()?;
            rewrite("main", &mut graph, Options::default().rewrites).ok()
        };
        shapes.plans.iter().filter_map(counted).any(|counts| {
            let used = RULES.iter().filter(|rule| counts.of(rule.name) > 0);
            used.into_iter().any(|rule| rule.effect == Effect::Rounding)
        })
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
            coreml_format::mil::ValueType::Tensor(tensor) => Some(tensor),
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
        let Options { share, rewrites } = Options::default();
        let bound = bind::bind("main", self.function(), shapes, &self.weights, self.context);
        let Ok(mut graph) = bound else { return Ok(()) };
        let failed = |pass: &str, error: String| format!("after {pass}: {error}");
        verify(&graph, false).map_err(|error| failed("binding", error))?;
        let error = |error: crate::error::Error| error.to_string();
        rewrite("main", &mut graph, rewrites).map_err(error)?;
        verify(&graph, false).map_err(|error| failed("rewriting", error))?;
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

/// Whether a plan gave what was expected. One that leaves out what nothing reads may run where the
/// program fails.
fn compare(got: &Results, expected: &Results, leaves_out: bool) -> Result<(), String> {
    match (got, expected) {
        (Err(error), _) if error.starts_with(PANIC) => Err(error.clone()),
        (Ok(got), Ok(expected)) => difference(got, expected),
        (Err(_), Err(_)) => Ok(()),
        (Ok(_), Err(_)) if leaves_out => Ok(()),
        (Ok(_), Err(error)) => Err(format!("it ran, though the plain plan gave: {error}")),
        (Err(error), Ok(_)) => Err(format!("it failed: {error}")),
    }
}

/// The first difference between what two plans gave. NaNs are the same whatever their bits: which
/// of two operands' NaN a product has is nowhere said.
fn difference(got: &[Seen], expected: &[Seen]) -> Result<(), String> {
    if got.len() != expected.len() {
        return Err(format!("{} results instead of {}", got.len(), expected.len()));
    }
    let differs =
        |(got, expected): (&Seen, &Seen)| got != expected && plain(got) != plain(expected);
    match got.iter().zip(expected).position(differs) {
        Some(place) => Err(format!(
            "result {place}, counted over all runs, is {:?} instead of {:?}",
            got[place], expected[place]
        )),
        None => Ok(()),
    }
}

/// A result with one kind of NaN.
fn plain((storage, shape, bytes): &Seen) -> Seen {
    let bytes = match storage {
        Storage::F32 => {
            let floats = bytes.chunks_exact(4).map(bytemuck::pod_read_unaligned::<f32>);
            floats
                .map(|x| if x.is_nan() { f32::NAN } else { x })
                .flat_map(f32::to_ne_bytes)
                .collect()
        }
        _ => bytes.clone(),
    };
    (*storage, shape.clone(), bytes)
}
