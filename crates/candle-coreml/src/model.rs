//! Core ML models on Candle tensors.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use coreml_engine::{CancelToken, PrecisionReport, Workers};
use coreml_format::Package;
use coreml_format::description::{FunctionDescription, ModelDescription};

use crate::backend::{self, Executable, LoadOptions};
use crate::call::{BoundCall, Calls};
use crate::error::{Error, Result, ValueError};
use crate::state::CoreMLState;
use crate::values::{Features, OutputValue};

/// A loaded Core ML model, or one function of it. Clones share everything; predictions may run on
/// several threads at once.
///
/// ```no_run
/// use candle_core::{DType, Device, Tensor};
/// use candle_coreml::{CoreMLModel, LoadOptions};
///
/// # fn main() -> candle_coreml::Result<()> {
/// let model = CoreMLModel::load("model.mlpackage", &LoadOptions::new())?;
/// let x = Tensor::zeros((1, 3), DType::F32, &Device::Cpu)?;
/// let outputs = model.predict(&[("x", &x)])?;
/// println!("{}", outputs["y"]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct CoreMLModel {
    executable: Arc<dyn Executable>,
    function: FunctionDescription,
    calls: Arc<Calls>,
    cancel: Option<CancelToken>,
}

impl CoreMLModel {
    /// Loads a `.mlpackage`, an `.mlmodel`, or a compiled `.mlmodelc`.
    ///
    /// # Errors
    /// When files are missing or malformed, the model is of a kind or has an operation that the
    /// backend does not compute, or there is no function of the name asked for.
    pub fn load(path: impl AsRef<Path>, options: &LoadOptions) -> Result<Self> {
        Self::from_package(Package::open(path)?, options)
    }

    /// A model that is open already, or a [program in memory](Package::from_program).
    ///
    /// # Errors
    /// As for [`load`](Self::load).
    pub fn from_package(package: impl Into<Arc<Package>>, options: &LoadOptions) -> Result<Self> {
        let executable = backend::backend(options.backend)?.load(package.into(), options)?;
        Self::from_executable(executable, options.function.as_deref())
    }

    /// A model that a backend has loaded: for backends of your own, and for tests of what stands
    /// on models. `function` is the function to run, the default one if `None`.
    ///
    /// # Errors
    /// When there is no function of that name.
    pub fn from_executable(
        executable: Arc<dyn Executable>,
        function: Option<&str>,
    ) -> Result<Self> {
        let description = executable.description();
        let name = function.unwrap_or(&description.default_function).to_owned();
        let function =
            description.function(&name).ok_or_else(|| unknown_function(description, &name))?;
        let calls = Arc::new(Calls::new(executable.clone(), &function));
        Ok(CoreMLModel { executable, function, calls, cancel: None })
    }

    /// Inputs, outputs, states, functions and metadata of the whole model.
    pub fn description(&self) -> &ModelDescription {
        self.executable.description()
    }

    /// Name, inputs, outputs and states of the function that [`predict`](Self::predict) runs.
    pub fn function_description(&self) -> &FunctionDescription {
        &self.function
    }

    /// Another function of the same model; weights are shared.
    ///
    /// # Errors
    /// When there is no function of that name.
    pub fn function(&self, name: &str) -> Result<Self> {
        self.share(self.executable.clone(), name)
    }

    /// How many threads a prediction computes on.
    ///
    /// # Errors
    /// When the backend chooses its threads itself.
    pub fn threads(&self) -> Result<usize> {
        self.executable.threads()
    }

    /// The same function on other threads: a share, which costs no more than these, since weights
    /// and plans are common. Results are the same on any number of threads.
    ///
    /// # Errors
    /// When the backend chooses its threads itself.
    pub fn with_workers(&self, workers: &Workers) -> Result<Self> {
        let executable = self.executable.with_workers(workers)?;
        self.share(executable, &self.function.name)
    }

