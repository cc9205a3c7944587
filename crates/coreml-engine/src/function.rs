//! A function that the engine runs: its plans and the workspaces that they run in.

mod check;
mod classifier;
mod input;
mod meeting;
mod observe;
mod plans;

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use coreml_format::description::FunctionDescription;
use coreml_format::mil::{self, ValueType};
use coreml_kernels::Context;

pub use self::classifier::Classifier;
pub use self::input::FunctionInput;
pub use self::meeting::Participant;
use self::meeting::{Meeting, Outcome, Request};
pub use self::observe::OperationResult;
use self::plans::{Choice, Plans};
use crate::cancel::CancelToken;
use crate::error::{Error, OperationError, Result};
use crate::graph::StateType;
use crate::limits::Limits;
use crate::plan::{self, Plan};
use crate::profile::Profiler;
use crate::run::{self, Call, Observer, StepError, Workspace};
use crate::value::{Buffer, Shape, TensorRef};
use crate::weights::Weights;

/// Workspaces of one plan that are kept for the next calls.
const MOST_IDLE: usize = 8;

/// Weights of plans that run on the calling thread, from where only large kernels go to others: to
/// wake a thread of the pool takes longer than such a plan gains there.
const FEW_WEIGHT_BYTES: usize = 4 << 20;

/// A function with what was prepared of it. Several threads may run it at once.
pub struct Function {
    name: String,
    weights: Arc<Weights>,
    options: plan::Options,
    limits: Limits,
    inputs: Vec<FunctionInput>,
    states: Vec<StateType>,
    outputs: Vec<String>,
    classifier: Option<Classifier>,
    plans: Mutex<Plans<Arc<Prepared>>>,
    /// Held by the call that makes a plan.
    planning: Mutex<()>,
    profiler: Option<Profiler>,
}

/// A plan with the workspaces that no call uses just now.
struct Prepared {
    plan: Plan,
    idle: Mutex<Vec<Workspace>>,
    meeting: Meeting,
}

/// What else a call is made with.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct CallOptions<'a> {
    /// What ends it from elsewhere.
    pub cancel: Option<&'a CancelToken>,
    /// In whose name it is made, if it is to run together with calls of others.
    pub participant: Option<&'a Participant>,
}

impl<'a> CallOptions<'a> {
    /// A call that this token ends.
    pub fn cancel(self, cancel: Option<&'a CancelToken>) -> Self {
        CallOptions { cancel, ..self }
    }

    /// A call in the name of this participant.
    pub fn participant(self, participant: Option<&'a Participant>) -> Self {
        CallOptions { participant, ..self }
    }
}

impl Function {
    /// Prepares a function for its default input shapes, where the model states them.
    pub(crate) fn new(
        name: &str,
        function: &mil::Function,
        description: Option<&FunctionDescription>,
        weights: Arc<Weights>,
        context: &Context,
        options: plan::Options,
        limits: Limits,
    ) -> Result<Self> {
        let mut inputs = Vec::new();
        let mut states = Vec::new();
        for input in &function.inputs {
            match &input.ty {
                ValueType::State(_) => states.push(StateType::new(name, input)?),
                ty => inputs.push(FunctionInput::new(name, &input.name, ty, description)?),
            }
        }
        let flexible = inputs.iter().any(|input| input.ty.fixed_shape().is_none());
        let prepared = Function {
            name: name.to_owned(),
            weights,
            options,
            limits,
            inputs,
            states,
            outputs: function.block.outputs.clone(),
            classifier: Classifier::of(function),
            plans: Mutex::new(Plans::new(flexible)),
            planning: Mutex::default(),
            profiler: None,
        };
        prepared.prepare_defaults(context)?;
        Ok(prepared)
    }

    /// Lets a profiler collect what its calls take.
    pub(crate) fn with_profiler(self, profiler: Option<Profiler>) -> Self {
        Function { profiler, ..self }
    }

