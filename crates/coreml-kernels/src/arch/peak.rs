//! Multiplications and additions at the pace of the processor: nothing but registers.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;
use std::hint::black_box;

use crate::isa::Isa;

/// Sums that do not wait for each other: as many as two units need whose results take four or five steps, and as
/// registers hold beside the factors.
const SUMS: usize = 12;

/// Multiplies and adds so many times in each lane of [`SUMS`] sums; gives how many multiplications and additions
/// that were.
pub(crate) fn multiply_and_add(isa: Isa, rounds: usize) -> usize {
    let lanes = match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the token proves that the CPU has the features.
        Isa::Avx512(_) | Isa::Avx512Vbmi(_) => unsafe { avx512(rounds) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the token proves that the CPU has the features.
        Isa::Avx2(_) => unsafe { avx2(rounds) },
        _ => generic(rounds),
    };
    rounds.saturating_mul(2 * SUMS * lanes)
}

/// Factor and addend keep the sums where numbers are normal. Nobody knows them beforehand.
fn operands() -> (f32, f32) {
    black_box((0.999, 0.001))
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn avx512(rounds: usize) -> usize {
    let (factor, addend) = operands();
    let (factor, addend) = (_mm512_set1_ps(factor), _mm512_set1_ps(addend));
    let mut sums = [addend; SUMS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_fmadd_ps(*sum, factor, addend);
        }
    }
    black_box(sums);
    16
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2(rounds: usize) -> usize {
    let (factor, addend) = operands();
    let (factor, addend) = (_mm256_set1_ps(factor), _mm256_set1_ps(addend));
    let mut sums = [addend; SUMS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm256_fmadd_ps(*sum, factor, addend);
        }
    }
    black_box(sums);
    8
}

/// In lanes that a compiler finds registers for.
fn generic(rounds: usize) -> usize {
    const LANES: usize = 4;
    let (factor, addend) = operands();
    let mut sums = [[addend; LANES]; SUMS];
    for _ in 0..rounds {
        for sum in sums.as_flattened_mut() {
            *sum = *sum * factor + addend;
        }
    }
    black_box(sums);
    LANES
}
