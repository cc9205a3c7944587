//! Calls that are bound to a function once and run many times.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use coreml_engine::{CallOptions, CancelToken, OperationResult, Participant, PrecisionReport};
use coreml_format::description::{FeatureDescription, FeatureType, FunctionDescription};

use crate::backend::{self, BackendCall, Executable};
use crate::error::{Error, Result, ValueError};
use crate::state::CoreMLState;
use crate::values::{Array, FeatureValue, Features, OutputValue};

/// Calls of one function that nobody uses just now, to be used again.
const MOST_IDLE: usize = 8;

/// What all bound calls of a function have in common.
pub(crate) struct Calls {
    executable: Arc<dyn Executable>,
    function: String,
    outputs: Vec<FeatureDescription>,
    idle: Mutex<Vec<Box<dyn BackendCall>>>,
}

impl Calls {
    pub(crate) fn new(executable: Arc<dyn Executable>, function: &FunctionDescription) -> Self {
        Calls {
            executable,
            function: function.name.clone(),
            outputs: function.outputs.clone(),
            idle: Mutex::default(),
        }
    }

    fn output_type(&self, name: &str) -> Option<&FeatureType> {
        self.outputs.iter().find(|output| output.name == name).map(|output| &output.ty)
    }

    /// A call, with buffers that were used before if there are any.
    pub(crate) fn bind(self: &Arc<Self>, cancel: Option<CancelToken>) -> Result<BoundCall> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let call = match idle {
            Some(call) => call,
            None => self.executable.bind(&self.function)?,
        };
        Ok(BoundCall { call: Some(call), calls: self.clone(), cancel, participant: None })
    }
}

/// A function with memory for one call at a time, which is used again and again: inputs are given and
/// outputs read by index, without looking up names or asking for memory.
///
/// ```no_run
/// # fn main() -> candle_coreml::Result<()> {
/// # let model = candle_coreml::CoreMLModel::load("", &candle_coreml::LoadOptions::new())?;
/// let mut call = model.bind()?;
/// let mut total = vec![0.0; 10];
/// for sample in [[1.0, 2.0], [3.0, 4.0]] {
///     call.write_floats(0, &[1, 2], |x| x.copy_from_slice(&sample))?;
///     call.run(None, |_, y| Ok(y.array()?.read_floats(0..10, &mut total)?))?;
/// }
/// # Ok(())
/// # }
/// ```
pub struct BoundCall {
    /// Taken when the call is dropped.
    call: Option<Box<dyn BackendCall>>,
    calls: Arc<Calls>,
    /// Ends a run from elsewhere.
    cancel: Option<CancelToken>,
    /// In whose name it runs together with others.
    participant: Option<Participant>,
}

impl BoundCall {
    fn call(&self) -> &dyn BackendCall {
        self.call.as_deref().expect("a call that is not dropped")
    }

    fn call_mut(&mut self) -> &mut dyn BackendCall {
        self.call.as_deref_mut().expect("a call that is not dropped")
    }

    /// The function's inputs, in the order of their indices.
    pub fn inputs(&self) -> &[String] {
        self.call().inputs()
    }

    /// The function's outputs, in the order of their indices.
    pub fn outputs(&self) -> &[String] {
        self.call().outputs()
    }

