//! The public model.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coreml_format::description::FunctionDescription;

use crate::error::{Error, Result};
use crate::llm::{
    Generation, GenerationOptions, LanguageModel, Manifest, Session, TextTokenizer, TokenStream,
};
use crate::model::{CoreMLModel, LoadOptions};
use crate::qwen::config::{ChunkInterfaces, Function, Interfaces, ModelConfig, QwenConfig};
use crate::qwen::inference::{Chunk, Pipeline};
use crate::qwen::naming::Components;

/// A Qwen model in ANEMLL's layout, with one conversation of its own: its methods continue that
/// conversation where the prompt does, and [`session`](Self::session) starts others.
#[derive(Debug)]
pub struct QwenModel {
    config: ModelConfig,
    language: Arc<LanguageModel>,
    session: Session,
    load_time: Duration,
}

impl QwenModel {
    /// Loads the model of a directory: its packages (`.mlpackage` or `.mlmodelc`), `meta.yaml` if
    /// there is one, and its tokenizer.
    ///
    /// # Errors
    /// When a component or the tokenizer is missing, a package can't be loaded, or the components
    /// do not fit together.
    pub fn load_from_directory(
        directory: impl AsRef<Path>,
        config: Option<QwenConfig>,
    ) -> Result<Self> {
        let start = Instant::now();
        let directory = directory.as_ref();
        let config = config.unwrap_or_default();
        let manifest = Manifest::read(directory)?;
        if let Some(manifest) = manifest.as_ref().filter(|manifest| manifest.monolithic) {
            return Err(Error::LanguageModel {
                path: manifest.path.clone(),
                message: "the model is monolithic; export it in components (embeddings, FFN, LM \
                          head) to run it here"
                    .to_owned(),
            });
        }
        let tokenizer = TextTokenizer::load(directory)?;
        let components = config.naming.locate(directory, manifest.as_ref())?;
        let parts = Parts::load(&components, &LoadOptions::new().backend(config.backend))?;
        let mut model = Self::assemble(parts, &components, manifest.as_ref(), tokenizer)?;
        model.load_time = start.elapsed();
        tracing::info!(
            directory = %directory.display(),
            seconds = model.load_time.as_secs_f64(),
            config = ?model.config,
            "loaded"
        );
        Ok(model)
    }

    /// Puts loaded packages together.
    pub(super) fn assemble(
        parts: Parts,
        components: &Components,
        manifest: Option<&Manifest>,
        tokenizer: TextTokenizer,
    ) -> Result<Self> {
        let config = ModelConfig::new(&parts.interfaces(components), manifest)?;
        let Parts { embeddings, chunks, lm_head } = parts;
        let pipeline = Pipeline { config: config.clone(), embeddings, chunks, lm_head };
        let language = Arc::new(LanguageModel { network: Box::new(pipeline), tokenizer });
        let session = Session::new(language.clone());
        Ok(QwenModel { config, language, session, load_time: Duration::ZERO })
    }

    /// Sizes of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &TextTokenizer {
        &self.language.tokenizer
    }

    /// How long loading took.
    pub fn load_time(&self) -> Duration {
        self.load_time
    }

    /// A new conversation, which shares the weights.
    pub fn session(&self) -> Session {
        Session::new(self.language.clone())
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

    /// Text of up to `max_tokens` tokens, always the most likely ones.
    ///
    /// # Errors
    /// As for [`generate`](Self::generate).
    pub fn complete_text(&mut self, prompt: &str, max_tokens: usize) -> Result<String> {
        self.generate_text(prompt, max_tokens, 0.0)
    }

    /// Text of up to `max_tokens` tokens.
    ///
    /// # Errors
    /// As for [`generate`](Self::generate).
    pub fn generate_text(
        &mut self,
        prompt: &str,
        max_tokens: usize,
        temperature: f64,
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
        temperature: f64,
        top_k: Option<usize>,
    ) -> Result<String> {
        Ok(self.generate(prompt, &sampling(max_tokens, temperature, top_k))?.text)
    }

    /// Like [`generate_text_with_params`](Self::generate_text_with_params), as token ids.
    ///
    /// # Errors
    /// As for [`generate`](Self::generate).
    pub fn generate_tokens_topk_temp(
        &mut self,
        prompt: &str,
        max_tokens: usize,
        temperature: f64,
        top_k: Option<usize>,
    ) -> Result<Vec<u32>> {
        Ok(self.generate(prompt, &sampling(max_tokens, temperature, top_k))?.token_ids)
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

fn sampling(max_tokens: usize, temperature: f64, top_k: Option<usize>) -> GenerationOptions {
    GenerationOptions { max_tokens, temperature, top_k, ..GenerationOptions::default() }
}

/// Loaded packages.
pub(super) struct Parts {
    pub(super) embeddings: CoreMLModel,
    pub(super) chunks: Vec<Chunk>,
    pub(super) lm_head: CoreMLModel,
}

impl Parts {
    fn load(components: &Components, options: &LoadOptions) -> Result<Self> {
        let load = |path: &Path| {
            tracing::debug!(path = %path.display(), "load");
            CoreMLModel::load(path, options)
        };
        Ok(Parts {
            embeddings: load(&components.embeddings)?,
            chunks: components
                .chunks
                .iter()
                .map(|path| Chunk::new(load(path)?))
                .collect::<Result<_>>()?,
            lm_head: load(&components.lm_head)?,
        })
    }

    fn interfaces<'a>(&'a self, components: &'a Components) -> Interfaces<'a> {
        let chunk = |(chunk, path): (&'a Chunk, &'a std::path::PathBuf)| ChunkInterfaces {
            infer: function(path, &chunk.infer),
            prefill: chunk.prefill.as_ref().map(|prefill| function(path, prefill)),
        };
        Interfaces {
            embeddings: function(&components.embeddings, &self.embeddings),
            chunks: self.chunks.iter().zip(&components.chunks).map(chunk).collect(),
            lm_head: function(&components.lm_head, &self.lm_head),
        }
    }
}

fn function<'a>(path: &'a Path, model: &'a CoreMLModel) -> Function<'a> {
    Function { path, description: model.function_description() }
}

impl Chunk {
    /// The functions `infer` and `prefill`; a package with a single function of another name runs
    /// that one token by token.
    pub(super) fn new(model: CoreMLModel) -> Result<Self> {
        let has = |name: &str| {
            model
                .description()
                .functions
                .iter()
                .any(|function: &FunctionDescription| function.name == name)
        };
        let infer = if has("infer") { model.function("infer")? } else { model.clone() };
        let prefill = if has("prefill") { Some(model.function("prefill")?) } else { None };
        Ok(Chunk { infer, prefill })
    }
}
