//! Plans and runs ML Programs.

pub mod definitions;
