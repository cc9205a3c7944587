//! What an operation is: how it is bound to its arguments, what it says of itself, and how it runs.
//! The operations themselves are in [`ops`](crate::ops). See `docs/adding-an-op.md`.

mod binder;
mod broadcast;
mod inputs;
mod product;
#[cfg(test)]
pub(crate) mod testing;

#[cfg(test)]
pub(crate) use binder::read_arguments;
pub(crate) use binder::{Binder, Bound, BoundOperation, argument};
pub(crate) use broadcast::{Walk, broadcast, repeated};
pub(crate) use inputs::{Arrangement, Frame, Inputs, Output, Outputs, ResultType};
pub(crate) use product::{Product, weight_matrix};

use std::any::Any;
use std::fmt::Debug;

use coreml_format::mil::{ElementType, Opset};
use coreml_kernels::Context;
use smallvec::SmallVec;

use crate::error::OpError;
use crate::value::{Constant, Layout, Shape, View};
use crate::weights::{Folded, Weights};

/// Types of an operation's results.
pub(crate) type ResultTypes = SmallVec<[ResultType; 1]>;

/// An operation with its arguments parsed: data that can be printed and matched on. Its inputs are
/// numbered in the order in which it asked the [`Binder`] for them.
pub(crate) trait Op: Any + Debug + Send + Sync {
    /// Element types and shapes of the results. [`OpError::NotYetKnown`] (which the accessors of
    /// [`Inputs`] give) means that they depend on a run-time value; the executor asks again then.
    /// Operations whose result is a list give an empty shape for it.
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError>;

    /// What runs at each prediction. All that hangs on shapes and constants is computed here, once;
    /// the kernel reads the elements. All shapes are known, values of inputs need not be.
    fn prepare(&self, inputs: &Inputs, weights: &Weights) -> Result<Kernel, OpError>;

    /// True when the kernel reads this input also where it is held as `F16` (a weight or a state);
    /// otherwise it gets such an input widened to `F32`.
    fn reads_half(&self, _input: usize) -> bool {
        false
    }

    /// True when the kernel reads this input also where its elements are strided; otherwise it gets
    /// them dense.
    fn reads_strided(&self, _input: usize) -> bool {
        false
    }

    /// True when the operation needs this input's shape only, never its elements.
    fn reads_shape_only(&self, _input: usize) -> bool {
        false
    }

    /// True when the kernel reads this constant compressed; otherwise it gets it expanded.
    fn reads_compressed(&self, _input: usize, _constant: &Constant) -> bool {
        false
    }

    /// The input whose storage the results take over: an operation that only moves elements keeps
    /// them as they are held.
    fn keeps_storage_of(&self) -> Option<usize> {
        None
    }

    /// Where result `output` lies in the input whose storage it keeps, when it is a part of that: the
    /// planner then makes it a view, and nothing runs. [`OpError::NotYetKnown`] says that only a run
    /// can tell.
    fn view(&self, _inputs: &Inputs, _output: usize) -> Result<Option<View>, OpError> {
        Ok(None)
    }

    /// What an input's values ask for beyond its axes, where the operation takes them as far as they
    /// reach: why a result may have another size than the program says.
    fn beyond(&self, _inputs: &Inputs) -> Option<String> {
        None
    }

    /// The elements of an input that change when it is computed in its place; all of them unless it says.
    fn overwrites(&self, _inputs: &Inputs) -> Result<Option<Layout>, OpError> {
        Ok(None)
    }

    /// What the operation is on other numbers, if it moves elements and computes nothing of them.
    fn moves(&self) -> Option<Moves> {
        None
    }

    /// Multiplications and additions that the results take, by the shapes, of what computes products; others
    /// take so few that they count as none.
    fn flops(&self, _inputs: &Inputs) -> Result<u64, OpError> {
        Ok(0)
    }

    /// Inputs whose integers say where elements lie.
    fn places(&self) -> SmallVec<[usize; 2]> {
        SmallVec::new()
    }

    /// Whether two runs on the same inputs may give other results, as random numbers do: nothing is
    /// computed ahead then.
    fn varies(&self) -> bool {
        false
    }

    /// Inputs whose buffer the first output may take over when nothing else needs it. The kernel then
    /// finds the input's elements in the output ([`Inputs::is_in_place`]).
    fn in_place(&self) -> &[usize] {
        &[]
    }
}

impl dyn Op {
    /// The operation, if it is one of this kind.
    pub(crate) fn downcast<T: Op>(&self) -> Option<&T> {
        (self as &dyn Any).downcast_ref()
    }
}

