//! What an operation sees of its inputs and outputs, while it is planned and while it runs.

use std::cell::Cell;

use coreml_format::mil::ElementType;
use coreml_kernels::Context;
use coreml_kernels::convert::round_to_f16;
use smallvec::SmallVec;

use crate::error::OpError;
use crate::ids::Operand;
use crate::value::{Constant, ListValue, Shape, Storage, Strides, TensorMut, TensorRef, row_major};

/// How a value's elements lie in the memory that holds them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Arrangement<'a> {
    /// In row-major order without gaps.
    Dense,
    /// By these strides.
    Strided(&'a Strides),
    /// Only a run can tell.
    Open,
}

/// Where operands are looked up: in a graph that is being planned (only constants have values) or in
/// a run (all have).
pub(crate) trait Frame {
    /// Element type and storage.
    fn kind(&self, operand: Operand) -> (ElementType, Storage);
    /// The shape, if it is known.
    fn shape(&self, operand: Operand) -> Option<&[usize]>;
    /// How the elements lie.
    fn arrangement(&self, operand: Operand) -> Arrangement<'_>;
    /// The elements, if they are known and not compressed.
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
    /// Set when a value that is no constant was read.
    values_read: Option<&'a Cell<bool>>,
}

impl<'a> Inputs<'a> {
    pub(crate) fn new(operands: &'a [Operand], frame: &'a dyn Frame) -> Self {
        Inputs { operands, frame, in_place: None, values_read: None }
    }

    /// The same inputs, of which one is in the output's place.
    pub(crate) fn with_in_place(self, in_place: Option<usize>) -> Self {
        Inputs { in_place, ..self }
    }

    /// The same inputs; `noted` is set when a value is read that may be another one at the next run.
    pub(crate) fn noting(self, noted: &'a Cell<bool>) -> Self {
        Inputs { values_read: Some(noted), ..self }
    }

    fn operand(&self, input: usize) -> Result<Operand, OpError> {
        self.operands
            .get(input)
            .copied()
            .ok_or_else(|| OpError::invalid(format!("the operation has no input {input}")))
    }

    fn note(&self, operand: Operand) {
        if let (Operand::Value(_), Some(noted)) = (operand, self.values_read) {
            noted.set(true);
        }
    }

    /// The element type of an input.
    pub(crate) fn element(&self, input: usize) -> Result<ElementType, OpError> {
        Ok(self.frame.kind(self.operand(input)?).0)
    }

    /// How an input is held.
    pub(crate) fn storage(&self, input: usize) -> Result<Storage, OpError> {
        Ok(self.frame.kind(self.operand(input)?).1)
    }

    /// The shape of an input, or [`OpError::NotYetKnown`].
    pub(crate) fn shape(&self, input: usize) -> Result<&'a [usize], OpError> {
        self.frame.shape(self.operand(input)?).ok_or(OpError::NotYetKnown)
    }

    /// The strides of an input, those of a row-major tensor if it is dense; or
    /// [`OpError::NotYetKnown`].
    pub(crate) fn strides(&self, input: usize) -> Result<Strides, OpError> {
        let shape = self.shape(input)?;
        match self.frame.arrangement(self.operand(input)?) {
            Arrangement::Dense => {
                Ok(row_major(shape).into_iter().map(|stride| stride as isize).collect())
            }
            Arrangement::Strided(strides) => Ok(strides.clone()),
            Arrangement::Open => Err(OpError::NotYetKnown),
        }
    }

    /// The elements of an input, or [`OpError::NotYetKnown`] while planning. An input whose buffer
    /// is the output's cannot be asked for: see [`Inputs::is_in_place`].
    pub(crate) fn tensor(&self, input: usize) -> Result<TensorRef<'a>, OpError> {
        if self.is_in_place(input) {
            return Err(OpError::invalid(format!("input {input} is computed in place")));
        }
        let operand = self.operand(input)?;
        self.note(operand);
        self.frame.tensor(operand).ok_or(OpError::NotYetKnown)
    }

    /// True when the output's buffer already holds this input.
    pub(crate) fn is_in_place(&self, input: usize) -> bool {
        self.in_place == Some(input)
    }

    /// The integers (or bools) of a small input such as a shape.
    pub(crate) fn ints(&self, input: usize) -> Result<SmallVec<[i64; 8]>, OpError> {
        self.tensor(input)?.ints()
    }

    /// The constant behind an input, which may be compressed.
    pub(crate) fn constant(&self, input: usize) -> Option<&'a Constant> {
        self.frame.constant(self.operand(input).ok()?)
    }

    /// A list input, or [`OpError::NotYetKnown`] while planning.
    pub(crate) fn list(&self, input: usize) -> Result<&'a ListValue, OpError> {
        let operand = self.operand(input)?;
        self.note(operand);
        self.frame.list(operand).ok_or(OpError::NotYetKnown)
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

impl Output<'_> {
    /// Rounds numbers of `fp16`, which are held with more precision, to that type.
    pub(crate) fn round_halves(&mut self, context: &Context) {
        if let Output::Tensor(tensor) = self
            && tensor.element == ElementType::Float16
            && let Ok(values) = tensor.f32s()
        {
            round_to_f16(context, values);
        }
    }
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

    /// Whether all are tensors without elements.
    pub(crate) fn are_empty(&self) -> bool {
        let is_empty =
            |output: &Output| matches!(output, Output::Tensor(tensor) if tensor.bytes.is_empty());
        !self.0.is_empty() && self.0.iter().all(is_empty)
    }
}
