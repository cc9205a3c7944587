//! Models by name: from the [Hugging Face Hub](https://huggingface.co), through the cache that all
//! of its tools share.
//!
//! Files lie in `$HF_HUB_CACHE` (`~/.cache/huggingface/hub`) in the usual layout, so that other
//! tools find what this crate has fetched and the other way round. What is this crate's own lies in
//! its own directory of the user's cache: lists of the files that a model has, and models whose
//! packages were unpacked from archives.

mod archive;
mod assemble;
mod cache;
mod client;
mod directory;
mod environment;
mod error;
mod fetch;
mod files;
mod hash;
mod http;
mod id;
mod inventory;
mod list;
#[cfg(feature = "llm")]
mod loader;
mod manager;
mod online;
mod options;
mod select;

pub use client::{HubClient, Snapshot};
pub use error::HubError;
pub use id::{ContentHash, ModelId};
pub use inventory::{CachedModelInfo, Completeness, Damage, Prune};
pub use list::{FileList, HubFile};
#[cfg(feature = "llm")]
pub use loader::{
    UnifiedModelLoader, download_model, download_model_to, ensure_model_downloaded,
    get_cached_model_path, verify_download_completeness,
};
pub use manager::CacheManager;
pub use options::{DownloadEvent, DownloadOptions};