/// An operation that moves elements: integers of 16 bits may be wider ones for it.
pub(crate) struct Moves {
    /// The operation on elements of `int32`.
    pub(crate) wide: Box<dyn Op>,
    /// The inputs that the elements of the results come from.
    pub(crate) from: SmallVec<[usize; 2]>,
}

impl Moves {
    /// An operation that is the same for elements of any type.
    pub(crate) fn new(
        op: &(impl Op + Clone),
        from: impl IntoIterator<Item = usize>,
    ) -> Option<Self> {
        Some(Moves { wide: Box::new(op.clone()), from: from.into_iter().collect() })
    }
}

/// What a prediction runs for an operation.
pub(crate) enum Kernel {
    /// Whatever a function does.
    Function(Box<Run>),
    /// A product with weights.
    Product(Product),
}

type Run = dyn Fn(&Inputs, &mut Outputs, &Context) -> Result<(), OpError> + Send + Sync;

impl Kernel {
    /// Computes the results. Nothing here allocates: kernels take memory from the context. For results
    /// without elements nothing runs: an axis beside one of size 0 may have any size, and a loop over
    /// it no end.
    pub(crate) fn run(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        context: &Context,
    ) -> Result<(), OpError> {
        if outputs.are_empty() {
            return Ok(());
        }
        match self {
            Kernel::Function(run) => run(inputs, outputs, context),
            Kernel::Product(product) => product.run(inputs, outputs, context),
        }
    }
}

/// A kernel from the function that it runs.
pub(crate) fn kernel(
    run: impl Fn(&Inputs, &mut Outputs, &Context) -> Result<(), OpError> + Send + Sync + 'static,
) -> Result<Kernel, OpError> {
    Ok(Kernel::Function(Box::new(run)))
}

/// One version of an operator that the engine computes: its name, the first opset that has it, and
/// how to bind it. [`definitions`](crate::definitions) has its arguments.
pub(crate) struct OpDef {
    pub(crate) name: &'static str,
    pub(crate) since: Opset,
    pub(crate) bind: Bind,
}

/// How an operator is bound to its arguments.
#[derive(Clone, Copy)]
pub(crate) enum Bind {
    /// To an operation of the plan.
    Op(fn(&mut Binder) -> Result<Box<dyn Op>, OpError>),
    /// To a constant: the arguments of `constexpr_*` operators are constants, and so are their
    /// results.
    Constant(fn(&Binder) -> Result<Folded, OpError>),
}

/// A row of a family's `OPS` table.
pub(crate) const fn def(
    name: &'static str,
    since: Opset,
    bind: fn(&mut Binder) -> Result<Box<dyn Op>, OpError>,
) -> OpDef {
    OpDef { name, since, bind: Bind::Op(bind) }
}

/// A row for an operator whose results are constants.
pub(crate) const fn constant_def(
    name: &'static str,
    since: Opset,
    bind: fn(&Binder) -> Result<Folded, OpError>,
) -> OpDef {
    OpDef { name, since, bind: Bind::Constant(bind) }
}

/// A bound operation.
pub(crate) fn bound(op: impl Op) -> Result<Box<dyn Op>, OpError> {
    Ok(Box::new(op))
}

/// The multiplications and additions of so many sums of so many products.
pub(crate) fn flops_of(sums: usize, products: usize) -> u64 {
    (sums as u64).saturating_mul(products as u64).saturating_mul(2)
}

/// An axis that may count from the end.
pub(crate) fn axis(axis: i64, rank: usize, argument: &str) -> Result<usize, OpError> {
    let resolved = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
    match usize::try_from(resolved) {
        Ok(resolved) if resolved < rank => Ok(resolved),
        _ => Err(OpError::argument(
            argument,
            format!("an axis of a tensor of rank {rank}"),
            axis.to_string(),
        )),
    }
}

/// Which axes of a tensor of `rank` are among `axes`, which may count from the end; all of them if
/// there is no list. An axis that is named twice is an error.
pub(crate) fn marked_axes(
    axes: Option<&[i64]>,
    rank: usize,
) -> Result<SmallVec<[bool; 8]>, OpError> {
    let mut marked = SmallVec::from_elem(axes.is_none(), rank);
    for &place in axes.unwrap_or_default() {
        let place = axis(place, rank, "axes")?;
        if std::mem::replace(&mut marked[place], true) {
            let got = format!("axis {place} twice");
            return Err(OpError::argument("axes", "axes that differ", got));
        }
    }
    Ok(marked)
}

/// One result of this element type and shape.
pub(crate) fn one(element: ElementType, shape: impl Into<Shape>) -> Result<ResultTypes, OpError> {
    Ok(smallvec::smallvec![ResultType::new(element, shape)])
}
