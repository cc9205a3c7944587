"""The operators that coremltools defines, as a table in Rust."""