    /// The index of an input.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn input(&self, name: &str) -> Result<usize> {
        let names = self.inputs();
        names.iter().position(|input| input == name).ok_or_else(|| Error::Input {
            name: name.to_owned(),
            source: ValueError::Unknown {
                owner: format!("function `{}`", self.calls.function),
                available: names.to_vec(),
            },
        })
    }

    /// The index of an output.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn output(&self, name: &str) -> Result<usize> {
        let names = self.outputs();
        names.iter().position(|output| output == name).ok_or_else(|| Error::Output {
            name: name.to_owned(),
            source: ValueError::Unknown {
                owner: format!("function `{}`", self.calls.function),
                available: names.to_vec(),
            },
        })
    }

    /// Gives an input a value, which it keeps for the calls to come.
    ///
    /// # Errors
    /// When there is no such input, or the value is not what it takes.
    pub fn set(&mut self, index: usize, value: impl Into<FeatureValue>) -> Result<()> {
        let result = self.call_mut().set(index, &value.into());
        result.map_err(|source| self.input_error(index, source))
    }

    /// Gives an input a copy of an array, which it keeps for the calls to come.
    ///
    /// # Errors
    /// When there is no such input, or the array is not what it takes.
    pub fn set_array(&mut self, index: usize, array: &Array) -> Result<()> {
        let result = self.call_mut().set_array(index, array);
        result.map_err(|source| self.input_error(index, source))
    }

    /// Lets this token end the runs to come, as
    /// [`CoreMLModel::with_cancel`](crate::CoreMLModel::with_cancel) does; none without one.
    pub fn set_cancel(&mut self, token: Option<CancelToken>) {
        self.cancel = token;
    }

    /// Makes the runs to come in the name of a participant: those of several participants, on as many threads,
    /// wait for each other and run together where the backend can, so that weights are read once for all.
    /// Sums may be added up in another order than in runs on their own.
    ///
    /// ```no_run
    /// # fn main() -> candle_coreml::Result<()> {
    /// # let model = candle_coreml::CoreMLModel::load("", &candle_coreml::LoadOptions::new())?;
    /// use candle_coreml::Participant;
    ///
    /// std::thread::scope(|scope| {
    ///     for sample in [[1.0, 2.0], [3.0, 4.0]] {
    ///         let mut call = model.bind()?;
    ///         scope.spawn(move || {
    ///             call.set_participant(Some(Participant::new()));
    ///             call.write_floats(0, &[1, 2], |x| x.copy_from_slice(&sample))?;
    ///             call.run_to_features(None)
    ///         });
    ///     }
    ///     Ok(())
    /// })
    /// # }
    /// ```
    pub fn set_participant(&mut self, participant: Option<Participant>) {
        self.participant = participant;
    }

    /// Gives an input of floats a value of this shape, whose elements `write` writes where the backend
    /// reads them. What was written before is still there if the shape is the same.
    ///
    /// # Errors
    /// When there is no such input, or it takes no floats of this shape.
    pub fn write_floats(
        &mut self,
        index: usize,
        shape: &[usize],
        mut write: impl FnMut(&mut [f32]),
    ) -> Result<()> {
        let result = self.call_mut().write_floats(index, shape, &mut |to| {
            write(to);
            Ok(())
        });
        result.map_err(|source| self.input_error(index, source))
    }

    /// As [`write_floats`](Self::write_floats), for an input of integers.
    ///
    /// # Errors
    /// When there is no such input, or it takes no integers of this shape.
    pub fn write_ints(
        &mut self,
        index: usize,
        shape: &[usize],
        mut write: impl FnMut(&mut [i32]),
    ) -> Result<()> {
        let result = self.call_mut().write_ints(index, shape, &mut |to| {
            write(to);
            Ok(())
        });
        result.map_err(|source| self.input_error(index, source))
    }

    /// Gives an input of floats some elements of an output of another call, while that one is
    /// [read](Self::run): they are copied once, from one call's memory to the other's. `shape` is the
    /// input's, and `offset` the number of its element where they go.
    ///
    /// # Errors
    /// When there is no such input, it takes no floats of this shape, or there are no such elements.
    pub fn pass(
        &mut self,
        index: usize,
        shape: &[usize],
        output: &OutputValue,
        elements: Range<usize>,
        offset: usize,
    ) -> Result<()> {
        let result = self.call_mut().write_floats(index, shape, &mut |to| {
            let end = offset.saturating_add(elements.len());
            let count = to.len();
            let to = to.get_mut(offset..end).ok_or_else(|| {
                ValueError::mismatch(format!("{count} elements"), format!("{end}"))
            })?;
            output.array()?.read_floats(elements.clone(), to)
        });
        result.map_err(|source| self.input_error(index, source))
    }

    /// Runs the function; then calls `read` with the index and the value of each output, which lies in
    /// the backend's memory until `read` returns.
    ///
    /// # Errors
    /// When an input or a state is missing, an operation fails, `read` does, or the call is
    /// [cancelled](crate::CoreMLModel::with_cancel); a [`ValueError`] of `read` becomes one of the output.
    pub fn run(
        &mut self,
        state: Option<&mut CoreMLState>,
        read: impl FnMut(usize, &OutputValue) -> Result<()>,
    ) -> Result<()> {
        self.run_with(&[], state, read)
    }

    /// As [`run`](Self::run), with arrays for inputs of these indices, which are theirs for this run: they
    /// are read where they lie if the backend holds numbers as they do, and copied otherwise.
    ///
    /// ```no_run
    /// # fn main() -> candle_coreml::Result<()> {
    /// # let model = candle_coreml::CoreMLModel::load("", &candle_coreml::LoadOptions::new())?;
    /// # let (mut x, mut total) = (vec![0.0f32; 1000], [0.0; 10]);
    /// let mut call = model.bind()?;
    /// let array = candle_coreml::Array::new(&[10, 100], x.as_slice())?;
    /// call.run_with(&[(0, array)], None, |_, y| Ok(y.array()?.read_floats(0..10, &mut total)?))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for `run`, and when an input does not take its array.
    pub fn run_with(
        &mut self,
        arrays: &[(usize, Array)],
        state: Option<&mut CoreMLState>,
        mut read: impl FnMut(usize, &OutputValue) -> Result<()>,
    ) -> Result<()> {
        let mut reading = 0;
        let call = self.call.as_deref_mut().expect("a call that is not dropped");
        let options = CallOptions::default()
            .cancel(self.cancel.as_ref())
            .participant(self.participant.as_ref());
        let result = call.run_with(arrays, state, options, &mut |index, output| {
            reading = index;
            read(index, output)
        });
        result.map_err(|error| match (error, self.outputs().get(reading)) {
            (Error::Value(source), Some(name)) => Error::Output { name: name.clone(), source },
            (error, _) => error,
        })
    }

    /// Runs the function; gives copies of all outputs, of the types that the model describes.
    ///
    /// # Errors
    /// As for [`run`](Self::run).
    pub fn run_to_features(&mut self, state: Option<&mut CoreMLState>) -> Result<Features> {
        let calls = self.calls.clone();
        let names = self.outputs().to_vec();
        let mut features = Features::new();
        self.run(state, |index, value| {
            let name = &names[index];
            let value = value.to_value(calls.output_type(name))?;
            features.push(name.as_str(), value);
            Ok(())
        })?;
        Ok(features)
    }

    /// Says what `fp16` does to the function for the inputs given: it is run with each result of that type
    /// rounded as the program states it, beside a run in `f32`, and the report names the operations whose
    /// results overflow, lose their meaning or become NaN. The state stays as it is.
    ///
    /// # Errors
    /// As for [`run`](Self::run), or when the backend can't tell.
    pub fn check_precision(&mut self, state: Option<&mut CoreMLState>) -> Result<PrecisionReport> {
        let call = self.call.as_deref_mut().expect("a call that is not dropped");
        call.check_precision(state, self.cancel.as_ref())
    }

    /// Runs the function operation by operation, and calls `read` with what each gives, in the order in which
    /// they run. The state stays as it is.
    ///
    /// # Errors
    /// As for [`run`](Self::run), or when the backend can't tell.
    pub fn observe(
        &mut self,
        state: Option<&mut CoreMLState>,
        read: &mut (dyn FnMut(OperationResult) + Send),
    ) -> Result<()> {
        let call = self.call.as_deref_mut().expect("a call that is not dropped");
        call.observe(state, self.cancel.as_ref(), read)
    }

    fn input_error(&self, index: usize, source: ValueError) -> Error {
        backend::input_error(self.inputs(), index, source)
    }
}

/// Its memory serves the next call.
impl Drop for BoundCall {
    fn drop(&mut self) {
        let Some(mut call) = self.call.take() else { return };
        call.clear();
        let mut idle = self.calls.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MOST_IDLE {
            idle.push(call);
        }
    }
}

impl std::fmt::Debug for BoundCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BoundCall")
            .field("function", &self.calls.function)
            .field("inputs", &self.inputs())
            .finish_non_exhaustive()
    }
}
