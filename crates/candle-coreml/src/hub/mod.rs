//! Models by name: from the [Hugging Face Hub](https://huggingface.co), through the cache that all
//! of its tools share.
//!
//! Files lie in `$HF_HUB_CACHE` (`~/.cache/huggingface/hub`) in the usual layout, so that other
//! tools find what this crate has fetched and the other way round. What is this crate's own lies in
//! its own directory of the user's cache: lists of the files that a model has, and models whose
//! packages were unpacked from archives.

mod api;
mod archive;
mod assemble;
mod cache;
mod client;
mod directory;
mod environment;
mod error;
mod fetch;
mod file_list;
mod files;
mod hash;
mod http;
mod id;
mod inventory;
mod making;
mod online;
mod options;
mod own_cache;
mod record;
mod reference;
mod select;
mod snapshot;

pub use client::HubClient;
pub use error::HubError;
pub use file_list::{FileList, HubFile};
pub use id::{ContentHash, ModelId};
pub use inventory::{CachedModelInfo, Completeness, Damage, Prune};
pub use options::{DownloadEvent, DownloadOptions};
pub use own_cache::OwnCache;
pub use snapshot::Snapshot;

// Paths of the older crate.
#[cfg(feature = "llm")]
#[doc(hidden)]
pub use crate::compat::UnifiedModelLoader;
#[doc(hidden)]
pub use crate::compat::{
    CacheManager, download_model, download_model_to, ensure_model_downloaded,
    get_cached_model_path, verify_download_completeness,
};
