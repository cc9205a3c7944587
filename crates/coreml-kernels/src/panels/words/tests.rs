use half::f16;

use super::*;
use crate::context::Workers;
use crate::matrix::MatrixMut;
use crate::project::{ColumnLayout, OutputLayout, project};
use crate::weights::{Blockwise, Palettized, Table, Weights};

/// Numbers that are normally distributed.
fn gauss(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut uniform = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f64 + 0.5) / f64::from(1 << 24)
    };
    let radius = |u: f64| (-2.0 * u.ln()).sqrt();
    let mut normal = || radius(uniform()) * (std::f64::consts::TAU * uniform()).cos();
    (0..count).map(|_| normal() as f32).collect()
}

/// The same, of which about one in a hundred is ten times as large.
fn outliers(count: usize, seed: u64) -> Vec<f32> {
    let large = |i: usize| (i as u32).wrapping_mul(2_654_435_761) >> 8 < (1 << 24) / 100;
    let each = gauss(count, seed).into_iter().enumerate();
    each.map(|(i, x)| if large(i) { 10.0 * x } else { x }).collect()
}

fn halves(values: &[f32]) -> Vec<f16> {
    values.iter().map(|&value| f16::from_f32(value)).collect()
}

/// Contexts with integers, of one thread and of several.
fn contexts() -> Vec<Context> {
    let isas = Isa::available().into_iter().filter(|&isa| arch::has_words(isa));
    let workers = [Workers::serial(), Workers::new(3).unwrap()];
    let each = isas.flat_map(|isa| workers.clone().map(|workers| (isa, workers)));
    each.map(|(isa, workers)| Context::with_isa(workers, isa)).collect()
}

/// Products of columns that lie as in a linear layer, or as in a convolution; as the latter.
fn products(
    ctx: &Context,
    numerics: Numerics,
    w: &Weights,
    x: &[f32],
    bias: Option<&[f32]>,
    linear: bool,
) -> Vec<f32> {
    let (rows, depth, columns) = (w.rows, w.cols, x.len() / w.cols);
    let mut out = vec![f32::NAN; rows * columns];
    if !linear {
        let of_x = ColumnLayout { stride_k: columns, stride_s: 1 };
        let of_out = OutputLayout { stride_n: columns, stride_s: 1 };
        project(ctx, numerics, w, x, of_x, columns, bias, &mut out, of_out).unwrap();
        return out;
    }
    let turned: Vec<f32> = (0..x.len()).map(|i| x[i % depth * columns + i / depth]).collect();
    let of_x = ColumnLayout { stride_k: 1, stride_s: depth };
    let of_out = OutputLayout { stride_n: 1, stride_s: rows };
    project(ctx, numerics, w, &turned, of_x, columns, bias, &mut out, of_out).unwrap();
    (0..out.len()).map(|i| out[i % columns * rows + i / columns]).collect()
}

/// The exact product, and how far off one of integers may be, of weights that have tables with such largest values,
/// or else none.
fn exact(w: &[f32], tables: &[f64], x: impl Fn(usize) -> f32) -> (f64, f64) {
    let (mut sum, mut bound, depth) = (0.0, 0.0, w.len());
    for (block, w) in w.chunks(BLOCK).enumerate() {
        let x: Vec<f64> = (0..w.len()).map(|k| f64::from(x(block * BLOCK + k))).collect();
        let w: Vec<f64> = w.iter().map(|&w| f64::from(w)).collect();
        let total = |values: &[f64]| values.iter().map(|value| value.abs()).sum::<f64>();
        let most = |values: &[f64]| values.iter().fold(0.0f64, |most, value| most.max(value.abs()));
        let table = tables.get(block * BLOCK * tables.len() / depth);
        let of_w = table.copied().unwrap_or_else(|| most(&w)) / f64::from(LARGEST_WEIGHT);
        let of_x = most(&x) / f64::from(LARGEST_INPUT);
        let of_x = of_x.max(total(&x) / f64::from(LARGEST_SUM));
        sum += w.iter().zip(&x).map(|(w, x)| w * x).sum::<f64>();
        let steps = of_w / 2.0 * total(&x) + of_x / 2.0 * total(&w) + of_w * of_x * 16.0;
        // Scaling, and adding blocks up, in single precision.
        bound += 1.001 * steps + 2e-6 * w.iter().zip(&x).map(|(w, x)| (w * x).abs()).sum::<f64>();
    }
    (sum, bound + 1e-6)
}

