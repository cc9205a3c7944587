//! What `fp16` does to a function: a call whose results of that type are rounded as the program states
//! them, beside one that computes in `f32`. Both go through the same steps side by side; a step's results
//! are compared when both calls have made them, and only its values are held twice.
//!
//! Harm is told where it begins. Overflow, underflow and NaN are seen in the step alone: its inputs are
//! what `fp16` made of them, and what it computes from these is looked at before it is rounded. How far
//! a result is from what `f32` gives hangs on all steps before: it is told where it becomes too far, with
//! how far the step's inputs were. Steps inside loops and branches, of which the two calls may take others,
//! are looked at alone.

mod measure;

use std::collections::HashMap;

use coreml_format::mil::ElementType;
use half::f16;

pub use self::measure::Difference;
pub(crate) use self::measure::numbers;
use self::measure::{Against, Counts, Faint, Values};
use crate::graph::Source;
use crate::run::{Observer, Position, Shown};
use crate::value::{Layout, Storage, TensorRef};

/// A result has lost its meaning when it is so far from that of `f32`, as a part of its size: of the eleven
/// bits of `fp16` fewer than four are left.
pub const LARGEST_ERROR: f64 = 1.0 / 16.0;

/// The number of the call that computes in `f32`, which goes first at each step.
pub(crate) const WIDE: usize = 0;

/// What `fp16` does to a function for some inputs.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct PrecisionReport {
    /// Operations whose results do harm, in the order in which they first did.
    pub findings: Vec<PrecisionFinding>,
    /// The function's outputs, in its order.
    pub outputs: Vec<OutputDifference>,
    /// Results of `fp16` that were looked at.
    pub results: usize,
}

impl PrecisionReport {
    /// Whether no operation does harm and all outputs are near those of `f32`.
    pub fn is_fine(&self) -> bool {
        self.findings.is_empty() && self.outputs.iter().all(OutputDifference::is_small)
    }
}

/// An operation whose result does harm.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PrecisionFinding {
    /// What happens.
    pub loss: PrecisionLoss,
    /// The operation's name in the program.
    pub operation: String,
    /// Its operator.
    pub operator: String,
    /// The name of the result.
    pub output: String,
    /// The names of the loops and branches that it is in, from outside.
    pub path: Vec<String>,
    /// How many elements of the result this happens to, where it does to most.
    pub affected: usize,
    /// How many elements the result has then.
    pub elements: usize,
    /// How often this happens, which in loops may be more than once.
    pub times: usize,
    /// The largest finite magnitude of an element, before it is rounded.
    pub largest: f32,
    /// How far the result is from that of `f32`: the root of the mean square of the difference of their
    /// finite elements, as a part of that of `f32`. `None` where there is nothing to compare with.
    pub error: Option<f64>,
    /// The same of the values that the operation reads: the largest.
    pub input_error: Option<f64>,
}

/// What happens to a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PrecisionLoss {
    /// Finite numbers are beyond what `fp16` holds and become infinite.
    Overflow,
    /// Numbers are infinite that `f32` has as finite ones, such as quotients of numbers that became zero;
    /// all inputs are finite.
    Infinity,
    /// NaN is made of numbers.
    Nan,
    /// NaN is made of numbers, in `f32` as well.
    NanAlways,
    /// Most numbers become zero or subnormal, and they carry most of the result's weight, which is the sum
    /// of squares.
    Underflow,
    /// The result is farther than [`LARGEST_ERROR`] from that of `f32`, and the inputs are not.
    Inexact,
}

impl PrecisionLoss {
    /// A short name for reports, such as `nan_always`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Overflow => "overflow",
            Self::Infinity => "infinity",
            Self::Nan => "nan",
            Self::NanAlways => "nan_always",
            Self::Underflow => "underflow",
            Self::Inexact => "inexact",
        }
    }
}

/// How an output differs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OutputDifference {
    /// Its name.
    pub name: String,
    /// How many elements it has.
    pub elements: usize,
    /// How many of them are others at all.
    pub differing: usize,
    /// How far it is from that of `f32`, as [`PrecisionFinding::error`] is; `None` if it is no float or has
    /// another shape.
    pub error: Option<f64>,
    /// The largest difference of two finite elements.
    pub largest_difference: f64,
    /// NaN where `f32` has a number.
    pub nan: usize,
    /// Infinite where `f32` has a finite number.
    pub infinite: usize,
}

