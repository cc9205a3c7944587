//! How fast models run: predictions of any model, prompts and tokens of language models, and what their
//! operations take.

#[cfg(feature = "llm")]
mod language;
mod latency;
mod page;

use std::path::Path;
use std::time::{Duration, Instant};

use coreml_engine::Profiler;
use coreml_format::Package;
use serde::Serialize;

pub use self::latency::Latency;
use crate::backend::LoadOptions;
use crate::error::Result;
use crate::inspection::weight_bytes;
use crate::machine::{Machine, peak_memory};
use crate::model::CoreMLModel;
use crate::profile::{GroupCost, ProfileReport};
use crate::state::CoreMLState;
use crate::values::Features;

#[cfg(feature = "llm")]
pub use self::language::{DecodeSpeed, LanguageModelBenchmark, Phase, PrefillSpeed};

/// What is measured, and how often.
///
/// ```no_run
/// use candle_coreml::{Bench, CoreMLModel, Features, LoadOptions, make_up};
///
/// # fn main() -> candle_coreml::Result<()> {
/// let (path, options) = ("model.mlpackage", LoadOptions::new());
/// let model = CoreMLModel::load(path, &options)?;
/// let mut inputs = Features::new();
/// for input in &model.function_description().inputs {
///     inputs.push(input.name.as_str(), make_up(input)?.value);
/// }
/// let benchmark = Bench::new().model(path, &options, &inputs)?;
/// println!("{} ms", benchmark.latency_ms.p50);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Bench {
    /// Runs of each thing that is measured; by itself, of predictions as many as fit into five seconds (10 to
    /// 1000), and 3 of a language model's prompts and texts, whose median counts.
    pub runs: Option<usize>,
    /// Lengths of prompts of language models, in tokens; longer ones than the context has room for count as
    /// what it has room for.
    pub prompts: Vec<usize>,
    /// Positions from which on language models decode, in the same way.
    pub positions: Vec<usize>,
    /// Tokens that are decoded from each position on.
    pub tokens: usize,
}

/// How fast a model predicts. Serialized, it is what `candle-coreml bench --json` prints.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ModelBenchmark {
    /// The model's path.
    pub model: String,
    /// The function that runs.
    pub function: String,
    /// What it runs on; without, the backend chooses its threads itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<Machine>,
    /// How long loading took.
    pub load_seconds: f64,
    /// How long the first prediction took.
    pub first_prediction_seconds: f64,
    /// How long the predictions after it took: inputs given by name, outputs copied.
    pub latency_ms: Latency,
    /// The most memory that the process has held by then, in bytes, mapped files included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_memory_bytes: Option<u64>,
    /// Bytes of the weights in the model's files.
    pub weight_bytes: u64,
    /// What a prediction takes by what is computed, those first that take longest: of some more predictions.
    pub operators: Vec<GroupCost>,
}

/// Predictions, beyond which no more are measured; those that are at least, and how long.
const MOST_RUNS: usize = 1000;
const LEAST_RUNS: usize = 10;
const LONGEST: Duration = Duration::from_secs(5);
/// Predictions that warm up, and those whose operations are measured.
const WARM_UP: usize = 2;
const PROFILED: usize = 5;

impl Default for Bench {
    fn default() -> Self {
        Bench { runs: None, prompts: vec![64, 448], positions: vec![0, 448], tokens: 16 }
    }
}

impl Bench {
    /// Prompts of 64 and 448 tokens, 16 tokens from positions 0 and 448 on.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how often each thing is measured.
    pub fn runs(mut self, runs: usize) -> Self {
        self.runs = Some(runs);
        self
    }

    /// Sets the lengths of language models' prompts.
    pub fn prompts(mut self, tokens: impl Into<Vec<usize>>) -> Self {
        self.prompts = tokens.into();
        self
    }

    /// Sets the positions from which on language models decode.
    pub fn positions(mut self, positions: impl Into<Vec<usize>>) -> Self {
        self.positions = positions.into();
        self
    }

