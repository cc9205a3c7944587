//! Runs plans. Decides nothing: which value lives where, and what runs in place, the plan says. What
//! it leaves open, shapes that hang on values, is found at each run.
//!
//! A plan runs on several calls at once, step by step: step outer, call inner. Products with weights serve
//! all calls of a step at once; everything else runs once for each.

mod control;
mod effort;
mod frame;
mod journal;
mod observer;
mod open;
mod together;
mod workspace;

use std::time::Instant;

use smallvec::SmallVec;

pub(crate) use self::effort::Effort;
use self::frame::Taken;
pub(crate) use self::observer::{Observer, Position, Shown};
use self::workspace::OpenStep;
pub(crate) use self::workspace::Workspace;
use crate::cancel::CancelToken;
use crate::error::OpError;
use crate::graph::Source;
use crate::ids::{Operand, StateId};
use crate::limits::Limits;
use crate::op::{Inputs, Kernel, Output, Outputs};
use crate::plan::{Place, Plan, Prepared, Run, Step, Work};
use crate::value::{Buffer, Layout, Shape, Storage, TensorRef};
use coreml_kernels::Context;

/// Results of an operation that take no memory to be handed to its kernel; few have more.
const MOST_INLINE: usize = 4;

/// An error of a step, with the operation that it comes from.
#[derive(Debug)]
pub(crate) struct StepError {
    pub(crate) source: Source,
    pub(crate) error: Box<OpError>,
}

impl StepError {
    fn new(step: &Step, error: OpError) -> Self {
        StepError { source: step.source.clone(), error: Box::new(error) }
    }
}

/// One call of a function: its inputs, its states, and the memory that it computes in.
pub(crate) struct Call<'a> {
    /// Bytes of the inputs in the plan's order.
    pub(crate) inputs: &'a [&'a [u8]],
    /// Their shapes.
    pub(crate) shapes: &'a [Shape],
    /// The states that the plan names, in its order.
    pub(crate) states: &'a mut [Buffer],
    pub(crate) workspace: &'a mut Workspace,
    pub(crate) limits: Limits,
    pub(crate) started: Instant,
    pub(crate) cancel: Option<&'a CancelToken>,
    /// Whether results stay as they are computed, also those that the plan rounds.
    pub(crate) wide: bool,
}

/// Runs a plan on some calls, for an observer to see if there is one. When it fails, the states of all of
/// them are as they were before.
pub(crate) fn run(
    plan: &Plan,
    context: &Context,
    calls: &mut [Call],
    observer: Option<&mut dyn Observer>,
) -> Result<(), StepError> {
    for call in &mut *calls {
        call.workspace.journal.clear(call.states.len());
    }
    let ran = run_steps(plan, context, calls, observer);
    if ran.is_err() {
        calls.iter_mut().for_each(undo);
    }
    ran
}

fn run_steps(
    plan: &Plan,
    context: &Context,
    calls: &mut [Call],
    mut observer: Option<&mut dyn Observer>,
) -> Result<(), StepError> {
    for step in &plan.body.steps {
        if observer.is_none() && calls.len() > 1 {
            together::step(plan, context, calls, step)?;
            continue;
        }
        for (number, call) in calls.iter_mut().enumerate() {
            let mut running = Running::new(plan, context, call);
            if let Some(observer) = &mut observer {
                running.observer = Some(&mut **observer);
                running.number = number;
            }
            running.may_go_on().map_err(|error| StepError::new(step, error))?;
            running.step(step)?;
        }
    }
    Ok(())
}

/// Gives a call that was run its states as they were before.
pub(crate) fn undo(call: &mut Call) {
    call.workspace.journal.restore(call.states);
}

/// Calls `read` with a result of a call that was run, if it is a tensor.
pub(crate) fn result<R>(
    plan: &Plan,
    context: &Context,
    call: &mut Call,
    operand: Operand,
    read: impl FnOnce(TensorRef) -> R,
) -> Option<R> {
    use crate::op::Frame;
    Running::new(plan, context, call).tensor(operand).map(read)
}

