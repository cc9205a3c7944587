//! States of the portable backend: one buffer each, in the declared element type.

use std::any::Any;

use candle_core::Tensor;
use coreml_engine::{Buffer, StateType, TensorRef};

use crate::error::{Error, Result, ValueError};
use crate::state::{BackendState, CoreMLState};
use crate::tensors;
use crate::values::{self, Array};

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

    fn tensor(&self, index: usize) -> TensorRef<'_> {
        let (state, buffer) = &self.states[index];
        TensorRef::dense(state.element, state.storage, &state.shape, buffer.bytes())
    }

    fn put(&mut self, index: usize, value: &Array) -> Result<(), ValueError> {
        let (state, buffer) = &mut self.states[index];
        if value.shape() != &state.shape[..] {
            let expected = format!("shape {:?}", state.shape.as_slice());
            return Err(ValueError::mismatch(expected, format!("{:?}", value.shape())));
        }
        // In a buffer of its own first: a number that does not fit leaves the state as it is.
        let mut converted = Buffer::default();
        let len = values::convert(value, state.element, state.storage, &mut converted)?;
        buffer.bytes_mut().copy_from_slice(&converted.bytes()[..len]);
        Ok(())
    }
}

/// An error of the state of this name.
fn wrong(name: &str) -> impl FnOnce(ValueError) -> Error {
    |source| Error::State { name: name.to_owned(), source }
}

impl CoreMLState {
    /// States of the portable backend with these names and values, of the types of the arrays' elements:
    /// what [`read_array`](Self::read_array) gave, to go on from there elsewhere.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub fn from_arrays(arrays: &[(&str, Array)]) -> Result<Self> {
        let mut types = Vec::with_capacity(arrays.len());
        for (name, array) in arrays {
            let element = array.element();
            let ty = StateType::of(*name, element, array.shape());
            types.push(ty.ok_or_else(|| {
                let expected = "numbers that a state holds";
                wrong(name)(ValueError::mismatch(expected, format!("`{element}`")))
            })?);
        }
        let mut state = CoreMLState::new(Box::new(PortableState::new(&types)?));
        for (name, array) in arrays {
            state.write_array(name, array)?;
        }
        Ok(state)
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
        tensors::to_candle(&self.tensor(self.index(name)?)).map_err(wrong(name))
    }

    fn write(&mut self, name: &str, value: &Tensor) -> Result<()> {
        let index = self.index(name)?;
        tensors::with_array(value, |array| self.put(index, array)).map_err(wrong(name))
    }

    fn read_array(
        &self,
        name: &str,
        read: &mut dyn FnMut(&Array) -> Result<(), ValueError>,
    ) -> Result<()> {
        read(&Array::of_engine(self.tensor(self.index(name)?))).map_err(wrong(name))
    }

    fn write_array(&mut self, name: &str, value: &Array) -> Result<()> {
        let index = self.index(name)?;
        self.put(index, value).map_err(wrong(name))
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
