//! What the CPU at hand can do, as values that prove it.
//!
//! A vector routine asks for a token ([`Avx2`], [`Avx512`], [`Avx512Vbmi`], [`Avx512Vnni`]); a token exists only
//! if run-time detection found the features. Holding one is the safety argument of the routine.

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

/// Proof of AVX-512 VBMI, and of everything [`Avx512`] stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Avx512Vbmi(());

impl Avx512Vbmi {
    /// The weaker proof that this one contains.
    pub fn avx512(self) -> Avx512 {
        Avx512(())
    }
}

/// Proof of AVX-512 VNNI, and of everything [`Avx512Vbmi`] stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Avx512Vnni(());

impl Avx512Vnni {
    /// The weaker proof that this one contains.
    pub fn vbmi(self) -> Avx512Vbmi {
        Avx512Vbmi(())
    }
}

/// The instruction set a kernel runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Isa {
    /// Portable Rust.
    Generic,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2(Avx2),
    /// x86-64 with AVX-512 F, BW and VL.
    Avx512(Avx512),
    /// The same with VBMI.
    Avx512Vbmi(Avx512Vbmi),
    /// The same with VNNI (Ice Lake, Zen 4 and later).
    Avx512Vnni(Avx512Vnni),
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
        let avx512 = avx2.and_then(|_| detect_avx512());
        let vbmi = avx512.and_then(|_| detect_vbmi());
        all.extend(avx2.map(Self::Avx2));
        all.extend(avx512.map(Self::Avx512));
        let vnni = vbmi.and_then(|_| detect_vnni());
        all.extend(vbmi.map(Self::Avx512Vbmi));
        all.extend(vnni.map(Self::Avx512Vnni));
        all
    }

    /// A short name for reports: `generic`, `avx2`, `avx512`, `avx512vbmi` or `avx512vnni`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Generic => "generic",
            Self::Avx2(_) => "avx2",
            Self::Avx512(_) => "avx512",
            Self::Avx512Vbmi(_) => "avx512vbmi",
            Self::Avx512Vnni(_) => "avx512vnni",
        }
    }

    /// The set without what only loops over bytes use.
    pub(crate) fn of_floats(self) -> Self {
        self.vbmi().map_or(self, |token| Self::Avx512(token.avx512()))
    }

    /// The proof of VBMI, if the set has it.
    pub(crate) fn vbmi(self) -> Option<Avx512Vbmi> {
        match self {
            Self::Avx512Vbmi(token) => Some(token),
            Self::Avx512Vnni(token) => Some(token.vbmi()),
            _ => None,
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

#[cfg(target_arch = "x86_64")]
fn detect_vbmi() -> Option<Avx512Vbmi> {
    is_x86_feature_detected!("avx512vbmi").then_some(Avx512Vbmi(()))
}

#[cfg(target_arch = "x86_64")]
fn detect_vnni() -> Option<Avx512Vnni> {
    is_x86_feature_detected!("avx512vnni").then_some(Avx512Vnni(()))
}

#[cfg(not(target_arch = "x86_64"))]
fn detect_avx2() -> Option<Avx2> {
    None
}

#[cfg(not(target_arch = "x86_64"))]
fn detect_avx512() -> Option<Avx512> {
    None
}

#[cfg(not(target_arch = "x86_64"))]
fn detect_vbmi() -> Option<Avx512Vbmi> {
    None
}

#[cfg(not(target_arch = "x86_64"))]
fn detect_vnni() -> Option<Avx512Vnni> {
    None
}