    /// Sets how many tokens are decoded from each position on.
    pub fn tokens(mut self, tokens: usize) -> Self {
        self.tokens = tokens;
        self
    }

    /// Loads a model and measures its predictions of these inputs, from zeroed states.
    ///
    /// # Errors
    /// When the model can't be loaded, or a prediction fails.
    pub fn model(
        &self,
        path: impl AsRef<Path>,
        options: &LoadOptions,
        inputs: &Features,
    ) -> Result<ModelBenchmark> {
        let mut subject = Subject::load(path.as_ref(), options, inputs)?;
        let load_seconds = subject.load_time.as_secs_f64();
        let first_prediction_seconds = subject.predict()?.as_secs_f64();
        subject.warm_up()?;
        let latency_ms = Latency::new(&self.predictions(&mut subject)?);
        let peak_memory_bytes = peak_memory();
        let profile = subject.profile(PROFILED.min(self.runs.unwrap_or(PROFILED)))?;
        let threads = subject.model.threads();
        Ok(ModelBenchmark {
            model: path.as_ref().display().to_string(),
            function: subject.model.function_description().name.clone(),
            machine: match threads {
                Ok(_) => Some(Machine::measure(&options.chosen_workers()?)?),
                Err(_) => None,
            },
            load_seconds,
            first_prediction_seconds,
            latency_ms,
            peak_memory_bytes,
            weight_bytes: weight_bytes(&Package::open(path)?)?,
            operators: profile.operators,
        })
    }

    /// Loads a model and measures what the operations take of some predictions of these inputs, from zeroed
    /// states: of as many as there are [`runs`](Self::runs), or 5.
    ///
    /// # Errors
    /// As for [`model`](Self::model).
    pub fn profile(
        &self,
        path: impl AsRef<Path>,
        options: &LoadOptions,
        inputs: &Features,
    ) -> Result<ProfileReport> {
        let mut subject = Subject::load(path.as_ref(), options, inputs)?;
        subject.warm_up()?;
        subject.profile(self.runs.unwrap_or(PROFILED))
    }

    /// How long predictions take.
    fn predictions(&self, subject: &mut Subject) -> Result<Vec<Duration>> {
        let began = Instant::now();
        let mut times = Vec::new();
        let goes_on = |done: usize| match self.runs {
            Some(runs) => done < runs.max(1),
            None => done < LEAST_RUNS || (done < MOST_RUNS && began.elapsed() < LONGEST),
        };
        while goes_on(times.len()) {
            times.push(subject.predict()?);
        }
        Ok(times)
    }
}

/// A model that is measured.
struct Subject<'a> {
    model: CoreMLModel,
    inputs: &'a Features,
    profiler: Profiler,
    load_time: Duration,
}

impl<'a> Subject<'a> {
    fn load(path: &Path, options: &LoadOptions, inputs: &'a Features) -> Result<Self> {
        let profiler = Profiler::new();
        profiler.stop();
        let options = options.clone().profiler(profiler.clone());
        let began = Instant::now();
        let model = CoreMLModel::load(path, &options)?;
        Ok(Subject { model, inputs, profiler, load_time: began.elapsed() })
    }

    /// How long a prediction takes.
    fn predict(&mut self) -> Result<Duration> {
        let stateful = !self.model.function_description().states.is_empty();
        let mut state: Option<CoreMLState> =
            stateful.then(|| self.model.make_state()).transpose()?;
        let began = Instant::now();
        self.model.predict_features(self.inputs, state.as_mut())?;
        Ok(began.elapsed())
    }

    fn warm_up(&mut self) -> Result<()> {
        (0..WARM_UP).try_for_each(|_| self.predict().map(drop))
    }

    fn profile(&mut self, runs: usize) -> Result<ProfileReport> {
        self.profiler.start();
        (0..runs).try_for_each(|_| self.predict().map(drop))?;
        self.profiler.stop();
        Ok(ProfileReport::new(&self.profiler.take(), "predictions", runs))
    }
}