    /// The same function, whose predictions end when the token is cancelled: between two operations, or
    /// at the next turn of a loop, with an error of the kind [`Cancelled`](crate::ErrorKind::Cancelled).
    /// States are as they were before the prediction then.
    ///
    /// ```
    /// # use candle_coreml::{CancelToken, CoreMLModel, Result};
    /// # fn first_second_of(model: &CoreMLModel) -> Result<()> {
    /// let token = CancelToken::new();
    /// let timer = token.clone();
    /// std::thread::spawn(move || {
    ///     std::thread::sleep(std::time::Duration::from_secs(1));
    ///     timer.cancel();
    /// });
    /// let outputs = model.with_cancel(token).predict(&[])?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_cancel(&self, token: CancelToken) -> Self {
        CoreMLModel { cancel: Some(token), ..self.clone() }
    }

    fn share(&self, executable: Arc<dyn Executable>, function: &str) -> Result<Self> {
        let model = Self::from_executable(executable, Some(function))?;
        Ok(CoreMLModel { cancel: self.cancel.clone(), ..model })
    }

    /// Runs the function: outputs by name, in the dtypes that the program declares (`bool` and
    /// `uint8` as `U8`, `int8` as `I16`, `uint16` as `U32`, since Candle lacks those).
    ///
    /// Inputs are Candle tensors of the feature's shape. Any float dtype does for a float feature
    /// and any integer dtype for an integer feature, if the values fit: 1e6 is refused for `float16`.
    /// Infinities and NaN are let through.
    ///
    /// # Errors
    /// When an input is missing, unknown or has a wrong shape or dtype, the function has states,
    /// or an operation fails.
    pub fn predict(&self, inputs: &[(&str, &Tensor)]) -> Result<HashMap<String, Tensor>> {
        self.predict_tensors(inputs, None)
    }

    /// Runs the function on values of any type by name; gives the outputs, of the types that the model
    /// describes, by name and in its order. `state` is needed if the function has states.
    ///
    /// # Errors
    /// As for [`predict`](Self::predict) and [`predict_with_state`](Self::predict_with_state).
    pub fn predict_features(
        &self,
        inputs: &Features,
        state: Option<&mut CoreMLState>,
    ) -> Result<Features> {
        self.call(inputs)?.run_to_features(state)
    }

    /// Says what `fp16` does to the function for some inputs: which operations overflow, lose their meaning
    /// or make NaN when each result of that type is rounded as the program states it, and how far the
    /// outputs are then from those of `f32`. Errors are told where they begin; `docs/numerics.md` has the
    /// thresholds. The state stays as it is.
    ///
    /// # Errors
    /// As for [`predict_features`](Self::predict_features), or when the backend can't tell.
    pub fn check_precision(
        &self,
        inputs: &Features,
        state: Option<&mut CoreMLState>,
    ) -> Result<PrecisionReport> {
        self.call(inputs)?.check_precision(state)
    }

    /// A call with these inputs.
    fn call(&self, inputs: &Features) -> Result<BoundCall> {
        let mut call = self.bind()?;
        for (place, (name, value)) in inputs.iter().enumerate() {
            refuse_second(name, inputs.iter().take(place).map(|(name, _)| name))?;
            let index = call.input(name)?;
            call.set(index, value.clone())?;
        }
        Ok(call)
    }

    /// Makes ready to call the function many times, by index and with memory that is used again: for
    /// loops that must not lose time.
    ///
    /// # Errors
    /// When the backend can't.
    pub fn bind(&self) -> Result<BoundCall> {
        self.calls.bind(self.cancel.clone())
    }

    /// What the backend runs for the function at its default shapes, as text: steps, shapes, where
    /// values live, which rewrites were made.
    ///
    /// # Errors
    /// When the backend can't tell.
    pub fn plan(&self) -> Result<String> {
        self.executable.plan(&self.function.name)
    }

    /// How many plans were made for the function so far. Inputs of ever new shapes need few.
    ///
    /// # Errors
    /// When the backend can't tell.
    pub fn plans_made(&self) -> Result<usize> {
        self.executable.plans_made(&self.function.name)
    }

    /// Zeroed states for [`predict_with_state`](Self::predict_with_state).
    ///
    /// # Errors
    /// When the backend can't make them.
    pub fn make_state(&self) -> Result<CoreMLState> {
        self.executable.make_state(&self.function.name)
    }

    /// Like [`predict`](Self::predict), for a function with states, which are updated in place. After an
    /// error they are as they were before the call.
    ///
    /// # Errors
    /// As for `predict`, and when `state` lacks a state of the function.
    pub fn predict_with_state(
        &self,
        inputs: &[(&str, &Tensor)],
        state: &mut CoreMLState,
    ) -> Result<HashMap<String, Tensor>> {
        self.predict_tensors(inputs, Some(state))
    }

    fn predict_tensors(
        &self,
        inputs: &[(&str, &Tensor)],
        state: Option<&mut CoreMLState>,
    ) -> Result<HashMap<String, Tensor>> {
        let device = inputs.first().map_or(&Device::Cpu, |(_, tensor)| tensor.device());
        let mut call = self.bind()?;
        for (place, (name, tensor)) in inputs.iter().enumerate() {
            refuse_second(name, inputs.iter().take(place).map(|(name, _)| *name))?;
            let index = call.input(name)?;
            call.set(index, *tensor)?;
        }
        let mut tensors = Vec::with_capacity(call.outputs().len());
        call.run(state, |_, value| {
            tensors.push(tensor_of(value));
            Ok(())
        })?;
        let outputs = call.outputs().iter().zip(tensors).map(|(name, tensor)| {
            let tensor = tensor.map_err(|source| Error::Output { name: name.clone(), source })?;
            Ok((name.clone(), tensor.to_device(device)?))
        });
        outputs.collect()
    }
}

/// An output as a tensor.
fn tensor_of(value: &OutputValue) -> Result<Tensor, ValueError> {
    match value {
        OutputValue::Array(array) => array.to_tensor(),
        OutputValue::Value(value) => {
            let expected =
                "a multi-array, which `predict` gives (`predict_features` gives all values)";
            Err(ValueError::mismatch(expected, value.kind_in_words()))
        }
    }
}

/// Fails if a name was there before.
fn refuse_second<'a>(name: &str, mut before: impl Iterator<Item = &'a str>) -> Result<()> {
    if before.any(|earlier| earlier == name) {
        return Err(Error::Input { name: name.to_owned(), source: ValueError::GivenTwice });
    }
    Ok(())
}

impl std::fmt::Debug for CoreMLModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CoreMLModel").field("function", &self.function.name).finish_non_exhaustive()
    }
}

fn unknown_function(description: &ModelDescription, name: &str) -> Error {
    let mut available: Vec<String> =
        description.functions.iter().map(|function| function.name.clone()).collect();
    if available.is_empty() {
        available.push(description.default_function.clone());
    }
    Error::UnknownFunction { name: name.to_owned(), available }
}
