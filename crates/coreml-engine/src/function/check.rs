//! A call that rounds beside one that does not.

use std::time::Instant;

use coreml_kernels::Context;

use super::{Function, enter};
use crate::cancel::CancelToken;
use crate::check::{Checker, OutputDifference, PrecisionReport, WIDE};
use crate::error::{Error, Result};
use crate::plan::{self, Plan, Precision};
use crate::run::{self, Call};
use crate::value::{Buffer, Shape};

/// The calls: one in `f32`, one that rounds.
const CALLS: usize = 2;

impl Function {
    /// Says what `fp16` does to the function for inputs and states as [`predict`](Self::predict) takes them:
    /// which operations' results overflow, lose their meaning or become NaN, and how far the outputs are
    /// from those of `f32`. The states stay as they are.
    ///
    /// # Errors
    /// When no plan can be made for the shapes, an operation fails, or the call is cancelled.
    pub fn check_precision(
        &self,
        context: &Context,
        shapes: &[Shape],
        inputs: &[&[u8]],
        states: &[Buffer],
        cancel: Option<&CancelToken>,
    ) -> Result<PrecisionReport> {
        let started = Instant::now();
        let plan = self.plan_to_check(context, shapes).map_err(Error::of_these_inputs)?;
        let memory: Result<Vec<_>> = (0..CALLS).map(|_| self.memory_apart(&plan, states)).collect();
        let mut memory = memory?;
        let limits = self.limits;
        let mut calls = Vec::with_capacity(CALLS);
        for (number, (workspace, states)) in memory.iter_mut().enumerate() {
            let wide = number == WIDE;
            calls.push(Call { inputs, shapes, states, workspace, limits, started, cancel, wide });
        }
        let mut checker = Checker::default();
        enter(context, cancel, || run::run(&plan, context, &mut calls, Some(&mut checker)))
            .map_err(|error| self.step_error(error))?;
        let [wide, rounded] = calls.as_mut_slice() else { return Ok(checker.report(Vec::new())) };
        let mut differences = Vec::with_capacity(plan.outputs.len());
        for (name, operand) in &plan.outputs {
            let difference = run::result(&plan, context, rounded, *operand, |rounded| {
                run::result(&plan, context, wide, *operand, |wide| {
                    OutputDifference::new(name, &rounded, &wide)
                })
            });
            differences.extend(difference.flatten());
        }
        Ok(checker.report(differences))
    }

    /// A plan whose results are rounded. Operations on constants run, too, to be seen, unless an operation
    /// needs such a constant when it is planned.
    fn plan_to_check(&self, context: &Context, shapes: &[Shape]) -> Result<Plan> {
        let shapes: Vec<Option<Shape>> = shapes.iter().cloned().map(Some).collect();
        let plan = |folds_halves| {
            let options =
                plan::Options { precision: Precision::AsDeclared, folds_halves, ..self.options };
            plan::build(&self.name, self.program()?, &shapes, &self.weights, context, options)
        };
        plan(false).or_else(|_| plan(true))
    }
}