/// A plan with all that a run of it touches.
struct Running<'a, 'c> {
    plan: &'a Plan,
    context: &'a Context,
    call: &'a mut Call<'c>,
    observer: Option<&'a mut dyn Observer>,
    /// The number of the call.
    number: usize,
    /// The step that runs, behind those that it is in.
    path: SmallVec<[&'a Source; MOST_INLINE]>,
}

impl<'a, 'c> Running<'a, 'c> {
    fn new(plan: &'a Plan, context: &'a Context, call: &'a mut Call<'c>) -> Self {
        Running { plan, context, call, observer: None, number: 0, path: SmallVec::new() }
    }
}

impl<'a> Running<'a, '_> {
    fn steps(&mut self, steps: &'a [Step]) -> Result<(), StepError> {
        for step in steps {
            self.step(step)?;
        }
        Ok(())
    }

    fn step(&mut self, step: &'a Step) -> Result<(), StepError> {
        let named = |error| StepError::new(step, error);
        self.path.push(&step.source);
        let began = self.observer.is_some().then(Instant::now);
        match &step.work {
            Work::Run(run) => self.operation(run).map_err(named),
            Work::WriteState { state, data } => self.write_state(*state, *data).map_err(named),
            Work::While(work) => self.while_loop(work, &named),
            Work::Cond(work) => self.cond(work, &named),
        }?;
        self.show_results_of_blocks(&step.work);
        if let Some(began) = began {
            self.show_time(step, began.elapsed());
        }
        self.path.pop();
        Ok(())
    }

    /// Fails if the call was cancelled or has taken too long.
    fn may_go_on(&self) -> Result<(), OpError> {
        if self.call.cancel.is_some_and(CancelToken::is_cancelled) {
            return Err(OpError::Cancelled);
        }
        self.call.limits.check_time(self.call.started)
    }

    /// Fails if the call would hold too much with so many bytes more.
    fn has_room(&self, more: usize) -> Result<(), OpError> {
        match self.call.limits.memory {
            None => Ok(()),
            Some(_) => {
                self.call.limits.check_memory(self.call.workspace.held().saturating_add(more))
            }
        }
    }

    fn operation(&mut self, run: &'a Run) -> Result<(), OpError> {
        let ready = self.ready(run)?;
        if let Some(kernel) = ready.kernel() {
            self.compute(run, ready.shapes(), |inputs, outputs, context| {
                kernel.run(inputs, outputs, context)
            })?;
        }
        self.put_back(run, ready);
        Ok(())
    }

