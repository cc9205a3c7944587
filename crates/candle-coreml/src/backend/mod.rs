//! Backends: what runs a model. One trait, so that the model API does not know which.

mod options;
mod portable;

use std::sync::Arc;

use coreml_engine::{CallOptions, CancelToken, OperationResult, PrecisionReport, Workers};
use coreml_format::Package;
use coreml_format::description::ModelDescription;

use crate::error::{Error, Result, ValueError};
use crate::state::CoreMLState;
use crate::values::{Array, FeatureValue, OutputValue};

pub use self::options::{BackendKind, LoadOptions, THREADS_VARIABLE};

/// Something that can run Core ML models.
pub trait Backend: Send + Sync {
    /// Its name, e.g. `portable`.
    fn name(&self) -> &'static str;

    /// Prepares a model to run. The package is of any kind; it is found, but not decoded before the
    /// backend [asks for the model](Package::model), which happens once whoever asks.
    ///
    /// # Errors
    /// When the model is of a kind, or has something, that the backend can't compute, or is wrong.
    fn load(&self, package: Arc<Package>, options: &LoadOptions) -> Result<Arc<dyn Executable>>;
}

/// A model that a backend has made ready. Predictions may run on several threads at once.
pub trait Executable: Send + Sync {
    /// Inputs, outputs, states, functions and metadata.
    fn description(&self) -> &ModelDescription;

    /// A zeroed state for a function; it serves every function and model that declares the same
    /// states.
    ///
    /// # Errors
    /// When there is no such function.
    fn make_state(&self, function: &str) -> Result<CoreMLState>;

    /// Makes ready to call a function: once for many calls, one at a time.
    ///
    /// # Errors
    /// When there is no such function.
    fn bind(&self, function: &str) -> Result<Box<dyn BackendCall>>;

    /// What the backend runs for a function at its default shapes, as text for people.
    ///
    /// # Errors
    /// When there is no such function, or the backend can't tell.
    fn plan(&self, _function: &str) -> Result<String> {
        Err(Error::NotByBackend("does not tell how it runs a function"))
    }

    /// How many plans were made for a function so far: one for fixed shapes, few for flexible ones.
    ///
    /// # Errors
    /// When there is no such function.
    fn plans_made(&self, _function: &str) -> Result<usize> {
        Ok(0)
    }

    /// How many threads a prediction computes on.
    ///
    /// # Errors
    /// When the backend chooses its threads itself.
    fn threads(&self) -> Result<usize> {
        Err(Error::NotByBackend("chooses its threads itself"))
    }

    /// The same model on other threads, with which it shares all that it has made ready.
    ///
    /// # Errors
    /// When the backend chooses its threads itself.
    fn with_workers(&self, _workers: &Workers) -> Result<Arc<dyn Executable>> {
        Err(Error::NotByBackend("chooses its threads itself"))
    }
}

/// Writes the elements of an input.
pub type WriteElements<'w, T> = &'w mut dyn FnMut(&mut [T]) -> Result<(), ValueError>;

/// Reads an output, which has this index.
pub type ReadOutput<'r> = &'r mut dyn FnMut(usize, &OutputValue) -> Result<()>;

/// A function with the memory of one call at a time. Inputs and outputs have the indices of their names
/// here.
pub trait BackendCall: Send {
    /// Names of the inputs.
    fn inputs(&self) -> &[String];

    /// Names of the outputs.
    fn outputs(&self) -> &[String];

    /// Gives an input a value, which it keeps until it is given another or all are cleared.
    ///
    /// # Errors
    /// When there is no such input, or the value is not what it takes.
    fn set(&mut self, index: usize, value: &FeatureValue) -> Result<(), ValueError>;

    /// Gives an input a copy of an array, which it keeps as [`set`](Self::set) has it.
    ///
    /// # Errors
    /// As for `set`.
    fn set_array(&mut self, index: usize, array: &Array) -> Result<(), ValueError> {
        self.set(index, &array.to_tensor()?.into())
    }

    /// Gives an input of floats a value of this shape, which `write` writes: over what was written before,
    /// if the shape is the same.
    ///
    /// # Errors
    /// When there is no such input, it takes no floats of this shape, or `write` fails.
    fn write_floats(
        &mut self,
        index: usize,
        shape: &[usize],
        write: WriteElements<f32>,
    ) -> Result<(), ValueError>;

    /// As [`write_floats`](Self::write_floats), for an input of integers.
    ///
    /// # Errors
    /// When there is no such input, it takes no integers of this shape, or `write` fails.
    fn write_ints(
        &mut self,
        index: usize,
        shape: &[usize],
        write: WriteElements<i32>,
    ) -> Result<(), ValueError>;

    /// Takes all inputs their values.
    fn clear(&mut self);

    /// Runs the function; then calls `read` with every output, in the order of their indices. A token
    /// among the options ends the call from elsewhere, as soon as the backend can.
    ///
    /// # Errors
    /// When an input or a state is missing, an operation fails, `read` does, or the call is cancelled.
    fn run(
        &mut self,
        state: Option<&mut CoreMLState>,
        options: CallOptions,
        read: ReadOutput,
    ) -> Result<()>;

    /// As [`run`](Self::run), with arrays for inputs of these indices. They are read where they lie if
    /// the backend holds numbers as they do, and copied otherwise.
    ///
    /// # Errors
    /// As for `run` and [`set`](Self::set).
    fn run_with(
        &mut self,
        arrays: &[(usize, Array)],
        state: Option<&mut CoreMLState>,
        options: CallOptions,
        read: ReadOutput,
    ) -> Result<()> {
        for (index, array) in arrays {
            self.set_array(*index, array)
                .map_err(|source| input_error(self.inputs(), *index, source))?;
        }
        self.run(state, options, read)
    }

    /// Runs the function with each result of `fp16` rounded as the program states it, beside one that
    /// computes in `f32`, and says which operations do harm. The state stays as it is.
    ///
    /// # Errors
    /// As for [`run`](Self::run), or when the backend can't tell.
    fn check_precision(
        &mut self,
        _state: Option<&mut CoreMLState>,
        _cancel: Option<&CancelToken>,
    ) -> Result<PrecisionReport> {
        Err(Error::NotByBackend("does not tell what half precision does to a function"))
    }

    /// Runs the function operation by operation, and calls `read` with what each gives. The state stays as
    /// it is.
    ///
    /// # Errors
    /// As for [`run`](Self::run), or when the backend can't tell.
    fn observe(
        &mut self,
        _state: Option<&mut CoreMLState>,
        _cancel: Option<&CancelToken>,
        _read: &mut (dyn FnMut(OperationResult) + Send),
    ) -> Result<()> {
        Err(Error::NotByBackend("does not show what operations give"))
    }
}

/// An error of the input with this index among those of these names.
pub(crate) fn input_error(names: &[String], index: usize, source: ValueError) -> Error {
    let name = names.get(index).map_or_else(|| format!("#{index}"), String::clone);
    Error::Input { name, source }
}

/// The backend of this kind.
pub(crate) fn backend(kind: BackendKind) -> Result<Box<dyn Backend>> {
    match kind {
        BackendKind::Auto | BackendKind::Portable => Ok(Box::new(portable::Portable)),
        BackendKind::Apple => Err(Error::BackendUnavailable {
            name: "apple",
            reason: "this build has no binding to CoreML.framework; use the portable backend"
                .to_owned(),
        }),
    }
}
