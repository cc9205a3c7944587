//! Portable loops compiled once per instruction set.
#![allow(unsafe_code)]

use crate::isa::Isa;

/// A loop that the compiler can vectorise. `run` must be `#[inline(always)]`, so that it takes on
/// the features of the function it is placed in.
pub(crate) trait Loop {
    /// What the loop computes.
    type Output;
    /// Runs it.
    fn run(self) -> Self::Output;
}

/// Runs a loop in the version for `isa`.
pub(crate) fn run<L: Loop>(isa: Isa, work: L) -> L::Output {
    match isa.of_floats() {
        // SAFETY: the token in `isa` proves that the CPU has the features.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(_) => unsafe { run_avx2(work) },
        // SAFETY: the token in `isa` proves that the CPU has the features.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(_) => unsafe { run_avx512(work) },
        _ => work.run(),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn run_avx2<L: Loop>(work: L) -> L::Output {
    work.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma,f16c")]
fn run_avx512<L: Loop>(work: L) -> L::Output {
    work.run()
}