impl OutputDifference {
    /// Whether it is near that of `f32`.
    pub fn is_small(&self) -> bool {
        self.nan == 0 && self.infinite == 0 && self.error.is_none_or(|error| error <= LARGEST_ERROR)
    }

    /// Of an output of the call that rounds, and what the call in `f32` gives, which is rounded once where it
    /// is of `fp16`.
    pub(crate) fn new(name: &str, output: &TensorRef, wide: &TensorRef) -> Self {
        let mut difference = OutputDifference {
            name: name.to_owned(),
            elements: output.len(),
            differing: 0,
            error: None,
            largest_difference: 0.0,
            nan: 0,
            infinite: 0,
        };
        let (Some(values), Some(mut floats)) = (elements(output), elements(wide)) else {
            difference.differing = differing_integers(output, wide);
            return difference;
        };
        if output.element == ElementType::Float16 {
            floats.iter_mut().for_each(|value| *value = f16::from_f32(*value).to_f32());
        }
        match Against::of(&values, &floats) {
            Some(against) => {
                difference.differing = against.differing;
                difference.error = Some(against.error());
                difference.largest_difference = against.largest_difference;
                difference.nan = against.nan;
                difference.infinite = against.infinite;
            }
            None => difference.differing = output.len(),
        }
        difference
    }
}

/// How many integers are others; all of them if there are not as many.
fn differing_integers(output: &TensorRef, wide: &TensorRef) -> usize {
    let (Ok(ints), Ok(others)) = (output.ints(), wide.ints()) else { return 0 };
    if ints.len() != others.len() {
        return ints.len();
    }
    ints.iter().zip(&others).filter(|(a, b)| a != b).count()
}

/// Watches the two calls.
#[derive(Default)]
pub(crate) struct Checker {
    report: PrecisionReport,
    /// What the wide call reads and gives in the step at hand.
    wide_inputs: Vec<Values>,
    wide_results: Vec<(String, Values)>,
    inputs: Inputs,
    /// How far the farthest result is so far: that of what a loop or a branch reads may be as far.
    farthest: f64,
    /// Where in the report each finding is, by what happens and to which result.
    found: HashMap<(PrecisionLoss, String), usize>,
}

/// What is known of the values that the step at hand reads.
#[derive(Default)]
struct Inputs {
    nan: bool,
    infinite: bool,
    faint: bool,
    error: Option<f64>,
}

/// What is known of a result.
struct Measured {
    counts: Counts,
    faint: Faint,
    against: Option<Against>,
}

impl Measured {
    /// Of these elements, which are rounded if `rounds`, beside those of `f32`.
    fn of(mut values: Values, rounds: bool, wide: Option<&Values>) -> Self {
        let counts = Counts::of(&values);
        let mut faint = Faint::default();
        if rounds {
            faint = Faint::of(&values);
            values.iter_mut().for_each(|value| *value = f16::from_f32(*value).to_f32());
        }
        Measured { counts, faint, against: wide.and_then(|wide| Against::of(&values, wide)) }
    }

    /// What happens to the result, and to how many elements.
    fn loss(&self, rounds: bool, inputs: &Inputs) -> Option<(PrecisionLoss, usize)> {
        let Measured { counts, faint, against } = self;
        if rounds && counts.overflowing > 0 {
            return Some((PrecisionLoss::Overflow, counts.overflowing));
        }
        if counts.nan > 0 && !inputs.nan {
            let always = against.as_ref().is_some_and(|against| against.nan == 0);
            let loss = if always { PrecisionLoss::NanAlways } else { PrecisionLoss::Nan };
            return Some((loss, counts.nan));
        }
        let infinite = against.as_ref().map_or(0, |against| against.infinite);
        if infinite > 0 && !inputs.infinite {
            return Some((PrecisionLoss::Infinity, infinite));
        }
        if faint.is_most() && !inputs.faint {
            return Some((PrecisionLoss::Underflow, faint.count));
        }
        let against = against.as_ref()?;
        let far = |error: f64| error > LARGEST_ERROR;
        let begins = far(against.error()) && !inputs.error.is_some_and(far);
        begins.then_some((PrecisionLoss::Inexact, against.differing))
    }
}

impl Checker {
    /// The report, with how the outputs differ.
    pub(crate) fn report(self, outputs: Vec<OutputDifference>) -> PrecisionReport {
        PrecisionReport { outputs, ..self.report }
    }

