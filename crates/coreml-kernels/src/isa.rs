//! What the CPU at hand can do, as values that prove it.
//!
//! A vector routine asks for a token ([`Avx2`], [`Avx512`]); a token exists only if run-time
//! detection found the features. Holding one is the safety argument of the routine.

use std::sync::OnceLock;

/// Proof of AVX2, FMA and F16C.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Avx2(());

/// Proof of AVX-512 F, BW and VL, and of everything [`Avx2`] stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Avx512(());

impl Avx512 {
    /// The weaker proof that this one contains.
    pub fn avx2(self) -> Avx2 {
        Avx2(())
    }
}

/// The instruction set a kernel runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// Portable Rust.
    Generic,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2(Avx2),
    /// x86-64 with AVX-512 F, BW and VL.
    Avx512(Avx512),
}

impl Isa {
    /// The best set of this CPU. Detected once per process.
    pub fn detect() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| Self::available().last().copied().unwrap_or(Self::Generic))
    }

    /// All sets of this CPU, the plainest first. Tests run each against [`Isa::Generic`].
    pub fn available() -> Vec<Self> {
        let mut all = vec![Self::Generic];
        let avx2 = detect_avx2();
        all.extend(avx2.map(Self::Avx2));
        if avx2.is_some() {
            all.extend(detect_avx512().map(Self::Avx512));
        }
        all
    }

    /// A short name for reports: `generic`, `avx2` or `avx512`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Generic => "generic",
            Self::Avx2(_) => "avx2",
            Self::Avx512(_) => "avx512",
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn detect_avx2() -> Option<Avx2> {
    let found = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c");
    found.then_some(Avx2(()))
}

#[cfg(target_arch = "x86_64")]
fn detect_avx512() -> Option<Avx512> {
    let found = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl");
    found.then_some(Avx512(()))
}

#[cfg(not(target_arch = "x86_64"))]
fn detect_avx2() -> Option<Avx2> {
    None
}

#[cfg(not(target_arch = "x86_64"))]
fn detect_avx512() -> Option<Avx512> {
    None
}
