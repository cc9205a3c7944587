//! Reads Core ML models without any Apple code: containers (`.mlpackage`, `.mlmodel`,
//! `.mlmodelc`), feature descriptions, MIL programs (protobuf and text) and weight blobs; and
//! [compiles](compile()) packages, or makes packages of compiled models.
//!
//! Everything read here is untrusted: malformed bytes give a [`FormatError`], never a panic.

pub mod blob;
mod compile;
pub mod description;
mod error;
pub mod files;
pub mod mil;
pub mod model;
pub mod package;
mod printable;
mod proto;

pub use blob::{BlobFile, BlobRecord, BlobView, refuse_lfs_pointer, unpack_sub_byte};
pub use compile::{IfExists, compile, decompile};
pub use description::ModelDescription;
pub use error::{Cause, ErrorKind, FormatError, InFile};
pub use files::FileKind;
pub use model::{Body, Model};
pub use package::{Package, PackageKind};
pub use printable::{printable, printable_list, printable_message, printable_name, printable_path};

/// Compiles the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
