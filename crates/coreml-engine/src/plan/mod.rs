//! Plans: a function of a program made ready to run.
//!
//! Passes, each in its file: [`bind`] makes a graph of the function and [`fold`]s what is constant,
//! [`sixteen_bits`] keeps integers that a converter narrows to move them,
//! [`rewrite`] replaces patterns by what computes the same faster, [`rounding`] marks where results are
//! rounded to `fp16`, [`legalise`] decides how values are held and which are views, [`states`] lets states be updated in place, [`memory`] gives values
//! their places, and [`prepare`] makes kernels. The executor only follows.

pub(crate) mod bind;
#[cfg(test)]
mod equivalence;
mod fold;
mod legalise;
mod memory;
mod prepare;
#[cfg(test)]
mod random;
pub(crate) mod rewrite;
mod rounding;
mod sixteen_bits;
mod states;

use std::sync::Arc;

use coreml_format::mil::{ElementType, Function, TensorType};
use coreml_kernels::Context;
use smallvec::SmallVec;

use crate::error::Result;
use crate::graph::{self, Graph, Source, StateType};
use crate::ids::{
    BufferId, Buffers, Constants, ListId, Lists, OpenId, Opens, Operand, StateId, States, ValueId,
    Values,
};
use crate::op::{Kernel, Op};
use crate::value::{Constant, Shape, Storage, Strides};
use crate::weights::Weights;

pub(crate) use self::memory::arena_bytes;
pub use self::rewrite::Rewrites;
pub use self::rounding::Precision;

/// A function, ready to run. Immutable: runs share it.
pub(crate) struct Plan {
    pub(crate) outputs: Vec<(String, Operand)>,
    pub(crate) states: States<StateType>,
    pub(crate) values: Values<PlanValue>,
    pub(crate) constants: Constants<Constant>,
    pub(crate) body: Block,
    /// Size in bytes of each buffer of the arena.
    pub(crate) buffers: Buffers<usize>,
    /// Values whose shapes are found at run time.
    pub(crate) opens: Opens<OpenValue>,
    /// Element type and storage of each list.
    pub(crate) lists: Lists<(ElementType, Storage)>,
    /// How many steps get their kernels at run time.
    pub(crate) open_steps: usize,
    /// Bytes of all constants.
    pub(crate) weight_bytes: usize,
    pub(crate) weights: Arc<Weights>,
}

/// A value of a plan.
pub(crate) struct PlanValue {
    /// Its name in the program, or that of what it was made from.
    pub(crate) name: String,
    pub(crate) element: ElementType,
    pub(crate) storage: Storage,
    /// `None` when it is found at run time.
    pub(crate) shape: Option<Shape>,
    /// What the program says of the shape.
    pub(crate) declared: Option<TensorType>,
    /// Strides, if the elements do not lie in order without gaps.
    pub(crate) strides: Option<Strides>,
    /// Place of the first element of a strided value among those of its place.
    pub(crate) start: usize,
    pub(crate) place: Place,
}

/// Where a value's bytes are; offsets and lengths in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A part of an arena buffer.
    Arena { buffer: BufferId, offset: usize, len: usize },
    /// A part of an input; all of it if its length is not known.
    Input { input: usize, offset: usize, len: Option<usize> },
    /// A part of a state.
    State { state: StateId, offset: usize, len: usize },
    /// Found at run time.
    Open(OpenId),
    /// A list.
    List(ListId),
    /// Nothing reads it.
    Nowhere,
}

/// A value whose shape is found at run time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenValue {
    /// The buffer that it has unless it is a view; it grows as needed.
    pub(crate) buffer: Option<BufferId>,
    /// The value that it may turn out to be a part of.
    pub(crate) of: Option<ValueId>,
}

/// Steps with the values that they leave for whoever runs them.
pub(crate) struct Block {
    pub(crate) steps: Vec<Step>,
    pub(crate) results: Vec<Operand>,
}

/// One thing to do.
pub(crate) struct Step {
    /// The operation that it comes from.
    pub(crate) source: Source,
    pub(crate) work: Work,
}

