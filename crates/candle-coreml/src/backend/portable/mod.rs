//! The portable backend: the engine, on any CPU.

mod call;
mod state;

use std::sync::Arc;

use coreml_engine::{Model, Options, Shape, Workers};
use coreml_format::Package;
use coreml_format::description::ModelDescription;

use self::call::PortableCall;
use self::state::PortableState;
use super::{Backend, BackendCall, Executable, LoadOptions};
use crate::error::{Error, Result};
use crate::state::CoreMLState;

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
        let engine_options = Options::new(options.chosen_workers()?)
            .rewrites(options.rewrites)
            .precision(options.precision)
            .numerics(options.numerics)
            .limits(options.limits)
            .without_weights(options.without_weights)
            .profiler(options.profiler.as_ref().map(|profiler| profiler.of_model(&name(&package))));
        Ok(Arc::new(PortableModel { model: Model::load(package, &engine_options)? }))
    }
}

/// What a package is called: its file's name without the extension.
fn name(package: &Package) -> String {
    let name = package.path().file_stem().unwrap_or_default();
    name.to_string_lossy().into_owned()
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

    fn bind(&self, function: &str) -> Result<Box<dyn BackendCall>> {
        let described = self.description().function(function);
        let function = self.model.function(function)?.clone();
        let context = self.model.context().clone();
        Ok(Box::new(PortableCall::new(function, context, described.as_ref())))
    }

    fn plan(&self, function: &str) -> Result<String> {
        let function = self.model.function(function)?;
        let shapes: Vec<Shape> = function
            .default_shapes()
            .ok_or_else(|| Error::NoDefaultShapes { function: function.name().to_owned() })?;
        Ok(function.explain(self.model.context(), &shapes)?)
    }

    fn plans_made(&self, function: &str) -> Result<usize> {
        Ok(self.model.function(function)?.plans_made())
    }

    fn threads(&self) -> Result<usize> {
        Ok(self.model.context().workers().threads())
    }

    fn with_workers(&self, workers: &Workers) -> Result<Arc<dyn Executable>> {
        Ok(Arc::new(PortableModel { model: self.model.with_workers(workers.clone()) }))
    }
}
