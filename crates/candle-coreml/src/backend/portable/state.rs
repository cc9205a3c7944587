//! States of the portable backend: one buffer each, in the declared element type.

use std::any::Any;

use candle_core::Tensor;
use coreml_engine::{Buffer, StateType, TensorRef};

use crate::error::{Error, Result};
use crate::state::BackendState;
use crate::tensors::{self, InputBytes};
use crate::words::list;

/// States by name.
pub(crate) struct PortableState {
    states: Vec<(StateType, Buffer)>,
}

impl PortableState {
    /// Zeroed states.
    pub(crate) fn new(states: &[StateType]) -> Result<Self> {
        let zeroed = |state: &StateType| {
            let len = state.storage.byte_len(&state.shape).unwrap_or(usize::MAX);
            let buffer = Buffer::zeroed(len).map_err(|error| Error::State {
                name: state.name.clone(),
                message: error.to_string(),
            })?;
            Ok((state.clone(), buffer))
        };
        Ok(PortableState { states: states.iter().map(zeroed).collect::<Result<_>>()? })
    }

    fn index(&self, name: &str) -> Result<usize> {
        self.states.iter().position(|(state, _)| state.name == name).ok_or_else(|| Error::State {
            name: name.to_owned(),
            message: format!("there is no such state; there is {}", list(&self.names())),
        })
    }

    /// Takes out the buffers of the states that a function declares, in its order.
    pub(crate) fn take(&mut self, wanted: &[StateType]) -> Result<Vec<Buffer>> {
        let mut indices = Vec::with_capacity(wanted.len());
        for state in wanted {
            let index = self.index(&state.name)?;
            let given = &self.states[index].0;
            if given != state {
                return Err(Error::State {
                    name: state.name.clone(),
                    message: format!(
                        "expected `{}` of shape {:?}, the state given has `{}` of shape {:?}",
                        state.element,
                        state.shape.as_slice(),
                        given.element,
                        given.shape.as_slice()
                    ),
                });
            }
            indices.push(index);
        }
        Ok(indices.into_iter().map(|index| std::mem::take(&mut self.states[index].1)).collect())
    }

    /// Puts back what [`take`](Self::take) gave.
    pub(crate) fn put_back(&mut self, wanted: &[StateType], buffers: Vec<Buffer>) {
        for (state, buffer) in wanted.iter().zip(buffers) {
            if let Ok(index) = self.index(&state.name) {
                self.states[index].1 = buffer;
            }
        }
    }
}

impl BackendState for PortableState {
    fn names(&self) -> Vec<String> {
        self.states.iter().map(|(state, _)| state.name.clone()).collect()
    }

    fn read(&self, name: &str) -> Result<Tensor> {
        let (state, buffer) = &self.states[self.index(name)?];
        let (element, storage) = (state.element, state.storage);
        tensors::to_candle(&TensorRef::dense(element, storage, &state.shape, buffer.bytes()))
    }

    fn write(&mut self, name: &str, value: &Tensor) -> Result<()> {
        let index = self.index(name)?;
        let (state, buffer) = &mut self.states[index];
        let wrong = |message| Error::State { name: name.to_owned(), message };
        if value.dims() != &state.shape[..] {
            return Err(wrong(format!(
                "expected shape {:?}, got {:?}",
                state.shape.as_slice(),
                value.dims()
            )));
        }
        let bytes = InputBytes::new(value, state.element, state.storage).map_err(wrong)?;
        InputBytes::with_all(&[bytes], |bytes| buffer.bytes_mut().copy_from_slice(bytes[0]));
        Ok(())
    }

    fn reset(&mut self) {
        for (_, buffer) in &mut self.states {
            buffer.bytes_mut().fill(0);
        }
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}
