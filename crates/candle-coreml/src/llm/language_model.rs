//! The public model.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use coreml_engine::{Numerics, Precision, Profiler, Rewrites, Workers};

use crate::backend::{BackendKind, LoadOptions};
use crate::config::{
    Chunk, Component, Discovery, Layout, ModelConfig, OpenedPackages, PackageNaming,
    RecommendedSampling, describe, findings,
};
use crate::error::Result;
#[cfg(feature = "hub")]
use crate::hub::{DownloadOptions, HubClient};
use crate::llm::generation::{Core, Generation, Session, TokenStream};
use crate::llm::pipeline::{ChunkStages, Pipeline, Stage};
use crate::llm::request::{ChatMessage, ChatOptions, GenerationOptions};
use crate::llm::text::TextTokenizer;
use crate::model::CoreMLModel;

/// How to load a language model. Nothing is needed: what a directory holds is found out.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct LanguageModelOptions {
    /// How the packages are named, for directories that hold several models.
    pub naming: PackageNaming,
    /// What runs the packages.
    pub backend: BackendKind,
    /// The threads that all packages compute on; see [`LanguageModelOptions::threads`].
    pub workers: Option<Workers>,
    /// Which rewrites the portable backend makes; all unless told otherwise.
    pub rewrites: Rewrites,
    /// How precise the portable backend's results of `fp16` are; those of `f32` unless told otherwise.
    pub precision: Precision,
    /// How exactly the portable backend multiplies `fp16` values with constant weights.
    pub numerics: Numerics,
    /// Which packages and functions are the components, where that is not to be discovered.
    pub config: Option<ModelConfig>,
    /// What collects how long the portable backend's operations take, if anything does.
    pub profiler: Option<Profiler>,
}

impl LanguageModelOptions {
    /// Any names, the best backend, the threads of the process, everything discovered.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how the packages are named.
    pub fn naming(mut self, naming: PackageNaming) -> Self {
        self.naming = naming;
        self
    }

    /// Sets what runs the packages.
    pub fn backend(mut self, backend: BackendKind) -> Self {
        self.backend = backend;
        self
    }

    /// Gives the model so many threads of its own, which its packages share. Models that are loaded
    /// without compute on those of the process: see [`LoadOptions::threads`].
    ///
    /// # Errors
    /// When `threads` is 0 or they can't be started.
    pub fn threads(self, threads: usize) -> Result<Self> {
        let workers = LoadOptions::new().threads(threads)?.workers;
        Ok(LanguageModelOptions { workers, ..self })
    }

    /// Lets the model compute on these threads, which others may use, too.
    pub fn workers(mut self, workers: Workers) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Chooses which rewrites the portable backend makes: see [`LoadOptions::rewrites`].
    pub fn rewrites(mut self, rewrites: Rewrites) -> Self {
        self.rewrites = rewrites;
        self
    }

    /// Chooses how precise the portable backend's results of `fp16` are: see
    /// [`LoadOptions::precision`].
    pub fn precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// Chooses how exactly the portable backend multiplies `fp16` values with constant weights: see
    /// [`LoadOptions::numerics`].
    pub fn numerics(mut self, numerics: Numerics) -> Self {
        self.numerics = numerics;
        self
    }

    /// States the components.
    pub fn config(mut self, config: ModelConfig) -> Self {
        self.config = Some(config);
        self
    }

    /// Lets a profiler collect how long operations take: see [`LoadOptions::profiler`].
    pub fn profiler(mut self, profiler: Profiler) -> Self {
        self.profiler = Some(profiler);
        self
    }
}

/// A language model exported to Core ML, in any of the layouts of `docs/anemll.md`, with one
/// conversation of its own: its methods continue that conversation where the prompt does, and
/// [`session`](Self::session) starts others.
#[derive(Debug)]
pub struct LanguageModel {
    config: ModelConfig,
    findings: Vec<String>,
    recommended: RecommendedSampling,
    core: Arc<Core>,
    session: Session,
    load_time: Duration,
}

impl LanguageModel {
    /// Loads the model of a directory: its packages (`.mlpackage` or `.mlmodelc`), `meta.yaml` if
    /// there is one, and its tokenizer.
    ///
    /// # Errors
    /// When a component or the tokenizer is missing, a package can't be loaded, or the components
    /// do not fit together.
    pub fn load(directory: impl AsRef<Path>) -> Result<Self> {
        Self::load_with(directory, &LanguageModelOptions::new())
    }