    /// What an operation runs for the inputs that it has now.
    fn ready(&mut self, run: &'a Run) -> Result<Ready<'a>, OpError> {
        match &run.kernel {
            Prepared::Kernel(kernel) => Ok(Ready::Planned(kernel)),
            Prepared::AtRun(slot) => Ok(Ready::Found(self.open_step(run, *slot)?)),
        }
    }

    /// Keeps what was found out for the next run.
    fn put_back(&mut self, run: &Run, ready: Ready) {
        if let (Prepared::AtRun(slot), Ready::Found(step)) = (&run.kernel, ready) {
            self.call.workspace.steps[*slot] = step;
        }
    }

    /// Lets `kernel` compute the results; `shapes` are those of results whose shapes the plan does not know.
    fn compute(
        &mut self,
        run: &'a Run,
        shapes: Option<&[Shape]>,
        kernel: impl FnOnce(&Inputs, &mut Outputs, &Context) -> Result<(), OpError>,
    ) -> Result<(), OpError> {
        self.show_reads(run);
        self.keep_old(run)?;
        let mut taken: SmallVec<[Taken<'a>; MOST_INLINE]> = SmallVec::new();
        for (index, &output) in run.outputs.iter().enumerate() {
            let shape = shapes.and_then(|shapes| shapes.get(index)).cloned();
            taken.push(self.take(output, shape)?);
        }
        let result = {
            let mut outputs: SmallVec<[Output; MOST_INLINE]> =
                taken.iter_mut().map(Taken::output).collect();
            let inputs = Inputs::new(&run.inputs, self).with_in_place(run.in_place);
            let ran = kernel(&inputs, &mut Outputs(&mut outputs), self.context);
            if ran.is_ok() {
                self.show_results(run, &outputs);
            }
            if run.rounds && !self.call.wide {
                outputs.iter_mut().for_each(|output| output.round_halves(self.context));
            }
            ran
        };
        taken.into_iter().for_each(|taken| self.give_back(taken));
        result?;
        let lists = run.outputs.iter().any(|&output| self.is_list(output));
        if lists { self.has_room(0) } else { Ok(()) }
    }

    /// Keeps what an operation overwrites of states.
    fn keep_old(&mut self, run: &Run) -> Result<(), OpError> {
        for &output in &run.outputs {
            let value = &self.plan.values[output];
            let Place::State { state, .. } = value.place else { continue };
            let part = run.op.overwrites(&Inputs::new(&run.inputs, self))?;
            let call = &mut *self.call;
            let content = &call.states[state.index()];
            call.workspace.journal.keep(state, content, part, value.storage)?;
        }
        Ok(())
    }

    fn write_state(&mut self, state: StateId, data: Operand) -> Result<(), OpError> {
        use crate::op::Frame;
        let declared = &self.plan.states[state];
        if self.tensor(data).is_some() {
            let call = &mut *self.call;
            let content = &call.states[state.index()];
            call.workspace.journal.keep(state, content, None, declared.storage)?;
        }
        let mut buffer = std::mem::take(&mut self.call.states[state.index()]);
        let result = match self.tensor(data) {
            // The state's own content, unchanged.
            None => Ok(()),
            Some(tensor) if tensor.shape != &declared.shape[..] => Err(OpError::argument(
                "data",
                format!("shape {:?}", declared.shape.as_slice()),
                format!("{:?}", tensor.shape),
            )),
            Some(tensor) if tensor.storage == declared.storage => {
                Layout::of(&tensor).read(tensor.bytes, buffer.bytes_mut(), tensor.storage)
            }
            Some(tensor) => self.narrow(&tensor, &mut buffer),
        };
        self.call.states[state.index()] = buffer;
        result
    }

    /// Stores floats in a state of halves.
    fn narrow(&self, tensor: &TensorRef, state: &mut Buffer) -> Result<(), OpError> {
        let floats = tensor.slice::<f32>()?;
        let halves = bytemuck::try_cast_slice_mut(state.bytes_mut())
            .map_err(|error| OpError::invalid(error.to_string()))?;
        Ok(coreml_kernels::convert::f32_to_f16(self.context, floats, halves)?)
    }
}

/// What runs for an operation.
#[expect(clippy::large_enum_variant, reason = "a box would ask for memory at each run of a step")]
enum Ready<'a> {
    /// What the plan has.
    Planned(&'a Kernel),
    /// What was found for the shapes of a call.
    Found(OpenStep),
}

impl Ready<'_> {
    /// None when all results are views.
    fn kernel(&self) -> Option<&Kernel> {
        match self {
            Ready::Planned(kernel) => Some(kernel),
            Ready::Found(step) => step.kernel.as_ref(),
        }
    }

    /// The results' shapes where the plan does not know them.
    fn shapes(&self) -> Option<&[Shape]> {
        match self {
            Ready::Planned(_) => None,
            Ready::Found(step) => Some(&step.outputs),
        }
    }
}

/// Bytes that a tensor takes.
fn byte_len(storage: Storage, shape: &[usize]) -> Result<usize, OpError> {
    storage
        .byte_len(shape)
        .ok_or_else(|| OpError::invalid(format!("a result of shape {shape:?} is too large")))
}
