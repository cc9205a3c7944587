//! Who is shown what a run computes, and how long it takes.

use std::time::Duration;

use coreml_format::mil::ElementType;
use smallvec::SmallVec;

use super::{Effort, Running};
use crate::graph::Source;
use crate::ids::{Operand, ValueId};
use crate::op::{Frame, Output};
use crate::plan::{Run, Step, Work};
use crate::value::{Storage, TensorMut, TensorRef};

/// Is shown what calls read and compute, step by step. A run without one costs nothing for it.
pub(crate) trait Observer {
    /// An operation is about to read these values, which are no constants. Of a loop or a branch none is
    /// shown, and what is inside it was shown before.
    fn reads(&mut self, _at: &Position, _values: &[TensorRef]) {}

    /// An operation, a loop or a branch has given these results, which are not rounded yet where they
    /// are going to be. Lists and results that are parts of other values are not shown.
    fn gives(&mut self, _at: &Position, _results: &[Shown]) {}

    /// An operation, a loop or a branch has taken so much time, what is inside it included, and what `effort`
    /// tells.
    fn took(&mut self, _at: &Position, _time: Duration, _effort: &dyn Fn() -> Effort) {}
}

/// Where a run is.
pub(crate) struct Position<'a> {
    /// The number of the call.
    pub(crate) call: usize,
    /// The operation, behind the loops and branches that it is in.
    pub(crate) path: &'a [&'a Source],
    /// Whether the results will be rounded to `fp16`, where they are of that type.
    pub(crate) rounds: bool,
    /// Whether it is a loop or a branch, whose blocks may read more values than are shown.
    pub(crate) has_blocks: bool,
}

/// A result.
pub(crate) struct Shown<'a> {
    /// Its name in the program, or that of what it was made from.
    pub(crate) name: &'a str,
    pub(crate) element: ElementType,
    pub(crate) storage: Storage,
    /// The elements in order.
    pub(crate) bytes: &'a [u8],
}

impl Running<'_, '_> {
    fn position(&self, rounds: bool, has_blocks: bool) -> Position<'_> {
        Position { call: self.number, path: &self.path, rounds, has_blocks }
    }

    /// Shows what an operation is about to read.
    pub(super) fn show_reads(&mut self, run: &Run) {
        let Some(observer) = self.observer.take() else { return };
        let values = run.inputs.iter().filter(|operand| matches!(operand, Operand::Value(_)));
        let tensors: Vec<TensorRef> = values.filter_map(|&operand| self.tensor(operand)).collect();
        observer.reads(&self.position(run.rounds, false), &tensors);
        self.observer = Some(observer);
    }

    /// Shows what an operation has given.
    pub(super) fn show_results(&mut self, run: &Run, outputs: &[Output]) {
        let Some(observer) = self.observer.take() else { return };
        let mut shown = Vec::with_capacity(outputs.len());
        for (&id, output) in run.outputs.iter().zip(outputs) {
            if let Output::Tensor(TensorMut { element, storage, bytes }) = output {
                let (element, storage) = (*element, *storage);
                shown.push(Shown { name: &self.plan.values[id].name, element, storage, bytes });
            }
        }
        observer.gives(&self.position(run.rounds, false), &shown);
        self.observer = Some(observer);
    }

    /// Shows how long a step has taken.
    pub(super) fn show_time(&mut self, step: &Step, time: Duration) {
        let Some(observer) = self.observer.take() else { return };
        observer.took(&self.position(false, false), time, &|| self.effort(&step.work));
        self.observer = Some(observer);
    }

    /// Shows what a loop or a branch has given.
    pub(super) fn show_results_of_blocks(&mut self, work: &Work) {
        let results: SmallVec<[ValueId; 4]> = match work {
            _ if self.observer.is_none() => return,
            Work::Run(_) | Work::WriteState { .. } => return,
            Work::While(work) => work.variables.iter().map(|variable| variable.value).collect(),
            Work::Cond(work) => work.outputs.iter().copied().collect(),
        };
        let Some(observer) = self.observer.take() else { return };
        let mut shown = Vec::with_capacity(results.len());
        for id in results {
            if let Some(tensor) = self.tensor(Operand::Value(id)) {
                let TensorRef { element, storage, bytes, .. } = tensor;
                shown.push(Shown { name: &self.plan.values[id].name, element, storage, bytes });
            }
        }
        observer.reads(&self.position(false, true), &[]);
        observer.gives(&self.position(false, true), &shown);
        self.observer = Some(observer);
    }
}
