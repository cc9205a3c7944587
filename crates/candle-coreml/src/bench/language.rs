//! How fast language models read prompts and decode.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use coreml_engine::Profiler;
use coreml_format::Package;
use serde::Serialize;

use super::latency::median;
use super::{Bench, PROFILED};
use crate::backend::LoadOptions;
use crate::error::Result;
use crate::inspection::weight_bytes;
use crate::llm::{
    Generation, GenerationOptions, LanguageModel, LanguageModelOptions, Session, Speculation,
};
use crate::machine::{Machine, peak_memory};
use crate::profile::{GroupCost, ProfileReport};

/// How fast a language model is. Serialized, it is what `candle-coreml bench --json` prints.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct LanguageModelBenchmark {
    /// The model's directory.
    pub model: String,
    /// What it runs on.
    pub machine: Machine,
    /// Tokens that prompt and text may have together.
    pub context_length: usize,
    /// How long loading took.
    pub load_seconds: f64,
    /// From the ids of the first prompt, of the first length that is measured, to the first token after it: with
    /// nothing warm but the files.
    pub first_token_seconds: f64,
    /// How fast prompts run, by their lengths.
    pub prefill: Vec<PrefillSpeed>,
    /// How fast tokens come, by the position from which on.
    pub decode: Vec<DecodeSpeed>,
    /// The most memory that the process has held by then, in bytes, mapped files included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_memory_bytes: Option<u64>,
    /// Bytes of the weights in the model's files.
    pub weight_bytes: u64,
    /// Bytes of constants that a token reads, decoded from the first position on.
    pub token_bytes: u64,
    /// What prompts of the first length take by what is computed, those first that take longest.
    pub prefill_operators: Vec<GroupCost>,
    /// The same of tokens, decoded from the first position on.
    pub decode_operators: Vec<GroupCost>,
}

impl LanguageModelBenchmark {
    /// Tokens that could be decoded in a second if nothing were to do but to read the weights from memory.
    pub fn most_tokens_per_second(&self) -> f64 {
        self.machine.read_gigabytes_per_second * 1e9 / self.token_bytes.max(1) as f64
    }
}

/// How fast prompts of a length run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PrefillSpeed {
    /// Tokens of the prompt.
    pub tokens: usize,
    /// Tokens of it that run in a second, the choice of the first token behind it included.
    pub tokens_per_second: f64,
}

/// How fast tokens come at a position.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct DecodeSpeed {
    /// Tokens that the cache holds when the first one is decoded.
    pub position: usize,
    /// Tokens that come in a second.
    pub tokens_per_second: f64,
}

/// What a language model does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// It runs a prompt, of the first length that is measured.
    Prefill,
    /// It decodes tokens, from the first position that is measured on.
    Decode,
}

/// Runs of prompts and texts, unless told otherwise.
const RUNS: usize = 3;

impl Bench {
    /// Loads the language model of a directory and measures it, on tokens that are made up.
    ///
    /// # Errors
    /// When the model can't be loaded, or fails.
    pub fn language_model(
        &self,
        directory: impl AsRef<Path>,
        options: &LanguageModelOptions,
    ) -> Result<LanguageModelBenchmark> {
        let mut subject = Subject::load(self, directory.as_ref(), options)?;
        let first = subject.run(subject.prompts.first().copied().unwrap_or(1), 1)?;
        let prefill = subject.prefill()?;
        let decode = subject.decode()?;
        let peak_memory_bytes = peak_memory();
        let profile = subject.profile(Phase::Decode)?;
        let prefill_profile = subject.profile(Phase::Prefill)?;
        let mut load_options = LoadOptions::new();
        load_options.workers.clone_from(&options.workers);
        Ok(LanguageModelBenchmark {
            model: directory.as_ref().display().to_string(),
            machine: Machine::measure(&load_options.chosen_workers()?)?,
            context_length: subject.model.context_length(),
            load_seconds: subject.model.load_time().as_secs_f64(),
            first_token_seconds: first.timings.prompt.as_secs_f64(),
            prefill,
            decode,
            peak_memory_bytes,
            weight_bytes: subject.weight_bytes(directory.as_ref())?,
            token_bytes: profile.total().constant_bytes / profile.runs.max(1) as u64,
            prefill_operators: prefill_profile.operators,
            decode_operators: profile.operators,
        })
    }

    /// Loads the language model of a directory and measures what its operations take of a phase, on tokens that
    /// are made up.
    ///
    /// # Errors
    /// As for [`language_model`](Self::language_model).
    pub fn profile_language_model(
        &self,
        directory: impl AsRef<Path>,
        options: &LanguageModelOptions,
        phase: Phase,
    ) -> Result<ProfileReport> {
        Subject::load(self, directory.as_ref(), options)?.profile(phase)
    }
}

/// A language model that is measured.
struct Subject {
    model: LanguageModel,
    session: Session,
    profiler: Profiler,
    /// Tokens that are made up, as many as the context has room for.
    ids: Vec<u32>,
    runs: usize,
    prompts: BTreeSet<usize>,
    positions: BTreeSet<usize>,
    tokens: usize,
}

impl Subject {
    fn load(bench: &Bench, directory: &Path, options: &LanguageModelOptions) -> Result<Self> {
        let profiler = Profiler::new();
        profiler.stop();
        let options = options.clone().profiler(profiler.clone());
        let model = LanguageModel::load_with(directory, &options)?;
        let context = model.context_length();
        // A token before those that are decoded, and the first one, which is the prompt's.
        let tokens = bench.tokens.clamp(1, context.saturating_sub(2).max(1));
        let last = context.saturating_sub(tokens + 1);
        Ok(Subject {
            session: model.session(),
            profiler,
            ids: made_up_ids(context, model.vocabulary_size()),
            runs: bench.runs.unwrap_or(RUNS).max(1),
            prompts: clamped(&bench.prompts, 1, context.saturating_sub(1)),
            positions: clamped(&bench.positions, 0, last),
            tokens,
            model,
        })
    }

