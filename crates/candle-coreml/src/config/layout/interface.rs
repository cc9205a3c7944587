//! What a function's description says, with errors that name the place.

use coreml_format::description::{MultiArrayType, ShapeFlexibility};

use crate::config::roles::{Component, IDS, MASKS};
use crate::error::{Error, Result};
use crate::words::list;

/// What an input of a component is fed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feed {
    TokenIds,
    HiddenStates,
    PositionIds,
    CausalMask,
    CurrentPosition,
    UpdateMask,
}

impl Feed {
    fn of(name: &str) -> Option<Self> {
        match name {
            "hidden_states" => Some(Feed::HiddenStates),
            "position_ids" | "positionIds" => Some(Feed::PositionIds),
            "current_pos" => Some(Feed::CurrentPosition),
            "update_mask" => Some(Feed::UpdateMask),
            name if IDS.contains(&name) => Some(Feed::TokenIds),
            name if MASKS.contains(&name) => Some(Feed::CausalMask),
            _ => None,
        }
    }
}

/// An input with what feeds it and its type.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Input {
    pub(crate) name: String,
    pub(crate) feed: Feed,
    pub(crate) ty: MultiArrayType,
}

/// Reads a component's interface.
#[derive(Clone, Copy)]
pub(crate) struct Interface<'a>(pub(crate) &'a Component);

impl Interface<'_> {
    pub(super) fn wrong(&self, message: impl AsRef<str>) -> Error {
        let message = format!("function `{}`: {}", self.0.function.name, message.as_ref());
        Error::language_model(&self.0.path, message)
    }

    /// All inputs; an error when one must be fed and nobody knows with what.
    pub(crate) fn inputs(&self) -> Result<Vec<Input>> {
        let mut inputs = Vec::new();
        for input in &self.0.function.inputs {
            match (Feed::of(&input.name), input.ty.as_multi_array()) {
                (Some(feed), Some(ty)) => {
                    inputs.push(Input { name: input.name.clone(), feed, ty: ty.clone() });
                }
                (Some(_), None) => {
                    return Err(self.wrong(format!("input `{}` must be a multi-array", input.name)));
                }
                (None, _) if input.optional => {}
                (None, _) => {
                    return Err(self.wrong(format!(
                        "has an input `{}`, which this pipeline does not know how to feed; it \
                         knows {}",
                        input.name,
                        list(&[
                            "input_ids",
                            "hidden_states",
                            "position_ids",
                            "causal_mask",
                            "current_pos",
                            "update_mask"
                        ])
                    )));
                }
            }
        }
        Ok(inputs)
    }

    pub(super) fn input(&self, feed: Feed) -> Option<&MultiArrayType> {
        let inputs = &self.0.function.inputs;
        inputs.iter().find(|input| Feed::of(&input.name) == Some(feed))?.ty.as_multi_array()
    }

    /// The tokens that the function takes at once: their number, or the most of any number.
    pub(super) fn rows(&self) -> Result<Rows> {
        let feed = if self.input(Feed::HiddenStates).is_some() {
            Feed::HiddenStates
        } else {
            Feed::TokenIds
        };
        let ty =
            self.input(feed).ok_or_else(|| self.wrong("takes neither tokens nor hidden states"))?;
        match (&ty.flexibility, ty.shape.get(1)) {
            (ShapeFlexibility::Fixed, Some(&rows)) if rows > 0 => Ok(Rows::Fixed(rows)),
            (ShapeFlexibility::Ranges(ranges), _) => {
                let most = ranges.get(1).and_then(|range| range.1);
                Ok(Rows::UpTo(most.unwrap_or(usize::MAX)))
            }
            (ShapeFlexibility::Enumerated(shapes), _) => {
                let most = shapes.iter().filter_map(|shape| shape.get(1).copied()).max();
                Ok(Rows::Fixed(most.unwrap_or(1)))
            }
            _ => Err(self.wrong("does not state how many tokens it takes")),
        }
    }

    /// Checks that the input for `feed`, if there is one, takes a shape. `setting` is what the shape
    /// follows from.
    pub(super) fn allows(&self, feed: Feed, shape: &[usize], setting: &str) -> Result<()> {
        let inputs = &self.0.function.inputs;
        let input = inputs.iter().find(|input| Feed::of(&input.name) == Some(feed));
        let Some(input) = input else { return Ok(()) };
        match input.ty.as_multi_array() {
            Some(ty) if !ty.allows(shape) => Err(self.wrong(format!(
                "input `{}`: the model's other functions need the shape {shape:?}, found {ty}; \
                 look at {setting}",
                input.name
            ))),
            _ => Ok(()),
        }
    }

    pub(super) fn output_shape(&self, name: &str) -> Option<&[usize]> {
        let output = self.0.function.outputs.iter().find(|output| output.name == name)?;
        output.ty.as_multi_array().map(|array| array.shape.as_slice())
    }

    pub(super) fn outputs(&self) -> Vec<&str> {
        self.0.function.outputs.iter().map(|output| output.name.as_str()).collect()
    }

    /// Rows of a state that holds one per position.
    pub(super) fn state_rows(&self, name: &str) -> Option<usize> {
        let state = self.0.function.states.iter().find(|state| state.name == name)?;
        state.ty.as_multi_array()?.shape.iter().rev().nth(1).copied()
    }
}

/// Tokens that a function takes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rows {
    Fixed(usize),
    UpTo(usize),
}