/// What a step does.
pub(crate) enum Work {
    /// Runs an operation.
    Run(Run),
    /// Copies a value into a state.
    WriteState { state: StateId, data: Operand },
    /// `while_loop`.
    While(Box<While>),
    /// `cond`.
    Cond(Box<Cond>),
}

/// An operation with its operands.
pub(crate) struct Run {
    pub(crate) op: Box<dyn Op>,
    pub(crate) inputs: Vec<Operand>,
    pub(crate) outputs: SmallVec<[ValueId; 1]>,
    pub(crate) in_place: Option<usize>,
    /// Whether results of `fp16` are rounded to that type.
    pub(crate) rounds: bool,
    pub(crate) kernel: Prepared,
}

/// What runs for an operation.
pub(crate) enum Prepared {
    /// This.
    Kernel(Kernel),
    /// What a run makes for the shapes that it finds; the number says which it is in a workspace.
    AtRun(usize),
}

/// A loop: while the condition block gives true, the body gives the next values of the variables.
pub(crate) struct While {
    pub(crate) variables: Vec<graph::LoopVariable>,
    pub(crate) condition: Block,
    pub(crate) body: Block,
}

/// A branch on a bool.
pub(crate) struct Cond {
    pub(crate) predicate: Operand,
    /// The blocks for true and false.
    pub(crate) branches: [Block; 2],
    pub(crate) outputs: Vec<ValueId>,
}

/// How a plan is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// Whether values share memory: views, work in place, buffers that serve several values. Without,
    /// every value has memory of its own, and the results are the same, bit for bit: tests compare.
    pub(crate) share: bool,
    /// Which rewrites are made.
    pub(crate) rewrites: Rewrites,
    /// How precise results of `fp16` are.
    pub(crate) precision: Precision,
    /// Whether operations on constants are folded that compute numbers of `fp16`; without, they run and
    /// can be looked at.
    pub(crate) folds_halves: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            share: true,
            rewrites: Rewrites::All,
            precision: Precision::Single,
            folds_halves: true,
        }
    }
}

/// Makes the plan of a function for inputs of these shapes, in the order of the function's tensor
/// inputs; `None` for one whose shape is known only at run time.
pub(crate) fn build(
    name: &str,
    function: &Function,
    shapes: &[Option<Shape>],
    weights: &Arc<Weights>,
    context: &Context,
    options: Options,
) -> Result<Plan> {
    let (mut graph, _) = optimised(name, function, shapes, weights, context, options)?;
    let memory = memory::assign(&mut graph, options.share);
    prepare::prepare(name, function, graph, memory, weights)
}

/// The graph of a function up to where it only lacks memory, and which rewrites were made.
fn optimised(
    name: &str,
    function: &Function,
    shapes: &[Option<Shape>],
    weights: &Weights,
    context: &Context,
    options: Options,
) -> Result<(Graph, rewrite::Counts)> {
    let mut graph = bind::bind(name, function, shapes, weights, context, options)?;
    let mut counts = rewrite::Counts::default();
    sixteen_bits::keep_values(&mut graph, &mut counts);
    rewrite::rewrite(name, &mut graph, options.rewrites, options.precision, &mut counts)?;
    rounding::mark(&mut graph, options.precision);
    legalise::legalise(name, &mut graph, weights, options.share)?;
    states::resolve(&mut graph, options.share);
    Ok((graph, counts))
}

/// A plan as text: its steps, the shapes and places of values, and which rewrites were made.
pub(crate) fn explain(
    name: &str,
    function: &Function,
    shapes: &[Option<Shape>],
    weights: &Weights,
    context: &Context,
    options: Options,
) -> Result<String> {
    let (mut graph, counts) = optimised(name, function, shapes, weights, context, options)?;
    let memory = memory::assign(&mut graph, options.share);
    let outputs = &function.block.outputs;
    let steps = graph::print(&graph, outputs, &|value| memory.describe(value));
    let (buffers, bytes) = (memory.buffers.len(), memory.arena_bytes());
    Ok(format!("function {name}\n{steps}arena: {buffers} buffers, {bytes} bytes\n{counts}"))
}