    /// Runs a prompt of so many tokens, as far as the cache does not hold it, and generates so many.
    fn run(&mut self, prompt: usize, tokens: usize) -> Result<Generation> {
        let ids = self.ids.get(..prompt.max(1)).unwrap_or(&self.ids);
        self.session.stream_ids(ids, &options(tokens))?.finish()
    }

    fn prefill(&mut self) -> Result<Vec<PrefillSpeed>> {
        let mut speeds = Vec::new();
        for tokens in self.prompts.clone() {
            let rate = self.median_of(|subject| {
                subject.session.reset();
                Ok(subject.run(tokens, 1)?.prompt_tokens_per_second())
            })?;
            speeds.extend(rate.map(|rate| PrefillSpeed { tokens, tokens_per_second: rate }));
        }
        Ok(speeds)
    }

    fn decode(&mut self) -> Result<Vec<DecodeSpeed>> {
        let mut speeds = Vec::new();
        for position in self.positions.clone() {
            let tokens = self.tokens + 1;
            let rate = self.median_of(|subject| {
                Ok(subject.run(position, tokens)?.generated_tokens_per_second())
            })?;
            speeds.extend(rate.map(|rate| DecodeSpeed { position, tokens_per_second: rate }));
        }
        Ok(speeds)
    }

    /// The median of some runs, after one that warms up.
    fn median_of(
        &mut self,
        mut run: impl FnMut(&mut Self) -> Result<Option<f64>>,
    ) -> Result<Option<f64>> {
        run(self)?;
        let rates: Result<Vec<Option<f64>>> = (0..self.runs).map(|_| run(self)).collect();
        Ok(median(rates?.into_iter().flatten().collect()))
    }

    fn profile(&mut self, phase: Phase) -> Result<ProfileReport> {
        self.profiler.take();
        let (unit, runs) = match phase {
            Phase::Prefill => ("prompt tokens", self.profile_prefill()?),
            Phase::Decode => ("decoded tokens", self.profile_decode()?),
        };
        Ok(ProfileReport::new(&self.profiler.take(), unit, runs))
    }

    /// Gives how many tokens ran.
    fn profile_prefill(&mut self) -> Result<usize> {
        let tokens = self.prompts.first().copied().unwrap_or(1);
        let runs = self.runs.min(PROFILED);
        for run in 0..=runs {
            // The first one warms up.
            if run > 0 {
                self.profiler.start();
            }
            self.session.reset();
            let ran = self.run(tokens, 1);
            self.profiler.stop();
            ran?;
        }
        Ok(tokens * runs)
    }

    /// Gives how many tokens ran.
    fn profile_decode(&mut self) -> Result<usize> {
        let position = self.positions.first().copied().unwrap_or(0);
        self.run(position, 2)?;
        let ids = self.ids.get(..position.max(1)).unwrap_or(&self.ids);
        let mut stream = self.session.stream_ids(ids, &options(self.tokens + 1))?;
        // The first token is the prompt's.
        stream.next().transpose()?;
        self.profiler.start();
        let mut tokens = 0;
        let ran = stream.try_for_each(|token| token.map(|_| tokens += 1));
        self.profiler.stop();
        ran.map(|()| tokens)
    }

    /// Bytes of the weights in the files of all components.
    fn weight_bytes(&self, directory: &Path) -> Result<u64> {
        let components = self.model.config().components.values();
        let paths = components.filter_map(|component| component.file_path.as_deref());
        let paths: BTreeSet<PathBuf> = paths.map(|path| directory.join(path)).collect();
        paths.iter().map(|path| weight_bytes(&Package::open(path)?)).sum()
    }
}

/// The most likely tokens, so many of them, one after the other.
fn options(tokens: usize) -> GenerationOptions {
    GenerationOptions::new().max_tokens(tokens).ignore_eos(true).speculation(Speculation::Off)
}

/// Each number once, in order and within bounds.
fn clamped(numbers: &[usize], least: usize, most: usize) -> BTreeSet<usize> {
    numbers.iter().map(|&number| number.clamp(least, most.max(least))).collect()
}

/// Tokens from all over the vocabulary.
fn made_up_ids(count: usize, vocabulary: usize) -> Vec<u32> {
    let vocabulary = u32::try_from(vocabulary).unwrap_or(u32::MAX).max(1);
    // A prime, so that tokens repeat late.
    (1..=count as u32).map(|number| number.wrapping_mul(2_654_435_761) % vocabulary).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_into_the_context_is_measured_at_its_end() {
        let of = |numbers: &[usize], least, most| Vec::from_iter(clamped(numbers, least, most));
        assert_eq!(of(&[0, 448, 4096], 0, 111), [0, 111]);
        assert_eq!(of(&[64, 0], 1, 63), [1, 63]);
        assert_eq!(of(&[5], 1, 0), [1]);
    }

    #[test]
    fn tokens_are_of_the_vocabulary() {
        let ids = made_up_ids(1000, 97);
        assert!(ids.len() == 1000 && ids.iter().all(|&id| id < 97));
        assert!(BTreeSet::from_iter(ids).len() > 90);
        assert_eq!(made_up_ids(2, 0), [0, 0]);
    }
}
