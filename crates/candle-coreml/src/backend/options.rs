//! How a model is loaded.

use std::num::ParseIntError;

use coreml_engine::{Limits, Numerics, Precision, Profiler, Rewrites, Workers};
use coreml_format::Cause;

use crate::error::{Error, Result};

/// The environment's number of threads, for models that are loaded without one.
pub const THREADS_VARIABLE: &str = "CANDLE_COREML_THREADS";

/// Which backend runs a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackendKind {
    /// The best one that is there.
    #[default]
    Auto,
    /// The crate's own engine, on any CPU.
    Portable,
    /// Apple's CoreML.framework, which this version has no binding to.
    Apple,
}

/// How to load a model.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct LoadOptions {
    /// The backend to run it.
    pub backend: BackendKind,
    /// The function that [`CoreMLModel::predict`](crate::CoreMLModel::predict) runs; the model's
    /// default one if `None`.
    pub function: Option<String>,
    /// The threads that the portable backend computes on; see [`LoadOptions::threads`].
    pub workers: Option<Workers>,
    /// Which rewrites the portable backend makes; all unless told otherwise.
    pub rewrites: Rewrites,
    /// How precise the portable backend's results of `fp16` are; those of `f32` unless told otherwise.
    pub precision: Precision,
    /// How exactly the portable backend multiplies `fp16` values with constant weights; in single precision
    /// unless told otherwise.
    pub numerics: Numerics,
    /// The most memory and time that a prediction may take; without limits unless told otherwise.
    pub limits: Limits,
    /// Whether the portable backend takes weights for zeros and does not open their files.
    pub without_weights: bool,
    /// What collects how long the portable backend's operations take, if anything does.
    pub profiler: Option<Profiler>,
}

impl LoadOptions {
    /// The default options: the best backend, the model's default function, the threads of the
    /// process.
    pub fn new() -> Self {
        Self::default()
    }

    /// Chooses the backend.
    pub fn backend(mut self, backend: BackendKind) -> Self {
        self.backend = backend;
        self
    }

    /// Chooses the function.
    pub fn function(mut self, name: impl Into<String>) -> Self {
        self.function = Some(name.into());
        self
    }

    /// Gives the model so many threads of its own. Models that are loaded without share those of the
    /// process: as many as the variable `CANDLE_COREML_THREADS` says, else as many as there are
    /// processors.
    ///
    /// # Errors
    /// When `threads` is 0 or they can't be started.
    pub fn threads(self, threads: usize) -> Result<Self> {
        Ok(self.workers(Workers::new(threads)?))
    }

    /// Lets the model compute on these threads, which others may use, too.
    pub fn workers(mut self, workers: Workers) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Chooses which rewrites the portable backend makes: all, those whose results are the same bit
    /// for bit, or none.
    pub fn rewrites(mut self, rewrites: Rewrites) -> Self {
        self.rewrites = rewrites;
        self
    }

    /// Chooses how precise the portable backend's results of `fp16` are: computed and held as `f32`, or
    /// each rounded to `fp16` as the program states it, to infinity where that overflows. The second shows
    /// what hardware makes of a model that computes in `fp16`;
    /// [`CoreMLModel::check_precision`](crate::CoreMLModel::check_precision) says where the two part.
    pub fn precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// Chooses how exactly the portable backend multiplies `fp16` values with constant weights: in single
    /// precision, or with numbers of 14 to 16 bits that share a scale, where that is faster. Where each result is [rounded](Self::precision) as the program states it, products are
    /// those of single precision.
    pub fn numerics(mut self, numerics: Numerics) -> Self {
        self.numerics = numerics;
        self
    }

    /// Limits what a prediction may take: for models of strangers, whose programs may ask for any amount
    /// of memory and never end. What is met is an error of the kind
    /// [`Limit`](crate::ErrorKind::Limit) that names the operation, and states are as they were.
    ///
    /// ```
    /// use std::time::Duration;
    /// use candle_coreml::{Limits, LoadOptions};
    ///
    /// let limits = Limits::new().memory(4 << 30).time(Duration::from_secs(60));
    /// let options = LoadOptions::new().limits(limits);
    /// ```
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Takes weights for zeros and does not open their files: to see what runs for a model, and which shapes
    /// come out, where its weights are not there. What it predicts means nothing.
    pub fn without_weights(mut self) -> Self {
        self.without_weights = true;
        self
    }

    /// Lets a profiler collect how long the operations of all calls take, on the portable backend. A call that is
    /// not collected runs as without one.
    ///
    /// ```no_run
    /// use candle_coreml::{CoreMLModel, LoadOptions, ProfileReport, Profiler};
    ///
    /// # fn main() -> candle_coreml::Result<()> {
    /// let profiler = Profiler::new();
    /// let options = LoadOptions::new().profiler(profiler.clone());
    /// let model = CoreMLModel::load("model.mlpackage", &options)?;
    /// model.predict(&[])?;
    /// let report = ProfileReport::new(&profiler.take(), "predictions", 1);
    /// for operation in report.costliest() {
    ///     println!("{} {} s", operation.operation, operation.cost.seconds);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn profiler(mut self, profiler: Profiler) -> Self {
        self.profiler = Some(profiler);
        self
    }

    /// The threads to compute on: those chosen, else those of the process.
    pub(crate) fn chosen_workers(&self) -> Result<Workers> {
        use std::sync::OnceLock;
        static SHARED: OnceLock<Workers> = OnceLock::new();
        if let Some(workers) = &self.workers {
            return Ok(workers.clone());
        }
        if let Some(shared) = SHARED.get() {
            return Ok(shared.clone());
        }
        let made = match std::env::var(THREADS_VARIABLE) {
            Err(_) => Workers::shared(),
            Ok(text) => threads_of(&text)?,
        };
        Ok(SHARED.get_or_init(|| made).clone())
    }
}

/// As many threads as the variable says.
fn threads_of(text: &str) -> Result<Workers> {
    let wrong = |message: String, source: Cause| Error::Variable {
        name: THREADS_VARIABLE,
        value: text.to_owned(),
        message,
        source: Some(source),
    };
    let threads = text.trim().parse().map_err(|error: ParseIntError| {
        wrong("expected a number of threads".to_owned(), Box::new(error))
    })?;
    Workers::new(threads).map_err(|error| wrong(error.to_string(), Box::new(error)))
}