    /// Like [`load`](Self::load), with options.
    ///
    /// # Errors
    /// As for `load`, and when the options' configuration differs from the packages.
    pub fn load_with(directory: impl AsRef<Path>, options: &LanguageModelOptions) -> Result<Self> {
        let start = Instant::now();
        let directory = directory.as_ref();
        let discovery = Discovery::new(directory, &options.naming, options.config.as_ref())?;
        let layout = Layout::new(&discovery)?;
        let recommended = RecommendedSampling::of(&discovery, &layout)?;
        let findings = findings(layout.findings.clone(), &recommended);
        for finding in &findings {
            tracing::warn!(directory = %directory.display(), "{finding}");
        }
        let tokenizer = TextTokenizer::load(directory)?;
        let mut packages = Packages { options, opened: &discovery.opened, loaded: HashMap::new() };
        let pipeline = packages.pipeline(&discovery, layout)?;
        let config = describe(&discovery, &pipeline.layout);
        let mut model = Self::assemble(pipeline, config, tokenizer);
        model.recommended = recommended;
        model.findings = findings;
        model.load_time = start.elapsed();
        tracing::info!(
            directory = %directory.display(),
            seconds = model.load_time.as_secs_f64(),
            shapes = ?model.config.shapes,
            "loaded"
        );
        Ok(model)
    }

    /// Loads the model of an id on the hub, such as `org/name`: out of the cache without using the
    /// network if all of it is there, else after downloading it. [`HubClient::download`] looks for
    /// a newer version.
    ///
    /// # Errors
    /// When the model can't be had, and as for [`load`](Self::load).
    #[cfg(feature = "hub")]
    pub fn from_hub(id: &str) -> Result<Self> {
        Self::load(HubClient::new().ensure(id, &DownloadOptions::new())?)
    }

    /// Puts a pipeline and a tokenizer together.
    pub(crate) fn assemble(
        pipeline: Pipeline,
        config: ModelConfig,
        tokenizer: TextTokenizer,
    ) -> Self {
        let findings = pipeline.layout.findings.clone();
        let core = Arc::new(Core::new(pipeline, tokenizer));
        let session = Session::new(core.clone());
        LanguageModel {
            config,
            findings,
            recommended: RecommendedSampling::default(),
            core,
            session,
            load_time: Duration::ZERO,
        }
    }

    /// What the model is made of, and its sizes.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// What is odd about the model's directory, in words for people.
    pub fn findings(&self) -> &[String] {
        &self.findings
    }

    /// Tokens that prompt and answer may have together.
    pub fn context_length(&self) -> usize {
        self.core.network.context_length()
    }

    /// Number of tokens that the model knows.
    pub fn vocabulary_size(&self) -> usize {
        self.core.network.vocabulary_size()
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &TextTokenizer {
        &self.core.tokenizer
    }

    /// How the model's makers recommend to generate with it, in `meta.yaml` and
    /// `generation_config.json`: see [`GenerationOptions::recommended`].
    pub fn recommended_sampling(&self) -> &RecommendedSampling {
        &self.recommended
    }

    /// How long loading took.
    pub fn load_time(&self) -> Duration {
        self.load_time
    }

    /// How many plans the functions of its packages have made so far: one each where shapes are
    /// fixed, and few where they grow with the conversation.
    pub fn plans_made(&self) -> usize {
        self.core.network.plans_made()
    }

    /// A new conversation, which shares the weights.
    pub fn session(&self) -> Session {
        Session::new(self.core.clone())
    }

    /// Token ids of a text, as they are fed to the model.
    ///
    /// # Errors
    /// When the text has no tokens.
    pub fn tokenize(&self, text: &str) -> Result<Vec<u32>> {
        self.tokenizer().encode(text)
    }

    /// Generates text that continues `prompt`: see [`Session::generate`].
    ///
    /// # Errors
    /// When the prompt is empty or does not fit into the context, an option is out of range, or the
    /// model fails.
    pub fn generate(&mut self, prompt: &str, options: &GenerationOptions) -> Result<Generation> {
        self.session.generate(prompt, options)
    }

    /// Like [`generate`](Self::generate), token by token: see [`Session::stream`].
    ///
    /// # Errors
    /// As for `generate`; errors of the model come from the iterator.
    pub fn stream(&mut self, prompt: &str, options: &GenerationOptions) -> Result<TokenStream<'_>> {
        self.session.stream(prompt, options)
    }

