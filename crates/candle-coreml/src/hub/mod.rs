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
mod environment;
mod error;
mod fetch;
mod files;
mod hash;
mod http;
mod id;
mod list;
mod options;
mod select;

pub use client::{HubClient, Snapshot};
pub use error::HubError;
pub use id::{ContentHash, ModelId};
pub use list::{FileList, HubFile};
pub use options::{DownloadEvent, DownloadOptions};
