//! What the benches share.

use std::hint::black_box;
use std::time::Instant;

use coreml_kernels::{Context, KernelError, Workers};

/// What a bench runs with.
pub struct Bench {
    /// All threads, the best instruction set.
    pub ctx: Context,
    filter: String,
}

impl Bench {
    /// A bench of the cases whose names hold the program's first argument.
    pub fn new() -> Self {
        let filter = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
        let bench = Self { ctx: Context::new(Workers::shared()), filter };
        println!("{} on {} threads", bench.ctx.isa().name(), bench.ctx.workers().threads());
        bench
    }

    /// Whether a case of this name is to be run.
    pub fn wants(&self, name: &str) -> bool {
        name.contains(&self.filter)
    }

    /// Times `run` and prints its speed in billions of `work` per second.
    pub fn report(&self, name: &str, work: usize, unit: &str, mut run: impl FnMut()) {
        if !self.wants(name) {
            return;
        }
        let (mut best, mut spent) = (f64::INFINITY, 0.0);
        run();
        while spent < 0.15 {
            let start = Instant::now();
            run();
            let seconds = start.elapsed().as_secs_f64();
            best = best.min(seconds);
            spent += seconds;
        }
        let speed = work as f64 / best / 1e9;
        println!("{name:<32} {:>10.2} us {speed:>8.2} G{unit}/s", best * 1e6);
    }
}

/// Fails if a kernel did.
pub fn expect(result: Result<(), KernelError>) {
    black_box(result).expect("the sizes fit");
}
