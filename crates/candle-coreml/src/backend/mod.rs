//! Backends: what runs a model. One trait, so that the model API does not know which.

mod options;
mod portable;

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::Tensor;
use coreml_engine::Workers;
use coreml_format::Package;
use coreml_format::description::ModelDescription;

use crate::error::{Error, Result};
use crate::state::CoreMLState;

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

    /// Runs a function: outputs by name.
    ///
    /// # Errors
    /// When an input or state is missing, unknown or has a wrong shape or dtype, or an operation
    /// fails.
    fn predict(
        &self,
        function: &str,
        inputs: &[(&str, &Tensor)],
        state: Option<&mut CoreMLState>,
    ) -> Result<HashMap<String, Tensor>>;

    /// What the backend runs for a function at its default shapes, as text for people.
    ///
    /// # Errors
    /// When there is no such function, or the backend can't tell.
    fn plan(&self, function: &str) -> Result<String> {
        Err(Error::Program {
            function: function.to_owned(),
            message: "this backend does not tell how it runs a function".to_owned(),
        })
    }

    /// How many plans were made for a function so far: one for fixed shapes, few for flexible ones.
    ///
    /// # Errors
    /// When there is no such function.
    fn plans_made(&self, _function: &str) -> Result<usize> {
        Ok(0)
    }

    /// The same model on other threads, with which it shares all that it has made ready.
    ///
    /// # Errors
    /// When the backend chooses its threads itself.
    fn with_workers(&self, _workers: &Workers) -> Result<Arc<dyn Executable>> {
        Err(Error::Threads("this backend chooses its threads itself".to_owned()))
    }
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
