//! The portable backend: the crate's own engine, on any CPU.

mod function;
mod state;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use candle_core::Tensor;
use coreml_format::Package;
use coreml_format::description::ModelDescription;
use coreml_format::mil::{Block, Program};

use self::function::PortableFunction;
use self::state::PortableState;
use super::{Backend, Executable};
use crate::error::{Error, Result};
use crate::model::LoadOptions;
use crate::ops;
use crate::plan::Weights;
use crate::state::CoreMLState;

/// The portable backend.
pub(crate) struct Portable;

impl Backend for Portable {
    fn name(&self) -> &'static str {
        "portable"
    }

    fn load(&self, package: Package, _options: &LoadOptions) -> Result<Arc<dyn Executable>> {
        check_operators(package.program())?;
        let weights = Weights::new(package);
        let mut functions = BTreeMap::new();
        for (name, function) in &weights.package().program().functions {
            let prepared = PortableFunction::new(name, function, weights.clone())?;
            functions.insert(name.clone(), prepared);
        }
        Ok(Arc::new(PortableModel { weights, functions }))
    }
}

/// Refuses a program with an operation that the engine does not compute, wherever it is.
fn check_operators(program: &Program) -> Result<()> {
    for (name, function) in &program.functions {
        let unsupported = first_unsupported(&function.block, &|operator| {
            ops::STRUCTURAL.contains(&operator) || ops::lookup(operator, function.opset).is_some()
        });
        if let Some((operation, operator)) = unsupported {
            return Err(Error::UnsupportedOperation {
                function: name.clone(),
                operation,
                operator,
                opset: function.opset.to_string(),
            });
        }
    }
    Ok(())
}

/// Name and operator of the first operation that `supported` does not know, nested ones too.
fn first_unsupported(block: &Block, supported: &dyn Fn(&str) -> bool) -> Option<(String, String)> {
    block.operations.iter().find_map(|operation| {
        if !supported(&operation.operator) {
            return Some((operation.name().to_owned(), operation.operator.clone()));
        }
        operation.blocks.iter().find_map(|block| first_unsupported(block, supported))
    })
}

/// A model that the engine runs.
struct PortableModel {
    weights: Arc<Weights>,
    functions: BTreeMap<String, PortableFunction>,
}

impl PortableModel {
    fn function(&self, name: &str) -> Result<&PortableFunction> {
        self.functions.get(name).ok_or_else(|| Error::UnknownFunction {
            name: name.to_owned(),
            available: self.functions.keys().cloned().collect(),
        })
    }
}

impl Executable for PortableModel {
    fn description(&self) -> &ModelDescription {
        self.weights.package().description()
    }

    fn make_state(&self, function: &str) -> Result<CoreMLState> {
        let states = self.function(function)?.states();
        Ok(CoreMLState::new(Box::new(PortableState::new(states)?)))
    }

    fn predict(
        &self,
        function: &str,
        inputs: &[(&str, &Tensor)],
        state: Option<&mut CoreMLState>,
    ) -> Result<HashMap<String, Tensor>> {
        self.function(function)?.predict(inputs, state)
    }
}
