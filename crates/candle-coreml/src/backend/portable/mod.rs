//! The portable backend: the engine, on any CPU.

mod inputs;
mod state;

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use coreml_engine::{Buffer, Context, Function, Model, Options, Shape, Workers};
use coreml_format::Package;
use coreml_format::description::ModelDescription;

use self::inputs::Inputs;
use self::state::PortableState;
use super::{Backend, Executable, LoadOptions};
use crate::error::{Error, Result};
use crate::state::CoreMLState;
use crate::tensors::{self, InputBytes};

/// The portable backend.
pub(crate) struct Portable;

impl Backend for Portable {
    fn name(&self) -> &'static str {
        "portable"
    }

    fn load(&self, package: Arc<Package>, options: &LoadOptions) -> Result<Arc<dyn Executable>> {
        let model = package.model()?;
        if model.program().is_none() {
            return Err(Error::UnsupportedModel {
                path: package.path().to_owned(),
                kind: model.kind_in_words().to_string(),
                backend: self.name(),
            });
        }
        let options = Options::new(options.chosen_workers()?).rewrites(options.rewrites);
        Ok(Arc::new(PortableModel { model: Model::load(package, &options)? }))
    }
}

/// A model that the engine runs, on some threads.
struct PortableModel {
    model: Model,
}

impl Executable for PortableModel {
    fn description(&self) -> &ModelDescription {
        self.model.description()
    }

    fn make_state(&self, function: &str) -> Result<CoreMLState> {
        let states = self.model.function(function)?.states();
        Ok(CoreMLState::new(Box::new(PortableState::new(states)?)))
    }

    fn predict(
        &self,
        function: &str,
        inputs: &[(&str, &Tensor)],
        state: Option<&mut CoreMLState>,
    ) -> Result<HashMap<String, Tensor>> {
        let (function, context) = (self.model.function(function)?, self.model.context());
        let device = inputs.first().map_or(Device::Cpu, |(_, tensor)| tensor.device().clone());
        let inputs = Inputs::new(function, inputs)?;
        let outputs =
            with_states(function, state, |states| run(function, context, &inputs, states))?;
        if matches!(device, Device::Cpu) {
            return Ok(outputs);
        }
        outputs.into_iter().map(|(name, tensor)| Ok((name, tensor.to_device(&device)?))).collect()
    }

    fn plan(&self, function: &str) -> Result<String> {
        let function = self.model.function(function)?;
        let shapes: Vec<Shape> = function.default_shapes().ok_or_else(|| Error::Program {
            function: function.name().to_owned(),
            message: "the model states no shapes to plan for".to_owned(),
        })?;
        Ok(function.explain(self.model.context(), &shapes)?)
    }

    fn plans_made(&self, function: &str) -> Result<usize> {
        Ok(self.model.function(function)?.plans_made())
    }

    fn with_workers(&self, workers: &Workers) -> Result<Arc<dyn Executable>> {
        Ok(Arc::new(PortableModel { model: self.model.with_workers(workers.clone()) }))
    }
}

/// Calls `run` with the buffers of the states that a function declares.
fn with_states<R>(
    function: &Function,
    state: Option<&mut CoreMLState>,
    run: impl FnOnce(&mut [Buffer]) -> Result<R>,
) -> Result<R> {
    let Some(first) = function.states().first() else { return run(&mut []) };
    let wrong = |message| Error::State { name: first.name.clone(), message };
    let Some(state) = state else {
        return Err(wrong(format!(
            "function `{}` has states; call `make_state` once and `predict_with_state` for each \
             prediction",
            function.name()
        )));
    };
    let states = state.downcast_mut::<PortableState>().ok_or_else(|| {
        wrong(
            "the state belongs to another backend; make it with `make_state` of a model of this \
             one"
            .to_owned(),
        )
    })?;
    let mut buffers = states.take(function.states())?;
    let result = run(&mut buffers);
    states.put_back(function.states(), buffers);
    result
}

/// Outputs by name.
fn run(
    function: &Function,
    context: &Context,
    inputs: &Inputs,
    states: &mut [Buffer],
) -> Result<HashMap<String, Tensor>> {
    let mut outputs = HashMap::new();
    let mut failed = None;
    InputBytes::with_all(&inputs.bytes, |bytes| {
        function.predict(context, &inputs.shapes, bytes, states, |name, tensor| {
            match tensors::to_candle(tensor) {
                Ok(tensor) => {
                    outputs.insert(name.to_owned(), tensor);
                }
                Err(error) => failed = Some(error),
            }
        })
    })?;
    match failed {
        Some(error) => Err(error),
        None => Ok(outputs),
    }
}
