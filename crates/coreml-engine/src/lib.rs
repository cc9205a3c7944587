//! Runs Core ML programs on any CPU. It knows containers and programs ([`coreml_format`]) and
//! kernels ([`coreml_kernels`]), but neither Candle nor language models.
//!
//! [`Model`] is a package made ready; its [`Function`]s run on bytes. Below them, each room knows
//! those before it only: `error`, `cancel`, `limits`, `value`, `ids`, `weights`, `definitions`, `op` (what an
//! operation is), `ops` (the operations), `graph` (what is computed from what), `plan` (the passes
//! from a function to steps and buffers), `run` (the executor), `profile` (how long operations take), `check` (what `fp16` does
//! to a function), `function` and `model`.
//! `docs/architecture.md` walks through them.

mod cancel;
mod check;
pub mod definitions;
mod error;
#[cfg(test)]
mod fixtures;
mod function;
mod graph;
mod ids;
mod limits;
mod model;
mod op;
mod ops;
mod plan;
mod profile;
mod run;
mod value;
mod weights;

pub use cancel::CancelToken;
pub use check::{
    Difference, LARGEST_ERROR, OutputDifference, PrecisionFinding, PrecisionLoss, PrecisionReport,
};
pub use coreml_kernels::{Context, KernelError, Numerics, Pool, Roof, Workers};
pub use error::{Error, Error as EngineError, OpError, OperationError, OutOfMemory, Result};
pub use function::{
    CallOptions, Classifier, Function, FunctionInput, OperationResult, Participant,
};
pub use graph::StateType;
pub use limits::Limits;
pub use model::{Model, Options, computes, support_hint, supports};
pub use plan::{Precision, Rewrites};
pub use profile::{OperationProfile, Profile, Profiler};
pub use value::{Buffer, Element, Shape, Storage, TensorRef, element_count};
