//! The graph of a function: what is computed from what, before anything is decided on memory. The
//! passes of [`plan`](crate::plan) make it, change it and turn it into a plan.

mod print;
mod walk;

use coreml_format::mil::{ElementType, TensorType};
use smallvec::SmallVec;

pub(crate) use self::print::{operator, print};
pub(crate) use self::walk::{Access, Timeline, for_each_node, for_each_read, nested, nested_mut};
use crate::ids::{ConstantId, Constants, Operand, StateId, States, ValueId, Values};
use crate::op::{Arrangement, Frame, Op};
use crate::value::{Constant, ListValue, Shape, Storage, TensorRef, View};

/// A function as a graph.
#[derive(Default)]
pub(crate) struct Graph {
    pub(crate) values: Values<Value>,
    pub(crate) constants: Constants<Constant>,
    pub(crate) states: States<StateType>,
    pub(crate) body: Block,
}

/// A value of a graph.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    /// Its name in the program, or that of what it was made from.
    pub(crate) name: String,
    pub(crate) element: ElementType,
    pub(crate) storage: Storage,
    /// `None` when it is found at run time.
    pub(crate) shape: Option<Shape>,
    /// What the program says of the shape.
    pub(crate) declared: Option<TensorType>,
    pub(crate) origin: Origin,
}

/// Where a value's elements come from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Origin {
    /// They have memory of their own.
    Own,
    /// They are a part of another value's.
    View {
        of: ValueId,
        view: View,
        /// Whether they lie in order without gaps.
        dense: bool,
    },
    /// Each run finds out whether they are a part of another value's or have memory of their own.
    Open { of: ValueId },
    /// A function's input, by its position.
    Input(usize),
    /// The content of a state.
    State(StateId),
    /// A list.
    List,
}

/// A state of the function.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct StateType {
    /// Its name.
    pub name: String,
    /// What its elements mean.
    pub element: ElementType,
    /// How they are held.
    pub storage: Storage,
    /// Its shape.
    pub shape: Shape,
}

impl StateType {
    /// States of this name, element type and shape; `None` of elements that no state has.
    pub fn of(name: impl Into<String>, element: ElementType, shape: &[usize]) -> Option<Self> {
        let storage = Storage::of_state(element)?;
        Some(StateType { name: name.into(), element, storage, shape: shape.into() })
    }
}

/// Nodes with the values that they leave for whoever runs them.
#[derive(Default)]
pub(crate) struct Block {
    pub(crate) nodes: Vec<Node>,
    pub(crate) results: Vec<Operand>,
}

/// One thing to do.
pub(crate) struct Node {
    /// The operation that it comes from, for messages and profiles.
    pub(crate) source: Source,
    pub(crate) work: Work,
}

/// An operation of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) operator: String,
}

/// What a node does.
pub(crate) enum Work {
    /// Runs an operation.
    Run(Run),
    /// Reads a state's content.
    ReadState { state: StateId, value: ValueId },
    /// Replaces a state's content.
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
    /// The input whose buffer the first output takes over.
    pub(crate) in_place: Option<usize>,
    /// Whether results of `fp16` are rounded to that type.
    pub(crate) rounds: bool,
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
    pub(crate) value: ValueId,
}

/// A branch on a bool.
pub(crate) struct Cond {
    pub(crate) predicate: Operand,
    /// The blocks for true and false.
    pub(crate) branches: [Block; 2],
    pub(crate) outputs: Vec<ValueId>,
}

impl Run {
    /// A node's work, not in place.
    pub(crate) fn new(
        op: Box<dyn Op>,
        inputs: Vec<Operand>,
        outputs: impl IntoIterator<Item = ValueId>,
    ) -> Self {
        let outputs = outputs.into_iter().collect();
        Run { op, inputs, outputs, in_place: None, rounds: false }
    }
}

impl Node {
    /// The operation that the node runs, if it runs one.
    pub(crate) fn run(&self) -> Option<&Run> {
        match &self.work {
            Work::Run(run) => Some(run),
            _ => None,
        }
    }
}