    /// Answers a conversation: see [`Session::chat`].
    ///
    /// # Errors
    /// When the model has no chat template or it refuses the messages, and as for
    /// [`generate`](Self::generate).
    pub fn chat(&mut self, messages: &[ChatMessage], options: &ChatOptions) -> Result<Generation> {
        self.session.chat(messages, options)
    }

    /// Like [`chat`](Self::chat), token by token.
    ///
    /// # Errors
    /// As for `chat`; errors of the model come from the iterator.
    pub fn chat_stream(
        &mut self,
        messages: &[ChatMessage],
        options: &ChatOptions,
    ) -> Result<TokenStream<'_>> {
        self.session.chat_stream(messages, options)
    }

    /// Text of up to `max_tokens` tokens, always the most likely ones.
    ///
    /// # Errors
    /// As for [`generate`](Self::generate).
    pub fn complete_text(&mut self, prompt: &str, max_tokens: usize) -> Result<String> {
        self.session.complete_text(prompt, max_tokens)
    }

    /// Text of up to `max_tokens` tokens.
    ///
    /// # Errors
    /// As for [`generate`](Self::generate).
    pub fn generate_text(
        &mut self,
        prompt: &str,
        max_tokens: usize,
        temperature: impl Into<f64>,
    ) -> Result<String> {
        self.generate_text_with_params(prompt, max_tokens, temperature, None)
    }

    /// Text of up to `max_tokens` tokens, sampled among the `top_k` most likely ones.
    ///
    /// # Errors
    /// As for [`generate`](Self::generate).
    pub fn generate_text_with_params(
        &mut self,
        prompt: &str,
        max_tokens: usize,
        temperature: impl Into<f64>,
        top_k: Option<usize>,
    ) -> Result<String> {
        let temperature = temperature.into();
        let options =
            GenerationOptions { max_tokens, temperature, top_k, ..GenerationOptions::default() };
        Ok(self.generate(prompt, &options)?.text)
    }

    /// Makes the key-value states now instead of with the first text; forgets the conversation.
    ///
    /// # Errors
    /// When the backend can't make them.
    pub fn initialize_states(&mut self) -> Result<()> {
        self.session.initialize_states()
    }

    /// Forgets the conversation.
    pub fn reset_states(&mut self) {
        self.session.reset();
    }
}

/// Loads each package once, whatever number of its functions is used.
struct Packages<'a> {
    options: &'a LanguageModelOptions,
    opened: &'a OpenedPackages,
    loaded: HashMap<PathBuf, CoreMLModel>,
}

impl Packages<'_> {
    fn pipeline(&mut self, discovery: &Discovery, layout: Layout) -> Result<Pipeline> {
        let components = &discovery.components;
        let rotates = layout.sliding.is_some();
        let windows = layout.window > 1;
        Ok(Pipeline {
            embeddings: components.embeddings.as_ref().map(|c| self.stage(c)).transpose()?,
            chunks: components
                .chunks
                .iter()
                .map(|chunk| self.chunk(chunk, windows, rotates))
                .collect::<Result<_>>()?,
            lm_head: components.lm_head.as_ref().map(|c| self.stage(c)).transpose()?,
            layout,
        })
    }

    /// A chunk's functions, as far as they will run.
    fn chunk(&mut self, chunk: &Chunk, windows: bool, rotates: bool) -> Result<ChunkStages> {
        let prefill = chunk.prefill.as_ref().filter(|_| windows);
        let infer_rotate = chunk.infer_rotate.as_ref().filter(|_| rotates);
        Ok(ChunkStages {
            infer: self.stage(&chunk.infer)?,
            prefill: prefill.map(|component| self.stage(component)).transpose()?,
            infer_rotate: infer_rotate.map(|component| self.stage(component)).transpose()?,
        })
    }

    fn stage(&mut self, component: &Component) -> Result<Stage> {
        let model = match self.loaded.get(&component.path) {
            Some(model) => model.clone(),
            None => {
                tracing::debug!(path = %component.path.display(), "load");
                let asked = self.options;
                let mut options = LoadOptions::new()
                    .backend(asked.backend)
                    .rewrites(asked.rewrites)
                    .precision(asked.precision)
                    .numerics(asked.numerics);
                options.workers.clone_from(&asked.workers);
                options.profiler.clone_from(&asked.profiler);
                let package = self.opened.open(&component.path)?;
                let model = CoreMLModel::from_package(package, &options)?;
                self.loaded.insert(component.path.clone(), model.clone());
                model
            }
        };
        Stage::new(component, model.function(&component.function.name)?)
    }
}
