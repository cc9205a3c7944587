//! Binding: parses an operation's named arguments once, when its plan is made.

use std::ops::Range;

use coreml_format::mil::{ElementType, ValueType};
use smallvec::SmallVec;

use super::inputs::{Frame, Operand};
use super::{OpDef, OpError};
use crate::value::Constant;

/// The values bound to one argument: one, or several for a list such as `values` of `concat`.
pub(crate) type Bound = SmallVec<[Operand; 2]>;

/// Gives an operation's `bind` function its arguments. Those asked for with `input…` become the
/// operation's run-time inputs, in that order; the others have to be constants.
pub(crate) struct Binder<'a> {
    arguments: &'a [(&'a str, Bound)],
    frame: &'a dyn Frame,
    outputs: &'a [ValueType],
    inputs: Vec<Operand>,
}

impl<'a> Binder<'a> {
    pub(crate) fn new(
        arguments: &'a [(&'a str, Bound)],
        frame: &'a dyn Frame,
        outputs: &'a [ValueType],
    ) -> Self {
        Binder { arguments, frame, outputs, inputs: Vec::new() }
    }

    /// Binds an operation; gives it with its run-time inputs.
    pub(crate) fn bind(
        mut self,
        def: &OpDef,
    ) -> Result<(Box<dyn super::Op>, Vec<Operand>), OpError> {
        let op = (def.bind)(&mut self)?;
        Ok((op, self.inputs))
    }

    fn bound(&self, name: &str) -> Option<&'a Bound> {
        self.arguments.iter().find(|argument| argument.0 == name).map(|argument| &argument.1)
    }

    fn single(&self, name: &str) -> Result<Option<Operand>, OpError> {
        match self.bound(name).map(|bound| bound.as_slice()) {
            None => Ok(None),
            Some([operand]) => Ok(Some(*operand)),
            Some(bound) => {
                Err(OpError::argument(name, "one value", format!("{} values", bound.len())))
            }
        }
    }

    /// A run-time input; gives its index.
    pub(crate) fn input(&mut self, name: &str) -> Result<usize, OpError> {
        self.optional_input(name)?.ok_or_else(|| OpError::Missing(name.to_owned()))
    }

    /// A run-time input that may be absent.
    pub(crate) fn optional_input(&mut self, name: &str) -> Result<Option<usize>, OpError> {
        let operand = self.single(name)?;
        Ok(operand.map(|operand| {
            self.inputs.push(operand);
            self.inputs.len() - 1
        }))
    }

    /// The run-time inputs of a list argument; gives their indices.
    pub(crate) fn inputs(&mut self, name: &str) -> Result<Range<usize>, OpError> {
        let bound = self.bound(name).ok_or_else(|| OpError::Missing(name.to_owned()))?;
        let start = self.inputs.len();
        self.inputs.extend_from_slice(bound);
        Ok(start..self.inputs.len())
    }

    /// True when the argument is there.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.bound(name).is_some()
    }

    /// A constant argument that may be absent.
    pub(crate) fn constant(&self, name: &str) -> Result<Option<&'a Constant>, OpError> {
        let Some(operand) = self.single(name)? else { return Ok(None) };
        match self.frame.constant(operand) {
            Some(constant) => Ok(Some(constant)),
            None => Err(OpError::argument(name, "a constant", "a value known only at run time")),
        }
    }

    /// Integers (or bools) of a constant argument that may be absent.
    pub(crate) fn ints(&self, name: &str) -> Result<Option<SmallVec<[i64; 8]>>, OpError> {
        let Some(constant) = self.constant(name)? else { return Ok(None) };
        match constant.tensor().map(|tensor| tensor.ints()) {
            Some(Ok(ints)) => Ok(Some(ints)),
            _ => Err(OpError::argument(name, "integers", format!("`{}`", constant.element))),
        }
    }

    /// A constant integer that may be absent.
    pub(crate) fn int(&self, name: &str) -> Result<Option<i64>, OpError> {
        match self.ints(name)?.as_deref() {
            None => Ok(None),
            Some([value]) => Ok(Some(*value)),
            Some(values) => {
                Err(OpError::argument(name, "one integer", format!("{} integers", values.len())))
            }
        }
    }

    /// A constant bool, or its default.
    pub(crate) fn bool(&self, name: &str, default: bool) -> Result<bool, OpError> {
        Ok(self.int(name)?.map_or(default, |value| value != 0))
    }

    /// Constant bools; empty when absent.
    pub(crate) fn bools(&self, name: &str) -> Result<SmallVec<[bool; 8]>, OpError> {
        let ints = self.ints(name)?.unwrap_or_default();
        Ok(ints.into_iter().map(|value| value != 0).collect())
    }

    /// A constant float that may be absent.
    pub(crate) fn float(&self, name: &str) -> Result<Option<f32>, OpError> {
        let Some(constant) = self.constant(name)? else { return Ok(None) };
        match constant.tensor().filter(|tensor| tensor.len() == 1) {
            Some(tensor) => tensor.scalar_f32().map(Some),
            None => Err(OpError::argument(name, "one number", constant.describe())),
        }
    }

    /// A constant string that may be absent.
    pub(crate) fn string(&self, name: &str) -> Result<Option<&'a str>, OpError> {
        let Some(constant) = self.constant(name)? else { return Ok(None) };
        match constant.as_str() {
            Some(text) => Ok(Some(text)),
            None => Err(OpError::argument(name, "a string", constant.describe())),
        }
    }

    /// A required constant integer.
    pub(crate) fn required_int(&self, name: &str) -> Result<i64, OpError> {
        self.int(name)?.ok_or_else(|| OpError::Missing(name.to_owned()))
    }

    /// Required constant integers.
    pub(crate) fn required_ints(&self, name: &str) -> Result<SmallVec<[i64; 8]>, OpError> {
        self.ints(name)?.ok_or_else(|| OpError::Missing(name.to_owned()))
    }

    /// A required constant string.
    pub(crate) fn required_string(&self, name: &str) -> Result<&'a str, OpError> {
        self.string(name)?.ok_or_else(|| OpError::Missing(name.to_owned()))
    }

    /// An element type given by its name, as `dtype` of `cast`.
    pub(crate) fn element_type(&self, name: &str) -> Result<ElementType, OpError> {
        let text = self.required_string(name)?;
        ElementType::from_name(text)
            .ok_or_else(|| OpError::argument(name, "an element type", format!("`{text}`")))
    }

    /// The element type of a run-time input, by its index.
    pub(crate) fn element(&self, input: usize) -> ElementType {
        self.frame.kind(self.inputs[input]).0
    }

    /// Types that the program declares for the results.
    pub(crate) fn outputs(&self) -> &'a [ValueType] {
        self.outputs
    }
}
