//! States of the portable backend: one buffer each, in the declared element type.

use std::any::Any;

use candle_core::Tensor;
use coreml_engine::{Buffer, StateType, TensorRef};

use crate::error::{Error, Result, ValueError};
use crate::state::BackendState;
use crate::tensors::{self, InputBytes};

/// States by name.
pub(crate) struct PortableState {
    states: Vec<(StateType, Buffer)>,
}

impl PortableState {
    /// Zeroed states.
    pub(crate) fn new(states: &[StateType]) -> Result<Self> {
        let zeroed = |state: &StateType| {
            let len = state.storage.byte_len(&state.shape).unwrap_or(usize::MAX);
            let buffer = Buffer::zeroed(len)
                .map_err(|error| Error::State { name: state.name.clone(), source: error.into() })?;
            Ok((state.clone(), buffer))
        };
        Ok(PortableState { states: states.iter().map(zeroed).collect::<Result<_>>()? })
    }

    fn index(&self, name: &str) -> Result<usize> {
        self.states.iter().position(|(state, _)| state.name == name).ok_or_else(|| Error::State {
            name: name.to_owned(),
            source: ValueError::Unknown {
                owner: "the state object".to_owned(),
                available: self.names(),
            },
        })
    }

    /// Takes out the buffers of the states that a function declares, in its order.
    pub(crate) fn take(&mut self, wanted: &[StateType], taken: &mut Vec<Buffer>) -> Result<()> {
        for state in wanted {
            let given = &self.states[self.index(&state.name)?].0;
            if given != state {
                return Err(Error::State {
                    name: state.name.clone(),
                    source: ValueError::mismatch(in_words(state), in_words(given)),
                });
            }
        }
        taken.clear();
        for state in wanted {
            let index = self.index(&state.name)?;
            taken.push(std::mem::take(&mut self.states[index].1));
        }
        Ok(())
    }

    /// Puts back what [`take`](Self::take) gave.
    pub(crate) fn put_back(&mut self, wanted: &[StateType], taken: &mut Vec<Buffer>) {
        for (state, buffer) in wanted.iter().zip(taken.drain(..)) {
            if let Ok(index) = self.index(&state.name) {
                self.states[index].1 = buffer;
            }
        }
    }
}

fn in_words(state: &StateType) -> String {
    format!("`{}` of shape {:?}", state.element, state.shape.as_slice())
}

impl BackendState for PortableState {
    fn names(&self) -> Vec<String> {
        self.states.iter().map(|(state, _)| state.name.clone()).collect()
    }

    fn read(&self, name: &str) -> Result<Tensor> {
        let (state, buffer) = &self.states[self.index(name)?];
        let (element, storage) = (state.element, state.storage);
        tensors::to_candle(&TensorRef::dense(element, storage, &state.shape, buffer.bytes()))
            .map_err(|source| Error::State { name: name.to_owned(), source })
    }

    fn write(&mut self, name: &str, value: &Tensor) -> Result<()> {
        let index = self.index(name)?;
        let (state, buffer) = &mut self.states[index];
        let wrong = |source| Error::State { name: name.to_owned(), source };
        if value.dims() != &state.shape[..] {
            let expected = format!("shape {:?}", state.shape.as_slice());
            return Err(wrong(ValueError::mismatch(expected, format!("{:?}", value.dims()))));
        }
        let mut bytes = InputBytes::default();
        bytes.set(value, state.element, state.storage).map_err(wrong)?;
        InputBytes::with_all(std::iter::once(&bytes), |bytes| {
            buffer.bytes_mut().copy_from_slice(bytes[0]);
        });
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