    /// Makes a plan for the default shapes, where the model states them. A function of flexible shapes
    /// whose default ones can't run is planned for any instead: others may run.
    fn prepare_defaults(&self, context: &Context) -> Result<()> {
        let Some(shapes) = self.default_shapes() else { return Ok(()) };
        let Err(error) = self.prepared(context, &shapes) else { return Ok(()) };
        if self.inputs.iter().all(|input| input.ty.fixed_shape().is_some()) {
            return Err(error);
        }
        tracing::debug!(function = self.name, %error, "the default shapes can't run");
        let free = self.build(context, &self.open_shapes()).map_err(|_| error)?;
        self.plans().set_free(free);
        Ok(())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The tensor inputs, in the program's order.
    pub fn inputs(&self) -> &[FunctionInput] {
        &self.inputs
    }

    /// The states that the function declares, in the program's order.
    pub fn states(&self) -> &[StateType] {
        &self.states
    }

    /// Names of the outputs, in the program's order.
    pub fn outputs(&self) -> &[String] {
        &self.outputs
    }

    /// How the outputs of a classifier are to be read.
    pub fn classifier(&self) -> Option<&Classifier> {
        self.classifier.as_ref()
    }

    /// The shapes that it is prepared for when it is loaded, if the model states them.
    pub fn default_shapes(&self) -> Option<Vec<Shape>> {
        self.inputs.iter().map(FunctionInput::default_shape).collect()
    }

    /// How many plans were made for it so far.
    pub fn plans_made(&self) -> usize {
        self.plans().made()
    }

    /// Runs the function on `inputs`, bytes of dense tensors held as [`inputs`](Self::inputs) say,
    /// with these shapes; then calls `read` with the number and the elements of every output. `states`
    /// are those of [`states`](Self::states); after an error, or when `read` breaks off, they are as they
    /// were. `context` has the threads to run on: those of the
    /// [model](crate::Model::context), or of a share of it.
    ///
    /// # Errors
    /// When no plan can be made for the shapes, an operation fails, or the call is cancelled.
    pub fn predict(
        &self,
        context: &Context,
        shapes: &[Shape],
        inputs: &[&[u8]],
        states: &mut [Buffer],
        options: CallOptions,
        mut read: impl FnMut(usize, &TensorRef) -> ControlFlow<()>,
    ) -> Result<()> {
        let started = Instant::now();
        let prepared = self.prepared(context, shapes).map_err(Error::of_these_inputs)?;
        let plan = &prepared.plan;
        let mut workspace = prepared
            .workspace(&self.limits)
            .map_err(|error| Error::Function { function: self.name.clone(), source: error })?;
        let CallOptions { cancel, participant } = options;
        let limits = self.limits;
        let mut call = Call {
            inputs,
            shapes,
            states,
            workspace: &mut workspace,
            limits,
            started,
            cancel,
            wide: false,
        };
        let is_large = plan.weight_bytes >= FEW_WEIGHT_BYTES && self.profiler.is_none();
        let together =
            participant.filter(|participant| is_large && prepared.meeting.has_others(participant));
        let ran = match together {
            Some(participant) => self.run_with_others(&prepared, context, participant, &mut call),
            None => Ok(false),
        };
        let mut result = match ran {
            Ok(true) => Ok(()),
            Ok(false) => self.run(plan, context, &mut call).map_err(|error| self.step_error(error)),
            Err(error) => Err(error),
        };
        for (number, (name, operand)) in plan.outputs.iter().enumerate() {
            if result.is_err() {
                break;
            }
            let found =
                run::result(plan, context, &mut call, *operand, |tensor| read(number, &tensor));
            match found {
                Some(ControlFlow::Continue(())) => continue,
                Some(ControlFlow::Break(())) => {}
                None => result = Err(self.program_error(format!("output `{name}` is no tensor"))),
            }
            run::undo(&mut call);
            break;
        }
        prepared.give_back(workspace);
        result
    }

    /// Runs a call together with those of others that come at the same time; gives whether it did. If not, as
    /// where one of them fails, the call is as it was, to be made alone.
    fn run_with_others(
        &self,
        prepared: &Prepared,
        context: &Context,
        participant: &Participant,
        call: &mut Call,
    ) -> Result<bool> {
        let Ok(request) = Request::new(participant, call) else { return Ok(false) };
        let is_cancelled = || call.cancel.is_some_and(CancelToken::is_cancelled);
        let request = prepared.meeting.run(request, is_cancelled, |requests| {
            self.run_all(&prepared.plan, context, requests);
        });
        let outcome = request.outcome;
        request.give_back(call);
        match outcome {
            Outcome::Ran => Ok(true),
            Outcome::Untouched => Ok(false),
            Outcome::Broken => {
                let message = "the thread that ran it together with other calls broke down; begin anew \
                               with a new state";
                Err(self.program_error(message.to_owned()))
            }
        }
    }

    /// Runs all calls at once, if all of them can be run.
    fn run_all(&self, plan: &Plan, context: &Context, requests: &mut [Request]) {
        let inputs: Vec<Vec<Buffer>> =
            requests.iter_mut().map(|request| std::mem::take(&mut request.inputs)).collect();
        let inputs: Vec<Vec<&[u8]>> =
            inputs.iter().map(|inputs| inputs.iter().map(Buffer::bytes).collect()).collect();
        let mut calls = Vec::with_capacity(requests.len());
        requests.iter_mut().for_each(|request| request.outcome = Outcome::Broken);
        for (request, inputs) in requests.iter_mut().zip(&inputs) {
            let Request { shapes, states, workspace, started, .. } = request;
            let (limits, started, cancel, wide) = (self.limits, *started, None, false);
            calls.push(Call { inputs, shapes, states, workspace, limits, started, cancel, wide });
        }
        let ran = context.workers().enter(|| run::run(plan, context, &mut calls, None));
        drop(calls);
        let outcome = if ran.is_ok() { Outcome::Ran } else { Outcome::Untouched };
        requests.iter_mut().for_each(|request| request.outcome = outcome);
    }

    /// Runs a plan on a call, and lets the profiler have what that takes, if there is one.
    fn run(&self, plan: &Plan, context: &Context, call: &mut Call) -> Result<(), StepError> {
        let profiler = self.profiler.as_ref();
        let mut stopwatch = profiler.and_then(Profiler::stopwatch);
        // A small call takes not much longer than looking at the clock.
        let began = stopwatch.as_ref().map(|_| Instant::now());
        let cancel = call.cancel;
        let mut run = || {
            let observer = stopwatch.as_mut().map(|stopwatch| stopwatch as &mut dyn Observer);
            run::run(plan, context, std::slice::from_mut(call), observer)
        };
        let ran = match plan.weight_bytes < FEW_WEIGHT_BYTES {
            true => run(),
            false => enter(context, cancel, run),
        };
        if let (Some(profiler), Some(stopwatch), Some(began)) = (profiler, stopwatch, began) {
            profiler.add(&self.name, stopwatch, began.elapsed());
        }
        ran
    }

    /// The plan for inputs of these shapes as text: steps, shapes, places, rewrites.
    ///
    /// # Errors
    /// When no plan can be made for them.
    pub fn explain(&self, context: &Context, shapes: &[Shape]) -> Result<String> {
        let shapes: Vec<Option<Shape>> = shapes.iter().cloned().map(Some).collect();
        let options = self.options;
        plan::explain(&self.name, self.program()?, &shapes, &self.weights, context, options)
    }

    fn program(&self) -> Result<&mil::Function> {
        let functions = &self.weights.program().functions;
        functions.get(&self.name).ok_or_else(|| Error::UnknownFunction {
            name: self.name.clone(),
            available: functions.keys().cloned().collect(),
        })
    }

    fn build(&self, context: &Context, shapes: &[Option<Shape>]) -> Result<Arc<Prepared>> {
        let options = self.options;
        let plan =
            plan::build(&self.name, self.program()?, shapes, &self.weights, context, options)?;
        tracing::debug!(
            function = self.name,
            ?shapes,
            steps = plan.body.steps.len(),
            buffers = plan.buffers.len(),
            arena_bytes = plan::arena_bytes(&plan.buffers),
            "planned"
        );
        Ok(Arc::new(Prepared { plan, idle: Mutex::default(), meeting: Meeting::default() }))
    }

    /// A plan that serves these input shapes.
    fn prepared(&self, context: &Context, shapes: &[Shape]) -> Result<Arc<Prepared>> {
        let choice = {
            let mut plans = self.plans();
            plans.note(shapes);
            plans.choose(shapes)
        };
        if let Choice::Have(prepared) = choice {
            return Ok(prepared);
        }
        // One call plans while others wait: they may need the same plan.
        let _planning = self.planning.lock().unwrap_or_else(PoisonError::into_inner);
        let choice = self.plans().choose(shapes);
        match choice {
            Choice::Have(prepared) => return Ok(prepared),
            Choice::MakeFixed => {}
            Choice::MakeFree => match self.build(context, &self.open_shapes()) {
                Ok(built) => return Ok(self.plans().set_free(built)),
                Err(error) => {
                    tracing::debug!(function = self.name, %error, "no plan for any shape");
                    self.plans().no_free();
                }
            },
        }
        let fixed: Vec<Option<Shape>> = shapes.iter().cloned().map(Some).collect();
        let built = self.build(context, &fixed)?;
        Ok(self.plans().add_fixed(shapes, built))
    }

    fn plans(&self) -> MutexGuard<'_, Plans<Arc<Prepared>>> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The shapes of the inputs, without those that are flexible.
    fn open_shapes(&self) -> Vec<Option<Shape>> {
        self.inputs.iter().map(|input| input.ty.fixed_shape().map(Shape::from)).collect()
    }

    fn program_error(&self, message: String) -> Error {
        Error::Program { function: self.name.clone(), message }
    }

    fn step_error(&self, error: StepError) -> Error {
        Error::Run(Box::new(OperationError {
            function: self.name.clone(),
            operation: error.source.name,
            operator: error.source.operator,
            source: *error.error,
        }))
    }
}

/// Runs a call on the threads of the pool. A token that asks something on this thread does so meanwhile.
fn enter<R: Send>(
    context: &Context,
    cancel: Option<&CancelToken>,
    call: impl FnOnce() -> R + Send,
) -> R {
    let asking = cancel.and_then(|token| Some((token, token.asks_every()?)));
    match asking {
        None => context.workers().enter(call),
        Some((token, every)) => context.workers().enter_beside(call, every, || token.ask()),
    }
}

impl Prepared {
    fn workspace(&self, limits: &Limits) -> Result<Workspace, crate::error::OpError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.map_or_else(|| Workspace::new(&self.plan, limits), Ok)
    }

    fn give_back(&self, workspace: Workspace) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MOST_IDLE {
            idle.push(workspace);
        }
    }
}
