//! What an operation sees of its inputs and outputs, while it is planned and while it runs.

use coreml_format::mil::ElementType;

use super::OpError;
use crate::value::{Constant, ListValue, Shape, Storage, TensorMut, TensorRef};

/// Refers to a value of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Operand {
    /// A slot: an input, a state or an intermediate value.
    Slot(usize),
    /// A constant.
    Constant(usize),
}

/// Where operands are looked up: in a plan that is being made (only constants have values) or in
/// a session that runs (all have).
pub(crate) trait Frame {
    /// Element type and storage.
    fn kind(&self, operand: Operand) -> (ElementType, Storage);
    /// The shape, if it is known.
    fn shape(&self, operand: Operand) -> Option<&[usize]>;
    /// The elements, if they are known and dense.
    fn tensor(&self, operand: Operand) -> Option<TensorRef<'_>>;
    /// The constant, if the operand is one.
    fn constant(&self, operand: Operand) -> Option<&Constant>;
    /// The list, if the operand is one and its value is known.
    fn list(&self, operand: Operand) -> Option<&ListValue>;
}

/// An operation's inputs, in the order in which it asked for them when it was bound.
#[derive(Clone, Copy)]
pub(crate) struct Inputs<'a> {
    operands: &'a [Operand],
    frame: &'a dyn Frame,
    in_place: Option<usize>,
}

impl<'a> Inputs<'a> {
    pub(crate) fn new(
        operands: &'a [Operand],
        frame: &'a dyn Frame,
        in_place: Option<usize>,
    ) -> Self {
        Inputs { operands, frame, in_place }
    }

    fn operand(&self, input: usize) -> Result<Operand, OpError> {
        self.operands
            .get(input)
            .copied()
            .ok_or_else(|| OpError::invalid(format!("the operation has no input {input}")))
    }

    /// The element type of an input.
    pub(crate) fn element(&self, input: usize) -> Result<ElementType, OpError> {
        Ok(self.frame.kind(self.operand(input)?).0)
    }

    /// The shape of an input, or [`OpError::NotYetKnown`].
    pub(crate) fn shape(&self, input: usize) -> Result<&'a [usize], OpError> {
        self.frame.shape(self.operand(input)?).ok_or(OpError::NotYetKnown)
    }

    /// The elements of an input, or [`OpError::NotYetKnown`] while planning. An input whose buffer
    /// is the output's cannot be asked for: see [`Inputs::is_in_place`].
    pub(crate) fn tensor(&self, input: usize) -> Result<TensorRef<'a>, OpError> {
        if self.is_in_place(input) {
            return Err(OpError::invalid(format!("input {input} is computed in place")));
        }
        self.frame.tensor(self.operand(input)?).ok_or(OpError::NotYetKnown)
    }

    /// True when the output's buffer already holds this input.
    pub(crate) fn is_in_place(&self, input: usize) -> bool {
        self.in_place == Some(input)
    }

    /// The integers (or bools) of a small input such as a shape.
    pub(crate) fn ints(&self, input: usize) -> Result<smallvec::SmallVec<[i64; 8]>, OpError> {
        self.tensor(input)?.ints()
    }

    /// The constant behind an input, which may be compressed.
    pub(crate) fn constant(&self, input: usize) -> Option<&'a Constant> {
        self.frame.constant(self.operand(input).ok()?)
    }

    /// A list input, or [`OpError::NotYetKnown`] while planning.
    pub(crate) fn list(&self, input: usize) -> Result<&'a ListValue, OpError> {
        self.frame.list(self.operand(input)?).ok_or(OpError::NotYetKnown)
    }
}

/// Element type and shape of a result.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ResultType {
    pub(crate) element: ElementType,
    pub(crate) shape: Shape,
}

impl ResultType {
    pub(crate) fn new(element: ElementType, shape: impl Into<Shape>) -> Self {
        ResultType { element, shape: shape.into() }
    }
}

/// Where an operation writes a result.
pub(crate) enum Output<'a> {
    Tensor(TensorMut<'a>),
    List(&'a mut ListValue),
}

/// An operation's outputs.
pub(crate) struct Outputs<'s, 'a>(pub(crate) &'s mut [Output<'a>]);

impl<'a> Outputs<'_, 'a> {
    /// The tensor to write for output `index`.
    pub(crate) fn tensor(&mut self, index: usize) -> Result<&mut TensorMut<'a>, OpError> {
        match self.0.get_mut(index) {
            Some(Output::Tensor(tensor)) => Ok(tensor),
            _ => Err(OpError::invalid(format!("output {index} is no tensor"))),
        }
    }

    /// The list to write for output `index`.
    pub(crate) fn list(&mut self, index: usize) -> Result<&mut ListValue, OpError> {
        match self.0.get_mut(index) {
            Some(Output::List(list)) => Ok(list),
            _ => Err(OpError::invalid(format!("output {index} is no list"))),
        }
    }

    /// Number of outputs.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Memory that operations of a session use while they run.
#[derive(Default)]
pub(crate) struct Scratch {
    /// For kernels, which may want up to two buffers.
    pub(crate) kernel: [Vec<f32>; 2],
    /// For an operation itself.
    pub(crate) floats: Vec<f32>,
}
