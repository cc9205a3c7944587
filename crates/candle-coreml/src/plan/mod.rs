//! Plans: a function of a program made ready to run for given input shapes.
//!
//! [`build`] binds operations, folds constants and infers shapes; [`fuse`] drops what nothing
//! needs and absorbs repetitions; [`memory`] decides which value lives where. The executor only
//! follows.

mod build;
mod constants;
mod control;
mod draft;
#[cfg(test)]
mod equivalence;
mod fuse;
mod memory;
mod operation;
mod states;
mod walk;

pub(crate) use build::build;
pub(crate) use constants::Weights;

use coreml_format::mil::{ElementType, NamedValueType};

use crate::error::{Error, Result};
use crate::ops::{Op, Operand};
use crate::value::{Constant, Shape, Storage};

/// A function, ready to run for fixed input shapes. Immutable: sessions share it.
pub(crate) struct Plan {
    pub(crate) outputs: Vec<(String, Operand)>,
    pub(crate) states: Vec<PlanState>,
    pub(crate) slots: Vec<Slot>,
    pub(crate) constants: Vec<Constant>,
    pub(crate) body: Block,
    /// Size in bytes of each buffer of the arena.
    pub(crate) buffers: Vec<usize>,
    /// How many slots find their size at run time.
    pub(crate) dynamic: usize,
    /// How many slots are lists, with element type and storage.
    pub(crate) lists: Vec<(ElementType, Storage)>,
}

/// A state of the function.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PlanState {
    pub(crate) name: String,
    pub(crate) element: ElementType,
    pub(crate) storage: Storage,
    pub(crate) shape: Shape,
}

impl PlanState {
    /// The state that a parameter of state type declares.
    pub(crate) fn new(function: &str, parameter: &NamedValueType) -> Result<Self> {
        let declared = parameter.ty.as_tensor().and_then(|tensor| {
            Some((tensor.element, Storage::of_state(tensor.element)?, tensor.fixed_shape()?))
        });
        let (element, storage, shape) = declared.ok_or_else(|| Error::Program {
            function: function.to_owned(),
            message: format!(
                "state `{}` has type {}; states need numbers and a fixed shape",
                parameter.name, parameter.ty
            ),
        })?;
        Ok(PlanState { name: parameter.name.clone(), element, storage, shape: shape.into() })
    }
}

/// A value's place.
pub(crate) struct Slot {
    pub(crate) element: ElementType,
    pub(crate) storage: Storage,
    /// `None` when it is found at run time.
    pub(crate) shape: Option<Shape>,
    pub(crate) place: Place,
}

/// Where a slot's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A part of an arena buffer.
    Arena { buffer: usize, offset: usize, len: usize },
    /// A part of an input.
    Input { input: usize, offset: usize, len: usize },
    /// A part of a state.
    State { state: usize, offset: usize, len: usize },
    /// A buffer that grows as needed.
    Dynamic(usize),
    /// A list.
    List(usize),
    /// Nothing reads it.
    Nowhere,
}

/// Steps with the values that they leave for whoever runs them.
#[derive(Default)]
pub(crate) struct Block {
    pub(crate) steps: Vec<Step>,
    pub(crate) results: Vec<Operand>,
}

/// One thing to do.
pub(crate) struct Step {
    /// The operation's name, for messages.
    pub(crate) name: String,
    /// Its operator.
    pub(crate) operator: String,
    pub(crate) work: Work,
}

/// What a step does.
pub(crate) enum Work {
    /// Runs an operation.
    Run(Run),
    /// Marks where a state is read; gone, or a copy, when the plan is done.
    ReadState { state: usize, slot: usize },
    /// Copies a value into a state.
    WriteState { state: usize, data: Operand },
    /// `while_loop`.
    While(Box<While>),
    /// `cond`.
    Cond(Box<Cond>),
}

/// An operation with its operands.
pub(crate) struct Run {
    pub(crate) op: Box<dyn Op>,
    pub(crate) inputs: Vec<Operand>,
    pub(crate) outputs: Vec<usize>,
    /// The input whose buffer the first output takes over.
    pub(crate) in_place: Option<usize>,
}

/// A loop: while the condition block gives true, the body gives the next values of the variables.
pub(crate) struct While {
    pub(crate) variables: Vec<LoopVariable>,
    pub(crate) condition: Block,
    pub(crate) body: Block,
}

/// A variable of a loop.
pub(crate) struct LoopVariable {
    pub(crate) initial: Operand,
    pub(crate) slot: usize,
}

/// A branch on a bool.
pub(crate) struct Cond {
    pub(crate) predicate: Operand,
    /// The blocks for true and false.
    pub(crate) branches: [Block; 2],
    pub(crate) outputs: Vec<usize>,
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use coreml_format::Package;

    use super::*;

    /// Where the constants lie that the steps of a plan read.
    fn addresses(plan: &Plan) -> Vec<*const u8> {
        let constant = |operand: &Operand| match operand {
            Operand::Constant(index) => plan.constants[*index].tensor().map(|t| t.bytes.as_ptr()),
            Operand::Slot(_) => None,
        };
        let inputs = plan.body.steps.iter().flat_map(|step| match &step.work {
            Work::Run(run) => run.inputs.as_slice(),
            _ => &[],
        });
        inputs.filter_map(constant).collect()
    }

    #[test]
    fn constant_expressions_are_computed_once_for_all_plans() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/packages");
        let path = fixtures.join("constexpr_lut_to_sparse_4bit_ios18_fp16.mlpackage");
        let weights = Weights::new(Package::open(path).unwrap());
        let function = &weights.package().program().functions["main"];
        let shape = |input: &NamedValueType| {
            Shape::from(input.ty.as_tensor().and_then(|tensor| tensor.fixed_shape()).unwrap())
        };
        let shapes: Vec<Shape> = function.inputs.iter().map(shape).collect();
        let plans = [(); 2].map(|()| build("main", function, &shapes, &weights, true).unwrap());
        let [first, second] = plans.each_ref().map(addresses);
        assert!(!first.is_empty());
        assert_eq!(first, second);
    }
}