/// The largest values of the tables that a row has, if blocks have one each.
fn tables(w: &Weights, row: usize) -> Vec<f64> {
    let Encoding::Palettized(p) = &w.encoding else { return Vec::new() };
    if p.cols_per_group < BLOCK {
        return Vec::new();
    }
    let mut values = vec![0.0; p.lut.len()];
    p.lut.copy_to(Isa::Generic, 0, &mut values);
    let tables = w.cols / p.cols_per_group;
    let each = values.chunks(1 << p.bits).skip(row / p.rows_per_group * tables).take(tables);
    let largest = |table: &[f32]| table.iter().fold(0.0f64, |most, t| most.max(f64::from(t.abs())));
    each.map(largest).collect()
}

/// Checks every product, in every layout and on any threads, against the bound.
fn check(w: &Weights, x: &[f32]) {
    let (depth, columns) = (w.cols, x.len() / w.cols);
    let plain = Context::with_isa(Workers::shared(), Isa::Generic);
    let mut values = vec![0.0; w.rows * depth];
    w.dequantize_rows(&plain, 0..w.rows, &mut values).unwrap();
    let bias = gauss(w.rows, 9);
    let mut before: Option<Vec<f32>> = None;
    for (ctx, linear) in contexts().iter().flat_map(|ctx| [(ctx, false), (ctx, true)]) {
        let out = products(ctx, Numerics::Halves, w, x, Some(&bias), linear);
        let strict = products(ctx, Numerics::Strict, w, x, Some(&bias), linear);
        assert!(out != strict, "integers");
        for (i, &got) in out.iter().enumerate() {
            let (n, s) = (i / columns, i % columns);
            let row = &values[n * depth..][..depth];
            let (sum, bound) = exact(row, &tables(w, n), |k| x[k * columns + s]);
            let expected = sum + f64::from(bias[n]);
            let off = (f64::from(got) - expected).abs();
            assert!(off <= bound, "{n}, {s}: {got}, expected {expected} up to {bound}");
        }
        assert!(*before.get_or_insert(out.clone()) == out, "{ctx:?} {linear}");
    }
}

#[test]
fn halves_of_every_width() {
    let (rows, depth) = (259, 240);
    let values = halves(&gauss(rows * depth, 1));
    let w = Weights { rows, cols: depth, encoding: Encoding::F16(&values) };
    for columns in [32, 33, 50, 64, 75, 130] {
        check(&w, &outliers(depth * columns, columns as u64));
    }
}

#[test]
fn compressed_weights() {
    let (rows, cols, columns) = (264, 384, 40);
    let x = outliers(cols * columns, 5);
    let data: Vec<u8> = gauss(rows * cols, 2).iter().map(|x| (x * 40.0) as i32 as u8).collect();
    let lut = halves(&gauss(rows / 8 * 256, 3));
    for bits in [1u8, 2, 3, 4, 6, 8] {
        let indices = &data[..rows * cols * usize::from(bits) / 8];
        for (rows_per_group, cols_per_group) in [(8, cols), (24, 128), (264, 32)] {
            let tables = rows / rows_per_group * (cols / cols_per_group);
            let lut = Table::F16(&lut[..tables << bits]);
            let p = Palettized { bits, indices, lut, rows_per_group, cols_per_group };
            check(&Weights { rows, cols, encoding: Encoding::Palettized(p) }, &x);
        }
    }
    let scale = halves(&gauss(rows * cols / 32, 4));
    for (bits, rounded) in [(4u8, true), (8, false)] {
        let b = Blockwise {
            bits,
            signed: true,
            data: &data[..rows * cols * usize::from(bits) / 8],
            scale: Table::F16(&scale),
            offset: None,
            rows_per_block: 1,
            cols_per_block: 32,
            rounded,
        };
        check(&Weights { rows, cols, encoding: Encoding::Blockwise(b) }, &x);
    }
}

