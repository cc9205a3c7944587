//! States: values that a model keeps between predictions, such as a key-value cache.

use std::any::Any;

use candle_core::Tensor;

use crate::error::{Error, Result, ValueError};
use crate::tensors;
use crate::values::Array;

/// The states of a stateful model, zeroed at first and updated in place by
/// [`predict_with_state`](crate::CoreMLModel::predict_with_state). After a prediction that fails, also
/// where its outputs can't be read, all of them are as they were before it.
///
/// One object serves all functions of a model, and all models that declare states of the same
/// names, shapes and types: the chunks of an ANEMLL model share theirs.
pub struct CoreMLState {
    inner: Box<dyn BackendState>,
}

/// A backend's representation of states.
pub trait BackendState: Any + Send {
    /// Names of the states.
    fn names(&self) -> Vec<String>;
    /// A copy of a state's value.
    ///
    /// # Errors
    /// When there is no state of that name.
    fn read(&self, name: &str) -> Result<Tensor>;
    /// Replaces a state's value.
    ///
    /// # Errors
    /// When there is no state of that name, or shape or dtype do not fit.
    fn write(&mut self, name: &str, value: &Tensor) -> Result<()>;
    /// Calls `read` with a state's value.
    ///
    /// # Errors
    /// When there is no state of that name, or `read` fails.
    fn read_array(
        &self,
        name: &str,
        read: &mut dyn FnMut(&Array) -> Result<(), ValueError>,
    ) -> Result<()> {
        let value = self.read(name)?;
        tensors::with_array(&value, read)
            .map_err(|source| Error::State { name: name.to_owned(), source })
    }
    /// As [`write`](Self::write), with an array of the caller's.
    ///
    /// # Errors
    /// As for `write`.
    fn write_array(&mut self, name: &str, value: &Array) -> Result<()> {
        let value = value.to_tensor();
        let value = value.map_err(|source| Error::State { name: name.to_owned(), source })?;
        self.write(name, &value)
    }
    /// Sets all states to zero.
    fn reset(&mut self);
    /// For the backend to get its own type back.
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

impl CoreMLState {
    /// Wraps a backend's states.
    pub fn new(inner: Box<dyn BackendState>) -> Self {
        CoreMLState { inner }
    }

    /// Names of the states.
    pub fn names(&self) -> Vec<String> {
        self.inner.names()
    }

    /// A copy of a state's value, in the dtype that the model declares.
    ///
    /// # Errors
    /// When there is no state of that name.
    pub fn read(&self, name: &str) -> Result<Tensor> {
        self.inner.read(name)
    }

    /// Replaces a state's value; `value` has the state's shape, in any float dtype for a float
    /// state. Numbers that the state's type can't hold are refused.
    ///
    /// # Errors
    /// When there is no state of that name, or shape or dtype do not fit.
    pub fn write(&mut self, name: &str, value: &Tensor) -> Result<()> {
        self.inner.write(name, value)
    }

    /// Calls `read` with a state's value, where it lies: it has the type that the model declares.
    ///
    /// # Errors
    /// When there is no state of that name, or `read` fails.
    pub fn read_array(
        &self,
        name: &str,
        mut read: impl FnMut(&Array) -> Result<(), ValueError>,
    ) -> Result<()> {
        self.inner.read_array(name, &mut read)
    }

    /// As [`write`](Self::write), with an array of the caller's.
    ///
    /// # Errors
    /// As for `write`.
    pub fn write_array(&mut self, name: &str, value: &Array) -> Result<()> {
        self.inner.write_array(name, value)
    }

    /// Sets all states to zero.
    pub fn reset(&mut self) {
        self.inner.reset();
    }

    /// The backend's own states, if they are of this type.
    pub fn downcast_mut<T: BackendState>(&mut self) -> Option<&mut T> {
        self.inner.as_any_mut().downcast_mut()
    }
}

impl std::fmt::Debug for CoreMLState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CoreMLState").field("names", &self.names()).finish()
    }
}
