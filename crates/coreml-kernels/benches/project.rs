//! Matrix-vector speed per encoding, next to what reading memory allows.
//!
//! `cargo bench -p coreml-kernels --bench project`; `RAYON_NUM_THREADS=1` for a single thread.
#![allow(clippy::print_stdout)]

use std::hint::black_box;
use std::time::Instant;

use coreml_kernels::{
    Blockwise, ColumnLayout, Encoding, KernelError, OutputLayout, Palettized, Table, Weights,
    project,
};
use half::f16;
use rayon::prelude::*;

/// Seconds of the fastest of several runs.
fn fastest(mut run: impl FnMut()) -> f64 {
    run();
    let time = |_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    };
    (0..15).map(time).fold(f64::INFINITY, f64::min)
}

/// Gigabytes per second at which all threads read `buffer`.
fn read_limit(buffer: &[u64]) -> f64 {
    let part = buffer.len().div_ceil(rayon::current_num_threads());
    let sum = |part: &[u64]| part.iter().fold(0u64, |sum, &x| sum.wrapping_add(x));
    let seconds = fastest(|| {
        black_box(buffer.par_chunks(part).map(sum).reduce(|| 0, u64::wrapping_add));
    });
    (buffer.len() * 8) as f64 / seconds / 1e9
}

fn report(name: &str, w: &Weights, bytes: usize) -> Result<(), KernelError> {
    let (x, mut out) = (vec![0.5f32; w.cols], vec![0.0f32; w.rows]);
    let mut scratch = Vec::new();
    let x_layout = ColumnLayout { stride_k: 1, stride_s: 1 };
    let out_layout = OutputLayout { stride_n: 1, stride_s: 1 };
    let mut run = || project(w, &x, x_layout, 1, None, &mut out, out_layout, &mut scratch);
    run()?;
    let seconds = fastest(|| {
        let _ = black_box(run());
    });
    let weights = (w.rows * w.cols) as f64;
    let (speed, bandwidth) = (weights / seconds / 1e9, bytes as f64 / seconds / 1e9);
    println!("{name:>5} {:>6}x{}  {speed:6.2} G weights/s  {bandwidth:6.2} GB/s", w.rows, w.cols);
    Ok(())
}

fn main() -> Result<(), KernelError> {
    let buffer: Vec<u64> = (0..1u64 << 26).collect();
    let bytes: &[u8] = bytemuck::cast_slice(&buffer);
    println!(
        "{} on {} threads",
        coreml_kernels::Isa::detect().name(),
        rayon::current_num_threads()
    );
    println!("reading 512 MB: {:.2} GB/s", read_limit(&buffer));
    for (rows, cols) in [(1024, 3072), (131_072, 1024)] {
        let count = rows * cols;
        let values = vec![f16::ONE; count];
        report("f16", &Weights { rows, cols, encoding: Encoding::F16(&values) }, count * 2)?;
        for bits in [4u8, 6, 8] {
            let lut = vec![f16::ONE; (rows / 8) << bits];
            let indices = &bytes[..count * usize::from(bits) / 8];
            let lut = Table::F16(&lut);
            let p = Palettized { bits, indices, lut, rows_per_group: 8, cols_per_group: cols };
            let w = Weights { rows, cols, encoding: Encoding::Palettized(p) };
            report(&format!("lut{bits}"), &w, indices.len())?;
        }
        for (bits, cols_per_block) in [(4u8, 32), (8, cols)] {
            let scale = vec![f16::ONE; count / cols_per_block];
            let data = &bytes[..count * usize::from(bits) / 8];
            let scale = Table::F16(&scale);
            let (signed, offset, rows_per_block) = (true, None, 1);
            let b = Blockwise { bits, signed, data, scale, offset, rows_per_block, cols_per_block };
            let w = Weights { rows, cols, encoding: Encoding::Blockwise(b) };
            report(&format!("int{bits}"), &w, data.len())?;
        }
    }
    Ok(())
}
