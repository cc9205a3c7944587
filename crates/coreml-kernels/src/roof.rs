//! What a machine can do at most: how fast it reads memory, and how fast it multiplies. No model on it is faster
//! than these two let it be.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::arch;
use crate::context::Context;
use crate::error::KernelError;

/// Bytes that are read: more than caches hold, of most machines.
const BYTES: usize = 512 << 20;
/// Bytes that a thread reads at a time.
const PIECE: usize = 1 << 20;
/// Multiplications and additions in each lane that a thread does at a time: about a millisecond.
const ROUNDS: usize = 1 << 18;
/// How long each of the two is measured, after which the fastest counts.
const LONGEST: Duration = Duration::from_millis(400);
/// How often each is measured at least.
const LEAST: usize = 3;

/// What a machine can do at most, on the threads and with the instruction set that it was measured with.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Roof {
    /// Bytes of memory, beyond what caches hold, that all threads together read in a second.
    pub read_bytes_per_second: f64,
    /// Multiplications and additions of single precision that all threads together do in a second.
    pub flops_per_second: f64,
}

impl Roof {
    /// Measures a machine, which should do nothing else meanwhile. Takes about a second, and 512 MiB of memory.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn measure(context: &Context) -> Result<Self, KernelError> {
        Ok(Roof {
            read_bytes_per_second: read_bytes_per_second(context, BYTES)?,
            flops_per_second: flops_per_second(context),
        })
    }
}

fn read_bytes_per_second(context: &Context, bytes: usize) -> Result<f64, KernelError> {
    let count = bytes / size_of::<f32>();
    let mut numbers: Vec<f32> = Vec::new();
    numbers.try_reserve_exact(count).map_err(|_| KernelError::Memory { bytes })?;
    numbers.resize(count, 1.0);
    let piece = PIECE / size_of::<f32>();
    let fastest = fastest(|| {
        context.workers().for_each(count.div_ceil(piece), |index| {
            let part = numbers.get(index * piece..).unwrap_or_default();
            let part = part.get(..piece).unwrap_or(part);
            black_box(arch::dot_f32(context.isa(), part, part));
        });
    });
    Ok(bytes as f64 / fastest)
}

fn flops_per_second(context: &Context) -> f64 {
    let threads = context.workers().threads();
    // A task for each thread, so that all of them are busy; several, for those that begin late.
    let tasks = threads.saturating_mul(8);
    let isa = context.isa();
    let fastest = fastest(|| {
        context.workers().for_each(tasks, |_| {
            black_box(arch::peak::multiply_and_add(isa, ROUNDS));
        });
    });
    let flops = arch::peak::multiply_and_add(isa, 1) as f64;
    flops * (tasks as f64) * (ROUNDS as f64) / fastest
}

/// Seconds of the fastest of some runs.
fn fastest(mut run: impl FnMut()) -> f64 {
    let began = Instant::now();
    let mut fastest = f64::INFINITY;
    let mut runs = 0;
    while runs < LEAST || began.elapsed() < LONGEST {
        let began = Instant::now();
        run();
        // A clock may stand still for a short time.
        fastest = fastest.min(began.elapsed().as_secs_f64().max(1e-9));
        runs += 1;
    }
    fastest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Workers;
    use crate::isa::Isa;

    #[test]
    fn each_instruction_set_multiplies_as_often_as_it_says() {
        for isa in Isa::available() {
            let once = arch::peak::multiply_and_add(isa, 1);
            assert!(once >= 2 && arch::peak::multiply_and_add(isa, 5) == 5 * once, "{isa:?}");
        }
    }

    #[test]
    fn a_machine_reads_and_multiplies() {
        let context = Context::new(Workers::new(2).unwrap());
        assert!(read_bytes_per_second(&context, 5 << 20).unwrap() > 0.0);
        assert!(flops_per_second(&context).is_finite());
        let none = read_bytes_per_second(&context, usize::MAX).unwrap_err();
        assert!(matches!(none, KernelError::Memory { .. }), "{none}");
    }
}
