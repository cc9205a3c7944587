//! Core ML models for [Candle](https://github.com/huggingface/candle), on any CPU.
//!
//! [`CoreMLModel`] loads a `.mlpackage`, `.mlmodel` or `.mlmodelc` and runs it on Candle tensors;
//! `LanguageModel` generates text with an exported language model. The engine is the crate's own: no
//! Apple framework is involved.

mod backend;
mod bench;
mod call;
mod compare;
pub mod compat;
#[cfg(feature = "llm")]
pub mod config;
mod error;
#[cfg(feature = "hub")]
pub mod hub;
mod inspection;
#[cfg(feature = "llm")]
pub mod llm;
mod machine;
mod made_up;
mod model;
mod page;
mod profile;
mod state;
mod tensors;
mod values;
mod words;

// Crates whose types are in this one's signatures.
#[doc(no_inline)]
pub use candle_core;
#[cfg(feature = "image")]
#[doc(no_inline)]
pub use image;
#[doc(no_inline)]
pub use serde_json;

pub use backend::{
    Backend, BackendCall, BackendKind, Executable, LoadOptions, ReadOutput, THREADS_VARIABLE,
    WriteElements,
};
pub use bench::{Bench, Latency, ModelBenchmark};
#[cfg(feature = "llm")]
pub use bench::{DecodeSpeed, LanguageModelBenchmark, Phase, PrefillSpeed};
pub use call::BoundCall;
pub use compare::{
    FeatureDifference, OperationDifference, compare_features, compare_operations, plot_operations,
};
#[cfg(feature = "llm")]
pub use config::{ModelConfig, PackageNaming};
pub use coreml_engine::{
    CallOptions, CancelToken, Difference, EngineError, KernelError, Limits, Numerics, OpError,
    OperationError, OperationProfile, OperationResult, OutOfMemory, OutputDifference, Participant,
    Pool, Precision, PrecisionFinding, PrecisionLoss, PrecisionReport, Profile, Profiler, Rewrites,
    Workers,
};
pub use coreml_format::mil::{self, Opset};
pub use coreml_format::model::{
    Body, ClassLabels, KindInWords, Layer, Model, NeuralNetwork, Stage,
};
pub use coreml_format::{
    BlobFile, BlobRecord, BlobView, Cause, ErrorKind, FormatError, IfExists, InFile, Package,
    PackageKind, compile, decompile, description,
};
#[cfg(feature = "llm")]
pub use error::GenerationError;
pub use error::{Error, Result, ValueError};
#[cfg(feature = "hub")]
pub use hub::{DownloadOptions, HubClient, HubError, OwnCache};
pub use inspection::{
    Contents, Inspection, LayerCount, OperationCount, StageContents, WeightEncoding, inspect,
    operation_hint, supports_operation,
};
#[cfg(feature = "async")]
pub use llm::AsyncTokenStream;
#[cfg(feature = "llm")]
pub use llm::{
    ChatMessage, ChatOptions, ChatTemplate, ChooseToken, ContextOverflow, FinishReason, Generation,
    GenerationOptions, LanguageModel, LanguageModelOptions, MessageContent, RecommendedSampling,
    Session, Speculation, TextTokenizer, Timings, Token, TokenStream, Usage,
};
pub use machine::Machine;
pub use made_up::{MadeUp, make_up};
pub use model::CoreMLModel;
pub use profile::{Cost, GroupCost, OperationCost, ProfileReport};
pub use state::{BackendState, CoreMLState};
pub use values::{
    Array, Dictionary, FeatureValue, Features, Image, Numbers, NumbersMut, OutputValue, Pixels,
    RawPixels, Sequence,
};
#[cfg(feature = "image")]
pub use values::{Resize, ResizeFilter};

// Paths of the older crate.
#[cfg(feature = "hub")]
#[doc(hidden)]
pub use compat::CacheManager;
#[cfg(all(feature = "hub", feature = "llm"))]
#[doc(hidden)]
pub use compat::UnifiedModelLoader;
#[cfg(feature = "llm")]
#[doc(hidden)]
pub use compat::{
    BUILTIN_CONFIGS, ConfigGenerator, ModelNamingConfig, QwenConfig, QwenModel, get_builtin_config,
    qwen, utils,
};

/// Compiles the examples of the documents; `tests/snippets.rs` looks that none is left out.
#[cfg(all(doctest, feature = "llm", feature = "hub", feature = "image"))]
mod documents {
    #[doc = include_str!("../README.md")]
    struct Readme;

    #[doc = include_str!("../../../README.md")]
    struct RepositoryReadme;

    #[doc = include_str!("../../../docs/compiled-models.md")]
    struct CompiledModels;

    #[doc = include_str!("../../../docs/generation.md")]
    struct Generation;

    #[doc = include_str!("../../../docs/models.md")]
    struct Models;
}
