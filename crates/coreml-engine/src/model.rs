//! A package made ready: its functions, their weights, and the threads that they run on.

use std::collections::BTreeMap;
use std::sync::Arc;

use coreml_format::Package;
use coreml_format::description::ModelDescription;
use coreml_format::mil::{Block, Opset, Program};
use coreml_kernels::{Context, Numerics, Workers};

use crate::definitions::Definition;
use crate::error::{Error, Result};
use crate::function::Function;
use crate::limits::Limits;
use crate::ops;
use crate::plan::{self, Precision, Rewrites};
use crate::profile::Profiler;
use crate::weights::Weights;

/// How a model is loaded.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// The threads that it computes on.
    pub workers: Workers,
    /// Which patterns of operations are replaced by others that compute the same faster.
    pub rewrites: Rewrites,
    /// The most that a prediction may take.
    pub limits: Limits,
    /// How precise results of `fp16` are.
    pub precision: Precision,
    /// How exactly products of `fp16` values with constant weights are computed.
    pub numerics: Numerics,
    /// Whether weights are taken for zeros, and their files not opened.
    pub without_weights: bool,
    /// What collects how long operations take, if anything does.
    pub profiler: Option<Profiler>,
}

impl Options {
    /// A model that computes on these threads.
    pub fn new(workers: Workers) -> Self {
        Options {
            workers,
            rewrites: Rewrites::default(),
            limits: Limits::default(),
            precision: Precision::default(),
            numerics: Numerics::default(),
            without_weights: false,
            profiler: None,
        }
    }

    /// Chooses which rewrites are made.
    pub fn rewrites(self, rewrites: Rewrites) -> Self {
        Options { rewrites, ..self }
    }

    /// Limits what a prediction may take.
    pub fn limits(self, limits: Limits) -> Self {
        Options { limits, ..self }
    }

    /// Chooses how precise results of `fp16` are.
    pub fn precision(self, precision: Precision) -> Self {
        Options { precision, ..self }
    }

    /// Chooses how exactly products of `fp16` values with constant weights are computed.
    pub fn numerics(self, numerics: Numerics) -> Self {
        Options { numerics, ..self }
    }

    /// Chooses whether weights are taken for zeros and their files not opened: to see how a model is planned
    /// whose weights are not there.
    pub fn without_weights(self, without_weights: bool) -> Self {
        Options { without_weights, ..self }
    }

    /// Lets a profiler collect how long the operations of all calls take.
    pub fn profiler(self, profiler: Option<Profiler>) -> Self {
        Options { profiler, ..self }
    }
}

impl Default for Options {
    /// A model that computes on the threads of the process.
    fn default() -> Self {
        Options::new(Workers::shared())
    }
}

/// A model that the engine runs, or a [share](Model::with_workers) of one.
pub struct Model {
    loaded: Arc<Loaded>,
    context: Arc<Context>,
}

/// What all shares of a model have in common.
struct Loaded {
    weights: Arc<Weights>,
    description: ModelDescription,
    functions: BTreeMap<String, Arc<Function>>,
}

impl Model {
    /// Prepares all functions of a package for their default shapes.
    ///
    /// # Errors
    /// When the package holds no ML Program, or the program has an operation that the engine does not
    /// compute, or is wrong.
    pub fn load(package: impl Into<Arc<Package>>, options: &Options) -> Result<Self> {
        let weights = match options.without_weights {
            true => Weights::zeros(package, options.limits)?,
            false => Weights::new(package, options.limits)?,
        };
        check_operators(weights.program())?;
        let description = weights.package().description()?.clone();
        let numerics = match options.precision {
            Precision::Single => options.numerics,
            // Whoever asks for each rounding compares, and wants no others.
            Precision::AsDeclared => Numerics::Strict,
        };
        let context = Context::new(options.workers.clone()).with_numerics(numerics);
        let context = Arc::new(context);
        let mut functions = BTreeMap::new();
        for (name, function) in &weights.program().functions {
            let &Options { rewrites, precision, .. } = options;
            let plans = plan::Options { rewrites, precision, ..plan::Options::default() };
            let described = description.function(name);
            let function = Function::new(
                name,
                function,
                described.as_ref(),
                weights.clone(),
                &context,
                plans,
                options.limits,
            )?;
            let function = function.with_profiler(options.profiler.clone());
            functions.insert(name.clone(), Arc::new(function));
        }
        Ok(Model { loaded: Arc::new(Loaded { weights, description, functions }), context })
    }

    /// The same model on other threads. Weights, plans and workspaces are shared, so that a share
    /// costs no more than its threads; results are the same on any number of them.
    pub fn with_workers(&self, workers: Workers) -> Self {
        let context = Context::new(workers).with_numerics(self.context.numerics());
        Model { loaded: self.loaded.clone(), context: Arc::new(context) }
    }

    /// What functions of this model are run with.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// The program.
    pub fn program(&self) -> &Program {
        self.loaded.weights.program()
    }

    /// The interface.
    pub fn description(&self) -> &ModelDescription {
        &self.loaded.description
    }

    /// The function of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn function(&self, name: &str) -> Result<&Arc<Function>> {
        self.loaded.functions.get(name).ok_or_else(|| Error::UnknownFunction {
            name: name.to_owned(),
            available: self.loaded.functions.keys().cloned().collect(),
        })
    }

    /// All functions.
    pub fn functions(&self) -> impl Iterator<Item = &Function> {
        self.loaded.functions.values().map(|function| &**function)
    }

    /// How many times a weight was widened or brought into another form so far, for all functions,
    /// plans and calls together.
    pub fn weight_forms_made(&self) -> usize {
        self.loaded.weights.forms_made()
    }
}

/// Whether the engine computes the operator that a name means in an opset. Combinations of arguments
/// that it does not take are reported when a model is loaded.
pub fn supports(operator: &str, opset: Opset) -> bool {
    ops::support(operator, opset).is_supported()
}

/// What to say besides of an operator that [`supports`] denies, as it goes on after the message; empty
/// where there is nothing to say.
pub fn support_hint(operator: &str, opset: Opset) -> String {
    ops::support(operator, opset).hint()
}

/// Whether the engine computes a version of an operator.
pub fn computes(definition: &Definition) -> bool {
    ops::is_computed(definition)
}

/// Refuses a program with an operation that the engine does not compute, wherever it is.
fn check_operators(program: &Program) -> Result<()> {
    for (name, function) in &program.functions {
        let Some((operation, operator)) = first_unsupported(&function.block, function.opset) else {
            continue;
        };
        return Err(Error::UnsupportedOperation {
            function: name.clone(),
            operation,
            hint: support_hint(&operator, function.opset),
            operator,
            opset: function.opset,
        });
    }
    Ok(())
}

/// Name and operator of the first operation that the engine does not compute, nested ones too.
fn first_unsupported(block: &Block, opset: Opset) -> Option<(String, String)> {
    block.operations.iter().find_map(|operation| {
        if !supports(&operation.operator, opset) {
            return Some((operation.name().to_owned(), operation.operator.clone()));
        }
        operation.blocks.iter().find_map(|block| first_unsupported(block, opset))
    })
}