    /// Looks at a result of the call that rounds.
    fn check(&mut self, at: &Position, name: &str, rounds: bool, values: Values) {
        self.report.results += usize::from(rounds);
        let elements = values.len();
        let wide = self.wide_results.iter().find(|(of, _)| of == name).map(|(_, values)| values);
        let measured = Measured::of(values, rounds, wide.filter(|_| is_outermost(at)));
        let error = measured.against.as_ref().map(Against::error);
        let farthest = self.farthest;
        self.farthest = error.map_or(farthest, |error| error.max(farthest));
        if at.has_blocks {
            // What the blocks read is not known: it may be the worst that there is. They themselves are
            // looked at step by step.
            let error = Some(farthest);
            self.inputs = Inputs { nan: true, infinite: true, faint: true, error };
        }
        let Some((loss, affected)) = measured.loss(rounds, &self.inputs) else { return };
        let index = match self.found.get(&(loss, name.to_owned())) {
            Some(&index) => index,
            None => self.begin(at, name, loss),
        };
        let finding = &mut self.report.findings[index];
        finding.times += 1;
        finding.largest = finding.largest.max(measured.counts.largest);
        if affected > finding.affected {
            (finding.affected, finding.elements) = (affected, elements);
        }
        finding.error = larger(finding.error, error);
        finding.input_error = larger(finding.input_error, self.inputs.error);
    }

    /// A finding of which nothing is known yet but the place.
    fn begin(&mut self, at: &Position, name: &str, loss: PrecisionLoss) -> usize {
        let names = |sources: &[&Source]| sources.iter().map(|of| of.name.clone()).collect();
        let (source, around) = at.path.split_last().unzip();
        self.report.findings.push(PrecisionFinding {
            loss,
            operation: source.map_or_else(String::new, |source| source.name.clone()),
            operator: source.map_or_else(String::new, |source| source.operator.clone()),
            output: name.to_owned(),
            path: names(around.unwrap_or_default()),
            affected: 0,
            elements: 0,
            times: 0,
            largest: 0.0,
            error: None,
            input_error: None,
        });
        let index = self.report.findings.len() - 1;
        self.found.insert((loss, name.to_owned()), index);
        index
    }
}

impl Observer for Checker {
    fn reads(&mut self, at: &Position, values: &[TensorRef]) {
        let read = values.iter().filter_map(elements);
        if at.call == WIDE {
            self.wide_inputs.clear();
            self.wide_results.clear();
            if is_outermost(at) {
                self.wide_inputs.extend(read);
            }
            return;
        }
        self.inputs = Inputs::default();
        let mut wide = self.wide_inputs.iter();
        for values in read {
            let counts = Counts::of(&values);
            self.inputs.nan |= counts.nan > 0;
            self.inputs.infinite |= counts.infinite > 0;
            self.inputs.faint |= Faint::of(&values).is_most();
            let wide = wide.next().filter(|_| is_outermost(at));
            let against = wide.and_then(|wide| Against::of(&values, wide));
            self.inputs.error = larger(self.inputs.error, against.as_ref().map(Against::error));
        }
    }

    fn gives(&mut self, at: &Position, results: &[Shown]) {
        for result in results.iter().filter(|result| result.storage == Storage::F32) {
            let values: Values = bytemuck::pod_collect_to_vec(result.bytes);
            if at.call != WIDE {
                let rounds = at.rounds && result.element == ElementType::Float16;
                self.check(at, result.name, rounds, values);
            } else if is_outermost(at) {
                self.wide_results.push((result.name.to_owned(), values));
            }
        }
    }
}

fn is_outermost(at: &Position) -> bool {
    at.path.len() == 1
}

fn larger(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.max(b)),
        (a, b) => a.or(b),
    }
}

/// The elements of floats.
fn elements(tensor: &TensorRef) -> Option<Values> {
    if !matches!(tensor.storage, Storage::F16 | Storage::F32) {
        return None;
    }
    let layout = Layout::of(tensor);
    let size = tensor.storage.size();
    let mut bytes = vec![0; layout.count().checked_mul(size)?];
    layout.read(tensor.bytes, &mut bytes, tensor.storage).ok()?;
    if tensor.storage == Storage::F32 {
        return Some(bytemuck::pod_collect_to_vec(&bytes));
    }
    let halves: Vec<f16> = bytemuck::pod_collect_to_vec(&bytes);
    Some(halves.into_iter().map(f16::to_f32).collect())
}