impl Value {
    /// The sizes of the axes, as far as they are known; `None` when not even their number is.
    pub(crate) fn dimensions(&self) -> Option<SmallVec<[Option<usize>; 6]>> {
        use coreml_format::mil::Dimension;
        if let Some(shape) = &self.shape {
            return Some(shape.iter().map(|&size| Some(size)).collect());
        }
        let declared = &self.declared.as_ref()?.shape;
        if declared.contains(&Dimension::Variadic) {
            return None;
        }
        let size = |dimension: &Dimension| match dimension {
            Dimension::Fixed(size) => Some(*size),
            Dimension::Unknown | Dimension::Variadic => None,
        };
        Some(declared.iter().map(size).collect())
    }
}

impl Graph {
    pub(crate) fn add_constant(&mut self, constant: Constant) -> Operand {
        Operand::Constant(self.constants.add(constant))
    }

    /// The sizes of an operand's axes, as [`Value::dimensions`] has them.
    pub(crate) fn dimensions(&self, operand: Operand) -> Option<SmallVec<[Option<usize>; 6]>> {
        match operand {
            Operand::Value(id) => self.values[id].dimensions(),
            Operand::Constant(id) => {
                Some(self.constants[id].shape.iter().map(|&size| Some(size)).collect())
            }
        }
    }

    /// The constant of this id.
    pub(crate) fn constant_of(&self, id: ConstantId) -> &Constant {
        &self.constants[id]
    }

    /// The value that holds a value's elements.
    pub(crate) fn root(&self, value: ValueId) -> ValueId {
        let mut root = value;
        while let Origin::View { of, .. } | Origin::Open { of } = self.values[root].origin {
            root = of;
        }
        root
    }

    /// The value that holds a value's elements, and where they start in it, in elements; `None` when
    /// only a run can tell.
    pub(crate) fn place(&self, value: ValueId) -> Option<(ValueId, isize)> {
        let (mut root, mut start) = (value, 0);
        loop {
            match &self.values[root].origin {
                Origin::View { of, view, .. } => {
                    start += view.start;
                    root = *of;
                }
                Origin::Open { .. } => return None,
                _ => return Some((root, start)),
            }
        }
    }

    /// Whether a value is its root as a whole: the same elements in the same order.
    pub(crate) fn is_whole(&self, value: ValueId) -> bool {
        let dense = !matches!(self.values[value].origin, Origin::View { dense: false, .. });
        let Some((root, 0)) = self.place(value) else { return false };
        dense && self.byte_len(root).is_some() && self.byte_len(root) == self.byte_len(value)
    }

    /// Whether all results of an operation are views of what is there, so that nothing has to run.
    pub(crate) fn is_view(&self, run: &Run) -> bool {
        let view = |&output: &ValueId| matches!(self.values[output].origin, Origin::View { .. });
        run.in_place.is_none() && !run.outputs.is_empty() && run.outputs.iter().all(view)
    }

    /// Size of a value in bytes, if its shape is known.
    pub(crate) fn byte_len(&self, value: ValueId) -> Option<usize> {
        let value = &self.values[value];
        value.storage.byte_len(value.shape.as_ref()?)
    }
}

impl Frame for Graph {
    fn kind(&self, operand: Operand) -> (ElementType, Storage) {
        match operand {
            Operand::Value(id) => (self.values[id].element, self.values[id].storage),
            Operand::Constant(id) => self.constants[id].kind(),
        }
    }

    fn shape(&self, operand: Operand) -> Option<&[usize]> {
        match operand {
            Operand::Value(id) => self.values[id].shape.as_deref(),
            Operand::Constant(id) => Some(&self.constants[id].shape),
        }
    }

    fn arrangement(&self, operand: Operand) -> Arrangement<'_> {
        let Operand::Value(id) = operand else { return Arrangement::Dense };
        match &self.values[id].origin {
            Origin::View { view, dense: false, .. } => Arrangement::Strided(&view.strides),
            Origin::Open { .. } => Arrangement::Open,
            _ => Arrangement::Dense,
        }
    }

    fn tensor(&self, operand: Operand) -> Option<TensorRef<'_>> {
        self.constant(operand)?.tensor()
    }

    fn constant(&self, operand: Operand) -> Option<&Constant> {
        match operand {
            Operand::Value(_) => None,
            Operand::Constant(id) => Some(&self.constants[id]),
        }
    }

    fn list(&self, _operand: Operand) -> Option<&ListValue> {
        None
    }

    fn is_list(&self, operand: Operand) -> bool {
        matches!(operand, Operand::Value(id) if self.values[id].origin == Origin::List)
    }
}
