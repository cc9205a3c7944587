//! How exactly products with constant weights are computed.

/// How exactly products with constant weights are computed. Whoever calls a kernel chooses: programs say
/// how precise a value is, and a user what speed is worth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Numerics {
    /// In single precision, from the exact weights.
    #[default]
    Strict,
    /// As products of integers of 14 to 16 bits that share a scale within a block, where that is faster: with
    /// weights and activations that are spread evenly, more exactly than with activations of half precision; less
    /// so where many small ones meet few large ones. Of scaled integers, weights are not rounded to half precision.
    Halves,
}

impl Numerics {
    /// All of them, the most exact one first.
    pub const ALL: [Self; 2] = [Self::Strict, Self::Halves];

    /// Its name in options: `strict` or `halves`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Halves => "halves",
        }
    }
}
