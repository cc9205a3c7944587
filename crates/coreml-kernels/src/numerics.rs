//! How exactly products with constant weights are computed.

/// How exactly products with constant weights are computed. Whoever calls a kernel chooses: programs say
/// how precise a value is, and a user what speed is worth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Numerics {
    /// In single precision, from the exact weights.
    Strict,
    /// At least as exactly as with activations of half precision: products may be of integers of 14 to 16 bits
    /// that share a scale within a block. Of scaled integers, weights are then not rounded to half precision.
    #[default]
    Halves,
    /// As [`Halves`](Self::Halves), with activations of 8 bits where that is faster: not for few columns, where
    /// those of 16 bits keep up with memory.
    Fast,
}