/// Rows that do not start on a byte.
#[test]
fn indices_between_bytes() {
    let (rows, cols) = (256, 250);
    let indices: Vec<u8> = gauss(rows * cols * 3 / 8, 2).iter().map(|x| (x * 90.0) as u8).collect();
    let lut = halves(&gauss(rows / 8 * 8, 3));
    let lut = Table::F16(&lut);
    let p = Palettized { bits: 3, indices: &indices, lut, rows_per_group: 8, cols_per_group: cols };
    check(&Weights { rows, cols, encoding: Encoding::Palettized(p) }, &outliers(cols * 40, 5));
}

/// All values alike make the largest sums there are; huge and tiny ones the largest and smallest scales.
#[test]
fn sums_do_not_overflow() {
    let (rows, depth, columns) = (256, 128, 32);
    for (weight, input) in [(1.0, -1.0), (-65504.0, 1e17), (6e-8, 1e-17), (0.3, 0.7), (-1.0, 1e-30)]
    {
        let values = vec![f16::from_f32(weight); rows * depth];
        let w = Weights { rows, cols: depth, encoding: Encoding::F16(&values) };
        let x = vec![input; depth * columns];
        for ctx in contexts() {
            let expected = f64::from(values[0].to_f32()) * f64::from(input) * depth as f64;
            for got in products(&ctx, Numerics::Halves, &w, &x, None, false) {
                let off = (f64::from(got) - expected).abs();
                assert!(off <= 3e-4 * expected.abs() + 1e-18, "{got}, expected {expected}");
            }
        }
    }
}

/// Errors are smaller than those of columns in half precision.
#[test]
fn more_exact_than_halves() {
    let (rows, cols) = (256, 1024);
    let values = halves(&gauss(rows * cols, 1).iter().map(|w| 0.02 * w).collect::<Vec<_>>());
    more_exact(&Weights { rows, cols, encoding: Encoding::F16(&values) });
    let noise = |i: usize| ((i as u32).wrapping_mul(2_654_435_761) >> 9) as u8;
    let indices: Vec<u8> = (0..rows * cols).map(noise).collect();
    let lut = Table::F16(&values[..rows / 8 * 256]);
    let p = Palettized { bits: 8, indices: &indices, lut, rows_per_group: 8, cols_per_group: cols };
    more_exact(&Weights { rows, cols, encoding: Encoding::Palettized(p) });
}

fn more_exact(w: &Weights) {
    let (rows, depth, columns) = (w.rows, w.cols, 64);
    let plain = Context::with_isa(Workers::serial(), Isa::Generic);
    let mut values = vec![0.0; rows * depth];
    w.dequantize_rows(&plain, 0..rows, &mut values).unwrap();
    for x in [gauss(depth * columns, 2), outliers(depth * columns, 2)] {
        let rounded = x.iter().map(|&x| f16::from_f32(x).to_f64()).collect::<Vec<_>>();
        let term =
            |n: usize, s: usize, k: usize| (f64::from(values[n * depth + k]), k * columns + s);
        for ctx in contexts() {
            let out = products(&ctx, Numerics::Halves, w, &x, None, false);
            let (mut size, mut of_words, mut of_halves) = (0.0, 0.0, 0.0);
            for (i, &got) in out.iter().enumerate() {
                let terms = || (0..depth).map(|k| term(i / columns, i % columns, k));
                let sum: f64 = terms().map(|(w, at)| w * f64::from(x[at])).sum();
                let half: f64 = terms().map(|(w, at)| w * rounded[at]).sum();
                size += sum * sum;
                of_words += (f64::from(got) - sum).powi(2);
                of_halves += (half - sum).powi(2);
            }
            let [words, halves] = [of_words, of_halves].map(|sum: f64| (sum / size).sqrt());
            assert!(words < 1.2e-4 && words < 0.6 * halves, "{words:.2e}, halves {halves:.2e}");
        }
    }
}

