//! A call that shows what each operation gives.

use std::time::Instant;

use coreml_format::mil::ElementType;
use coreml_kernels::Context;

use super::{Function, enter};
use crate::cancel::CancelToken;
use crate::check::numbers;
use crate::error::{Error, OpError, Result};
use crate::plan::{self, Plan, Rewrites};
use crate::run::{self, Call, Observer, Position, Shown, Workspace};
use crate::value::{Buffer, Shape};

/// What an operation has given, while a function runs.
#[derive(Debug)]
#[non_exhaustive]
pub struct OperationResult<'a> {
    /// The operation's name in the program.
    pub operation: &'a str,
    /// Its operator.
    pub operator: &'a str,
    /// The name of the result.
    pub output: &'a str,
    /// The names of the loops and branches that it is in, from outside.
    pub path: Vec<&'a str>,
    /// The element type that the program states.
    pub element: ElementType,
    /// The elements in order, as the next operation reads them.
    pub values: Vec<f32>,
}

impl Function {
    /// Runs the function for inputs and states as [`predict`](Self::predict) takes them, operation by
    /// operation as the program has them, and calls `read` with what each gives: numbers, those of
    /// integers as the nearest `f32`. Lists and results that are parts of other values are left out. The
    /// states stay as they are.
    ///
    /// # Errors
    /// When no plan can be made for the shapes, an operation fails, or the call is cancelled.
    pub fn observe(
        &self,
        context: &Context,
        shapes: &[Shape],
        inputs: &[&[u8]],
        states: &[Buffer],
        cancel: Option<&CancelToken>,
        read: &mut (dyn FnMut(OperationResult) + Send),
    ) -> Result<()> {
        let started = Instant::now();
        let open: Vec<Option<Shape>> = shapes.iter().cloned().map(Some).collect();
        let options = plan::Options { rewrites: Rewrites::Off, ..self.options };
        let plan = plan::build(&self.name, self.program()?, &open, &self.weights, context, options)
            .map_err(Error::of_these_inputs)?;
        let limits = self.limits;
        let (mut workspace, mut states) = self.memory_apart(&plan, states)?;
        let (states, workspace) = (states.as_mut_slice(), &mut workspace);
        let call = Call { inputs, shapes, states, workspace, limits, started, cancel, wide: false };
        let mut reader = Reader(read);
        enter(context, cancel, || run::run(&plan, context, &mut [call], Some(&mut reader)))
            .map_err(|error| self.step_error(error))
    }

    /// Memory for a call that leaves no trace: a workspace of its own, and copies of the states.
    pub(super) fn memory_apart(
        &self,
        plan: &Plan,
        states: &[Buffer],
    ) -> Result<(Workspace, Vec<Buffer>)> {
        let failed = |source: OpError| Error::Function { function: self.name.clone(), source };
        let workspace = Workspace::new(plan, &self.limits).map_err(failed)?;
        let copies = states.iter().map(|state| Buffer::copy_of(state.bytes()));
        let copies: Result<Vec<Buffer>, _> = copies.collect();
        Ok((workspace, copies.map_err(|error| failed(error.into()))?))
    }
}

/// Hands on what it is shown.
struct Reader<'a>(&'a mut (dyn FnMut(OperationResult) + Send));

impl Observer for Reader<'_> {
    fn gives(&mut self, at: &Position, results: &[Shown]) {
        let Some((source, around)) = at.path.split_last() else { return };
        for result in results {
            (self.0)(OperationResult {
                operation: &source.name,
                operator: &source.operator,
                output: result.name,
                path: around.iter().map(|source| &*source.name).collect(),
                element: result.element,
                values: numbers(result, at.rounds),
            });
        }
    }
}
