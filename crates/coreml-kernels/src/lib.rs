//! CPU kernels: slices in, slices out. The only home of SIMD code.
//!
//! Activations are `f32`; weights are `f32`, `f16` or compressed and may lie in a memory-mapped
//! file. Nothing here knows of programs, operations or Candle. Every public function checks the
//! lengths it is given and answers with a [`KernelError`]; none panics on bad sizes.
//!
//! Every kernel is given a [`Context`]: the threads that large calls are divided among, the
//! instruction set and scratch memory. Vector code is chosen at run time (see [`isa`]); every
//! vector path has a portable twin it is tested against.

mod arch;
pub mod attention;
pub mod boxes;
pub mod context;
pub mod conv;
pub mod convert;
pub mod decompress;
mod error;
mod fixed;
pub mod gemm;
pub mod isa;
mod lanes;
pub mod matmul_f16;
mod matrix;
pub mod norm;
mod numerics;
mod panels;
pub mod pool;
pub mod project;
pub mod quantize;
pub mod random;
pub mod resize;
mod roof;
pub mod rotary;
pub mod sample;
pub mod softmax;
mod spatial;
mod thresholds;
pub mod unpack;
pub mod vecmath;
pub mod weights;

pub use attention::{AttentionSizes, Heads, Mask, Scoring, attention};
pub use context::{Context, Lease, Pool, Scratch, Workers};
pub use conv::{ConvParams, ConvTransposeParams, conv, conv_transpose};
pub use error::KernelError;
pub use gemm::gemm_batch;
pub use isa::Isa;
pub use matmul_f16::attention_matmul;
pub use matrix::{BatchStrides, Matrix, MatrixMut, Order};
pub use numerics::Numerics;
pub use pool::{PoolParams, Pooling, pool};
pub use project::{ColumnLayout, OutputLayout, project, project_rows};
pub use roof::Roof;
pub use spatial::SpatialDim;
pub use weights::{Blockwise, Encoding, Palettized, Table, Weights};