/// Values that are not finite give what single precision gives.
#[test]
fn not_finite() {
    let (rows, depth, columns) = (260, 128, 40);
    let values = halves(&gauss(rows * depth, 1));
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30] {
        for ctx in contexts() {
            let bits = |numerics, values: &[f16], x: &[f32]| {
                let w = Weights { rows, cols: depth, encoding: Encoding::F16(values) };
                let out = products(&ctx, numerics, &w, x, None, false);
                out.into_iter()
                    .map(|x| if x.is_nan() { 0 } else { x.to_bits() })
                    .collect::<Vec<_>>()
            };
            let mut x = gauss(depth * columns, 2);
            x[1234] = bad;
            assert_eq!(bits(Numerics::Halves, &values, &x), bits(Numerics::Strict, &values, &x));
            x[1234] = 1.0;
            let mut values = values.clone();
            values[77 * depth + 5] = f16::from_f32(bad);
            let (words, exact) =
                (bits(Numerics::Halves, &values, &x), bits(Numerics::Strict, &values, &x));
            assert_eq!(words[77 * columns..78 * columns], exact[77 * columns..78 * columns]);
        }
    }
}

/// Sums of integers, scaled in the same way: the same bits.
#[test]
fn tiles_match_the_definition() {
    let (count, blocks) = (11, 3);
    let noise = |i: usize| (i as u32).wrapping_mul(2_654_435_761) >> 7;
    for (ctx, cols) in contexts().iter().flat_map(|ctx| [5, 16, 29, 48, 64].map(|cols| (ctx, cols)))
    {
        let width = usize::next_multiple_of(cols, 16);
        let mut rows = RowWords {
            pairs: ctx.scratch().take(count * blocks * PAIRS).unwrap(),
            scales: ctx.scratch().take(count * blocks).unwrap(),
            blocks,
        };
        let words: &mut [i16] = bytemuck::cast_slice_mut(&mut rows.pairs);
        words.iter_mut().enumerate().for_each(|(i, w)| *w = (noise(i) % 16383) as i16 - 8191);
        rows.scales.iter_mut().enumerate().for_each(|(i, scale)| *scale = 1e-4 + i as f32 * 1e-6);
        let x: Vec<i16> =
            (0..2 * blocks * PAIRS * width).map(|i| (noise(i + 5) % 8001) as i16 - 4000).collect();
        let scales: Vec<f32> = (0..blocks * width).map(|i| 1e-5 + i as f32 * 1e-8).collect();
        let panel = WordPanel { pairs: bytemuck::cast_slice(&x), scales: &scales, width };
        let mut out = vec![0.5; count * cols];
        let c = MatrixMut::row_major(&mut out, count, cols);
        arch::add_words(ctx.isa(), &rows, &panel, &mut Block::new("test", c).unwrap());
        let words: &[i16] = bytemuck::cast_slice(&rows.pairs);
        for (at, &got) in out.iter().enumerate() {
            let (n, s) = (at / cols, at % cols);
            let mut expected = 0.5;
            for block in 0..blocks {
                let product = |k: usize| {
                    let w = words[(n * blocks + block) * BLOCK + k];
                    let pair = (block * PAIRS + k / 2) * width + s;
                    i32::from(w) * i32::from(x[2 * pair + k % 2])
                };
                let sum = (0..BLOCK).map(product).sum::<i32>() as f32;
                let scaled = sum * rows.scales[n * blocks + block];
                expected = scaled.mul_add(scales[block * width + s], expected);
            }
            assert_eq!(got.to_bits(), expected.to_bits(), "{n}, {s}");
        }
    }
}
